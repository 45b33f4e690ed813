//! Last use of each version of a tenant's secret (docs/design/security.md#rule-18). An operator retires the previous
//! version when no caller uses it any more.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    DynamoStore,
    item::{instant, number, string, ttl_seconds},
    keys::Key,
    table::Expressions,
};
use crate::domain::{Failure, TenantId};

/// Interval between two records of the same version. All processes together write at most once per interval.
const RECORD_INTERVAL: Duration = Duration::from_secs(60);
/// Retention of a record: longer than any rotation takes.
const RETENTION: Duration = Duration::from_secs(400 * 24 * 60 * 60);

impl DynamoStore {
    /// Records the use of a version of the tenant's secret, unless a use was recorded within the last 60 s.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn note_secret_use(
        &self,
        tenant: &TenantId,
        version: &str,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let ends_at = now.checked_add(RETENTION).unwrap_or(Timestamp::MAX);
        let due = now.checked_sub(RECORD_INTERVAL).unwrap_or(Timestamp::MIN);
        let update = Expressions::update("SET version_id = :version, last_used_at = :now, expires_at = :ttl")
            .when("attribute_not_exists(last_used_at) OR last_used_at <= :due")
            .value(":version", string(version))
            .value(":now", instant(now))
            .value(":ttl", number(ttl_seconds(ends_at)))
            .value(":due", instant(due));
        self.update(&Key::secret_use(tenant, version), update).await.map(|_| ())
    }
}
