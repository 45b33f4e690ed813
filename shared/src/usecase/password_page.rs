//! A tenant's data for the hosted page, the check of its links, and the tokens of its forms
//! (docs/design/contract.md#public-documents).

use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;

use super::{Service, support::tenant_request::TenantRequest};
use crate::{
    context::RequestContext,
    domain::{
        ClientAddress, Code, CodeKind, CodePurpose, Denial, Failure, ResetCode, ResetLink, Tenant, TenantId,
        User, UserId, Username,
    },
    store::UserItems,
    token::{BrowserId, FormOwner, TenantKeys},
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

    /// The link that a form of this page was opened with.
    ///
    /// # Errors
    /// `Forbidden` if `token` does not belong to a form of this page and this browser, or the form has expired.
    pub fn open_form(
        &self,
        token: &SecretString,
        browser: &BrowserId,
        now: Timestamp,
    ) -> Result<ResetLink, Failure> {
        let owner = FormOwner { tenant: self.tenant(), browser };
        self.keys.open_form(token, owner, now).ok_or(Failure::Forbidden(Denial::FormToken))
    }

    fn is_live(&self, code: &Code, stored: &ResetCode, user: &User, now: Timestamp) -> bool {
        let proof = stored.proof.as_ref();
        proof
            .is_some_and(|proof| proof.is(code, CodePurpose::Password, (self.tenant(), &user.id), &self.keys))
            && stored.ends_at > now
            && stored.spent.is_none()
            && user.is_active()
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

    /// Checks the code of a link before the form is shown. Makes one read, which changes nothing, because mail
    /// scanners open links. Returns the masked username of a live code.
    ///
    /// Returns `None` for a code that has its own number of tries, and without a code. Such a code is checked only
    /// when the form is submitted. Otherwise opening links would allow unlimited tries.
    ///
    /// # Errors
    /// `InvalidCode` for an unknown user and for a wrong, used or expired code; `TenantSuspended`; `IpNotAllowed`;
    /// `Unavailable`.
    pub async fn check_link(
        &self,
        page: &PasswordPage,
        link: &ResetLink,
        ip: &ClientAddress,
        context: &RequestContext,
    ) -> Result<Option<String>, Failure> {
        context.record_user(&link.user);
        let Some(code) = link.code.as_ref().filter(|code| code.kind() == CodeKind::Link) else {
            return Ok(None);
        };
        let UserItems { user, code: stored, .. } =
            self.store.recovery(page.tenant(), &link.user, None).await?;
        let (user, stored) = user.zip(stored).ok_or(Failure::InvalidCode)?;
        if !page.is_live(code, &stored, &user, context.now) {
            return Err(Failure::InvalidCode);
        }
        let (tenant, keys) = (Arc::clone(&page.tenant), Arc::clone(&page.keys));
        TenantRequest { context, tenant, keys }.admit(ip)?;
        Ok(Some(user.username.masked()))
    }

    /// The masked username of a user whose code was right. `None` if the user was deleted since.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn masked_username(
        &self,
        page: &PasswordPage,
        user: &UserId,
    ) -> Result<Option<String>, Failure> {
        let user = self.store.user(page.tenant(), user).await?;
        Ok(user.as_ref().map(|user| &user.username).map(Username::masked))
    }

    /// An ID for a browser without one.
    ///
    /// # Errors
    /// `Internal`.
    pub fn new_browser(&self) -> Result<BrowserId, Failure> {
        BrowserId::new(&*self.entropy)
    }

    /// A token for one form of one browser. It also identifies the submission of that form.
    ///
    /// # Errors
    /// `Unavailable`; `Internal`.
    pub fn form_token(
        &self,
        page: &PasswordPage,
        link: &ResetLink,
        browser: &BrowserId,
        now: Timestamp,
    ) -> Result<SecretString, Failure> {
        page.keys.seal_form(link, FormOwner { tenant: page.tenant(), browser }, now, &*self.entropy)
    }
}
