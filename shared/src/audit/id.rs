//! Identifiers of chains, and the hash that links their events.

use std::{fmt, fmt::Write as _};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use ulid::Ulid;

use crate::domain::{Invalid, TenantId};

/// Format version of the audit lines. It increases when a field is removed or changes its meaning.
pub const VERSION: u32 = 1;

/// `previous` of the first event of a chain.
pub(super) const NO_PREVIOUS_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Chain ID: a ULID that contains the time of the chain's first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(Ulid);

impl ChainId {
    /// Creates an ID from the time of the first event and a number that no other chain of that time has.
    pub(super) fn new(at: Timestamp, unique: u128) -> Self {
        Self(Ulid::from_parts(unix_millis(at), unique))
    }

    /// Parses an ID.
    ///
    /// # Errors
    /// [`Invalid`] when the text is not a ULID in upper case.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let id = Ulid::from_string(text).map_err(|_| Invalid::new("must be a ULID"))?;
        if id.to_string() == text { Ok(Self(id)) } else { Err(Invalid::new("must be in upper case")) }
    }

    /// Returns the time of the chain's first event.
    pub fn began_at(self) -> Timestamp {
        i64::try_from(self.0.timestamp_ms())
            .ok()
            .and_then(|millis| Timestamp::from_millisecond(millis).ok())
            .unwrap_or(Timestamp::MAX)
    }

    /// Returns the day (UTC) of all events of the chain.
    pub fn day(self) -> Date {
        day_of(self.began_at())
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One day of one tenant's events. Events of requests without a known tenant have `tenant` `None`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// Tenant.
    pub tenant: Option<TenantId>,
    /// Day (UTC).
    pub day: Date,
}

/// Returns the day (UTC) of a time.
pub(super) fn day_of(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

/// Returns the Unix time in milliseconds, or 0 for a time before 1970.
pub(super) fn unix_millis(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or_default()
}

/// Returns the SHA-256 hash (FIPS 180-4) of a text in lower-case hexadecimal digits.
pub(crate) fn hash(text: &str) -> String {
    let mut digits = String::with_capacity(64);
    for byte in digest(&SHA256, text.as_bytes()).as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}
