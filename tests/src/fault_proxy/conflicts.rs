//! Conflict mode: overlapping writes of one item are refused as DynamoDB refuses them.
//!
//! An item is busy from the arrival of a write until its answer.
//! - A `TransactWriteItems` with a busy item is cancelled with `TransactionConflict`, also if it only
//!   checks the item.
//! - A plain write of an item of a running transaction gets `TransactionConflictException`.
//! - A `TransactGetItems` with an item of a running write is cancelled with `TransactionConflict`.
//! - Plain writes do not conflict with each other. Plain reads never conflict.
//! - A repetition of a running transaction, with its client request token, gets
//!   `TransactionInProgressException`.
//!
//! The embedded DynamoDB executes a write in less than a millisecond, so that calls would hardly ever
//! overlap. The proxy therefore holds each write for [`WINDOW`]: until three more calls have arrived, or
//! for 2 ms. That is less than a transaction takes on AWS, and short enough for the whole suite.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    arrivals::Delay,
    call::{Call, ItemKey, Operation},
};

/// Hold of a write.
pub(super) const WINDOW: Delay = Delay { others: 3, within: Duration::from_millis(2) };

/// The busy items of one proxy.
#[derive(Default)]
pub(super) struct Conflicts {
    is_on: AtomicBool,
    busy: Mutex<Busy>,
}

#[derive(Default)]
struct Busy {
    /// Number of running transactions and of running plain writes by item.
    items: HashMap<ItemKey, (usize, usize)>,
    tokens: HashSet<String>,
}

/// Write in progress. Its items are free again when this value is dropped.
pub(super) struct Occupied<'a> {
    conflicts: &'a Conflicts,
    operation: Operation,
    keys: Vec<ItemKey>,
    token: Option<String>,
}

/// Reason to refuse a call.
pub(super) enum Overlap {
    /// Each item of the call, with whether it is busy.
    Items(Vec<bool>),
    /// The same transaction is in progress.
    SameToken,
}

impl Conflicts {
    pub(super) fn set_on(&self, on: bool) {
        self.is_on.store(on, Ordering::SeqCst);
    }

    fn busy(&self) -> MutexGuard<'_, Busy> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the items of a write as busy. Returns `None` for calls that occupy nothing.
    pub(super) fn enter(&self, call: &Call) -> Result<Option<Occupied<'_>>, Overlap> {
        let operation = call.operation;
        let is_write = operation.is_plain_write() || operation == Operation::TransactWriteItems;
        if !self.is_on.load(Ordering::SeqCst) || !(is_write || operation.is_transaction()) {
            return Ok(None);
        }
        let mut busy = self.busy();
        if call.token().is_some_and(|token| busy.tokens.contains(token)) {
            return Err(Overlap::SameToken);
        }
        let conflicts = |key: &ItemKey| {
            let (transactions, writes) = busy.items.get(key).copied().unwrap_or_default();
            transactions > 0 || (writes > 0 && operation.is_transaction())
        };
        let overlaps: Vec<_> = call.keys.iter().map(conflicts).collect();
        if overlaps.contains(&true) {
            return Err(Overlap::Items(overlaps));
        }
        if !is_write {
            return Ok(None);
        }
        for key in &call.keys {
            let (transactions, writes) = busy.items.entry(key.clone()).or_default();
            *if operation.is_transaction() { transactions } else { writes } += 1;
        }
        let token = call.token().map(str::to_owned);
        busy.tokens.extend(token.clone());
        Ok(Some(Occupied { conflicts: self, operation, keys: call.keys.clone(), token }))
    }
}

impl Drop for Occupied<'_> {
    fn drop(&mut self) {
        let mut busy = self.conflicts.busy();
        for key in &self.keys {
            if let Some((transactions, writes)) = busy.items.get_mut(key) {
                *if self.operation.is_transaction() { transactions } else { writes } -= 1;
            }
        }
        busy.items.retain(|_, counts| *counts != (0, 0));
        if let Some(token) = &self.token {
            busy.tokens.remove(token);
        }
    }
}
