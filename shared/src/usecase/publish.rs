//! Public keys and issuer of a tenant, for verifiers of its tokens (docs/design/contract.md#public-documents).

use super::{Service, support::tenant_request::TenantRequest};
use crate::{
    context::RequestContext,
    domain::{Failure, TenantId, TenantStatus},
    token::PublicKey,
};

/// The data that verifies a tenant's tokens.
#[derive(Debug)]
pub struct Published {
    /// `iss` of the tenant's tokens.
    pub issuer: String,
    /// Every key that may have signed a token; at least one.
    pub keys: Vec<PublicKey>,
}

impl Service {
    /// A tenant's public keys. `None` if the tenant does not exist, has no asymmetric key or is suspended: a
    /// verifier that relies on the keys alone then accepts none of its tokens.
    ///
    /// Reads only what other requests of the tenant read and cache. An unknown tenant costs one read, which is
    /// cached for some seconds.
    ///
    /// # Errors
    /// `Unavailable` if the tenant's record or secret cannot be read or used.
    pub async fn published(
        &self,
        tenant: &TenantId,
        context: &RequestContext,
    ) -> Result<Option<Published>, Failure> {
        let Some(request) = TenantRequest::find(&self.tenants, context, tenant).await? else {
            return Ok(None);
        };
        let keys = match request.tenant.status {
            TenantStatus::Active => request.keys.public_keys(request.policy().token_life, request.now())?,
            TenantStatus::Suspended => Vec::new(),
        };
        let issuer = request.policy().issuer.clone();
        Ok((!keys.is_empty()).then_some(Published { issuer, keys }))
    }
}
