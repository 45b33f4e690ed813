//! Ending all of a user's sessions, or all but the present one (docs/design/contract.md#routes).

use jiff::Timestamp;

use super::{Service, UserPath, authenticate::admits, code::TRIES};
use crate::{
    domain::{Failure, UserId},
    port::{CodeIs, Committed, Ending, GuardedChange, SessionsOf},
    telemetry,
};

/// An end of sessions.
#[derive(Debug)]
pub struct Command {
    /// Whose sessions, and who asks.
    pub at: UserPath,
    /// Which of them.
    pub ending: Ending,
}

/// Ended sessions.
#[derive(Debug)]
pub struct Outcome {
    /// Whose.
    pub user: UserId,
    /// How many were live.
    pub ended: u64,
    /// Since when.
    pub ended_at: Timestamp,
}

impl Service {
    /// One read, one query and one transaction, however many they are: the user's epoch moves on, and
    /// with it every session ends that was created before, also one whose login is under way
    /// (docs/design/storage.md#epochs). They are counted before that: what fails then has ended nothing.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `UserNotFound`, `TenantSuspended`,
    /// `IpNotAllowed`, `Unavailable`.
    pub async fn end_sessions(&self, command: Command, now: Timestamp) -> Result<Outcome, Failure> {
        let Command { at: UserPath { tenant, bearer, collection, owner, user, ip }, ending } = command;
        let (context, bearer) = self.verify_bearer(&tenant, &bearer, &ip, now).await?;
        telemetry::user(&user);
        admits(collection, &bearer)?;
        for _ in 0..TRIES {
            let caller = self.authenticate(&context, &bearer, Some(&user), CodeIs::Unwanted, now).await?;
            let target = caller.owner_of_sessions(&user, collection, &owner)?;
            let of = SessionsOf::user(target, context.tenant.session_epoch, now);
            let except = (ending == Ending::AllButCurrent).then_some(&caller.session.id);
            let ended = self.store.count_sessions(&of, except).await?;
            let change = GuardedChange { caller_session: &caller.session, caller: &caller.user, target, now };
            if self.store.end_sessions(&change, ending).await? == Committed::Done {
                return Ok(Outcome { user, ended, ended_at: now });
            }
            // Read again: who asks, and whether it still may, shows at the head of the loop.
        }
        Err(Failure::Unavailable("the user kept changing".into()))
    }
}
