//! Handle of an injected fault: a test waits for the fault and releases held calls.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

/// Time after which a test that waits for a fault fails.
const WAITS_FOR: Duration = Duration::from_secs(30);

/// Handle of an injected fault.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    applied: watch::Sender<usize>,
    executed: watch::Sender<usize>,
    is_open: watch::Sender<bool>,
}

impl Gate {
    /// Number of calls that the fault was applied to.
    pub fn applied(&self) -> usize {
        *self.0.applied.borrow()
    }

    /// Waits until the fault was applied to a call. A held call has then reached the point where it
    /// waits.
    ///
    /// # Panics
    /// When that does not happen within 30 seconds.
    pub async fn reached(&self) {
        until(&self.0.applied, |count| *count > 0, "no call reached the gate").await;
    }

    /// Lets the held calls continue, including later ones.
    pub fn release(&self) {
        self.0.is_open.send_replace(true);
    }

    /// Waits until the service has executed a held or late call.
    ///
    /// # Panics
    /// When that does not happen within 30 seconds.
    pub async fn executed(&self) {
        until(&self.0.executed, |count| *count > 0, "no call with the fault was executed").await;
    }

    pub(crate) fn note_applied(&self) {
        self.0.applied.send_modify(|count| *count += 1);
    }

    pub(super) fn note_executed(&self) {
        self.0.executed.send_modify(|count| *count += 1);
    }

    pub(crate) async fn opened(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.is_open.subscribe().wait_for(|open| *open).await;
    }
}

async fn until<T>(sender: &watch::Sender<T>, condition: impl FnMut(&T) -> bool, failure: &str) {
    let mut receiver = sender.subscribe();
    let waited = tokio::time::timeout(WAITS_FOR, receiver.wait_for(condition)).await;
    assert!(waited.is_ok(), "{failure} within {WAITS_FOR:?}");
}
