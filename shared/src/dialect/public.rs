//! What anybody may read: a tenant's public keys, and whether the service is well (docs/design/contract.md#public-documents).

use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    dialect::{Call, Reply, ReplyBody},
    domain::{Failure, TenantId, tenant_url},
    route::Public,
    usecase::publish::Published,
};

/// Type of a set of keys (RFC 7517, section 8.5.1).
const JWK_SET: &str = "application/jwk-set+json";
/// How long anybody may keep what a tenant publishes (docs/design/contract.md#every-request).
const CACHED: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// Answers a request; `public_url` is where people reach the routes.
///
/// # Errors
/// `RouteNotFound` for a tenant that publishes nothing, whichever way; `Unavailable`.
pub(crate) async fn answer(
    call: &Call<'_>,
    endpoint: Public,
    public_url: Option<&str>,
) -> Result<Reply, Failure> {
    match endpoint {
        Public::Configuration => {
            // Never from a request's Host header.
            let public_url = public_url.ok_or_else(|| Failure::Internal("no public URL is set".into()))?;
            let (tenant, published) = published(call).await?;
            let body = configuration(&tenant_url(public_url, &tenant), &published);
            Ok(cached(ReplyBody::Json(body)))
        }
        Public::Keys => {
            let (_, Published { keys, .. }) = published(call).await?;
            let keys: Vec<_> = keys.into_iter().map(|key| key.jwk).collect();
            Ok(cached(ReplyBody::Text(JWK_SET, json!({ "keys": keys }).to_string())))
        }
        Public::Health => Ok(health(call.service.is_well(call.now).await)),
    }
}

/// What the tenant in the path publishes. An id that no tenant can have is one that none has.
async fn published(call: &Call<'_>) -> Result<(TenantId, Published), Failure> {
    let Call { service, matched, now, .. } = *call;
    let named = matched.parameters.iter().find(|(name, _)| name == "tenantId");
    let tenant = named.and_then(|(_, id)| TenantId::parse(id).ok()).ok_or(Failure::RouteNotFound)?;
    let published = service.published(&tenant, now).await?.ok_or(Failure::RouteNotFound)?;
    Ok((tenant, published))
}

/// What is true of OpenID Provider Metadata (OpenID Connect Discovery 1.0, section 3). There is no
/// authorization endpoint and no token endpoint, so none is named; no response type is supported, and a member
/// without elements must be left out (section 4.2). `issuer` is what the tokens say, which a tenant may have
/// set to something else than where this is read.
fn configuration(base: &str, published: &Published) -> Value {
    let Published { issuer, keys } = published;
    let mut algorithms: Vec<_> = keys.iter().map(|key| key.algorithm).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{base}/.well-known/jwks.json"),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": algorithms,
    })
}

fn cached(body: ReplyBody) -> Reply {
    let mut reply = Reply::new(StatusCode::OK, body);
    reply.headers.insert(header::CACHE_CONTROL, CACHED);
    reply
}

/// Tells nothing but that: anybody may ask.
fn health(is_well: bool) -> Reply {
    if is_well {
        return Reply::json(StatusCode::OK, json!({ "status": "ok" }));
    }
    let mut reply = Reply::json(StatusCode::SERVICE_UNAVAILABLE, json!({ "status": "unavailable" }));
    reply.headers.insert(header::RETRY_AFTER, HeaderValue::from(super::UNAVAILABLE_FOR_SECONDS));
    reply
}
