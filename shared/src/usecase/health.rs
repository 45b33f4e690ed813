//! Health of the service: whether it reaches its table (docs/design/contract.md#public-documents).

use std::time::Duration;

use jiff::Timestamp;

use super::Service;
use crate::cache::Freshness;

/// Cache times of a check. They bound the load: one process reads the table once in this time, however many
/// requests arrive.
pub(super) const CHECK: Freshness = Freshness {
    fresh: Duration::from_secs(5),
    stale: Duration::from_secs(5),
    absent: Duration::from_secs(2),
};
/// Maximum duration of a check.
const MAX_WAIT: Duration = Duration::from_secs(2);

impl Service {
    /// Whether the table answered the latest check. The log has the cause of a failed check.
    pub async fn is_healthy(&self, now: Timestamp) -> bool {
        let check = || async {
            match tokio::time::timeout(MAX_WAIT, self.store.reach()).await {
                Ok(Ok(())) => return Ok(Some(())),
                Ok(Err(failure)) => tracing::error!(%failure, "table.unreachable"),
                Err(_) => tracing::error!("table.unreachable"),
            }
            Ok(None)
        };
        self.health.get(&(), now, check).await.is_ok_and(|healthy| healthy.is_some())
    }
}
