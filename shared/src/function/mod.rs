//! Entry points: one module per event source, each from a Lambda event to its result.
//!
//! [`http`] serves API Gateway requests, [`stream`] the table's stream, [`audit_log`] a log subscription,
//! [`authorizer`] API Gateway's authorizer calls, [`secret_rotation`] Secrets Manager.
//!
//! Log lines have fixed field names: `request_id`, `function`, `tenant` (its record was found), `claimed_tenant`
//! (the request names it), `user`, `session` (a keyed digest, never the id), `caller`, `caller_session` (a digest),
//! `client` (an API client), `kind` (of a message). No line holds a password, token, code, secret or body.

pub mod audit_log;
pub mod authorizer;
mod config;
pub mod http;
pub mod secret_rotation;
pub mod stream;

use std::{panic::AssertUnwindSafe, time::Instant};

use ::http::HeaderMap;
use futures_util::{FutureExt, future::BoxFuture};
use lambda_http::lambda_runtime::{self, LambdaEvent, service_fn};
use serde::Serialize;
use serde_json::value::RawValue;
use tracing::{Level, Span, Subscriber, field};
use tracing_subscriber::{
    Layer, filter::Targets, fmt::MakeWriter, layer::SubscriberExt, registry::LookupSpan,
};

pub use self::config::{Config, PathEncoding, SystemClock, SystemEntropy};
use crate::{
    audit::{self, Audit, Decision},
    context::RequestContext,
    domain::{ClientAddress, Failure},
    route::Function,
};

/// An error that keeps a function from starting.
pub type Error = lambda_runtime::Error;

/// Serves events until the Runtime API ends, several at once where Lambda allows it
/// (`AWS_LAMBDA_MAX_CONCURRENCY`). `answer` gets the function, the event and the request id.
///
/// # Errors
/// The Runtime API is gone.
async fn run<State, F, Output>(
    function: State,
    answer: impl Fn(State, String, String) -> F + Clone + Send + 'static,
) -> Result<(), Error>
where
    State: Clone + Send + 'static,
    F: Future<Output = Result<Output, Error>> + Send + 'static,
    Output: Serialize + Send + 'static,
{
    // Boxed, because the compiler limits the depth of nested future types.
    let answer = move |event: LambdaEvent<Box<RawValue>>| -> BoxFuture<'static, Result<Output, Error>> {
        let payload = String::from(Box::<str>::from(event.payload));
        Box::pin(answer(function.clone(), payload, event.context.request_id))
    };
    Box::pin(lambda_runtime::run_concurrent(service_fn(answer))).await
}

/// Turns a panic of `work` into `Failure::Internal`, so that a defect in one event does not end the process
/// and with it the other events.
async fn catch_panic<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let result = AssertUnwindSafe(work).catch_unwind().await;
    result.unwrap_or_else(|_| Err(Failure::Internal("the event's handler panicked".into())))
}

/// The client address of a request: the connection's, and the ones that proxies add.
fn client_address(source_ip: Option<&str>, headers: &HeaderMap) -> ClientAddress {
    let forwarded = headers.get("x-forwarded-for").map(|chain| String::from_utf8_lossy(chain.as_bytes()));
    ClientAddress::new(source_ip.and_then(|ip| ip.parse().ok()), forwarded.as_deref())
}

/// Starts logging to standard output. `DOORWARD_LOG` sets the level of Doorward's own lines (default `info`).
fn start_logs() {
    let level = std::env::var("DOORWARD_LOG").ok().and_then(|name| name.parse().ok());
    // A subscriber that is already installed stays.
    let _ = tracing::subscriber::set_global_default(log_lines(std::io::stdout, level.unwrap_or(Level::INFO)));
}

/// Writes one JSON line per event to `output`: Doorward's own events from `level` on, those of the SDK and
/// the Lambda runtime from `warn` on. Their lower levels hold whole requests, so no setting enables them.
pub fn log_lines<W>(output: W, level: Level) -> impl Subscriber + for<'span> LookupSpan<'span>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let levels = Targets::new().with_default(Level::WARN).with_target("doorward", level);
    let format = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_writer(output)
        .with_filter(levels);
    tracing_subscriber::registry().with(format)
}

/// The span of one request's log lines. [`RequestContext`] fills in the empty fields.
fn request_span(function: Function, request_id: &str) -> Span {
    tracing::info_span!(
        "request",
        request_id,
        function = function.name(),
        tenant = field::Empty,
        claimed_tenant = field::Empty,
        user = field::Empty,
        session = field::Empty,
        caller = field::Empty,
        caller_session = field::Empty,
        client = field::Empty,
    )
}

/// Writes the audit event of one request or message.
fn write_audit(
    audit: &Audit,
    context: &RequestContext,
    (function, action): (Function, &'static str),
    outcome: audit::Outcome<'_>,
    status: Option<u16>,
    started: Instant,
) {
    audit.tell(&Decision {
        at: context.now,
        request_id: &context.request_id,
        function: function.name(),
        action,
        outcome,
        status,
        elapsed: started.elapsed(),
        facts: context.take_facts(),
    });
}
