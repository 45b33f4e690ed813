//! Which pages of other origins may read a response (docs/design/contract.md#every-request: CORS).
//!
//! A response allows the origins in its tenant's policy. Until the request has proved its tenant, the response
//! allows the origins of all tenants, like a preflight response. Otherwise the headers would reveal whether a
//! tenant exists.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    cache::Freshness,
    context::RequestContext,
    domain::{Failure, WebOrigin},
    usecase::Service,
};

/// Cache times of an origin. `fresh` and `absent` are the same as for a tenant's record. `stale` is longer, so that
/// pages can also read error responses while storage is unavailable.
pub(in crate::usecase) const ORIGIN: Freshness = Freshness {
    fresh: Duration::from_secs(5),
    stale: Duration::from_secs(5 * 60),
    absent: Duration::from_secs(5),
};
/// Maximum number of cached origins.
pub(in crate::usecase) const CAPACITY: usize = 1_024;
/// Maximum time that a finished response waits for the look-up of its origin.
const MAX_WAIT: Duration = Duration::from_secs(1);

impl Service {
    /// Whether pages of `origin` may read the response to this request.
    pub async fn allows_origin(&self, context: &RequestContext, origin: &WebOrigin) -> bool {
        match context.proven_tenant() {
            Some(tenant) => tenant.policy.cors_origins.contains(origin),
            None => self.is_any_tenants_origin(origin, context.now).await,
        }
    }

    /// Whether any tenant allows `origin`. If that cannot be determined, the answer is no; the page can try
    /// again.
    async fn is_any_tenants_origin(&self, origin: &WebOrigin, now: Timestamp) -> bool {
        let load = || async {
            let named = tokio::time::timeout(MAX_WAIT, self.store.origin_is_named(origin)).await;
            let late = || Failure::Unavailable("DynamoDB did not answer in time".into());
            Ok(named.unwrap_or_else(|_| Err(late()))?.then_some(()))
        };
        match self.origins.get(origin, now, load).await {
            Ok(named) => named.is_some(),
            Err(failure) => {
                tracing::warn!(%failure, "origin.unknown");
                false
            }
        }
    }
}
