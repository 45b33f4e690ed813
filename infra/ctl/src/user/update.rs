//! `doorwardctl user update`

use anyhow::{Result, bail};
use doorward::{
    domain::{Failure, Metadata, Profile, Role, User},
    function::SystemClock,
    port::Clock,
};

use super::{
    args::{UnsetField, UpdateUser, UserRef},
    create::hashed,
    described, metadata, tenant,
};
use crate::{Context, output::UsageError};

impl UpdateUser {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let record = tenant(context, &self.user.tenant).await?;
        self.check_consistency()?;
        let user_ref = self.user.find(context).await?;
        let UserRef { tenant: tenant_id, user } = &user_ref;
        let password = match self.password.read(context.output)? {
            None => None,
            Some(password) => {
                let known = context.store.user(tenant_id, user).await?.ok_or_else(|| user_ref.unknown())?;
                let username = self.username.as_ref().unwrap_or(&known.username);
                Some(hashed(&record, username, &password, Some(&known)).await?)
            }
        };
        let now = SystemClock.now();
        let change = |old: &User| {
            let mut new = User { changed_at: now, ..old.clone() };
            if let Some(hash) = &password {
                new.password_history = old.history_after_change(record.policy.password_history);
                new.password = hash.clone();
                new.reset_required = false;
                // The operator and the user both know this password.
                new.change_required = record.policy.admin_set_password_expires;
            }
            self.apply(&mut new)?;
            Ok(new)
        };
        match context.store.update_user(tenant_id, user, change).await {
            Ok(Some(known)) => {
                context.output.result(&described(&known), || format!("Updated user {user}."))?;
                if self.customer_type.is_some() && known.customer_kind.is_none() {
                    bail!(
                        "user {user} has no customer, so --customer-type was ignored; other changes were made"
                    );
                }
                Ok(())
            }
            Ok(None) => Err(user_ref.unknown()),
            Err(Failure::UsernameTaken) => bail!("another user has this username; nothing changed"),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Checks that the arguments do not contradict each other.
    ///
    /// # Errors
    /// [`UsageError`] if a field is both set and unset, or if the arguments set a customer type and unset the
    /// customer.
    fn check_consistency(&self) -> Result<()> {
        let set = [
            (UnsetField::Customer, self.customer.is_some()),
            (UnsetField::CustomerType, self.customer_type.is_some()),
            (UnsetField::Email, self.email.is_some() || self.unverified_email.is_some()),
            (UnsetField::Phone, self.phone.is_some() || self.unverified_phone.is_some()),
            (UnsetField::Locale, self.locale.is_some()),
            (UnsetField::GivenName, self.profile.given_name.is_some()),
            (UnsetField::FamilyName, self.profile.family_name.is_some()),
            (UnsetField::NickName, self.profile.nick_name.is_some()),
            (UnsetField::DisplayName, self.profile.display_name.is_some()),
            (UnsetField::Gender, self.profile.gender.is_some()),
        ];
        if set.iter().any(|(field, is_set)| *is_set && self.unset.contains(field)) {
            bail!(UsageError("a field is both set and unset; pass only one of the two".to_owned()));
        }
        if self.customer_type.is_some() && self.unset.contains(&UnsetField::Customer) {
            bail!(UsageError("--customer-type needs a customer, but --unset customer removes it".to_owned()));
        }
        Ok(())
    }

    /// Applies the arguments to a user.
    ///
    /// # Errors
    /// `Validation` if the new metadata breaks a limit.
    fn apply(&self, user: &mut User) -> Result<(), Failure> {
        fn put<T: Clone>(wanted: Option<&T>, place: &mut T) {
            if let Some(wanted) = wanted {
                place.clone_from(wanted);
            }
        }
        let unset = |field| self.unset.contains(&field);
        let old = std::mem::take(&mut user.metadata);
        let old = if unset(UnsetField::Metadata) { Metadata::default() } else { old };
        user.metadata = metadata::changed(&old, &self.profile.metadata, &self.unset_metadata)
            .map_err(|invalid| Failure::field("metadata", invalid.to_string()))?;
        put(self.username.as_ref(), &mut user.username);
        put(self.organization.as_ref(), &mut user.organization);
        put(self.change_required.as_ref(), &mut user.change_required);
        if !self.roles.is_empty() {
            user.roles = Role::ordered(&self.roles);
        }
        let merged = |old: &Option<String>, new: &Option<String>, field| {
            new.clone().or_else(|| old.clone().filter(|_| !unset(field)))
        };
        (user.email, user.unverified_email) = address(
            (&self.email, &self.unverified_email),
            (user.email.take(), user.unverified_email.take()),
            unset(UnsetField::Email),
        );
        (user.phone, user.unverified_phone) = address(
            (&self.phone, &self.unverified_phone),
            (user.phone.take(), user.unverified_phone.take()),
            unset(UnsetField::Phone),
        );
        let kept = std::mem::take(&mut user.profile);
        user.profile = self.profile.applied(Profile {
            given_name: kept.given_name.filter(|_| !unset(UnsetField::GivenName)),
            family_name: kept.family_name.filter(|_| !unset(UnsetField::FamilyName)),
            nick_name: kept.nick_name.filter(|_| !unset(UnsetField::NickName)),
            display_name: kept.display_name.filter(|_| !unset(UnsetField::DisplayName)),
            gender: kept.gender.filter(|_| !unset(UnsetField::Gender)),
        });
        user.locale = merged(&user.locale, &self.locale, UnsetField::Locale);
        user.customer =
            self.customer.clone().or_else(|| user.customer.take().filter(|_| !unset(UnsetField::Customer)));
        // A user without a customer has no customer type.
        let kind = self.customer_type.or(user.customer_kind.filter(|_| !unset(UnsetField::CustomerType)));
        user.customer_kind = kind.filter(|_| user.customer.is_some());
        Ok(())
    }
}

/// Returns the verified and the unverified address after a change. A new address replaces both old ones.
fn address(
    (verified, unverified): (&Option<String>, &Option<String>),
    old: (Option<String>, Option<String>),
    is_unset: bool,
) -> (Option<String>, Option<String>) {
    if verified.is_some() || unverified.is_some() {
        (verified.clone(), unverified.clone())
    } else if is_unset {
        (None, None)
    } else {
        old
    }
}
