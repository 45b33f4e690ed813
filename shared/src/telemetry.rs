//! Logs: one JSON line per event, and for each request one that says how it was decided
//! (security 24).
//!
//! Names of fields are fixed: `tenant`, `user`, `session` (a keyed digest, never the id), `caller`,
//! `caller_session` (a digest), `admin_reason`, `kind` (of a message). Never a password, token, code, secret or body.

use tracing::{Level, Span, Subscriber, field};
use tracing_subscriber::{
    Layer, filter::Targets, fmt::MakeWriter, layer::SubscriberExt, registry::LookupSpan,
};

use crate::{
    domain::{TenantId, UserId},
    route::Function,
};

/// Starts logging to standard output. `DOORWARD_LOG` sets Doorward's own level (`info`).
pub fn init() {
    let level = std::env::var("DOORWARD_LOG").ok().and_then(|name| name.parse().ok());
    // Logging that was started before stays as it is.
    let _ = tracing::subscriber::set_global_default(lines(std::io::stdout, level.unwrap_or(Level::INFO)));
}

/// One JSON line per event into `output`: Doorward's own from `level` on, the SDK's and the
/// runtime's from `warn` on, whatever is asked for: below that they hold requests.
pub fn lines<W>(output: W, level: Level) -> impl Subscriber + for<'span> LookupSpan<'span>
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

/// The span of one request; what is learned on the way is recorded in it.
pub fn request(function: &'static str, request_id: &str) -> Span {
    tracing::info_span!(
        "request",
        request_id,
        function,
        tenant = field::Empty,
        user = field::Empty,
        session = field::Empty,
        caller = field::Empty,
        caller_session = field::Empty,
        admin_reason = field::Empty,
    )
}

/// The span of one message's delivery.
pub fn delivery(request_id: &str) -> Span {
    tracing::info_span!(
        "delivery",
        request_id,
        function = Function::DeliverNotification.name(),
        tenant = field::Empty,
        user = field::Empty,
        kind = field::Empty,
    )
}

/// The kind of message that is delivered.
pub fn kind(name: &str) {
    Span::current().record("kind", name);
}

/// The tenant that the request names.
pub fn tenant(tenant: &TenantId) {
    Span::current().record("tenant", tenant.as_str());
}

/// The user that the request is about.
pub fn user(user: &UserId) {
    Span::current().record("user", user.as_str());
}

/// The session that the request is about, as a keyed digest.
pub fn session(digest: &str) {
    Span::current().record("session", digest);
}

/// Who asks: user, and session as a keyed digest.
pub fn caller(user: &UserId, session_digest: &str) {
    let span = Span::current();
    span.record("caller", user.as_str());
    span.record("caller_session", session_digest);
}

/// Why an administrator does what it does, in its own words.
pub fn reason(reason: Option<&str>) {
    if let Some(reason) = reason {
        Span::current().record("admin_reason", reason);
    }
}
