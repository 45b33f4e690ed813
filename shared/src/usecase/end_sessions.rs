//! Ending all of a user's sessions, or all but the caller's (docs/design/contract.md#routes).

use jiff::Timestamp;

use super::{Service, UserPath, support::code::TRIES};
use crate::{
    context::RequestContext,
    domain::{ClientScope, Failure, UserId},
    store::{Ending, ExtraItem, SessionsOf},
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
        let (request, token) = self.verify_token(context, &tenant, &bearer, &ip).await?;
        context.record_user(&user);
        token.admit_to(collection)?;
        let now = context.now;
        // Each round reads the caller again and checks whether it may still act.
        for _ in 0..TRIES {
            let caller = self.authenticate(&request, &token, Some(&user), ExtraItem::None).await?;
            let scope = ClientScope::SessionsWrite;
            let target = caller.owner_of_sessions(scope, &user, (collection, &owner))?;
            let change = caller.change(target, now);
            let of = SessionsOf::user(target, request.tenant.session_epoch, now);
            let kept = change.own_session.filter(|_| ending == Ending::AllButCurrent);
            let ended = self.store.count_sessions(&of, kept.map(|session| &session.id)).await;
            if self.store.end_sessions(&change, ending).await?.is_done()? {
                return Ok(Outcome { user, ended, ended_at: now });
            }
        }
        Err(Failure::Unavailable("the user kept changing".into()))
    }
}
