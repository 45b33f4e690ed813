//! Refresh of a session (docs/design/contract.md#refresh).

use secrecy::SecretString;

use super::{
    Grant, Service, idle_end,
    support::{authenticate::is_torn, tenant_request::TenantRequest},
};
use crate::{
    context::RequestContext,
    domain::{
        ClientAddress, Collection, Denial, Failure, Limit, RefreshTokenState, Session, SessionFault,
        SessionId, TenantId, TokenFault, User, UserId,
    },
    store::{EndSession, ExtraItem, Rotated, Rotation},
    token::{Bearer, RefreshToken, Unverified},
};

/// A refresh.
#[derive(Debug)]
pub struct Command {
    /// Tenant that the request names.
    pub tenant: TenantId,
    /// Access token of the session. It may have expired.
    pub bearer: Unverified,
    /// Refresh token.
    pub refresh_token: SecretString,
    /// Path of the request, without the session.
    pub path: Path,
    /// Session in the path.
    pub session: SessionId,
    /// Client address.
    pub ip: ClientAddress,
}

/// The path of a refresh, without the session.
#[derive(Debug)]
pub enum Path {
    /// `admin/sessions/{sessionId}/refresh`.
    Admin,
    /// `customer/…/{customerId}/users/{userId}/sessions/{sessionId}`.
    Customer {
        /// Individual or organization.
        collection: Collection,
        /// Customer.
        customer: String,
        /// User.
        user: UserId,
    },
}

impl Path {
    /// Checks that the bearer fits the path.
    ///
    /// # Errors
    /// `Forbidden` for a customer's token on the admin route (docs/design/security.md#rule-21);
    /// `InvalidRefreshToken` if path and bearer name different sessions.
    fn admits(&self, bearer: &Bearer) -> Result<(), Failure> {
        match self {
            Self::Admin if bearer.collection == Collection::Admin => Ok(()),
            Self::Admin => Err(Failure::Forbidden(Denial::CustomerToken)),
            Self::Customer { collection, customer, user }
                if *collection == bearer.collection && *customer == bearer.owner && *user == bearer.user =>
            {
                Ok(())
            }
            Self::Customer { .. } => Err(Failure::InvalidRefreshToken),
        }
    }
}

impl Service {
    /// Refreshes a session with one round of DynamoDB calls: the rotation, and in parallel the read of the
    /// user. The response waits for both.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `InvalidRefreshToken`, `RefreshTokenReused`,
    /// `SessionExpired`, `SessionTerminated`, `SessionNotFound`, `RateLimited`, `TenantSuspended`,
    /// `IpNotAllowed`, `Unavailable`.
    pub async fn refresh_session(
        &self,
        command: Command,
        context: &RequestContext,
    ) -> Result<Grant, Failure> {
        let Command { tenant, bearer, refresh_token, path, session: id, ip } = command;
        let (request, bearer) = self.verify_bearer(context, &tenant, &bearer, &ip).await?;
        if bearer.expired && !request.policy().refresh_after_expiry {
            return Err(Failure::InvalidToken(TokenFault::Expired));
        }
        path.admits(&bearer)?;
        context.record_user(&bearer.user);
        context.record_session(&request.keys.session_digest(&bearer.session));
        let token = RefreshToken::parse(&refresh_token).ok_or(Failure::InvalidRefreshToken)?;
        if !request.has_issued(&token) {
            return Err(Failure::InvalidRefreshToken);
        }
        if token.session != bearer.session || token.user != bearer.user || id != bearer.session {
            return Err(Failure::InvalidRefreshToken);
        }
        let policy = request.policy();
        let rotation = Rotation {
            tenant: &tenant,
            user: &bearer.user,
            session: &bearer.session,
            nonce: token.nonce,
            generation: token.generation,
            key_version: request.keys.root_version(),
            id: self.attempt_id(context.now)?,
            now: context.now,
            idle_expires_at: idle_end(policy, context.now),
            grace: policy.grace,
        };
        let (rotated, user) =
            tokio::join!(self.store.rotate_session(&rotation), self.store.user(&tenant, &bearer.user));
        match (rotated?, user?) {
            (Rotated::Missing, _) => Err(Failure::SessionNotFound),
            (Rotated::TooOften, _) => Err(Failure::RateLimited(Limit::Rotations, policy.grace)),
            (Rotated::Moved(session), user) => {
                let (session, user) = self.check_live(&request, session, user).await?;
                self.grant(&request, session, &user)
            }
            (Rotated::Kept(session), _) if session.nonce != token.nonce => Err(Failure::InvalidRefreshToken),
            (Rotated::Kept(session), user) => {
                let (session, user) = self.check_live(&request, session, user).await?;
                self.not_rotated(&request, session, &user, token.generation).await
            }
        }
    }

    /// The result for a refresh token that is not the session's current one.
    async fn not_rotated(
        &self,
        request: &TenantRequest<'_>,
        session: Session,
        user: &User,
        generation: u64,
    ) -> Result<Grant, Failure> {
        match session.refresh_token_state(generation, request.policy().grace, request.now()) {
            // A parallel refresh, or a retry after a lost response: return the same successor.
            RefreshTokenState::InGrace => self.grant(request, session, user),
            RefreshTokenState::Reused => {
                self.end_for_reuse(&session, request).await?;
                Err(Failure::RefreshTokenReused)
            }
            RefreshTokenState::Unknown => Err(Failure::InvalidRefreshToken),
            // The session expired between the time of the request and the write.
            RefreshTokenState::Current => Err(Failure::SessionExpired),
        }
    }

    /// Checks that session and user are live; reads both again if they may come from different moments.
    async fn check_live(
        &self,
        request: &TenantRequest<'_>,
        mut session: Session,
        mut user: Option<User>,
    ) -> Result<(Session, User), Failure> {
        if is_torn(Some(&session), user.as_ref()) {
            let items = self
                .store
                .caller(&session.tenant, (&session.user, &session.id), None, ExtraItem::None)
                .await?;
            session = items.session.ok_or(Failure::SessionTerminated)?;
            user = items.user;
        }
        let user = user.filter(User::is_active).ok_or(Failure::SessionTerminated)?;
        match session.fault(request.now(), user.session_epoch, request.tenant.session_epoch) {
            None => Ok((session, user)),
            Some(SessionFault::Expired) => Err(Failure::SessionExpired),
            Some(SessionFault::Terminated) => Err(Failure::SessionTerminated),
        }
    }

    async fn end_for_reuse(&self, session: &Session, request: &TenantRequest<'_>) -> Result<(), Failure> {
        let end = EndSession {
            tenant: &session.tenant,
            user: &session.user,
            session: &session.id,
            path: None,
            reuse: true,
            now: request.now(),
        };
        self.store.end_session(&end).await.map(|_| ())
    }
}
