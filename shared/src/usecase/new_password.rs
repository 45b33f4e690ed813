//! What a new password must be, whoever sets it and however (security 1 to 3 and 6).

use super::Service;
use crate::domain::{Failure, FieldError, ForbiddenNames, Password, Policy, Tenant, User, Username};

/// A password that somebody wants to be a user's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    /// The password.
    pub(super) password: &'a Password,
    /// The field it came in.
    pub(super) field: &'static str,
    /// The name its user will have.
    pub(super) username: &'a Username,
}

impl Candidate<'_> {
    /// Judges it without hashing anything.
    ///
    /// # Errors
    /// `PasswordPolicy` with every rule that it breaks.
    pub(super) fn judge(&self, tenant: &Tenant) -> Result<(), Failure> {
        let Self { password, field, username } = *self;
        let names = ForbiddenNames { username, tenant: &tenant.id, tenant_name: &tenant.name };
        let broken = tenant.policy.password.broken_rules(password, field, &names);
        if broken.is_empty() { Ok(()) } else { Err(Failure::PasswordPolicy(broken)) }
    }
}

impl Service {
    /// Judges a password against `user`'s last ones (security 6), and against one that has to be
    /// changed. As many hashes as the tenant looks back: to be asked only once what authorises the
    /// change was proven (security 11).
    ///
    /// # Errors
    /// `PasswordPolicy` when it is one of them; `Unavailable`; `Internal` when one of them is no hash
    /// that can be verified.
    pub(super) async fn judge_history(
        &self,
        policy: &Policy,
        user: &User,
        candidate: &Candidate<'_>,
    ) -> Result<(), Failure> {
        // One after the other: of hashes that wait together, each delays somebody's login.
        for hash in user.last_passwords(looks_back(policy, user)) {
            let password = candidate.password.clone();
            if self.passwords.verify(password, Some(hash.clone()), policy.hash_cost).await? {
                let message = match policy.password_history {
                    0 => "must not be the password that has to be changed".to_owned(),
                    1 => "must not be the present password".to_owned(),
                    last => format!("must not be one of the last {last} passwords"),
                };
                return Err(Failure::PasswordPolicy(vec![FieldError::new(candidate.field, message)]));
            }
        }
        Ok(())
    }
}

/// How many of `user`'s last passwords are looked at.
pub(super) fn looks_back(policy: &Policy, user: &User) -> usize {
    policy.password_history.max(usize::from(user.change_required))
}
