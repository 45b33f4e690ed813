//! Asking for a reset code (docs/design/contract.md#zitadel-v2, PasswordReset).

use jiff::Timestamp;
use secrecy::SecretString;

use super::{
    Service, admit,
    code::{Sending, TRIES, within_budget},
    once::Asked,
};
use crate::{
    domain::{ClientAddress, Code, Collection, Failure, LinkTemplate, Medium, TenantId, UserDetails, UserId},
    port::{CodeIs, Committed, GuardedChange, NewCode, RecoveryItems, Success},
    secrets::TenantContext,
    telemetry,
    token::{Bearer, Repeatable, Unverified},
};

/// A request for a code.
#[derive(Debug)]
pub struct Command {
    /// Who asks.
    pub caller: Caller,
    /// Whose password it is for.
    pub user: UserId,
    /// What becomes of the code.
    pub delivery: Delivery,
    /// The client's address.
    pub ip: ClientAddress,
    /// What it is known again by, where it may be sent again.
    pub once: Option<Repeatable>,
}

/// Who asks for a code.
#[derive(Debug)]
pub enum Caller {
    /// The tenant itself, by what it sends to prove that.
    Tenant {
        /// Its id; `None` for one that no tenant can have.
        tenant: Option<TenantId>,
        /// `X-Tenant-Key`
        key: SecretString,
        /// `X-Tenant-Secret`
        secret: SecretString,
    },
    /// The user itself, or an administrator.
    Bearer {
        /// The tenant that the request names.
        tenant: TenantId,
        /// The token.
        token: Box<Unverified>,
    },
}

/// What becomes of a code.
#[derive(Debug)]
pub enum Delivery {
    /// It is sent to the user.
    Send {
        /// How.
        medium: Medium,
        /// The link's template; the tenant's own when absent.
        link: Option<String>,
    },
    /// It is the answer: for administrators.
    Return,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// The user's record; `None` for the tenant as caller, which learns nothing of it.
    pub details: Option<UserDetails>,
    /// The code, where it was to be returned.
    pub code: Option<Code>,
    /// When.
    pub asked_at: Timestamp,
}

impl Outcome {
    /// What the same request was told before.
    ///
    /// # Errors
    /// `IdempotencyExpired` for a code that was returned: it is kept nowhere.
    fn again(success: Success) -> Result<Self, Failure> {
        match success {
            Success::CodeSent { details, asked_at } => Ok(Self { details, code: None, asked_at }),
            Success::CodeReturned | Success::Session { .. } | Success::LoginReset(_) => {
                Err(Failure::IdempotencyExpired)
            }
        }
    }

    /// What to remember of it.
    fn success(&self) -> Success {
        let Self { details, code, asked_at } = self;
        match code {
            Some(_) => Success::CodeReturned,
            None => Success::CodeSent { details: details.clone(), asked_at: *asked_at },
        }
    }
}

impl Service {
    /// One read, one transaction: the code in the place of the one before, its message, and checks
    /// that the caller still may. Nothing else about the account changes. For the tenant itself the
    /// same is read and written whether the user exists or not (docs/design/security.md#rule-19).
    ///
    /// A code is returned for others only: whoever holds an administrator's token must not take its
    /// account over without its password.
    ///
    /// # Errors
    /// `Validation` (the template), `InvalidTenantCredentials`, `TenantMismatch`, `InvalidToken`,
    /// `Forbidden`, `UserNotFound`, `RateLimited`, `TenantSuspended`, `IpNotAllowed`,
    /// `IdempotencyMismatch`, `IdempotencyExpired`, `Unavailable`.
    pub async fn password_reset(&self, command: Command, now: Timestamp) -> Result<Outcome, Failure> {
        let Command { caller, user, delivery, ip, once } = command;
        telemetry::user(&user);
        match caller {
            Caller::Tenant { tenant, key, secret } => {
                let tenant = tenant.ok_or(Failure::InvalidTenantCredentials)?;
                let (context, used) = self.tenants.open(&tenant, &key, &secret, now).await?;
                admit(&context, &ip)?;
                let sending = sending(delivery, &context)?.ok_or(Failure::Forbidden)?;
                let asked = Asked::by(once, &tenant, None);
                let (outcome, ()) = tokio::join!(
                    self.reset_for_tenant(&context, &user, &sending, asked.as_ref(), now),
                    self.tenants.note(&tenant, &used, now)
                );
                outcome
            }
            Caller::Bearer { tenant, token } => {
                let (context, bearer) = self.verify_bearer(&tenant, &token, &ip, now).await?;
                if bearer.collection != Collection::Admin && bearer.user != user {
                    return Err(Failure::Forbidden);
                }
                let sending = sending(delivery, &context)?;
                let asked = Asked::by(once, &tenant, Some(&bearer.user));
                let wanted = (sending.as_ref(), asked.as_ref());
                self.reset_for_bearer(&context, &bearer, &user, wanted, now).await
            }
        }
    }

    async fn reset_for_tenant(
        &self,
        context: &TenantContext,
        id: &UserId,
        sending: &Sending,
        asked: Option<&Asked>,
        now: Timestamp,
    ) -> Result<Outcome, Failure> {
        for _ in 0..TRIES {
            let key = asked.map(Asked::key);
            let RecoveryItems { user, code, once } = self.store.recovery(&context.tenant.id, id, key).await?;
            if let Some((_, success)) = self.recall(context, asked, once, now).await? {
                return Outcome::again(success);
            }
            within_budget(code.as_ref(), context.tenant.policy.codes_per_hour, now)?;
            let user = (id, user.as_ref());
            let (code, _) = self.new_code(context, user, code.as_ref(), Some(sending), now)?;
            let outcome = Outcome { details: None, code: None, asked_at: now };
            let once = asked.map(|asked| asked.remember(outcome.success(), context, now)).transpose()?;
            if self.store.issue_code(None, &NewCode { once, ..code }).await? == Committed::Done {
                return Ok(outcome);
            }
        }
        Err(Failure::Unavailable("the user's code kept changing".into()))
    }

    async fn reset_for_bearer(
        &self,
        context: &TenantContext,
        bearer: &Bearer,
        id: &UserId,
        (sending, asked): (Option<&Sending>, Option<&Asked>),
        now: Timestamp,
    ) -> Result<Outcome, Failure> {
        for _ in 0..TRIES {
            let wanted = CodeIs::Wanted(asked.map(Asked::key));
            let caller = self.authenticate(context, bearer, Some(id), wanted, now).await?;
            // A restricted scope opens a change of its own password and nothing else (docs/design/security.md#rule-21).
            if caller.user.change_required {
                return Err(Failure::Forbidden);
            }
            let target = caller.target(id)?;
            let change = GuardedChange { caller_session: &caller.session, caller: &caller.user, target, now };
            if sending.is_none() && change.is_own() {
                return Err(Failure::Forbidden);
            }
            if let Some((_, success)) = self.recall(context, asked, caller.once.clone(), now).await? {
                return Outcome::again(success);
            }
            if sending.is_some() {
                within_budget(caller.code.as_ref(), context.tenant.policy.codes_per_hour, now)?;
            }
            let user = (id, Some(target));
            let (new, code) = self.new_code(context, user, caller.code.as_ref(), sending, now)?;
            let code = sending.is_none().then_some(code);
            let outcome = Outcome { details: Some(UserDetails::of(target)), code, asked_at: now };
            let once = asked.map(|asked| asked.remember(outcome.success(), context, now)).transpose()?;
            if self.store.issue_code(Some(&change), &NewCode { once, ..new }).await? == Committed::Done {
                return Ok(outcome);
            }
        }
        Err(Failure::Unavailable("the user's code kept changing".into()))
    }
}

/// How the code is sent; `None` when it is returned.
///
/// # Errors
/// `Validation` for a template that could lead anywhere but to the tenant's own hosts, or that would
/// leave a mail without its code.
fn sending(delivery: Delivery, context: &TenantContext) -> Result<Option<Sending>, Failure> {
    let Delivery::Send { medium, link } = delivery else {
        return Ok(None);
    };
    if let Some(link) = &link {
        let refused = |why: String| Failure::field("sendLink.urlTemplate", why);
        let template = LinkTemplate::parse(link, &context.tenant.policy.link_hosts);
        let template = template.map_err(|why| refused(why.to_string()))?;
        if medium == Medium::Mail && !template.has_code() {
            return Err(refused("must have {{.Code}} in a mail".to_owned()));
        }
    }
    Ok(Some(Sending { medium, link }))
}
