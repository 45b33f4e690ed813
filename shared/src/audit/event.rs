//! What a line says: members in a fixed order, absent ones left out.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::{VERSION, chain::Link, metrics::Metrics};
use crate::{
    domain::{Failure, TenantId, UserId},
    route::Function,
    telemetry::Facts,
    token::SessionDigest,
};

/// Characters of a request's id that are kept: API Gateway's have 16, Lambda's 36.
const MAX_REQUEST_ID: usize = 128;

/// One decision, ready to be told. All of it is of types that hold no secret.
#[derive(Debug)]
pub struct Decision<'a> {
    /// The request's time.
    pub at: Timestamp,
    /// The request's id, as the platform names it.
    pub request_id: &'a str,
    /// The function that decided.
    pub function: Function,
    /// What was asked for, by its stable name.
    pub action: &'static str,
    /// How it ended.
    pub outcome: Outcome<'a>,
    /// The answer's status, where there is one.
    pub status: Option<u16>,
    /// How long it took.
    pub elapsed: Duration,
    /// What was learned on the way.
    pub facts: Facts,
}

impl Decision<'_> {
    pub(super) fn milliseconds(&self) -> u64 {
        u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX)
    }
}

/// How a decision ended.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    /// `SUCCESS`, or the failure's name.
    pub name: &'static str,
    /// Whose doing it is.
    pub class: Class,
    /// The failure, where it is one.
    pub failure: Option<&'a Failure>,
}

/// Whose doing an outcome is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// What was asked for was done.
    Succeeded,
    /// The caller may not, or asked for what cannot be.
    Refused,
    /// A fault of ours, or of what we depend on.
    Failed,
}

impl Outcome<'_> {
    /// What was asked for was done.
    pub const SUCCESS: Self = Self { name: "SUCCESS", class: Class::Succeeded, failure: None };
}

impl<'a> From<&'a Failure> for Outcome<'a> {
    fn from(failure: &'a Failure) -> Self {
        let class = if failure.is_ours() { Class::Failed } else { Class::Refused };
        Self { name: failure.name(), class, failure: Some(failure) }
    }
}

/// A line but for its hash. The order is the one in docs/audit.md.
#[derive(Serialize)]
struct Members<'a> {
    audit: u32,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed_tenant: Option<&'a str>,
    request_id: String,
    function: &'static str,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller_session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    milliseconds: u64,
    instance: &'a str,
    chain: String,
    sequence: u64,
    previous: &'a str,
    #[serde(flatten)]
    metrics: Metrics,
}

/// The text that is hashed: the line's object without its `hash`.
pub(super) fn text(
    decision: &Decision<'_>,
    link: &Link<'_>,
    is_cold: bool,
) -> Result<String, serde_json::Error> {
    let Decision { at, request_id, function, action, outcome, status, elapsed: _, facts } = decision;
    let Facts {
        tenant,
        claimed_tenant,
        user,
        session,
        caller,
        caller_session,
        ip,
        reason,
        admin_reason,
        kind,
    } = facts;
    let known = tenant.as_ref();
    serde_json::to_string(&Members {
        audit: VERSION,
        time: format!("{at:.3}"),
        tenant: known.map(TenantId::as_str),
        claimed_tenant: claimed_tenant
            .as_ref()
            .filter(|claimed| known != Some(claimed))
            .map(TenantId::as_str),
        request_id: request_id.chars().take(MAX_REQUEST_ID).collect(),
        function: function.name(),
        action,
        kind: *kind,
        user: user.as_ref().map(UserId::as_str),
        session: session.as_ref().map(SessionDigest::as_str),
        caller: caller.as_ref().map(UserId::as_str),
        caller_session: caller_session.as_ref().map(SessionDigest::as_str),
        ip: ip.map(|ip| ip.to_string()),
        outcome: outcome.name,
        reason: outcome.failure.and_then(Failure::reason).or_else(|| reason.map(str::to_owned)),
        admin_reason: admin_reason.as_deref(),
        status: *status,
        milliseconds: decision.milliseconds(),
        instance: link.instance,
        chain: link.chain.to_string(),
        sequence: link.sequence,
        previous: link.previous,
        metrics: Metrics::of(decision, *at, is_cold),
    })
}
