//! Chain heads of the audit log, called anchors (docs/audit.md).
//!
//! Each day of a tenant has its own partition, so that a range of days is read by key.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::{
    DynamoStore,
    item::{Attributes, corrupt, decode, instant, number, string, to_instant, ttl_after},
    keys::{ANCHOR_PREFIX, Key},
    table::{Expressions, Updated, query_all},
};
use crate::{
    audit::{Anchor, ChainId, Head, Partition},
    domain::Failure,
};

/// Result of storing a chain head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchored {
    /// The head was stored.
    Kept,
    /// The head, or a later one, is already stored.
    Known,
    /// The stored head has the same sequence number and another hash: two events exist.
    Forked,
}

/// Retention of an anchor: 13 months, one of the retention periods of CloudWatch Logs. The log of a year can be
/// verified until its last day.
const RETENTION: Duration = Duration::from_secs(400 * 24 * 60 * 60);

#[derive(Deserialize)]
struct AnchorItem {
    sk: String,
    #[serde(default)]
    sequence: Option<u64>,
    #[serde(default)]
    hash: String,
    #[serde(default)]
    instance: String,
    #[serde(default)]
    function: String,
    #[serde(default)]
    last_at: i64,
    #[serde(default)]
    broken_at: Option<i64>,
}

impl DynamoStore {
    /// Stores a chain head, unless a later one is already stored.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn anchor(&self, head: &Head) -> Result<Anchored, Failure> {
        let reserved = ["sequence", "hash", "instance", "function"];
        let update = Expressions::update(
            "SET #sequence = :sequence, #hash = :hash, #instance = :instance, \
             #function = :function, first_at = :first, last_at = :last, expires_at = :end",
        )
        .when("attribute_not_exists(#sequence) OR #sequence < :sequence")
        .value(":sequence", number(head.sequence))
        .value(":hash", string(&head.hash))
        .value(":instance", string(&head.instance))
        .value(":function", string(&head.function))
        .value(":first", instant(head.chain.began_at()))
        .value(":last", instant(head.at))
        .value(":end", number(ttl_of(head.chain)))
        .names(reserved.map(|name| (format!("#{name}"), name.to_owned())))
        .return_refused();
        match self.update(&Key::anchor(&head.partition(), head.chain), update).await? {
            Updated::Done(_) => Ok(Anchored::Kept),
            Updated::Refused(item) => {
                let old: AnchorItem = decode(item.unwrap_or_default())?;
                let is_other = old.sequence == Some(head.sequence) && old.hash != head.hash;
                Ok(if is_other { Anchored::Forked } else { Anchored::Known })
            }
        }
    }

    /// Marks a chain as broken, because one of its events was altered. Keeps the time of the first mark.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn mark_broken(
        &self,
        partition: &Partition,
        chain: ChainId,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let update = Expressions::update("SET broken_at = if_not_exists(broken_at, :now), expires_at = :end")
            .value(":now", instant(now))
            .value(":end", number(ttl_of(chain)));
        self.update(&Key::anchor(partition, chain), update).await.map(|_| ())
    }

    /// Reads all anchors of a tenant for one day.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn anchors(&self, partition: &Partition) -> Result<Vec<Anchor>, Failure> {
        query_all(self.query(Key::anchors(partition), ANCHOR_PREFIX), |item| to_anchor(partition, item)).await
    }
}

/// Returns the TTL of a chain's anchor. It depends only on the chain, so that all writers agree.
fn ttl_of(chain: ChainId) -> i64 {
    ttl_after(chain.began_at(), RETENTION)
}

fn to_anchor(partition: &Partition, item: Attributes) -> Result<Anchor, Failure> {
    let AnchorItem { sk, sequence, hash, instance, function, last_at, broken_at } = decode(item)?;
    let chain = sk.strip_prefix(ANCHOR_PREFIX).and_then(|id| ChainId::parse(id).ok());
    let chain = chain.ok_or_else(|| corrupt("anchor"))?;
    let at = to_instant(last_at)?;
    let tenant = partition.tenant.clone();
    Ok(Anchor {
        partition: partition.clone(),
        chain,
        head: sequence.map(|sequence| Head { tenant, chain, sequence, hash, instance, function, at }),
        broken_at: broken_at.map(to_instant).transpose()?,
    })
}
