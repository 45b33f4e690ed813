//! OAuth 2.0 for backends: client tokens, introspection and revocation (docs/design/contract.md#oauth-20).

mod parse;

use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::{
    Call, CrossOrigin, Dialect, Reply, ReplyBody, Site,
    failure::{retry_after, status, text},
};
use crate::{
    domain::{ClientScope, Failure, FieldError, Role, TenantId, tenant_url},
    usecase::introspect_token::{ActiveToken, Subject},
};

/// OAuth 2.0.
pub(crate) static OAUTH: Dialect = Dialect {
    name: "oauth",
    cross_origin: CrossOrigin::Nobody,
    is_audited: true,
    failure: |failure, _, now| self::failure(failure, now),
};

/// Handles `POST /tenants/{tenantId}/oauth/token`.
pub(crate) async fn token(call: &Call<'_>) -> Result<Reply, Failure> {
    let command = parse::token(call.request, site(call)?)?;
    let issued = call.service.issue_client_token(command, call.context).await?;
    Ok(Reply::json(
        StatusCode::OK,
        json!({
            "access_token": issued.token.expose_secret(),
            "token_type": "Bearer",
            "expires_in": issued.expires_in,
            "scope": ClientScope::text(&issued.scopes),
        }),
    ))
}

/// Handles `POST /tenants/{tenantId}/oauth/introspect`.
pub(crate) async fn introspect(call: &Call<'_>) -> Result<Reply, Failure> {
    let command = parse::introspection(call.request, site(call)?)?;
    let active = call.service.introspect_token(command, call.context).await?;
    Ok(Reply::json(StatusCode::OK, introspected(active)))
}

/// Handles `POST /tenants/{tenantId}/oauth/revoke`.
pub(crate) async fn revoke(call: &Call<'_>) -> Result<Reply, Failure> {
    let command = parse::revocation(call.request, site(call)?)?;
    call.service.revoke_token(command, call.context).await?;
    Ok(Reply::new(StatusCode::OK, ReplyBody::Empty))
}

/// The public address, which assertions name. A request's Host header is never trusted for it.
fn site<'a>(call: &Call<'a>) -> Result<&'a Site, Failure> {
    call.site.ok_or_else(|| Failure::Internal("DOORWARD_PUBLIC_URL is not set".into()))
}

/// Paths of the endpoints, relative to the tenant's address.
const ENDPOINTS: [(&str, &str); 3] = [
    ("token_endpoint", "/oauth/token"),
    ("introspection_endpoint", "/oauth/introspect"),
    ("revocation_endpoint", "/oauth/revoke"),
];

/// Authentication methods of every endpoint.
const METHODS: [&str; 3] = ["client_secret_basic", "client_secret_post", "private_key_jwt"];

/// Returns the addresses of the tenant's endpoints.
fn addresses(site: &Site, tenant: &TenantId) -> Vec<String> {
    let base = tenant_url(&site.url, tenant);
    ENDPOINTS.iter().map(|(_, path)| format!("{base}{path}")).collect()
}

/// Returns the members of the authorization server metadata (RFC 8414, section 2). `base` is the tenant's address.
pub(super) fn metadata(base: &str) -> Map<String, Value> {
    let mut members = Map::new();
    for (name, path) in ENDPOINTS {
        members.insert(name.to_owned(), json!(format!("{base}{path}")));
        members.insert(format!("{name}_auth_methods_supported"), json!(METHODS));
        members
            .insert(format!("{name}_auth_signing_alg_values_supported"), json!(["ES256", "RS256", "EdDSA"]));
    }
    let scopes: Vec<_> = ClientScope::all().map(ClientScope::name).collect();
    members.insert("grant_types_supported".to_owned(), json!(["client_credentials"]));
    members.insert("scopes_supported".to_owned(), json!(scopes));
    members
}

/// Renders an introspection (RFC 7662, section 2.2).
fn introspected(active: Option<ActiveToken>) -> Value {
    let Some(token) = active else {
        return json!({ "active": false });
    };
    let mut members = vec![
        ("active", json!(true)),
        ("scope", json!(token.scope)),
        ("token_type", json!(token.token_type)),
        ("exp", json!(token.expires_at.as_second())),
        ("iat", json!(token.issued_at.as_second())),
        ("aud", json!(token.audience)),
        ("iss", json!(token.issuer)),
        ("tenantId", json!(token.tenant)),
    ];
    members.extend(token.token_id.map(|id| ("jti", json!(id))));
    match token.subject {
        Subject::User { id, username, roles, session } => members.extend([
            ("sub", json!(id)),
            ("username", json!(username)),
            ("sid", json!(session)),
            ("roles", json!(roles.into_iter().map(Role::name).collect::<Vec<_>>())),
        ]),
        Subject::Client(id) => members.extend([("sub", json!(id)), ("client_id", json!(id))]),
    }
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Renders a failure (RFC 6749, section 5.2).
fn failure(failure: &Failure, now: Timestamp) -> Reply {
    let (status, error) = match failure {
        Failure::InvalidClient => (StatusCode::UNAUTHORIZED, "invalid_client"),
        Failure::InvalidScope => (StatusCode::BAD_REQUEST, "invalid_scope"),
        Failure::UnsupportedGrantType => (StatusCode::BAD_REQUEST, "unsupported_grant_type"),
        // The client proved its credentials, and may not use them now or from here.
        Failure::UnauthorizedClient | Failure::TenantSuspended | Failure::IpNotAllowed => {
            (StatusCode::BAD_REQUEST, "unauthorized_client")
        }
        Failure::RateLimited(..) | Failure::Unavailable(_) => (status(failure), "temporarily_unavailable"),
        Failure::Internal(_) => (status(failure), "server_error"),
        _ => (status(failure), "invalid_request"),
    };
    let mut reply = Reply::json(status, json!({ "error": error, "error_description": description(failure) }));
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Basic realm=\"doorward\", charset=\"UTF-8\"");
        reply.headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    if let Some(seconds) = retry_after(failure, now) {
        reply.headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    reply
}

/// Returns the text for people. It has only characters that `error_description` may contain.
fn description(failure: &Failure) -> String {
    match failure {
        Failure::Validation(errors) => {
            let each = errors.iter().map(|FieldError { field, message }| format!("{field} {message}"));
            each.collect::<Vec<_>>().join("; ")
        }
        Failure::UnsupportedMediaType => {
            "Send the body as application/x-www-form-urlencoded, not compressed".to_owned()
        }
        _ => text(failure).to_owned(),
    }
}
