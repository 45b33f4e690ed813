//! A password hasher that tests can observe, delay and break.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use doorward::{
    domain::{Failure, HashCost, Password, PasswordHash},
    function::SystemEntropy,
    password::Argon2id,
    port::{PasswordCheck, Passwords},
};

use crate::fault_proxy::Gate;

/// Divisor of a policy's hash memory that keeps tests fast: the default cost becomes 64 KiB. The benchmarks measure
/// the default cost.
pub const CHEAP: u32 = 304;

/// Divides the memory of a hash cost.
pub fn divided(cost: HashCost, divisor: u32) -> HashCost {
    HashCost { memory_kib: cost.memory_kib / divisor, ..cost }
}

/// Argon2id hasher that counts the hashes of verifications and can be held or made to fail.
pub struct CountedPasswords {
    inner: Argon2id,
    /// Divisor of the memory of every policy.
    divisor: u32,
    verified: AtomicUsize,
    gate: tokio::sync::watch::Sender<bool>,
    held_hash: Mutex<Option<Gate>>,
    broken: AtomicBool,
    skips_unknown: AtomicBool,
}

impl CountedPasswords {
    /// Creates a hasher that divides the memory of every policy by `divisor`.
    pub fn new(divisor: u32) -> Self {
        Self {
            inner: Argon2id::new(Arc::new(SystemEntropy), 512, 2),
            divisor,
            verified: AtomicUsize::new(0),
            gate: tokio::sync::watch::Sender::new(true),
            held_hash: Mutex::default(),
            broken: AtomicBool::new(false),
            skips_unknown: AtomicBool::new(false),
        }
    }

    /// Makes the hasher skip the hashing for users that do not exist. The timing benchmark must
    /// notice the difference.
    pub fn set_skips_unknown(&self, skips: bool) {
        self.skips_unknown.store(skips, Ordering::SeqCst);
    }

    /// Makes every call that starts from now on fail with an internal error, or work again.
    pub fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    /// Waits until more than `before` passwords have been verified.
    ///
    /// # Panics
    /// When the count is not exceeded within 30 s.
    pub async fn until_more_than(&self, before: usize) {
        let more = async {
            while self.verified() <= before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), more).await.unwrap();
    }

    /// The number of hashes that verifications computed so far, for correct and wrong passwords.
    pub fn verified(&self) -> usize {
        self.verified.load(Ordering::SeqCst)
    }

    /// Holds the result of every verification until [`Self::open`].
    pub fn close(&self) {
        self.gate.send_replace(false);
    }

    /// Releases the held verifications.
    pub fn open(&self) {
        self.gate.send_replace(true);
    }

    /// Holds the result of the next hash of a new password until the gate is released.
    pub fn hold_next_hash(&self) -> Gate {
        let gate = Gate::default();
        *self.held_hash.lock().unwrap_or_else(PoisonError::into_inner) = Some(gate.clone());
        gate
    }
}

#[async_trait]
impl Passwords for CountedPasswords {
    async fn verify(
        &self,
        password: Password,
        hash: Option<PasswordHash>,
        cost: HashCost,
    ) -> Result<PasswordCheck, Failure> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(Failure::Internal("the test broke the hasher".into()));
        }
        if hash.is_none() && self.skips_unknown.load(Ordering::SeqCst) {
            return Ok(PasswordCheck::Wrong);
        }
        let hashes = 1 + usize::from(password.sent_bytes().is_some());
        let result = self.inner.verify(password, hash, divided(cost, self.divisor)).await;
        self.verified.fetch_add(hashes, Ordering::SeqCst);
        let mut gate = self.gate.subscribe();
        gate.wait_for(|open| *open).await.map_err(|closed| Failure::Internal(Box::new(closed)))?;
        // `hash` divides the cost of the new hash.
        Ok(match result? {
            PasswordCheck::Outdated(cost) => {
                PasswordCheck::Outdated(HashCost { memory_kib: cost.memory_kib * self.divisor, ..cost })
            }
            checked => checked,
        })
    }

    async fn hash(&self, password: Password, cost: HashCost) -> Result<PasswordHash, Failure> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(Failure::Internal("the test broke the hasher".into()));
        }
        let held = self.held_hash.lock().unwrap_or_else(PoisonError::into_inner).take();
        let result = self.inner.hash(password, divided(cost, self.divisor)).await;
        if let Some(gate) = held {
            gate.note_applied();
            gate.opened().await;
        }
        result
    }
}
