//! Metrics in the line of a decision, in CloudWatch's embedded metric format
//! (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>).
//!
//! CloudWatch bills each metric for each combination of dimensions. Therefore the function is the only
//! dimension, and metrics with the value 0 are omitted. Tenants and outcomes are ordinary fields of the line:
//! log queries count them at no additional cost.

use serde_json::{Value, json};

use super::decision::{Class, Decision};
use crate::domain::Failure;

/// CloudWatch namespace of the metrics.
const NAMESPACE: &str = "Doorward";

/// Returns the fields of the embedded metric format: metric definitions, followed by the values.
pub(super) fn fields(decision: &Decision<'_>, is_cold: bool) -> Vec<(&'static str, Value)> {
    let class = decision.outcome.class;
    let failure = decision.outcome.failure;
    let is_lockout = matches!(failure, Some(Failure::AccountLocked(_) | Failure::PasswordDisabled));
    let counters = [
        ("Succeeded", class == Class::Succeeded),
        ("Refused", class == Class::Refused),
        ("Failed", class == Class::Failed),
        ("LockedOut", is_lockout),
        ("RateLimited", matches!(failure, Some(Failure::RateLimited(..)))),
        ("RefreshReuse", matches!(failure, Some(Failure::RefreshTokenReused))),
        ("ColdStart", is_cold),
    ];
    let counted = counters.into_iter().filter_map(|(name, occurred)| occurred.then_some(name));
    let mut metrics = vec![json!({ "Name": "Requests", "Unit": "Count" })];
    let mut values = vec![("Requests", Value::from(1)), ("Latency", decision.milliseconds().into())];
    for name in counted {
        metrics.push(json!({ "Name": name, "Unit": "Count" }));
        values.push((name, 1.into()));
    }
    metrics.push(json!({ "Name": "Latency", "Unit": "Milliseconds" }));
    let directive = json!({ "Namespace": NAMESPACE, "Dimensions": [["function"]], "Metrics": metrics });
    let metadata = json!({ "Timestamp": decision.at.as_millisecond(), "CloudWatchMetrics": [directive] });
    values.insert(0, ("_aws", metadata));
    values
}
