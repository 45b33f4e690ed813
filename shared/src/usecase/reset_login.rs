//! Resetting somebody's login (contract, "Login reset").

use jiff::Timestamp;

use super::{
    Service,
    code::{Sending, TRIES},
};
use crate::{
    domain::{ClientAddress, Failure, TenantId, UserId},
    port::{CodeIs, Committed, GuardedChange},
    telemetry,
    token::Unverified,
};

/// A login reset.
#[derive(Debug)]
pub struct Command {
    /// Tenant.
    pub tenant: TenantId,
    /// An administrator's token.
    pub bearer: Unverified,
    /// Whose login; the caller's own when absent.
    pub user: Option<UserId>,
    /// Why, in the administrator's words.
    pub reason: Option<String>,
    /// The client's address.
    pub ip: ClientAddress,
}

impl Service {
    /// One read, one transaction: the user's sessions end, its lockout clears, its password no longer
    /// logs in and one code is issued and queued, all or nothing. It is not held to the budget of
    /// codes an hour: whoever spends that for somebody else must not keep an administrator from
    /// closing a login.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `UserNotFound`, `TenantSuspended`,
    /// `IpNotAllowed`, `Unavailable`.
    pub async fn reset_login(&self, command: Command, now: Timestamp) -> Result<(), Failure> {
        let Command { tenant, bearer, user, reason, ip } = command;
        let (context, bearer) = self.verify_bearer(&tenant, &bearer, &ip, now).await?;
        let target = user.as_ref().unwrap_or(&bearer.user);
        telemetry::user(target);
        telemetry::reason(reason.as_deref());
        for _ in 0..TRIES {
            let caller = self.authenticate(&context, &bearer, Some(target), CodeIs::Wanted, now).await?;
            if !caller.is_administrator() || caller.user.change_required {
                return Err(Failure::Forbidden);
            }
            let target = caller.target(target)?;
            let change = GuardedChange { caller_session: &caller.session, caller: &caller.user, target, now };
            let user = (&target.id, Some(target));
            let (code, _) = self.new_code(&context, user, caller.code.as_ref(), Some(&Sending::MAIL), now)?;
            match self.store.reset_login(&change, &code).await? {
                Committed::Done => return Ok(()),
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
