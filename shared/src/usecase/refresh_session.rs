//! Refreshing a session (contract, "Refresh").

use std::net::IpAddr;

use jiff::Timestamp;
use secrecy::SecretString;

use super::{Grant, Service, idle_end};
use crate::{
    domain::{
        Collection, Failure, Judgement, Session, SessionFault, SessionId, TenantId, TokenFault, User, UserId,
        UserStatus, judge,
    },
    port::{EndSession, Rotated, Rotation},
    secrets::TenantContext,
    telemetry,
    token::{Bearer, RefreshToken, Unverified},
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
    pub ip: Option<IpAddr>,
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
    /// `Forbidden` for a customer's token on the admin route (security 21); `InvalidRefreshToken`
    /// when path and bearer name different sessions.
    fn admits(&self, bearer: &Bearer) -> Result<(), Failure> {
        match self {
            Self::Admin if bearer.collection == Collection::Admin => Ok(()),
            Self::Admin => Err(Failure::Forbidden),
            Self::Customer {
                collection,
                customer,
                user,
            } if *collection == bearer.collection && *customer == bearer.owner && *user == bearer.user => {
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
        let Command {
            tenant,
            bearer,
            refresh_token,
            path,
            session: id,
            ip,
        } = command;
        let (context, bearer) = self.verify_bearer(&tenant, &bearer, ip, now).await?;
        let policy = &context.tenant.policy;
        if bearer.expired && !policy.refresh_after_expiry {
            return Err(Failure::InvalidToken(TokenFault::Expired));
        }
        path.admits(&bearer)?;
        telemetry::user(&bearer.user);
        telemetry::session(&context.keys.session_digest(&bearer.session));
        let (context, token) = self.authentic(context, &refresh_token, now).await?;
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
        let (rotated, user) = tokio::join!(
            self.store.rotate_session(&rotation),
            self.store.user(&tenant, &bearer.user)
        );
        let (rotated, user) = (rotated?, user?);
        match rotated {
            Rotated::Missing => Err(Failure::SessionNotFound),
            Rotated::TooOften => Err(Failure::RateLimited(policy.grace)),
            Rotated::Moved(session) => {
                let user = owner(&context, &session, user, now)?;
                self.grant(&context, session, &user, now)
            }
            Rotated::Kept(session) if session.nonce != token.nonce => Err(Failure::InvalidRefreshToken),
            Rotated::Kept(session) => {
                let user = owner(&context, &session, user, now)?;
                match judge(&session, token.generation, policy.grace, now) {
                    // Two tabs, or a retry after a lost answer: the identical successor.
                    Judgement::InGrace => self.grant(&context, session, &user, now),
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

    /// The refresh token if this tenant made it; asks for the tenant's keys again when it was made
    /// with a root key that is not among them.
    async fn authentic(
        &self,
        mut context: TenantContext,
        text: &SecretString,
        now: Timestamp,
    ) -> Result<(TenantContext, RefreshToken), Failure> {
        let token = RefreshToken::parse(text).ok_or(Failure::InvalidRefreshToken)?;
        let tenant = &context.tenant.id;
        if !context.keys.has_root(token.key_version()) {
            context.keys = self
                .tenants
                .reload_keys(tenant, now)
                .await?
                .ok_or(Failure::InvalidRefreshToken)?;
        }
        if token.is_authentic(&context.tenant.id, &context.keys) {
            Ok((context, token))
        } else {
            Err(Failure::InvalidRefreshToken)
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

/// The session's user, while the session lives.
fn owner(
    context: &TenantContext,
    session: &Session,
    user: Option<User>,
    now: Timestamp,
) -> Result<User, Failure> {
    let user = user
        .filter(|user| user.status == UserStatus::Active)
        .ok_or(Failure::SessionTerminated)?;
    match session.fault(now, user.session_epoch, context.tenant.session_epoch) {
        None => Ok(user),
        Some(SessionFault::Expired) => Err(Failure::SessionExpired),
        Some(SessionFault::Terminated) => Err(Failure::SessionTerminated),
    }
}
