//! Storing a new session within the tenant's session limit.
//!
//! The user's live sessions are read during hashing, whether the password turns out right or not
//! (docs/design/security.md#rule-9). If other logins of the user commit in the meantime, the login reads again.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder, Retryable};
use futures_util::future::try_join_all;
use jiff::Timestamp;

use super::{idempotency::IdempotentRequest, tenant_request::TenantRequest};
use crate::{
    domain::{Failure, Limit, LiveSession, Session, SessionId, SessionLimit, User, UserId, WhenFull},
    store::{
        Committed, EndSession, ExtraItem, Guard, LimitClaim, NewSession, SessionsOf, Success, conflicted,
    },
    usecase::Service,
};

/// Maximum total wait while other logins of the user commit. It is well below the timeout of a function.
const MAX_WAIT: Duration = Duration::from_secs(4);
/// Maximum time to read a session whose write had no answer. Together with the write, it is well below the timeout of a
/// function.
const READ_BACK: Duration = Duration::from_secs(8);
/// Maximum number of sessions that end in the transaction of the new one; a transaction takes 100 actions. If
/// more sessions must end, for example after the limit was lowered, the rest end before the transaction.
const MAX_ENDED_IN_TRANSACTION: usize = 50;
/// Maximum number of parallel writes before the transaction.
const MAX_PARALLEL_ENDS: usize = 10;

/// A user's live sessions as read at one moment.
pub(in crate::usecase) enum HeldSessions {
    /// The sessions, with the limit that they must not exceed.
    Counted { limit: SessionLimit, revision: u64, live: Vec<LiveSession> },
    /// The sessions were not read, because a new session ends all of them.
    Replaced,
}

/// Result of storing a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::usecase) enum StoredSession {
    /// The session is stored.
    New,
    /// An identical request was faster: a result for the idempotency key is already stored.
    AlreadyStored,
}

impl HeldSessions {
    /// Whether the session was read as live.
    fn contains(&self, id: &SessionId) -> bool {
        match self {
            Self::Counted { live, .. } => live.iter().any(|session| session.id == *id),
            Self::Replaced => false,
        }
    }

    /// The sessions that must end so that one more fits.
    ///
    /// # Errors
    /// `SessionLimit` if the tenant's policy ends none.
    pub(in crate::usecase) fn claim(self) -> Result<LimitClaim, Failure> {
        match self {
            Self::Counted { limit, revision, live } => {
                let evicted = limit.evicts(live).ok_or(Failure::SessionLimit)?;
                Ok(LimitClaim::Counted { revision, evicted })
            }
            Self::Replaced => Ok(LimitClaim::Only),
        }
    }
}

impl Service {
    /// The live sessions of a user, if its tenant limits them. Without a limit, and under the limit `single`, nothing
    /// is read. A user that does not exist costs the same query.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(in crate::usecase) async fn held_sessions(
        &self,
        request: &TenantRequest<'_>,
        id: &UserId,
        user: Option<&User>,
    ) -> Result<Option<HeldSessions>, Failure> {
        let Some(limit) = request.policy().session_limit else {
            return Ok(None);
        };
        if limit.when_full == WhenFull::Single {
            return Ok(Some(HeldSessions::Replaced));
        }
        let of = SessionsOf {
            tenant: &request.tenant.id,
            user: id,
            user_epoch: user.map_or(0, |user| user.session_epoch),
            tenant_epoch: request.tenant.session_epoch,
            now: request.now(),
        };
        let live = self.store.live_sessions(&of).await?;
        let revision = user.map_or(0, |user| user.sessions_revision);
        Ok(Some(HeldSessions::Counted { limit, revision, live }))
    }

    /// Stores a new session of `user` with the record of its request, and ends the sessions that exceed the limit. Under
    /// the limit `single`, the session gets the user's next epoch.
    ///
    /// # Errors
    /// - `SessionLimit`: other logins used the limit up first.
    /// - `RateLimited`: other logins kept committing.
    /// - `Unavailable`, also if all of the user's sessions ended in the meantime: the new one would end too.
    pub(in crate::usecase) async fn store_session(
        &self,
        request: &TenantRequest<'_>,
        user: &User,
        session: &mut Session,
        mut claim: Option<LimitClaim>,
        idempotent: Option<&IdempotentRequest>,
    ) -> Result<StoredSession, Failure> {
        let (mut waits, mut user_epoch) = (waits().build(), user.session_epoch);
        loop {
            session.user_epoch = user_epoch + u64::from(matches!(claim, Some(LimitClaim::Only)));
            if let Some(LimitClaim::Counted { evicted, .. }) = &mut claim {
                self.end_excess(session, evicted, request.now()).await?;
            }
            let success = Success::Session { id: session.id.clone(), user_epoch: session.user_epoch };
            let result = idempotent.map(|it| it.record(success, request)).transpose()?;
            let new = NewSession { session, claim: claim.as_ref(), result: result.as_ref() };
            match self.insert_session(&new).await? {
                Committed::Done => return Ok(StoredSession::New),
                Committed::Refused(Guard::IdempotencyKey) => return Ok(StoredSession::AlreadyStored),
                Committed::Conflicted => return Err(conflicted()),
                Committed::Refused(_) => {}
            }
            let collisions = Failure::RateLimited(Limit::Sessions, Duration::from_secs(1));
            tokio::time::sleep(waits.next().ok_or(collisions)?).await;
            let again = self.reread_user(user).await?;
            user_epoch = again.session_epoch;
            let held = self.held_sessions(request, &again.id, Some(&again)).await?;
            // A write without an answer may have been committed, and its repetition conflicted with another one.
            if held.as_ref().is_some_and(|held| held.contains(&session.id)) {
                return Ok(StoredSession::New);
            }
            claim = held.map(HeldSessions::claim).transpose()?;
        }
    }

    /// Writes a session. If it is uncertain whether a transaction under a limit was committed, reads the session.
    /// Otherwise a session that no client knows would count against the limit.
    async fn insert_session(&self, new: &NewSession<'_>) -> Result<Committed, Failure> {
        match self.store.insert_session(new).await {
            Err(failure @ Failure::Unavailable(_)) if new.claim.is_some() => {
                let Session { tenant, user, id, nonce, .. } = new.session;
                let read = || self.store.caller(tenant, (user, id), None, ExtraItem::None);
                // The cause of the lost response may still last.
                let backoff = ExponentialBuilder::default()
                    .with_min_delay(Duration::from_millis(50))
                    .with_max_delay(Duration::from_millis(500))
                    .with_max_times(5)
                    .with_jitter();
                let is_temporary = |failure: &Failure| matches!(failure, Failure::Unavailable(_));
                let read = read.retry(backoff).when(is_temporary);
                let Ok(stored) = tokio::time::timeout(READ_BACK, read).await else { return Err(failure) };
                let stored = stored?.session;
                let is_committed = stored.is_some_and(|stored| stored.nonce == *nonce);
                if is_committed { Ok(Committed::Done) } else { Err(failure) }
            }
            committed => committed,
        }
    }

    /// Reads the user again. Only logins may have ended its sessions: they do not change its sequence, and every other
    /// change that ends sessions does.
    async fn reread_user(&self, user: &User) -> Result<User, Failure> {
        let again = self.store.user(&user.tenant, &user.id).await?;
        let is_same = |again: &User| (again.sequence, again.created_at) == (user.sequence, user.created_at);
        let ended = || Failure::Unavailable("the user's sessions ended during the login".into());
        again.filter(is_same).ok_or_else(ended)
    }

    /// Ends the sessions that do not fit into the transaction, the oldest first. Each of them exceeds the limit
    /// whichever login commits first, so each write is correct on its own and may be repeated.
    async fn end_excess(
        &self,
        session: &Session,
        evicted: &mut Vec<SessionId>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let excess = evicted.len().saturating_sub(MAX_ENDED_IN_TRANSACTION);
        let excess: Vec<SessionId> = evicted.drain(..excess).collect();
        for chunk in excess.chunks(MAX_PARALLEL_ENDS) {
            let ends: Vec<_> = chunk
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

/// Waits between tries. A transaction takes about 10 ms, and of several at once one commits.
fn waits() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(10))
        .with_max_delay(Duration::from_millis(250))
        .without_max_times()
        .with_total_delay(Some(MAX_WAIT))
        .with_jitter()
}
