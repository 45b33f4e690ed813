//! Request for a reset code (docs/design/contract.md#zitadel-v2, PasswordReset).

use jiff::Timestamp;
use secrecy::SecretString;

use super::{
    Service,
    support::{
        caller::CallerToken,
        code::{Sending, TRIES, check_code_limit},
        idempotency::{IdempotentRequest, stored_success},
        tenant_request::TenantRequest,
    },
};
use crate::{
    context::RequestContext,
    domain::{
        ClientAddress, ClientScope, Code, CodePurpose, Denial, Failure, LinkTemplate, Medium, TenantId,
        UserDetails, UserId,
    },
    store::{ExtraItem, NewCode, Success, UserItems},
    token::{KeyOwner, KeyedRequest, Unverified},
};

/// A request for a reset code.
#[derive(Debug)]
pub struct Command {
    /// Caller.
    pub caller: CodeCaller,
    /// User whose password the code resets.
    pub user: UserId,
    /// Whether the code is sent or returned.
    pub delivery: CodeDelivery,
    /// Client address.
    pub ip: ClientAddress,
    /// Idempotency key and request fingerprint, if the client sent a key.
    pub idempotency: Option<KeyedRequest>,
}

/// The caller that requests a code.
#[derive(Debug)]
pub enum CodeCaller {
    /// The tenant itself, with its credentials.
    Tenant {
        /// Tenant id; `None` if the id in the request is not valid.
        tenant: Option<TenantId>,
        /// `X-Tenant-Key`
        key: SecretString,
        /// `X-Tenant-Secret`
        secret: SecretString,
    },
    /// The user itself, an administrator, or an API client.
    Bearer {
        /// Tenant that the request names.
        tenant: TenantId,
        /// Access token.
        token: Box<Unverified>,
    },
}

/// What happens with a code.
#[derive(Debug)]
pub enum CodeDelivery {
    /// The code is sent to the user.
    Send {
        /// Mail or text message.
        medium: Medium,
        /// Link template; `None` for the tenant's own.
        link: Option<String>,
    },
    /// The code is returned to the caller: an administrator, or an API client with the scope `recovery`.
    Return,
}

/// An issued code.
#[derive(Debug)]
pub struct Outcome {
    /// Details of the user; `None` for the tenant as caller, which learns nothing about the user, and for a client
    /// without the scope `recovery`.
    pub details: Option<UserDetails>,
    /// The code, if it is returned.
    pub code: Option<Code>,
    /// When the code was requested.
    pub asked_at: Timestamp,
}

impl Outcome {
    /// The outcome of a replayed request.
    ///
    /// # Errors
    /// `IdempotencyExpired` for a returned code, because codes are not stored.
    fn replayed(success: Success) -> Result<Self, Failure> {
        match success {
            Success::CodeSent { details, asked_at } => Ok(Self { details, code: None, asked_at }),
            Success::CodeReturned
            | Success::Session { .. }
            | Success::LoginReset { .. }
            | Success::UserCreated { .. } => Err(Failure::IdempotencyExpired),
        }
    }

    /// The part of the outcome that is stored for a replay.
    fn success(&self) -> Success {
        let Self { details, code, asked_at } = self;
        match code {
            Some(_) => Success::CodeReturned,
            None => Success::CodeSent { details: details.clone(), asked_at: *asked_at },
        }
    }
}

impl Service {
    /// Issues a code with one read and one transaction, which replaces the previous code and queues the message.
    /// For the caller's own account, it also checks that the caller's session is still live. Nothing else about the
    /// account changes. For the tenant as caller, the reads and writes are the same whether the user exists or not
    /// (docs/design/security.md#rule-19).
    ///
    /// An administrator receives codes only for other users. Otherwise a stolen administrator's token would be
    /// enough to set that administrator's password.
    ///
    /// # Errors
    /// `Validation` (of the template), `InvalidTenantCredentials`, `TenantMismatch`, `InvalidToken`,
    /// `Forbidden`, `UserNotFound`, `RateLimited`, `TenantSuspended`, `IpNotAllowed`, `IdempotencyMismatch`,
    /// `IdempotencyExpired`, `Unavailable`.
    pub async fn password_reset(
        &self,
        command: Command,
        context: &RequestContext,
    ) -> Result<Outcome, Failure> {
        let Command { caller, user, delivery, ip, idempotency } = command;
        context.record_user(&user);
        match caller {
            CodeCaller::Tenant { tenant, key, secret } => {
                let tenant = tenant.ok_or(Failure::InvalidTenantCredentials)?;
                let (request, used) =
                    TenantRequest::open(&self.tenants, context, &tenant, (&key, &secret)).await?;
                request.admit(&ip)?;
                let sending =
                    sending(delivery, &request)?.ok_or(Failure::Forbidden(Denial::TenantCredentials))?;
                let idempotent = IdempotentRequest::of(idempotency, &tenant, KeyOwner::Tenant);
                let (outcome, ()) = tokio::join!(
                    self.reset_for_tenant(&request, &user, &sending, idempotent.as_ref()),
                    self.tenants.note(&tenant, &used, context.now)
                );
                outcome
            }
            CodeCaller::Bearer { tenant, token } => {
                let (request, token) = self.verify_token(context, &tenant, &token, &ip).await?;
                if token.is_of_customer() && token.own(&user).is_none() {
                    return Err(Failure::Forbidden(Denial::CustomerToken));
                }
                let sending = sending(delivery, &request)?;
                let idempotent = IdempotentRequest::of(idempotency, &tenant, token.key_owner());
                self.reset_for_bearer(&request, &token, &user, sending.as_ref(), idempotent.as_ref()).await
            }
        }
    }

    async fn reset_for_tenant(
        &self,
        request: &TenantRequest<'_>,
        id: &UserId,
        sending: &Sending,
        idempotent: Option<&IdempotentRequest>,
    ) -> Result<Outcome, Failure> {
        for _ in 0..TRIES {
            let key = idempotent.map(IdempotentRequest::key);
            let UserItems { user, code, stored, .. } =
                self.store.recovery(&request.tenant.id, id, key).await?;
            if let Some(success) = stored_success(request, idempotent, stored)? {
                return Outcome::replayed(success);
            }
            check_code_limit(code.as_ref(), request)?;
            let (code, _) = self.new_code(
                request,
                (id, user.as_ref()),
                CodePurpose::Password,
                code.as_ref(),
                Some(sending),
            )?;
            let outcome = Outcome { details: None, code: None, asked_at: request.now() };
            let result = idempotent.map(|it| it.record(outcome.success(), request)).transpose()?;
            if self.store.issue_code(None, &NewCode { result, ..code }).await?.is_done()? {
                return Ok(outcome);
            }
        }
        Err(Failure::Unavailable("the user's code kept changing".into()))
    }

    async fn reset_for_bearer(
        &self,
        request: &TenantRequest<'_>,
        token: &CallerToken,
        id: &UserId,
        sending: Option<&Sending>,
        idempotent: Option<&IdempotentRequest>,
    ) -> Result<Outcome, Failure> {
        let now = request.now();
        for _ in 0..TRIES {
            let code = ExtraItem::Code(CodePurpose::Password, idempotent.map(IdempotentRequest::key));
            let caller = self.authenticate(request, token, Some(id), code).await?;
            caller.require_full_token()?;
            let target = match sending {
                None => caller.target(ClientScope::Recovery, id)?,
                // Every client may send a code to its users, as the tenant's own credentials may.
                Some(_) => caller.within_authority(id).ok_or(Failure::UserNotFound)?,
            };
            let change = caller.change(target, now);
            if sending.is_none() && change.is_own() {
                return Err(Failure::Forbidden(Denial::OwnAccount));
            }
            let stored = caller.stored.clone();
            if let Some(success) = stored_success(request, idempotent, stored)? {
                return Outcome::replayed(success);
            }
            if sending.is_some() {
                check_code_limit(caller.code.as_ref(), request)?;
            }
            let (new, code) = self.new_code(
                request,
                (id, Some(target)),
                CodePurpose::Password,
                caller.code.as_ref(),
                sending,
            )?;
            let code = sending.is_none().then_some(code);
            let details = caller.has(ClientScope::Recovery).then(|| UserDetails::of(target));
            let outcome = Outcome { details, code, asked_at: now };
            let result = idempotent.map(|it| it.record(outcome.success(), request)).transpose()?;
            if self.store.issue_code(Some(&change), &NewCode { result, ..new }).await?.is_done()? {
                return Ok(outcome);
            }
        }
        Err(Failure::Unavailable("the user's code kept changing".into()))
    }
}

/// How the code is sent; `None` if it is returned.
///
/// # Errors
/// `Validation` for a template that leads to a host outside the tenant's list, or that leaves a mail without
/// its code.
fn sending(delivery: CodeDelivery, request: &TenantRequest<'_>) -> Result<Option<Sending>, Failure> {
    let CodeDelivery::Send { medium, link } = delivery else {
        return Ok(None);
    };
    if let Some(link) = &link {
        let refused = |why: String| Failure::field("sendLink.urlTemplate", why);
        let template = LinkTemplate::parse(link, &request.policy().link_hosts);
        let template = template.map_err(|why| refused(why.to_string()))?;
        if medium == Medium::Mail && !template.has_code() {
            return Err(refused("must contain {{.Code}} for a mail".to_owned()));
        }
    }
    Ok(Some(Sending { medium, link }))
}
