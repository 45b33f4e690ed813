//! Use cases: one file per endpoint with its `Command`, its `Outcome` and its decisions. They know no wire
//! format and no AWS type. Shared steps are in [`support`].

pub mod anchor_audit;
pub mod authorize;
pub mod create_session;
pub mod create_user;
pub mod delete_session;
pub mod deliver_notification;
pub mod end_sessions;
pub mod find_users;
mod health;
pub mod introspect_token;
pub mod issue_client_token;
pub mod list_sessions;
pub mod password_page;
pub mod password_reset;
pub mod publish;
pub mod read_session;
pub mod read_user;
pub mod refresh_session;
pub mod reset_login;
pub mod revoke_token;
pub mod set_password;
pub mod support;
pub mod update_credentials;
pub mod update_user;
pub mod user_contact;
pub mod user_status;
pub mod verify_audit;

use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;

use self::support::{cross_origin, tenant_request::TenantRequest};
use crate::{
    cache::Cache,
    domain::{
        AttemptId, ClientAddress, Collection, Failure, Policy, Session, SessionId, TenantId, User, UserId,
        UserSummary, WebOrigin, after,
    },
    port::{Clock, Entropy, Passwords, random},
    secrets::{SecretsManager, Tenants},
    store::DynamoStore,
    token::{Claims, RefreshToken, Unverified},
};

/// Everything that the use cases need; built once per process.
pub struct Service {
    store: Arc<DynamoStore>,
    tenants: Tenants,
    origins: Cache<WebOrigin, ()>,
    health: Cache<(), ()>,
    passwords: Arc<dyn Passwords>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Service {
    /// A service with these clients.
    pub fn new(
        store: Arc<DynamoStore>,
        secrets: Arc<SecretsManager>,
        passwords: Arc<dyn Passwords>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let tenants = Tenants::new(Arc::clone(&store), secrets);
        let origins = Cache::new(cross_origin::CAPACITY, cross_origin::ORIGIN);
        let health = Cache::new(1, health::CHECK);
        Self { store, tenants, origins, health, passwords, clock, entropy }
    }

    /// The current time. An entry point reads it once per request.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn attempt_id(&self, now: Timestamp) -> Result<AttemptId, Failure> {
        Ok(AttemptId::new(now, random(&*self.entropy)?))
    }

    /// New tokens for a session.
    fn grant(&self, request: &TenantRequest<'_>, session: Session, user: &User) -> Result<Grant, Failure> {
        let (policy, keys) = (request.policy(), &request.keys);
        let token_id = SessionId::from_random(random(&*self.entropy)?);
        let claims = Claims::new(&session, user, policy, request.now(), &token_id);
        Ok(Grant {
            token: claims.sign(keys, policy)?,
            refresh_token: RefreshToken::current(&session, keys)?,
            token_expires_at: Timestamp::from_second(claims.exp).unwrap_or(Timestamp::MAX),
            expires_in: claims.exp - claims.iat,
            password_change_required: user.change_required,
            device_proof: None,
            user: UserSummary::of(user),
            session,
        })
    }
}

/// The path of a user's sessions, with the caller's bearer.
#[derive(Debug)]
pub struct UserPath {
    /// Tenant that the request names.
    pub tenant: TenantId,
    /// Access token of the user or of an administrator.
    pub bearer: Unverified,
    /// Collection in the path.
    pub collection: Collection,
    /// Organization or customer in the path.
    pub owner: String,
    /// User in the path.
    pub user: UserId,
    /// Client address.
    pub ip: ClientAddress,
}

/// An access token, the tenant that the request names, and the client address.
#[derive(Debug)]
pub struct SentToken {
    /// Tenant that the request names.
    pub tenant: TenantId,
    /// Access token of a user or of an API client.
    pub token: Unverified,
    /// Client address.
    pub ip: ClientAddress,
}

/// A request about one user.
#[derive(Debug)]
pub struct UserRequest {
    /// Caller.
    pub by: SentToken,
    /// User that the request acts on.
    pub user: UserId,
}

/// A session and its tokens.
#[derive(Debug)]
pub struct Grant {
    /// The session.
    pub session: Session,
    /// The user, as it was read for the tokens.
    pub user: UserSummary,
    /// Access token.
    pub token: SecretString,
    /// Refresh token.
    pub refresh_token: SecretString,
    /// When the access token expires.
    pub token_expires_at: Timestamp,
    /// Life of the access token in seconds.
    pub expires_in: i64,
    /// Whether the access token allows only a change of the user's own password, refresh and logout.
    pub password_change_required: bool,
    /// Proof that makes the device trusted at its next login; only after a login.
    pub device_proof: Option<SecretString>,
}

/// When a session that is refreshed at `now` expires by idleness.
fn idle_end(policy: &Policy, now: Timestamp) -> Timestamp {
    after(now, policy.idle_life)
}
