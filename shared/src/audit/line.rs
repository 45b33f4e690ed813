//! Parser of audit lines.

use jiff::Timestamp;
use serde::Deserialize;

use super::id::{ChainId, Partition, VERSION, day_of, hash};
use crate::domain::{Invalid, TenantId};

/// First characters of every audit line. Log services may add a prefix.
pub const MARK: &str = "{\"audit\":";

/// Last known event of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Tenant, if known.
    pub tenant: Option<TenantId>,
    /// Chain ID.
    pub chain: ChainId,
    /// Sequence number of the event.
    pub sequence: u64,
    /// Hash of the event.
    pub hash: String,
    /// Process that writes the chain.
    pub instance: String,
    /// Function that the process runs.
    pub function: String,
    /// Time of the event.
    pub at: Timestamp,
}

impl Head {
    /// Returns the partition of the chain.
    pub fn partition(&self) -> Partition {
        Partition { tenant: self.tenant.clone(), day: self.chain.day() }
    }
}

/// One audit line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Event in the line, with the hash that the line states.
    pub event: Head,
    /// Hash of the previous event.
    pub previous: String,
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
    /// [`Invalid`] when the line starts like an audit line but is not a valid one.
    pub fn read(text: &str) -> Option<Result<Self, Invalid>> {
        let (_, rest) = text.split_once(MARK)?;
        Some(Self::read_rest(rest.trim_end()))
    }

    fn read_rest(rest: &str) -> Result<Self, Invalid> {
        let rest = rest.strip_suffix("\"}").ok_or(Invalid::new("the end of the line is missing"))?;
        let (rest, claimed) = rest.rsplit_once(",\"hash\":\"").ok_or(Invalid::new("`hash` is missing"))?;
        let text = format!("{MARK}{rest}}}");
        let fields: LineFields =
            serde_json::from_str(&text).map_err(|_| Invalid::new("the line is not an audit event"))?;
        let LineFields { audit, time, tenant, function, instance, chain, sequence, previous } = fields;
        if audit != VERSION {
            return Err(Invalid::new("the format version is not supported"));
        }
        let at: Timestamp = time.parse().map_err(|_| Invalid::new("`time` is not a timestamp"))?;
        let chain = ChainId::parse(&chain).map_err(|_| Invalid::new("`chain` is not a ULID"))?;
        if sequence == 0 {
            return Err(Invalid::new("`sequence` is 0"));
        }
        let is_intact = hash(&text) == claimed;
        let event = Head { tenant, chain, sequence, hash: claimed.to_owned(), instance, function, at };
        Ok(Self { event, previous, is_intact })
    }

    /// Returns whether the line's time is on the day of its chain.
    pub(super) fn is_of_its_day(&self) -> bool {
        day_of(self.event.at) == self.event.chain.day()
    }
}
