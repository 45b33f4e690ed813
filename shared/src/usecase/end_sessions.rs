//! Ending all of a user's sessions, or all but the present one (contract, first table).

use jiff::Timestamp;

use super::{Service, authenticate::admits, code::TRIES};
use crate::{
    domain::{ClientAddress, Collection, Failure, TenantId, UserId},
    port::{CodeIs, Committed, Ending, GuardedChange, SessionsOf},
    telemetry,
    token::Unverified,
};

/// An end of sessions.
#[derive(Debug)]
pub struct Command {
    /// Tenant.
    pub tenant: TenantId,
    /// The user's own token, or an administrator's.
    pub bearer: Unverified,
    /// The path's collection.
    pub collection: Collection,
    /// The organization or customer in the path.
    pub owner: String,
    /// The user in the path.
    pub user: UserId,
    /// Which of them.
    pub ending: Ending,
    /// The client's address.
    pub ip: ClientAddress,
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
    /// with it every session ends that was created before, also one whose login is under way (storage,
    /// "Epoch, not time"). They are counted before that: what fails then has ended nothing.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `UserNotFound`, `TenantSuspended`,
    /// `IpNotAllowed`, `Unavailable`.
    pub async fn end_sessions(&self, command: Command, now: Timestamp) -> Result<Outcome, Failure> {
        let Command { tenant, bearer, collection, owner, user, ending, ip } = command;
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
            match self.store.end_sessions(&change, ending).await? {
                Committed::Done => return Ok(Outcome { user, ended, ended_at: now }),
                // Read again: who asks, and whether it still may, shows at the head of the loop.
                Committed::CallerGone
                | Committed::TargetChanged
                | Committed::UsernameTaken
                | Committed::CodeChanged
                | Committed::SessionsChanged
                | Committed::Repeated => {}
            }
        }
        Err(Failure::Unavailable("the user kept changing".into()))
    }
}
