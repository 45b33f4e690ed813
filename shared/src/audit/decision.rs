//! Authentication decisions: the content of audit events.

use std::time::Duration;

use jiff::Timestamp;

use crate::{context::Facts, domain::Failure};

/// One decision to record. None of its types can hold a secret.
#[derive(Debug)]
pub struct Decision<'a> {
    /// Time of the request.
    pub at: Timestamp,
    /// Request ID assigned by the platform.
    pub request_id: &'a str,
    /// Function that decided.
    pub function: &'static str,
    /// Stable name of the requested action.
    pub action: &'static str,
    /// Outcome.
    pub outcome: Outcome<'a>,
    /// HTTP status of the response, if the decision has one.
    pub status: Option<u16>,
    /// Duration of the request.
    pub elapsed: Duration,
    /// Facts that were collected while the request was processed.
    pub facts: Facts,
}

impl Decision<'_> {
    pub(super) fn milliseconds(&self) -> u64 {
        u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Outcome of a decision.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    /// `SUCCESS`, or the failure's name.
    pub name: &'static str,
    /// Class of the outcome.
    pub class: Class,
    /// The failure, if the decision failed.
    pub failure: Option<&'a Failure>,
}

/// Class of an outcome. Each class is a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The request succeeded.
    Succeeded,
    /// The request was rejected because of the caller or of the request itself.
    Refused,
    /// The request failed because of a server error.
    Failed,
    /// The request waits and is repeated. Nothing failed.
    Deferred,
}

impl Outcome<'_> {
    /// Outcome of a request that succeeded.
    pub const SUCCESS: Self = Self { name: "SUCCESS", class: Class::Succeeded, failure: None };
}

impl<'a> From<&'a Failure> for Outcome<'a> {
    fn from(failure: &'a Failure) -> Self {
        let class = if failure.is_server_error() { Class::Failed } else { Class::Refused };
        Self { name: failure.name(), class, failure: Some(failure) }
    }
}
