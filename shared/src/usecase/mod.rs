//! What happens for each endpoint: one file each, with its `Command`, its `Outcome` and how it is
//! decided. No wire format, no AWS type.

mod authenticate;
mod code;
pub mod create_session;
pub mod cross_origin;
pub mod delete_session;
pub mod deliver_notification;
mod guess;
mod keep_session;
mod new_password;
pub mod password_page;
pub mod password_reset;
pub mod refresh_session;
pub mod reset_login;
pub mod set_password;
pub mod update_credentials;

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;
use secrecy::SecretString;

use crate::{
    cache::Cache,
    domain::{
        AttemptId, ClientAddress, Failure, OrganizationId, Policy, Session, SessionId, TenantStatus, User,
        WebOrigin,
    },
    port::{Clock, Entropy, Passwords, SecretSource, Store, random},
    secrets::{TenantContext, Tenants},
    token::{Claims, RefreshToken},
};

/// Everything the use cases work with; built once per process.
pub struct Service {
    store: Arc<dyn Store>,
    tenants: Tenants,
    origins: Cache<WebOrigin, ()>,
    passwords: Arc<dyn Passwords>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Service {
    /// A service over these ports.
    pub fn new(
        store: Arc<dyn Store>,
        secrets: Arc<dyn SecretSource>,
        passwords: Arc<dyn Passwords>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let tenants = Tenants::new(Arc::clone(&store), secrets);
        let origins = Cache::new(cross_origin::CAPACITY, cross_origin::ORIGIN);
        Self { store, tenants, origins, passwords, clock, entropy }
    }

    /// The time of a request: asked once.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn attempt_id(&self, now: Timestamp) -> Result<AttemptId, Failure> {
        Ok(AttemptId::new(now, random(&*self.entropy)?))
    }

    /// Tokens for a session as it is now.
    fn grant(
        &self,
        context: &TenantContext,
        session: Session,
        user: &User,
        now: Timestamp,
    ) -> Result<Grant, Failure> {
        let policy = &context.tenant.policy;
        let claims =
            Claims::new(&session, user, policy, now, &SessionId::from_random(random(&*self.entropy)?));
        let refresh_token = RefreshToken::current(&session, &context.keys)
            .ok_or_else(|| Failure::Unavailable("the root key of a live session is gone".into()))?;
        Ok(Grant {
            token: claims.sign(&context.keys, policy)?,
            refresh_token,
            token_expires_at: Timestamp::from_second(claims.exp).unwrap_or(Timestamp::MAX),
            expires_in: claims.exp - claims.iat,
            password_change_required: user.change_required,
            session,
        })
    }
}

/// A session and the tokens that open it.
#[derive(Debug)]
pub struct Grant {
    /// The session.
    pub session: Session,
    /// Access token.
    pub token: SecretString,
    /// Refresh token.
    pub refresh_token: SecretString,
    /// When the access token ends.
    pub token_expires_at: Timestamp,
    /// The access token's life in seconds.
    pub expires_in: i64,
    /// Whether it opens nothing but a change of the user's own password.
    pub password_change_required: bool,
}

/// What an answer says of a user's record (contract, "ZITADEL v2").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserDetails {
    /// Counts its changes.
    pub sequence: u64,
    /// The last of them.
    pub changed_at: Timestamp,
    /// When it was created.
    pub created_at: Timestamp,
    /// Its owning organization.
    pub organization: OrganizationId,
}

impl UserDetails {
    fn of(user: &User) -> Self {
        Self {
            sequence: user.sequence,
            changed_at: user.changed_at,
            created_at: user.created_at,
            organization: user.organization.clone(),
        }
    }

    /// The details of `user` once the change that was decided on it as read is done.
    fn after_change(user: &User, now: Timestamp) -> Self {
        Self { sequence: user.sequence + 1, changed_at: now, ..Self::of(user) }
    }
}

/// The client's address, if the tenant takes requests, and from there; asked once tenant credentials
/// or a bearer were right.
fn admit(context: &TenantContext, from: &ClientAddress) -> Result<Option<IpAddr>, Failure> {
    cross_origin::proven(&context.tenant);
    let policy = &context.tenant.policy;
    let ip = from.client(&policy.trusted_proxies);
    match context.tenant.status {
        TenantStatus::Suspended => Err(Failure::TenantSuspended),
        TenantStatus::Active if !policy.admits(ip) => Err(Failure::IpNotAllowed),
        TenantStatus::Active => Ok(ip),
    }
}

/// When a session that is refreshed at `now` goes idle.
fn idle_end(policy: &Policy, now: Timestamp) -> Timestamp {
    now.checked_add(policy.idle_life).unwrap_or(Timestamp::MAX)
}
