//! Whether the service reaches its table (docs/design/contract.md#public-documents).

use std::time::Duration;

use jiff::Timestamp;

use super::Service;
use crate::cache::Freshness;

/// A look at the table is believed for some seconds, whatever it showed: however many ask, one process looks
/// once in that time.
pub(super) const LOOK: Freshness = Freshness {
    fresh: Duration::from_secs(5),
    stale: Duration::from_secs(5),
    absent: Duration::from_secs(2),
};
/// A monitor does not wait longer for an answer.
const WAITS_FOR: Duration = Duration::from_secs(2);

impl Service {
    /// Whether the table answered when it was last looked at. Why it did not is for the log alone.
    pub async fn is_well(&self, now: Timestamp) -> bool {
        let look = || async {
            match tokio::time::timeout(WAITS_FOR, self.store.reach()).await {
                Ok(Ok(())) => return Ok(Some(())),
                Ok(Err(failure)) => tracing::error!(%failure, "table.unreachable"),
                Err(_) => tracing::error!("table.unreachable"),
            }
            Ok(None)
        };
        self.health.get(&(), now, look).await.is_ok_and(|seen| seen.is_some())
    }
}
