//! Counters of calls: how many arrived, and how many are in progress.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

/// Counters of the calls of one proxy.
#[derive(Default)]
pub(super) struct Arrivals(Arc<Counts>);

#[derive(Default)]
struct Counts {
    arrived: watch::Sender<usize>,
    in_progress: watch::Sender<usize>,
}

/// Delay of a call: until more calls have arrived, or for a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delay {
    /// Number of later calls.
    pub(super) others: usize,
    /// Maximum time.
    pub(super) within: Duration,
}

/// Call in progress. The call ends when this value is dropped.
pub(super) struct Running {
    counts: Arc<Counts>,
    /// Number of calls that had arrived, including this one.
    number: usize,
}

impl Arrivals {
    /// Counts a call that arrives.
    pub(super) fn enter(&self) -> Running {
        self.0.in_progress.send_modify(|count| *count += 1);
        let mut number = 0;
        self.0.arrived.send_modify(|count| {
            *count += 1;
            number = *count;
        });
        Running { counts: Arc::clone(&self.0), number }
    }

    /// Waits until no call is in progress.
    pub(super) async fn settle(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.in_progress.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Running {
    /// Waits for a delay, which began when the call arrived.
    pub(super) async fn wait(&self, delay: Delay) {
        let mut arrived = self.counts.arrived.subscribe();
        let enough = arrived.wait_for(|count| *count >= self.number + delay.others);
        // After the maximum time, the call continues too.
        let _ = tokio::time::timeout(delay.within, enough).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.counts.in_progress.send_modify(|count| *count -= 1);
    }
}
