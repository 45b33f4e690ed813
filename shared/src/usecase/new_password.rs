//! What a new password must be, whoever sets it and however (docs/design/security.md#rule-1 to #rule-3 and #rule-6).

use super::Service;
use crate::{
    domain::{Failure, FieldError, ForbiddenNames, Password, Policy, Tenant, User, Username},
    port::Passwords,
};

/// A password that somebody wants to be a user's.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The password.
    pub password: &'a Password,
    /// The field it came in.
    pub field: &'static str,
    /// The name its user will have.
    pub username: &'a Username,
}

impl Candidate<'_> {
    /// Judges it without hashing anything.
    ///
    /// # Errors
    /// `PasswordPolicy` with every rule that it breaks.
    pub fn judge(&self, tenant: &Tenant) -> Result<(), Failure> {
        let Self { password, field, username } = *self;
        let names = ForbiddenNames { username, tenant: &tenant.id, tenant_name: &tenant.name };
        let broken = tenant.policy.password.broken_rules(password, field, &names);
        if broken.is_empty() { Ok(()) } else { Err(Failure::PasswordPolicy(broken)) }
    }

    /// Judges it against `user`'s last ones (docs/design/security.md#rule-6), and against one that has to be changed. As
    /// many hashes as the tenant looks back: to be asked only once what authorises the change was proven
    /// (docs/design/security.md#rule-11).
    ///
    /// # Errors
    /// `PasswordPolicy` when it is one of them; `Unavailable`; `Internal` when one of them is no hash
    /// that can be verified.
    pub async fn judge_history(
        &self,
        passwords: &dyn Passwords,
        policy: &Policy,
        user: &User,
    ) -> Result<(), Failure> {
        // One after the other: of hashes that wait together, each delays somebody's login.
        for hash in user.last_passwords(looks_back(policy, user)) {
            let password = self.password.clone();
            if passwords.verify(password, Some(hash.clone()), policy.hash_cost).await? {
                let message = match policy.password_history {
                    0 => "must not be the password that has to be changed".to_owned(),
                    1 => "must not be the present password".to_owned(),
                    last => format!("must not be one of the last {last} passwords"),
                };
                return Err(Failure::PasswordPolicy(vec![FieldError::new(self.field, message)]));
            }
        }
        Ok(())
    }
}

impl Service {
    /// [`Candidate::judge_history`] with this process's hasher.
    pub(super) async fn judge_history(
        &self,
        policy: &Policy,
        user: &User,
        candidate: &Candidate<'_>,
    ) -> Result<(), Failure> {
        candidate.judge_history(&*self.passwords, policy, user).await
    }
}

/// How many of `user`'s last passwords are looked at.
pub(super) fn looks_back(policy: &Policy, user: &User) -> usize {
    policy.password_history.max(usize::from(user.change_required))
}
