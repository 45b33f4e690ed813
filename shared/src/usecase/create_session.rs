//! Logging in (contract, "Create session").

use std::collections::BTreeMap;

use jiff::Timestamp;
use secrecy::SecretString;

use super::{
    Grant, Service, admit,
    guess::Guess,
    idle_end,
    keep_session::{Held, Kept},
    once::Asked,
};
use crate::{
    domain::{
        ClientAddress, Collection, Device, Failure, Nonce, Password, Policy, Session, SessionId, TenantId,
        User, UserId, UserStatus, Username,
    },
    port::{CodeIs, LoginItems, LoginQuery, NewOnce, Success, random},
    secrets::TenantContext,
    telemetry,
    token::Repeatable,
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
}

/// A login whose tenant is known to be the caller.
struct Login {
    collection: Collection,
    owner: String,
    user: UserId,
    username: Username,
    password: Password,
    device: Device,
    asked: Option<Asked>,
}

impl Login {
    /// Whether `user` is who logs in: of that name, at home in the path, and active.
    fn is_of(&self, user: &User) -> bool {
        user.username.is_same(&self.username)
            && user.fits(self.collection, &self.owner)
            && user.status == UserStatus::Active
    }

    fn query<'a>(&'a self, tenant: &'a TenantId) -> LoginQuery<'a> {
        LoginQuery { tenant, user: &self.user, once: self.asked.as_ref().map(Asked::key) }
    }
}

/// How a login was judged.
enum Judged {
    /// By its password, with the user as it was read for that, and its sessions where they are limited.
    Password(bool, Option<User>, Option<Held>),
    /// Not at all: it succeeded before.
    Before(TenantContext, Success),
}

impl Service {
    /// Two calls in sequence: attempt and user in parallel, then session and attempt's success; beside
    /// these a hash that is not made as the tenant's are now is made anew and written. A limit of
    /// sessions adds a query beside the hash, and makes the session's write a transaction.
    ///
    /// A request that is sent again under its key reads the session that it made in the place of the
    /// second call, and is not hashed: its fingerprint holds the password that was right.
    ///
    /// # Errors
    /// `InvalidTenantCredentials`, `TenantSuspended`, `IpNotAllowed`, `AccountLocked`, `RateLimited`,
    /// `Authentication`, `CredentialsResetRequired`, `SessionLimit`, `IdempotencyMismatch`,
    /// `IdempotencyExpired`, `Unavailable`.
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
        } = command;
        telemetry::user(&user);
        let context = self.tenants.open(&tenant, &tenant_key, &tenant_secret, now).await?;
        let device = Device { ip: admit(&context, &ip)?, ..device };
        let asked = Asked::by(once, &tenant, None);
        let login = Login { collection, owner, user, username, password, device, asked };
        self.log_in(&context, login, now).await
    }

    async fn log_in(&self, context: &TenantContext, login: Login, now: Timestamp) -> Result<Grant, Failure> {
        let (tenant, policy) = (&context.tenant.id, &context.tenant.policy);
        let id = &login.user;
        let query = login.query(tenant);
        let (place, items) = tokio::join!(self.reserve(tenant, id, policy, now), self.store.login(&query));
        let place = place?;
        let judged = match self.judge(context, &login, items, now).await {
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
        // Every way of being wrong is the same one from here on (security 9).
        let Some(user) = user.filter(|user| right && login.is_of(user)) else {
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
        telemetry::session(&context.keys.session_digest(&grant.session.id));
        let (kept, forgiven, ()) = tokio::join!(
            self.keep_session(context, &grant.session, room, once.as_ref(), now),
            self.settle(tenant, id, &place, Guess::Right),
            self.renew_hash(&user, login.password.clone(), policy)
        );
        match kept {
            Ok(Kept::Done) => forgiven.map(|()| grant),
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
        items: Result<LoginItems, Failure>,
        now: Timestamp,
    ) -> Result<Judged, Failure> {
        let LoginItems { user, once } = items?;
        if let Some((context, success)) = self.recall(context, login.asked.as_ref(), once, now).await? {
            return Ok(Judged::Before(context, success));
        }
        let policy = &context.tenant.policy;
        // A limit's query hides behind the hash.
        let (right, held) = tokio::try_join!(
            self.verify_password(login.password.clone(), user.as_ref(), policy),
            self.held_sessions(context, &login.user, user.as_ref(), now)
        )?;
        Ok(Judged::Password(right, user, held))
    }

    /// The success of the twin that came first; `otherwise` when there is none.
    async fn look_again(
        &self,
        context: &TenantContext,
        login: &Login,
        otherwise: Failure,
        now: Timestamp,
    ) -> Result<Grant, Failure> {
        let LoginItems { once, .. } = self.store.login(&login.query(&context.tenant.id)).await?;
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
                self.grant(context, session, &user, now)
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
        let session = self.new_session(user, context, login.collection, login.device.clone(), now)?;
        let success = || Success::Session { id: session.id.clone(), user_epoch: session.user_epoch };
        let once = login.asked.as_ref().map(|asked| asked.remember(success(), context, now)).transpose()?;
        Ok((self.grant(context, session, user, now)?, once))
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
