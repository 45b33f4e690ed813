//! Keeping a new session within the tenant's limit.
//!
//! What is live is read beside the hash, once the user is known and whether its password is right or
//! not (docs/design/security.md#rule-9). A login that finds others in its way then reads again.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::future::try_join_all;
use jiff::Timestamp;

use super::Service;
use crate::{
    domain::{Failure, Limit, LiveSession, Session, SessionId, SessionLimit, User, UserId},
    port::{EndSession, Inserted, NewOnce, NewSession, Room, SessionsOf},
    secrets::TenantContext,
};

/// How long a login waits in all while others of its user are kept: well within a function's own time.
const WAITS_FOR: Duration = Duration::from_secs(4);
/// Sessions that end with the new one's writing: a transaction takes 100 actions. Where a limit was
/// lowered, those over that number end before it.
const ENDED_AT_ONCE: usize = 50;
/// Writes under way at a time before it.
const ENDED_SIDE_BY_SIDE: usize = 10;

/// A user's sessions, as one reading found them.
pub(super) struct Held {
    limit: SessionLimit,
    revision: u64,
    live: Vec<LiveSession>,
}

/// What became of a session to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is kept.
    Done,
    /// The request's key remembers a success already.
    Repeated,
}

impl Held {
    /// What makes room for one more.
    ///
    /// # Errors
    /// `SessionLimit` when nothing may.
    pub(super) fn room(self) -> Result<Room, Failure> {
        let evicted = self.limit.evicts(self.live).ok_or(Failure::SessionLimit)?;
        Ok(Room { revision: self.revision, evicted })
    }
}

impl Service {
    /// The sessions that `user` has, where its tenant limits them; nothing is asked where it does not.
    /// A user that does not exist costs the same query.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(super) async fn held_sessions(
        &self,
        context: &TenantContext,
        id: &UserId,
        user: Option<&User>,
        now: Timestamp,
    ) -> Result<Option<Held>, Failure> {
        let Some(limit) = context.tenant.policy.session_limit else {
            return Ok(None);
        };
        let of = SessionsOf {
            tenant: &context.tenant.id,
            user: id,
            user_epoch: user.map_or(0, |user| user.session_epoch),
            tenant_epoch: context.tenant.session_epoch,
            now,
        };
        let live = self.store.live_sessions(&of).await?;
        let revision = user.map_or(0, |user| user.sessions_revision);
        Ok(Some(Held { limit, revision, live }))
    }

    /// Keeps a new session of a user with what remembers its request, and ends those that make room
    /// for it.
    ///
    /// # Errors
    /// `SessionLimit`, where others took the room first; `RateLimited` when they kept coming;
    /// `Unavailable`, also when all of the user's sessions ended meanwhile: this one would be dead.
    pub(super) async fn keep_session(
        &self,
        context: &TenantContext,
        session: &Session,
        mut room: Option<Room>,
        once: Option<&NewOnce>,
        now: Timestamp,
    ) -> Result<Kept, Failure> {
        let mut waits = waits().build();
        loop {
            if let Some(room) = &mut room {
                self.end_surplus(session, room, now).await?;
            }
            let new = NewSession { session, room: room.as_ref(), once };
            match self.store.insert_session(&new).await? {
                Inserted::Done => return Ok(Kept::Done),
                Inserted::Repeated => return Ok(Kept::Repeated),
                Inserted::Raced => {}
            }
            let kept_coming = Failure::RateLimited(Limit::Sessions, Duration::from_secs(1));
            let wait = waits.next().ok_or(kept_coming)?;
            tokio::time::sleep(wait).await;
            room = self.room_again(context, session, now).await?;
        }
    }

    /// Room among the user's sessions as they are by now.
    async fn room_again(
        &self,
        context: &TenantContext,
        session: &Session,
        now: Timestamp,
    ) -> Result<Option<Room>, Failure> {
        let user = self.store.user(&session.tenant, &session.user).await?;
        let user = user.filter(|user| user.session_epoch == session.user_epoch);
        let user = user.ok_or_else(|| Failure::Unavailable("the user's sessions ended meanwhile".into()))?;
        self.held_sessions(context, &user.id, Some(&user), now).await?.map(Held::room).transpose()
    }

    /// Ends what a transaction has no place for, the oldest first. Whichever login comes first, they
    /// are over the limit: each write can be repeated, and none needs the others.
    async fn end_surplus(&self, session: &Session, room: &mut Room, now: Timestamp) -> Result<(), Failure> {
        let surplus = room.evicted.len().saturating_sub(ENDED_AT_ONCE);
        let surplus: Vec<SessionId> = room.evicted.drain(..surplus).collect();
        for some in surplus.chunks(ENDED_SIDE_BY_SIDE) {
            let ends: Vec<_> = some
                .iter()
                .map(|evicted| EndSession {
                    tenant: &session.tenant,
                    user: &session.user,
                    session: evicted,
                    path: None,
                    reuse: false,
                    now,
                })
                .collect();
            try_join_all(ends.iter().map(|end| self.store.end_session(end))).await?;
        }
        Ok(())
    }
}

/// A transaction takes some 10 ms, and one of those at once gets through.
fn waits() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(10))
        .with_max_delay(Duration::from_millis(250))
        .without_max_times()
        .with_total_delay(Some(WAITS_FOR))
        .with_jitter()
}
