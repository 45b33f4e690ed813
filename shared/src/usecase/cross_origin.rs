//! Whose pages may call (docs/design/contract.md#every-request: CORS).
//!
//! An answer is for the pages that its tenant names. Which tenant that is, counts from the moment that
//! the request proved to be of it; before that, an answer tells nothing of any tenant, and must not
//! begin to by its headers: it is for the pages that any tenant names, as a preflight's is, which
//! names no tenant at all.

use std::{cell::RefCell, future::Future, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::Service;
use crate::{
    cache::Freshness,
    domain::{Failure, Tenant, WebOrigin},
};

/// An origin is believed as long as a tenant's record is, and somewhat longer while storage is down: an
/// error can be read as well as an answer.
pub(super) const ORIGIN: Freshness = Freshness {
    fresh: Duration::from_secs(5),
    stale: Duration::from_secs(5 * 60),
    absent: Duration::from_secs(5),
};
/// Origins kept in one function's memory at once.
pub(super) const CAPACITY: usize = 1_024;
/// An answer that is ready does not wait longer to know whom it is for.
const WAITS_FOR: Duration = Duration::from_secs(1);

tokio::task_local! {
    static PROVEN: RefCell<Option<Arc<Tenant>>>;
}

/// What a request comes to, and the tenant that it proved to be of.
pub async fn observed<T>(request: impl Future<Output = T>) -> (T, Option<Arc<Tenant>>) {
    let watched = async {
        let outcome = request.await;
        (outcome, PROVEN.with(RefCell::take))
    };
    PROVEN.scope(RefCell::default(), watched).await
}

/// The present request's credentials, bearer or code were right.
pub(super) fn proven(tenant: &Arc<Tenant>) {
    // Outside of a request nobody asks.
    let _ = PROVEN.try_with(|proven| proven.replace(Some(Arc::clone(tenant))));
}

impl Service {
    /// Whether pages of `origin` may read an answer to a request that proved to be of that tenant, or
    /// of none.
    pub async fn shares_with(&self, tenant: Option<&Tenant>, origin: &WebOrigin, now: Timestamp) -> bool {
        match tenant {
            Some(tenant) => tenant.policy.cors_origins.contains(origin),
            None => self.is_named(origin, now).await,
        }
    }

    /// Whether any tenant names `origin`. What cannot be known is no: a page tries again.
    async fn is_named(&self, origin: &WebOrigin, now: Timestamp) -> bool {
        let load = || async {
            let asked = tokio::time::timeout(WAITS_FOR, self.store.origin_is_named(origin)).await;
            let late = || Failure::Unavailable("DynamoDB did not answer in time".into());
            Ok(asked.unwrap_or_else(|_| Err(late()))?.then_some(()))
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
