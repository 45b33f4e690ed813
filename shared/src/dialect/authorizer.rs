//! Requests and responses of an API Gateway Lambda authorizer: payload format 2.0, simple responses.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    dialect::HttpRequest,
    domain::{ClientScope, Collection, Failure},
    token::SCOPE_FULL,
    usecase::authorize::{Authorized, Command},
};

/// Returns the token, the tenant and the address of an API's caller.
///
/// # Errors
/// `InvalidToken` for a missing or malformed token; `TenantMismatch` for an invalid `X-Tenant-ID`.
pub(crate) fn parse(request: &HttpRequest) -> Result<Command, Failure> {
    let (tenant, bearer) = request.bearer_and_tenant()?;
    Ok(Command { tenant, bearer, ip: request.ip.clone() })
}

/// Allows the request and passes the caller to the API: a user with its session, or an API client. The fields have the
/// names of the token's claims. All values are strings, because access logs and parameter mappings support no other type.
pub(crate) fn allow(authorized: &Authorized) -> Value {
    let members = match authorized {
        Authorized::User { bearer, user } => {
            let roles: Vec<_> = user.roles.iter().map(|role| role.name()).collect();
            let owned_by = match bearer.collection {
                Collection::Admin => "orgId",
                Collection::Individual | Collection::Organization => "customerId",
            };
            vec![
                ("tenantId", bearer.tenant.to_string()),
                ("userId", bearer.user.to_string()),
                ("sub", bearer.user.to_string()),
                ("sid", bearer.session.to_string()),
                ("userType", bearer.collection.user_type().to_owned()),
                (owned_by, bearer.owner.clone()),
                ("roles", roles.join(" ")),
                ("scope", SCOPE_FULL.to_owned()),
                ("exp", seconds(bearer.expires_at)),
            ]
        }
        Authorized::Client { bearer, scopes } => vec![
            ("tenantId", bearer.tenant.to_string()),
            ("clientId", bearer.client.to_string()),
            ("sub", bearer.client.to_string()),
            ("scope", ClientScope::text(scopes)),
            ("exp", seconds(bearer.expires_at)),
        ],
    };
    let context: Map<_, _> =
        members.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
    json!({ "isAuthorized": true, "context": context })
}

/// Denies the request. Only the audit log has the reason.
pub(crate) fn deny() -> Value {
    json!({ "isAuthorized": false })
}

fn seconds(at: Timestamp) -> String {
    at.as_second().to_string()
}
