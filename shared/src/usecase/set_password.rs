//! Setting a password with a reset code (docs/design/contract.md#zitadel-v2, SetPassword; the hosted page).

use secrecy::SecretString;

use super::{
    Service,
    support::{code::TRIES, new_password::Candidate, tenant_request::TenantRequest},
};
use crate::{
    context::RequestContext,
    domain::{
        BudgetOf, ClientAddress, Code, CodeKind, CodeProof, CodePurpose, Failure, HourBudget, Notification,
        Password, PasswordHash, ResetCode, TenantId, TokenFault, User, UserDetails, UserId,
    },
    store::{CodeTry, Committed, Recovery, UserItems},
    token::{AccessToken, Unverified},
};

/// A new password, with the code that authorizes it.
#[derive(Debug)]
pub struct Command {
    /// Tenant that the request names; `None` if it names none, or if the id is not valid.
    pub tenant: Option<TenantId>,
    /// Access token of the sender, if it sent one. It names the tenant and authorizes nothing.
    pub bearer: Option<Unverified>,
    /// User whose password is set.
    pub user: UserId,
    /// Reset code.
    pub code: Code,
    /// New password, and the request field that held it.
    pub password: (Password, &'static str),
    /// Id of one submission of a form. If the form is submitted twice, the second submission returns the result
    /// of the first.
    pub submission: Option<SecretString>,
    /// Client address.
    pub ip: ClientAddress,
}

/// A reset code that matched the stored code when it was checked, and its user.
struct ProvenCode {
    user: User,
    code: ResetCode,
    /// Stored hash that the presented code matched.
    proof: CodeProof,
    /// Value that marks the code as spent: digest of the form's submission, or id of this try.
    submission: String,
}

impl ProvenCode {
    /// Whether this submission already spent the code.
    fn is_resubmitted(&self) -> bool {
        self.code.spent.as_ref() == Some(&self.submission)
    }
}

impl Service {
    /// Sets a password in three rounds of DynamoDB calls:
    /// 1. It takes one unit from the budget of the client address.
    /// 2. It reserves a try of the code and reads the user, in parallel.
    /// 3. It commits one transaction, which spends the code, sets the password, and ends the user's sessions,
    ///    lockout and login reset.
    ///
    /// The budget comes first, because an address over its limit must not use up the tries of a code. No password
    /// is hashed until the code has proved correct (docs/design/security.md#rule-11). Before that, the calls do not
    /// depend on whether the user and the code exist.
    ///
    /// # Errors
    /// `InvalidCode`; `InvalidToken` and `TenantMismatch` of a token that names the tenant; `PasswordPolicy` (the code
    /// stays valid); `RateLimited`; `TenantSuspended`;
    /// `IpNotAllowed`; `Unavailable`.
    pub async fn set_password(
        &self,
        command: Command,
        context: &RequestContext,
    ) -> Result<UserDetails, Failure> {
        let Command { tenant, bearer, user: id, code, password, submission, ip } = command;
        context.record_user(&id);
        let now = context.now;
        let request = self.find_tenant_of_code(context, tenant.as_ref(), bearer).await?;
        let tenant = request.tenant.id.clone();
        let max = request.policy().wrong_codes_per_ip;
        let of = BudgetOf::WrongCodes(request.client(&ip));
        let budget = HourBudget { tenant: tenant.clone(), of, max, now };
        let attempt = CodeTry {
            tenant: &tenant,
            user: &id,
            purpose: CodePurpose::Password,
            id: self.attempt_id(now)?,
            now,
        };
        if !self.store.take_from_budget(&budget).await? {
            return Err(budget.exhausted());
        }
        let done = match self.check_code(&request, &attempt, &code, submission).await {
            Ok(Some(proven)) => self.recover(&request, proven, password, &ip).await,
            Ok(None) => Err(Failure::InvalidCode),
            Err(failure) => Err(failure),
        };
        // Only a wrong code costs a try; a right code and a server error do not.
        if !matches!(done, Err(Failure::InvalidCode)) {
            self.give_back(&attempt, code.kind(), &budget).await;
        }
        done
    }

    /// Finds the tenant of a code: the tenant of a valid access token, otherwise the one that the request names. The
    /// session or client behind the token is not checked, because the code alone authorizes the change.
    ///
    /// # Errors
    /// `TenantMismatch` if both name different tenants; `InvalidToken` for an invalid token without a named tenant;
    /// `InvalidCode` for an unknown tenant; `Unavailable`.
    async fn find_tenant_of_code<'r>(
        &self,
        context: &'r RequestContext,
        named: Option<&TenantId>,
        bearer: Option<Unverified>,
    ) -> Result<TenantRequest<'r>, Failure> {
        if let Some(bearer) = bearer {
            match (self.find_tenant_of_token(context, &bearer).await, named) {
                (Ok(request), Some(named)) if request.tenant.id != *named => {
                    return Err(Failure::TenantMismatch);
                }
                (Ok(request), _) => return Ok(request),
                (Err(failure), None) => return Err(failure),
                (Err(_), Some(_)) => {}
            }
        }
        let named = named.ok_or(Failure::InvalidCode)?;
        TenantRequest::find(&self.tenants, context, named).await?.ok_or(Failure::InvalidCode)
    }

    /// The tenant that signed a token, if the token is valid now.
    async fn find_tenant_of_token<'r>(
        &self,
        context: &'r RequestContext,
        token: &Unverified,
    ) -> Result<TenantRequest<'r>, Failure> {
        let request = TenantRequest::find(&self.tenants, context, token.tenant()).await?;
        let request = request.ok_or(Failure::InvalidToken(TokenFault::UnknownKey))?;
        let is_expired = match token.verify(&request.keys, &request.tenant, context.now)? {
            AccessToken::User(bearer) => bearer.expired,
            AccessToken::Client(bearer) => bearer.expired,
        };
        if is_expired { Err(Failure::InvalidToken(TokenFault::Expired)) } else { Ok(request) }
    }

    /// The user and its code, if the code is live and equals the presented one.
    async fn check_code(
        &self,
        request: &TenantRequest<'_>,
        attempt: &CodeTry<'_>,
        code: &Code,
        submission: Option<SecretString>,
    ) -> Result<Option<ProvenCode>, Failure> {
        let CodeTry { tenant, user: id, now, .. } = *attempt;
        let UserItems { user, code: stored, .. } = self.find_code(attempt, code.kind()).await?;
        let Some((user, stored)) = user.zip(stored) else {
            return Ok(None);
        };
        let Some(proof) = stored.proof.clone() else {
            return Ok(None);
        };
        let submission = match submission {
            Some(text) => request.keys.submission_digest(tenant, id, &text)?,
            // If the response to the commit is lost, the stored ID of this try shows that the commit succeeded.
            None => attempt.id.to_string(),
        };
        let is_right = proof.is(code, attempt.purpose, (tenant, id), &request.keys);
        let proven = ProvenCode { user, code: stored, proof, submission };
        let is_live = proven.code.ends_at > now && (proven.code.spent.is_none() || proven.is_resubmitted());
        let is_proven = is_right && is_live && proven.user.is_active();
        Ok(is_proven.then_some(proven))
    }

    /// Reads the user and its code. Reserves one of the tries of a typed code.
    async fn find_code(&self, attempt: &CodeTry<'_>, kind: CodeKind) -> Result<UserItems, Failure> {
        match kind {
            CodeKind::Link => self.store.recovery(attempt.tenant, attempt.user, None).await,
            CodeKind::Typed => {
                let (code, user) = tokio::join!(
                    self.store.reserve_code_try(attempt),
                    self.store.user(attempt.tenant, attempt.user)
                );
                Ok(UserItems { user: user?, code: code?, ..UserItems::default() })
            }
        }
    }

    /// Gives back the try and the unit of the address budget; logs a failure.
    async fn give_back(&self, attempt: &CodeTry<'_>, kind: CodeKind, budget: &HourBudget) {
        let release = async {
            match kind {
                CodeKind::Link => Ok(()),
                CodeKind::Typed => self.store.release_code_try(attempt).await,
            }
        };
        let (released, returned) = tokio::join!(release, self.store.return_to_budget(budget));
        if let Err(failure) = released.and(returned) {
            tracing::warn!(%failure, "code_try.not_given_back");
        }
    }

    async fn recover(
        &self,
        request: &TenantRequest<'_>,
        mut proven: ProvenCode,
        (password, field): (Password, &'static str),
        ip: &ClientAddress,
    ) -> Result<UserDetails, Failure> {
        request.admit(ip)?;
        let (policy, now) = (request.policy(), request.now());
        let mut hashed: Option<PasswordHash> = None;
        for _ in 0..TRIES {
            if proven.is_resubmitted() {
                return self.replay_submission(request, &proven.user, password).await;
            }
            let ProvenCode { user, proof, submission, .. } = &proven;
            let candidate = Candidate { password: &password, field, username: &user.username };
            candidate.check(&request.tenant)?;
            self.check_history(request, user, &candidate).await?;
            let hash = match hashed.take() {
                Some(hash) => hash,
                None => self.passwords.hash(password.clone(), policy.hash_cost).await?,
            };
            let recovery = Recovery {
                user,
                proof,
                submission,
                password: hash.clone(),
                history: user.history_after_change(policy.password_history),
                message: self.sealed_notification(request, &user.id, &Notification::PasswordChanged)?,
                now,
            };
            if self.commit_recovery(&recovery).await?.is_done()? {
                return Ok(UserDetails::after_change(user, now));
            }
            // Read user and code again. The other change may be a second submission of the same form.
            hashed = Some(hash);
            let again = self.store.recovery(&user.tenant, &user.id, None).await?;
            let (Some(user), Some(code)) = (again.user, again.code) else {
                return Err(Failure::InvalidCode);
            };
            // An invalidated code has no hash, and a newer code has another one.
            let is_same = code.proof.as_ref() == Some(&proven.proof) && user.is_active();
            proven = ProvenCode { user, code, ..proven };
            if !is_same || (proven.code.spent.is_some() && !proven.is_resubmitted()) {
                return Err(Failure::InvalidCode);
            }
        }
        Err(Failure::Unavailable("the user kept changing".into()))
    }

    /// Commits a recovery. If the response is lost, reads whether the write succeeded.
    async fn commit_recovery(&self, recovery: &Recovery<'_>) -> Result<Committed, Failure> {
        match self.store.recover(recovery).await {
            Err(failure @ Failure::Unavailable(_)) => {
                let again = self.store.recovery(&recovery.user.tenant, &recovery.user.id, None).await?;
                let spent = again.code.and_then(|code| code.spent);
                if spent.as_deref() == Some(recovery.submission) { Ok(Committed::Done) } else { Err(failure) }
            }
            committed => committed,
        }
    }

    /// Returns the result for a form that was submitted again. It is a success if the form contains the password
    /// that the first submission set.
    async fn replay_submission(
        &self,
        request: &TenantRequest<'_>,
        user: &User,
        password: Password,
    ) -> Result<UserDetails, Failure> {
        if self.verify_password(request, password, Some(user)).await?.is_right() {
            Ok(UserDetails::of(user))
        } else {
            Err(Failure::InvalidCode)
        }
    }
}
