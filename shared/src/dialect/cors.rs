//! Headers by which pages of other origins may call (Fetch, "CORS protocol"), in every dialect alike.
//! Credentials are never allowed: tokens travel in headers that the page itself sets. The hosted page
//! is for itself alone.

use http::{HeaderValue, StatusCode, header};

use super::{Call, Dialect, HttpRequest, Reply, ReplyBody, finhub};
use crate::domain::{Failure, WebOrigin};

/// CORS preflight requests. Browsers hide their failures from pages, so the first dialect renders them.
pub(crate) static PREFLIGHT: Dialect = Dialect {
    name: "preflight",
    shares_cross_origin: false,
    is_audited: true,
    failure: |failure, _, now| finhub::failure(failure, now),
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
pub(crate) async fn preflight(call: &Call<'_>, methods: &'static str) -> Result<Reply, Failure> {
    let Call { service, context, request, .. } = *call;
    let mut reply = Reply::new(StatusCode::NO_CONTENT, ReplyBody::Empty);
    reply.headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    let asks = request.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let Some(origin) = origin(request).filter(|_| asks) else {
        return Ok(reply);
    };
    if service.allows_origin(context, &origin).await && share(&mut reply, &origin) {
        reply.headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
        reply.headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOW_HEADERS);
        reply.headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    }
    Ok(reply)
}

/// Lets the page that sent a request read its answer, if the tenant that the request proved to be of
/// names the page's origin.
pub(crate) async fn add_headers(call: &Call<'_>, reply: &mut Reply) {
    if !call.request.headers.contains_key(header::ORIGIN) {
        return;
    }
    reply.headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = origin(call.request) else {
        return;
    };
    if call.service.allows_origin(call.context, &origin).await && share(reply, &origin) {
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
