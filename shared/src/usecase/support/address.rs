//! Mail addresses and phone numbers that a request sets, and the codes that verify them
//! (docs/design/contract.md#users).

use super::{
    code::{Sending, check_code_limit},
    tenant_request::TenantRequest,
};
use crate::{
    domain::{Code, CodePurpose, Failure, LinkTemplate, Medium, ResetCode, User},
    store::NewCode,
    usecase::Service,
};

/// A mail address or phone number to set.
#[derive(Debug, Clone)]
pub struct NewAddress {
    /// The address.
    pub address: String,
    /// How the address is verified.
    pub proof: AddressProof,
}

impl NewAddress {
    /// The verified and the unverified address to store.
    pub(in crate::usecase) fn stored(&self) -> (Option<String>, Option<String>) {
        let address = Some(self.address.clone());
        if self.proof == AddressProof::Verified { (address, None) } else { (None, address) }
    }
}

/// How a new address is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressProof {
    /// The caller has verified the address.
    Verified,
    /// A code is sent to the address.
    SendCode {
        /// Template of a link with the code. Without one, the user types the code.
        link: Option<String>,
    },
    /// A code is returned to the caller.
    ReturnCode,
}

impl AddressProof {
    /// Checks the template of the link (docs/design/security.md#rule-19).
    ///
    /// # Errors
    /// `Validation` for a template that leads to a host outside the tenant's list, or that has no code.
    pub(in crate::usecase) fn check_link(&self, request: &TenantRequest<'_>) -> Result<(), Failure> {
        let Self::SendCode { link: Some(link) } = self else {
            return Ok(());
        };
        let refused = |why: String| Failure::field("sendCode.urlTemplate", why);
        let template = LinkTemplate::parse(link, &request.policy().link_hosts);
        let template = template.map_err(|why| refused(why.to_string()))?;
        if template.has_code() { Ok(()) } else { Err(refused("must contain {{.Code}}".to_owned())) }
    }
}

/// Codes that accompany a change of a user.
#[derive(Debug, Default)]
pub(in crate::usecase) struct AddressCodes {
    /// Codes to store, with their messages.
    pub(in crate::usecase) stored: Vec<NewCode>,
    /// Code of the mail address to return.
    pub(in crate::usecase) email: Option<Code>,
    /// Code of the phone number to return.
    pub(in crate::usecase) phone: Option<Code>,
}

impl Service {
    /// A new code that verifies the unverified address of `user`, as `proof` says. Adds it to `codes`.
    ///
    /// # Errors
    /// `Validation` (of the template), `RateLimited`, `Unavailable`, `Internal`.
    pub(in crate::usecase) fn add_address_code(
        &self,
        codes: &mut AddressCodes,
        request: &TenantRequest<'_>,
        (user, purpose): (&User, CodePurpose),
        before: Option<&ResetCode>,
        proof: &AddressProof,
    ) -> Result<(), Failure> {
        proof.check_link(request)?;
        let medium = if purpose == CodePurpose::Phone { Medium::Text } else { Medium::Mail };
        let sending = match proof {
            AddressProof::Verified => return Ok(()),
            AddressProof::SendCode { link } => Some(Sending { medium, link: link.clone() }),
            AddressProof::ReturnCode => None,
        };
        if sending.is_some() {
            check_code_limit(before, request)?;
        }
        let (new, code) =
            self.new_code(request, (&user.id, Some(user)), purpose, before, sending.as_ref())?;
        codes.stored.push(new);
        if sending.is_none() {
            let returned = if purpose == CodePurpose::Phone { &mut codes.phone } else { &mut codes.email };
            *returned = Some(code);
        }
        Ok(())
    }
}
