//! Traits with several implementations: time, randomness, hashing and message delivery. `function`, `password` and
//! `courier` implement them for AWS, and tests for themselves.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::{Failure, HashCost, Password, PasswordHash};

/// The time. An entry point reads it once per request and passes it down.
pub trait Clock: Send + Sync {
    /// Returns the current time.
    fn now(&self) -> Timestamp;
}

/// Randomness fit for keys.
pub trait Entropy: Send + Sync {
    /// Fills `bytes` with random ones.
    ///
    /// # Errors
    /// `Failure::Internal` when the system gives none.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), Failure>;
}

/// `N` random bytes.
///
/// # Errors
/// As [`Entropy::fill`].
pub fn random<const N: usize>(entropy: &dyn Entropy) -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes)?;
    Ok(bytes)
}

/// Result of comparing a password with a stored hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordCheck {
    /// The password does not match.
    Wrong,
    /// The password matches.
    Right,
    /// The password matches, and a new hash of this cost should replace the stored hash
    /// (docs/design/security.md#rule-4).
    Outdated(HashCost),
}

impl PasswordCheck {
    /// Returns whether the password matches.
    pub fn is_right(self) -> bool {
        self != Self::Wrong
    }

    /// Returns the cost of the new hash that should replace the stored one.
    pub fn replacement(self) -> Option<HashCost> {
        match self {
            Self::Outdated(cost) => Some(cost),
            Self::Wrong | Self::Right => None,
        }
    }
}

/// Slow hashing, off the async threads and bounded by memory (docs/design/security.md#rule-11).
#[async_trait]
pub trait Passwords: Send + Sync {
    /// Compares `password` with `hash`, and the stored cost with `cost`. Without a hash, does the same work and
    /// returns `Wrong` (docs/design/security.md#rule-9).
    async fn verify(
        &self,
        password: Password,
        hash: Option<PasswordHash>,
        cost: HashCost,
    ) -> Result<PasswordCheck, Failure>;

    /// Hashes a new password.
    async fn hash(&self, password: Password, cost: HashCost) -> Result<PasswordHash, Failure>;
}

/// What carries messages to people, and events to tenants' buses.
#[async_trait]
pub trait Courier: Send + Sync {
    /// Sends a mail.
    ///
    /// # Errors
    /// As [`CourierError`] says.
    async fn send_mail(&self, mail: &Mail<'_>) -> Result<(), CourierError>;

    /// Sends `text` to a telephone number (E.164).
    ///
    /// # Errors
    /// As [`CourierError`] says.
    async fn send_text(&self, number: &str, text: &str) -> Result<(), CourierError>;

    /// Puts an event on a tenant's bus.
    ///
    /// # Errors
    /// As [`CourierError`] says.
    async fn send_event(&self, event: &BusEvent<'_>) -> Result<(), CourierError>;
}

/// A mail to one address. No `Debug`: it may hold a code.
#[derive(Clone, Copy)]
pub struct Mail<'a> {
    /// Sender: an address, or a name and an address (RFC 5322, section 3.4).
    pub from: &'a str,
    /// The one recipient's address.
    pub to: &'a str,
    /// Subject: one line.
    pub subject: &'a str,
    /// Its plain text.
    pub text: &'a str,
    /// The same as HTML.
    pub html: Option<&'a str>,
}

/// An event for a tenant that sends its messages itself. No `Debug`: it may hold a code.
#[derive(Clone, Copy)]
pub struct BusEvent<'a> {
    /// Name or ARN of the bus.
    pub bus: &'a str,
    /// What happened: EventBridge's `detail-type`.
    pub detail_type: &'a str,
    /// The particulars, a JSON object.
    pub detail: &'a str,
}

/// Why a message was not taken. None holds its address or content, because all are logged.
#[derive(Debug)]
pub enum CourierError {
    /// The service limits the rate of sends, for that reason. A later try succeeds.
    Throttled(String),
    /// It never will be, for that reason.
    Refused(String),
    /// Another try may succeed.
    Failed(Failure),
}
