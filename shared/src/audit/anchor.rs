//! How far each chain got, as it is kept outside the log.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{ChainId, Line, Partition};
use crate::domain::TenantId;

/// The last event of a chain that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its tenant.
    pub tenant: Option<TenantId>,
    /// The chain.
    pub chain: ChainId,
    /// Its place in the chain.
    pub sequence: u64,
    /// Its hash.
    pub hash: String,
    /// The process that writes the chain.
    pub instance: String,
    /// The function that this process serves.
    pub function: String,
    /// Its time.
    pub at: Timestamp,
}

impl Head {
    fn of(line: Line) -> Self {
        let Line { at, tenant, function, instance, chain, sequence, hash, previous: _, is_intact: _ } = line;
        Self { tenant, chain, sequence, hash, instance, function, at }
    }

    /// Where its chain is kept.
    pub fn partition(&self) -> Partition {
        Partition { tenant: self.tenant.clone(), day: self.chain.day() }
    }
}

/// What is kept of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// Its tenant and day.
    pub partition: Partition,
    /// The chain.
    pub chain: ChainId,
    /// Its head; none where only altered events were seen.
    pub head: Option<Head>,
    /// When an altered event of it was first seen.
    pub broken_at: Option<Timestamp>,
}

/// What a batch of log lines says of chains.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Each chain's head.
    pub heads: Vec<Head>,
    /// Chains of which an event was altered, or which have two events in one place.
    pub broken: Vec<(Partition, ChainId)>,
    /// Events that are whole.
    pub events: u64,
    /// Lines that begin like an event, and are none that can be read or were altered.
    pub faulty: u64,
}

/// Reads a batch. What is no line of the audit log is passed over; what is one and is wrong is logged.
pub fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Reading {
    let mut heads: BTreeMap<ChainId, Head> = BTreeMap::new();
    let mut broken = BTreeSet::new();
    let mut reading = Reading::default();
    for line in lines.into_iter().filter_map(Line::read) {
        match line {
            Ok(line) if line.is_intact => {
                reading.events += 1;
                match heads.get(&line.chain) {
                    Some(head) if head.sequence == line.sequence && head.hash != line.hash => {
                        tracing::error!(chain = %line.chain, sequence = line.sequence, "audit.forked");
                        broken.insert((line.partition(), line.chain));
                    }
                    Some(head) if head.sequence >= line.sequence => {}
                    _ => {
                        heads.insert(line.chain, Head::of(line));
                    }
                }
            }
            Ok(line) => {
                reading.faulty += 1;
                tracing::error!(chain = %line.chain, sequence = line.sequence, "audit.altered");
                broken.insert((line.partition(), line.chain));
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
