//! Reduction of a history that no sequential order explains.
//!
//! Each step only weakens what the history claims: a shorter history that still has no order is therefore as
//! wrong as the whole one. The steps are:
//! - Cut everything after the first response that has no explanation. Operations in progress may or may not
//!   have taken effect.
//! - Drop operations that changed nothing.
//! - Replace results by "unknown", which allows any of them and none.

use super::{
    checker::search,
    model::Facts,
    operations::{Deed, Operation, Outcome, Refusal},
};

/// Maximum number of states of one search. A step that needs more is not taken, because unknown results multiply
/// the states.
const MAX_STATES: usize = 20_000;

/// Returns a shorter history that still has no sequential order.
pub(super) fn shrunk(operations: &[Operation], facts: &Facts) -> Vec<Operation> {
    let mut left = shortest_prefix(operations, facts);
    for reduce in [without as fn(&[Operation], usize) -> Option<Vec<Operation>>, with_unknown] {
        for index in (0..left.len()).rev() {
            if let Some(fewer) = reduce(&left, index)
                && has_no_order(&fewer, facts)
            {
                left = fewer;
            }
        }
    }
    left
}

/// Returns whether it is certain that no sequential order explains the results.
fn has_no_order(operations: &[Operation], facts: &Facts) -> bool {
    search(operations, facts, MAX_STATES) == Some(false)
}

fn shortest_prefix(operations: &[Operation], facts: &Facts) -> Vec<Operation> {
    let mut returns: Vec<_> = operations.iter().map(|operation| operation.returned).collect();
    returns.sort_unstable();
    let first = returns.partition_point(|at| !has_no_order(&until(operations, *at), facts));
    // The whole history has no order, also if the prefixes need too many states.
    until(operations, returns.get(first).copied().unwrap_or(usize::MAX))
}

/// The history until a response. Later responses are not known.
fn until(operations: &[Operation], at: usize) -> Vec<Operation> {
    let begun = operations.iter().filter(|operation| operation.called <= at).cloned();
    let cut = |mut operation: Operation| {
        if operation.returned > at {
            operation.outcome = Outcome::Unknown { ended: false };
        }
        operation
    };
    begun.map(cut).collect()
}

/// The history without an operation that changed nothing.
fn without(operations: &[Operation], index: usize) -> Option<Vec<Operation>> {
    let Operation { deed, outcome, .. } = &operations[index];
    let changes_nothing = match outcome {
        Outcome::Refused(Refusal::Reused) => false,
        Outcome::Refused(_) | Outcome::Observed(_) => true,
        Outcome::Done => matches!(deed, Deed::Use { .. }),
        _ => false,
    };
    changes_nothing.then(|| {
        let mut fewer = operations.to_vec();
        fewer.remove(index);
        fewer
    })
}

/// The history in which the effect of an operation is not known.
fn with_unknown(operations: &[Operation], index: usize) -> Option<Vec<Operation>> {
    // Time passes in every history.
    let is_certain = matches!(operations[index].deed, Deed::Wait { .. });
    (!is_certain).then(|| {
        let mut weaker = operations.to_vec();
        weaker[index].outcome = Outcome::Unknown { ended: false };
        weaker
    })
}
