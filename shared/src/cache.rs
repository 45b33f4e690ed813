//! A bounded cache with explicit lifetimes. At most one load per key runs at a time.

use std::{
    hash::Hash,
    sync::{Arc, RwLock},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::Mutex;

use crate::domain::{Failure, after};

/// Lifetimes of cached values.
#[derive(Debug, Clone, Copy)]
pub struct Freshness {
    /// Time for which a loaded value is used without reloading.
    pub fresh: Duration,
    /// Time after loading for which a value is used while its source is unavailable.
    pub stale: Duration,
    /// Time for which the absence of a value is cached.
    pub absent: Duration,
}

/// Time for which an old value is returned after a failed reload before the next attempt, so that a source that
/// does not respond does not delay every request.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Cached values by key. Concurrent requests for a key wait for one load.
pub struct Cache<K, V> {
    slots: quick_cache::sync::Cache<K, Arc<Slot<V>>>,
    absent: quick_cache::sync::Cache<K, Timestamp>,
    freshness: Freshness,
}

struct Slot<V> {
    entry: RwLock<Option<Entry<V>>>,
    loading: Mutex<()>,
}

struct Entry<V> {
    value: Arc<V>,
    loaded_at: Timestamp,
    reload_at: Timestamp,
    failed_at: Option<Timestamp>,
}

impl<V> Clone for Entry<V> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), ..*self }
    }
}

impl<V> Default for Slot<V> {
    fn default() -> Self {
        Self { entry: RwLock::new(None), loading: Mutex::new(()) }
    }
}

impl<V> Slot<V> {
    fn entry(&self) -> Option<Entry<V>> {
        self.entry.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn set(&self, entry: Option<Entry<V>>) {
        *self.entry.write().unwrap_or_else(std::sync::PoisonError::into_inner) = entry;
    }
}

impl<K: Eq + Hash + Clone, V> Cache<K, V> {
    /// Creates a cache of at most `capacity` values and as many absences.
    pub fn new(capacity: usize, freshness: Freshness) -> Self {
        Self {
            slots: quick_cache::sync::Cache::new(capacity),
            absent: quick_cache::sync::Cache::new(capacity),
            freshness,
        }
    }

    /// Returns the value of a key and loads it if it is unknown or no longer fresh. Returns `None` if the key has
    /// no value.
    ///
    /// # Errors
    /// The error of `load` when no usable value is cached.
    pub async fn get(
        &self,
        key: &K,
        now: Timestamp,
        load: impl AsyncFnOnce() -> Result<Option<V>, Failure>,
    ) -> Result<Option<Arc<V>>, Failure> {
        self.get_suitable(key, now, |_| true, load).await
    }

    /// Returns the value of a key like [`Self::get`]. Also loads it if the cached value is not `suitable`, but not
    /// within 30 s after a failed load.
    ///
    /// # Errors
    /// The errors of [`Self::get`].
    pub async fn get_suitable(
        &self,
        key: &K,
        now: Timestamp,
        suitable: impl Fn(&V) -> bool,
        load: impl AsyncFnOnce() -> Result<Option<V>, Failure>,
    ) -> Result<Option<Arc<V>>, Failure> {
        if self.is_absent(key, now) {
            return Ok(None);
        }
        let usable = |entry: &Entry<V>| {
            let failed = entry.failed_at.is_some_and(|failed| now < after(failed, RETRY_AFTER));
            now < entry.reload_at && (failed || suitable(&entry.value))
        };
        let slot = self.slot(key);
        if let Some(entry) = slot.entry().filter(usable) {
            return Ok(Some(entry.value));
        }
        let _loading = slot.loading.lock().await;
        if self.is_absent(key, now) {
            return Ok(None);
        }
        match slot.entry().filter(usable) {
            Some(entry) => Ok(Some(entry.value)),
            None => self.load(key, &slot, now, load).await,
        }
    }

    fn is_absent(&self, key: &K, now: Timestamp) -> bool {
        self.absent.get(key).is_some_and(|since| now < after(since, self.freshness.absent))
    }

    fn slot(&self, key: &K) -> Arc<Slot<V>> {
        let made = || Ok::<_, std::convert::Infallible>(Arc::default());
        match self.slots.get_or_insert_with(key, made) {
            Ok(slot) => slot,
            Err(never) => match never {},
        }
    }

    async fn load(
        &self,
        key: &K,
        slot: &Slot<V>,
        now: Timestamp,
        load: impl AsyncFnOnce() -> Result<Option<V>, Failure>,
    ) -> Result<Option<Arc<V>>, Failure> {
        let known = slot.entry();
        match load().await {
            Ok(Some(value)) => {
                let value = Arc::new(value);
                let reload_at = after(now, self.freshness.fresh);
                let entry = Entry { value: Arc::clone(&value), loaded_at: now, reload_at, failed_at: None };
                slot.set(Some(entry));
                Ok(Some(value))
            }
            Ok(None) => {
                slot.set(None);
                self.slots.remove(key);
                self.absent.insert(key.clone(), now);
                Ok(None)
            }
            Err(failure) => match known.filter(|entry| now < after(entry.loaded_at, self.freshness.stale)) {
                Some(entry) => {
                    tracing::warn!(%failure, "cache.stale_value_served");
                    let value = Arc::clone(&entry.value);
                    let reload_at = entry.reload_at.max(after(now, RETRY_AFTER));
                    let reload_at = reload_at.min(after(entry.loaded_at, self.freshness.stale));
                    slot.set(Some(Entry { reload_at, failed_at: Some(now), ..entry }));
                    Ok(Some(value))
                }
                None => Err(failure),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const FRESHNESS: Freshness = Freshness {
        fresh: Duration::from_secs(10),
        stale: Duration::from_secs(100),
        absent: Duration::from_secs(5),
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn down() -> Failure {
        Failure::Unavailable("down".into())
    }

    // docs/design/security.md#rule-18
    #[tokio::test]
    async fn stale_value_is_used_while_the_source_is_unavailable() {
        let cache = Cache::<&str, u32>::new(10, FRESHNESS);
        let get = async |now, answer: Result<Option<u32>, Failure>| {
            cache.get(&"k", at(now), || async { answer }).await.map(|value| value.map(|value| *value))
        };
        assert_eq!(get(0, Ok(Some(1))).await.unwrap(), Some(1));
        assert_eq!(get(9, Ok(Some(2))).await.unwrap(), Some(1));
        assert_eq!(get(10, Ok(Some(3))).await.unwrap(), Some(3));
        assert_eq!(get(20, Err(down())).await.unwrap(), Some(3));
        assert_eq!(get(49, Ok(Some(4))).await.unwrap(), Some(3), "no reload within 30 s of a failed one");
        assert_eq!(get(50, Err(down())).await.unwrap(), Some(3));
        assert_eq!(get(109, Err(down())).await.unwrap(), Some(3));
        assert!(get(110, Err(down())).await.is_err(), "no stale value after the hard limit");
        assert_eq!(get(110, Ok(Some(5))).await.unwrap(), Some(5));
    }

    // docs/design/security.md#rule-18
    #[tokio::test]
    async fn absence_is_cached() {
        let cache = Cache::<&str, u32>::new(10, FRESHNESS);
        assert_eq!(cache.get(&"k", at(0), || async { Ok(None) }).await.unwrap(), None);
        assert_eq!(cache.get(&"k", at(4), || async { Ok(Some(1)) }).await.unwrap(), None);
        let other = cache.get_suitable(&"k", at(4), |_| false, || async { Ok(Some(1)) }).await.unwrap();
        assert!(other.is_none(), "a cached absence is used for every request");
        assert_eq!(*cache.get(&"k", at(5), || async { Ok(Some(1)) }).await.unwrap().unwrap(), 1);
    }

    // docs/design/security.md#rule-18
    #[tokio::test]
    async fn unsuitable_value_is_reloaded_and_used_for_30_s_after_a_failed_load() {
        let cache = Cache::<&str, u32>::new(10, FRESHNESS);
        let get = async |now, wanted: u32, answer: Result<Option<u32>, Failure>| {
            let suitable = |value: &u32| *value == wanted;
            *cache.get_suitable(&"k", at(now), suitable, || async { answer }).await.unwrap().unwrap()
        };
        assert_eq!(get(0, 1, Ok(Some(1))).await, 1);
        assert_eq!(get(1, 1, Ok(Some(2))).await, 1, "a suitable value is not reloaded");
        assert_eq!(get(1, 2, Ok(Some(2))).await, 2);
        assert_eq!(get(2, 3, Err(down())).await, 2);
        assert_eq!(get(31, 3, Ok(Some(3))).await, 2);
        assert_eq!(get(32, 3, Ok(Some(3))).await, 3);
    }

    // docs/design/security.md#rule-18
    #[tokio::test(flavor = "multi_thread")]
    async fn absent_value_is_loaded_once_for_concurrent_requests() {
        let cache = Arc::new(Cache::<&str, u32>::new(10, FRESHNESS));
        let loads = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let (cache, loads) = (Arc::clone(&cache), Arc::clone(&loads));
                tokio::spawn(async move {
                    let load = || async move {
                        loads.fetch_add(1, Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        Ok(None)
                    };
                    cache.get(&"k", at(0), load).await.unwrap()
                })
            })
            .collect();
        for task in tasks {
            assert!(task.await.unwrap().is_none());
        }
        assert_eq!(loads.load(Ordering::SeqCst), 1);
    }

    // docs/design/security.md#rule-18
    #[tokio::test(flavor = "multi_thread")]
    async fn value_is_loaded_once_for_concurrent_requests() {
        let cache = Arc::new(Cache::<&str, u32>::new(10, FRESHNESS));
        let loads = Arc::new(AtomicUsize::new(0));
        let (open, gate) = tokio::sync::watch::channel(false);
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let (cache, loads, mut gate) = (Arc::clone(&cache), Arc::clone(&loads), gate.clone());
                tokio::spawn(async move {
                    let load = || async move {
                        loads.fetch_add(1, Ordering::SeqCst);
                        gate.wait_for(|open| *open).await.unwrap();
                        Ok(Some(1))
                    };
                    cache.get(&"k", at(0), load).await.unwrap().unwrap()
                })
            })
            .collect();
        open.send(true).unwrap();
        for task in tasks {
            assert_eq!(*task.await.unwrap(), 1);
        }
        assert_eq!(loads.load(Ordering::SeqCst), 1);
    }
}
