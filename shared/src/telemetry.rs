//! Logs for operators, one JSON line per event, and what is learned of a request on its way: for the
//! span that these lines carry, and for the one event that says how it was decided
//! ([`crate::audit`], docs/design/security.md#rule-24).
//!
//! Names of fields are fixed: `request_id`, `function`, `tenant` (whose record was found),
//! `claimed_tenant` (what a request names), `user`, `session` (a keyed digest, never the id), `caller`,
//! `caller_session` (a digest), `kind` (of a message). Never a password, token, code, secret or body.

use std::{cell::RefCell, future::Future, net::IpAddr};

use tracing::{Instrument, Level, Span, Subscriber, field};
use tracing_subscriber::{
    Layer, filter::Targets, fmt::MakeWriter, layer::SubscriberExt, registry::LookupSpan,
};

use crate::{
    domain::{TenantId, UserId},
    route::Function,
    token::SessionDigest,
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

/// What is learned of a request, or of a message, while it is decided: for its audit event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The tenant whose record was found.
    pub tenant: Option<TenantId>,
    /// The tenant that the request names, whether there is one or not.
    pub claimed_tenant: Option<TenantId>,
    /// The user it is about.
    pub user: Option<UserId>,
    /// The session it is about.
    pub session: Option<SessionDigest>,
    /// Who asks.
    pub caller: Option<UserId>,
    /// By which session.
    pub caller_session: Option<SessionDigest>,
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// Which of the ways to be wrong, or right, that the answer does not tell apart.
    pub reason: Option<&'static str>,
    /// Why an administrator does it, in its own words.
    pub admin_reason: Option<String>,
    /// The kind of message.
    pub kind: Option<&'static str>,
}

tokio::task_local! {
    static FACTS: RefCell<Facts>;
}

/// Decides something within its span, with [`facts`] of its own: all of its work runs in one task.
pub async fn decision<F: Future>(span: Span, decided: F) -> F::Output {
    FACTS.scope(RefCell::default(), decided).instrument(span).await
}

/// What was learned so far of what is being decided.
pub fn facts() -> Facts {
    FACTS.try_with(|facts| facts.borrow().clone()).unwrap_or_default()
}

fn learn(learn: impl FnOnce(&mut Facts)) {
    // Outside of a decision there is nobody to tell.
    let _ = FACTS.try_with(|facts| learn(&mut facts.borrow_mut()));
}

/// The span of one request; what is learned on the way is recorded in it.
pub fn request(function: &'static str, request_id: &str) -> Span {
    tracing::info_span!(
        "request",
        request_id,
        function,
        tenant = field::Empty,
        claimed_tenant = field::Empty,
        user = field::Empty,
        session = field::Empty,
        caller = field::Empty,
        caller_session = field::Empty,
    )
}

/// The span of one message's delivery.
pub fn delivery(request_id: &str) -> Span {
    tracing::info_span!(
        "delivery",
        request_id,
        function = Function::DeliverNotification.name(),
        tenant = field::Empty,
        claimed_tenant = field::Empty,
        user = field::Empty,
        kind = field::Empty,
    )
}

/// The span of one batch of audit events.
pub fn anchoring(request_id: &str) -> Span {
    tracing::info_span!("anchoring", request_id, function = Function::AnchorAudit.name())
}

/// The span of one step of a secret's rotation.
pub fn rotation(request_id: &str) -> Span {
    tracing::info_span!("rotation", request_id, function = Function::RotateSecret.name())
}

/// The kind of message that is delivered.
pub fn kind(name: &'static str) {
    Span::current().record("kind", name);
    learn(|facts| facts.kind = Some(name));
}

/// The tenant that the request names.
pub fn tenant(tenant: &TenantId) {
    Span::current().record("claimed_tenant", tenant.as_str());
    learn(|facts| facts.claimed_tenant = Some(tenant.clone()));
}

/// The tenant whose record was found.
pub fn found_tenant(tenant: &TenantId) {
    Span::current().record("tenant", tenant.as_str());
    learn(|facts| facts.tenant = Some(tenant.clone()));
}

/// The user that the request is about.
pub fn user(user: &UserId) {
    Span::current().record("user", user.as_str());
    learn(|facts| facts.user = Some(user.clone()));
}

/// The session that the request is about.
pub fn session(digest: &SessionDigest) {
    Span::current().record("session", digest.as_str());
    learn(|facts| facts.session = Some(digest.clone()));
}

/// Who asks: user, and session.
pub fn caller(user: &UserId, digest: &SessionDigest) {
    let span = Span::current();
    span.record("caller", user.as_str());
    span.record("caller_session", digest.as_str());
    learn(|facts| {
        facts.caller = Some(user.clone());
        facts.caller_session = Some(digest.clone());
    });
}

/// The client's address: as the connection shows it, then as the tenant's proxies tell it.
pub fn client(ip: Option<IpAddr>) {
    learn(|facts| facts.ip = ip);
}

/// More than the answer tells, for operators alone.
pub fn detail(reason: &'static str) {
    learn(|facts| facts.reason = Some(reason));
}

/// Why an administrator does what it does, in its own words.
pub fn reason(reason: Option<&str>) {
    learn(|facts| facts.admin_reason = reason.map(str::to_owned));
}
