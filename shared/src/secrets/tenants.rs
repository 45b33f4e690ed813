//! What a request needs of its tenant: record and keys, loaded in parallel and cached.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use secrecy::SecretString;

use crate::{
    cache::{Cache, Freshness},
    domain::{Failure, Tenant, TenantId},
    port::{SecretSource, Store},
    token::TenantKeys,
};

/// A tenant's record is believed for 5 s: suspending a tenant holds within that (security 15). It
/// outlives a storage failure by nothing: the decisions behind it need storage anyway.
const RECORD: Freshness = Freshness {
    fresh: Duration::from_secs(5),
    stale: Duration::from_secs(5),
    absent: Duration::from_secs(5),
};
/// A tenant's secret is believed for 5 min, and for an hour while Secrets Manager is down
/// (security 18).
const SECRET: Freshness = Freshness {
    fresh: Duration::from_secs(5 * 60),
    stale: Duration::from_secs(60 * 60),
    absent: Duration::from_secs(30),
};
/// Tenants kept in one function's memory at once.
const CAPACITY: usize = 1_024;

/// A tenant as one request sees it.
#[derive(Clone)]
pub struct TenantContext {
    /// Its record.
    pub tenant: Arc<Tenant>,
    /// Its keys.
    pub keys: Arc<TenantKeys>,
}

/// Every tenant, as its requests come.
pub struct Tenants {
    store: Arc<dyn Store>,
    source: Arc<dyn SecretSource>,
    records: Cache<TenantId, Tenant>,
    keys: Cache<TenantId, TenantKeys>,
}

impl Tenants {
    /// Tenants of this store and this source of secrets.
    pub fn new(store: Arc<dyn Store>, source: Arc<dyn SecretSource>) -> Self {
        Self {
            store,
            source,
            records: Cache::new(CAPACITY, RECORD),
            keys: Cache::new(CAPACITY, SECRET),
        }
    }

    /// The tenant, or `None` when there is none of that id.
    ///
    /// # Errors
    /// `Unavailable` when its record or secret cannot be had or used.
    pub async fn find(&self, id: &TenantId, now: Timestamp) -> Result<Option<TenantContext>, Failure> {
        let record = self.records.get(id, now, || self.store.tenant(id));
        let keys = self.keys.get(id, now, || self.load_keys(id));
        let (record, keys) = tokio::join!(record, keys);
        match (record?, keys) {
            // A secret without a record, or none at all: the same unknown tenant.
            (None, _) => Ok(None),
            (Some(tenant), Ok(Some(keys))) => Ok(Some(TenantContext { tenant, keys })),
            (Some(_), Ok(None)) => Err(Failure::Unavailable(format!("tenant {id} has no secret").into())),
            (Some(_), Err(failure)) => Err(failure),
        }
    }

    /// The tenant when a caller proves to be it (security 18).
    ///
    /// # Errors
    /// `InvalidTenantCredentials` for an unknown tenant, a wrong key and a wrong secret alike;
    /// otherwise as [`Self::find`].
    pub async fn open(
        &self,
        id: &TenantId,
        key: &SecretString,
        secret: &SecretString,
        now: Timestamp,
    ) -> Result<TenantContext, Failure> {
        let mut found = self
            .find(id, now)
            .await?
            .ok_or(Failure::InvalidTenantCredentials)?;
        if !found.keys.open_with(key, secret) {
            // Perhaps it was rotated since: a caller with the new one is not turned away.
            found.keys = self
                .reload_keys(id, now)
                .await?
                .ok_or(Failure::InvalidTenantCredentials)?;
        }
        if found.keys.open_with(key, secret) {
            Ok(found)
        } else {
            Err(Failure::InvalidTenantCredentials)
        }
    }

    /// The tenant's keys, asked for again because a token names one that is not among them.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub async fn reload_keys(
        &self,
        id: &TenantId,
        now: Timestamp,
    ) -> Result<Option<Arc<TenantKeys>>, Failure> {
        self.keys.reload(id, now, || self.load_keys(id)).await
    }

    async fn load_keys(&self, id: &TenantId) -> Result<Option<TenantKeys>, Failure> {
        let Some(documents) = self.source.documents(id).await? else {
            return Ok(None);
        };
        TenantKeys::from_documents(id, &documents)
            .map(Some)
            .map_err(|error| Failure::Unavailable(Box::new(error)))
    }
}
