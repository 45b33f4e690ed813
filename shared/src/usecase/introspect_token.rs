//! Introspection of tokens (RFC 7662; docs/design/contract.md#oauth-20).

use jiff::Timestamp;
use secrecy::SecretString;

use super::{
    Service,
    authorize::Authorized,
    support::{caller::Sender, client_authentication::ClientRequest, tenant_request::TenantRequest},
};
use crate::{
    context::RequestContext,
    domain::{
        ClientId, ClientScope, Denial, Failure, OrganizationId, RefreshTokenState, Role, SessionId, TenantId,
        User, UserId,
    },
    token::{RefreshToken, SCOPE_FULL},
};

/// A token to introspect.
#[derive(Debug)]
pub struct Command {
    /// The client that asks.
    pub client: ClientRequest,
    /// The token.
    pub token: SecretString,
}

/// An active token.
#[derive(Debug)]
pub struct ActiveToken {
    /// `Bearer`, or `refresh_token`.
    pub token_type: &'static str,
    /// Scopes, separated by blanks.
    pub scope: String,
    /// User or client.
    pub subject: Subject,
    /// Token ID; `None` for a refresh token.
    pub token_id: Option<String>,
    /// Time of issue.
    pub issued_at: Timestamp,
    /// Expiry.
    pub expires_at: Timestamp,
    /// Issuer.
    pub issuer: String,
    /// Audience.
    pub audience: String,
    /// Tenant ID.
    pub tenant: TenantId,
}

/// Subject of a token.
#[derive(Debug)]
pub enum Subject {
    /// A user with a live session.
    User {
        /// User ID.
        id: UserId,
        /// Username.
        username: String,
        /// Roles of the stored user.
        roles: Vec<Role>,
        /// Session ID.
        session: SessionId,
    },
    /// An API client.
    Client(ClientId),
}

impl Service {
    /// Introspects a token with one read in addition to the authentication of the client. A token is active if the
    /// authorizer accepts it. A client that is restricted to an organization sees only tokens of its users. Returns `None`
    /// for every other text.
    ///
    /// # Errors
    /// Those of the authentication; `UnauthorizedClient` without the scope `introspect`; `Unavailable`.
    pub async fn introspect_token(
        &self,
        command: Command,
        context: &RequestContext,
    ) -> Result<Option<ActiveToken>, Failure> {
        let (request, client) = self.authenticate_client(context, command.client).await?;
        if !client.may_introspect() {
            return Err(Failure::UnauthorizedClient);
        }
        let introspected = match RefreshToken::parse(&command.token) {
            Some(token) => self.introspect_refresh_token(&request, &token, client.organization()).await,
            None => self.introspect_access_token(&request, &command.token, client.organization()).await,
        };
        match introspected {
            Ok(active) => Ok(Some(active)),
            Err(failure) if failure.is_server_error() => Err(failure),
            Err(failure) => {
                context.record_reason(why_inactive(&failure));
                Ok(None)
            }
        }
    }

    async fn introspect_access_token(
        &self,
        request: &TenantRequest<'_>,
        token: &SecretString,
        organization: Option<&OrganizationId>,
    ) -> Result<ActiveToken, Failure> {
        let token = request.verify(token)?;
        match self.check_access_token(request, token, Sender::Elsewhere).await? {
            Authorized::User { bearer, user } => {
                admit_organization(organization, Some(&user))?;
                let times = (bearer.issued_at, bearer.expires_at);
                Ok(of_user(request, *user, bearer.session, ("Bearer", Some(bearer.token_id), times)))
            }
            Authorized::Client { bearer, scopes } => {
                admit_organization(organization, None)?;
                let times = (bearer.issued_at, bearer.expires_at);
                let of = ("Bearer", Some(bearer.token_id), times);
                Ok(active(request, Subject::Client(bearer.client), ClientScope::text(&scopes), of))
            }
        }
    }

    /// A refresh token is active if a refresh accepts it, and the authorizer accepts the session.
    async fn introspect_refresh_token(
        &self,
        request: &TenantRequest<'_>,
        token: &RefreshToken,
        organization: Option<&OrganizationId>,
    ) -> Result<ActiveToken, Failure> {
        if !request.has_issued(token) {
            return Err(Failure::InvalidRefreshToken);
        }
        let (session, user) = self.live_session(request, (&token.user, &token.session)).await?;
        let state = session.refresh_token_state(token.generation, request.policy().grace, request.now());
        let is_usable = matches!(state, RefreshTokenState::Current | RefreshTokenState::InGrace);
        if !is_usable || session.nonce != token.nonce {
            return Err(Failure::InvalidRefreshToken);
        }
        admit_organization(organization, Some(&user))?;
        let times = (session.refreshed_at, session.expires_at.min(session.idle_expires_at));
        Ok(of_user(request, user, session.id, ("refresh_token", None, times)))
    }
}

/// Returns the reason why a token is not active, for the audit log.
pub(super) fn why_inactive(failure: &Failure) -> &'static str {
    match failure {
        Failure::InvalidToken(fault) => fault.name(),
        Failure::Forbidden(denial) => denial.name(),
        other => other.name(),
    }
}

/// Type, ID, and times of issue and expiry of a token.
type TokenFacts = (&'static str, Option<String>, (Timestamp, Timestamp));

/// A user's active token. Records user and session for the audit log.
fn of_user(request: &TenantRequest<'_>, user: User, session: SessionId, of: TokenFacts) -> ActiveToken {
    request.context.record_user(&user.id);
    request.context.record_session(&request.keys.session_digest(&session));
    let subject = Subject::User {
        id: user.id,
        username: user.username.as_written().to_owned(),
        roles: user.roles,
        session,
    };
    active(request, subject, SCOPE_FULL.to_owned(), of)
}

fn active(
    request: &TenantRequest<'_>,
    subject: Subject,
    scope: String,
    (token_type, token_id, (issued_at, expires_at)): TokenFacts,
) -> ActiveToken {
    let policy = request.policy();
    ActiveToken {
        token_type,
        scope,
        subject,
        token_id,
        issued_at,
        expires_at,
        issuer: policy.issuer.clone(),
        audience: policy.audience.clone(),
        tenant: request.tenant.id.clone(),
    }
}

/// Checks the organization to which the asking client is restricted. Such a client does not see tokens of clients.
fn admit_organization(restriction: Option<&OrganizationId>, user: Option<&User>) -> Result<(), Failure> {
    match restriction {
        Some(organization) if user.is_none_or(|user| user.organization != *organization) => {
            Err(Failure::Forbidden(Denial::AnotherOrganization))
        }
        _ => Ok(()),
    }
}
