//! Login reset (docs/design/contract.md#login-reset).

use super::{
    Service,
    support::{
        code::{Sending, TRIES},
        idempotency::{IdempotentRequest, stored_success},
        tenant_request::TenantRequest,
    },
};
use crate::{
    context::RequestContext,
    domain::{
        ClientAddress, ClientScope, CodePurpose, Denial, Failure, Session, TenantId, TokenFault, UserId,
    },
    store::{ExtraItem, NewCode, Success},
    token::{Bearer, KeyedRequest, Unverified},
};

/// A login reset.
#[derive(Debug)]
pub struct Command {
    /// Tenant that the request names.
    pub tenant: TenantId,
    /// Access token of an administrator or of an API client.
    pub bearer: Unverified,
    /// User whose login is reset; `None` for the caller. A client must name a user.
    pub user: Option<UserId>,
    /// Reason that the administrator gave.
    pub reason: Option<String>,
    /// Client address.
    pub ip: ClientAddress,
    /// Idempotency key and request fingerprint, if the client sent a key.
    pub idempotency: Option<KeyedRequest>,
}

impl Service {
    /// Resets a login with one read and one transaction: the user's sessions end, its lockout clears, its
    /// password no longer logs in, and one code is issued and queued, all or nothing.
    ///
    /// The hourly limit of codes does not apply. Otherwise a caller that uses up the limit could keep an
    /// administrator from closing a login.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `UserNotFound`, `TenantSuspended`, `IpNotAllowed`,
    /// `IdempotencyMismatch`, `IdempotencyExpired`, `Unavailable`.
    pub async fn reset_login(&self, command: Command, context: &RequestContext) -> Result<(), Failure> {
        let Command { tenant, bearer, user, reason, ip, idempotency } = command;
        let (request, token) = self.verify_token(context, &tenant, &bearer, &ip).await?;
        let unnamed = || Failure::field("userId", "is required for an API client, which has no own login");
        let target = user.as_ref().or(token.user()).ok_or_else(unnamed)?;
        context.record_user(target);
        context.record_admin_reason(reason.as_deref());
        let idempotent = IdempotentRequest::of(idempotency, &tenant, token.key_owner());
        // Each round reads the caller again, and checks whether it may still act and whether it already did.
        for _ in 0..TRIES {
            let code =
                ExtraItem::Code(CodePurpose::Password, idempotent.as_ref().map(IdempotentRequest::key));
            let caller =
                match (self.authenticate(&request, &token, Some(target), code).await, token.own(target)) {
                    (Err(Failure::InvalidToken(TokenFault::SessionGone)), Some(bearer)) => {
                        return self.replay_own_reset(&request, bearer, idempotent.as_ref()).await;
                    }
                    (caller, _) => caller?,
                };
            if !caller.is_administrator() {
                return Err(Failure::Forbidden(Denial::NoAdministrator));
            }
            caller.require(ClientScope::UsersWrite)?;
            let target = caller.target(ClientScope::UsersWrite, target)?;
            let stored = caller.stored.clone();
            if stored_success(&request, idempotent.as_ref(), stored)?.is_some() {
                return Ok(());
            }
            let user = (&target.id, Some(target));
            let (code, _) = self.new_code(
                &request,
                user,
                CodePurpose::Password,
                caller.code.as_ref(),
                Some(&Sending::MAIL),
            )?;
            let success = || Success::LoginReset { by: token.session().cloned() };
            let result = idempotent.as_ref().map(|it| it.record(success(), &request)).transpose()?;
            if self
                .store
                .reset_login(&caller.change(target, context.now), &NewCode { result, ..code })
                .await?
                .is_done()?
            {
                return Ok(());
            }
        }
        Err(Failure::Unavailable("the user kept changing".into()))
    }

    /// Replays the result of a caller's reset of its own login. The reset ended the caller's session, so that a
    /// client that lost the response can repeat the request, and do nothing else.
    ///
    /// # Errors
    /// `InvalidToken` if no identical request succeeded before; `IdempotencyMismatch`; `IdempotencyExpired`;
    /// `Unavailable`.
    async fn replay_own_reset(
        &self,
        request: &TenantRequest<'_>,
        bearer: &Bearer,
        idempotent: Option<&IdempotentRequest>,
    ) -> Result<(), Failure> {
        let gone = Failure::InvalidToken(TokenFault::SessionGone);
        let Some(key) = idempotent.map(IdempotentRequest::key) else {
            return Err(gone);
        };
        let session = (&bearer.user, &bearer.session);
        let items = self
            .store
            .caller(&bearer.tenant, session, None, ExtraItem::Code(CodePurpose::Password, Some(key)))
            .await?;
        let ended_only_by_reset = |session: &Session| {
            session.ended.is_none()
                && !session.is_expired(request.now())
                && session.tenant_epoch >= request.tenant.session_epoch
        };
        let may_replay = items.session.as_ref().is_some_and(ended_only_by_reset)
            && items.user.is_some_and(|user| user.is_active() && user.is_administrator());
        let own_reset = Success::LoginReset { by: Some(bearer.session.clone()) };
        let stored = items.stored.filter(|stored| may_replay && stored.success == own_reset);
        stored_success(request, idempotent, stored)?.map(|_| ()).ok_or(gone)
    }
}
