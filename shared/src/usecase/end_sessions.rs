//! Ending all of a user's sessions, or all but the caller's (docs/design/contract.md#routes).

use jiff::Timestamp;

use super::{
    Service, UserPath,
    support::{authenticate::admits, code::TRIES},
};
use crate::{
    context::RequestContext,
    domain::{Failure, UserId},
    store::{Ending, ExtraItem, GuardedChange, SessionsOf},
};

/// A request to end sessions.
#[derive(Debug)]
pub struct Command {
    /// Path of the user's sessions, with the caller's bearer.
    pub at: UserPath,
    /// Which sessions end.
    pub ending: Ending,
}

/// Ended sessions.
#[derive(Debug)]
pub struct Outcome {
    /// User whose sessions ended.
    pub user: UserId,
    /// Number of live sessions that ended, if they could be counted.
    pub ended: Option<u64>,
    /// When they ended.
    pub ended_at: Timestamp,
}

impl Service {
    /// Ends the sessions with one read, one query and one transaction.
    ///
    /// The transaction increments the user's session epoch. That ends every session created before, also one
    /// whose login is still in progress (docs/design/storage.md#epochs). The sessions are counted
    /// first. They also end if the count fails.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `UserNotFound`, `TenantSuspended`, `IpNotAllowed`,
    /// `Unavailable`.
    pub async fn end_sessions(&self, command: Command, context: &RequestContext) -> Result<Outcome, Failure> {
        let Command { at: UserPath { tenant, bearer, collection, owner, user, ip }, ending } = command;
        let (request, bearer) = self.verify_bearer(context, &tenant, &bearer, &ip).await?;
        context.record_user(&user);
        admits(collection, &bearer)?;
        let now = context.now;
        // Each round reads the caller again and checks whether it may still act.
        for _ in 0..TRIES {
            let caller = self.authenticate(&request, &bearer, Some(&user), ExtraItem::None).await?;
            let target = caller.owner_of_sessions(&user, collection, &owner)?;
            let of = SessionsOf::user(target, request.tenant.session_epoch, now);
            let except = (ending == Ending::AllButCurrent).then_some(&caller.session.id);
            let ended = self.store.count_sessions(&of, except).await;
            let change = GuardedChange { caller_session: &caller.session, caller: &caller.user, target, now };
            if self.store.end_sessions(&change, ending).await?.is_done()? {
                return Ok(Outcome { user, ended, ended_at: now });
            }
        }
        Err(Failure::Unavailable("the user kept changing".into()))
    }
}
