//! A tenant's data for the hosted page, and the tokens of its forms
//! (docs/design/contract.md#public-documents).

use std::sync::Arc;

use secrecy::SecretString;

use super::{Service, support::tenant_request::TenantRequest};
use crate::{
    context::RequestContext,
    domain::{Code, Failure, Tenant, TenantId, UserId},
    port::random,
    token::{FormToken, TenantKeys},
};

/// A tenant as its hosted page shows it.
pub struct PasswordPage {
    tenant: Arc<Tenant>,
    keys: Arc<TenantKeys>,
}

impl PasswordPage {
    /// Id of the tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant.id
    }

    /// Display name of the tenant.
    pub fn name(&self) -> &str {
        &self.tenant.name
    }

    /// Language of the tenant (BCP 47), for visitors whose browser accepts no language of the page.
    pub fn locale(&self) -> &str {
        &self.tenant.policy.locale
    }

    /// Minimum length of a new password in code points.
    pub fn min_length(&self) -> usize {
        self.tenant.policy.password.min_length()
    }

    /// Checks that `token` belongs to a form of this page for that user and code.
    ///
    /// # Errors
    /// `Forbidden` if it does not.
    pub fn check_form(
        &self,
        token: &SecretString,
        (user, code): (&UserId, Option<&Code>),
    ) -> Result<(), Failure> {
        let form = FormToken { tenant: self.tenant(), user, code };
        if form.is_authentic(token, &self.keys) { Ok(()) } else { Err(Failure::Forbidden) }
    }
}

impl Service {
    /// The page of a tenant. A suspended tenant has one too: the suspension is disclosed only to visitors with
    /// a right code.
    ///
    /// # Errors
    /// `RouteNotFound` for an unknown tenant; `Unavailable`.
    pub async fn password_page(
        &self,
        tenant: &TenantId,
        context: &RequestContext,
    ) -> Result<PasswordPage, Failure> {
        let found = TenantRequest::find(&self.tenants, context, tenant).await?;
        let TenantRequest { tenant, keys, .. } = found.ok_or(Failure::RouteNotFound)?;
        Ok(PasswordPage { tenant, keys })
    }

    /// A token for one form. It also identifies the submission of that form.
    ///
    /// # Errors
    /// `Unavailable`; `Internal`.
    pub fn form_token(
        &self,
        page: &PasswordPage,
        user: &UserId,
        code: Option<&Code>,
    ) -> Result<SecretString, Failure> {
        FormToken { tenant: page.tenant(), user, code }.make(random(&*self.entropy)?, &page.keys)
    }
}
