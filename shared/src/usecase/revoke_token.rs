//! Revocation of tokens (RFC 7009; docs/design/contract.md#oauth-20).

use secrecy::SecretString;

use super::{
    Service,
    introspect_token::why_inactive,
    support::{client_authentication::ClientRequest, tenant_request::TenantRequest},
};
use crate::{
    context::RequestContext,
    domain::{Failure, SessionId, UserId},
    store::EndSession,
    token::{AccessToken, RefreshToken},
};

/// A token to revoke.
#[derive(Debug)]
pub struct Command {
    /// The client that asks.
    pub client: ClientRequest,
    /// The token.
    pub token: SecretString,
}

impl Service {
    /// Revokes a token with one write: ends the session of an access or refresh token, or marks a client's token as
    /// revoked until its expiry. Ignores every other text. A client may revoke each token of its tenant that it has.
    ///
    /// # Errors
    /// Those of the authentication; `Unavailable`.
    pub async fn revoke_token(&self, command: Command, context: &RequestContext) -> Result<(), Failure> {
        let (request, _) = self.authenticate_client(context, command.client).await?;
        if let Some(token) = RefreshToken::parse(&command.token) {
            if !request.has_issued(&token) {
                context.record_reason(Failure::InvalidRefreshToken.name());
                return Ok(());
            }
            return self.end_by_token(&request, (&token.user, &token.session)).await;
        }
        match request.verify(&command.token) {
            Ok(AccessToken::User(bearer)) if !bearer.expired => {
                self.end_by_token(&request, (&bearer.user, &bearer.session)).await
            }
            Ok(AccessToken::Client(bearer)) if !bearer.expired => {
                self.store.revoke_client_token(&bearer.tenant, &bearer.token_id, bearer.expires_at).await
            }
            Ok(_) => {
                context.record_reason("EXPIRED");
                Ok(())
            }
            Err(failure) => {
                context.record_reason(why_inactive(&failure));
                Ok(())
            }
        }
    }

    /// Ends the session of a token.
    async fn end_by_token(
        &self,
        request: &TenantRequest<'_>,
        (user, session): (&UserId, &SessionId),
    ) -> Result<(), Failure> {
        request.context.record_user(user);
        request.context.record_session(&request.keys.session_digest(session));
        let tenant = &request.tenant.id;
        let end = EndSession { tenant, user, session, path: None, reuse: false, now: request.now() };
        self.store.end_session(&end).await.map(|_| ())
    }
}
