//! Logging in (contract, "Create session").

use std::collections::BTreeMap;

use jiff::Timestamp;
use secrecy::SecretString;

use super::{Grant, Service, admit, guess::Guess, idle_end};
use crate::{
    domain::{
        ClientAddress, Collection, Device, Failure, Nonce, Password, Policy, Session, SessionId, TenantId,
        User, UserId, UserStatus, Username,
    },
    port::{LoginItems, LoginQuery, random},
    secrets::TenantContext,
    telemetry,
};

/// A login.
#[derive(Debug)]
pub struct Command {
    /// Tenant.
    pub tenant: TenantId,
    /// What the caller sends to prove that it is the tenant.
    pub tenant_key: SecretString,
    /// The other half of that.
    pub tenant_secret: SecretString,
    /// The path's collection.
    pub collection: Collection,
    /// The organization or customer in the path.
    pub owner: String,
    /// The user in the path.
    pub user: UserId,
    /// The name that logs in.
    pub username: Username,
    /// Its password.
    pub password: Password,
    /// Where from, as the client says.
    pub device: Device,
    /// The client's address.
    pub ip: ClientAddress,
}

impl Service {
    /// Two calls in sequence: attempt and user in parallel, then session and attempt's success; beside
    /// these a hash that is not made as the tenant's are now is made anew and written.
    ///
    /// # Errors
    /// `InvalidTenantCredentials`, `TenantSuspended`, `IpNotAllowed`, `AccountLocked`, `RateLimited`,
    /// `Authentication`, `CredentialsResetRequired`, `Unavailable`.
    pub async fn create_session(&self, command: Command, now: Timestamp) -> Result<Grant, Failure> {
        let Command {
            tenant,
            tenant_key,
            tenant_secret,
            collection,
            owner,
            user: id,
            username,
            password,
            device,
            ip,
        } = command;
        telemetry::user(&id);
        let context = self.tenants.open(&tenant, &tenant_key, &tenant_secret, now).await?;
        let device = Device { ip: admit(&context, &ip)?, ..device };
        let policy = &context.tenant.policy;

        let query = LoginQuery { tenant: &tenant, user: &id, once: None };
        let (place, items) = tokio::join!(self.reserve(&tenant, &id, policy, now), self.store.login(&query));
        let place = place?;
        let guess = async {
            let LoginItems { user, once: _ } = items?;
            let right = self.verify_password(password.clone(), user.as_ref(), policy).await?;
            Ok((right, user))
        };
        // A place whose password was never judged is given back: faults of ours lock nobody out.
        let (right, user) = match guess.await {
            Ok(guess) => guess,
            Err(failure) => {
                self.settle_quietly(&tenant, &id, &place, Guess::Unused).await;
                return Err(failure);
            }
        };
        // Every way of being wrong is the same one from here on (security 9).
        let fault = fault(user.as_ref(), right, &username, (collection, &owner));
        let Some(user) = user.filter(|_| fault.is_none()) else {
            telemetry::detail(fault.unwrap_or_default());
            self.settle(&tenant, &id, &place, Guess::Wrong).await?;
            return Err(Failure::Authentication);
        };
        if user.reset_required {
            self.settle(&tenant, &id, &place, Guess::Unused).await?;
            return Err(Failure::CredentialsResetRequired);
        }

        let made = self.new_session(&user, &context, collection, device, now);
        let grant = match made.and_then(|session| self.grant(&context, session, &user, now)) {
            Ok(grant) => grant,
            Err(failure) => {
                self.settle_quietly(&tenant, &id, &place, Guess::Unused).await;
                return Err(failure);
            }
        };
        telemetry::session(&context.keys.session_digest(&grant.session.id));
        let (kept, forgiven, ()) = tokio::join!(
            self.keep_session(&context, &user, &grant.session, now),
            self.settle(&tenant, &id, &place, Guess::Right),
            self.renew_hash(&user, password, policy)
        );
        kept.and(forgiven)?;
        Ok(grant)
    }

    /// Hashes a password that was right as the tenant's passwords are hashed now, if its hash is not
    /// (security 4). The login does not depend on it: what fails is tried at the next one.
    async fn renew_hash(&self, user: &User, password: Password, policy: &Policy) {
        if self.passwords.is_current(&user.password, policy.hash_cost) {
            return;
        }
        let renewed = async {
            let hash = self.passwords.hash(password, policy.hash_cost).await?;
            self.store.rehash(user, &hash).await
        };
        if let Err(failure) = renewed.await {
            tracing::warn!(%failure, "password.not_rehashed");
        }
    }

    /// A session with the epochs that were read together with the password's hash: a change of
    /// password since then ends it unborn (storage, "Epoch, not time").
    fn new_session(
        &self,
        user: &User,
        context: &TenantContext,
        collection: Collection,
        device: Device,
        now: Timestamp,
    ) -> Result<Session, Failure> {
        let policy = &context.tenant.policy;
        Ok(Session {
            tenant: user.tenant.clone(),
            user: user.id.clone(),
            id: SessionId::from_random(random(&*self.entropy)?),
            collection,
            organization: user.organization.clone(),
            customer: user.customer.clone(),
            user_epoch: user.session_epoch,
            tenant_epoch: context.tenant.session_epoch,
            generation: 0,
            nonce: Nonce(random(&*self.entropy)?),
            key_version: context.keys.root_version(),
            retired: BTreeMap::new(),
            rotation: None,
            ended: None,
            created_at: now,
            refreshed_at: now,
            idle_expires_at: idle_end(policy, now),
            expires_at: now.checked_add(policy.session_life).unwrap_or(Timestamp::MAX),
            device,
        })
    }
}

/// Which way a login is wrong: for the audit log alone, nothing else may depend on it (security 9).
fn fault(
    user: Option<&User>,
    right: bool,
    username: &Username,
    (collection, owner): (Collection, &str),
) -> Option<&'static str> {
    match user {
        None => Some("UNKNOWN_USER"),
        Some(_) if !right => Some("WRONG_PASSWORD"),
        Some(user) if user.status == UserStatus::Disabled => Some("USER_DISABLED"),
        Some(user) if !user.fits(collection, owner) => Some("WRONG_PATH"),
        Some(user) if !user.username.is_same(username) => Some("WRONG_USERNAME"),
        Some(_) => None,
    }
}
