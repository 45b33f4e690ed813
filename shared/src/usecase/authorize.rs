//! Authorization of a request to one of a customer's own APIs (docs/design/contract.md#public-documents).

use super::{
    Service,
    support::{
        caller::{LiveClient, Sender},
        tenant_request::TenantRequest,
    },
};
use crate::{
    context::RequestContext,
    domain::{ClientAddress, ClientScope, Failure, TenantId, TokenFault, User},
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
        let (request, caller) = self.verify_token(context, &tenant, &bearer, &ip).await?;
        self.check_access_token(&request, caller.token, Sender::Address(caller.address)).await
    }

    /// Checks what a verified token stands for: the session and its user, or the client. The authorizer and the
    /// introspection share this check.
    ///
    /// # Errors
    /// As [`Self::authorize`].
    pub(super) async fn check_access_token(
        &self,
        request: &TenantRequest<'_>,
        token: AccessToken,
        sender: Sender,
    ) -> Result<Authorized, Failure> {
        match token {
            AccessToken::User(bearer) => {
                if bearer.expired {
                    return Err(Failure::InvalidToken(TokenFault::Expired));
                }
                let (_, user) = self.live_session(request, (&bearer.user, &bearer.session)).await?;
                Ok(Authorized::User { bearer, user: Box::new(user) })
            }
            AccessToken::Client(bearer) => {
                let LiveClient { scopes, .. } = self.live_client(&bearer, sender).await?;
                Ok(Authorized::Client { bearer, scopes })
            }
        }
    }
}
