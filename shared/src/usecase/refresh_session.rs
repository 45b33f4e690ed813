//! Refreshing a session (docs/design/contract.md#refresh).

use jiff::Timestamp;
use secrecy::SecretString;

use super::{Grant, Service, authenticate::is_torn, idle_end};
use crate::{
    domain::{
        ClientAddress, Collection, Failure, Judgement, Limit, Session, SessionFault, SessionId, TenantId,
        TokenFault, User, UserId, UserStatus, judge,
    },
    port::{CodeIs, EndSession, Rotated, Rotation},
    secrets::TenantContext,
    telemetry,
    token::{Bearer, RefreshToken, TenantKeys, Unverified},
};

/// A refresh.
#[derive(Debug)]
pub struct Command {
    /// Tenant.
    pub tenant: TenantId,
    /// The session's access token, which may have expired.
    pub bearer: Unverified,
    /// The refresh token, as sent.
    pub refresh_token: SecretString,
    /// What the path names besides the session.
    pub path: Path,
    /// The session in the path.
    pub session: SessionId,
    /// The client's address.
    pub ip: ClientAddress,
}

/// What a refresh's path names besides the session.
#[derive(Debug)]
pub enum Path {
    /// `admin/sessions/{sessionId}/refresh`: nothing.
    Admin,
    /// `customer/…/{customerId}/users/{userId}/sessions/{sessionId}`.
    Customer {
        /// Individual or organization.
        collection: Collection,
        /// The customer.
        customer: String,
        /// The user.
        user: UserId,
    },
}

impl Path {
    /// # Errors
    /// `Forbidden` for a customer's token on the admin route (docs/design/security.md#rule-21); `InvalidRefreshToken`
    /// when path and bearer name different sessions.
    fn admits(&self, bearer: &Bearer) -> Result<(), Failure> {
        match self {
            Self::Admin if bearer.collection == Collection::Admin => Ok(()),
            Self::Admin => Err(Failure::Forbidden),
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
    /// One call in sequence: the rotation, and the user in parallel; nothing is answered before both
    /// are in.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `InvalidRefreshToken`, `RefreshTokenReused`,
    /// `SessionExpired`, `SessionTerminated`, `SessionNotFound`, `RateLimited`, `TenantSuspended`,
    /// `IpNotAllowed`, `Unavailable`.
    pub async fn refresh_session(&self, command: Command, now: Timestamp) -> Result<Grant, Failure> {
        let Command { tenant, bearer, refresh_token, path, session: id, ip } = command;
        let (context, bearer) = self.verify_bearer(&tenant, &bearer, &ip, now).await?;
        let policy = &context.tenant.policy;
        if bearer.expired && !policy.refresh_after_expiry {
            return Err(Failure::InvalidToken(TokenFault::Expired));
        }
        path.admits(&bearer)?;
        telemetry::user(&bearer.user);
        telemetry::session(&context.keys.session_digest(&bearer.session));
        let token = RefreshToken::parse(&refresh_token).ok_or(Failure::InvalidRefreshToken)?;
        let made_with = |keys: &TenantKeys| keys.has_root(token.key_version());
        let context = self.tenants.with_key(context, now, made_with, Failure::InvalidRefreshToken).await?;
        if !token.is_authentic(&tenant, &context.keys) {
            return Err(Failure::InvalidRefreshToken);
        }
        if token.session != bearer.session || token.user != bearer.user || id != bearer.session {
            return Err(Failure::InvalidRefreshToken);
        }

        let policy = &context.tenant.policy;
        let rotation = Rotation {
            tenant: &tenant,
            user: &bearer.user,
            session: &bearer.session,
            nonce: token.nonce,
            generation: token.generation,
            key_version: context.keys.root_version(),
            id: self.attempt_id(now)?,
            now,
            idle_expires_at: idle_end(policy, now),
            grace: policy.grace,
        };
        let (rotated, user) =
            tokio::join!(self.store.rotate_session(&rotation), self.store.user(&tenant, &bearer.user));
        match (rotated?, user?) {
            (Rotated::Missing, _) => Err(Failure::SessionNotFound),
            (Rotated::TooOften, _) => Err(Failure::RateLimited(Limit::Rotations, policy.grace)),
            (Rotated::Moved(session), user) => {
                let (session, user) = self.live(&context, session, user, now).await?;
                self.grant(&context, session, &user, now)
            }
            (Rotated::Kept(session), _) if session.nonce != token.nonce => Err(Failure::InvalidRefreshToken),
            (Rotated::Kept(session), user) => {
                let (session, user) = self.live(&context, session, user, now).await?;
                match judge(&session, token.generation, policy.grace, now) {
                    // Two tabs, or a retry after a lost answer: the identical successor.
                    Judgement::InGrace => {
                        // It may have been made with a root key newer than the ones known here.
                        let made_with = |keys: &TenantKeys| keys.has_root(session.key_version);
                        let gone = Failure::Unavailable("the root key of a live session is gone".into());
                        let context = self.tenants.with_key(context.clone(), now, made_with, gone).await?;
                        self.grant(&context, session, &user, now)
                    }
                    Judgement::Reused => {
                        self.end_for_reuse(&session, now).await?;
                        Err(Failure::RefreshTokenReused)
                    }
                    Judgement::Unknown => Err(Failure::InvalidRefreshToken),
                    // The write's condition saw it end between two instants.
                    Judgement::Current => Err(Failure::SessionExpired),
                }
            }
        }
    }

    /// The session and its user, while the session lives.
    async fn live(
        &self,
        context: &TenantContext,
        mut session: Session,
        mut user: Option<User>,
        now: Timestamp,
    ) -> Result<(Session, User), Failure> {
        if is_torn(Some(&session), user.as_ref()) {
            let items = self
                .store
                .caller(&session.tenant, (&session.user, &session.id), None, CodeIs::Unwanted)
                .await?;
            session = items.session.ok_or(Failure::SessionTerminated)?;
            user = items.user;
        }
        let user = user.filter(|user| user.status == UserStatus::Active).ok_or(Failure::SessionTerminated)?;
        match session.fault(now, user.session_epoch, context.tenant.session_epoch) {
            None => Ok((session, user)),
            Some(SessionFault::Expired) => Err(Failure::SessionExpired),
            Some(SessionFault::Terminated) => Err(Failure::SessionTerminated),
        }
    }

    async fn end_for_reuse(&self, session: &Session, now: Timestamp) -> Result<(), Failure> {
        let end = EndSession {
            tenant: &session.tenant,
            user: &session.user,
            session: &session.id,
            path: None,
            reuse: true,
            now,
        };
        self.store.end_session(&end).await.map(|_| ())
    }
}
