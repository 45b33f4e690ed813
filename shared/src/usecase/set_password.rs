//! Setting a password with a reset code (docs/design/contract.md#zitadel-v2, SetPassword; the hosted page).

use jiff::Timestamp;
use secrecy::SecretString;

use super::{Service, admit, client, code::TRIES, new_password::Candidate};
use crate::{
    domain::{
        ClientAddress, Code, CodeKind, Failure, Notification, Password, PasswordHash, Policy, ResetCode,
        TenantId, User, UserDetails, UserId, UserStatus,
    },
    port::{BudgetOf, CodeTry, Committed, HourBudget, Recovery, RecoveryItems},
    secrets::TenantContext,
    telemetry,
    token::TenantKeys,
};

/// A new password, and the code that allows it.
#[derive(Debug)]
pub struct Command {
    /// The tenant that the request names; `None` for an id that no tenant can have.
    pub tenant: Option<TenantId>,
    /// Whose password.
    pub user: UserId,
    /// The code.
    pub code: Code,
    /// The new password, and the field it came in.
    pub password: (Password, &'static str),
    /// Names this submission of a form: sent twice, the second is the first's success again.
    pub submission: Option<SecretString>,
    /// The client's address.
    pub ip: ClientAddress,
}

/// A code that was right when it was read, with what stands behind it.
struct Proven {
    user: User,
    code: ResetCode,
    /// What uses it up, as it is kept with a spent code.
    submission: String,
}

impl Proven {
    /// Whether this very submission used the code up already.
    fn is_repeated(&self) -> bool {
        self.code.spent.as_ref() == Some(&self.submission)
    }
}

impl Service {
    /// The count of the address, then try and user in parallel, then one transaction: the code is used
    /// up, the password set, the user's sessions, its lockout and a login reset end, all or nothing.
    /// The count comes first: an address that has used its budget up must not keep a code's tries
    /// busy. Nothing is hashed before the code was right (docs/design/security.md#rule-11), and what is asked of storage
    /// until then is the same whether user and code exist or not.
    ///
    /// # Errors
    /// `InvalidCode`, `PasswordPolicy` (the code lives on), `RateLimited`, `TenantSuspended`,
    /// `IpNotAllowed`, `Unavailable`.
    pub async fn set_password(&self, command: Command, now: Timestamp) -> Result<UserDetails, Failure> {
        let Command { tenant, user: id, code, password, submission, ip } = command;
        telemetry::user(&id);
        let tenant = tenant.ok_or(Failure::InvalidCode)?;
        let context = self.tenants.find(&tenant, now).await?.ok_or(Failure::InvalidCode)?;
        let max = context.tenant.policy.wrong_codes_per_ip;
        let of = BudgetOf::WrongCodes(client(&context, &ip));
        let budget = HourBudget { tenant: tenant.clone(), of, max, now };
        let attempt = CodeTry { tenant: &tenant, user: &id, id: self.attempt_id(now)?, now };
        if !self.store.take_from_budget(&budget).await? {
            return Err(budget.exhausted());
        }
        let done = match self.check_code(context, &attempt, &code, submission).await {
            Ok(Some((context, proven))) => self.recover(&context, proven, password, &ip, now).await,
            Ok(None) => Err(Failure::InvalidCode),
            Err(failure) => Err(failure),
        };
        // What was right, or never judged, costs nobody a try: faults of ours least of all.
        if !matches!(done, Err(Failure::InvalidCode)) {
            self.give_back(&attempt, code.kind(), &budget).await;
        }
        done
    }

    /// The user and its code, if that is live and the one presented; with the keys that tell.
    async fn check_code(
        &self,
        context: TenantContext,
        attempt: &CodeTry<'_>,
        code: &Code,
        submission: Option<SecretString>,
    ) -> Result<Option<(TenantContext, Proven)>, Failure> {
        let CodeTry { tenant, user: id, now, .. } = *attempt;
        let RecoveryItems { user, code: kept, once: _ } = self.find_code(attempt, code.kind()).await?;
        let Some((user, kept)) = user.zip(kept) else {
            return Ok(None);
        };
        let Some(proof) = kept.proof.clone() else {
            return Ok(None);
        };
        // A root key that is not known may be a fresh one.
        let known = |keys: &TenantKeys| keys.has_root(proof.key_version);
        let context = self.tenants.with_key(context, now, known, Failure::InvalidCode).await?;
        let submission = match submission {
            Some(text) => context.keys.submission_digest(tenant, id, &text),
            // Of no form, but known again where the answer to its write is lost.
            None => attempt.id.to_string(),
        };
        let proven = Proven { user, code: kept, submission };
        let is_live = proven.code.ends_at > now && (proven.code.spent.is_none() || proven.is_repeated());
        let is_right = proof.is(code, tenant, id, &context.keys);
        let is_proven = is_right && is_live && proven.user.status == UserStatus::Active;
        Ok(is_proven.then_some((context, proven)))
    }

    /// The user and its code; of a typed code, one try is taken with it.
    async fn find_code(&self, attempt: &CodeTry<'_>, kind: CodeKind) -> Result<RecoveryItems, Failure> {
        match kind {
            CodeKind::Link => self.store.recovery(attempt.tenant, attempt.user, None).await,
            CodeKind::Typed => {
                let (code, user) = tokio::join!(
                    self.store.reserve_code_try(attempt),
                    self.store.user(attempt.tenant, attempt.user)
                );
                Ok(RecoveryItems { user: user?, code: code?, once: None })
            }
        }
    }

    /// Gives back what was taken; what cannot be given back is logged.
    async fn give_back(&self, attempt: &CodeTry<'_>, kind: CodeKind, budget: &HourBudget) {
        let a_try = async {
            match kind {
                CodeKind::Link => Ok(()),
                CodeKind::Typed => self.store.release_code_try(attempt).await,
            }
        };
        let (a_try, count) = tokio::join!(a_try, self.store.return_to_budget(budget));
        if let Err(failure) = a_try.and(count) {
            tracing::warn!(%failure, "code_try.not_given_back");
        }
    }

    async fn recover(
        &self,
        context: &TenantContext,
        mut proven: Proven,
        (password, field): (Password, &'static str),
        ip: &ClientAddress,
        now: Timestamp,
    ) -> Result<UserDetails, Failure> {
        admit(context, ip)?;
        let policy = &context.tenant.policy;
        let mut hashed: Option<PasswordHash> = None;
        for _ in 0..TRIES {
            if proven.is_repeated() {
                return self.repeat(&proven.user, password, policy).await;
            }
            let Proven { user, code, submission } = &proven;
            let candidate = Candidate { password: &password, field, username: &user.username };
            candidate.judge(&context.tenant)?;
            self.judge_history(policy, user, &candidate).await?;
            let hash = match hashed.take() {
                Some(hash) => hash,
                None => self.passwords.hash(password.clone(), policy.hash_cost).await?,
            };
            let recovery = Recovery {
                user,
                code,
                submission,
                password: hash.clone(),
                history: user.history_after_change(policy.password_history),
                message: self.message(context, &user.id, &Notification::PasswordChanged, now)?,
                now,
            };
            if self.commit(&recovery).await? == Committed::Done {
                return Ok(UserDetails::after_change(user, now));
            }
            // Read again: the same form sent twice finds its own success.
            hashed = Some(hash);
            let again = self.store.recovery(&user.tenant, &user.id, None).await?;
            let (Some(user), Some(code)) = (again.user, again.code) else {
                return Err(Failure::InvalidCode);
            };
            let is_same = code.id == proven.code.id && user.status == UserStatus::Active;
            proven = Proven { user, code, submission: proven.submission };
            if !is_same || (proven.code.spent.is_some() && !proven.is_repeated()) {
                return Err(Failure::InvalidCode);
            }
        }
        Err(Failure::Unavailable("the user kept changing".into()))
    }

    /// Commits a recovery; where the answer to that is lost, the table tells.
    async fn commit(&self, recovery: &Recovery<'_>) -> Result<Committed, Failure> {
        match self.store.recover(recovery).await {
            Err(failure @ Failure::Unavailable(_)) => {
                let again = self.store.recovery(&recovery.user.tenant, &recovery.user.id, None).await?;
                let spent = again.code.and_then(|code| code.spent);
                if spent.as_deref() == Some(recovery.submission) { Ok(Committed::Done) } else { Err(failure) }
            }
            committed => committed,
        }
    }

    /// A form sent again: a success once more if it holds the password that it set.
    async fn repeat(&self, user: &User, password: Password, policy: &Policy) -> Result<UserDetails, Failure> {
        if self.verify_password(password, Some(user), policy).await? {
            Ok(UserDetails::of(user))
        } else {
            Err(Failure::InvalidCode)
        }
    }
}
