//! The one table of routes: who answers what. Local routing, deployment (`infra/routes.json`) and the tests
//! are checked against it.

use http::Method;

use crate::domain::Collection;

/// One Lambda function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Function {
    /// Logs in.
    CreateSession,
    /// Refreshes sessions.
    RefreshSession,
    /// Logs out, from one session or all.
    DeleteSession,
    /// Shows a user's sessions.
    ListSessions,
    /// Resets logins.
    ResetLogin,
    /// Changes credentials.
    UpdateCredentials,
    /// Shows the hosted page where a person sets a new password.
    PasswordPage,
    /// Tells browsers whether a page of another origin may call.
    Preflight,
    /// Sends what waits in the outbox; fed by the table's stream, not by requests.
    DeliverNotification,
    /// Keeps the heads of the audit log's chains; fed by the log, not by requests.
    AnchorAudit,
    /// Publishes tenants' public keys, and whether the service is well.
    Discovery,
    /// Tells API Gateway whether a caller of somebody's own API is logged in.
    Authorize,
    /// Makes a tenant's next secret, step by step, as Secrets Manager asks.
    RotateSecret,
}

/// What calls a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Requests: it has routes.
    Http,
    /// The table's stream.
    Stream,
    /// A subscription of the other functions' logs.
    Log,
    /// API Gateway, before it lets a request through.
    Authorizer,
    /// Secrets Manager, for each step of a rotation.
    Rotation,
}

impl Trigger {
    /// Its name in `infra/routes.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Stream => "stream",
            Self::Log => "log",
            Self::Authorizer => "authorizer",
            Self::Rotation => "rotation",
        }
    }
}

impl Function {
    /// Every function.
    pub const ALL: [Self; 13] = [
        Self::CreateSession,
        Self::RefreshSession,
        Self::DeleteSession,
        Self::ListSessions,
        Self::ResetLogin,
        Self::UpdateCredentials,
        Self::PasswordPage,
        Self::Preflight,
        Self::DeliverNotification,
        Self::AnchorAudit,
        Self::Discovery,
        Self::Authorize,
        Self::RotateSecret,
    ];

    /// Its name: the binary's, and the folder's of its recorded events.
    pub fn name(self) -> &'static str {
        match self {
            Self::CreateSession => "create-session",
            Self::RefreshSession => "refresh-session",
            Self::DeleteSession => "delete-session",
            Self::ListSessions => "list-sessions",
            Self::ResetLogin => "reset-login",
            Self::UpdateCredentials => "update-credentials",
            Self::PasswordPage => "password-page",
            Self::Preflight => "preflight",
            Self::DeliverNotification => "deliver-notification",
            Self::AnchorAudit => "anchor-audit",
            Self::Discovery => "discovery",
            Self::Authorize => "authorize",
            Self::RotateSecret => "rotate-secret",
        }
    }

    /// What calls it.
    pub fn trigger(self) -> Trigger {
        match self {
            Self::CreateSession
            | Self::RefreshSession
            | Self::DeleteSession
            | Self::ListSessions
            | Self::ResetLogin
            | Self::UpdateCredentials
            | Self::PasswordPage
            | Self::Preflight
            | Self::Discovery => Trigger::Http,
            Self::DeliverNotification => Trigger::Stream,
            Self::AnchorAudit => Trigger::Log,
            Self::Authorize => Trigger::Authorizer,
            Self::RotateSecret => Trigger::Rotation,
        }
    }
}

/// What a route does, in its wire format, with what its path says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// FinHub v2.1.
    Finhub(Finhub),
    /// ZITADEL v2, in one of its framings.
    Zitadel(Zitadel, Framing),
    /// OCARIoT v1: set another user's password, as its administrator.
    Ocariot,
    /// HTML, for people: the page where a person sets a new password.
    Page(Page),
    /// For verifiers of tokens and for monitors, in no dialect.
    Public(Public),
    /// For browsers, in no dialect: whether a page of another origin may call.
    Preflight,
}

/// What FinHub's routes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finhub {
    /// Log in.
    CreateSession(Collection),
    /// Refresh, by the path that names the session alone.
    RefreshAdminSession,
    /// Refresh, by the path that names customer and user too.
    RefreshCustomerSession(Collection),
    /// Log out.
    DeleteSession(Collection),
    /// Log out everywhere, or everywhere else.
    EndSessions(Collection),
    /// Look at a user's sessions.
    ListSessions(Collection),
    /// Look at one of them.
    ReadSession(Collection),
    /// Reset a login.
    ResetLogin,
    /// Change credentials.
    UpdateCredentials,
}

/// What ZITADEL's routes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zitadel {
    /// Ask for a reset code.
    PasswordReset,
    /// Set a password: with a code, the present password or an administrator's authority.
    SetPassword,
}

/// How a ZITADEL call is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// JSON over HTTP, ids in the path.
    Json,
    /// gRPC-Web or Connect, by content type.
    Rpc,
}

/// What is done with the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// Look at it.
    Show,
    /// Send its form.
    Submit,
}

/// What anybody may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Public {
    /// A tenant's issuer and where its keys are (OpenID Connect Discovery 1.0, section 3).
    Configuration,
    /// A tenant's public keys (RFC 7517, section 5).
    Keys,
    /// Whether the service reaches its table.
    Health,
}

impl Endpoint {
    /// Its wire format's name.
    pub fn dialect(self) -> &'static str {
        match self {
            Self::Finhub(_) => "finhub",
            Self::Zitadel(..) => "zitadel",
            Self::Ocariot => "ocariot",
            Self::Page(_) => "page",
            Self::Public(_) => "public",
            Self::Preflight => "preflight",
        }
    }

    /// What it does, by the name that the audit log knows it by.
    pub fn action(self) -> &'static str {
        match self {
            Self::Finhub(Finhub::CreateSession(_)) => "session.create",
            Self::Finhub(Finhub::RefreshAdminSession | Finhub::RefreshCustomerSession(_)) => {
                "session.refresh"
            }
            Self::Finhub(Finhub::DeleteSession(_)) => "session.end",
            Self::Finhub(Finhub::EndSessions(_)) => "sessions.end",
            Self::Finhub(Finhub::ListSessions(_)) => "sessions.list",
            Self::Finhub(Finhub::ReadSession(_)) => "session.read",
            Self::Finhub(Finhub::ResetLogin) => "login.reset",
            Self::Finhub(Finhub::UpdateCredentials) => "credentials.update",
            Self::Zitadel(Zitadel::PasswordReset, _) => "code.ask",
            Self::Zitadel(Zitadel::SetPassword, _) | Self::Ocariot => "password.set",
            Self::Page(Page::Show) => "page.show",
            Self::Page(Page::Submit) => "page.submit",
            Self::Public(Public::Configuration) => "configuration.show",
            Self::Public(Public::Keys) => "keys.show",
            Self::Public(Public::Health) => "health.show",
            Self::Preflight => "preflight",
        }
    }

    /// Whether the audit log tells of its requests. What anybody may read decides about nobody (docs/design/security.md#rule-24),
    /// and whoever asks for it must not be able to fill the log.
    pub fn is_audited(self) -> bool {
        !matches!(self, Self::Public(_))
    }

    /// The function that serves it.
    pub fn function(self) -> Function {
        match self {
            Self::Finhub(Finhub::CreateSession(_)) => Function::CreateSession,
            Self::Finhub(Finhub::RefreshAdminSession | Finhub::RefreshCustomerSession(_)) => {
                Function::RefreshSession
            }
            Self::Finhub(Finhub::DeleteSession(_) | Finhub::EndSessions(_)) => Function::DeleteSession,
            Self::Finhub(Finhub::ListSessions(_) | Finhub::ReadSession(_)) => Function::ListSessions,
            Self::Finhub(Finhub::ResetLogin) | Self::Zitadel(Zitadel::PasswordReset, _) => {
                Function::ResetLogin
            }
            Self::Finhub(Finhub::UpdateCredentials)
            | Self::Zitadel(Zitadel::SetPassword, _)
            | Self::Ocariot => Function::UpdateCredentials,
            Self::Page(_) => Function::PasswordPage,
            Self::Public(_) => Function::Discovery,
            Self::Preflight => Function::Preflight,
        }
    }
}

/// One route.
#[derive(Debug, Clone)]
pub struct Route {
    /// Method.
    pub method: Method,
    /// Path, parameters in braces.
    pub path: &'static str,
    /// What it does.
    pub endpoint: Endpoint,
}

const fn finhub(method: Method, path: &'static str, endpoint: Finhub) -> Route {
    Route { method, path, endpoint: Endpoint::Finhub(endpoint) }
}

const fn zitadel(path: &'static str, endpoint: Zitadel, framing: Framing) -> Route {
    Route { method: Method::POST, path, endpoint: Endpoint::Zitadel(endpoint, framing) }
}

const fn page(method: Method, endpoint: Page) -> Route {
    Route { method, path: "/tenants/{tenantId}/password/change", endpoint: Endpoint::Page(endpoint) }
}

const fn public(path: &'static str, endpoint: Public) -> Route {
    Route { method: Method::GET, path, endpoint: Endpoint::Public(endpoint) }
}

/// Every route that somebody calls (docs/design/contract.md#routes and #public-documents).
pub const ROUTES: [Route; 30] = [
    finhub(
        Method::POST,
        "/api/v2.1/admin/organization/{organizationId}/users/{userId}/sessions",
        Finhub::CreateSession(Collection::Admin),
    ),
    finhub(
        Method::POST,
        "/api/v2.1/customer/individual/{customerId}/users/{userId}/sessions",
        Finhub::CreateSession(Collection::Individual),
    ),
    finhub(
        Method::POST,
        "/api/v2.1/customer/organization/{customerId}/users/{userId}/sessions",
        Finhub::CreateSession(Collection::Organization),
    ),
    finhub(Method::POST, "/api/v2.1/admin/sessions/{sessionId}/refresh", Finhub::RefreshAdminSession),
    finhub(
        Method::PUT,
        "/api/v2.1/customer/individual/{customerId}/users/{userId}/sessions/{sessionId}",
        Finhub::RefreshCustomerSession(Collection::Individual),
    ),
    finhub(
        Method::PUT,
        "/api/v2.1/customer/organization/{customerId}/users/{userId}/sessions/{sessionId}",
        Finhub::RefreshCustomerSession(Collection::Organization),
    ),
    finhub(
        Method::DELETE,
        "/api/v2.1/admin/organization/{organizationId}/users/{userId}/sessions/{sessionId}",
        Finhub::DeleteSession(Collection::Admin),
    ),
    finhub(
        Method::DELETE,
        "/api/v2.1/customer/individual/{customerId}/users/{userId}/sessions/{sessionId}",
        Finhub::DeleteSession(Collection::Individual),
    ),
    finhub(
        Method::DELETE,
        "/api/v2.1/customer/organization/{customerId}/users/{userId}/sessions/{sessionId}",
        Finhub::DeleteSession(Collection::Organization),
    ),
    finhub(
        Method::DELETE,
        "/api/v2.1/admin/organization/{organizationId}/users/{userId}/sessions",
        Finhub::EndSessions(Collection::Admin),
    ),
    finhub(
        Method::DELETE,
        "/api/v2.1/customer/individual/{customerId}/users/{userId}/sessions",
        Finhub::EndSessions(Collection::Individual),
    ),
    finhub(
        Method::DELETE,
        "/api/v2.1/customer/organization/{customerId}/users/{userId}/sessions",
        Finhub::EndSessions(Collection::Organization),
    ),
    finhub(
        Method::GET,
        "/api/v2.1/admin/organization/{organizationId}/users/{userId}/sessions",
        Finhub::ListSessions(Collection::Admin),
    ),
    finhub(
        Method::GET,
        "/api/v2.1/customer/individual/{customerId}/users/{userId}/sessions",
        Finhub::ListSessions(Collection::Individual),
    ),
    finhub(
        Method::GET,
        "/api/v2.1/customer/organization/{customerId}/users/{userId}/sessions",
        Finhub::ListSessions(Collection::Organization),
    ),
    finhub(
        Method::GET,
        "/api/v2.1/admin/organization/{organizationId}/users/{userId}/sessions/{sessionId}",
        Finhub::ReadSession(Collection::Admin),
    ),
    finhub(
        Method::GET,
        "/api/v2.1/customer/individual/{customerId}/users/{userId}/sessions/{sessionId}",
        Finhub::ReadSession(Collection::Individual),
    ),
    finhub(
        Method::GET,
        "/api/v2.1/customer/organization/{customerId}/users/{userId}/sessions/{sessionId}",
        Finhub::ReadSession(Collection::Organization),
    ),
    finhub(Method::POST, "/api/v2.1/admin/users/login/reset", Finhub::ResetLogin),
    finhub(Method::PUT, "/api/v2.1/admin/users/{userId}/credentials", Finhub::UpdateCredentials),
    zitadel("/v2/users/{userId}/password_reset", Zitadel::PasswordReset, Framing::Json),
    zitadel("/zitadel.user.v2.UserService/PasswordReset", Zitadel::PasswordReset, Framing::Rpc),
    zitadel("/v2/users/{userId}/password", Zitadel::SetPassword, Framing::Json),
    zitadel("/zitadel.user.v2.UserService/SetPassword", Zitadel::SetPassword, Framing::Rpc),
    Route { method: Method::POST, path: "/v1/users/{user_id}/reset-password", endpoint: Endpoint::Ocariot },
    page(Method::GET, Page::Show),
    page(Method::POST, Page::Submit),
    public("/tenants/{tenantId}/.well-known/openid-configuration", Public::Configuration),
    public("/tenants/{tenantId}/.well-known/jwks.json", Public::Keys),
    public("/healthz", Public::Health),
];

/// Every route that is served: [`ROUTES`], and for each path that pages of other origins may call what
/// their browsers ask first.
pub fn served() -> Vec<Route> {
    let mut served = ROUTES.to_vec();
    let is_shared = |route: &&Route| !matches!(route.endpoint, Endpoint::Page(_) | Endpoint::Public(_));
    for route in ROUTES.iter().filter(is_shared) {
        let asked = Route { method: Method::OPTIONS, path: route.path, endpoint: Endpoint::Preflight };
        if !served.iter().any(|known| (&known.method, known.path) == (&asked.method, asked.path)) {
            served.push(asked);
        }
    }
    served
}

/// The methods by which somebody calls a path, as [`ROUTES`] has it.
pub fn methods(path: &str) -> Vec<String> {
    ROUTES.iter().filter(|route| route.path == path).map(|route| route.method.to_string()).collect()
}

/// Finds the route of a request among one function's.
pub struct Router {
    paths: matchit::Router<Vec<Route>>,
}

/// A route, and the path's parameters, percent-decoded.
#[derive(Debug)]
pub struct Matched {
    /// The route.
    pub route: Route,
    /// Parameters by name, in the path's order.
    pub parameters: Vec<(String, String)>,
}

impl Router {
    /// A router of `function`'s routes.
    ///
    /// # Errors
    /// When two of [`served`] contradict each other.
    pub fn new(function: Function) -> Result<Self, matchit::InsertError> {
        let mut paths: matchit::Router<Vec<Route>> = matchit::Router::new();
        for route in served().into_iter().filter(|route| route.endpoint.function() == function) {
            match paths.at_mut(route.path) {
                Ok(known) => known.value.push(route),
                Err(_) => paths.insert(route.path, vec![route])?,
            }
        }
        Ok(Self { paths })
    }

    /// The route for a path as API Gateway sends it, decoded or not: what is still encoded in a
    /// parameter is decoded here. One that is no text is empty: no id is, and each dialect says so in
    /// its own words.
    pub fn find(&self, method: &Method, path: &str) -> Option<Matched> {
        let found = self.paths.at(path).ok()?;
        let route = found.value.iter().find(|route| route.method == *method)?;
        let decoded = |text: &str| {
            percent_encoding::percent_decode_str(text).decode_utf8().map(String::from).unwrap_or_default()
        };
        let parameters = found.params.iter().map(|(name, value)| (name.to_owned(), decoded(value)));
        Some(Matched { route: route.clone(), parameters: parameters.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_finds_itself_in_its_function_alone() {
        for route in served() {
            for function in Function::ALL {
                let found = Router::new(function).unwrap().find(&route.method, route.path);
                let own = route.endpoint.function() == function;
                assert_eq!(found.map(|found| found.route.endpoint), own.then_some(route.endpoint));
            }
        }
    }

    #[test]
    fn parameters_are_decoded_once() {
        let router = Router::new(Function::UpdateCredentials).unwrap();
        let found = router.find(&Method::PUT, "/api/v2.1/admin/users/a%2Fb%23%2541/credentials").unwrap();
        assert_eq!(found.parameters, [("userId".to_owned(), "a/b#%41".to_owned())]);
        let no_text = router.find(&Method::PUT, "/api/v2.1/admin/users/%ff/credentials").unwrap();
        assert_eq!(no_text.parameters, [("userId".to_owned(), String::new())]);
        assert!(router.find(&Method::GET, "/api/v2.1/admin/users/a/credentials").is_none());
        assert!(router.find(&Method::PUT, "/api/v2.1/admin/users//credentials").is_none());
    }
}
