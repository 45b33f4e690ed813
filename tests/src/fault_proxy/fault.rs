//! Scripted faults: which call they apply to, and their effect.

use strum::EnumIter;

use super::{
    arrivals::Delay,
    call::{Call, ItemKey, Operation},
    gate::Gate,
};

/// Effect of a fault on one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter)]
pub enum Effect {
    /// A transaction is cancelled with `TransactionConflict` for the matching items. A plain write
    /// gets `TransactionConflictException`.
    Conflict,
    /// `ThrottlingException`.
    Throttle,
    /// `ProvisionedThroughputExceededException`.
    ExceedThroughput,
    /// HTTP 500 `InternalServerError`.
    FailInternally,
    /// The matching keys of a batch read are returned as unprocessed, and the others are read.
    LeaveUnprocessed,
    /// The keys that match are read after the release, the others before. Without an item, the
    /// second half of the keys is read after the release.
    Tear,
    /// The call reaches the service after the release. It does not conflict with other calls before.
    HoldRequest,
    /// The call is executed after the release. In conflict mode, it is in progress from the beginning.
    HoldBefore,
    /// The call is executed at once, and answered after the release.
    HoldAfter,
    /// The connection closes, and the call is never executed.
    LoseRequest,
    /// The call is executed, and the connection closes without an answer.
    LoseAnswer,
    /// The connection closes without an answer, and the call is executed after the release.
    DeliverLate,
    /// A read of a secret gets the answer that an equal request got before the fault. Secrets Manager is eventually
    /// consistent. Without an earlier answer, the call is executed.
    AnswerEarlier,
}

impl Effect {
    /// Returns whether the operation can have this effect.
    pub(super) fn fits(self, operation: Operation) -> bool {
        match self {
            Self::Conflict => operation.is_transaction() || operation.is_plain_write(),
            Self::LeaveUnprocessed | Self::Tear => operation == Operation::BatchGetItem,
            Self::DeliverLate => operation.is_write(),
            Self::AnswerEarlier => operation.is_secret_read(),
            _ => true,
        }
    }
}

/// Fault of the nth call of an operation, of an item if one is named. Without [`Fault::nth`], it is the
/// first call.
#[derive(Debug, Clone)]
pub struct Fault {
    operation: Operation,
    effect: Effect,
    item: ItemPattern,
    first: usize,
    count: usize,
}

impl Fault {
    /// A fault of the next call of an operation.
    pub fn on(operation: Operation, effect: Effect) -> Self {
        Self { operation, effect, item: ItemPattern::default(), first: 1, count: 1 }
    }

    /// Restricts the fault to calls with an item of this partition.
    #[must_use]
    pub fn pk(mut self, pk: impl Into<String>) -> Self {
        self.item.pk = Part::Exact(pk.into());
        self
    }

    /// Restricts the fault to calls with an item whose partition key has this prefix.
    #[must_use]
    pub fn pk_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.item.pk = Part::Prefix(prefix.into());
        self
    }

    /// Restricts the fault to calls with an item with this sort key.
    #[must_use]
    pub fn sk(mut self, sk: impl Into<String>) -> Self {
        self.item.sk = Part::Exact(sk.into());
        self
    }

    /// Restricts the fault to calls with an item whose sort key has this prefix.
    #[must_use]
    pub fn sk_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.item.sk = Part::Prefix(prefix.into());
        self
    }

    /// Applies the fault to the nth matching call. The first has the number 1.
    #[must_use]
    pub fn nth(mut self, number: usize) -> Self {
        self.first = number;
        self
    }

    /// Applies the fault to this many matching calls in a row.
    #[must_use]
    pub fn times(mut self, count: usize) -> Self {
        self.count = count;
        self
    }

    /// Applies the fault to every later matching call too.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(usize::MAX)
    }
}

/// Pattern of a primary key.
#[derive(Debug, Clone, Default)]
pub(super) struct ItemPattern {
    pk: Part,
    sk: Part,
}

#[derive(Debug, Clone, Default)]
enum Part {
    #[default]
    Any,
    Exact(String),
    Prefix(String),
}

impl Part {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => text == exact,
            Self::Prefix(prefix) => text.starts_with(prefix),
        }
    }
}

impl ItemPattern {
    pub(super) fn matches(&self, key: &ItemKey) -> bool {
        self.pk.matches(&key.pk) && self.sk.matches(&key.sk)
    }

    /// Returns whether the pattern names no item.
    pub(super) fn is_any(&self) -> bool {
        matches!((&self.pk, &self.sk), (Part::Any, Part::Any))
    }
}

/// Fault that applies to one call.
#[derive(Debug, Clone)]
pub(super) struct Injection {
    pub(super) effect: Effect,
    pub(super) item: ItemPattern,
    pub(super) gate: Gate,
    /// Random delay instead of a release by the test.
    pub(super) delay: Option<Delay>,
}

impl Injection {
    pub(super) fn new(effect: Effect) -> Self {
        Self { effect, item: ItemPattern::default(), gate: Gate::default(), delay: None }
    }
}

/// The scripted faults of one proxy, in their order.
#[derive(Debug, Default)]
pub(super) struct Script(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    fault: Fault,
    gate: Gate,
    /// Number of matching calls so far.
    matched: usize,
}

impl Script {
    pub(super) fn add(&mut self, fault: Fault) -> Gate {
        assert!(
            fault.effect.fits(fault.operation),
            "{:?} cannot have the effect {:?}",
            fault.operation,
            fault.effect
        );
        assert!(fault.first > 0, "the first call has the number 1");
        let gate = Gate::default();
        self.0.push(Rule { fault, gate: gate.clone(), matched: 0 });
        gate
    }

    /// Returns the first due fault. A call that has a fault does not count for later faults.
    pub(super) fn decide(&mut self, call: &Call) -> Option<Injection> {
        self.0.iter_mut().find_map(|rule| {
            let Fault { operation, effect, item, first, count } = &rule.fault;
            let matches = *operation == call.operation
                && (item.is_any() || call.keys.iter().any(|key| item.matches(key)));
            if !matches {
                return None;
            }
            rule.matched += 1;
            let is_due = rule.matched >= *first && rule.matched - first < *count;
            let gate = rule.gate.clone();
            is_due.then(|| Injection { effect: *effect, item: item.clone(), gate, delay: None })
        })
    }
}
