//! What happens for each endpoint: one file each, with its `Command`, its `Outcome` and how it is
//! decided. No wire format, no AWS type.

pub mod anchor_audit;
mod authenticate;
pub mod authorize;
mod code;
pub mod create_session;
pub mod cross_origin;
pub mod delete_session;
pub mod deliver_notification;
pub mod end_sessions;
mod guess;
mod health;
mod keep_session;
pub mod list_sessions;
mod new_password;
mod once;
pub mod password_page;
pub mod password_reset;
pub mod publish;
pub mod read_session;
pub mod refresh_session;
pub mod reset_login;
pub mod set_password;
pub mod update_credentials;
pub mod verify_audit;

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;
use secrecy::SecretString;

use crate::{
    cache::Cache,
    domain::{
        AttemptId, ClientAddress, Collection, Failure, Policy, Session, SessionId, TenantId, TenantStatus,
        User, UserId, WebOrigin,
    },
    port::{Clock, Entropy, Passwords, SecretSource, Store, random},
    secrets::{TenantContext, Tenants},
    telemetry,
    token::{Claims, RefreshToken, Unverified},
};

/// Everything the use cases work with; built once per process.
pub struct Service {
    store: Arc<dyn Store>,
    tenants: Tenants,
    origins: Cache<WebOrigin, ()>,
    health: Cache<(), ()>,
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
        let health = Cache::new(1, health::LOOK);
        Self { store, tenants, origins, health, passwords, clock, entropy }
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
            device_proof: None,
            session,
        })
    }
}

/// A user's path in a collection, and who asks there.
#[derive(Debug)]
pub struct UserPath {
    /// Tenant.
    pub tenant: TenantId,
    /// The user's own token, or an administrator's.
    pub bearer: Unverified,
    /// The path's collection.
    pub collection: Collection,
    /// The organization or customer in the path.
    pub owner: String,
    /// The user in the path.
    pub user: UserId,
    /// The client's address.
    pub ip: ClientAddress,
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
    /// With a login: what its device may prove at its next one that it is no stranger.
    pub device_proof: Option<SecretString>,
}

/// The client's address, as the tenant's proxies tell it.
fn client(context: &TenantContext, from: &ClientAddress) -> Option<IpAddr> {
    let ip = from.client(&context.tenant.policy.trusted_proxies);
    telemetry::client(ip);
    ip
}

/// The client's address, if the tenant takes requests, and from there; asked once tenant credentials
/// or a bearer were right.
fn admit(context: &TenantContext, from: &ClientAddress) -> Result<Option<IpAddr>, Failure> {
    cross_origin::proven(&context.tenant);
    let policy = &context.tenant.policy;
    let ip = client(context, from);
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
