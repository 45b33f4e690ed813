//! Logging in (docs/design/contract.md#create-session).

use std::collections::BTreeMap;

use jiff::Timestamp;
use secrecy::SecretString;

use super::{
    Grant, Service, admit,
    guess::{Guess, Origin, Place},
    idle_end,
    keep_session::{Held, Kept},
    once::Asked,
};
use crate::{
    domain::{
        ClientAddress, Collection, Device, Failure, KnownDevice, Nonce, Password, Policy, ProvenDevice,
        Session, SessionId, TenantId, User, UserId, UserStatus, Username,
    },
    port::{CodeIs, HourBudget, LoginItems, LoginQuery, NewOnce, Success, random},
    secrets::TenantContext,
    telemetry,
    token::{DeviceProof, Repeatable},
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
    /// What it is known again by, where it may be sent again.
    pub once: Option<Repeatable>,
    /// What an earlier login from this device was given, or anything else.
    pub device_proof: Option<SecretString>,
}

/// A login whose tenant is known to be the caller.
struct Login {
    collection: Collection,
    owner: String,
    user: UserId,
    username: Username,
    password: Password,
    device: Device,
    proven: Option<KnownDevice>,
    asked: Option<Asked>,
}

impl Login {
    /// Whether `user` is who logs in: of that name, at home in the path, and active.
    fn is_of(&self, user: &User) -> bool {
        self.fault(Some(user), true).is_none()
    }

    /// What is wrong with a login as `user`: for operators, clients are told one thing for all
    /// (docs/design/security.md#rule-9).
    fn fault(&self, user: Option<&User>, right: bool) -> Option<&'static str> {
        match user {
            None => Some("UNKNOWN_USER"),
            Some(_) if !right => Some("WRONG_PASSWORD"),
            Some(user) if user.status == UserStatus::Disabled => Some("USER_DISABLED"),
            Some(user) if !user.fits(self.collection, &self.owner) => Some("WRONG_PATH"),
            Some(user) if !user.username.is_same(&self.username) => Some("WRONG_USERNAME"),
            Some(_) => None,
        }
    }

    /// Where it comes from.
    fn origin(&self) -> Origin {
        Origin { device: self.proven, ip: self.device.ip }
    }

    fn query<'a>(&'a self, tenant: &'a TenantId, budgets: &'a [HourBudget]) -> LoginQuery<'a> {
        LoginQuery { tenant, user: &self.user, once: self.asked.as_ref().map(Asked::key), budgets }
    }
}

/// How a login was judged.
enum Judged {
    /// By its password, with the user as it was read for that, and its sessions where they are limited.
    Password(bool, Option<Box<User>>, Option<Held>),
    /// Not at all: it succeeded before.
    Before(TenantContext, Success),
}

impl Service {
    /// Two calls in sequence: attempt and user in parallel, then session and attempt's success; beside
    /// these a hash that is not made as the tenant's are now is made anew and written. A limit of
    /// sessions adds a query beside the hash, and makes the session's write a transaction. While half of a
    /// budget is used up there is one call more between the two, and one at the end: each guess takes its
    /// part of it then before it is verified (`guess.rs`).
    ///
    /// A request that is sent again under its key reads the session that it made in the place of the
    /// second call, and is not hashed: its fingerprint holds the password that was right.
    ///
    /// # Errors
    /// `InvalidTenantCredentials`, `TenantSuspended`, `IpNotAllowed`, `AccountLocked`,
    /// `PasswordDisabled`, `RateLimited`, `Authentication`, `CredentialsResetRequired`, `SessionLimit`,
    /// `IdempotencyMismatch`, `IdempotencyExpired`, `Unavailable`.
    pub async fn create_session(&self, command: Command, now: Timestamp) -> Result<Grant, Failure> {
        let Command {
            tenant,
            tenant_key,
            tenant_secret,
            collection,
            owner,
            user,
            username,
            password,
            device,
            ip,
            once,
            device_proof,
        } = command;
        telemetry::user(&user);
        let (context, used) = self.tenants.open(&tenant, &tenant_key, &tenant_secret, now).await?;
        let device = Device { ip: admit(&context, &ip)?, ..device };
        let asked = Asked::by(once, &tenant, None);
        let proven = self.proven_device(&context, &user, device_proof, now).await;
        let login = Login { collection, owner, user, username, password, device, proven, asked };
        let login = Box::pin(self.log_in(&context, login, now));
        let (grant, ()) = tokio::join!(login, self.tenants.note(&tenant, &used, now));
        grant
    }

    async fn log_in(&self, context: &TenantContext, login: Login, now: Timestamp) -> Result<Grant, Failure> {
        let (tenant, policy) = (&context.tenant.id, &context.tenant.policy);
        let id = &login.user;
        let origin = login.origin();
        let budgets = origin.budgets(tenant, id, policy, now);
        let query = login.query(tenant, &budgets);
        let (place, items) =
            tokio::join!(self.reserve(tenant, id, origin, policy, now), self.store.login(&query));
        let mut place = place?;
        let judged = match self.judge(context, &login, &mut place, (items, &budgets), now).await {
            Ok(judged) => judged,
            // A key that was used for another login is a guess, or it would tell whether that was the
            // password. A place whose password was never judged is given back: faults of ours lock
            // nobody out.
            Err(failure) => {
                let mismatch = matches!(failure, Failure::IdempotencyMismatch);
                let guess = if mismatch { Guess::Wrong } else { Guess::Unused };
                self.settle_quietly(tenant, id, &place, guess).await;
                return Err(failure);
            }
        };
        let (right, user, held) = match judged {
            Judged::Password(right, user, held) => (right, user, held),
            Judged::Before(context, success) => {
                let (grant, ()) = tokio::join!(
                    self.grant_again(&context, &login, success, now),
                    self.settle_quietly(tenant, id, &place, Guess::Unused)
                );
                return grant;
            }
        };
        // Every way of being wrong is the same one from here on (docs/design/security.md#rule-9).
        let fault = login.fault(user.as_deref(), right);
        let Some(user) = user.filter(|_| fault.is_none()) else {
            telemetry::detail(fault.unwrap_or_default());
            self.settle(tenant, id, &place, Guess::Wrong).await?;
            return Err(Failure::Authentication);
        };
        let room = if user.reset_required {
            Err(Failure::CredentialsResetRequired)
        } else {
            held.map(Held::room).transpose()
        };
        let room = match room {
            Ok(room) => room,
            Err(refused) => {
                self.settle(tenant, id, &place, Guess::Unused).await?;
                return self.unless_repeated(context, &login, refused, now).await;
            }
        };

        let (grant, once) = match self.new_grant(context, &user, &login, now) {
            Ok(made) => made,
            Err(failure) => {
                self.settle_quietly(tenant, id, &place, Guess::Unused).await;
                return Err(failure);
            }
        };
        // A place that is not given back counts as one failure: no reason to deny a session that is there.
        let (kept, (), ()) = tokio::join!(
            self.keep_session(context, &grant.session, room, once.as_ref(), now),
            self.settle_quietly(tenant, id, &place, Guess::Right),
            self.renew_hash(&user, login.password.clone(), policy)
        );
        match kept {
            Ok(Kept::Done) => {
                telemetry::session(&context.keys.session_digest(&grant.session.id));
                Ok(grant)
            }
            Ok(Kept::Repeated) => {
                let unheard = Failure::Unavailable("a key that was taken remembers nothing".into());
                self.look_again(context, &login, unheard, now).await
            }
            Err(refused) => self.unless_repeated(context, &login, refused, now).await,
        }
    }

    /// The refusal, unless the request's twin came first and took the last place that the tenant allows.
    async fn unless_repeated(
        &self,
        context: &TenantContext,
        login: &Login,
        refused: Failure,
        now: Timestamp,
    ) -> Result<Grant, Failure> {
        match refused {
            Failure::SessionLimit if login.asked.is_some() => {
                self.look_again(context, login, refused, now).await
            }
            refused => Err(refused),
        }
    }

    /// Judges a login by what its key remembers, or by its password.
    async fn judge(
        &self,
        context: &TenantContext,
        login: &Login,
        place: &mut Place,
        (items, budgets): (Result<LoginItems, Failure>, &[HourBudget]),
        now: Timestamp,
    ) -> Result<Judged, Failure> {
        let LoginItems { user, once, used } = items?;
        if login.proven.is_some() && place.origin.device.is_none() {
            // A stranger after all: its budgets were not read.
            let of_strangers =
                place.origin.budgets(&context.tenant.id, &login.user, &context.tenant.policy, now);
            self.take(place, of_strangers).await?;
        } else {
            self.charge(place, budgets.to_vec(), &used).await?;
        }
        if let Some((context, success)) = self.recall(context, login.asked.as_ref(), once, now).await? {
            return Ok(Judged::Before(context, success));
        }
        let policy = &context.tenant.policy;
        // A limit's query hides behind the hash.
        let (right, held) = tokio::try_join!(
            self.verify_password(login.password.clone(), user.as_ref(), policy),
            self.held_sessions(context, &login.user, user.as_ref(), now)
        )?;
        Ok(Judged::Password(right, user.map(Box::new), held))
    }

    /// The success of the twin that came first; `otherwise` when there is none.
    async fn look_again(
        &self,
        context: &TenantContext,
        login: &Login,
        otherwise: Failure,
        now: Timestamp,
    ) -> Result<Grant, Failure> {
        let LoginItems { once, .. } = self.store.login(&login.query(&context.tenant.id, &[])).await?;
        match self.recall(context, login.asked.as_ref(), once, now).await? {
            Some((context, success)) => self.grant_again(&context, login, success, now).await,
            None => Err(otherwise),
        }
    }

    /// The session that the same login made before, if it is as it was then: not refreshed, so that its
    /// refresh token is the one of the first answer; and nothing of its user's credentials changed
    /// since, so that an old password opens nothing.
    ///
    /// # Errors
    /// `IdempotencyExpired` otherwise.
    async fn grant_again(
        &self,
        context: &TenantContext,
        login: &Login,
        success: Success,
        now: Timestamp,
    ) -> Result<Grant, Failure> {
        let Success::Session { id: session, user_epoch } = success else {
            return Err(Failure::IdempotencyExpired);
        };
        let tenant = &context.tenant;
        let items = self.store.caller(&tenant.id, (&login.user, &session), None, CodeIs::Unwanted).await?;
        let lives = |session: &Session, user: &User| {
            session.generation == 0
                && session.fault(now, user.session_epoch, tenant.session_epoch).is_none()
                && user.session_epoch == user_epoch
                && !user.reset_required
                && login.is_of(user)
        };
        match items.session.zip(items.user) {
            Some((session, user)) if lives(&session, &user) => {
                telemetry::session(&context.keys.session_digest(&session.id));
                self.first_grant(context, session, &user, now)
            }
            _ => Err(Failure::IdempotencyExpired),
        }
    }

    /// A new session with its tokens, and what remembers the request for it.
    fn new_grant(
        &self,
        context: &TenantContext,
        user: &User,
        login: &Login,
        now: Timestamp,
    ) -> Result<(Grant, Option<NewOnce>), Failure> {
        let from = (login.device.clone(), login.proven.map(|known| known.id));
        let session = self.new_session(user, context, login.collection, from, now)?;
        let success = || Success::Session { id: session.id.clone(), user_epoch: session.user_epoch };
        let once = login.asked.as_ref().map(|asked| asked.remember(success(), context, now)).transpose()?;
        Ok((self.first_grant(context, session, user, now)?, once))
    }

    /// The device that a login's proof names, if the proof is this tenant's and this user's. Whatever
    /// else was sent is as if it had not been.
    async fn proven_device(
        &self,
        context: &TenantContext,
        user: &UserId,
        proof: Option<SecretString>,
        now: Timestamp,
    ) -> Option<KnownDevice> {
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
    /// (docs/design/security.md#rule-4). The login does not depend on it: what fails is tried at the next one.
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
    /// password since then ends it unborn (docs/design/storage.md#epochs).
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
