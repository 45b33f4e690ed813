//! Authentication of a caller by its bearer token, and of the session behind the token.

use super::{
    caller::{Caller, CallerToken, LiveClient, LiveUser, Sender},
    tenant_request::TenantRequest,
};
use crate::{
    context::RequestContext,
    domain::{ClientAddress, Denial, Failure, Session, SessionId, TenantId, TokenFault, User, UserId},
    store::{CallerItems, ExtraItem},
    token::{AccessToken, Bearer, ClientBearer, Unverified},
    usecase::Service,
};

impl Service {
    /// Verifies a bearer token and finds its tenant. The tenant named by the request must be the token's: that
    /// is compared before any key is tried (docs/design/security.md#rule-18).
    ///
    /// The session or client behind the token is not checked, and an expired token is accepted: the use case decides
    /// about both.
    pub(in crate::usecase) async fn verify_token<'r>(
        &self,
        context: &'r RequestContext,
        tenant: &TenantId,
        token: &Unverified,
        ip: &ClientAddress,
    ) -> Result<(TenantRequest<'r>, CallerToken), Failure> {
        if token.tenant() != tenant {
            return Err(Failure::TenantMismatch);
        }
        let request = TenantRequest::find(&self.tenants, context, tenant).await?;
        let request = request.ok_or(Failure::InvalidToken(TokenFault::UnknownKey))?;
        let token = token.verify(&request.keys, &request.tenant, context.now)?;
        match &token {
            AccessToken::User(bearer) => {
                context.record_caller(&bearer.user, &request.keys.session_digest(&bearer.session));
            }
            AccessToken::Client(bearer) => context.record_client_id(&bearer.client),
        }
        let address = request.admit(ip)?;
        Ok((request, CallerToken { token, address }))
    }

    /// Verifies the bearer token of a user, as [`Self::verify_token`]. Only a user has a session that can be refreshed.
    ///
    /// # Errors
    /// Also `Forbidden` for the token of an API client.
    pub(in crate::usecase) async fn verify_bearer<'r>(
        &self,
        context: &'r RequestContext,
        tenant: &TenantId,
        token: &Unverified,
        ip: &ClientAddress,
    ) -> Result<(TenantRequest<'r>, Bearer), Failure> {
        let (request, CallerToken { token, .. }) = self.verify_token(context, tenant, token, ip).await?;
        match token {
            AccessToken::User(bearer) => Ok((request, bearer)),
            AccessToken::Client(_) => Err(Failure::Forbidden(Denial::ClientToken)),
        }
    }

    /// Reads the caller, another user and an extra item in one call (docs/design/storage.md#calls-per-request), and
    /// checks the caller's session, or the client and its token.
    ///
    /// # Errors
    /// `InvalidToken`; `IpNotAllowed` for an address that the client does not allow; `Unavailable`.
    pub(in crate::usecase) async fn authenticate(
        &self,
        request: &TenantRequest<'_>,
        caller: &CallerToken,
        other: Option<&UserId>,
        extra: ExtraItem<'_>,
    ) -> Result<Caller, Failure> {
        match &caller.token {
            AccessToken::User(bearer) => {
                check_expiry(bearer.expired)?;
                let ids = (&bearer.user, &bearer.session);
                let (live, items) = self.live_items(request, ids, other, extra).await?;
                Ok(Caller::user(live, items))
            }
            AccessToken::Client(bearer) => {
                check_expiry(bearer.expired)?;
                let ids = (&bearer.client, bearer.token_id.as_str());
                let read = || self.store.client_caller(&request.tenant.id, ids, other, extra);
                let (mut client, mut items) = read().await?;
                if is_torn(items.asked.as_ref(), items.other.as_ref()) {
                    (client, items) = read().await?;
                }
                let client = LiveClient::check(bearer, client, Sender::Address(caller.address))?;
                Ok(Caller::client(client, items))
            }
        }
    }

    /// Reads and checks the client of a token, which `sender` sent.
    ///
    /// # Errors
    /// As [`Self::authenticate`].
    pub(in crate::usecase) async fn live_client(
        &self,
        bearer: &ClientBearer,
        sender: Sender,
    ) -> Result<LiveClient, Failure> {
        check_expiry(bearer.expired)?;
        let ids = (&bearer.client, bearer.token_id.as_str());
        let (client, _) = self.store.client_caller(&bearer.tenant, ids, None, ExtraItem::None).await?;
        LiveClient::check(bearer, client, sender)
    }

    /// Reads a session and its user, and checks that the session is live and that the user need not change its password.
    ///
    /// # Errors
    /// `InvalidToken(SessionGone)`, `Forbidden`, `Unavailable`.
    pub(in crate::usecase) async fn live_session(
        &self,
        request: &TenantRequest<'_>,
        ids: (&UserId, &SessionId),
    ) -> Result<(Session, User), Failure> {
        let (LiveUser { session, user }, _) = self.live_items(request, ids, None, ExtraItem::None).await?;
        if user.change_required {
            return Err(Failure::Forbidden(Denial::PasswordChangeRequired));
        }
        Ok((session, user))
    }

    async fn live_items(
        &self,
        request: &TenantRequest<'_>,
        ids: (&UserId, &SessionId),
        other: Option<&UserId>,
        extra: ExtraItem<'_>,
    ) -> Result<(LiveUser, CallerItems), Failure> {
        let read = || self.store.caller(&request.tenant.id, ids, other, extra);
        let mut items = read().await?;
        let asked_of = items.other.as_ref().or(items.user.as_ref());
        if is_torn(items.session.as_ref(), items.user.as_ref()) || is_torn(items.asked.as_ref(), asked_of) {
            items = read().await?;
        }
        let gone = Failure::InvalidToken(TokenFault::SessionGone);
        let (Some(session), Some(user)) = (items.session.take(), items.user.take()) else {
            return Err(gone);
        };
        let fault = session.fault(request.now(), user.session_epoch, request.tenant.session_epoch);
        if fault.is_some() || !user.is_active() {
            return Err(gone);
        }
        Ok((LiveUser { session, user }, items))
    }
}

/// Checks that a token has not expired.
fn check_expiry(is_expired: bool) -> Result<(), Failure> {
    if is_expired { Err(Failure::InvalidToken(TokenFault::Expired)) } else { Ok(()) }
}

/// Whether session and user may come from different moments: the session from before a transaction that
/// changed the epochs of both, the user from after it. The caller then reads both again
/// (docs/design/storage.md#epochs).
pub(in crate::usecase) fn is_torn(session: Option<&Session>, user: Option<&User>) -> bool {
    session
        .zip(user)
        .is_some_and(|(session, user)| session.ended.is_none() && session.user_epoch < user.session_epoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::tests::{at, session, user};

    // docs/design/security.md#rule-15
    #[test]
    fn live_session_of_an_older_epoch_is_read_again() {
        let (session, user) = (session(), user());
        assert!(!is_torn(Some(&session), Some(&user)));
        let older = Session { user_epoch: user.session_epoch - 1, ..session.clone() };
        assert!(is_torn(Some(&older), Some(&user)));
        let ended =
            Session { ended: Some(crate::domain::Ended { at: at(0), reuse: false }), ..older.clone() };
        assert!(!is_torn(Some(&ended), Some(&user)), "an ended session stays ended");
        let newer = Session { user_epoch: user.session_epoch + 1, ..session };
        assert!(
            !is_torn(Some(&newer), Some(&user))
                && !is_torn(None, Some(&user))
                && !is_torn(Some(&older), None)
        );
    }
}
