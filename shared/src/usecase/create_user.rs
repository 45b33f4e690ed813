//! Creation of a user (docs/design/contract.md#users).

use super::{
    SentToken, Service,
    support::{
        address::{AddressCodes, NewAddress},
        code::TRIES,
        idempotency::{IdempotentRequest, stored_success},
        new_password::Candidate,
        tenant_request::TenantRequest,
    },
};
use crate::{
    context::RequestContext,
    domain::{
        Code, CodePurpose, Collection, CustomerId, Failure, Metadata, OrganizationId, Password, PasswordHash,
        Profile, Role, User, UserDetails, UserId, UserStatus, Username,
    },
    password::random_hash,
    port::random,
    store::{Committed, ExtraItem, Guard, Success, UserExtras},
    token::KeyedRequest,
};

/// A creation of a user.
#[derive(Debug)]
pub struct Command {
    /// Caller.
    pub by: SentToken,
    /// The user.
    pub user: NewUserData,
    /// Idempotency key and request fingerprint, if the client sent a key.
    pub idempotency: Option<KeyedRequest>,
}

/// Data of a user to create.
#[derive(Debug)]
pub struct NewUserData {
    /// ID that the client chose; `None` for a random UUID.
    pub id: Option<UserId>,
    /// Organization that owns the user.
    pub organization: OrganizationId,
    /// Username.
    pub username: Username,
    /// Names and gender.
    pub profile: Profile,
    /// Preferred language.
    pub locale: Option<String>,
    /// Mail address.
    pub email: Option<NewAddress>,
    /// Phone number.
    pub phone: Option<NewAddress>,
    /// Password. Without one, the user sets it with a reset code.
    pub password: Option<NewPassword>,
    /// Roles.
    pub roles: Vec<Role>,
    /// Customer that the user belongs to.
    pub customer: Option<CustomerId>,
    /// Customer collection that the user logs in through.
    pub customer_kind: Option<Collection>,
    /// Metadata.
    pub metadata: Metadata,
}

/// A first password.
#[derive(Debug)]
pub enum NewPassword {
    /// Password in plain text.
    Plain {
        /// The password.
        password: Password,
        /// Request field that held the password.
        field: &'static str,
        /// Whether the password must be changed at the next login.
        change_required: bool,
    },
    /// Hash that another system made.
    Hashed {
        /// The hash.
        hash: PasswordHash,
        /// Whether the password must be changed at the next login.
        change_required: bool,
    },
}

/// A created user.
#[derive(Debug)]
pub struct Outcome {
    /// User ID.
    pub user: UserId,
    /// Details of the user.
    pub details: UserDetails,
    /// Code that verifies the mail address, if it is returned.
    pub email_code: Option<Code>,
    /// Code that verifies the phone number, if it is returned.
    pub phone_code: Option<Code>,
}

impl Outcome {
    /// The outcome of a replayed request.
    ///
    /// # Errors
    /// `IdempotencyExpired` for returned codes, because codes are not stored.
    fn replayed(success: Success) -> Result<Self, Failure> {
        match success {
            Success::UserCreated { user, details } => {
                Ok(Self { user, details, email_code: None, phone_code: None })
            }
            _ => Err(Failure::IdempotencyExpired),
        }
    }

    /// The part of the outcome that is stored for a replay.
    fn success(&self) -> Success {
        if self.email_code.is_some() || self.phone_code.is_some() {
            return Success::CodeReturned;
        }
        Success::UserCreated { user: self.user.clone(), details: self.details.clone() }
    }
}

impl Service {
    /// Creates a user with one read and one transaction, which also reserves the username and queues the codes that
    /// verify the addresses. A password in plain text adds its hash and a second read of the caller.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `Validation` (of a template), `PasswordPolicy`, `UsernameTaken`
    /// (also for a taken user ID), `TenantSuspended`, `IpNotAllowed`, `IdempotencyMismatch`, `IdempotencyExpired`,
    /// `Unavailable`.
    pub async fn create_user(&self, command: Command, context: &RequestContext) -> Result<Outcome, Failure> {
        let Command { by, user: data, idempotency } = command;
        let (request, token) = self.verify_token(context, &by.tenant, &by.token, &by.ip).await?;
        token.admit_to(Collection::Admin)?;
        let id = match &data.id {
            Some(id) => id.clone(),
            None => UserId::from_random(random(&*self.entropy)?),
        };
        let idempotent = IdempotentRequest::of(idempotency, &by.tenant, token.key_owner());
        let key = idempotent.as_ref().map(IdempotentRequest::key);
        let mut hashed: Option<PasswordHash> = None;
        // Each round reads the caller again, and checks whether it may still act and whether it already did.
        for _ in 0..TRIES {
            let caller = self.authenticate(&request, &token, None, ExtraItem::Result(key)).await?;
            caller.may_create_in(&data.organization, &data.roles)?;
            if let Some(success) = stored_success(&request, idempotent.as_ref(), caller.stored.clone())? {
                let outcome = Outcome::replayed(success)?;
                context.record_user(&outcome.user);
                return Ok(outcome);
            }
            context.record_user(&id);
            for address in [&data.email, &data.phone].into_iter().flatten() {
                address.proof.check_link(&request)?;
            }
            let (password, change_required) = match (&data.password, &hashed) {
                (Some(NewPassword::Plain { password, field, .. }), None) => {
                    let candidate = Candidate { password, field, username: &data.username };
                    candidate.check(&request.tenant)?;
                    let cost = request.policy().hash_cost;
                    hashed = Some(self.passwords.hash(password.clone(), cost).await?);
                    // The caller may have ended during the hashing (docs/design/decisions/ended-callers.md).
                    continue;
                }
                (Some(NewPassword::Plain { change_required, .. }), Some(hash))
                | (Some(NewPassword::Hashed { hash, change_required }), _) => {
                    (Some(hash.clone()), *change_required)
                }
                (None, _) => (None, false),
            };
            let user = self.user_of(&request, &id, &data, (password, change_required))?;
            let mut codes = AddressCodes::default();
            for (address, purpose) in [(&data.email, CodePurpose::Email), (&data.phone, CodePurpose::Phone)] {
                if let Some(NewAddress { proof, .. }) = address {
                    self.add_address_code(&mut codes, &request, (&user, purpose), None, proof)?;
                }
            }
            let AddressCodes { stored: codes, email: email_code, phone: phone_code } = codes;
            let outcome =
                Outcome { user: id.clone(), details: UserDetails::of(&user), email_code, phone_code };
            let result = idempotent.as_ref().map(|it| it.record(outcome.success(), &request)).transpose()?;
            let extras = UserExtras { codes, result, ..UserExtras::default() };
            match self.store.add_user(&user, &extras, context.now).await? {
                committed if committed.is_done()? => return Ok(outcome),
                Committed::Refused(Guard::Username) => return Err(Failure::UsernameTaken),
                _ => {}
            }
        }
        Err(Failure::Unavailable("the creation kept conflicting with other requests".into()))
    }

    /// The user to store. Without a password, no password logs in until a reset code sets one.
    fn user_of(
        &self,
        request: &TenantRequest<'_>,
        id: &UserId,
        data: &NewUserData,
        (password, change_required): (Option<PasswordHash>, bool),
    ) -> Result<User, Failure> {
        let now = request.now();
        let reset_required = password.is_none();
        let (email, unverified_email) = data.email.as_ref().map(NewAddress::stored).unwrap_or_default();
        let (phone, unverified_phone) = data.phone.as_ref().map(NewAddress::stored).unwrap_or_default();
        Ok(User {
            tenant: request.tenant.id.clone(),
            id: id.clone(),
            username: data.username.clone(),
            password: match password {
                Some(hash) => hash,
                None => random_hash(&*self.entropy, request.policy().hash_cost)?,
            },
            organization: data.organization.clone(),
            customer: data.customer.clone(),
            customer_kind: data.customer_kind,
            roles: data.roles.clone(),
            password_history: Vec::new(),
            email,
            phone,
            unverified_email,
            unverified_phone,
            profile: data.profile.clone(),
            metadata: data.metadata.clone(),
            locale: data.locale.clone(),
            status: UserStatus::Active,
            session_epoch: 0,
            proofs_epoch: 0,
            sessions_revision: 0,
            reset_required,
            change_required,
            sequence: 0,
            created_at: now,
            changed_at: now,
        })
    }
}
