//! JSON text of an audit event: fields in a fixed order, without absent fields.

use serde_json::{Map, Value};

use super::{
    decision::Decision,
    id::{ChainId, VERSION},
    metrics,
};
use crate::{
    context::Facts,
    domain::{Failure, TenantId, UserId},
    token::SessionDigest,
};

/// Characters of a request ID that are kept. API Gateway's IDs have 16 characters, Lambda's have 36.
const MAX_REQUEST_ID: usize = 128;

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
        ip,
        reason,
        admin_reason,
        kind,
    } = facts;
    let tenant = tenant.as_ref();
    let claimed_tenant = claimed_tenant.as_ref().filter(|claimed| tenant != Some(claimed));
    let request_id: String = request_id.chars().take(MAX_REQUEST_ID).collect();
    let reason = outcome.failure.and_then(Failure::reason).or_else(|| reason.map(str::to_owned));
    let fields: [(&str, Value); 22] = [
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
    let event: Map<_, _> = present
        .chain(metrics::fields(decision, is_cold))
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    Value::Object(event).to_string()
}
