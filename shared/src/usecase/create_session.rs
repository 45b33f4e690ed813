//! Login by ID or by name (docs/design/contract.md#create-session, docs/design/contract.md#log-in-by-name).

use std::collections::BTreeMap;

use secrecy::SecretString;

use super::{
    Grant, Service, idle_end,
    support::{
        idempotency::{IdempotentRequest, stored_success},
        password_attempt::{AttemptSlot, AttemptSource},
        session_limit::{HeldSessions, StoredSession},
        tenant_request::TenantRequest,
    },
};
use crate::{
    context::RequestContext,
    domain::{
        AttemptCount, ClientAddress, Collection, Device, Failure, HashCost, HourBudget, Nonce, Password,
        Session, SessionId, TenantId, TrustedDevice, TrustedDeviceId, User, UserId, UserKey, Username, after,
    },
    port::random,
    store::{ExtraItem, LimitClaim, LoginQuery, Success, UserItems},
    token::{DeviceProof, KeyOwner, KeyedRequest},
};

/// A login.
#[derive(Debug)]
pub struct Command {
    /// Tenant that the request names.
    pub tenant: TenantId,
    /// Key of the tenant.
    pub tenant_key: SecretString,
    /// Secret of the tenant.
    pub tenant_secret: SecretString,
    /// Way in which the user is found.
    pub key: UserKey,
    /// Username.
    pub username: Username,
    /// Password.
    pub password: Password,
    /// Device, as the client describes it.
    pub device: Device,
    /// Client address.
    pub ip: ClientAddress,
    /// Idempotency key and request fingerprint, if the client sent a key.
    pub idempotency: Option<KeyedRequest>,
    /// Device proof of an earlier login; may be any text.
    pub device_proof: Option<SecretString>,
}

/// A login whose tenant credentials were right.
struct Login {
    key: UserKey,
    /// The user in the path or with the username, or the stand-in for an unknown username.
    user: UserId,
    username: Username,
    password: Password,
    device: Device,
    /// The trusted device that the request proved.
    trusted: Option<TrustedDevice>,
    idempotent: Option<IdempotentRequest>,
}

impl Login {
    /// Checks that `user` is active, has the login's username, and is accepted by the login's route. Returns the
    /// collection of its session.
    ///
    /// # Errors
    /// The reason why the login is rejected. Only the audit log contains it; clients receive the same response for
    /// every reason (docs/design/security.md#rule-9).
    fn check(&self, user: &User) -> Result<Collection, &'static str> {
        if !user.is_active() {
            return Err("USER_DISABLED");
        }
        let collection = self.key.collection(user).ok_or("WRONG_PATH")?;
        // The username may have changed since a login by name found its user.
        if user.username.accepts(&self.username) { Ok(collection) } else { Err("WRONG_USERNAME") }
    }

    fn source(&self) -> AttemptSource {
        AttemptSource { device: self.trusted, ip: self.device.ip }
    }

    fn query<'a>(&'a self, tenant: &'a TenantId, budgets: &'a [HourBudget]) -> LoginQuery<'a> {
        let result_key = self.idempotent.as_ref().map(IdempotentRequest::key);
        LoginQuery { tenant, user: &self.user, result_key, budgets }
    }
}

/// The result of checking a login. Each variant says how its attempt slot ends.
enum Checked {
    /// The login is rejected with this failure: the attempt was wrong.
    Wrong(fn(AttemptCount) -> Failure),
    /// The login is refused for another reason: the attempt was unused.
    Refused(Failure),
    /// An identical login succeeded before: the attempt was unused.
    Replay(Success),
    /// User and password are right, and the session limit leaves this room.
    Right(Box<AcceptedUser>, Option<LimitClaim>),
}

/// A user whose login is accepted.
struct AcceptedUser {
    user: User,
    /// Collection of the new session.
    collection: Collection,
    /// Cost of the hash that replaces the stored one, if that is outdated.
    replacement: Option<HashCost>,
}

impl Service {
    /// Logs a user in.
    ///
    /// Makes two sequential rounds of DynamoDB calls. Round 1 reserves an attempt slot and reads the user, in
    /// parallel. Round 2 writes the session and releases the slot, in parallel. Three conditions add calls:
    /// - The tenant limits sessions: one query during hashing, and the session is written in a transaction.
    /// - The stored hash is outdated: one more hash and one more write in round 2.
    /// - An address or tenant budget is at least half used: one conditional write before hashing and one after
    ///   a success.
    ///
    /// A login by name first reads the owner of the username, in one more round. That item only finds the user: the
    /// user's own item decides. An unknown username has a stand-in for the user ID, so that it has the same limits,
    /// calls and response as an unknown user (docs/design/security.md#rule-9).
    ///
    /// A replayed login reads its session instead of round 2. It computes no hash, because its fingerprint
    /// covers the password that was right before.
    ///
    /// # Errors
    /// `InvalidTenantCredentials`, `TenantSuspended`, `IpNotAllowed`, `AccountLocked`, `PasswordDisabled`,
    /// `RateLimited`, `Authentication`, `CredentialsResetRequired`, `SessionLimit`, `IdempotencyMismatch`,
    /// `IdempotencyExpired`, `Unavailable`.
    pub async fn create_session(&self, command: Command, context: &RequestContext) -> Result<Grant, Failure> {
        let Command {
            tenant,
            tenant_key,
            tenant_secret,
            key,
            username,
            password,
            device,
            ip,
            idempotency,
            device_proof,
        } = command;
        if let UserKey::Id { user, .. } = &key {
            context.record_user(user);
        }
        let credentials = (&tenant_key, &tenant_secret);
        let (request, used) = TenantRequest::open(&self.tenants, context, &tenant, credentials).await?;
        let device = Device { ip: request.admit(&ip)?, ..device };
        let idempotent = IdempotentRequest::of(idempotency, &tenant, KeyOwner::Tenant);
        let granted = Box::pin(async {
            let id = match &key {
                UserKey::Id { user, .. } => user.clone(),
                UserKey::Name(_) => self.named_user(&request, &username).await?,
            };
            let trusted = trusted_device(&request, &id, device_proof);
            let login = Login { key, user: id, username, password, device, trusted, idempotent };
            self.log_in(&request, &login).await
        });
        let (grant, ()) = tokio::join!(granted, self.tenants.note(&tenant, &used, context.now));
        grant
    }

    /// The ID of the user that has the username, or the stand-in for an unknown username.
    async fn named_user(&self, request: &TenantRequest<'_>, username: &Username) -> Result<UserId, Failure> {
        let unknown = request.keys.unknown_name(&request.tenant.id, username)?;
        let found = self.store.owner_of(&request.tenant.id, username).await?;
        if let Some(user) = &found {
            request.context.record_user(user);
        }
        Ok(found.unwrap_or(unknown))
    }

    async fn log_in(&self, request: &TenantRequest<'_>, login: &Login) -> Result<Grant, Failure> {
        let source = login.source();
        let budgets = source.budgets(request, &login.user)?;
        let query = login.query(&request.tenant.id, &budgets);
        let (slot, items) =
            tokio::join!(self.reserve_attempt(request, &login.user, source), self.store.login(&query));
        let mut slot = slot?;
        let user = items.as_ref().ok().and_then(|items| items.user.as_ref());
        let is_outdated = |device| user.is_some_and(|user| !user.trusts(device));
        if login.trusted.is_some_and(is_outdated) && !slot.is_of_unknown_device() {
            slot = slot.of_unknown_device().await?;
        }
        let checked = match items {
            Ok(items) => self.check_login(request, login, &mut slot, items, budgets).await,
            Err(failure) => Checked::Refused(failure),
        };
        match checked {
            Checked::Wrong(failure) => {
                // An attempt that cannot be counted must not disclose that it was wrong.
                Err(failure(slot.wrong().await?))
            }
            Checked::Refused(failure) => {
                slot.unused().await;
                self.replay_unless_first(request, login, None, failure).await
            }
            Checked::Replay(success) => {
                let (grant, ()) = tokio::join!(self.replay_login(request, login, success), slot.unused());
                grant
            }
            Checked::Right(accepted, claim) => {
                self.open_session(request, login, slot, &accepted, claim).await
            }
        }
    }

    /// Checks a login by the result stored for its idempotency key, or by its password.
    async fn check_login(
        &self,
        request: &TenantRequest<'_>,
        login: &Login,
        slot: &mut AttemptSlot<'_>,
        items: UserItems,
        budgets: Vec<HourBudget>,
    ) -> Checked {
        match self.verify_login(request, login, slot, items, budgets).await {
            Ok(checked) => checked,
            // A key that was used for another login counts as a wrong password. Otherwise the response would
            // disclose whether the password was the stored one.
            Err(Failure::IdempotencyMismatch) => Checked::Wrong(|_| Failure::IdempotencyMismatch),
            // The password was not verified: a server error must not lock a user out.
            Err(failure) => Checked::Refused(failure),
        }
    }

    async fn verify_login(
        &self,
        request: &TenantRequest<'_>,
        login: &Login,
        slot: &mut AttemptSlot<'_>,
        UserItems { user, stored, used, .. }: UserItems,
        budgets: Vec<HourBudget>,
    ) -> Result<Checked, Failure> {
        if login.trusted.is_some() && slot.is_of_unknown_device() {
            // The device is no longer trusted. The budgets of unknown devices were not read.
            slot.charge_all().await?;
        } else {
            slot.charge(budgets, &used).await?;
        }
        if let Some(success) = stored_success(request, login.idempotent.as_ref(), stored)? {
            return Ok(Checked::Replay(success));
        }
        // The query for the session limit runs during hashing.
        let (checked, held) = tokio::try_join!(
            self.verify_password(request, login.password.clone(), user.as_ref()),
            self.held_sessions(request, &login.user, user.as_ref())
        )?;
        // From here on every rejection has the same response (docs/design/security.md#rule-9).
        let accepted = match user {
            None => Err("UNKNOWN_USER"),
            Some(_) if !checked.is_right() => Err("WRONG_PASSWORD"),
            Some(user) => login.check(&user).map(|collection| (user, collection)),
        };
        let (user, collection) = match accepted {
            Ok(accepted) => accepted,
            Err(fault) => {
                request.context.record_reason(fault);
                return Ok(Checked::Wrong(Failure::Authentication));
            }
        };
        if user.reset_required {
            return Ok(Checked::Refused(Failure::CredentialsResetRequired));
        }
        let claim = held.map(HeldSessions::claim).transpose()?;
        let accepted = AcceptedUser { user, collection, replacement: checked.replacement() };
        Ok(Checked::Right(Box::new(accepted), claim))
    }

    /// Stores the session of a right login, and in parallel ends the attempt and upgrades an outdated hash.
    async fn open_session(
        &self,
        request: &TenantRequest<'_>,
        login: &Login,
        slot: AttemptSlot<'_>,
        accepted: &AcceptedUser,
        claim: Option<LimitClaim>,
    ) -> Result<Grant, Failure> {
        let user = &accepted.user;
        let mut grant = match self.new_grant(request, accepted, login, slot.session_id()) {
            Ok(grant) => grant,
            Err(failure) => {
                slot.unused().await;
                return Err(failure);
            }
        };
        let (stored, (), ()) = tokio::join!(
            self.store_session(request, user, &mut grant.session, claim, login.idempotent.as_ref()),
            slot.right(),
            self.replace_hash(user, login.password.clone(), accepted.replacement)
        );
        match stored {
            Ok(StoredSession::New) => {
                request.context.record_session(&request.keys.session_digest(&grant.session.id));
                Ok(grant)
            }
            Ok(StoredSession::AlreadyStored) => {
                let missing = Failure::Unavailable("the idempotency key exists but has no result".into());
                self.replay_or(request, login, Some(grant), missing).await
            }
            Err(failure) => self.replay_unless_first(request, login, Some(grant), failure).await,
        }
    }

    /// The failure, unless an identical request was faster and used the last session that the limit allows.
    async fn replay_unless_first(
        &self,
        request: &TenantRequest<'_>,
        login: &Login,
        own: Option<Grant>,
        failure: Failure,
    ) -> Result<Grant, Failure> {
        match failure {
            Failure::SessionLimit if login.idempotent.is_some() => {
                self.replay_or(request, login, own, failure).await
            }
            failure => Err(failure),
        }
    }

    /// The result of an identical request that was faster; `otherwise` if there is none.
    ///
    /// `own` is the session that this login tried to store. It is the result if an earlier try was committed and its
    /// answer was lost, also if another request has ended the session since.
    async fn replay_or(
        &self,
        request: &TenantRequest<'_>,
        login: &Login,
        own: Option<Grant>,
        otherwise: Failure,
    ) -> Result<Grant, Failure> {
        let UserItems { stored, .. } = self.store.login(&login.query(&request.tenant.id, &[])).await?;
        let stored = stored_success(request, login.idempotent.as_ref(), stored)?;
        let is_stored =
            |grant: &Grant| matches!(&stored, Some(Success::Session { id, .. }) if *id == grant.session.id);
        if let Some(grant) = own.filter(is_stored) {
            request.context.record_session(&request.keys.session_digest(&grant.session.id));
            return Ok(grant);
        }
        match stored {
            Some(success) => self.replay_login(request, login, success).await,
            None => Err(otherwise),
        }
    }

    /// The session that an identical login created, with new tokens.
    ///
    /// The session must not have been refreshed, so that its refresh token equals the one in the first
    /// response. The user's credentials must not have changed, so that an old password cannot log in.
    ///
    /// # Errors
    /// `IdempotencyExpired` otherwise.
    async fn replay_login(
        &self,
        request: &TenantRequest<'_>,
        login: &Login,
        success: Success,
    ) -> Result<Grant, Failure> {
        let Success::Session { id: session, user_epoch } = success else {
            return Err(Failure::IdempotencyExpired);
        };
        let tenant = &request.tenant;
        let items = self.store.caller(&tenant.id, (&login.user, &session), None, ExtraItem::None).await?;
        let is_unchanged = |session: &Session, user: &User| {
            session.generation == 0
                && session.fault(request.now(), user.session_epoch, tenant.session_epoch).is_none()
                && user.session_epoch == user_epoch
                && !user.reset_required
                && login.check(user).is_ok()
        };
        match items.session.zip(items.user) {
            Some((session, user)) if is_unchanged(&session, &user) => {
                request.context.record_session(&request.keys.session_digest(&session.id));
                self.login_grant(request, session, &user)
            }
            _ => Err(Failure::IdempotencyExpired),
        }
    }

    /// A new session with its tokens.
    fn new_grant(
        &self,
        request: &TenantRequest<'_>,
        accepted: &AcceptedUser,
        login: &Login,
        id: SessionId,
    ) -> Result<Grant, Failure> {
        self.login_grant(request, self.new_session(request, accepted, login, id)?, &accepted.user)
    }

    /// The tokens of a login's session, with a proof of its device.
    fn login_grant(
        &self,
        request: &TenantRequest<'_>,
        session: Session,
        user: &User,
    ) -> Result<Grant, Failure> {
        let owner = (&session.tenant, &session.user);
        let trusted = |id| TrustedDevice { id, user_epoch: session.user_epoch };
        let proof = session
            .proven_device
            .and_then(|id| DeviceProof::issue(trusted(id), owner, &request.keys, request.now()).ok());
        Ok(Grant { device_proof: proof, ..self.grant(request, session, user)? })
    }

    /// Replaces an outdated hash of a right password by one of the cost `replacement`, if given
    /// (docs/design/security.md#rule-4). A failure does not affect the login: the next login tries again.
    async fn replace_hash(&self, user: &User, password: Password, replacement: Option<HashCost>) {
        let Some(cost) = replacement else {
            return;
        };
        let upgrade = async {
            let hash = self.passwords.hash(password, cost).await?;
            self.store.rehash(user, &hash).await
        };
        if let Err(failure) = upgrade.await {
            tracing::warn!(%failure, "password.not_rehashed");
        }
    }

    /// A session with the epochs that were read together with the password's hash. If the password changed
    /// since, the new session is already ended (docs/design/storage.md#epochs).
    fn new_session(
        &self,
        request: &TenantRequest<'_>,
        AcceptedUser { user, collection, .. }: &AcceptedUser,
        login: &Login,
        id: SessionId,
    ) -> Result<Session, Failure> {
        let (policy, now) = (request.policy(), request.now());
        let device = match login.trusted {
            Some(trusted) => trusted.id,
            None => TrustedDeviceId::from_random(random(&*self.entropy)?),
        };
        Ok(Session {
            tenant: user.tenant.clone(),
            user: user.id.clone(),
            id,
            collection: *collection,
            organization: user.organization.clone(),
            customer: user.customer.clone(),
            user_epoch: user.session_epoch,
            tenant_epoch: request.tenant.session_epoch,
            generation: 0,
            nonce: Nonce(random(&*self.entropy)?),
            key_version: request.keys.root_version(),
            retired: BTreeMap::new(),
            rotation: None,
            ended: None,
            created_at: now,
            refreshed_at: now,
            idle_expires_at: idle_end(policy, now),
            expires_at: after(now, policy.session_life),
            device: login.device.clone(),
            proven_device: Some(device),
        })
    }
}

/// The device that a proof names, if the proof was issued by this tenant for this user. Any other text is ignored.
fn trusted_device(
    request: &TenantRequest<'_>,
    user: &UserId,
    proof: Option<SecretString>,
) -> Option<TrustedDevice> {
    let proof = DeviceProof::parse(&proof?)?;
    proof.device((&request.tenant.id, user), &request.keys, request.now())
}
