//! Public keys and issuer of a tenant, for verifiers of its tokens (docs/design/contract.md#public-documents).

use super::Service;
use crate::{
    context::RequestContext,
    domain::{Failure, PublicKey, SigningAlgorithm, TenantId, TenantStatus},
};

/// The data that verifies a tenant's tokens.
#[derive(Debug)]
pub struct Published {
    /// `iss` of the tenant's tokens.
    pub issuer: String,
    /// Every key that may have signed a valid token; at least one.
    pub keys: Vec<PublicKey>,
}

impl Service {
    /// A tenant's public keys. `None` if the tenant does not exist, has no asymmetric key or is suspended: a
    /// verifier that relies on the keys alone then accepts none of its tokens.
    ///
    /// Reads only the table. An unknown tenant costs one read, which is cached for some seconds.
    ///
    /// # Errors
    /// `Unavailable` if the tenant's record or its public keys cannot be read, or if no key of its algorithm is
    /// published.
    pub async fn published(
        &self,
        id: &TenantId,
        context: &RequestContext,
    ) -> Result<Option<Published>, Failure> {
        let Some(tenant) = self.tenants.record(id, context.now).await? else {
            return Ok(None);
        };
        context.record_tenant(id);
        if tenant.status == TenantStatus::Suspended {
            return Ok(None);
        }
        let policy = &tenant.policy;
        let published = self.tenants.published_keys(&tenant, context.now).await?;
        let valid = published.keys.valid(tenant.active_secret.as_ref(), policy.token_life, context.now);
        let keys: Vec<_> = valid.cloned().collect();
        let algorithm = policy.algorithm;
        if algorithm != SigningAlgorithm::Hs256 && !keys.iter().any(|key| key.algorithm == algorithm) {
            let problem = format!("tenant {id} has no published key for {}", algorithm.name());
            return Err(Failure::Unavailable(problem.into()));
        }
        Ok((!keys.is_empty()).then(|| Published { issuer: policy.issuer.clone(), keys }))
    }
}
