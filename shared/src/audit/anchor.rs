//! Anchors: the last event of each chain, stored outside the log.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    id::{ChainId, Partition},
    line::{Head, Line},
};

/// Stored state of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// Tenant and day.
    pub partition: Partition,
    /// Chain ID.
    pub chain: ChainId,
    /// Chain head; `None` if only altered events were received.
    pub head: Option<Head>,
    /// Time at which the first altered event was received.
    pub broken_at: Option<Timestamp>,
}

/// Result of reading a batch of log lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Head of each chain.
    pub heads: Vec<Head>,
    /// Chains with an altered event, or with two events of the same sequence number.
    pub broken: Vec<(Partition, ChainId)>,
    /// Number of intact events.
    pub events: u64,
    /// Number of lines that start like an event but are unreadable or altered.
    pub faulty: u64,
}

/// Reads a batch of log lines. Skips lines that are not audit lines, and logs faulty audit lines.
pub fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Reading {
    let mut heads: BTreeMap<ChainId, Head> = BTreeMap::new();
    let mut broken = BTreeSet::new();
    let mut reading = Reading::default();
    for line in lines.into_iter().filter_map(Line::read) {
        match line {
            Ok(Line { event, is_intact: true, .. }) => {
                reading.events += 1;
                match heads.get(&event.chain) {
                    Some(head) if head.sequence == event.sequence && head.hash != event.hash => {
                        tracing::error!(chain = %event.chain, sequence = event.sequence, "audit.forked");
                        broken.insert((event.partition(), event.chain));
                    }
                    Some(head) if head.sequence >= event.sequence => {}
                    _ => {
                        heads.insert(event.chain, event);
                    }
                }
            }
            Ok(Line { event, .. }) => {
                reading.faulty += 1;
                tracing::error!(chain = %event.chain, sequence = event.sequence, "audit.altered");
                broken.insert((event.partition(), event.chain));
            }
            Err(problem) => {
                reading.faulty += 1;
                tracing::error!(%problem, "audit.unreadable");
            }
        }
    }
    reading.heads = heads.into_values().collect();
    reading.broken = broken.into_iter().collect();
    reading
}
