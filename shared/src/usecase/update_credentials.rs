//! Changing a user's password, name or flags (docs/design/contract.md#update-credentials).

use std::net::IpAddr;

use jiff::Timestamp;

use super::{
    Service,
    authenticate::Caller,
    code::TRIES,
    guess::{Guess, Origin, Place},
    new_password::{Candidate, looks_back},
};
use crate::{
    domain::{
        ClientAddress, Collection, Failure, KnownDevice, Notification, Password, PasswordHash, Tenant,
        TenantId, User, UserDetails, UserId, Username,
    },
    port::{CodeIs, Committed, CredentialChange, GuardedChange, Sealed, SessionsOf},
    secrets::TenantContext,
    telemetry,
    token::{Bearer, Unverified},
};

/// A change of credentials.
#[derive(Debug)]
pub struct Command {
    /// Tenant.
    pub tenant: TenantId,
    /// The user's own token, or an administrator's.
    pub bearer: Unverified,
    /// Whose credentials.
    pub user: UserId,
    /// What to change.
    pub wanted: Wanted,
    /// Whether the caller must be an administrator of somebody else: its own credentials are not what
    /// the route is for (docs/design/contract.md#ocariot-v1).
    pub others_only: bool,
    /// The client's address.
    pub ip: ClientAddress,
}

/// What to change; nothing at all is allowed.
#[derive(Debug, Default)]
pub struct Wanted {
    /// New password, and the field it came in.
    pub password: Option<(Password, &'static str)>,
    /// The present password: proof for a change of one's own.
    pub current_password: Option<Password>,
    /// New login name.
    pub username: Option<Username>,
    /// Whether the password must be changed at the next login.
    pub change_required: Option<bool>,
}

impl Wanted {
    fn candidate<'a>(&'a self, target: &'a User) -> Option<Candidate<'a>> {
        self.password.as_ref().map(|(password, field)| Candidate {
            password,
            field,
            username: self.username.as_ref().unwrap_or(&target.username),
        })
    }
}

/// What was changed.
#[derive(Debug)]
pub struct Outcome {
    /// Whose credentials.
    pub user: UserId,
    /// The fields that changed, as clients name them.
    pub updated: Vec<&'static str>,
    /// How many live sessions the change ended.
    pub sessions_revoked: u64,
    /// Its record after that.
    pub details: UserDetails,
}

/// What a change needs beside the caller, kept from one try to the next.
#[derive(Default)]
struct Prepared {
    /// The client's address.
    client: Option<IpAddr>,
    /// The present password was right, under this epoch of its user.
    proof: Option<(Place, u64)>,
    /// The new password is none of its user's last ones, under this epoch of that user.
    fresh_under: Option<u64>,
    hash: Option<PasswordHash>,
    sessions_revoked: u64,
}

impl Service {
    /// One read, one transaction. A new password adds its hashing, with the count of the sessions it
    /// ends beside it; `currentPassword` an attempt's reservation before and its success after.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `UserNotFound`, `Validation`, `PasswordPolicy`,
    /// `Authentication`, `AccountLocked`, `PasswordDisabled`, `RateLimited`, `UsernameTaken`, `TenantSuspended`,
    /// `IpNotAllowed`, `Unavailable`.
    pub async fn update_credentials(&self, command: Command, now: Timestamp) -> Result<Outcome, Failure> {
        let Command { tenant, bearer, user: id, wanted, others_only, ip } = command;
        let (context, bearer) = self.verify_bearer(&tenant, &bearer, &ip, now).await?;
        telemetry::user(&id);
        // The one admin path that a customer's token opens, for its own id (docs/design/security.md#rule-21).
        if bearer.collection != Collection::Admin && bearer.user != id {
            return Err(Failure::Forbidden);
        }
        if others_only && (bearer.collection != Collection::Admin || bearer.user == id) {
            return Err(Failure::Forbidden);
        }
        let client = ip.client(&context.tenant.policy.trusted_proxies);
        let mut prepared = Prepared { client, ..Prepared::default() };
        let done = self.change(&context, &bearer, &id, &wanted, &mut prepared, now).await;
        if let Some((place, _)) = &prepared.proof {
            // The password was right, whatever came of it; and what was done is done.
            let guess = if done.is_ok() { Guess::Right } else { Guess::Unused };
            self.settle_quietly(&tenant, &id, place, guess).await;
        }
        done
    }

    async fn change(
        &self,
        context: &TenantContext,
        bearer: &Bearer,
        id: &UserId,
        wanted: &Wanted,
        prepared: &mut Prepared,
        now: Timestamp,
    ) -> Result<Outcome, Failure> {
        for _ in 0..TRIES {
            let caller = self.authenticate(context, bearer, Some(id), CodeIs::Unwanted, now).await?;
            let target = caller.target(id)?;
            let own = target.id == caller.user.id;
            permitted(&caller, wanted)?;
            if !own && wanted.current_password.is_some() {
                // A proof that nobody would look at must not seem to have been one.
                return Err(Failure::field(
                    "currentPassword",
                    "proves a change of your own: leave it out for others",
                ));
            }
            if wanted.password.is_none() && wanted.username.is_none() && wanted.change_required.is_none() {
                let details = UserDetails::of(target);
                return Ok(Outcome { user: id.clone(), updated: Vec::new(), sessions_revoked: 0, details });
            }
            let candidate = wanted.candidate(target);
            if let Some(candidate) = &candidate {
                candidate.judge(&context.tenant)?;
            }
            let change = GuardedChange { caller_session: &caller.session, caller: &caller.user, target, now };
            if own && (wanted.password.is_some() || wanted.username.is_some()) {
                self.prove(context, &caller, wanted, prepared, now).await?;
            }
            if let Some(candidate) = &candidate {
                self.prepare(context, &change, candidate, prepared).await?;
            }
            let credentials = CredentialChange {
                password: prepared.hash.clone(),
                history: target.history_after_change(context.tenant.policy.password_history),
                username: wanted.username.clone(),
                change_required: match (wanted.change_required, &wanted.password) {
                    (Some(required), _) => Some(required),
                    // A password of one's own choice is what the flag asks for; one that an
                    // administrator chose is known to two people.
                    (None, Some(_)) => Some(!own && context.tenant.policy.admin_set_password_expires),
                    (None, None) => None,
                },
                message: self.news(context, target, wanted, now)?,
            };
            match self.store.update_credentials(&change, &credentials).await? {
                Committed::Done => {
                    let sessions_revoked = prepared.sessions_revoked;
                    let details = UserDetails::after_change(target, now);
                    return Ok(Outcome {
                        user: id.clone(),
                        updated: updated(wanted),
                        sessions_revoked,
                        details,
                    });
                }
                Committed::UsernameTaken => return Err(Failure::UsernameTaken),
                // Read again: who asks, and whether it still may, shows at the head of the loop.
                Committed::CallerGone
                | Committed::TargetChanged
                | Committed::CodeChanged
                | Committed::SessionsChanged
                | Committed::Repeated => {}
            }
        }
        Err(Failure::Unavailable("the user kept changing".into()))
    }

    /// What the user is told of the change (docs/design/contract.md#update-credentials).
    fn news(
        &self,
        context: &TenantContext,
        target: &User,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Result<Option<Sealed>, Failure> {
        let news = match wanted {
            Wanted { password: Some(_), .. } => Notification::PasswordChanged,
            Wanted { username: Some(_), .. } => Notification::UsernameChanged,
            _ => return Ok(None),
        };
        self.message(context, &target.id, &news, now).map(Some)
    }

    /// The present password, against the attempts of the session's device; once, unless it changed
    /// since. So strangers cannot keep whoever is logged in from changing it (docs/design/security.md#rule-10). A session
    /// that has no device is a stranger, and takes its part of their budgets at once: that is rare, and
    /// needs no reading.
    async fn prove(
        &self,
        context: &TenantContext,
        caller: &Caller,
        wanted: &Wanted,
        prepared: &mut Prepared,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let user = &caller.user;
        let Some(current) = wanted.current_password.clone() else {
            return Err(Failure::field(
                "currentPassword",
                "is required to change your own password or username",
            ));
        };
        match prepared.proof.take() {
            Some((place, epoch)) if epoch == user.session_epoch => {
                prepared.proof = Some((place, epoch));
                return Ok(());
            }
            Some((place, _)) => self.settle_quietly(&user.tenant, &user.id, &place, Guess::Unused).await,
            None => {}
        }
        let policy = &context.tenant.policy;
        let proven_at = caller.session.created_at;
        let device = caller.session.proven_device.map(|id| KnownDevice { id, proven_at });
        let origin = Origin { device, ip: prepared.client };
        let mut place = self.reserve(&user.tenant, &user.id, origin, policy, now).await?;
        let budgets = place.origin.budgets(&user.tenant, &user.id, policy, now);
        let right = match self.take(&mut place, budgets).await {
            Ok(()) => self.verify_password(current, Some(user), policy).await,
            Err(failure) => Err(failure),
        };
        match right {
            Ok(true) => {
                prepared.proof = Some((place, user.session_epoch));
                Ok(())
            }
            Ok(false) => {
                self.settle(&user.tenant, &user.id, &place, Guess::Wrong).await?;
                Err(Failure::Authentication)
            }
            Err(failure) => {
                self.settle_quietly(&user.tenant, &user.id, &place, Guess::Unused).await;
                Err(failure)
            }
        }
    }

    /// Judges the new password against the last ones, once unless these changed; hashes it and counts
    /// the sessions that end with the old one, once.
    async fn prepare(
        &self,
        context: &TenantContext,
        change: &GuardedChange<'_>,
        candidate: &Candidate<'_>,
        prepared: &mut Prepared,
    ) -> Result<(), Failure> {
        let Tenant { policy, session_epoch, .. } = &*context.tenant;
        let epoch = Some(change.target.session_epoch);
        if prepared.fresh_under != epoch {
            // Who learns that a password is one of another's last pays for it with a change: no request
            // that fails for its name may tell.
            if looks_back(policy, change.target) > 0
                && !candidate.username.is_same(&change.target.username)
                && self.store.username_taken(&change.target.tenant, candidate.username).await?
            {
                return Err(Failure::UsernameTaken);
            }
            self.judge_history(policy, change.target, candidate).await?;
            prepared.fresh_under = epoch;
        }
        if prepared.hash.is_some() {
            return Ok(());
        }
        let except = change.is_own().then_some(&change.caller_session.id);
        let ending = SessionsOf::user(change.target, *session_epoch, change.now);
        let (hash, ended) = tokio::try_join!(
            self.passwords.hash(candidate.password.clone(), policy.hash_cost),
            self.store.count_sessions(&ending, except)
        )?;
        prepared.hash = Some(hash);
        prepared.sessions_revoked = ended;
        Ok(())
    }
}

/// # Errors
/// `Forbidden` for what this caller may never change.
fn permitted(caller: &Caller, wanted: &Wanted) -> Result<(), Failure> {
    // A restricted scope opens a change of its own password and nothing else.
    let restricted = caller.user.change_required;
    if wanted.change_required.is_some() && (!caller.is_administrator() || restricted) {
        return Err(Failure::Forbidden);
    }
    if restricted && wanted.username.is_some() {
        return Err(Failure::Forbidden);
    }
    Ok(())
}

fn updated(wanted: &Wanted) -> Vec<&'static str> {
    [
        wanted.password.is_some().then_some("password"),
        wanted.username.is_some().then_some("username"),
        wanted.change_required.is_some().then_some("changeRequired"),
    ]
    .into_iter()
    .flatten()
    .collect()
}
