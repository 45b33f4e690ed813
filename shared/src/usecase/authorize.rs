//! Authorization of a request to one of a customer's own APIs (docs/design/contract.md#public-documents).

use super::{Service, support::tenant_request::TenantRequest};
use crate::{
    context::RequestContext,
    domain::{ClientAddress, ClientScope, Denial, Failure, TenantId, TokenFault, User},
    store::ExtraItem,
    token::{AccessToken, Bearer, ClientBearer, Unverified},
};

/// The caller of an API.
#[derive(Debug)]
pub struct Command {
    /// Tenant that the request or its token names.
    pub tenant: TenantId,
    /// Access token.
    pub bearer: Unverified,
    /// Client address.
    pub ip: ClientAddress,
}

/// The subject of a valid access token.
#[derive(Debug)]
pub enum Authorized {
    /// A user with a live session.
    User {
        /// Content of the token.
        bearer: Bearer,
        /// The stored user. Roles in the token may be out of date.
        user: Box<User>,
    },
    /// An API client.
    Client {
        /// Content of the token.
        bearer: ClientBearer,
        /// Scopes of the token that the client still has.
        scopes: Vec<ClientScope>,
    },
}

impl Service {
    /// Authorizes a caller with one read of session and user, or of client and revocation
    /// (docs/design/storage.md#calls-per-request), and no write. A session that ended before the request is rejected. A
    /// tenant's record is cached for 5 s, so a suspension can take that long.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `TenantSuspended`, `IpNotAllowed`; `Forbidden` for a caller that must
    /// change its password first (docs/design/security.md#rule-21); `Unavailable`.
    pub async fn authorize(&self, command: Command, context: &RequestContext) -> Result<Authorized, Failure> {
        let Command { tenant, bearer, ip } = command;
        let (request, token) = self.verify_token(context, &tenant, &bearer, &ip).await?;
        self.check_access_token(&request, token, Some(&ip)).await
    }

    /// Checks what a verified token stands for: the session and its user, or the client. The authorizer and the
    /// introspection share this check. `ip` is the address that sent the token, if it is known.
    ///
    /// # Errors
    /// As [`Self::authorize`].
    pub(super) async fn check_access_token(
        &self,
        request: &TenantRequest<'_>,
        token: AccessToken,
        ip: Option<&ClientAddress>,
    ) -> Result<Authorized, Failure> {
        match token {
            AccessToken::User(bearer) => {
                let caller = self.authenticate(request, &bearer, None, ExtraItem::None).await?;
                if caller.user.change_required {
                    return Err(Failure::Forbidden(Denial::PasswordChangeRequired));
                }
                Ok(Authorized::User { bearer, user: Box::new(caller.user) })
            }
            AccessToken::Client(bearer) => {
                if bearer.expired {
                    return Err(Failure::InvalidToken(TokenFault::Expired));
                }
                let found =
                    self.store.client_of_token(&bearer.tenant, &bearer.client, &bearer.token_id).await?;
                let client = found.filter(|client| client.honours(bearer.credential));
                let client = client.ok_or(Failure::InvalidToken(TokenFault::ClientGone))?;
                if ip.is_some_and(|ip| !client.admits(request.client(ip))) {
                    return Err(Failure::IpNotAllowed);
                }
                let mut scopes = bearer.scopes.clone();
                scopes.retain(|scope| client.scopes.contains(scope));
                Ok(Authorized::Client { bearer, scopes })
            }
        }
    }
}
