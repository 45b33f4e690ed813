//! The function that API Gateway asks before it lets a request through to somebody's own API: a Lambda
//! authorizer of an HTTP API, payload format 2.0, simple response.

use std::{sync::Arc, time::Instant};

use lambda_http::aws_lambda_events::apigw::ApiGatewayV2CustomAuthorizerV2Request;
use serde_json::Value;
use tracing::Instrument;

use super::{Config, Error, catch_panic, client_address, config, request_span, run, start_logs, write_audit};
use crate::{
    audit::{self, Audit},
    context::RequestContext,
    dialect::{HttpRequest, MatchedPath, authorizer},
    domain::Failure,
    route::Function,
    usecase::{Service, authorize::Authorized},
};

/// The only supported payload format.
const PAYLOAD_FORMAT: &str = "2.0";
/// Action in the audit log.
const ACTION: &str = "session.authorize";

/// Builds the function's clients and serves its requests.
///
/// # Errors
/// The configuration is incomplete, or the Runtime API is gone.
pub async fn serve() -> Result<(), Error> {
    start_logs();
    let service = config::service(Config::from_env()?).await;
    let authorizer = Authorizer::new(Arc::new(service), config::audit_to_stdout()?);
    run(authorizer, |authorizer, event, _| async move { Ok(authorizer.answer(&event).await?) }).await
}

/// Error for a request that could not be decided. Its text appears only in the function's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the caller could not be authorized because of a server error; the function's log has the cause")]
pub struct Undecided;

/// The function with its clients. `main` and the tests share it.
#[derive(Clone)]
pub struct Authorizer {
    service: Arc<Service>,
    audit: Arc<Audit>,
}

impl Authorizer {
    /// A function that writes its audit events to `audit`.
    pub fn new(service: Arc<Service>, audit: Arc<Audit>) -> Self {
        Self { service, audit }
    }

    /// Allows or denies a request.
    ///
    /// # Errors
    /// [`Undecided`] for a server error: API Gateway then returns 500. A denial would return 403 and may be cached, so
    /// a caller with a live session would be rejected because of a server error.
    pub async fn answer(&self, event: &str) -> Result<Value, Undecided> {
        let started = Instant::now();
        let (request, request_id) = read(event);
        let span = request_span(Function::Authorize, &request_id);
        let context = RequestContext::new(self.service.now(), request_id, span);
        let decide = async {
            let decided = catch_panic(self.decide(request, &context)).await;
            let outcome = decided.as_ref().err().map_or(audit::Outcome::SUCCESS, audit::Outcome::from);
            write_audit(&self.audit, &context, (Function::Authorize, ACTION), outcome, None, started);
            match decided {
                Ok(authorized) => Ok(authorizer::allow(&authorized)),
                Err(cause) if cause.is_server_error() => {
                    tracing::error!(outcome = cause.name(), %cause, "request.failed");
                    Err(Undecided)
                }
                Err(_) => Ok(authorizer::deny()),
            }
        };
        decide.instrument(context.span().clone()).await
    }

    async fn decide(
        &self,
        request: Result<HttpRequest, Failure>,
        context: &RequestContext,
    ) -> Result<Authorized, Failure> {
        let request = request?;
        context.record_client(request.ip.client(&[]));
        let command = authorizer::parse(&request)?;
        context.record_claimed_tenant(&command.tenant);
        Box::pin(self.service.authorize(command, context)).await
    }
}

/// Parses the request and its id. Another payload format is a fault of the authorizer's configuration, so it counts
/// as a server error.
fn read(event: &str) -> (Result<HttpRequest, Failure>, String) {
    let unreadable =
        || Failure::Internal("the event is not an authorizer event of payload format 2.0".into());
    let Ok(event) = serde_json::from_str::<ApiGatewayV2CustomAuthorizerV2Request>(event) else {
        return (Err(unreadable()), String::new());
    };
    let context = event.request_context;
    let request_id = context.request_id.unwrap_or_default();
    if event.version.as_deref() != Some(PAYLOAD_FORMAT) {
        return (Err(unreadable()), request_id);
    }
    let request = HttpRequest {
        method: context.http.method,
        path: event.raw_path.unwrap_or_default(),
        query: event.raw_query_string.unwrap_or_default(),
        ip: client_address(context.http.source_ip.as_deref(), &event.headers),
        headers: event.headers,
        cookies: event.cookies,
        body: Vec::new(),
        matched: MatchedPath::default(),
    };
    (Ok(request), request_id)
}
