//! Change of a user's password, username or flags (docs/design/contract.md#update-credentials).

use std::net::IpAddr;

use super::{
    Service,
    support::{
        caller::{Caller, CallerToken},
        code::TRIES,
        new_password::{Candidate, history_length},
        password_attempt::{AttemptSlot, AttemptSource},
        tenant_request::TenantRequest,
    },
};
use crate::{
    context::RequestContext,
    domain::{
        ClientAddress, ClientScope, Denial, Failure, Notification, Password, PasswordHash, Session, TenantId,
        TrustedDevice, User, UserDetails, UserId, Username,
    },
    store::{Committed, CredentialChange, ExtraItem, Guard, GuardedChange, Sealed, SessionsOf},
    token::Unverified,
};

/// A change of credentials.
#[derive(Debug)]
pub struct Command {
    /// Tenant that the request names.
    pub tenant: TenantId,
    /// Access token of the user, of an administrator or of an API client.
    pub bearer: Unverified,
    /// User whose credentials change.
    pub user: UserId,
    /// Changes.
    pub changes: Changes,
    /// Whether the caller must be an administrator of another user, because the route does not serve changes
    /// of the caller's own credentials (docs/design/contract.md#ocariot-v1).
    pub others_only: bool,
    /// Client address.
    pub ip: ClientAddress,
}

/// The requested changes; may be empty.
#[derive(Debug, Default)]
pub struct Changes {
    /// New password, and the request field that held it.
    pub password: Option<(Password, &'static str)>,
    /// Current password. It authorizes a change of the caller's own password or username.
    pub current_password: Option<Password>,
    /// New username.
    pub username: Option<Username>,
    /// Whether the password must be changed at the next login.
    pub change_required: Option<bool>,
}

impl Changes {
    fn candidate<'a>(&'a self, target: &'a User) -> Option<Candidate<'a>> {
        self.password.as_ref().map(|(password, field)| Candidate {
            password,
            field,
            username: self.username.as_ref().unwrap_or(&target.username),
        })
    }

    /// Names of the changed fields, as clients know them.
    fn names(&self) -> Vec<&'static str> {
        [
            self.password.is_some().then_some("password"),
            self.username.is_some().then_some("username"),
            self.change_required.is_some().then_some("changeRequired"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Changed credentials.
#[derive(Debug)]
pub struct Outcome {
    /// User.
    pub user: UserId,
    /// Names of the changed fields, as clients know them.
    pub updated: Vec<&'static str>,
    /// Number of live sessions that the change ended, if they could be counted.
    pub sessions_revoked: Option<u64>,
    /// Details of the user after the change.
    pub details: UserDetails,
}

/// Results that are kept from one try of a change to the next.
#[derive(Default)]
struct Prepared<'a> {
    ip: Option<IpAddr>,
    /// The current password was right, under this session epoch of its user.
    proof: Option<(AttemptSlot<'a>, u64)>,
    /// The new password differs from the last ones, under this session epoch of its user.
    history_checked_under: Option<u64>,
    hash: Option<PasswordHash>,
    sessions_revoked: Option<u64>,
}

impl Service {
    /// Changes credentials with one read and one transaction. Two changes add work:
    /// - A new password: its hash, and in parallel a query that counts the sessions it ends. If the caller sets the
    ///   password of another user, a second read follows.
    /// - `currentPassword`: one write that reserves an attempt slot, and one that ends it.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `UserNotFound`, `Validation`, `PasswordPolicy`,
    /// `Authentication`, `AccountLocked`, `PasswordDisabled`, `RateLimited`, `UsernameTaken`,
    /// `TenantSuspended`, `IpNotAllowed`, `Unavailable`.
    pub async fn update_credentials(
        &self,
        command: Command,
        context: &RequestContext,
    ) -> Result<Outcome, Failure> {
        let Command { tenant, bearer, user: id, changes, others_only, ip } = command;
        let (request, token) = self.verify_token(context, &tenant, &bearer, &ip).await?;
        context.record_user(&id);
        // A customer's token opens this one admin path, for its own id (docs/design/security.md#rule-21).
        let is_own = token.own(&id).is_some();
        if token.is_of_customer() && (!is_own || others_only) {
            return Err(Failure::Forbidden(Denial::CustomerToken));
        }
        if others_only && is_own {
            return Err(Failure::Forbidden(Denial::OwnAccount));
        }
        let ip = ip.client(&request.policy().trusted_proxies);
        let mut prepared = Prepared { ip, sessions_revoked: Some(0), ..Prepared::default() };
        let done = self.change(&request, &token, &id, &changes, &mut prepared).await;
        if let Some((slot, _)) = prepared.proof {
            // The current password was right; the change may have failed for another reason.
            if done.is_ok() { slot.right().await } else { slot.unused().await }
        }
        done
    }

    async fn change<'a>(
        &'a self,
        request: &'a TenantRequest<'a>,
        token: &CallerToken,
        id: &UserId,
        changes: &Changes,
        prepared: &mut Prepared<'a>,
    ) -> Result<Outcome, Failure> {
        let (policy, now) = (request.policy(), request.now());
        // Each round reads the caller again and checks whether it may still act.
        for _ in 0..TRIES {
            let caller = self.authenticate(request, token, Some(id), ExtraItem::None).await?;
            let target = caller.target(ClientScope::UsersWrite, id)?;
            let change = caller.change(target, now);
            let own = change.is_own();
            check_permitted(&caller, changes)?;
            if !own && changes.current_password.is_some() {
                // The password would not be verified. Ignoring it would suggest that it was.
                return Err(Failure::field(
                    "currentPassword",
                    "is accepted only for a change of your own credentials; omit it for other users",
                ));
            }
            if changes.names().is_empty() {
                let details = UserDetails::of(target);
                let sessions_revoked = prepared.sessions_revoked;
                return Ok(Outcome { user: id.clone(), updated: Vec::new(), sessions_revoked, details });
            }
            let candidate = changes.candidate(target);
            if let Some(candidate) = &candidate {
                candidate.check(&request.tenant)?;
            }
            if let Some(session) = change.own_session
                && (changes.password.is_some() || changes.username.is_some())
            {
                self.verify_current_password(request, (session, target), changes, prepared).await?;
            }
            if let Some(candidate) = &candidate {
                let took_time = self.prepare_password(request, &change, candidate, prepared).await?;
                if took_time && !own {
                    // The caller may have ended during the hashing, and the transaction does not check it
                    // (docs/design/decisions/ended-callers.md).
                    continue;
                }
            }
            let credentials = CredentialChange {
                password: prepared.hash.clone(),
                history: target.history_after_change(policy.password_history),
                username: changes.username.clone(),
                change_required: match (changes.change_required, &changes.password) {
                    (Some(required), _) => Some(required),
                    // A password that the user chose satisfies the flag. One that an administrator chose is
                    // known to two people.
                    (None, Some(_)) => Some(!own && policy.admin_set_password_expires),
                    (None, None) => None,
                },
                message: self.change_notification(request, target, changes)?,
            };
            match self.store.update_credentials(&change, &credentials).await? {
                committed if committed.is_done()? => {
                    return Ok(Outcome {
                        user: id.clone(),
                        updated: changes.names(),
                        sessions_revoked: prepared.sessions_revoked,
                        details: UserDetails::after_change(target, now),
                    });
                }
                Committed::Refused(Guard::Username) => return Err(Failure::UsernameTaken),
                _ => {}
            }
        }
        Err(Failure::Unavailable("the user kept changing".into()))
    }

    /// The notification of the change to the user (docs/design/contract.md#update-credentials).
    fn change_notification(
        &self,
        request: &TenantRequest<'_>,
        target: &User,
        changes: &Changes,
    ) -> Result<Option<Sealed>, Failure> {
        let notification = match changes {
            Changes { password: Some(_), .. } => Notification::PasswordChanged,
            Changes { username: Some(_), .. } => Notification::UsernameChanged,
            _ => return Ok(None),
        };
        self.sealed_notification(request, &target.id, &notification).map(Some)
    }

    /// Verifies the caller's current password once, and again only if the password changed since.
    ///
    /// The attempt counts against the device of the session, so that failures of unknown devices cannot keep a
    /// logged-in user from changing its password (docs/design/security.md#rule-10). A session without a device
    /// counts as an unknown device. That is rare, so its budgets are charged without reading them first.
    async fn verify_current_password<'a>(
        &'a self,
        request: &'a TenantRequest<'a>,
        (session, user): (&Session, &User),
        changes: &Changes,
        prepared: &mut Prepared<'a>,
    ) -> Result<(), Failure> {
        let Some(current) = changes.current_password.clone() else {
            return Err(Failure::field(
                "currentPassword",
                "is required to change your own password or username",
            ));
        };
        match prepared.proof.take() {
            Some((slot, epoch)) if epoch == user.session_epoch => {
                prepared.proof = Some((slot, epoch));
                return Ok(());
            }
            Some((slot, _)) => slot.unused().await,
            None => {}
        }
        let user_epoch = session.user_epoch;
        let device = session.proven_device.map(|id| TrustedDevice { id, user_epoch });
        let source = AttemptSource { device, ip: prepared.ip };
        let mut slot = self.reserve_attempt(request, &user.id, source).await?;
        let right = match slot.charge_all().await {
            Ok(()) => self.verify_password(request, current, Some(user)).await,
            Err(failure) => Err(failure),
        };
        match right {
            Ok(checked) if checked.is_right() => {
                prepared.proof = Some((slot, user.session_epoch));
                Ok(())
            }
            Ok(_) => {
                let count = slot.wrong().await?;
                request.context.record_reason("WRONG_PASSWORD");
                Err(Failure::Authentication(count))
            }
            Err(failure) => {
                slot.unused().await;
                Err(failure)
            }
        }
    }

    /// Compares the new password with the last ones, hashes it, and counts the sessions that the change ends.
    /// Repeats the comparison only if the user's password changed since. Returns whether it compared or hashed a
    /// password, which takes long enough for the caller's session to end meanwhile.
    async fn prepare_password(
        &self,
        request: &TenantRequest<'_>,
        change: &GuardedChange<'_>,
        candidate: &Candidate<'_>,
        prepared: &mut Prepared<'_>,
    ) -> Result<bool, Failure> {
        let policy = request.policy();
        let epoch = Some(change.target.session_epoch);
        let compares = prepared.history_checked_under != epoch;
        if compares {
            // A failed comparison discloses that the password is one of the target's last ones. Such a
            // disclosure must cost the caller a change, so a request that fails for its username stops here.
            if history_length(policy, change.target) > 0
                && !candidate.username.is_same(&change.target.username)
                && self.store.username_taken(&change.target.tenant, candidate.username).await?
            {
                return Err(Failure::UsernameTaken);
            }
            self.check_history(request, change.target, candidate).await?;
            prepared.history_checked_under = epoch;
        }
        if prepared.hash.is_some() {
            return Ok(compares);
        }
        let except = change.own_session.map(|session| &session.id);
        let ending = SessionsOf::user(change.target, request.tenant.session_epoch, change.now);
        let (hash, ended) = tokio::join!(
            self.passwords.hash(candidate.password.clone(), policy.hash_cost),
            self.store.count_sessions(&ending, except)
        );
        prepared.hash = Some(hash?);
        prepared.sessions_revoked = ended;
        Ok(true)
    }
}

/// Checks that the caller may make these changes.
///
/// # Errors
/// `Forbidden`.
fn check_permitted(caller: &Caller, changes: &Changes) -> Result<(), Failure> {
    if changes.change_required.is_some() && !caller.is_administrator() {
        return Err(Failure::Forbidden(Denial::NoAdministrator));
    }
    // A token with a restricted scope allows only a change of the caller's own password.
    if changes.change_required.is_some() || changes.username.is_some() {
        caller.require_full_token()?;
    }
    Ok(())
}
