//! Cached tenant records and keys.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use secrecy::SecretString;

use crate::{
    cache::{Cache, Freshness},
    domain::{ActiveSecret, Failure, MAX_CACHED, OVERLAP, PublishedKeys, Tenant, TenantId, after},
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
const SECRET: Freshness =
    Freshness { fresh: Duration::from_secs(5 * 60), stale: MAX_CACHED, absent: Duration::from_secs(30) };
/// Time for which an unusable secret is cached. An operator may have corrected it by hand.
const UNUSABLE: Duration = Duration::from_secs(60);
/// Public keys are read again once a minute, and when the record names another version of the secret.
const PUBLISHED: Freshness = Freshness {
    fresh: Duration::from_secs(60),
    stale: Duration::from_secs(60),
    absent: Duration::from_secs(5),
};
/// Time for which a secret is cached that lacks the version in the record. Secrets Manager is eventually consistent, so
/// that a load may return earlier versions.
const INCOMPLETE: Duration = Duration::from_secs(10);
/// The same time while the version is new. Its keys sign from 10 s on, so that every function must know them by then.
const INCOMPLETE_AT_FIRST: Duration = Duration::from_secs(2);
/// Time for which a version is new.
const NEW: Duration = Duration::from_secs(60);
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
    keys: Cache<TenantId, LoadedSecret>,
    published: Cache<TenantId, LoadedKeys>,
}

impl Tenants {
    /// Creates an empty cache.
    pub fn new(store: Arc<DynamoStore>, source: Arc<SecretsManager>) -> Self {
        Self {
            store,
            source,
            records: Cache::new(CAPACITY, RECORD),
            keys: Cache::new(CAPACITY, SECRET),
            published: Cache::new(CAPACITY, PUBLISHED),
        }
    }

    /// The tenant's record, or `None` if no such tenant exists.
    ///
    /// # Errors
    /// `Unavailable` if the record cannot be read.
    pub async fn record(&self, id: &TenantId, now: Timestamp) -> Result<Option<Arc<Tenant>>, Failure> {
        self.records.get(id, now, || self.store.tenant(id)).await
    }

    /// The tenant's keys. Read the record first, so that an unknown tenant causes no call to Secrets Manager. Loads
    /// the secret again if the record names another version than at the last load.
    ///
    /// # Errors
    /// `Unavailable` if the secret cannot be read or used, or has no signing key for the tenant's algorithm.
    /// The request ends before it counts or rotates anything.
    pub async fn keys(&self, tenant: &Tenant, now: Timestamp) -> Result<Arc<TenantKeys>, Failure> {
        let Tenant { id, policy, .. } = tenant;
        let suitable = |loaded: &LoadedSecret| loaded.suits(tenant, now);
        let loaded = self.keys.get_suitable(id, now, suitable, || self.load_keys(tenant, now)).await?;
        let problem = match loaded.as_deref().map(|loaded| &loaded.keys) {
            Some(Ok(keys)) if keys.can_sign(policy.algorithm) => return Ok(Arc::clone(keys)),
            Some(Ok(_)) => {
                format!("the secret of tenant {id} has no signing key for {}", policy.algorithm.name())
            }
            Some(Err(unusable)) => unusable.clone(),
            None => format!("tenant {id} has no secret"),
        };
        Err(Failure::Unavailable(problem.into()))
    }

    /// The tenant's public keys. Needs no secret. Reads them again if the record names another version of the secret
    /// than at the last read.
    ///
    /// # Errors
    /// `Unavailable` if the keys cannot be read or were never published.
    pub async fn published_keys(&self, tenant: &Tenant, now: Timestamp) -> Result<Arc<LoadedKeys>, Failure> {
        let Tenant { id, active_secret, .. } = tenant;
        let suitable = |loaded: &LoadedKeys| loaded.suits(active_secret.as_ref(), now);
        let load = async || {
            let stored = self.store.published_keys(id).await?;
            Ok(stored.map(|stored| LoadedKeys {
                keys: stored.keys,
                active: active_secret.clone(),
                loaded_at: now,
            }))
        };
        let loaded = self.published.get_suitable(id, now, suitable, load).await?;
        loaded.ok_or_else(|| {
            let problem = format!(
                "the public keys of tenant {id} are not published: run `doorwardctl tenant publish-keys {id}`"
            );
            Failure::Unavailable(problem.into())
        })
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

    /// Loads and parses a secret. An invalid secret is a result and not an outage: it replaces the cached keys, and
    /// the tenant's requests fail until the secret is corrected (docs/design/security.md#rule-17).
    async fn load_keys(&self, tenant: &Tenant, now: Timestamp) -> Result<Option<LoadedSecret>, Failure> {
        let secret = self.source.secret(&tenant.id).await?;
        Ok(secret.map(|secret| LoadedSecret::read(tenant, &secret, now)))
    }
}

impl SecretUse {
    /// Compares a caller's key and secret with the tenant's (docs/design/security.md#rule-18).
    ///
    /// # Errors
    /// `InvalidTenantCredentials` for a wrong key or secret.
    pub fn verify(
        keys: &Arc<TenantKeys>,
        (key, secret): (&SecretString, &SecretString),
    ) -> Result<Self, Failure> {
        let pair = keys.open_with(key, secret).ok_or(Failure::InvalidTenantCredentials)?;
        Ok(Self { keys: Arc::clone(keys), pair })
    }
}

/// Public keys that were read for one state of the tenant's record.
pub struct LoadedKeys {
    /// The keys.
    pub keys: PublishedKeys,
    /// Version in the record at the time of the read.
    active: Option<ActiveSecret>,
    loaded_at: Timestamp,
}

impl LoadedKeys {
    fn suits(&self, active: Option<&ActiveSecret>, now: Timestamp) -> bool {
        let is_active = active.is_none_or(|active| active.version == self.keys.version);
        self.active.as_ref() == active && (is_active || now < incomplete_until(active, self.loaded_at))
    }
}

/// Result of one load of a secret, for one state of the tenant's record.
struct LoadedSecret {
    /// The keys, or why the secret cannot be used.
    keys: Result<Arc<TenantKeys>, String>,
    /// Version in the record at the time of the load.
    active: Option<ActiveSecret>,
    /// Whether the version in the record is among the loaded ones.
    has_active: bool,
    loaded_at: Timestamp,
    /// Time until which the previous version signs; `None` if a change of the record ends it.
    signs_until: Option<Timestamp>,
}

impl LoadedSecret {
    fn suits(&self, tenant: &Tenant, now: Timestamp) -> bool {
        let is_usable = self.keys.as_ref().is_ok_and(|keys| keys.can_sign(tenant.policy.algorithm));
        self.active == tenant.active_secret
            && self.signs_until.is_none_or(|until| now < until)
            && (is_usable || now < after(self.loaded_at, UNUSABLE))
            && (self.has_active || now < incomplete_until(self.active.as_ref(), self.loaded_at))
    }

    fn read(tenant: &Tenant, secret: &TenantSecret, now: Timestamp) -> Self {
        let (id, active) = (&tenant.id, tenant.active_secret.clone());
        let is_active =
            |version: &SecretVersion| active.as_ref().is_none_or(|active| active.version == version.id);
        let has_active = is_active(&secret.current) || secret.previous.as_ref().is_some_and(is_active);
        let loaded = |keys, signs_until| Self {
            keys,
            active: active.clone(),
            has_active,
            loaded_at: now,
            signs_until,
        };
        // The call that retired a version is certain, but a load may return the stages from before it.
        let retired = active.as_ref().and_then(|active| active.retired.as_deref());
        if !has_active && retired == Some(secret.current.id.as_str()) {
            let problem = format!("Secrets Manager returned a retired version of the secret of tenant {id}");
            return loaded(Err(problem), None);
        }
        let mut current = match read_document(&secret.current) {
            Ok(current) => current,
            Err(error) => return loaded(Err(format!("tenant {id}: {error}")), None),
        };
        current.settle_retirement(active.as_ref());
        current.drop_ended(now);
        // Secrets Manager is eventually consistent, so that a load may return a version after its retirement.
        let is_retired = active.as_ref().is_some_and(|active| {
            active.previous_retired_at.is_some() && active.version == current.version_id
        });
        let previous = secret.previous.as_ref().filter(|_| !is_retired).map(read_document).transpose();
        let previous = previous.unwrap_or_else(|error| {
            tracing::warn!(tenant = %id, %error, "secret.previous_unusable");
            None
        });
        let from = |documents: &[SecretDocument]| TenantKeys::from_documents(id, documents).map(Arc::new);
        let Some(mut previous) = previous else {
            return loaded(from(&[current]).map_err(|error| error.to_string()), None);
        };
        previous.settle_retirement(active.as_ref());
        previous.retire_like(&current);
        previous.drop_ended(now);
        if let Some(until) = active.as_ref().and_then(|active| overlap(active, &current, &previous, now))
            && let Ok(keys) = from(&[previous.clone(), current.clone()])
            && keys.can_sign(tenant.policy.algorithm)
        {
            return loaded(Ok(keys), (until < Timestamp::MAX).then_some(until));
        }
        loaded(from(&[current, previous]).map_err(|error| error.to_string()), None)
    }
}

/// Returns the time until which a load that lacks the version in the record is used.
fn incomplete_until(active: Option<&ActiveSecret>, loaded_at: Timestamp) -> Timestamp {
    let is_new = active.is_some_and(|active| loaded_at < after(active.since, NEW));
    after(loaded_at, if is_new { INCOMPLETE_AT_FIRST } else { INCOMPLETE })
}

/// Time until which the previous version signs, if it does. A rotation first moves the stages in Secrets Manager and
/// then writes the record. Until the record names the current version, other functions may not know its keys.
fn overlap(
    active: &ActiveSecret,
    current: &SecretDocument,
    previous: &SecretDocument,
    now: Timestamp,
) -> Option<Timestamp> {
    // An operator may have moved the stages by hand. The previous version is then not the source of the current one.
    if current.made_from.as_ref() != Some(&previous.version_id) {
        return None;
    }
    if active.version == previous.version_id {
        return Some(Timestamp::MAX);
    }
    Some(after(active.since, OVERLAP)).filter(|until| active.version == current.version_id && now < *until)
}

fn read_document(version: &SecretVersion) -> Result<SecretDocument, MalformedDocument> {
    let document = SecretDocument::parse(&version.text)?;
    Ok(SecretDocument { version_id: version.id.clone(), ..document })
}
