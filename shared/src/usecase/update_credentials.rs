//! Changing a user's password, name or flags (contract, "Update credentials").

use std::net::IpAddr;

use jiff::Timestamp;

use super::{Service, authenticate::Caller, guess::Place, reset_login::TRIES};
use crate::{
    domain::{Collection, Failure, Password, PasswordHash, TenantId, TokenFault, User, UserId, Username},
    port::{Committed, CredentialChange, GuardedChange},
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
    /// The client's address.
    pub ip: Option<IpAddr>,
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

/// What was changed.
#[derive(Debug)]
pub struct Outcome {
    /// Whose credentials.
    pub user: UserId,
    /// The fields that changed, as clients name them.
    pub updated: Vec<&'static str>,
    /// How many live sessions the change ended.
    pub sessions_revoked: u64,
}

impl Service {
    /// One read, one transaction; with `currentPassword` an attempt's reservation before it and its
    /// success after it.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `UserNotFound`, `Validation`, `PasswordPolicy`,
    /// `Authentication`, `AccountLocked`, `RateLimited`, `UsernameTaken`, `TenantSuspended`,
    /// `IpNotAllowed`, `Unavailable`.
    pub async fn update_credentials(&self, command: Command, now: Timestamp) -> Result<Outcome, Failure> {
        let Command {
            tenant,
            bearer,
            user: id,
            wanted,
            ip,
        } = command;
        let (context, bearer) = self.verify_bearer(&tenant, &bearer, ip, now).await?;
        telemetry::user(&id);
        // The one admin path that a customer's token opens, for its own id (security 21).
        if bearer.collection != Collection::Admin && bearer.user != id {
            return Err(Failure::Forbidden);
        }
        let mut proof = None;
        let done = self
            .change(&context, &bearer, &id, &wanted, &mut proof, now)
            .await;
        if let Some(place) = &proof {
            match done {
                Ok(_) => self.forgive(&tenant, &id, place).await?,
                // The password was right, whatever came of it.
                Err(_) => self.give_back(&tenant, &id, place).await?,
            }
        }
        done
    }

    async fn change(
        &self,
        context: &TenantContext,
        bearer: &Bearer,
        id: &UserId,
        wanted: &Wanted,
        proof: &mut Option<Place>,
        now: Timestamp,
    ) -> Result<Outcome, Failure> {
        let mut hash = None;
        for _ in 0..TRIES {
            let caller = self.authenticate(context, bearer, Some(id), now).await?;
            let target = target(&caller, id)?;
            let own = target.id == caller.user.id;
            permitted(&caller, own, bearer.collection, wanted)?;
            if wanted.password.is_none() && wanted.username.is_none() && wanted.change_required.is_none() {
                return Ok(Outcome {
                    user: id.clone(),
                    updated: Vec::new(),
                    sessions_revoked: 0,
                });
            }
            judge_password(context, target, wanted)?;
            if own && proof.is_none() && (wanted.password.is_some() || wanted.username.is_some()) {
                *proof = Some(self.prove(context, &caller.user, wanted, now).await?);
            }
            if hash.is_none() {
                hash = self.hash_new(context, wanted).await?;
            }
            let change = GuardedChange {
                caller_session: &caller.session,
                caller: &caller.user,
                target,
                now,
            };
            let (committed, sessions_revoked) = self.commit(context, &change, wanted, hash.as_ref()).await?;
            match committed {
                Committed::Done => {
                    return Ok(Outcome {
                        user: id.clone(),
                        updated: updated(wanted),
                        sessions_revoked,
                    });
                }
                Committed::UsernameTaken => return Err(Failure::UsernameTaken),
                Committed::CallerGone => return Err(Failure::InvalidToken(TokenFault::SessionGone)),
                Committed::TargetChanged => {}
            }
        }
        Err(Failure::Unavailable("the user kept changing".into()))
    }

    /// The present password, against the user's attempt budget.
    async fn prove(
        &self,
        context: &TenantContext,
        user: &User,
        wanted: &Wanted,
        now: Timestamp,
    ) -> Result<Place, Failure> {
        let Some(current) = wanted.current_password.clone() else {
            return Err(Failure::field(
                "currentPassword",
                "is required to change your own password or username",
            ));
        };
        let policy = &context.tenant.policy;
        let place = self.reserve(&user.tenant, &user.id, policy, now).await?;
        if self.verify_password(current, Some(user), policy).await? {
            Ok(place)
        } else {
            self.count_failure(&user.tenant, &user.id, &place).await?;
            Err(Failure::Authentication)
        }
    }

    async fn hash_new(
        &self,
        context: &TenantContext,
        wanted: &Wanted,
    ) -> Result<Option<PasswordHash>, Failure> {
        match &wanted.password {
            Some((password, _)) => self
                .passwords
                .hash(password.clone(), context.tenant.policy.hash_cost)
                .await
                .map(Some),
            None => Ok(None),
        }
    }

    /// The transaction, and how many sessions end with it.
    async fn commit(
        &self,
        context: &TenantContext,
        change: &GuardedChange<'_>,
        wanted: &Wanted,
        hash: Option<&PasswordHash>,
    ) -> Result<(Committed, u64), Failure> {
        let own = change.is_own();
        let change_required = match (wanted.change_required, &wanted.password) {
            (Some(required), _) => Some(required),
            // A password of one's own choice is what the flag asks for; one that an administrator
            // chose is known to two people.
            (None, Some(_)) => Some(!own && context.tenant.policy.admin_set_password_expires),
            (None, None) => None,
        };
        let credentials = CredentialChange {
            password: hash.cloned(),
            username: wanted.username.clone(),
            change_required,
        };
        // Counted before the change ends them.
        let ended = match hash {
            Some(_) => {
                let except = own.then_some(&change.caller_session.id);
                self.store
                    .live_sessions(change.target, context.tenant.session_epoch, except, change.now)
                    .await?
            }
            None => 0,
        };
        Ok((self.store.update_credentials(change, &credentials).await?, ended))
    }
}

fn target<'a>(caller: &'a Caller, id: &UserId) -> Result<&'a User, Failure> {
    match &caller.other {
        _ if caller.user.id == *id => Ok(&caller.user),
        Some(other) if caller.may_administer(other) => Ok(other),
        // An administrator whose password must change may do nothing to others, whoever they are.
        _ if caller.user.change_required => Err(Failure::Forbidden),
        _ => Err(Failure::UserNotFound),
    }
}

/// # Errors
/// `Forbidden` for what this caller may never change.
fn permitted(caller: &Caller, own: bool, collection: Collection, wanted: &Wanted) -> Result<(), Failure> {
    let administrator = collection == Collection::Admin && caller.user.is_administrator();
    if !own && !administrator {
        return Err(Failure::Forbidden);
    }
    // A restricted scope opens a change of its own password and nothing else.
    let restricted = caller.user.change_required;
    if wanted.change_required.is_some() && (!administrator || restricted) {
        return Err(Failure::Forbidden);
    }
    if restricted && (wanted.username.is_some() || !own) {
        return Err(Failure::Forbidden);
    }
    Ok(())
}

/// # Errors
/// `PasswordPolicy` with every rule that the new password breaks.
fn judge_password(context: &TenantContext, target: &User, wanted: &Wanted) -> Result<(), Failure> {
    let Some((password, field)) = &wanted.password else {
        return Ok(());
    };
    let username = wanted.username.as_ref().unwrap_or(&target.username);
    match context
        .tenant
        .policy
        .password
        .broken_rules(password, field, username)
    {
        broken if broken.is_empty() => Ok(()),
        broken => Err(Failure::PasswordPolicy(broken)),
    }
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
