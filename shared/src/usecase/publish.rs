//! What a tenant publishes for those who verify its tokens (docs/design/contract.md#public-documents).

use jiff::Timestamp;

use super::Service;
use crate::{
    domain::{Failure, TenantId, TenantStatus},
    telemetry,
    token::PublicKey,
};

/// What verifying a tenant's tokens takes.
#[derive(Debug)]
pub struct Published {
    /// `iss` of its tokens.
    pub issuer: String,
    /// Every key that may have signed one; at least one.
    pub keys: Vec<PublicKey>,
}

impl Service {
    /// `None` for a tenant that publishes nothing, whether there is none of that id, it has no asymmetric key
    /// or it is suspended: then whoever verifies by its keys alone accepts nothing any more, either.
    ///
    /// Nothing is read that the tenant's other requests do not read; an unknown one costs one read, and for
    /// some seconds no other.
    ///
    /// # Errors
    /// `Unavailable` when its record or secret cannot be had or used.
    pub async fn published(&self, tenant: &TenantId, now: Timestamp) -> Result<Option<Published>, Failure> {
        telemetry::tenant(tenant);
        let Some(context) = self.tenants.find(tenant, now).await? else {
            return Ok(None);
        };
        let keys = match context.tenant.status {
            TenantStatus::Active => context.keys.public_keys()?,
            TenantStatus::Suspended => Vec::new(),
        };
        let issuer = context.tenant.policy.issuer.clone();
        Ok((!keys.is_empty()).then_some(Published { issuer, keys }))
    }
}
