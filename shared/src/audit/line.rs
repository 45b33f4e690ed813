//! Reading a line back.

use jiff::Timestamp;
use serde::Deserialize;

use super::{
    VERSION,
    chain::{ChainId, Partition, day_of},
    hash,
};
use crate::domain::TenantId;

/// What every line begins with, but for what a log puts before it.
pub const MARK: &str = "{\"audit\":";

/// Why a line that begins like one of the audit log cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(&'static str);

impl Unreadable {
    /// What is wrong with it.
    pub fn why(self) -> &'static str {
        self.0
    }
}

/// What a line says of its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When it was decided.
    pub at: Timestamp,
    /// Whose it is.
    pub tenant: Option<TenantId>,
    /// The function that wrote it.
    pub function: String,
    /// The process that wrote it.
    pub instance: String,
    /// Its chain.
    pub chain: ChainId,
    /// Its place there, from 1.
    pub sequence: u64,
    /// Hash of the line before.
    pub previous: String,
    /// Its own hash, as it says.
    pub hash: String,
    /// Whether that is its hash: nothing of it was altered.
    pub is_intact: bool,
}

#[derive(Deserialize)]
struct Members {
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
    /// Reads a line of a log; `None` for one that is not of the audit log.
    ///
    /// # Errors
    /// [`Unreadable`] when it begins like one and is none.
    pub fn read(text: &str) -> Option<Result<Self, Unreadable>> {
        let (_, rest) = text.split_once(MARK)?;
        Some(Self::read_rest(rest.trim_end()))
    }

    fn read_rest(rest: &str) -> Result<Self, Unreadable> {
        let rest = rest.strip_suffix("\"}").ok_or(Unreadable("its end is missing"))?;
        let (rest, claimed) = rest.rsplit_once(",\"hash\":\"").ok_or(Unreadable("its hash is missing"))?;
        let text = format!("{MARK}{rest}}}");
        let members: Members = serde_json::from_str(&text).map_err(|_| Unreadable("it is no audit event"))?;
        let Members { audit, time, tenant, function, instance, chain, sequence, previous } = members;
        if audit != VERSION {
            return Err(Unreadable("it is of another version"));
        }
        let at = time.parse().map_err(|_| Unreadable("its time is none"))?;
        let chain = ChainId::parse(&chain).map_err(|_| Unreadable("its chain is no ULID"))?;
        if sequence == 0 {
            return Err(Unreadable("its sequence is 0"));
        }
        let is_intact = hash(&text) == claimed;
        let hash = claimed.to_owned();
        Ok(Self { at, tenant, function, instance, chain, sequence, previous, hash, is_intact })
    }

    /// Where its chain is kept.
    pub fn partition(&self) -> Partition {
        Partition { tenant: self.tenant.clone(), day: self.chain.day() }
    }

    /// Whether it is of its chain's day.
    pub(super) fn is_of_its_day(&self) -> bool {
        day_of(self.at) == self.chain.day()
    }
}
