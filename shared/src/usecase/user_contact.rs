//! Codes that verify a user's mail address and phone number (docs/design/contract.md#users).

use super::{
    SentToken, Service,
    support::{
        address::{AddressCodes, AddressProof},
        caller::{Caller, CallerToken},
        code::TRIES,
        tenant_request::TenantRequest,
    },
};
use crate::{
    context::RequestContext,
    domain::{
        ClientScope, Code, CodeKind, CodePurpose, Denial, Failure, ResetCode, User, UserDetails, UserId,
    },
    store::{CodeTry, ExtraItem, SpentCode, UserExtras},
};

/// A request for a code that verifies a mail address.
#[derive(Debug)]
pub struct CodeRequest {
    /// Caller.
    pub by: SentToken,
    /// User whose address is verified.
    pub user: UserId,
    /// Whether the code is sent or returned.
    pub proof: AddressProof,
}

/// An issued code.
#[derive(Debug)]
pub struct IssuedCode {
    /// Details of the user.
    pub details: UserDetails,
    /// The code, if it is returned.
    pub code: Option<Code>,
}

/// A code that verifies an address.
#[derive(Debug)]
pub struct Proof {
    /// Caller.
    pub by: SentToken,
    /// User whose address is verified.
    pub user: UserId,
    /// Kind of the address.
    pub purpose: CodePurpose,
    /// The code.
    pub code: Code,
}

impl Service {
    /// Issues a code that verifies the user's mail address, with one read and one transaction. A user cannot receive the
    /// code of the own address in the response, because the code proves that the user reads its mail.
    ///
    /// # Errors
    /// `Validation` (of the template), `TenantMismatch`, `InvalidToken`, `Forbidden`, `UserNotFound`,
    /// `UserStatusConflict` if no address waits for verification, `RateLimited`, `TenantSuspended`, `IpNotAllowed`,
    /// `Unavailable`.
    pub async fn send_email_code(
        &self,
        command: CodeRequest,
        context: &RequestContext,
    ) -> Result<IssuedCode, Failure> {
        let CodeRequest { by, user: id, proof } = command;
        let (request, token) = self.admit_for_contact(&by, &id, context).await?;
        proof.check_link(&request)?;
        if proof == AddressProof::ReturnCode && token.own(&id).is_some() {
            return Err(Failure::Forbidden(Denial::OwnAccount));
        }
        let purpose = CodePurpose::Email;
        for _ in 0..TRIES {
            let caller = self.contact_caller(&request, &token, &id, ExtraItem::Code(purpose, None)).await?;
            let target = caller.target(ClientScope::UsersWrite, &id)?;
            if target.unverified_email.is_none() {
                return Err(Failure::UserStatusConflict);
            }
            let mut codes = AddressCodes::default();
            self.add_address_code(&mut codes, &request, (target, purpose), caller.code.as_ref(), &proof)?;
            let change = caller.change(target, context.now);
            let Some(new) = codes.stored.first() else { break };
            if self.store.issue_code(Some(&change), new).await?.is_done()? {
                return Ok(IssuedCode { details: UserDetails::of(target), code: codes.email });
            }
        }
        Err(Failure::Unavailable("the user's code kept changing".into()))
    }

    /// Verifies an address with a code. Reserves one of the tries of a typed code, then spends the code and changes the
    /// user in one transaction.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `UserNotFound`, `InvalidCode`, `TenantSuspended`, `IpNotAllowed`,
    /// `Unavailable`.
    pub async fn verify_address(
        &self,
        command: Proof,
        context: &RequestContext,
    ) -> Result<UserDetails, Failure> {
        let Proof { by, user: id, purpose, code } = command;
        let (request, token) = self.admit_for_contact(&by, &id, context).await?;
        let attempt = CodeTry {
            tenant: &by.tenant,
            user: &id,
            purpose,
            id: self.attempt_id(context.now)?,
            now: context.now,
        };
        // The caller must be known before a try is reserved, so that only it can use up the tries.
        self.contact_caller(&request, &token, &id, ExtraItem::None)
            .await?
            .target(ClientScope::UsersWrite, &id)?;
        let done = self.spend_address_code(&request, &token, &attempt, &code).await;
        // Only a wrong code costs a try.
        if code.kind() == CodeKind::Typed
            && !matches!(done, Err(Failure::InvalidCode))
            && let Err(failure) = self.store.release_code_try(&attempt).await
        {
            tracing::warn!(%failure, "code_try.not_given_back");
        }
        done
    }

    async fn spend_address_code(
        &self,
        request: &TenantRequest<'_>,
        token: &CallerToken,
        attempt: &CodeTry<'_>,
        code: &Code,
    ) -> Result<UserDetails, Failure> {
        let CodeTry { tenant, user: id, purpose, now, .. } = *attempt;
        let stored = match code.kind() {
            CodeKind::Typed => self.store.reserve_code_try(attempt).await?,
            CodeKind::Link => self.store.code(tenant, id, purpose).await?,
        };
        let is_live = |stored: &ResetCode| stored.ends_at > now && stored.spent.is_none();
        let proof = stored.filter(is_live).and_then(|stored| stored.proof);
        let proof = proof.filter(|proof| proof.is(code, purpose, (tenant, id), &request.keys));
        let proof = proof.ok_or(Failure::InvalidCode)?;
        let submission = attempt.id.to_string();
        for _ in 0..TRIES {
            let caller = self.contact_caller(request, token, id, ExtraItem::None).await?;
            let target = caller.target(ClientScope::UsersWrite, id)?;
            let new = User { changed_at: now, ..verified(target, purpose).ok_or(Failure::InvalidCode)? };
            let spent = SpentCode { purpose, proof: proof.clone(), submission: submission.clone() };
            let extras = UserExtras { spent: Some(spent), ..UserExtras::default() };
            let change = caller.change(target, now);
            if self.store.change_user(&change, &new, &extras).await?.is_done()? {
                return Ok(UserDetails::after_change(target, now));
            }
            let again = self.store.code(tenant, id, purpose).await?;
            let is_same =
                again.is_some_and(|again| again.spent.is_none() && again.proof.as_ref() == Some(&proof));
            if !is_same {
                return Err(Failure::InvalidCode);
            }
        }
        Err(Failure::Unavailable("the user kept changing".into()))
    }

    async fn admit_for_contact<'r>(
        &self,
        by: &SentToken,
        id: &UserId,
        context: &'r RequestContext,
    ) -> Result<(TenantRequest<'r>, CallerToken), Failure> {
        let (request, token) = self.verify_token(context, &by.tenant, &by.token, &by.ip).await?;
        context.record_user(id);
        if token.is_of_customer() && token.own(id).is_none() {
            return Err(Failure::Forbidden(Denial::CustomerToken));
        }
        Ok((request, token))
    }

    async fn contact_caller(
        &self,
        request: &TenantRequest<'_>,
        token: &CallerToken,
        id: &UserId,
        extra: ExtraItem<'_>,
    ) -> Result<Caller, Failure> {
        let caller = self.authenticate(request, token, Some(id), extra).await?;
        caller.require(ClientScope::UsersWrite)?;
        Ok(caller)
    }
}

/// The user after the verification; `None` if no address waits for it.
fn verified(user: &User, purpose: CodePurpose) -> Option<User> {
    let mut new = user.clone();
    match purpose {
        CodePurpose::Email => new.email = Some(new.unverified_email.take()?),
        CodePurpose::Phone => new.phone = Some(new.unverified_phone.take()?),
        CodePurpose::Password => return None,
    }
    Some(new)
}
