//! Requests and responses of an API Gateway Lambda authorizer: payload format 2.0, simple responses.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    dialect::HttpRequest,
    domain::{Collection, Failure, Role},
    usecase::authorize::{Command, Outcome},
};

/// Returns the token, the tenant and the address of an API's caller.
///
/// # Errors
/// `InvalidToken` for a missing or malformed token; `TenantMismatch` for an invalid `X-Tenant-ID`.
pub(crate) fn parse(request: &HttpRequest) -> Result<Command, Failure> {
    let (tenant, bearer) = request.bearer_and_tenant()?;
    Ok(Command { tenant, bearer, ip: request.ip.clone() })
}

/// Allows the request and passes the caller to the API. The fields have the names of the token's claims. All
/// values are strings, because access logs and parameter mappings support no other type.
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

/// Denies the request. Only the audit log has the reason.
pub(crate) fn deny() -> Value {
    json!({ "isAuthorized": false })
}

fn seconds(at: Timestamp) -> String {
    at.as_second().to_string()
}
