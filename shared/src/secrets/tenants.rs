//! Cached tenant records and keys.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use secrecy::SecretString;

use crate::{
    cache::{Cache, Freshness},
    domain::{Failure, Tenant, TenantId},
    secrets::{SecretVersion, SecretsManager, TenantSecret},
    store::DynamoStore,
    token::{MalformedDocument, SecretDocument, TenantKeys},
};

/// A tenant record is cached for 5 s, so that a suspension takes effect within 5 s
/// (docs/design/security.md#rule-15). It is not used longer during a storage failure, because requests need
/// storage anyway.
const RECORD: Freshness = Freshness {
    fresh: Duration::from_secs(5),
    stale: Duration::from_secs(5),
    absent: Duration::from_secs(5),
};
/// A tenant secret is cached for 5 min, and for up to 1 h while Secrets Manager is unavailable
/// (docs/design/security.md#rule-18).
const SECRET: Freshness = Freshness {
    fresh: Duration::from_secs(5 * 60),
    stale: Duration::from_secs(60 * 60),
    absent: Duration::from_secs(30),
};
/// Maximum number of tenants in the cache of one function.
const CAPACITY: usize = 1_024;

/// Pair of tenant credentials that a caller used.
pub struct SecretUse {
    keys: Arc<TenantKeys>,
    pair: usize,
}

/// Cache of all tenants.
pub struct Tenants {
    store: Arc<DynamoStore>,
    source: Arc<SecretsManager>,
    records: Cache<TenantId, Tenant>,
    keys: Cache<TenantId, LoadedKeys>,
}

impl Tenants {
    /// Creates an empty cache.
    pub fn new(store: Arc<DynamoStore>, source: Arc<SecretsManager>) -> Self {
        Self { store, source, records: Cache::new(CAPACITY, RECORD), keys: Cache::new(CAPACITY, SECRET) }
    }

    /// The tenant's record, or `None` if no such tenant exists.
    ///
    /// # Errors
    /// `Unavailable` if the record cannot be read.
    pub async fn record(&self, id: &TenantId, now: Timestamp) -> Result<Option<Arc<Tenant>>, Failure> {
        self.records.get(id, now, || self.store.tenant(id)).await
    }

    /// The tenant's keys. Read the record first, so that an unknown tenant causes no call to Secrets Manager.
    ///
    /// # Errors
    /// `Unavailable` if the secret cannot be read or used, or has no signing key for the tenant's algorithm.
    /// The request ends before it counts or rotates anything.
    pub async fn keys(&self, tenant: &Tenant, now: Timestamp) -> Result<Arc<TenantKeys>, Failure> {
        let id = &tenant.id;
        let known = self.keys.get(id, now, || self.load_keys(id)).await?;
        let algorithm = tenant.policy.algorithm;
        if let Some(Ok(keys)) = known.as_deref()
            && keys.can_sign(algorithm)
        {
            return Ok(Arc::clone(keys));
        }
        // The secret may have been corrected since it was cached.
        let keys = self.reload_keys(id, now).await?;
        if keys.can_sign(algorithm) {
            Ok(keys)
        } else {
            let problem = format!("the secret of tenant {id} has no signing key for {}", algorithm.name());
            Err(Failure::Unavailable(problem.into()))
        }
    }

    /// Compares a caller's key and secret with the tenant's (docs/design/security.md#rule-18). Returns the
    /// keys that they match, which may be newer than `keys`.
    ///
    /// # Errors
    /// `InvalidTenantCredentials` for a wrong key or secret; `Unavailable`.
    pub async fn verify_credentials(
        &self,
        id: &TenantId,
        mut keys: Arc<TenantKeys>,
        (key, secret): (&SecretString, &SecretString),
        now: Timestamp,
    ) -> Result<(Arc<TenantKeys>, SecretUse), Failure> {
        let mut pair = keys.open_with(key, secret);
        if pair.is_none() {
            // The secret may have been rotated since it was cached.
            keys = self.reload_keys(id, now).await?;
            pair = keys.open_with(key, secret);
        }
        let pair = pair.ok_or(Failure::InvalidTenantCredentials)?;
        let used = SecretUse { keys: Arc::clone(&keys), pair };
        Ok((keys, used))
    }

    /// Stores which version of its secret a tenant uses, at most once per minute, so that an operator knows when
    /// the previous version can be retired. Call it concurrently with the work of the request. A failure is only
    /// logged, and the next use is stored after a minute.
    pub async fn note(&self, tenant: &TenantId, used: &SecretUse, now: Timestamp) {
        let Some(version) = used.keys.use_to_note(used.pair, now) else {
            return;
        };
        if let Err(failure) = self.store.note_secret_use(tenant, version, now).await {
            tracing::warn!(%failure, "secret.use_not_noted");
        }
    }

    /// Reloads the tenant's keys because a token names an unknown key, at most once a minute.
    ///
    /// # Errors
    /// `Unavailable` when the secret cannot be loaded or is invalid.
    pub async fn reload_keys(&self, id: &TenantId, now: Timestamp) -> Result<Arc<TenantKeys>, Failure> {
        let reloaded = self.keys.reload(id, now, || self.load_keys(id)).await?;
        match reloaded.as_deref() {
            Some(Ok(keys)) => Ok(Arc::clone(keys)),
            Some(Err(unusable)) => Err(Failure::Unavailable(unusable.clone().into())),
            None => Err(Failure::Unavailable(format!("tenant {id} has no secret").into())),
        }
    }

    /// `keys` if they satisfy `wanted`, otherwise the reloaded keys.
    ///
    /// # Errors
    /// `unknown` if the reloaded keys do not satisfy `wanted`; also if the secret was already reloaded within
    /// the last minute, because anyone can send a token with an unknown key. `Unavailable` if the keys cannot
    /// be loaded.
    pub async fn keys_with(
        &self,
        id: &TenantId,
        keys: Arc<TenantKeys>,
        now: Timestamp,
        wanted: impl Fn(&TenantKeys) -> bool,
        unknown: Failure,
    ) -> Result<Arc<TenantKeys>, Failure> {
        if wanted(&keys) {
            return Ok(keys);
        }
        let keys = self.reload_keys(id, now).await?;
        if wanted(&keys) { Ok(keys) } else { Err(unknown) }
    }

    /// Loads and parses a secret. An invalid secret is a result and not an outage: it replaces the cached keys, and
    /// the tenant's requests fail until the secret is corrected (docs/design/security.md#rule-17).
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
