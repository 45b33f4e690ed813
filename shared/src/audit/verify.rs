//! Verification of an audit log: every chain must be complete from its first event to its anchor, and every
//! event must be unaltered.
//!
//! Lines may come in any order and from any number of logs. Memory use grows with the number of chains and of
//! gaps between the lines read, not with the number of events.

use std::{collections::BTreeMap, fmt};

use jiff::{Timestamp, civil::Date};

use super::{
    anchor::Anchor,
    id::{ChainId, NO_PREVIOUS_HASH, Partition},
    line::Line,
};
use crate::domain::TenantId;

/// Maximum number of faults in a report. Further faults are only counted.
const MAX_LISTED: usize = 1_000;

/// Part of the log to verify.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Only this tenant; `None`: all tenants.
    pub tenant: Option<TenantId>,
    /// First day.
    pub from: Option<Date>,
    /// Last day.
    pub to: Option<Date>,
}

impl Scope {
    /// Returns whether the scope includes a partition.
    pub fn has(&self, partition: &Partition) -> bool {
        (self.tenant.is_none() || self.tenant == partition.tenant)
            && self.from.is_none_or(|from| partition.day >= from)
            && self.to.is_none_or(|to| partition.day <= to)
    }
}

/// One fault in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Tenant and day, if known.
    pub partition: Option<Partition>,
    /// Chain ID, if known.
    pub chain: Option<ChainId>,
    /// Kind of the fault.
    pub kind: FaultKind,
}

/// Kind of a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultKind {
    /// A line starts like an event but cannot be parsed.
    Unreadable {
        /// Line number, from 1.
        line: u64,
        /// Problem of the line.
        problem: &'static str,
    },
    /// An event was altered: its hash does not match its content.
    Altered {
        /// Line number, from 1.
        line: u64,
        /// Sequence number stated in the event.
        sequence: u64,
    },
    /// Events are missing.
    Missing {
        /// First missing event.
        from: u64,
        /// Last missing event.
        to: u64,
    },
    /// An event does not contain the hash of the event before it: one of the two was replaced or moved.
    Unlinked {
        /// Sequence number of the event.
        sequence: u64,
    },
    /// Several events have the same sequence number.
    Repeated {
        /// Sequence number of the events.
        sequence: u64,
    },
    /// An event has another tenant, process or day than its chain.
    Strange {
        /// Sequence number of the event.
        sequence: u64,
    },
    /// The anchor is later than the last event of the log: the end of the chain is missing.
    Truncated {
        /// Last event in the log; 0 if the log contains none.
        last: u64,
        /// Last anchored event.
        anchored: u64,
    },
    /// The anchored event differs from the event in the log: the chain was rewritten.
    Rewritten {
        /// Sequence number of the anchored event.
        sequence: u64,
    },
    /// Events that are old enough to be anchored are not: they were added to the log.
    NotAnchored {
        /// First such event.
        from: u64,
        /// Last such event.
        to: u64,
    },
    /// An event has a time in the future: it was added to the log. Without this check, it would count as not
    /// yet anchored until that time.
    FromTheFuture {
        /// Sequence number of the event.
        sequence: u64,
    },
    /// An altered event was received when the chain was anchored.
    BrokenBefore {
        /// Time at which the first altered event was received.
        seen_at: Timestamp,
    },
}

impl FaultKind {
    /// Returns the stable name.
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
                write!(f, "event {sequence} in line {line} was altered")
            }
            Self::Missing { from, to } if from == to => write!(f, "event {from} is missing"),
            Self::Missing { from, to } => write!(f, "events {from} to {to} are missing"),
            Self::Unlinked { sequence } => write!(f, "event {sequence} does not link to the event before it"),
            Self::Repeated { sequence } => write!(f, "several events have the sequence number {sequence}"),
            Self::Strange { sequence } => {
                write!(f, "event {sequence} has another tenant, process or day than its chain")
            }
            Self::Truncated { last: 0, anchored } => {
                write!(f, "the whole chain is missing; it was anchored up to event {anchored}")
            }
            Self::Truncated { last, anchored } => {
                write!(f, "the log ends with event {last}, but event {anchored} was anchored")
            }
            Self::Rewritten { sequence } => write!(f, "event {sequence} differs from the anchored event"),
            Self::NotAnchored { from, to } if from == to => write!(f, "event {from} was never anchored"),
            Self::NotAnchored { from, to } => write!(f, "events {from} to {to} were never anchored"),
            Self::FromTheFuture { sequence } => write!(f, "event {sequence} has a time in the future"),
            Self::BrokenBefore { seen_at } => write!(f, "an altered event was received at {seen_at:.0}"),
        }
    }
}

/// Result of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Number of events in scope.
    pub events: u64,
    /// Number of their chains, including chains known only by their anchors.
    pub chains: usize,
    /// Number of lines that are not events, and of events out of scope.
    pub passed_over: u64,
    /// Number of events that are too new to be anchored.
    pub not_yet_anchored: u64,
    /// First 1,000 faults.
    pub faults: Vec<Fault>,
    /// Number of faults.
    pub fault_count: u64,
}

impl Report {
    /// Returns whether the log has no fault.
    pub fn is_whole(&self) -> bool {
        self.fault_count == 0
    }
}

/// Verifies a log line by line. The caller passes the anchors of a partition to [`Self::anchored`] before the
/// partition's first line to [`Self::take`].
pub struct Verifier {
    scope: Scope,
    due_before: Timestamp,
    newest: Timestamp,
    lines: u64,
    events: u64,
    passed_over: u64,
    not_yet_anchored: u64,
    chains: BTreeMap<ChainId, ObservedChain>,
    faults: Vec<Fault>,
    fault_count: u64,
}

/// State of a chain during verification.
struct ObservedChain {
    partition: Partition,
    /// Process that writes the chain, known from its first line.
    instance: Option<String>,
    /// Sequence number and hash of the anchored event.
    anchor: Option<(u64, String)>,
    broken_at: Option<Timestamp>,
    /// Runs of consecutive events, by the sequence number of their first event.
    runs: BTreeMap<u64, Run>,
    /// First and last event that should have been anchored but was not.
    overdue: Option<(u64, u64)>,
}

struct Run {
    /// `previous` of its first event.
    previous: String,
    last: u64,
    hash: String,
}

impl Verifier {
    /// Creates a verifier for `scope`. Events before `due_before` must be anchored, and no event can be later
    /// than `newest`.
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

    /// Parses the next line. Returns `None` for a line that is not an event in scope.
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

    /// Adds all anchors of a partition.
    pub fn anchored(&mut self, partition: &Partition, anchors: impl IntoIterator<Item = Anchor>) {
        for anchor in anchors {
            let chain =
                self.chains.entry(anchor.chain).or_insert_with(|| ObservedChain::new(partition.clone()));
            chain.anchor = anchor.head.map(|head| (head.sequence, head.hash));
            chain.broken_at = anchor.broken_at;
        }
    }

    /// Verifies the line that [`Self::read`] returned last.
    pub fn take(&mut self, line: Line) {
        self.events += 1;
        let partition = line.partition();
        let (id, sequence) = (line.chain, line.sequence);
        let chain = self.chains.entry(id).or_insert_with(|| ObservedChain::new(partition.clone()));
        let instance = chain.instance.get_or_insert_with(|| line.instance.clone());
        let is_strange = *instance != line.instance || chain.partition != partition || !line.is_of_its_day();
        let mut faults = Vec::new();
        if !line.is_intact {
            faults.push(FaultKind::Altered { line: self.lines, sequence });
        }
        if is_strange {
            faults.push(FaultKind::Strange { sequence });
        }
        if line.at > self.newest {
            faults.push(FaultKind::FromTheFuture { sequence });
        }
        match &chain.anchor {
            Some((anchored, hash)) if *anchored == sequence && *hash != line.hash => {
                faults.push(FaultKind::Rewritten { sequence });
            }
            Some((anchored, _)) if *anchored >= sequence => {}
            _ if line.at < self.due_before => {
                let (from, to) = chain.overdue.unwrap_or((sequence, sequence));
                chain.overdue = Some((from.min(sequence), to.max(sequence)));
            }
            _ => self.not_yet_anchored += 1,
        }
        faults.extend(chain.place(sequence, line.previous, line.hash));
        for kind in faults {
            self.fault(Fault { partition: Some(partition.clone()), chain: Some(id), kind });
        }
    }

    /// Returns the report after the last line.
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

impl ObservedChain {
    fn new(partition: Partition) -> Self {
        Self {
            partition,
            instance: None,
            anchor: None,
            broken_at: None,
            runs: BTreeMap::new(),
            overdue: None,
        }
    }

    /// Adds an event to the runs. Returns its faults.
    fn place(&mut self, sequence: u64, previous: String, hash: String) -> Vec<FaultKind> {
        let mut faults = Vec::new();
        if sequence == 1 && previous != NO_PREVIOUS_HASH {
            faults.push(FaultKind::Unlinked { sequence });
        }
        let before = self.runs.range_mut(..=sequence).next_back();
        let first = match before {
            Some((_, run)) if sequence <= run.last => {
                faults.push(FaultKind::Repeated { sequence });
                return faults;
            }
            Some((first, run)) if run.last.checked_add(1) == Some(sequence) => {
                if run.hash != previous {
                    faults.push(FaultKind::Unlinked { sequence });
                }
                (run.last, run.hash) = (sequence, hash);
                *first
            }
            _ => {
                self.runs.insert(sequence, Run { previous, last: sequence, hash });
                sequence
            }
        };
        // Joins the run that starts right after this event.
        let next = sequence.checked_add(1).and_then(|next| self.runs.remove_entry(&next));
        if let (Some((start, next)), Some(run)) = (next, self.runs.get_mut(&first)) {
            if next.previous != run.hash {
                faults.push(FaultKind::Unlinked { sequence: start });
            }
            (run.last, run.hash) = (next.last, next.hash);
        }
        faults
    }

    /// Returns the faults of the chain as a whole.
    fn finish(&self) -> Vec<FaultKind> {
        let mut faults = Vec::new();
        let mut last = 0_u64;
        for (first, run) in &self.runs {
            let expected = last.saturating_add(1);
            if *first > expected {
                faults.push(FaultKind::Missing { from: expected, to: first - 1 });
            }
            last = run.last;
        }
        if let Some((anchored, _)) = self.anchor
            && anchored > last
        {
            faults.push(FaultKind::Truncated { last, anchored });
        }
        if let Some((from, to)) = self.overdue {
            faults.push(FaultKind::NotAnchored { from, to });
        }
        if let Some(seen_at) = self.broken_at {
            faults.push(FaultKind::BrokenBefore { seen_at });
        }
        faults
    }
}
