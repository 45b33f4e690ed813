//! Whether a log is whole: every chain from its first event to the anchored one, each event as it was
//! written.
//!
//! Lines may come in any order, from any number of logs. What is kept in memory grows with chains and
//! with the gaps between what was read, not with events.

use std::{collections::BTreeMap, fmt};

use jiff::{Timestamp, civil::Date};

use super::{Anchor, ChainId, Line, NOTHING_BEFORE, Partition};
use crate::domain::TenantId;

/// Faults that a report lists; the others are only counted.
const MAX_LISTED: usize = 1_000;

/// What is to be verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// This tenant alone.
    pub tenant: Option<TenantId>,
    /// No day before.
    pub from: Option<Date>,
    /// No day after.
    pub to: Option<Date>,
}

impl Scope {
    /// Whether events of this tenant and day are to be verified.
    pub fn has(&self, partition: &Partition) -> bool {
        let is_wanted = self.tenant.is_none() || self.tenant == partition.tenant;
        is_wanted
            && self.from.is_none_or(|from| partition.day >= from)
            && self.to.is_none_or(|to| partition.day <= to)
    }
}

/// Something that is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Tenant and day, where they are known.
    pub partition: Option<Partition>,
    /// The chain, where it is known.
    pub chain: Option<ChainId>,
    /// What is wrong.
    pub kind: FaultKind,
}

/// What may be wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultKind {
    /// A line that begins like an event cannot be read.
    Unreadable {
        /// The line's number, from 1.
        line: u64,
        /// Why.
        problem: &'static str,
    },
    /// An event is not as it was written.
    Altered {
        /// The line's number, from 1.
        line: u64,
        /// Its place in the chain, as it says.
        sequence: u64,
    },
    /// Events are missing.
    Missing {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// An event names another one before it than the one that is there: there were two of these, or
    /// they changed places.
    Unlinked {
        /// The event that does.
        sequence: u64,
    },
    /// There is more than one event in a place.
    Repeated {
        /// The place.
        sequence: u64,
    },
    /// An event is of another tenant, process or day than its chain.
    Strange {
        /// The event.
        sequence: u64,
    },
    /// The chain was anchored further than the log goes: its end is missing.
    Truncated {
        /// The last event that is there; 0 for none.
        last: u64,
        /// The last that was anchored.
        anchored: u64,
    },
    /// The anchored event is another one: the chain was written anew.
    Rewritten {
        /// The anchored event.
        sequence: u64,
    },
    /// Events that should have been anchored long ago are not: they were added.
    NotAnchored {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// An event is of a time that is yet to come: it was added, and would have counted as not anchored
    /// yet until then.
    FromTheFuture {
        /// The event.
        sequence: u64,
    },
    /// An altered event was seen when the chain was anchored.
    BrokenBefore {
        /// When that was seen first.
        seen_at: Timestamp,
    },
}

impl FaultKind {
    /// Its stable name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "UNREADABLE",
            Self::Altered { .. } => "ALTERED",
            Self::Missing { .. } => "MISSING",
            Self::Unlinked { .. } => "UNLINKED",
            Self::Repeated { .. } => "REPEATED",
            Self::Strange { .. } => "STRANGE",
            Self::Truncated { .. } => "TRUNCATED",
            Self::Rewritten { .. } => "REWRITTEN",
            Self::NotAnchored { .. } => "NOT_ANCHORED",
            Self::FromTheFuture { .. } => "FROM_THE_FUTURE",
            Self::BrokenBefore { .. } => "BROKEN_BEFORE",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { line, problem } => write!(f, "line {line} cannot be read: {problem}"),
            Self::Altered { line, sequence } => {
                write!(f, "event {sequence} in line {line} is not as it was written")
            }
            Self::Missing { from, to } if from == to => write!(f, "event {from} is missing"),
            Self::Missing { from, to } => write!(f, "events {from} to {to} are missing"),
            Self::Unlinked { sequence } => write!(f, "event {sequence} does not follow the one before it"),
            Self::Repeated { sequence } => write!(f, "there is more than one event {sequence}"),
            Self::Strange { sequence } => {
                write!(f, "event {sequence} is of another tenant, process or day than its chain")
            }
            Self::Truncated { last: 0, anchored } => {
                write!(f, "the whole chain is missing: it was anchored up to event {anchored}")
            }
            Self::Truncated { last, anchored } => {
                write!(f, "the log ends with event {last}, but event {anchored} was anchored")
            }
            Self::Rewritten { sequence } => write!(f, "event {sequence} is another one than was anchored"),
            Self::NotAnchored { from, to } if from == to => write!(f, "event {from} was never anchored"),
            Self::NotAnchored { from, to } => write!(f, "events {from} to {to} were never anchored"),
            Self::FromTheFuture { sequence } => {
                write!(f, "event {sequence} is of a time that is yet to come")
            }
            Self::BrokenBefore { seen_at } => write!(f, "an altered event was seen at {seen_at:.0}"),
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Events of the scope.
    pub events: u64,
    /// Their chains, and those that are known by their anchors alone.
    pub chains: usize,
    /// Lines that are no events, and events outside the scope.
    pub passed_over: u64,
    /// Events so new that they may yet be anchored.
    pub not_yet_anchored: u64,
    /// What is wrong, the first 1,000.
    pub faults: Vec<Fault>,
    /// How much is wrong.
    pub fault_count: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.fault_count == 0
    }
}

/// Judges a log, line by line. The anchors of a tenant's day are [told](Self::anchored) before the first
/// of its lines is [taken](Self::take).
pub struct Verifier {
    scope: Scope,
    due_before: Timestamp,
    newest: Timestamp,
    lines: u64,
    events: u64,
    passed_over: u64,
    not_yet_anchored: u64,
    chains: BTreeMap<ChainId, Chain>,
    faults: Vec<Fault>,
    fault_count: u64,
}

/// What was seen of a chain.
struct Chain {
    partition: Partition,
    /// The process that writes it, once one of its events was seen.
    instance: Option<String>,
    /// The anchored event's place and hash.
    anchor: Option<(u64, String)>,
    broken_at: Option<Timestamp>,
    /// Runs of events without a gap, by their first.
    runs: BTreeMap<u64, Run>,
    /// First and last event that should have been anchored and was not.
    overdue: Option<(u64, u64)>,
}

struct Run {
    /// What its first event names as the one before.
    previous: String,
    last: u64,
    hash: String,
}

impl Verifier {
    /// A verifier of what is in `scope`. Events from before `due_before` must have been anchored, and
    /// none can be from after `newest`.
    pub fn new(scope: Scope, due_before: Timestamp, newest: Timestamp) -> Self {
        Self {
            scope,
            due_before,
            newest,
            lines: 0,
            events: 0,
            passed_over: 0,
            not_yet_anchored: 0,
            chains: BTreeMap::new(),
            faults: Vec::new(),
            fault_count: 0,
        }
    }

    /// Reads a line; `None` for one that is no event of the scope.
    pub fn read(&mut self, text: &str) -> Option<Line> {
        self.lines += 1;
        match Line::read(text) {
            Some(Ok(line)) if self.scope.has(&line.partition()) => return Some(line),
            Some(Err(problem)) => {
                let kind = FaultKind::Unreadable { line: self.lines, problem: problem.why() };
                self.fault(Fault { partition: None, chain: None, kind });
            }
            None if text.trim().is_empty() => {}
            Some(Ok(_)) | None => self.passed_over += 1,
        }
        None
    }

    /// Tells all anchors of a tenant's day: before the first line of it is taken.
    pub fn anchored(&mut self, partition: &Partition, anchors: impl IntoIterator<Item = Anchor>) {
        for anchor in anchors {
            let chain = self.chains.entry(anchor.chain).or_insert_with(|| Chain::of(partition.clone()));
            chain.anchor = anchor.head.map(|head| (head.sequence, head.hash));
            chain.broken_at = anchor.broken_at;
        }
    }

    /// Takes the line that was read last.
    pub fn take(&mut self, line: Line) {
        self.events += 1;
        let partition = line.partition();
        let (id, sequence) = (line.chain, line.sequence);
        let chain = self.chains.entry(id).or_insert_with(|| Chain::of(partition.clone()));
        let instance = chain.instance.get_or_insert_with(|| line.instance.clone());
        let is_strange = *instance != line.instance || chain.partition != partition || !line.is_of_its_day();
        let mut wrong = Vec::new();
        if !line.is_intact {
            wrong.push(FaultKind::Altered { line: self.lines, sequence });
        }
        if is_strange {
            wrong.push(FaultKind::Strange { sequence });
        }
        if line.at > self.newest {
            wrong.push(FaultKind::FromTheFuture { sequence });
        }
        match &chain.anchor {
            Some((anchored, hash)) if *anchored == sequence && *hash != line.hash => {
                wrong.push(FaultKind::Rewritten { sequence });
            }
            Some((anchored, _)) if *anchored >= sequence => {}
            _ if line.at < self.due_before => {
                let (from, to) = chain.overdue.unwrap_or((sequence, sequence));
                chain.overdue = Some((from.min(sequence), to.max(sequence)));
            }
            _ => self.not_yet_anchored += 1,
        }
        wrong.extend(chain.place(sequence, line.previous, line.hash));
        for kind in wrong {
            self.fault(Fault { partition: Some(partition.clone()), chain: Some(id), kind });
        }
    }

    /// What was found, once every line was taken.
    pub fn finish(mut self) -> Report {
        for (id, chain) in std::mem::take(&mut self.chains) {
            for kind in chain.finish() {
                self.fault(Fault { partition: Some(chain.partition.clone()), chain: Some(id), kind });
            }
            self.chains.insert(id, chain);
        }
        Report {
            events: self.events,
            chains: self.chains.len(),
            passed_over: self.passed_over,
            not_yet_anchored: self.not_yet_anchored,
            faults: self.faults,
            fault_count: self.fault_count,
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.fault_count += 1;
        if self.faults.len() < MAX_LISTED {
            self.faults.push(fault);
        }
    }
}

impl Chain {
    fn of(partition: Partition) -> Self {
        Self {
            partition,
            instance: None,
            anchor: None,
            broken_at: None,
            runs: BTreeMap::new(),
            overdue: None,
        }
    }

    /// Puts an event into its place; gives back what does not fit there.
    fn place(&mut self, sequence: u64, previous: String, hash: String) -> Vec<FaultKind> {
        let mut wrong = Vec::new();
        if sequence == 1 && previous != NOTHING_BEFORE {
            wrong.push(FaultKind::Unlinked { sequence });
        }
        let before = self.runs.range_mut(..=sequence).next_back();
        let first = match before {
            Some((_, run)) if sequence <= run.last => {
                wrong.push(FaultKind::Repeated { sequence });
                return wrong;
            }
            Some((first, run)) if run.last.checked_add(1) == Some(sequence) => {
                if run.hash != previous {
                    wrong.push(FaultKind::Unlinked { sequence });
                }
                (run.last, run.hash) = (sequence, hash);
                *first
            }
            _ => {
                self.runs.insert(sequence, Run { previous, last: sequence, hash });
                sequence
            }
        };
        // A run that began just behind it goes on from it.
        let behind = sequence.checked_add(1).and_then(|behind| self.runs.remove_entry(&behind));
        if let (Some((behind, next)), Some(run)) = (behind, self.runs.get_mut(&first)) {
            if next.previous != run.hash {
                wrong.push(FaultKind::Unlinked { sequence: behind });
            }
            (run.last, run.hash) = (next.last, next.hash);
        }
        wrong
    }

    /// What is wrong with the chain as a whole.
    fn finish(&self) -> Vec<FaultKind> {
        let mut wrong = Vec::new();
        let mut last = 0_u64;
        for (first, run) in &self.runs {
            let expected = last.saturating_add(1);
            if *first > expected {
                wrong.push(FaultKind::Missing { from: expected, to: first - 1 });
            }
            last = run.last;
        }
        if let Some((anchored, _)) = self.anchor
            && anchored > last
        {
            wrong.push(FaultKind::Truncated { last, anchored });
        }
        if let Some((from, to)) = self.overdue {
            wrong.push(FaultKind::NotAnchored { from, to });
        }
        if let Some(seen_at) = self.broken_at {
            wrong.push(FaultKind::BrokenBefore { seen_at });
        }
        wrong
    }
}
