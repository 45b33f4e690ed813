//! Verification of an audit log: every chain must be complete from its first event to its anchor, and every
//! event must be unaltered.
//!
//! Lines may come in any order and from any number of logs. Memory use grows with the number of chains and of
//! gaps between the lines read, not with the number of events.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date};
use strum::IntoStaticStr;

use super::{
    anchor::Anchor,
    id::{ChainId, NO_PREVIOUS_HASH, Partition},
    line::Line,
};
use crate::domain::{Invalid, TenantId};

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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum FaultKind {
    /// A line starts like an event but cannot be parsed.
    #[error("line {line} cannot be read: {problem}")]
    Unreadable {
        /// Line number, from 1.
        line: u64,
        /// Problem of the line.
        problem: Invalid,
    },
    /// An event was altered: its hash does not match its content.
    #[error("event {sequence} in line {line} was altered")]
    Altered {
        /// Line number, from 1.
        line: u64,
        /// Sequence number stated in the event.
        sequence: u64,
    },
    /// Events are missing.
    #[error("{}", range(*from, *to, ("is missing", "are missing")))]
    Missing {
        /// First missing event.
        from: u64,
        /// Last missing event.
        to: u64,
    },
    /// An event does not contain the hash of the event before it: one of the two was replaced or moved.
    #[error("event {sequence} does not link to the event before it")]
    Unlinked {
        /// Sequence number of the event.
        sequence: u64,
    },
    /// Several events have the same sequence number.
    #[error("several events have the sequence number {sequence}")]
    Repeated {
        /// Sequence number of the events.
        sequence: u64,
    },
    /// An event has another tenant, process or day than its chain.
    #[error("event {sequence} has another tenant, process or day than its chain")]
    Strange {
        /// Sequence number of the event.
        sequence: u64,
    },
    /// The anchor is later than the last event of the log: the end of the chain is missing.
    #[error("{}", truncation(*last, *anchored))]
    Truncated {
        /// Last event in the log; 0 if the log contains none.
        last: u64,
        /// Last anchored event.
        anchored: u64,
    },
    /// The anchored event differs from the event in the log: the chain was rewritten.
    #[error("event {sequence} differs from the anchored event")]
    Rewritten {
        /// Sequence number of the anchored event.
        sequence: u64,
    },
    /// Events that are old enough to be anchored are not: they were added to the log.
    #[error("{}", range(*from, *to, ("was never anchored", "were never anchored")))]
    NotAnchored {
        /// First such event.
        from: u64,
        /// Last such event.
        to: u64,
    },
    /// An event has a time in the future: it was added to the log. Without this check, it would count as not
    /// yet anchored until that time.
    #[error("event {sequence} has a time in the future")]
    FromTheFuture {
        /// Sequence number of the event.
        sequence: u64,
    },
    /// An altered event was received when the chain was anchored.
    #[error("an altered event was received at {seen_at:.0}")]
    BrokenBefore {
        /// Time at which the first altered event was received.
        seen_at: Timestamp,
    },
}

impl FaultKind {
    /// Returns the stable name.
    pub fn name(&self) -> &'static str {
        self.into()
    }
}

/// Describes a range of events, with the matching form of the verb.
fn range(from: u64, to: u64, (one, several): (&str, &str)) -> String {
    if from == to { format!("event {from} {one}") } else { format!("events {from} to {to} {several}") }
}

fn truncation(last: u64, anchored: u64) -> String {
    match last {
        0 => format!("the whole chain is missing; it was anchored up to event {anchored}"),
        _ => format!("the log ends with event {last}, but event {anchored} was anchored"),
    }
}

/// Result of a verification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

    fn add(&mut self, fault: Fault) {
        self.fault_count += 1;
        if self.faults.len() < MAX_LISTED {
            self.faults.push(fault);
        }
    }
}

/// Verifies a log line by line. The caller passes the anchors of a partition to [`Self::anchored`] before the
/// partition's first line to [`Self::take`].
pub struct Verifier {
    scope: Scope,
    due_before: Timestamp,
    newest: Timestamp,
    /// Number of lines read.
    lines: u64,
    chains: BTreeMap<ChainId, ObservedChain>,
    report: Report,
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
        Self { scope, due_before, newest, lines: 0, chains: BTreeMap::new(), report: Report::default() }
    }

    /// Parses the next line. Returns `None` for a line that is not an event in scope.
    pub fn read(&mut self, text: &str) -> Option<Line> {
        self.lines += 1;
        match Line::read(text) {
            Some(Ok(line)) if self.scope.has(&line.event.partition()) => return Some(line),
            Some(Err(problem)) => {
                let kind = FaultKind::Unreadable { line: self.lines, problem };
                self.report.add(Fault { partition: None, chain: None, kind });
            }
            None if text.trim().is_empty() => {}
            Some(Ok(_)) | None => self.report.passed_over += 1,
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
        self.report.events += 1;
        let is_of_its_day = line.is_of_its_day();
        let Line { event, previous, is_intact } = line;
        let partition = event.partition();
        let (id, sequence) = (event.chain, event.sequence);
        let chain = self.chains.entry(id).or_insert_with(|| ObservedChain::new(partition.clone()));
        let instance = chain.instance.get_or_insert_with(|| event.instance.clone());
        let is_strange = *instance != event.instance || chain.partition != partition || !is_of_its_day;
        let mut faults = Vec::new();
        if !is_intact {
            faults.push(FaultKind::Altered { line: self.lines, sequence });
        }
        if is_strange {
            faults.push(FaultKind::Strange { sequence });
        }
        if event.at > self.newest {
            faults.push(FaultKind::FromTheFuture { sequence });
        }
        match &chain.anchor {
            Some((anchored, hash)) if *anchored == sequence && *hash != event.hash => {
                faults.push(FaultKind::Rewritten { sequence });
            }
            Some((anchored, _)) if *anchored >= sequence => {}
            _ if event.at < self.due_before => {
                let (from, to) = chain.overdue.unwrap_or((sequence, sequence));
                chain.overdue = Some((from.min(sequence), to.max(sequence)));
            }
            _ => self.report.not_yet_anchored += 1,
        }
        faults.extend(chain.place(sequence, previous, event.hash));
        for kind in faults {
            self.report.add(Fault { partition: Some(partition.clone()), chain: Some(id), kind });
        }
    }

    /// Returns the report after the last line.
    pub fn finish(self) -> Report {
        let Self { chains, mut report, .. } = self;
        report.chains = chains.len();
        for (id, chain) in chains {
            for kind in chain.finish() {
                report.add(Fault { partition: Some(chain.partition.clone()), chain: Some(id), kind });
            }
        }
        report
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
