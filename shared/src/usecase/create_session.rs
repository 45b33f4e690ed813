//! Logging in (contract, "Create session").

use std::collections::BTreeMap;

use jiff::Timestamp;
use secrecy::SecretString;

use super::{
    Grant, Service, admit,
    guess::{Guess, Origin},
    idle_end,
};
use crate::{
    domain::{
        ClientAddress, Collection, Device, Failure, Nonce, Password, Policy, ProvenDevice, Session,
        SessionId, TenantId, User, UserId, UserStatus, Username,
    },
    port::{LoginItems, LoginQuery, random},
    secrets::TenantContext,
    telemetry,
    token::DeviceProof,
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
    /// What an earlier login from this device was given, or anything else.
    pub device_proof: Option<SecretString>,
}

impl Service {
    /// Two calls in sequence: attempt and user in parallel, then session and attempt's success; beside
    /// these a hash that is not made as the tenant's are now is made anew and written. One more between
    /// the two, and one at the end, while half of a budget is used up: each guess takes its part of it
    /// then before it is verified ([`Service::charge`]).
    ///
    /// # Errors
    /// `InvalidTenantCredentials`, `TenantSuspended`, `IpNotAllowed`, `AccountLocked`,
    /// `PasswordDisabled`, `RateLimited`, `Authentication`, `CredentialsResetRequired`, `Unavailable`.
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
            device_proof,
        } = command;
        telemetry::user(&id);
        let context = self.tenants.open(&tenant, &tenant_key, &tenant_secret, now).await?;
        let device = Device { ip: admit(&context, &ip)?, ..device };
        let policy = &context.tenant.policy;

        let proven = self.proven_device(&context, &id, device_proof, now).await;
        let origin = proven.map_or(Origin::Stranger(device.ip), Origin::Device);
        let budgets = origin.budgets(&tenant, &id, policy, now);
        let query = LoginQuery { tenant: &tenant, user: &id, once: None, budgets: &budgets };
        let (place, items) =
            tokio::join!(self.reserve(&tenant, &id, origin, policy, now), self.store.login(&query));
        let mut place = place?;
        let guess = async {
            let LoginItems { user, once: _, used } = items?;
            self.charge(&mut place, budgets.clone(), &used).await?;
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
        let known = user.filter(|user| {
            right
                && user.username.is_same(&username)
                && user.fits(collection, &owner)
                && user.status == UserStatus::Active
        });
        let Some(user) = known else {
            self.settle(&tenant, &id, &place, Guess::Wrong).await?;
            return Err(Failure::Authentication);
        };
        if user.reset_required {
            self.settle(&tenant, &id, &place, Guess::Unused).await?;
            return Err(Failure::CredentialsResetRequired);
        }

        let made = self.new_session(&user, &context, collection, (device, proven), now);
        let grant = match made.and_then(|session| self.first_grant(&context, session, &user, now)) {
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

    /// The device that a login's proof names, if the proof is this tenant's and this user's. Whatever
    /// else was sent is as if it had not been.
    async fn proven_device(
        &self,
        context: &TenantContext,
        user: &UserId,
        proof: Option<SecretString>,
        now: Timestamp,
    ) -> Option<ProvenDevice> {
        let proof = DeviceProof::parse(&proof?)?;
        let whose = (&context.tenant.id, user);
        if context.keys.has_root(proof.key_version()) {
            return proof.device(whose, &context.keys, now);
        }
        // A root key that is not known may be a fresh one.
        match self.tenants.reload_keys(&context.tenant.id, now).await {
            Ok((keys, _)) => proof.device(whose, &keys, now),
            Err(failure) => {
                tracing::warn!(%failure, "device_proof.not_checked");
                None
            }
        }
    }

    /// What a session's login is granted, with a proof of its device.
    fn first_grant(
        &self,
        context: &TenantContext,
        session: Session,
        user: &User,
        now: Timestamp,
    ) -> Result<Grant, Failure> {
        let whose = (&session.tenant, &session.user);
        let proof = session.proven_device.and_then(|it| DeviceProof::issue(it, whose, &context.keys, now));
        Ok(Grant { device_proof: proof, ..self.grant(context, session, user, now)? })
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
        (device, proven): (Device, Option<ProvenDevice>),
        now: Timestamp,
    ) -> Result<Session, Failure> {
        let policy = &context.tenant.policy;
        let proven = match proven {
            Some(proven) => proven,
            None => ProvenDevice::from_random(random(&*self.entropy)?),
        };
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
            proven_device: Some(proven),
        })
    }
}
