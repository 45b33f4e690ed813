//! Changes of a user's name, profile and addresses (docs/design/contract.md#users).

use super::{
    SentToken, Service,
    support::{
        address::{AddressCodes, AddressProof, NewAddress},
        caller::Caller,
        code::TRIES,
        tenant_request::TenantRequest,
    },
};
use crate::{
    context::RequestContext,
    domain::{
        ClientScope, Code, CodePurpose, Denial, Failure, Gender, Notification, Profile, User, UserDetails,
        UserId, Username,
    },
    store::{Committed, ExtraItem, Guard, UserExtras},
};

/// A change of a user.
#[derive(Debug)]
pub struct Command {
    /// Caller.
    pub by: SentToken,
    /// User to change.
    pub user: UserId,
    /// Changes.
    pub changes: UserChanges,
}

/// The requested changes; may be empty.
#[derive(Debug, Default)]
pub struct UserChanges {
    /// New username.
    pub username: Option<Username>,
    /// Changes of the profile.
    pub profile: ProfileChanges,
    /// New mail address.
    pub email: Option<NewAddress>,
    /// New phone number.
    pub phone: Option<NewAddress>,
    /// Whether the phone number is removed.
    pub removes_phone: bool,
}

/// Changes of a profile. `None` keeps a field, `Some(None)` removes it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ProfileChanges {
    /// Given name.
    pub given_name: Option<Option<String>>,
    /// Family name.
    pub family_name: Option<Option<String>>,
    /// Nick name.
    pub nick_name: Option<Option<String>>,
    /// Display name.
    pub display_name: Option<Option<String>>,
    /// Gender.
    pub gender: Option<Option<Gender>>,
    /// Preferred language.
    pub locale: Option<Option<String>>,
}

/// A changed user.
#[derive(Debug)]
pub struct Outcome {
    /// Details of the user after the change.
    pub details: UserDetails,
    /// Code that verifies the mail address, if it is returned.
    pub email_code: Option<Code>,
    /// Code that verifies the phone number, if it is returned.
    pub phone_code: Option<Code>,
}

impl UserChanges {
    /// Whether the change needs more than the token of the user itself. With a stolen token, a thief could otherwise
    /// set an address, and then the password (docs/design/security.md#rule-30).
    fn needs_authority(&self) -> bool {
        self.username.is_some() || self.email.is_some() || self.phone.is_some() || self.removes_phone
    }

    /// The user after the change.
    fn apply(&self, user: &User) -> User {
        let ProfileChanges { given_name, family_name, nick_name, display_name, gender, locale } =
            &self.profile;
        let kept =
            |change: &Option<Option<String>>, old: &Option<String>| change.clone().unwrap_or(old.clone());
        let mut new = User {
            profile: Profile {
                given_name: kept(given_name, &user.profile.given_name),
                family_name: kept(family_name, &user.profile.family_name),
                nick_name: kept(nick_name, &user.profile.nick_name),
                display_name: kept(display_name, &user.profile.display_name),
                gender: gender.unwrap_or(user.profile.gender),
            },
            locale: kept(locale, &user.locale),
            username: self.username.clone().unwrap_or_else(|| user.username.clone()),
            ..user.clone()
        };
        if let Some(email) = &self.email {
            (new.email, new.unverified_email) = email.stored();
        }
        if let Some(phone) = &self.phone {
            (new.phone, new.unverified_phone) = phone.stored();
        } else if self.removes_phone {
            (new.phone, new.unverified_phone) = (None, None);
        }
        new
    }
}

impl Service {
    /// Changes a user with one read and one transaction. A new username moves its item, and a new address invalidates
    /// the codes of the old one. New codes and messages are part of the transaction. A code adds one read.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `UserNotFound`, `Validation` (of a template), `UsernameTaken`,
    /// `RateLimited`, `TenantSuspended`, `IpNotAllowed`, `Unavailable`.
    pub async fn update_user(&self, command: Command, context: &RequestContext) -> Result<Outcome, Failure> {
        let Command { by, user: id, changes } = command;
        let (request, token) = self.verify_token(context, &by.tenant, &by.token, &by.ip).await?;
        context.record_user(&id);
        if token.is_of_customer() && token.own(&id).is_none() {
            return Err(Failure::Forbidden(Denial::CustomerToken));
        }
        for address in [&changes.email, &changes.phone].into_iter().flatten() {
            address.proof.check_link(&request)?;
        }
        for _ in 0..TRIES {
            let caller = self.authenticate(&request, &token, Some(&id), ExtraItem::None).await?;
            caller.require(ClientScope::UsersWrite)?;
            let target = caller.target(ClientScope::UsersWrite, &id)?;
            if changes.needs_authority() && token.own(&id).is_some() {
                return Err(Failure::Forbidden(Denial::OwnAccount));
            }
            let new = User { changed_at: context.now, ..changes.apply(target) };
            if new.has_same_content(&User { changed_at: context.now, ..target.clone() })
                && !changes.needs_authority()
            {
                let details = UserDetails::of(target);
                return Ok(Outcome { details, email_code: None, phone_code: None });
            }
            match self.commit_update(&request, &caller, target, &new, &changes).await? {
                (Committed::Done, outcome) => return Ok(outcome),
                (Committed::Refused(Guard::Username), _) => return Err(Failure::UsernameTaken),
                (committed, _) => {
                    committed.is_done()?;
                }
            }
        }
        Err(Failure::Unavailable("the user kept changing".into()))
    }

    async fn commit_update(
        &self,
        request: &TenantRequest<'_>,
        caller: &Caller,
        target: &User,
        new: &User,
        changes: &UserChanges,
    ) -> Result<(Committed, Outcome), Failure> {
        let mut codes = AddressCodes::default();
        for (address, purpose) in [(&changes.email, CodePurpose::Email), (&changes.phone, CodePurpose::Phone)]
        {
            let Some(NewAddress { proof, .. }) = address else { continue };
            if *proof != AddressProof::Verified {
                let before = self.store.code(&target.tenant, &target.id, purpose).await?;
                self.add_address_code(&mut codes, request, (new, purpose), before.as_ref(), proof)?;
            }
        }
        let is_renamed = new.username != target.username;
        let notification = Notification::UsernameChanged;
        let message =
            is_renamed.then(|| self.sealed_notification(request, &target.id, &notification)).transpose()?;
        let AddressCodes { stored, email: email_code, phone: phone_code } = codes;
        let extras =
            UserExtras { codes: stored, messages: message.into_iter().collect(), ..UserExtras::default() };
        let change = caller.change(target, request.now());
        let committed = self.store.change_user(&change, new, &extras).await?;
        let details = UserDetails::after_change(target, request.now());
        Ok((committed, Outcome { details, email_code, phone_code }))
    }
}
