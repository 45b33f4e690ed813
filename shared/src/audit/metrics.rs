//! Metrics in the line of a decision: CloudWatch's embedded metric format
//! (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>).
//!
//! CloudWatch bills each metric of each combination of dimensions. The function is the only dimension,
//! and what did not occur is left out (a missing value, not a zero): tenants and outcomes are members of
//! the line, which queries count at no such cost.

use jiff::Timestamp;
use serde::Serialize;

use super::event::{Class, Decision};
use crate::domain::Failure;

/// The metrics' namespace.
const NAMESPACE: &str = "Doorward";

/// What CloudWatch is to make of a line, then the values that this names.
#[derive(Serialize)]
pub(super) struct Metrics {
    #[serde(rename = "_aws")]
    directions: Directions,
    #[serde(rename = "Requests")]
    requests: u32,
    #[serde(rename = "Latency")]
    latency: u64,
    #[serde(rename = "Succeeded", skip_serializing_if = "Option::is_none")]
    succeeded: Option<u32>,
    #[serde(rename = "Refused", skip_serializing_if = "Option::is_none")]
    refused: Option<u32>,
    #[serde(rename = "Failed", skip_serializing_if = "Option::is_none")]
    failed: Option<u32>,
    #[serde(rename = "LockedOut", skip_serializing_if = "Option::is_none")]
    locked_out: Option<u32>,
    #[serde(rename = "RateLimited", skip_serializing_if = "Option::is_none")]
    rate_limited: Option<u32>,
    #[serde(rename = "RefreshReuse", skip_serializing_if = "Option::is_none")]
    refresh_reuse: Option<u32>,
    #[serde(rename = "ColdStart", skip_serializing_if = "Option::is_none")]
    cold_start: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directions {
    timestamp: i64,
    cloud_watch_metrics: [Directive; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directive {
    namespace: &'static str,
    dimensions: [[&'static str; 1]; 1],
    metrics: Vec<Definition>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Definition {
    name: &'static str,
    unit: &'static str,
}

impl Metrics {
    pub(super) fn of(decision: &Decision<'_>, at: Timestamp, is_cold: bool) -> Self {
        let is = |class| (decision.outcome.class == class).then_some(1);
        let failure = decision.outcome.failure;
        let mut metrics = Self {
            directions: Directions {
                timestamp: at.as_millisecond(),
                cloud_watch_metrics: [Directive {
                    namespace: NAMESPACE,
                    dimensions: [["function"]],
                    metrics: Vec::new(),
                }],
            },
            requests: 1,
            latency: decision.milliseconds(),
            succeeded: is(Class::Succeeded),
            refused: is(Class::Refused),
            failed: is(Class::Failed),
            locked_out: occurred(matches!(
                failure,
                Some(Failure::AccountLocked(_) | Failure::PasswordDisabled)
            )),
            rate_limited: occurred(matches!(failure, Some(Failure::RateLimited(..)))),
            refresh_reuse: occurred(matches!(failure, Some(Failure::RefreshTokenReused))),
            cold_start: occurred(is_cold),
        };
        let counted = [
            ("Requests", true),
            ("Succeeded", metrics.succeeded.is_some()),
            ("Refused", metrics.refused.is_some()),
            ("Failed", metrics.failed.is_some()),
            ("LockedOut", metrics.locked_out.is_some()),
            ("RateLimited", metrics.rate_limited.is_some()),
            ("RefreshReuse", metrics.refresh_reuse.is_some()),
            ("ColdStart", metrics.cold_start.is_some()),
        ];
        let counted = counted.into_iter().filter(|(_, occurs)| *occurs);
        let counted = counted.map(|(name, _)| Definition { name, unit: "Count" });
        let latency = Definition { name: "Latency", unit: "Milliseconds" };
        let [directive] = &mut metrics.directions.cloud_watch_metrics;
        directive.metrics = counted.chain([latency]).collect();
        metrics
    }
}

fn occurred(it: bool) -> Option<u32> {
    it.then_some(1)
}
