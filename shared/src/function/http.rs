//! HTTP requests from API Gateway (payload format 2.0).

use std::{sync::Arc, time::Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, Method, header};
use lambda_http::aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use tracing::Instrument;

use super::{
    Config, Error, PathEncoding, catch_panic, client_address, config, request_span, run, start_logs,
    write_audit,
};
use crate::{
    audit::{self, Audit},
    context::RequestContext,
    dialect::{Call, HttpRequest, MatchedPath, Reply, ReplyBody, Site, cors, finhub},
    domain::Failure,
    route::{Function, Route, Router},
    usecase::Service,
};

/// The body of a response.
pub use lambda_http::Body;

/// Action of a request that matches no route, in the audit log.
const NO_ACTION: &str = "none";

/// Builds the function's clients and serves its requests.
///
/// # Errors
/// The configuration is incomplete, or the Runtime API is gone.
pub async fn serve(function: Function, routes: &'static [Route]) -> Result<(), Error> {
    start_logs();
    let app = App::from_env(function, routes).await?;
    run(app, |app, event, _| async move { Ok(app.answer(&event).await) }).await
}

/// One HTTP function with its clients. `main` and the tests share it.
#[derive(Clone)]
pub struct App {
    function: Function,
    router: Arc<Router>,
    service: Arc<Service>,
    audit: Arc<Audit>,
    site: Option<Arc<Site>>,
    paths: PathEncoding,
}

impl App {
    /// A function that serves `routes` and writes its audit events to `audit`.
    ///
    /// # Errors
    /// Two routes contradict each other.
    pub fn new(
        function: Function,
        routes: &'static [Route],
        service: Arc<Service>,
        audit: Arc<Audit>,
    ) -> Result<Self, Error> {
        Ok(Self {
            function,
            router: Arc::new(Router::new(routes)?),
            service,
            audit,
            site: None,
            paths: PathEncoding::Decoded,
        })
    }

    /// Adds the public address. Without it the hosted page rejects every form, and no issuer is published.
    ///
    /// # Errors
    /// `public_url` is not an http or https URL.
    pub fn with_public_url(self, public_url: &str) -> Result<Self, Error> {
        Ok(Self { site: Some(Arc::new(Site::new(public_url)?)), ..self })
    }

    /// Sets the encoding of the paths in the events.
    #[must_use]
    pub fn with_paths(self, paths: PathEncoding) -> Self {
        Self { paths, ..self }
    }

    async fn from_env(function: Function, routes: &'static [Route]) -> Result<Self, Error> {
        let config = Config::from_env()?;
        if matches!(function, Function::PasswordPage | Function::Discovery | Function::Oauth) {
            config.required_public_url()?;
        }
        let (public_url, paths) = (config.public_url.clone(), config.paths);
        let service = config::service(config).await;
        let app =
            Self::new(function, routes, Arc::new(service), config::audit_to_stdout()?)?.with_paths(paths);
        match public_url {
            Some(public_url) => app.with_public_url(&public_url),
            None => Ok(app),
        }
    }

    /// Answers one event. Every event gets a response.
    pub async fn answer(&self, event: &str) -> ApiGatewayV2httpResponse {
        let started = Instant::now();
        let parsed = catch_panic(async { Ok(read(event, self.paths)) }).await;
        let Event { request, body_fault, request_id } = parsed.unwrap_or_else(Event::broken);
        let is_head = request.as_ref().is_ok_and(|request| request.method == Method::HEAD);
        let span = request_span(self.function, &request_id);
        let context = RequestContext::new(self.service.now(), request_id, span);
        let answer = async {
            let reply = Box::pin(self.reply(&context, request, body_fault));
            let replied = catch_panic(async { Ok(reply.await) }).await;
            let (route, mut reply) = replied.unwrap_or_else(|failure| unrouted(&context, failure));
            let failure = reply.failure.take();
            if let Some(failure) = failure.as_ref().filter(|failure| failure.is_server_error()) {
                // Only operators see the cause: the audit event has the name of the failure.
                tracing::error!(outcome = failure.name(), cause = %failure, "request.failed");
            }
            if route.is_none_or(|route| route.dialect.is_audited) {
                let action = route.map_or(NO_ACTION, |route| route.action);
                let outcome = failure.as_ref().map_or(audit::Outcome::SUCCESS, audit::Outcome::from);
                let status = Some(reply.status.as_u16());
                write_audit(&self.audit, &context, (self.function, action), outcome, status, started);
            }
            response(reply, &context, is_head).await
        };
        answer.instrument(context.span().clone()).await
    }

    /// The reply to a request, and the route that it matches.
    async fn reply(
        &self,
        context: &RequestContext,
        request: Result<HttpRequest, Failure>,
        body_fault: Option<Failure>,
    ) -> (Option<&'static Route>, Reply) {
        let mut request = match request {
            Ok(request) => request,
            Err(failure) => return unrouted(context, failure),
        };
        context.record_client(request.ip.client(&[]));
        let Some((route, matched)) = self.router.find(&request.method, &request.path) else {
            return unrouted(context, Failure::RouteNotFound);
        };
        request.matched = matched;
        if let Some(tenant) = request.claimed_tenant() {
            context.record_claimed_tenant(&tenant);
        }
        let call = Call { service: &self.service, context, request: &request, site: self.site.as_deref() };
        let reply = match body_fault {
            Some(failure) => Err(failure),
            None => catch_panic((route.handler)(&call)).await,
        };
        let mut reply = reply.unwrap_or_else(|failure| {
            (route.dialect.failure)(&failure, &request, context.now).with_failure(failure)
        });
        if is_body_compressed(&reply, &request) {
            // RFC 9110, section 15.5.16: names the coding that the route accepts.
            reply.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        // Without these headers, a browser does not show the response to the page.
        if let Ok(headers) = catch_panic(cors::headers(&call, route.dialect.cross_origin)).await {
            reply.headers.extend(headers);
        }
        (Some(route), reply)
    }
}

/// The reply to a request without a route, which has no dialect. FinHub renders its failure.
fn unrouted(context: &RequestContext, failure: Failure) -> (Option<&'static Route>, Reply) {
    (None, finhub::failure(&failure, context.now).with_failure(failure))
}

/// The response, also if its rendering panics.
async fn response(reply: Reply, context: &RequestContext, is_head: bool) -> ApiGatewayV2httpResponse {
    let rendered = catch_panic(async { Ok(respond(reply, &context.request_id, is_head)) }).await;
    rendered.unwrap_or_else(|failure| {
        tracing::error!(outcome = failure.name(), cause = %failure, "response.failed");
        respond(finhub::failure(&failure, context.now), &context.request_id, is_head)
    })
}

/// Whether the request failed because its body is compressed.
fn is_body_compressed(reply: &Reply, request: &HttpRequest) -> bool {
    matches!(reply.failure, Some(Failure::UnsupportedMediaType)) && request.is_compressed()
}

/// A parsed event.
struct Event {
    request: Result<HttpRequest, Failure>,
    /// A body that cannot be decoded. The failure is reported after routing, in the route's dialect.
    body_fault: Option<Failure>,
    request_id: String,
}

impl Event {
    /// An event whose parsing failed.
    fn broken(failure: Failure) -> Self {
        Self { request: Err(failure), body_fault: None, request_id: String::new() }
    }
}

/// Parses an event.
///
/// `lambda_http` has a conversion too, but it panics on a body that is not base64 and on a path that is not
/// a URI, and no input may cause a 5xx response (docs/design/contract.md#every-request).
fn read(event: &str, paths: PathEncoding) -> Event {
    let Ok(event) = serde_json::from_str::<ApiGatewayV2httpRequest>(event) else {
        let id = serde_json::from_str(event).ok().and_then(|event: serde_json::Value| {
            event.pointer("/requestContext/requestId")?.as_str().map(str::to_owned)
        });
        let request = Err(Failure::Malformed("The request is not valid HTTP"));
        return Event { request, body_fault: None, request_id: id.unwrap_or_default() };
    };
    let context = event.request_context;
    let request_id = context.request_id.unwrap_or_default();
    let (body, body_fault) = match (event.body, event.is_base64_encoded) {
        (None, _) => (Vec::new(), None),
        (Some(body), false) => (body.into_bytes(), None),
        (Some(body), true) => match STANDARD.decode(body) {
            Ok(body) => (body, None),
            Err(_) => (Vec::new(), Some(Failure::Malformed("The body is not valid base64"))),
        },
    };
    let path = paths.decoded(&event.raw_path.unwrap_or_default());
    let path = without_stage(path, context.stage.as_deref());
    let request = HttpRequest {
        method: context.http.method,
        path,
        query: event.raw_query_string.unwrap_or_default(),
        ip: client_address(context.http.source_ip.as_deref(), &event.headers),
        headers: event.headers,
        cookies: event.cookies.unwrap_or_default(),
        body,
        matched: MatchedPath::default(),
    };
    Event { request: Ok(request), body_fault, request_id }
}

/// The path without a named stage, with which API Gateway prefixes it.
fn without_stage(path: String, stage: Option<&str>) -> String {
    let rest = stage.and_then(|stage| path.strip_prefix('/')?.strip_prefix(stage));
    match rest {
        Some(rest) if rest.starts_with('/') => rest.to_owned(),
        _ => path,
    }
}

/// The response with the headers of every response (docs/design/contract.md#every-request). A reply that may
/// be cached already carries its own `Cache-Control`.
fn respond(reply: Reply, request_id: &str, is_head: bool) -> ApiGatewayV2httpResponse {
    let Reply { status, mut headers, cookies, body, failure: _ } = reply;
    headers.entry(header::CACHE_CONTROL).or_insert(const { HeaderValue::from_static("no-store") });
    headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    let (content_type, body) = match body {
        ReplyBody::Empty => (None, None),
        ReplyBody::Json(json) => {
            (Some(HeaderValue::from_static("application/json")), Some(Body::Text(json.to_string())))
        }
        ReplyBody::Text(content_type, text) => {
            (Some(HeaderValue::from_static(content_type)), Some(Body::Text(text)))
        }
        ReplyBody::Bytes(content_type, bytes) => (Some(content_type), Some(Body::Binary(bytes))),
    };
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    // HEAD: the same status and headers, without the body (RFC 9110, section 9.3.2).
    let body = body.filter(|_| !is_head);
    let mut response = ApiGatewayV2httpResponse::default();
    response.status_code = i64::from(status.as_u16());
    response.headers = headers;
    response.cookies = cookies;
    response.is_base64_encoded = matches!(body, Some(Body::Binary(_)));
    response.body = body;
    response
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use jiff::Timestamp;

    use super::*;

    // `http::HeaderMap` panics if it has more than 32,768 headers.
    #[tokio::test]
    async fn panic_while_a_response_is_rendered_is_a_500_response() {
        let mut reply = finhub::failure(&Failure::RouteNotFound, Timestamp::UNIX_EPOCH);
        let mut number = 0;
        while reply
            .headers
            .try_insert(HeaderName::try_from(format!("x-{number}")).unwrap(), HeaderValue::from(1))
            .is_ok()
        {
            number += 1;
        }
        let context = RequestContext::new(Timestamp::UNIX_EPOCH, "id".to_owned(), tracing::Span::none());
        let response = response(reply, &context, false).await;
        assert_eq!(response.status_code, i64::from(StatusCode::INTERNAL_SERVER_ERROR.as_u16()));
        assert_eq!(response.headers.get("x-request-id").unwrap(), "id");
        assert!(matches!(response.body, Some(Body::Text(text)) if text.contains("INTERNAL")));
    }
}
