//! Random histories of concurrent operations on one user, its tenant and its sessions, with faults of DynamoDB and
//! Secrets Manager (docs/design/security.md#faults). A model of the product's promises must explain the results of each
//! history by some sequential order of its operations.
//!
//! - `operations.rs`: operations and results. `people.rs`: callers that choose operations.
//! - `runner.rs`: one history. `model.rs`: the promises. `checker.rs`: the search for an order.
//! - `shrink.rs`: a shorter history with the same fault.
//!
//! `CONTRIBUTING.md` describes how to run more histories.

#![allow(
    clippy::expect_used,
    clippy::match_like_matches_macro,
    clippy::panic,
    clippy::struct_excessive_bools,
    clippy::trivially_copy_pass_by_ref,
    reason = "a test may panic; lists of cases are easier to read as they are"
)]

mod checker;
mod model;
mod operations;
mod people;
mod runner;
mod shrink;

use std::time::Instant;

use tokio::task::JoinSet;

use self::{
    checker::is_explained,
    model::{Creation, Facts},
    operations::{Deed, Operation, Outcome, Refusal},
    runner::{OPERATIONS, run_history},
    shrink::shrunk,
};

/// Environment variables: number of histories, and the seed of the first.
const COUNT: &str = "DOORWARD_TEST_HISTORIES";
const FIRST: &str = "DOORWARD_TEST_SEED";
/// Number of histories, unless the variable is set. They take about a minute on two cores. `cargo chaos` runs more.
const DEFAULT_COUNT: u64 = 60;
/// Histories at the same time. More would make calls time out on a machine with two cores.
const PARALLEL: u64 = 4;

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")),
        Err(_) => default,
    }
}

// docs/design/security.md#faults, #rule-14, #rule-15, #rule-19
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_history_has_a_sequential_order() {
    let (count, first) = (setting(COUNT, DEFAULT_COUNT), setting(FIRST, 0));
    let (started, mut next, end) = (Instant::now(), first, first + count);
    let (mut running, mut violations, mut done) = (JoinSet::new(), Vec::new(), 0_u64);
    while next < end || !running.is_empty() {
        while next < end && (running.len() as u64) < PARALLEL {
            running.spawn(run_history(next));
            next += 1;
        }
        if let Some(history) = running.join_next().await {
            done += 1;
            if let Err(violation) = history.unwrap() {
                println!("{violation}");
                violations.push(violation.seed);
            }
            if done.is_multiple_of(100) {
                println!("{done} histories, {} violations, {:.0?}", violations.len(), started.elapsed());
            }
        }
    }
    println!("{done} histories of at least {OPERATIONS} operations in {:.0?}", started.elapsed());
    violations.sort_unstable();
    assert!(violations.is_empty(), "set {FIRST} to one of these seeds and {COUNT} to 1: {violations:?}");
}

/// The facts of a history in which the first login created the session `s`.
fn facts(operations: &[Operation]) -> Facts {
    let login = operations.iter().find(|operation| matches!(operation.deed, Deed::LogIn { password: 0, .. }));
    let created = |login: &Operation| ("s".to_owned(), Creation { by: login.number, at: 0 });
    Facts { sessions: login.map(created).into_iter().collect(), limit: None }
}

/// Operations one after another.
fn in_sequence(deeds: Vec<(Deed, Outcome)>) -> Vec<Operation> {
    let each = |(number, (deed, outcome)): (usize, (Deed, Outcome))| Operation {
        outcome,
        returned: 2 * number + 1,
        ..Operation::new(number, 0, deed, 2 * number)
    };
    deeds.into_iter().enumerate().map(each).collect()
}

fn log_in() -> (Deed, Outcome) {
    let session = "s".to_owned();
    (Deed::LogIn { password: 0, key: None }, Outcome::Granted { session, generation: 0 })
}

fn uses(is_accepted: bool) -> (Deed, Outcome) {
    let outcome = if is_accepted { Outcome::Done } else { Outcome::Refused(Refusal::Ended) };
    (Deed::Use { session: "s".to_owned(), is_authorizer: false }, outcome)
}

fn refreshes(presented: u64, generation: u64) -> (Deed, Outcome) {
    let session = "s".to_owned();
    (Deed::Refresh { session: session.clone(), presented }, Outcome::Granted { session, generation })
}

fn log_out() -> (Deed, Outcome) {
    (Deed::LogOut { session: "s".to_owned() }, Outcome::Done)
}

#[test]
fn model_rejects_impossible_histories() {
    let change = (Deed::SetByAdmin { to: 1 }, Outcome::Done);
    let code = || (Deed::RequestCode, Outcome::Done);
    let by_code = |issued_by| (Deed::SetByCode { issued_by, to: 1 }, Outcome::Done);
    let suspend = (Deed::SetSuspended(true), Outcome::Done);
    let wait = |past_grace| (Deed::Wait { past_grace }, Outcome::Done);
    let unknown = Outcome::Unknown { ended: true };
    for (deeds, possible) in [
        (vec![log_in(), uses(true), log_out(), uses(false)], true),
        (vec![log_in(), log_out(), uses(true)], false),
        (vec![log_in(), log_out(), refreshes(0, 1)], false),
        (vec![log_in(), refreshes(0, 1), refreshes(0, 1), refreshes(1, 2)], true),
        (vec![log_in(), refreshes(0, 1), refreshes(0, 2)], false),
        (vec![log_in(), refreshes(0, 1), wait(true), refreshes(0, 1)], false),
        (vec![log_in(), uses(false)], false),
        (vec![log_in(), change.clone(), uses(true)], false),
        (vec![change.clone(), log_in()], false),
        (vec![log_in(), (change.0, unknown.clone()), uses(true)], true),
        (vec![log_in(), (log_out().0, unknown), uses(false), uses(true)], false),
        (vec![code(), by_code(0)], true),
        (vec![code(), by_code(0), by_code(0)], false),
        (vec![code(), code(), by_code(0)], false),
        (vec![log_in(), suspend.clone(), uses(true)], true),
        (vec![log_in(), suspend, wait(false), uses(true)], false),
    ] {
        let operations = in_sequence(deeds);
        assert_eq!(is_explained(&operations, &facts(&operations)), possible, "{operations:?}");
    }
}

#[test]
fn concurrent_operations_may_take_effect_in_either_order() {
    let mut operations = in_sequence(vec![log_in(), log_out(), uses(true)]);
    operations[1].returned = 6;
    assert!(is_explained(&operations, &facts(&operations)));
    operations[1].returned = 3;
    assert!(!is_explained(&operations, &facts(&operations)));
}

#[test]
fn shrunk_history_keeps_only_what_contradicts() {
    let wrong = (Deed::LogIn { password: 1, key: None }, Outcome::Refused(Refusal::WrongPassword));
    let deeds =
        vec![wrong.clone(), log_in(), uses(true), wrong.clone(), log_out(), wrong, uses(true), uses(false)];
    let operations = in_sequence(deeds);
    let facts = facts(&operations);
    let left = shrunk(&operations, &facts);
    let known = left.iter().filter(|operation| !matches!(operation.outcome, Outcome::Unknown { .. }));
    assert_eq!(known.map(|operation| operation.number).collect::<Vec<_>>(), [4, 6]);
    assert!(!is_explained(&left, &facts));
}
