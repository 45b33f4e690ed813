//! The audit log of one process: writes events and links them into hash chains.

use std::{
    collections::HashMap,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use ulid::Ulid;

use super::{
    decision::Decision,
    event::{self, ChainLink},
    id::{ChainId, NO_PREVIOUS_HASH, Partition, day_of, hash, unix_millis},
};
use crate::{
    domain::Failure,
    port::{Clock, Entropy, random},
};

/// Maximum number of chains that a process keeps open. Above it, the process closes the least recently used
/// chain, and that tenant's next event starts a new chain.
const CAPACITY: usize = 1_024;

/// Destination of audit lines, which arrive one at a time and in order.
pub trait Sink: Send + Sync {
    /// Writes a line. The line ends with its only newline.
    ///
    /// # Errors
    /// When the line was not written completely.
    fn write(&self, line: &str) -> io::Result<()>;
}

/// Standard output. Lambda forwards it to CloudWatch Logs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stdout;

impl Sink for Stdout {
    fn write(&self, line: &str) -> io::Result<()> {
        let mut output = io::stdout().lock();
        output.write_all(line.as_bytes())?;
        output.flush()
    }
}

/// Audit log of one process.
pub struct Audit {
    sink: Arc<dyn Sink>,
    instance: Ulid,
    instance_name: String,
    chains: Mutex<OpenChains>,
}

struct OpenChains {
    by_partition: HashMap<Partition, OpenChain>,
    capacity: usize,
    /// Number of chains that this process has started.
    started: u128,
    /// Number of events that this process has recorded.
    recorded: u64,
}

struct OpenChain {
    id: ChainId,
    sequence: u64,
    hash: String,
    /// Value of `recorded` at the last event of this chain.
    last_used: u64,
}

impl Audit {
    /// Creates the log of a process that is starting.
    ///
    /// # Errors
    /// `Internal` when the system returns no randomness for the instance ID.
    pub fn new(sink: Arc<dyn Sink>, clock: &dyn Clock, entropy: &dyn Entropy) -> Result<Self, Failure> {
        let bytes: [u8; 16] = random(entropy)?;
        let instance = Ulid::from_parts(unix_millis(clock.now()), u128::from_le_bytes(bytes));
        let chains = OpenChains { by_partition: HashMap::new(), capacity: CAPACITY, started: 0, recorded: 0 };
        Ok(Self { sink, instance, instance_name: instance.to_string(), chains: Mutex::new(chains) })
    }

    #[cfg(test)]
    pub(super) fn with_capacity(self, capacity: usize) -> Self {
        self.chains.lock().unwrap().capacity = capacity;
        self
    }

    /// Records a decision. One lock covers hashing and writing, so that lines are written in the order of
    /// their sequence numbers.
    ///
    /// If the line cannot be written, its sequence number stays used, so that verification reports the gap.
    pub fn tell(&self, decision: &Decision<'_>) {
        if let Err(problem) = self.write(decision) {
            tracing::error!(%problem, outcome = decision.outcome.name, "audit.not_written");
        }
    }

    fn write(&self, decision: &Decision<'_>) -> io::Result<()> {
        let mut chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        let is_cold = chains.recorded == 0;
        let chain = chains.chain(decision, self.instance);
        let sequence = chain.sequence + 1;
        let position =
            ChainLink { instance: &self.instance_name, chain: chain.id, sequence, previous: &chain.hash };
        let text = event::text(decision, &position, is_cold);
        let hash = hash(&text);
        let line = format!("{},\"hash\":\"{hash}\"}}\n", text.strip_suffix('}').unwrap_or(&text));
        chain.sequence = sequence;
        chain.hash = hash;
        self.sink.write(&line)
    }
}

impl OpenChains {
    /// Returns the chain of a decision and starts it if necessary.
    fn chain(&mut self, decision: &Decision<'_>, instance: Ulid) -> &mut OpenChain {
        let partition = Partition { tenant: decision.facts.tenant.clone(), day: day_of(decision.at) };
        self.recorded += 1;
        if !self.by_partition.contains_key(&partition) {
            if self.by_partition.len() >= self.capacity {
                self.close_least_recently_used();
            }
            self.started += 1;
        }
        let (started, recorded) = (self.started, self.recorded);
        let chain = self.by_partition.entry(partition).or_insert_with(|| OpenChain {
            // Counting up from the instance's randomness avoids a call of the generator during a request.
            id: ChainId::new(decision.at, instance.random().wrapping_add(started)),
            sequence: 0,
            hash: NO_PREVIOUS_HASH.to_owned(),
            last_used: recorded,
        });
        chain.last_used = recorded;
        chain
    }

    fn close_least_recently_used(&mut self) {
        let oldest = self.by_partition.iter().min_by_key(|(_, chain)| chain.last_used);
        if let Some(oldest) = oldest.map(|(partition, _)| partition.clone()) {
            self.by_partition.remove(&oldest);
        }
    }
}
