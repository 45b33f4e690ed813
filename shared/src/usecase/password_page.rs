//! What the hosted page shows of a tenant, and the tokens of its forms (docs/design/contract.md#public-documents).

use jiff::Timestamp;
use secrecy::SecretString;

use super::Service;
use crate::{
    domain::{Code, Failure, TenantId, UserId},
    port::random,
    secrets::TenantContext,
    token::{FormToken, TenantKeys},
};

/// A tenant as its page shows it.
pub struct PasswordPage {
    context: TenantContext,
}

impl PasswordPage {
    /// Its id.
    pub fn tenant(&self) -> &TenantId {
        &self.context.tenant.id
    }

    /// What people know it as.
    pub fn name(&self) -> &str {
        &self.context.tenant.name
    }

    /// Its language (BCP 47), for those who ask for none that the page speaks.
    pub fn locale(&self) -> &str {
        &self.context.tenant.policy.locale
    }

    /// The shortest password it takes, in code points.
    pub fn min_length(&self) -> usize {
        self.context.tenant.policy.password.min_length()
    }
}

impl Service {
    /// The page of a tenant: whatever its status, which is told once a code was right.
    ///
    /// # Errors
    /// `RouteNotFound` for an unknown tenant, `Unavailable`.
    pub async fn password_page(&self, tenant: &TenantId, now: Timestamp) -> Result<PasswordPage, Failure> {
        let context = self.tenants.find(tenant, now).await?.ok_or(Failure::RouteNotFound)?;
        Ok(PasswordPage { context })
    }

    /// That `token` came with a form of this page for that user and code.
    ///
    /// # Errors
    /// `Forbidden` when it did not; `Unavailable` while its key may be a fresh one.
    pub async fn check_form(
        &self,
        page: &PasswordPage,
        token: &SecretString,
        (user, code): (&UserId, Option<&Code>),
        now: Timestamp,
    ) -> Result<(), Failure> {
        let known =
            |keys: &TenantKeys| FormToken::version(token).is_none_or(|version| keys.has_root(version));
        let context = self.tenants.with_key(page.context.clone(), now, known, Failure::Forbidden).await?;
        let form = FormToken { tenant: page.tenant(), user, code };
        if form.is_authentic(token, &context.keys) { Ok(()) } else { Err(Failure::Forbidden) }
    }

    /// A token for one form, which also names its submission.
    ///
    /// # Errors
    /// `Internal`.
    pub fn form_token(
        &self,
        page: &PasswordPage,
        user: &UserId,
        code: Option<&Code>,
    ) -> Result<SecretString, Failure> {
        FormToken { tenant: page.tenant(), user, code }
            .make(random(&*self.entropy)?, &page.context.keys)
            .ok_or_else(|| Failure::Internal("the current root key is missing".into()))
    }
}
