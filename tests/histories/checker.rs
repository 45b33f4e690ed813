//! Search for a sequential order of a history that the model allows (Wing and Gong, with Lowe's memoization).
//! Unlike a plain linearizability checker, an operation may lead to several states, or to none of them.

use std::collections::{BTreeMap, HashSet};

use super::{
    model::{Facts, Model},
    operations::{Deed, Operation, Outcome},
};

/// Maximum number of states of one search.
const MAX_STATES: usize = 500_000;

/// Returns whether a sequential order of the operations explains all results.
///
/// # Panics
/// When the history has more than 128 operations, or needs too many states.
pub(super) fn is_explained(operations: &[Operation], facts: &Facts) -> bool {
    search(operations, facts, MAX_STATES).expect("the history needs too many states")
}

/// Searches for a sequential order. Returns `None` if `max_states` are not enough to decide.
///
/// # Panics
/// When the history has more than 128 operations.
pub(super) fn search(operations: &[Operation], facts: &Facts, max_states: usize) -> Option<bool> {
    assert!(operations.len() <= 128, "{} operations", operations.len());
    let mut operations: Vec<_> = operations.to_vec();
    operations.sort_by_key(|operation| operation.called);
    note_overlaps(&mut operations);
    let all = u128::MAX >> (128 - operations.len());
    let mut seen = HashSet::new();
    let mut open = vec![(0_u128, Model::new())];
    while let Some((done, model)) = open.pop() {
        if done == all {
            return Some(true);
        }
        let left = || operations.iter().enumerate().filter(|(index, _)| done & (1 << index) == 0);
        let first_return = left().map(|(_, operation)| operation.returned).min().unwrap_or_default();
        for (index, operation) in left().take_while(|(_, operation)| operation.called < first_return) {
            let done = done | 1 << index;
            for after in model.after(operation, facts) {
                if seen.insert((done, after.clone())) {
                    open.push((done, after));
                }
            }
        }
        if seen.len() > max_states {
            return None;
        }
    }
    Some(false)
}

/// Notes for each login what ran at the same time.
fn note_overlaps(operations: &mut [Operation]) {
    let mut ends = BTreeMap::new();
    for login in operations.iter().filter(|operation| matches!(operation.deed, Deed::LogIn { .. })) {
        let others = || {
            operations.iter().filter(|other| {
                other.number != login.number && other.called < login.returned && login.called < other.returned
            })
        };
        let ending = others().filter(|other| may_end_sessions(other)).count();
        let key = |operation: &Operation| match operation.deed {
            Deed::LogIn { key, .. } => key,
            _ => None,
        };
        let has_same_key = key(login).is_some() && others().any(|other| key(other) == key(login));
        ends.insert(login.number, (ending, has_same_key));
    }
    for operation in operations {
        (operation.overlapping_ends, operation.overlaps_same_key) =
            ends.get(&operation.number).copied().unwrap_or_default();
    }
}

fn may_end_sessions(operation: &Operation) -> bool {
    let is_ending = match operation.deed {
        Deed::LogOut { .. }
        | Deed::Refresh { .. }
        | Deed::Change { .. }
        | Deed::End { .. }
        | Deed::SetByCode { .. }
        | Deed::SetByAdmin { .. }
        | Deed::Reset { .. }
        | Deed::SetDisabled(true)
        | Deed::SetSuspended(_) => true,
        _ => false,
    };
    let is_rotation = matches!(operation.outcome, Outcome::Granted { .. });
    is_ending && !is_rotation
}
