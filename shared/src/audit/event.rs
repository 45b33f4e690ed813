//! JSON text of an audit event: fields in a fixed order without absent fields, and metrics.

use serde_json::{Map, Value, json};

use super::{
    decision::{Class, Decision},
    id::{ChainId, VERSION},
};
use crate::{
    context::Facts,
    domain::{ClientId, Failure, TenantId, UserId},
    token::SessionDigest,
};

/// Characters of a request ID that are kept. API Gateway's IDs have 16 characters, Lambda's have 36.
const MAX_REQUEST_ID: usize = 128;
/// CloudWatch namespace of the metrics.
const NAMESPACE: &str = "Doorward";

/// Fields that link an event to its chain.
pub(super) struct ChainLink<'a> {
    pub(super) instance: &'a str,
    pub(super) chain: ChainId,
    pub(super) sequence: u64,
    pub(super) previous: &'a str,
}

/// Returns the text that is hashed: the JSON object of the line without its `hash` field. docs/audit.md
/// specifies the order of the fields.
pub(super) fn text(decision: &Decision<'_>, link: &ChainLink<'_>, is_cold: bool) -> String {
    let Decision { at, request_id, function, action, outcome, status, elapsed: _, facts } = decision;
    let Facts {
        tenant,
        claimed_tenant,
        user,
        session,
        caller,
        caller_session,
        client,
        ip,
        reason,
        admin_reason,
        kind,
        is_tenant_budget_half_used: _,
    } = facts;
    let tenant = tenant.as_ref();
    let claimed_tenant = claimed_tenant.as_ref().filter(|claimed| tenant != Some(claimed));
    let request_id: String = request_id.chars().take(MAX_REQUEST_ID).collect();
    let reason = outcome.failure.and_then(Failure::reason).or_else(|| reason.map(str::to_owned));
    let fields: [(&str, Value); 23] = [
        ("audit", VERSION.into()),
        ("time", format!("{at:.3}").into()),
        ("tenant", tenant.map(TenantId::as_str).into()),
        ("claimed_tenant", claimed_tenant.map(TenantId::as_str).into()),
        ("request_id", request_id.into()),
        ("function", (*function).into()),
        ("action", (*action).into()),
        ("kind", (*kind).into()),
        ("user", user.as_ref().map(UserId::as_str).into()),
        ("session", session.as_ref().map(SessionDigest::as_str).into()),
        ("caller", caller.as_ref().map(UserId::as_str).into()),
        ("caller_session", caller_session.as_ref().map(SessionDigest::as_str).into()),
        ("client", client.as_ref().map(ClientId::as_str).into()),
        ("ip", ip.map(|ip| ip.to_string()).into()),
        ("outcome", outcome.name.into()),
        ("reason", reason.into()),
        ("admin_reason", admin_reason.as_deref().into()),
        ("status", (*status).into()),
        ("milliseconds", decision.milliseconds().into()),
        ("instance", link.instance.into()),
        ("chain", link.chain.to_string().into()),
        ("sequence", link.sequence.into()),
        ("previous", link.previous.into()),
    ];
    let present = fields.into_iter().filter(|(_, value)| !value.is_null());
    let event: Map<_, _> =
        present.chain(metrics(decision, is_cold)).map(|(name, value)| (name.to_owned(), value)).collect();
    Value::Object(event).to_string()
}

/// Returns the metrics of a decision in CloudWatch's embedded metric format: definitions, followed by values
/// (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>).
///
/// CloudWatch bills each metric for each combination of dimensions. Therefore the function is the only
/// dimension, and metrics with the value 0 are omitted. Tenants and outcomes are ordinary fields of the line:
/// log queries count them at no additional cost.
fn metrics(decision: &Decision<'_>, is_cold: bool) -> Vec<(&'static str, Value)> {
    let class = decision.outcome.class;
    let failure = decision.outcome.failure;
    let is_lockout = matches!(failure, Some(Failure::AccountLocked(_) | Failure::PasswordDisabled(_)));
    let counters = [
        ("Succeeded", class == Class::Succeeded),
        ("Refused", class == Class::Refused),
        ("Failed", class == Class::Failed),
        ("Deferred", class == Class::Deferred),
        ("LockedOut", is_lockout),
        ("RateLimited", matches!(failure, Some(Failure::RateLimited(..)))),
        ("TenantBudgetHalfUsed", decision.facts.is_tenant_budget_half_used),
        ("RefreshReuse", matches!(failure, Some(Failure::RefreshTokenReused))),
        ("ColdStart", is_cold),
    ];
    let counted = counters.into_iter().filter_map(|(name, occurred)| occurred.then_some(name));
    let mut definitions = vec![json!({ "Name": "Requests", "Unit": "Count" })];
    let mut values = vec![("Requests", Value::from(1)), ("Latency", decision.milliseconds().into())];
    for name in counted {
        definitions.push(json!({ "Name": name, "Unit": "Count" }));
        values.push((name, 1.into()));
    }
    definitions.push(json!({ "Name": "Latency", "Unit": "Milliseconds" }));
    let directive = json!({ "Namespace": NAMESPACE, "Dimensions": [["function"]], "Metrics": definitions });
    let metadata = json!({ "Timestamp": decision.at.as_millisecond(), "CloudWatchMetrics": [directive] });
    values.insert(0, ("_aws", metadata));
    values
}
