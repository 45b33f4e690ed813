//! Headers by which pages of other origins may call (Fetch, "CORS protocol"), in every dialect alike.
//! Credentials are never allowed: tokens travel in headers that the page itself sets. The hosted page
//! is for itself alone.

use http::{HeaderValue, StatusCode, header};

use super::{Call, HttpRequest, Reply, ReplyBody};
use crate::{
    domain::{Tenant, WebOrigin},
    route::{self, Endpoint},
};

/// How long a browser believes a preflight's answer, in seconds: an origin that is taken away is refused
/// by the answers themselves, within 5 s.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
/// What a page may send besides what it always may. A tenant's own credentials belong into no page:
/// `X-Tenant-Key` and `X-Tenant-Secret` are not among them.
const ALLOW_HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Connect-Protocol-Version, Connect-Timeout-Ms, Content-Type, device-id, deviceId, \
     Grpc-Timeout, Idempotency-Key, platform, X-Device-Id, X-Forwarded-From, X-Grpc-Web, X-Tenant-ID, \
     X-User-Agent",
);
/// What a page may read of an answer besides what it always may.
const EXPOSE_HEADERS: HeaderValue = HeaderValue::from_static("X-Request-Id, Retry-After, WWW-Authenticate");

/// Answers a browser that asks whether a page may call a path: by its origin alone, since it does not
/// say for which tenant. Where it may not, nothing is said, and the browser refuses.
pub async fn preflight(call: &Call<'_>) -> Reply {
    let Call { service, matched, request, now } = *call;
    let mut reply = Reply::new(StatusCode::NO_CONTENT, ReplyBody::Empty);
    reply.headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    let asks = request.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let Some(origin) = origin(request).filter(|_| asks) else {
        return reply;
    };
    if service.shares_with(None, &origin, now).await && share(&mut reply, &origin) {
        if let Ok(methods) = HeaderValue::from_str(&route::methods(matched.route.path).join(", ")) {
            reply.headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        reply.headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOW_HEADERS);
        reply.headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    }
    reply
}

/// Lets the page that sent a request read its answer, if the tenant that the request proved to be of
/// names the page's origin.
pub async fn answer(call: &Call<'_>, proven: Option<&Tenant>, reply: &mut Reply) {
    let is_shared =
        !matches!(call.matched.route.endpoint, Endpoint::Page(_) | Endpoint::Public(_) | Endpoint::Preflight);
    if !is_shared || !call.request.headers.contains_key(header::ORIGIN) {
        return;
    }
    reply.headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = origin(call.request) else {
        return;
    };
    if call.service.shares_with(proven, &origin, call.now).await && share(reply, &origin) {
        reply.headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSE_HEADERS);
    }
}

/// The page's origin. What is none of any tenant's by its form is not looked for.
fn origin(request: &HttpRequest) -> Option<WebOrigin> {
    WebOrigin::parse(request.headers.get(header::ORIGIN)?.to_str().ok()?).ok()
}

fn share(reply: &mut Reply, origin: &WebOrigin) -> bool {
    let origin = HeaderValue::from_str(origin.as_str());
    origin.map(|origin| reply.headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin)).is_ok()
}
