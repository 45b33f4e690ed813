//! Parser of audit lines.

use jiff::Timestamp;
use serde::Deserialize;

use super::id::{ChainId, Partition, VERSION, day_of, hash};
use crate::domain::TenantId;

/// First characters of every audit line. Log services may add a prefix.
pub const MARK: &str = "{\"audit\":";

/// Error for a line that starts like an audit line but cannot be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(&'static str);

impl Unreadable {
    /// Returns the problem.
    pub fn why(self) -> &'static str {
        self.0
    }
}

/// Fields of an audit line that verification needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Time of the decision.
    pub at: Timestamp,
    /// Tenant, if known.
    pub tenant: Option<TenantId>,
    /// Function that wrote the line.
    pub function: String,
    /// Process that wrote the line.
    pub instance: String,
    /// Chain ID.
    pub chain: ChainId,
    /// Sequence number in the chain, from 1.
    pub sequence: u64,
    /// Hash of the previous event.
    pub previous: String,
    /// Hash stated in the line.
    pub hash: String,
    /// Whether the stated hash is the hash of the line, so that the line was not altered.
    pub is_intact: bool,
}

#[derive(Deserialize)]
struct LineFields {
    audit: u32,
    time: String,
    #[serde(default)]
    tenant: Option<TenantId>,
    function: String,
    instance: String,
    chain: String,
    sequence: u64,
    previous: String,
}

impl Line {
    /// Parses a line of a log. Returns `None` for a line that is not an audit line.
    ///
    /// # Errors
    /// [`Unreadable`] when the line starts like an audit line but is not a valid one.
    pub fn read(text: &str) -> Option<Result<Self, Unreadable>> {
        let (_, rest) = text.split_once(MARK)?;
        Some(Self::read_rest(rest.trim_end()))
    }

    fn read_rest(rest: &str) -> Result<Self, Unreadable> {
        let rest = rest.strip_suffix("\"}").ok_or(Unreadable("the end of the line is missing"))?;
        let (rest, claimed) = rest.rsplit_once(",\"hash\":\"").ok_or(Unreadable("`hash` is missing"))?;
        let text = format!("{MARK}{rest}}}");
        let fields: LineFields =
            serde_json::from_str(&text).map_err(|_| Unreadable("the line is not an audit event"))?;
        let LineFields { audit, time, tenant, function, instance, chain, sequence, previous } = fields;
        if audit != VERSION {
            return Err(Unreadable("the format version is not supported"));
        }
        let at = time.parse().map_err(|_| Unreadable("`time` is not a timestamp"))?;
        let chain = ChainId::parse(&chain).map_err(|_| Unreadable("`chain` is not a ULID"))?;
        if sequence == 0 {
            return Err(Unreadable("`sequence` is 0"));
        }
        let is_intact = hash(&text) == claimed;
        let hash = claimed.to_owned();
        Ok(Self { at, tenant, function, instance, chain, sequence, previous, hash, is_intact })
    }

    /// Returns the partition of the line's chain.
    pub fn partition(&self) -> Partition {
        Partition { tenant: self.tenant.clone(), day: self.chain.day() }
    }

    /// Returns whether the line's time is on the day of its chain.
    pub(super) fn is_of_its_day(&self) -> bool {
        day_of(self.at) == self.chain.day()
    }
}
