//! When each version of a tenant's secret was last used (docs/design/security.md#rule-18): an operator retires the previous
//! one once nobody uses it any more.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::{
    DynamoStore,
    conflict::{only_refused, retried},
    item::{decode, instant, number, string, to_instant, ttl_seconds, unavailable},
    keys::{Key, SECRET_PREFIX},
};
use crate::domain::{Failure, TenantId};

/// A use is noted if none was for that long: so many processes write no more than one does.
const NOTED_EVERY: Duration = Duration::from_secs(60);
/// How long a version's last use is known: longer than any rotation should take.
const KEPT: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// When a version of a tenant's secret was last used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastUse {
    /// The version's id in Secrets Manager.
    pub version: String,
    /// When, to the minute.
    pub at: Timestamp,
}

#[derive(Deserialize)]
struct UseItem {
    version_id: String,
    last_used_at: i64,
}

impl DynamoStore {
    pub(super) async fn note_use(
        &self,
        tenant: &TenantId,
        version: &str,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let ends_at = now.checked_add(KEPT).unwrap_or(Timestamp::MAX);
        let due = now.checked_sub(NOTED_EVERY).unwrap_or(Timestamp::MIN);
        let request = || {
            self.client
                .update_item()
                .table_name(&self.table)
                .set_key(Some(Key::secret_use(tenant, version).attributes()))
                .update_expression("SET version_id = :version, last_used_at = :now, expires_at = :ttl")
                .condition_expression("attribute_not_exists(last_used_at) OR last_used_at <= :due")
                .expression_attribute_values(":version", string(version))
                .expression_attribute_values(":now", instant(now))
                .expression_attribute_values(":ttl", number(ttl_seconds(ends_at)))
                .expression_attribute_values(":due", instant(due))
                .send()
        };
        match retried(request).await {
            Ok(_) => Ok(()),
            Err(error) => only_refused(&error),
        }
    }

    /// When each version of a tenant's secret was last used, in no order. For operators' tools.
    ///
    /// # Errors
    /// `Unavailable` when storage does not answer.
    pub async fn secret_uses(&self, tenant: &TenantId) -> Result<Vec<LastUse>, Failure> {
        let found = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk AND begins_with(sk, :uses)")
            .expression_attribute_values(":pk", string(Key::tenant(tenant).pk))
            .expression_attribute_values(":uses", string(SECRET_PREFIX))
            .consistent_read(true)
            .into_paginator()
            .items()
            .send()
            .try_collect()
            .await
            .map_err(|error| unavailable(&error))?;
        let read = |item| {
            let UseItem { version_id, last_used_at } = decode(item)?;
            Ok(LastUse { version: version_id, at: to_instant(last_used_at)? })
        };
        found.into_iter().map(read).collect()
    }
}
