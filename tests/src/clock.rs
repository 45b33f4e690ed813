//! A clock that only tests move.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use doorward::port::Clock;
use jiff::{SignedDuration, Timestamp};

/// A clock that stands still until a test moves it.
pub struct TestClock {
    /// Milliseconds since the Unix epoch.
    now: Arc<AtomicI64>,
    skew: SignedDuration,
}

impl TestClock {
    /// A clock that shows this time, in milliseconds since the Unix epoch.
    pub fn at(milliseconds: i64) -> Self {
        Self { now: Arc::new(AtomicI64::new(milliseconds)), skew: SignedDuration::ZERO }
    }

    /// A clock that moves with this one, and is fast by `skew`.
    #[must_use]
    pub fn skewed(&self, skew: SignedDuration) -> Self {
        Self { now: Arc::clone(&self.now), skew: self.skew + skew }
    }

    /// Sets the time, from which a skewed clock differs.
    pub fn set(&self, now: Timestamp) {
        self.now.store(now.as_millisecond(), Ordering::SeqCst);
    }

    /// Moves the time forward.
    pub fn advance(&self, by: Duration) {
        self.now.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let now = Timestamp::from_millisecond(self.now.load(Ordering::SeqCst)).unwrap_or(Timestamp::MAX);
        now.saturating_add(self.skew).unwrap_or(Timestamp::MAX)
    }
}
