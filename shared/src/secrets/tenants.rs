//! What a request needs of its tenant: record and keys, cached.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use secrecy::SecretString;

use crate::{
    cache::{Cache, Freshness},
    domain::{Failure, Tenant, TenantId},
    port::{SecretSource, SecretVersion, Store, TenantSecret},
    secrets::{SecretDocument, document::MalformedDocument},
    telemetry,
    token::TenantKeys,
};

/// A tenant's record is believed for 5 s: suspending a tenant holds within that (docs/design/security.md#rule-15). It
/// outlives a storage failure by nothing: the decisions behind it need storage anyway.
const RECORD: Freshness = Freshness {
    fresh: Duration::from_secs(5),
    stale: Duration::from_secs(5),
    absent: Duration::from_secs(5),
};
/// A tenant's secret is believed for 5 min, and for an hour while Secrets Manager is down
/// (docs/design/security.md#rule-18).
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

/// Which pair of a tenant's credentials a caller has.
pub struct SecretUse {
    keys: Arc<TenantKeys>,
    pair: usize,
}

/// Every tenant, as its requests come.
pub struct Tenants {
    store: Arc<dyn Store>,
    source: Arc<dyn SecretSource>,
    records: Cache<TenantId, Tenant>,
    keys: Cache<TenantId, LoadedKeys>,
}

impl Tenants {
    /// Tenants of this store and this source of secrets.
    pub fn new(store: Arc<dyn Store>, source: Arc<dyn SecretSource>) -> Self {
        Self { store, source, records: Cache::new(CAPACITY, RECORD), keys: Cache::new(CAPACITY, SECRET) }
    }

    /// The tenant, or `None` when there is none of that id. The record comes first: an unknown tenant
    /// costs Secrets Manager nothing.
    ///
    /// # Errors
    /// `Unavailable` when its record or secret cannot be had or used, or holds no key for its
    /// algorithm: before anything is counted or rotated.
    pub async fn find(&self, id: &TenantId, now: Timestamp) -> Result<Option<TenantContext>, Failure> {
        let Some(tenant) = self.records.get(id, now, || self.store.tenant(id)).await? else {
            return Ok(None);
        };
        telemetry::found_tenant(id);
        let known = self.keys.get(id, now, || self.load_keys(id)).await?;
        let algorithm = tenant.policy.algorithm;
        if let Some(Ok(keys)) = known.as_deref()
            && keys.can_sign(algorithm)
        {
            return Ok(Some(TenantContext { tenant, keys: Arc::clone(keys) }));
        }
        // Perhaps it was put right since.
        let (keys, _) = self.reload_keys(id, now).await?;
        if keys.can_sign(algorithm) {
            Ok(Some(TenantContext { tenant, keys }))
        } else {
            let problem = format!("the secret of tenant {id} has no signing key for {}", algorithm.name());
            Err(Failure::Unavailable(problem.into()))
        }
    }

    /// The tenant when a caller proves to be it (docs/design/security.md#rule-18).
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
    ) -> Result<(TenantContext, SecretUse), Failure> {
        let mut found = self.find(id, now).await?.ok_or(Failure::InvalidTenantCredentials)?;
        let mut pair = found.keys.open_with(key, secret);
        if pair.is_none() {
            // Perhaps it was rotated since: a caller with the new one is not turned away.
            found.keys = self.reload_keys(id, now).await?.0;
            pair = found.keys.open_with(key, secret);
        }
        let pair = pair.ok_or(Failure::InvalidTenantCredentials)?;
        let used = SecretUse { keys: Arc::clone(&found.keys), pair };
        Ok((found, used))
    }

    /// Notes which version of its secret a tenant uses, so that an operator knows when one can be
    /// retired: at most once a minute. To be waited for beside what the request does anyway; what
    /// fails is logged, and noted a minute later.
    pub async fn note(&self, tenant: &TenantId, used: &SecretUse, now: Timestamp) {
        let Some(version) = used.keys.use_to_note(used.pair, now) else {
            return;
        };
        if let Err(failure) = self.store.note_secret_use(tenant, version, now).await {
            tracing::warn!(%failure, "secret.use_not_noted");
        }
    }

    /// The tenant's keys, asked for again because a token names one that is not among them; and
    /// whether they are news. If not, that key may yet exist.
    ///
    /// # Errors
    /// `Unavailable` when the secret cannot be had or used.
    pub async fn reload_keys(
        &self,
        id: &TenantId,
        now: Timestamp,
    ) -> Result<(Arc<TenantKeys>, bool), Failure> {
        let reloaded = self.keys.reload(id, now, || self.load_keys(id)).await?;
        match reloaded.value.as_deref() {
            Some(Ok(keys)) => Ok((Arc::clone(keys), reloaded.is_news)),
            Some(Err(unusable)) => Err(Failure::Unavailable(unusable.clone().into())),
            None => Err(Failure::Unavailable(format!("tenant {id} has no secret").into())),
        }
    }

    /// The context with keys among which `wanted` holds, asked for again if it does not.
    ///
    /// # Errors
    /// `Unavailable` while the key may exist but could not be asked for: a client with a good token
    /// tries again instead of logging in again. `unknown` once it is certain that there is none.
    pub async fn with_key(
        &self,
        mut context: TenantContext,
        now: Timestamp,
        wanted: impl Fn(&TenantKeys) -> bool,
        unknown: Failure,
    ) -> Result<TenantContext, Failure> {
        if wanted(&context.keys) {
            return Ok(context);
        }
        let (keys, is_news) = self.reload_keys(&context.tenant.id, now).await?;
        context.keys = keys;
        match (wanted(&context.keys), is_news) {
            (true, _) => Ok(context),
            (false, true) => Err(unknown),
            (false, false) => Err(Failure::Unavailable("a token names a key that is not known yet".into())),
        }
    }

    /// A secret that is there and cannot be used is an answer, not an outage: it replaces what was
    /// known, and closes this tenant until it is put right (docs/design/security.md#rule-17).
    async fn load_keys(&self, id: &TenantId) -> Result<Option<LoadedKeys>, Failure> {
        let Some(secret) = self.source.secret(id).await? else {
            return Ok(None);
        };
        Ok(Some(read_keys(id, &secret)))
    }
}

type LoadedKeys = Result<Arc<TenantKeys>, String>;

fn read_keys(id: &TenantId, secret: &TenantSecret) -> LoadedKeys {
    let read = |version: &SecretVersion| {
        let document = SecretDocument::parse(&version.text)?;
        Ok::<_, MalformedDocument>(SecretDocument { version_id: version.id.clone(), ..document })
    };
    let current = read(&secret.current).map_err(|error| format!("tenant {id}: {error}"))?;
    let previous = secret.previous.as_ref().map(read).transpose();
    let previous = previous.unwrap_or_else(|error| {
        tracing::warn!(tenant = %id, %error, "secret.previous_unusable");
        None
    });
    let documents: Vec<_> = std::iter::once(current).chain(previous).collect();
    TenantKeys::from_documents(id, &documents).map(Arc::new).map_err(|error| error.to_string())
}
