//! Creation of sessions, with or without a session limit.
//!
//! The user item counts the sessions that were created under a limit (`sessions_revision`). A login under a limit has
//! three steps:
//! 1. It reads the count.
//! 2. It queries the live sessions consistently.
//! 3. It writes its session on the condition that the count has not changed, and increments the count.
//!
//! The order matters. The query finds every session that was created before the count was read. Every session created
//! later changes the count, so that step 3 fails and the login starts again. In the opposite order, a session
//! created between the two reads would be missed.
//!
//! DynamoDB cancels step 3 if another write of the same items is in progress. The login then starts again, as
//! after a changed count. It does not repeat only step 3, because the other write can change the count.
//!
//! Under the limit `single`, no query is needed. The write of the new session increments the user's session epoch, which
//! ends all other sessions, and the new session has the new epoch.
//!
//! The end of a session does not change the count, because it only frees capacity. A refresh creates no session. The
//! query reads the session items themselves. A new limit therefore also counts sessions that existed before it.

use aws_sdk_dynamodb::operation::put_item::PutItemError;

use super::{
    DynamoStore,
    idempotency::NewStoredResult,
    item::number,
    keys::Key,
    session::{end, has_nonce, session_item},
    table::{Expressions, conditional, unavailable},
    transaction::{Committed, Guard, Guarded},
};
use crate::domain::{Failure, Session, SessionId};

/// Claim for one more session of a user under a session limit.
#[derive(Debug, Clone)]
pub enum LimitClaim {
    /// The user may have several sessions.
    Counted {
        /// Value of the user's `sessions_revision` that was read in step 1.
        revision: u64,
        /// Sessions to end so that the limit is kept.
        evicted: Vec<SessionId>,
    },
    /// The new session ends all others. Its epoch is the user's next one.
    Only,
}

/// Session to create.
#[derive(Debug, Clone, Copy)]
pub struct NewSession<'a> {
    /// The session.
    pub session: &'a Session,
    /// Claim under the tenant's session limit. `None` if the tenant has no limit.
    pub claim: Option<&'a LimitClaim>,
    /// Result to store for the request's idempotency key.
    pub result: Option<&'a NewStoredResult>,
}

impl<'a> NewSession<'a> {
    /// Creates a session without a session limit and without an idempotency key.
    pub fn alone(session: &'a Session) -> Self {
        Self { session, claim: None, result: None }
    }
}

impl DynamoStore {
    /// Creates a session. With a claim or an idempotency key, all writes are one transaction. If a condition
    /// fails, returns [`Committed::Refused`] with [`Guard::Sessions`] or [`Guard::IdempotencyKey`].
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn insert_session(&self, new: &NewSession<'_>) -> Result<Committed, Failure> {
        let NewSession { session, claim, result } = *new;
        if claim.is_none() && result.is_none() {
            return self.put_session(session).await.map(|()| Committed::Done);
        }
        let mut writes = Vec::new();
        if let Some(result) = result {
            writes.push((Guard::IdempotencyKey, self.put_result(result)?));
        }
        writes.push((Guard::None, self.put_write(session_item(session)?, Expressions::absent())?));
        if let Some(claim) = claim {
            writes.extend(self.claim_session_limit(session, claim)?);
        }
        self.commit(writes).await
    }

    async fn put_session(&self, session: &Session) -> Result<(), Failure> {
        let put = self.client.put_item().table_name(&self.table).set_item(Some(session_item(session)?));
        // The SDK repeats a write that timed out. The repeated write can create the session, and a logout can end it,
        // before the first write arrives. The condition then rejects the first write. Without it, the first write would
        // replace the ended session with a live one.
        let absent = Expressions::absent().return_refused();
        let output = conditional!(put, absent).send().await;
        let Err(error) = output else {
            return Ok(());
        };
        match error.as_service_error() {
            // The SDK repeated a write whose response was lost. The first write created this session.
            Some(PutItemError::ConditionalCheckFailedException(refused))
                if refused.item.as_ref().is_some_and(|item| has_nonce(item, session)) =>
            {
                Ok(())
            }
            _ => Err(unavailable(&error)),
        }
    }

    /// Returns writes that claim one session: they increment the user's count and end the evicted sessions, or increment
    /// the user's epoch. They fail if the epoch has changed since the user was last read. Without this
    /// condition, a login with the old password could still end other sessions after a password change.
    fn claim_session_limit(&self, session: &Session, claim: &LimitClaim) -> Result<Vec<Guarded>, Failure> {
        let Session { tenant, user, user_epoch, created_at: now, .. } = session;
        let key = Key::user(tenant, user);
        let unchanged = |update, epoch| {
            Expressions::update(update).when("session_epoch = :epoch").value(":epoch", number(epoch))
        };
        let (revision, evicted) = match claim {
            LimitClaim::Only => {
                let next = unchanged("SET session_epoch = :next", user_epoch.saturating_sub(1));
                let next = next.value(":next", number(*user_epoch));
                return Ok(vec![(Guard::Sessions, self.update_write(&key, next)?)]);
            }
            LimitClaim::Counted { revision, evicted } => (*revision, evicted),
        };
        let count = unchanged("SET sessions_revision = :next", *user_epoch)
            .when_unchanged("sessions_revision", revision)
            .value(":next", number(revision + 1));
        let mut writes = vec![(Guard::Sessions, self.update_write(&key, count)?)];
        for evicted in evicted {
            let end = end(*now, false).when("attribute_exists(pk)");
            writes.push((Guard::Sessions, self.update_write(&Key::session(tenant, user, evicted), end)?));
        }
        Ok(writes)
    }
}
