//! CORS headers (Fetch, "CORS protocol"), the same for every dialect.
//!
//! Credentials are never allowed: pages send tokens in headers that they set themselves. The hosted page has no
//! CORS headers. Every page may read the public documents.

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{Call, CrossOrigin, Dialect, HttpRequest, Reply, ReplyBody, finhub};
use crate::domain::{Failure, WebOrigin};

/// CORS preflight requests. Browsers hide their failures from pages, so the first dialect renders them.
pub(crate) static PREFLIGHT: Dialect = Dialect {
    name: "preflight",
    cross_origin: CrossOrigin::Nobody,
    is_audited: true,
    failure: |failure, _, now| finhub::failure(failure, now),
};

/// How long a browser caches a preflight response, in seconds. A removed origin is blocked sooner: the responses
/// themselves stop allowing it within 5 s.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
/// Request headers that a page may send. `X-Tenant-Key` and `X-Tenant-Secret` are not among them, because a page
/// must not hold a tenant's credentials.
const ALLOW_HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Connect-Protocol-Version, Connect-Timeout-Ms, Content-Type, device-id, deviceId, \
     Grpc-Timeout, Idempotency-Key, platform, X-Device-Id, X-Forwarded-From, X-Grpc-Web, X-Tenant-ID, \
     X-User-Agent",
);
/// Response headers that a page may read.
const EXPOSE_HEADERS: HeaderValue = HeaderValue::from_static("X-Request-Id, Retry-After, WWW-Authenticate");

/// Handles a preflight request. Only the origin decides, because a preflight request names no tenant. Without CORS
/// headers in the response, the browser blocks the call.
pub(crate) async fn preflight(call: &Call<'_>, methods: &'static str) -> Result<Reply, Failure> {
    let Call { service, context, request, .. } = *call;
    let mut reply = Reply::new(StatusCode::NO_CONTENT, ReplyBody::Empty);
    reply.headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    let asks = request.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let Some(origin) = origin(request).filter(|_| asks) else {
        return Ok(reply);
    };
    if service.allows_origin(context, &origin).await && allow(&mut reply.headers, &origin) {
        reply.headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
        reply.headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOW_HEADERS);
        reply.headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    }
    Ok(reply)
}

/// Returns the headers that let a page read a response, if its origin is allowed for the request.
///
/// # Errors
/// None. The type is that of a handler, which may panic.
pub(crate) async fn headers(call: &Call<'_>, sharing: CrossOrigin) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    match sharing {
        CrossOrigin::Anyone => {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        CrossOrigin::Listed if call.request.headers.contains_key(header::ORIGIN) => {
            headers.insert(header::VARY, HeaderValue::from_static("Origin"));
            if let Some(origin) = origin(call.request)
                && call.service.allows_origin(call.context, &origin).await
                && allow(&mut headers, &origin)
            {
                headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSE_HEADERS);
            }
        }
        CrossOrigin::Listed | CrossOrigin::Nobody => {}
    }
    Ok(headers)
}

/// The origin of the page; `None` for a text that cannot be an allowed origin.
fn origin(request: &HttpRequest) -> Option<WebOrigin> {
    WebOrigin::parse(request.headers.get(header::ORIGIN)?.to_str().ok()?).ok()
}

/// Allows the origin to read the response. Returns whether the origin is valid in a header.
fn allow(headers: &mut HeaderMap, origin: &WebOrigin) -> bool {
    let origin = HeaderValue::from_str(origin.as_str());
    origin.map(|origin| headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin)).is_ok()
}
