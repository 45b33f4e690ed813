//! Resetting somebody's login (docs/design/contract.md#login-reset).

use jiff::Timestamp;

use super::{
    Service,
    code::{Sending, TRIES},
    once::Asked,
};
use crate::{
    domain::{ClientAddress, Failure, Session, TenantId, TokenFault, UserId, UserStatus},
    port::{CodeIs, Committed, GuardedChange, NewCode, Success},
    secrets::TenantContext,
    telemetry,
    token::{Bearer, Repeatable, Unverified},
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
    /// What it is known again by, where it may be sent again.
    pub once: Option<Repeatable>,
}

impl Service {
    /// One read, one transaction: the user's sessions end, its lockout clears, its password no longer
    /// logs in and one code is issued and queued, all or nothing. It is not held to the budget of
    /// codes an hour: whoever spends that for somebody else must not keep an administrator from
    /// closing a login.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `UserNotFound`, `TenantSuspended`,
    /// `IpNotAllowed`, `IdempotencyMismatch`, `IdempotencyExpired`, `Unavailable`.
    pub async fn reset_login(&self, command: Command, now: Timestamp) -> Result<(), Failure> {
        let Command { tenant, bearer, user, reason, ip, once } = command;
        let (context, bearer) = self.verify_bearer(&tenant, &bearer, &ip, now).await?;
        let target = user.as_ref().unwrap_or(&bearer.user);
        telemetry::user(target);
        telemetry::reason(reason.as_deref());
        let asked = Asked::by(once, &tenant, Some(&bearer.user));
        for _ in 0..TRIES {
            let wanted = CodeIs::Wanted(asked.as_ref().map(Asked::key));
            let caller = match self.authenticate(&context, &bearer, Some(target), wanted, now).await {
                Err(Failure::InvalidToken(TokenFault::SessionGone)) if *target == bearer.user => {
                    return self.reset_before(&context, &bearer, asked.as_ref(), now).await;
                }
                caller => caller?,
            };
            if !caller.is_administrator() || caller.user.change_required {
                return Err(Failure::Forbidden);
            }
            let target = caller.target(target)?;
            if self.recall(&context, asked.as_ref(), caller.once.clone(), now).await?.is_some() {
                return Ok(());
            }
            let change = GuardedChange { caller_session: &caller.session, caller: &caller.user, target, now };
            let user = (&target.id, Some(target));
            let (code, _) = self.new_code(&context, user, caller.code.as_ref(), Some(&Sending::MAIL), now)?;
            let success = || Success::LoginReset(bearer.session.clone());
            let once = asked.as_ref().map(|asked| asked.remember(success(), &context, now)).transpose()?;
            if self.store.reset_login(&change, &NewCode { once, ..code }).await? == Committed::Done {
                return Ok(());
            }
            // Read again: who asks, whether it still may, and whether it did, shows at the head of the loop.
        }
        Err(Failure::Unavailable("the user kept changing".into()))
    }

    /// Whether this caller's own login was reset by the same request before. That ended its session, so
    /// nothing else could tell a client that lost the answer; and nothing else is told or done.
    ///
    /// # Errors
    /// `InvalidToken` where it was not; `IdempotencyMismatch`, `IdempotencyExpired`, `Unavailable`.
    async fn reset_before(
        &self,
        context: &TenantContext,
        bearer: &Bearer,
        asked: Option<&Asked>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let gone = Failure::InvalidToken(TokenFault::SessionGone);
        let Some(key) = asked.map(Asked::key) else {
            return Err(gone);
        };
        let session = (&bearer.user, &bearer.session);
        let items = self.store.caller(&bearer.tenant, session, None, CodeIs::Wanted(Some(key))).await?;
        let tenant_epoch = context.tenant.session_epoch;
        let ended_by_reset_alone = |session: &Session| {
            session.ended.is_none() && !session.is_expired(now) && session.tenant_epoch >= tenant_epoch
        };
        let may_ask = items.session.as_ref().is_some_and(ended_by_reset_alone)
            && items.user.is_some_and(|user| user.status == UserStatus::Active && user.is_administrator());
        let by_it = Success::LoginReset(bearer.session.clone());
        let known = items.once.filter(|known| may_ask && known.success == by_it);
        self.recall(context, asked, known, now).await?.map(|_| ()).ok_or(gone)
    }
}
