//! What API Gateway's Lambda authorizers say and are told: payload format 2.0, simple responses.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    dialect::HttpRequest,
    domain::{Collection, Failure, Role},
    usecase::authorize::{Command, Outcome},
};

/// Who calls somebody's API.
///
/// # Errors
/// `InvalidToken` without a token of ours by its form; `TenantMismatch` for a header that names no tenant.
pub(crate) fn parse(request: &HttpRequest) -> Result<Command, Failure> {
    let (tenant, bearer) = request.bearer_and_tenant()?;
    Ok(Command { tenant, bearer, ip: request.ip.clone() })
}

/// Lets the request through, and tells the API who sends it: by the names of the token's claims, as strings,
/// which are all that access logs and parameter mappings take.
pub(crate) fn allow(outcome: &Outcome) -> Value {
    let Outcome { tenant, user, session, collection, owner, roles, scope, expires_at } = outcome;
    let roles: Vec<_> = roles.iter().map(|role: &Role| role.name()).collect();
    let mut context = Map::new();
    let owned_by = match collection {
        Collection::Admin => "orgId",
        Collection::Individual | Collection::Organization => "customerId",
    };
    for (name, value) in [
        ("tenantId", tenant.as_str()),
        ("userId", user.as_str()),
        ("sub", user.as_str()),
        ("sid", session.as_str()),
        ("userType", collection.user_type()),
        (owned_by, owner.as_str()),
        ("roles", &roles.join(" ")),
        ("scope", scope),
        ("exp", &seconds(*expires_at)),
    ] {
        context.insert(name.to_owned(), json!(value));
    }
    json!({ "isAuthorized": true, "context": context })
}

/// Keeps the request out. Why is for the audit log alone.
pub(crate) fn deny() -> Value {
    json!({ "isAuthorized": false })
}

fn seconds(at: Timestamp) -> String {
    at.as_second().to_string()
}
