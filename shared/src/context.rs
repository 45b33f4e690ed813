//! The context of one request: its time, its id, the tenant once proven, and the facts for its audit event.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use jiff::Timestamp;
use tracing::Span;

use crate::{
    domain::{ClientId, Tenant, TenantId, UserId},
    token::SessionDigest,
};

/// One request, message delivery or authorizer call. The entry point creates it and passes it down.
pub struct RequestContext {
    /// Time at which the request arrived. Every decision about the request uses this time.
    pub now: Timestamp,
    /// Request id that the platform assigned.
    pub request_id: String,
    span: Span,
    facts: Mutex<Facts>,
    proven_tenant: OnceLock<Arc<Tenant>>,
}

/// Facts learned while a request is handled. They end up in its audit event
/// (docs/design/security.md#rule-24) and hold no secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Tenant whose stored record was found.
    pub tenant: Option<TenantId>,
    /// Tenant id that the request names, whether such a tenant exists or not.
    pub claimed_tenant: Option<TenantId>,
    /// User that the request acts on.
    pub user: Option<UserId>,
    /// Session that the request acts on.
    pub session: Option<SessionDigest>,
    /// User that sent the request.
    pub caller: Option<UserId>,
    /// Session that sent the request.
    pub caller_session: Option<SessionDigest>,
    /// API client that sent the request.
    pub client: Option<ClientId>,
    /// Client address.
    pub ip: Option<IpAddr>,
    /// Internal reason that the response does not disclose.
    pub reason: Option<&'static str>,
    /// Reason that an administrator gave.
    pub admin_reason: Option<String>,
    /// Kind of a delivered message.
    pub kind: Option<&'static str>,
    /// Whether at least half of the user's part of the tenant's budget of failures is used.
    pub is_tenant_budget_half_used: bool,
}

impl RequestContext {
    /// A context without facts. `span` receives the facts that log lines carry.
    pub fn new(now: Timestamp, request_id: String, span: Span) -> Self {
        Self { now, request_id, span, facts: Mutex::default(), proven_tenant: OnceLock::new() }
    }

    /// The span of this request's log lines.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// Takes the facts recorded so far, for the audit event that ends the request.
    pub fn take_facts(&self) -> Facts {
        std::mem::take(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn record(&self, record: impl FnOnce(&mut Facts)) {
        record(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Records the tenant id that the request names.
    pub fn record_claimed_tenant(&self, tenant: &TenantId) {
        self.span.record("claimed_tenant", tenant.as_str());
        self.record(|facts| facts.claimed_tenant = Some(tenant.clone()));
    }

    /// Records the tenant whose stored record was found.
    pub fn record_tenant(&self, tenant: &TenantId) {
        self.span.record("tenant", tenant.as_str());
        self.record(|facts| facts.tenant = Some(tenant.clone()));
    }

    /// Records the user that the request acts on.
    pub fn record_user(&self, user: &UserId) {
        self.span.record("user", user.as_str());
        self.record(|facts| facts.user = Some(user.clone()));
    }

    /// Records the session that the request acts on.
    pub fn record_session(&self, session: &SessionDigest) {
        self.span.record("session", session.as_str());
        self.record(|facts| facts.session = Some(session.clone()));
    }

    /// Records the user and the session that sent the request.
    pub fn record_caller(&self, user: &UserId, session: &SessionDigest) {
        self.span.record("caller", user.as_str());
        self.span.record("caller_session", session.as_str());
        self.record(|facts| {
            facts.caller = Some(user.clone());
            facts.caller_session = Some(session.clone());
        });
    }

    /// Records the API client that sent the request.
    pub fn record_client_id(&self, client: &ClientId) {
        self.span.record("client", client.as_str());
        self.record(|facts| facts.client = Some(client.clone()));
    }

    /// Records the client address: first the connection's, later the one that the tenant's trusted
    /// proxies forward.
    pub fn record_client(&self, ip: Option<IpAddr>) {
        self.record(|facts| facts.ip = ip);
    }

    /// Records an internal reason that the response does not disclose.
    pub fn record_reason(&self, reason: &'static str) {
        self.record(|facts| facts.reason = Some(reason));
    }

    /// Records the reason that an administrator gave.
    pub fn record_admin_reason(&self, reason: Option<&str>) {
        self.record(|facts| facts.admin_reason = reason.map(str::to_owned));
    }

    /// Records that at least half of the user's part of the tenant's budget of failures is used.
    pub fn record_tenant_budget_half_used(&self) {
        self.record(|facts| facts.is_tenant_budget_half_used = true);
    }

    /// Records the kind of a delivered message.
    pub fn record_kind(&self, kind: &'static str) {
        self.span.record("kind", kind);
        self.record(|facts| facts.kind = Some(kind));
    }

    /// Marks the request as proven to come from `tenant`: its tenant credentials, bearer or code were
    /// right. Only then do response headers depend on that tenant.
    pub fn prove_tenant(&self, tenant: &Arc<Tenant>) {
        // A request proves one tenant. A second call names the same one.
        let _ = self.proven_tenant.set(Arc::clone(tenant));
    }

    /// The tenant that the request proved to come from.
    pub fn proven_tenant(&self) -> Option<&Tenant> {
        self.proven_tenant.get().map(|tenant| &**tenant)
    }
}
