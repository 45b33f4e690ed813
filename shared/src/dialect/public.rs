//! What anybody may read: a tenant's public keys, and whether the service is well (docs/design/contract.md#public-documents).

use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::{Call, CrossOrigin, Dialect, Reply, ReplyBody, failure::UNAVAILABLE_FOR_SECONDS, finhub, oauth};
use crate::{
    domain::{Failure, TenantId, tenant_url},
    usecase::publish::Published,
};

/// Public documents. No other product defines their errors, so failures have the FinHub format.
pub(crate) static PUBLIC: Dialect = Dialect {
    name: "public",
    cross_origin: CrossOrigin::Anyone,
    is_audited: false,
    failure: |failure, _, now| finhub::failure(failure, now),
};

/// Type of a set of keys (RFC 7517, section 8.5.1).
const JWK_SET: &str = "application/jwk-set+json";
/// How long anybody may keep what a tenant publishes (docs/design/contract.md#every-request).
const CACHED: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// Handles `GET /tenants/{tenantId}/.well-known/openid-configuration` and `…/oauth-authorization-server`.
///
/// # Errors
/// `RouteNotFound` if the tenant publishes no keys; `Unavailable`.
pub(crate) async fn configuration(call: &Call<'_>) -> Result<Reply, Failure> {
    // A request's Host header is never trusted for this address.
    let site = call.site.ok_or_else(|| Failure::Internal("DOORWARD_PUBLIC_URL is not set".into()))?;
    let (tenant, published) = published(call).await?;
    Ok(cached(ReplyBody::Json(metadata(&tenant_url(&site.url, &tenant), &published))))
}

/// Handles `GET /tenants/{tenantId}/.well-known/jwks.json`.
///
/// # Errors
/// `RouteNotFound` if the tenant publishes no keys; `Unavailable`.
pub(crate) async fn keys(call: &Call<'_>) -> Result<Reply, Failure> {
    let (_, Published { keys, .. }) = published(call).await?;
    // The table contains the JSON text of each key.
    let jwks: Vec<_> = keys.iter().map(|key| key.jwk.as_str()).collect();
    Ok(cached(ReplyBody::Text(JWK_SET, format!(r#"{{"keys":[{}]}}"#, jwks.join(",")))))
}

/// The tenant in the path and its public keys.
async fn published(call: &Call<'_>) -> Result<(TenantId, Published), Failure> {
    let tenant = call.request.path_tenant()?;
    let published = call.service.published(&tenant, call.context).await?.ok_or(Failure::RouteNotFound)?;
    Ok((tenant, published))
}

/// Returns the OpenID Provider Metadata that applies to Doorward (OpenID Connect Discovery 1.0, section 3), with the
/// endpoints for API clients (RFC 8414, section 2).
///
/// Doorward has no authorization endpoint, so the document names none. It supports no response type, and a member without
/// elements must be left out (section 4.2). `issuer` is the issuer in the tokens. A tenant can set it to a value other
/// than the address of this document.
fn metadata(base: &str, published: &Published) -> Value {
    let Published { issuer, keys } = published;
    let mut algorithms: Vec<_> = keys.iter().map(|key| key.algorithm.name()).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    let mut document = oauth::metadata(base);
    for (name, value) in [
        ("issuer", json!(issuer)),
        ("jwks_uri", json!(format!("{base}/.well-known/jwks.json"))),
        ("subject_types_supported", json!(["public"])),
        ("id_token_signing_alg_values_supported", json!(algorithms)),
    ] {
        document.insert(name.to_owned(), value);
    }
    Value::Object(document)
}

fn cached(body: ReplyBody) -> Reply {
    let mut reply = Reply::new(StatusCode::OK, body);
    reply.headers.insert(header::CACHE_CONTROL, CACHED);
    reply
}

/// Handles `GET /healthz`. The response holds no cause, because anybody can request it.
pub(crate) async fn health(call: &Call<'_>) -> Result<Reply, Failure> {
    if call.service.is_healthy(call.context.now).await {
        return Ok(Reply::json(StatusCode::OK, json!({ "status": "ok" })));
    }
    let mut reply = Reply::json(StatusCode::SERVICE_UNAVAILABLE, json!({ "status": "unavailable" }));
    reply.headers.insert(header::RETRY_AFTER, HeaderValue::from(UNAVAILABLE_FOR_SECONDS));
    Ok(reply)
}
