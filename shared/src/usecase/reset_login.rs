//! Resetting somebody's login (contract, "Login reset").

use std::net::IpAddr;

use jiff::Timestamp;

use super::Service;
use crate::{
    domain::{Collection, Failure, TenantId, UserId},
    port::{Committed, GuardedChange},
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
    pub ip: Option<IpAddr>,
}

/// How often a change is tried because caller or target changed at the same moment.
pub(super) const TRIES: usize = 3;

impl Service {
    /// One read, one transaction: the user's sessions end, its lockout clears and its password no
    /// longer logs in, all or nothing.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `UserNotFound`, `TenantSuspended`,
    /// `IpNotAllowed`, `Unavailable`.
    pub async fn reset_login(&self, command: Command, now: Timestamp) -> Result<(), Failure> {
        let Command { tenant, bearer, user, reason, ip } = command;
        let (context, bearer) = self.verify_bearer(&tenant, &bearer, ip, now).await?;
        let target = user.as_ref().unwrap_or(&bearer.user);
        telemetry::user(target);
        telemetry::reason(reason.as_deref());
        for _ in 0..TRIES {
            let caller = self.authenticate(&context, &bearer, Some(target), now).await?;
            let is_admin = bearer.collection == Collection::Admin && caller.user.is_administrator();
            if !is_admin || caller.user.change_required {
                return Err(Failure::Forbidden);
            }
            let target = match &caller.other {
                _ if *target == caller.user.id => &caller.user,
                Some(other) if caller.may_administer(other) => other,
                _ => return Err(Failure::UserNotFound),
            };
            let change = GuardedChange { caller_session: &caller.session, caller: &caller.user, target, now };
            match self.store.reset_login(&change).await? {
                Committed::Done => return Ok(()),
                // Read again: who asks, and whether it still may, shows at the head of the loop.
                Committed::CallerGone | Committed::TargetChanged | Committed::UsernameTaken => {}
            }
        }
        Err(Failure::Unavailable("the user kept changing".into()))
    }
}
