//! Chains of hashes: what a process keeps in memory between two events.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use ulid::Ulid;

use super::{Decision, NOTHING_BEFORE, Sink, event, hash};
use crate::{
    domain::{Failure, Invalid, TenantId},
    port::{Clock, Entropy, random},
};

/// Chains that a process goes on with at once. Beyond, the one that rested longest is let go, and its
/// tenant's next event begins another.
const CAPACITY: usize = 1_024;

/// A chain: a ULID, so that it tells when it was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(Ulid);

impl ChainId {
    /// # Errors
    /// [`Invalid`] when the text is no ULID in its one spelling.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let id = Ulid::from_string(text).map_err(|_| Invalid::new("must be a ULID"))?;
        if id.to_string() == text { Ok(Self(id)) } else { Err(Invalid::new("must be in upper case")) }
    }

    /// The time of its first event.
    pub fn began_at(self) -> Timestamp {
        i64::try_from(self.0.timestamp_ms())
            .ok()
            .and_then(|millis| Timestamp::from_millisecond(millis).ok())
            .unwrap_or(Timestamp::MAX)
    }

    /// The one day, in UTC, of its events.
    pub fn day(self) -> Date {
        day_of(self.began_at())
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A time's day in UTC.
pub(super) fn day_of(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

/// What is told of one tenant on one day; without a tenant, of requests that none was found for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// Tenant.
    pub tenant: Option<TenantId>,
    /// Day, in UTC.
    pub day: Date,
}

/// What an event is linked by.
pub(super) struct Link<'a> {
    pub(super) instance: &'a str,
    pub(super) chain: ChainId,
    pub(super) sequence: u64,
    pub(super) previous: &'a str,
}

/// The audit log of one process.
pub struct Audit {
    sink: Arc<dyn Sink>,
    instance: Ulid,
    name: String,
    state: Mutex<State>,
}

struct State {
    chains: HashMap<Partition, Chain>,
    capacity: usize,
    /// Chains begun so far.
    begun: u128,
    /// Events told so far.
    told: u64,
}

struct Chain {
    id: ChainId,
    sequence: u64,
    hash: String,
    /// The event of the process that was its last.
    last: u64,
}

impl Audit {
    /// The log of a process that begins now.
    ///
    /// # Errors
    /// `Internal` when there is no randomness for its name.
    pub fn new(sink: Arc<dyn Sink>, clock: &dyn Clock, entropy: &dyn Entropy) -> Result<Self, Failure> {
        let bytes: [u8; 16] = random(entropy)?;
        let instance = Ulid::from_parts(millis(clock.now()), u128::from_le_bytes(bytes));
        let state = State { chains: HashMap::new(), capacity: CAPACITY, begun: 0, told: 0 };
        Ok(Self { sink, instance, name: instance.to_string(), state: Mutex::new(state) })
    }

    #[cfg(test)]
    pub(super) fn with_capacity(self, capacity: usize) -> Self {
        self.state.lock().unwrap().capacity = capacity;
        self
    }

    /// Tells of a decision. Hash and writing are under one lock, so that lines lie in the order of
    /// their sequence; nothing waits in it but for that one line.
    ///
    /// A line that cannot be written keeps its place in the chain: its absence is to be seen.
    pub fn tell(&self, decision: &Decision<'_>) {
        if let Err(problem) = self.write(decision) {
            tracing::error!(problem, outcome = decision.outcome.name, "audit.not_written");
        }
    }

    fn write(&self, decision: &Decision<'_>) -> Result<(), String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_cold = state.told == 0;
        let chain = state.chain(decision, self.instance);
        let sequence = chain.sequence + 1;
        let link = Link { instance: &self.name, chain: chain.id, sequence, previous: &chain.hash };
        let text = event::text(decision, &link, is_cold).map_err(|error| error.to_string())?;
        let hash = hash(&text);
        let whole = format!("{},\"hash\":\"{hash}\"}}\n", text.strip_suffix('}').unwrap_or(&text));
        chain.sequence = sequence;
        chain.hash = hash;
        self.sink.write(&whole).map_err(|error| error.to_string())
    }
}

impl State {
    /// The chain that a decision belongs to, begun if need be.
    fn chain(&mut self, decision: &Decision<'_>, instance: Ulid) -> &mut Chain {
        let partition = Partition { tenant: decision.facts.tenant.clone(), day: day_of(decision.at) };
        self.told += 1;
        if !self.chains.contains_key(&partition) {
            if self.chains.len() >= self.capacity {
                self.let_go();
            }
            self.begun += 1;
        }
        let (begun, last) = (self.begun, self.told);
        let chain = self.chains.entry(partition).or_insert_with(|| Chain {
            // The instance's own randomness, counted on: no generator is asked in the middle of a request.
            id: ChainId(Ulid::from_parts(millis(decision.at), instance.random().wrapping_add(begun))),
            sequence: 0,
            hash: NOTHING_BEFORE.to_owned(),
            last,
        });
        chain.last = last;
        chain
    }

    fn let_go(&mut self) {
        let oldest = self.chains.iter().min_by_key(|(_, chain)| chain.last).map(|(key, _)| key.clone());
        if let Some(oldest) = oldest {
            self.chains.remove(&oldest);
        }
    }
}

fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or_default()
}
