//! Rules for a new password, independent of who sets it and how (docs/design/security.md#rule-1 to #rule-3 and
//! #rule-6).

use super::tenant_request::TenantRequest;
use crate::{
    domain::{Failure, FieldError, ForbiddenNames, Password, Policy, Tenant, User, Username},
    port::Passwords,
    usecase::Service,
};

/// A new password that is not yet accepted.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The password.
    pub password: &'a Password,
    /// Request field that held the password.
    pub field: &'static str,
    /// Username that the user will have.
    pub username: &'a Username,
}

impl Candidate<'_> {
    /// Checks the rules that need no hashing.
    ///
    /// # Errors
    /// `PasswordPolicy` with every broken rule.
    pub fn check(&self, tenant: &Tenant) -> Result<(), Failure> {
        let Self { password, field, username } = *self;
        let names = ForbiddenNames { username, tenant: &tenant.id, tenant_name: &tenant.name };
        let broken = tenant.policy.password.broken_rules(password, field, &names);
        if broken.is_empty() { Ok(()) } else { Err(Failure::PasswordPolicy(broken)) }
    }

    /// Checks that the password differs from `user`'s last ones (docs/design/security.md#rule-6) and from one
    /// that must be changed.
    ///
    /// Computes one hash for each remembered password. Call it only after the change was authorized
    /// (docs/design/security.md#rule-11).
    ///
    /// # Errors
    /// `PasswordPolicy` if it is one of them; `Unavailable`; `Internal` for a stored hash that cannot be
    /// verified.
    pub async fn check_history(
        &self,
        passwords: &dyn Passwords,
        policy: &Policy,
        user: &User,
    ) -> Result<(), Failure> {
        // One after the other: parallel hashes would delay the logins of other users.
        for hash in user.last_passwords(history_length(policy, user)) {
            let password = self.password.clone();
            if passwords.verify(password, Some(hash.clone()), policy.hash_cost).await?.is_right() {
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
    /// [`Candidate::check_history`] with this process's hasher.
    pub(in crate::usecase) async fn check_history(
        &self,
        request: &TenantRequest<'_>,
        user: &User,
        candidate: &Candidate<'_>,
    ) -> Result<(), Failure> {
        candidate.check_history(&*self.passwords, request.policy(), user).await
    }
}

/// Number of `user`'s last passwords that a new one must differ from.
pub(in crate::usecase) fn history_length(policy: &Policy, user: &User) -> usize {
    policy.password_history.max(usize::from(user.change_required))
}
