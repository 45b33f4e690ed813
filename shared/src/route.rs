//! The route table: each function's routes, each with its handler.
//!
//! A binary names only its own list, for example [`CREATE_SESSION`], so that the linker drops the handlers of
//! the other functions. `Cargo.toml`, `infra/routes.json` and `docs/openapi.yaml` are compared with this
//! table by tests.

use http::Method;
use strum::{EnumIter, IntoEnumIterator, IntoStaticStr};

use crate::{
    dialect::{
        Dialect, Handler, MatchedPath, cors, finhub, oauth, ocariot, page, public,
        zitadel::{
            self,
            Framing::{Json, Rpc},
            ZITADEL_JSON, ZITADEL_RPC,
        },
    },
    domain::Collection::{self, Admin, Individual, Organization},
};

/// A Lambda function. Its name is the name of its binary and of its folder of recorded events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Function {
    /// Logs users in.
    CreateSession,
    /// Refreshes sessions.
    RefreshSession,
    /// Ends one session, or all sessions of a user.
    DeleteSession,
    /// Lists a user's sessions.
    ListSessions,
    /// Resets logins and issues reset codes.
    ResetLogin,
    /// Changes credentials.
    UpdateCredentials,
    /// Reads and lists users.
    FindUsers,
    /// Creates, changes and deletes users.
    ManageUsers,
    /// Serves the hosted page where a person sets a new password.
    PasswordPage,
    /// Answers CORS preflight requests.
    Preflight,
    /// Delivers the messages in the outbox; triggered by the table's stream.
    DeliverNotification,
    /// Stores the chain heads of the audit log; triggered by a log subscription.
    AnchorAudit,
    /// Publishes tenants' public keys and the health of the service.
    Discovery,
    /// Issues client tokens, introspects and revokes tokens.
    Oauth,
    /// Authorizes requests to a customer's own APIs; called by API Gateway.
    Authorize,
    /// Rotates a tenant's secret; called by Secrets Manager for each step.
    RotateSecret,
}

/// The event source of a function. Its name is the one in `infra/routes.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Trigger {
    /// HTTP requests: the function has routes.
    Http,
    /// The table's stream.
    Stream,
    /// A subscription of the other functions' logs.
    Log,
    /// An API Gateway authorizer.
    Authorizer,
    /// Secrets Manager rotation.
    Rotation,
}

impl Trigger {
    /// The name in `infra/routes.json`.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl Function {
    /// Every function.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::iter()
    }

    /// The name of the binary.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The event source.
    pub fn trigger(self) -> Trigger {
        match self {
            Self::CreateSession
            | Self::RefreshSession
            | Self::DeleteSession
            | Self::ListSessions
            | Self::ResetLogin
            | Self::UpdateCredentials
            | Self::FindUsers
            | Self::ManageUsers
            | Self::PasswordPage
            | Self::Preflight
            | Self::Discovery
            | Self::Oauth => Trigger::Http,
            Self::DeliverNotification => Trigger::Stream,
            Self::AnchorAudit => Trigger::Log,
            Self::Authorize => Trigger::Authorizer,
            Self::RotateSecret => Trigger::Rotation,
        }
    }

    /// The routes of the function; empty when no HTTP request triggers it.
    ///
    /// For tests and tools. A binary that calls this links every handler.
    pub fn routes(self) -> &'static [Route] {
        match self {
            Self::CreateSession => &CREATE_SESSION,
            Self::RefreshSession => &REFRESH_SESSION,
            Self::DeleteSession => DELETE_SESSION.as_flattened(),
            Self::ListSessions => LIST_SESSIONS.as_flattened(),
            Self::ResetLogin => &RESET_LOGIN,
            Self::UpdateCredentials => &UPDATE_CREDENTIALS,
            Self::FindUsers => FIND_USERS.as_flattened(),
            Self::ManageUsers => MANAGE_USERS.as_flattened(),
            Self::PasswordPage => &PASSWORD_PAGE,
            Self::Preflight => &PREFLIGHT,
            Self::Discovery => &DISCOVERY,
            Self::Oauth => &OAUTH,
            Self::DeliverNotification | Self::AnchorAudit | Self::Authorize | Self::RotateSecret => &[],
        }
    }
}

/// The whole route table, function by function. For tests and tools, like [`Function::routes`].
pub fn table() -> impl Iterator<Item = (Function, &'static Route)> {
    Function::all().flat_map(|function| function.routes().iter().map(move |route| (function, route)))
}

/// A route and its handler.
pub struct Route {
    /// HTTP method.
    pub method: &'static Method,
    /// Path pattern with parameters in braces.
    pub path: &'static str,
    /// Name of the action in the audit log.
    pub action: &'static str,
    /// Wire format.
    pub dialect: &'static Dialect,
    /// Collection of users in the path; [`Admin`] for a path without one.
    pub(crate) collection: Collection,
    /// Parses the request, calls the use case and renders its outcome.
    pub(crate) handler: Handler,
}

impl Route {
    /// The methods of the requests to this route. `HEAD` has the route of `GET` (RFC 9110, section 9.3.2); the entry point
    /// leaves out the body.
    pub fn methods(&self) -> impl Iterator<Item = &'static Method> + use<> {
        std::iter::once(self.method).chain((self.method == Method::GET).then_some(&Method::HEAD))
    }
}

const fn finhub(
    method: &'static Method,
    path: &'static str,
    action: &'static str,
    handler: Handler,
) -> Route {
    Route { method, path, action, dialect: &finhub::FINHUB, collection: Admin, handler }
}

/// A route of each collection.
const fn finhub_each(
    method: &'static Method,
    [admin, individual, organization]: [&'static str; 3],
    action: &'static str,
    handler: Handler,
) -> [Route; 3] {
    [
        finhub(method, admin, action, handler),
        Route { collection: Individual, ..finhub(method, individual, action, handler) },
        Route { collection: Organization, ..finhub(method, organization, action, handler) },
    ]
}

const fn post(
    path: &'static str,
    action: &'static str,
    dialect: &'static Dialect,
    handler: Handler,
) -> Route {
    Route { method: &Method::POST, path, action, dialect, collection: Admin, handler }
}

const fn page(method: &'static Method, action: &'static str, handler: Handler) -> Route {
    Route { method, ..post("/tenants/{tenantId}/password/change", action, &page::PAGE, handler) }
}

const fn public(path: &'static str, action: &'static str, handler: Handler) -> Route {
    Route { method: &Method::GET, ..post(path, action, &public::PUBLIC, handler) }
}

const fn preflight(path: &'static str, handler: Handler) -> Route {
    Route { method: &Method::OPTIONS, ..post(path, "preflight", &cors::PREFLIGHT, handler) }
}

const SESSIONS: [&str; 3] = [
    "/api/v2.1/admin/organization/{organizationId}/users/{userId}/sessions",
    "/api/v2.1/customer/individual/{customerId}/users/{userId}/sessions",
    "/api/v2.1/customer/organization/{customerId}/users/{userId}/sessions",
];
/// Paths of a login by name: of administrators and of customers.
const NAMED_SESSIONS: [&str; 2] = ["/api/v2.1/admin/sessions", "/api/v2.1/customer/sessions"];
const SESSION: [&str; 3] = [
    "/api/v2.1/admin/organization/{organizationId}/users/{userId}/sessions/{sessionId}",
    "/api/v2.1/customer/individual/{customerId}/users/{userId}/sessions/{sessionId}",
    "/api/v2.1/customer/organization/{customerId}/users/{userId}/sessions/{sessionId}",
];
/// Paths of a refresh: an administrator's has no user.
const REFRESH: [&str; 3] = ["/api/v2.1/admin/sessions/{sessionId}/refresh", SESSION[1], SESSION[2]];
const LOGIN_RESET: &str = "/api/v2.1/admin/users/login/reset";
const CREDENTIALS: &str = "/api/v2.1/admin/users/{userId}/credentials";
const PASSWORD_RESET: &str = "/v2/users/{userId}/password_reset";
const PASSWORD_RESET_RPC: &str = "/zitadel.user.v2.UserService/PasswordReset";
const PASSWORD: &str = "/v2/users/{userId}/password";
const SET_PASSWORD_RPC: &str = "/zitadel.user.v2.UserService/SetPassword";
const OCARIOT_RESET: &str = "/v1/users/{user_id}/reset-password";

const ONLY_POST: Handler = |call| Box::pin(cors::preflight(call, "POST"));

/// Routes of `create-session`: by ID, and by name. The route of all customers has the collection [`Individual`].
pub static CREATE_SESSION: [Route; 5] = {
    let create: Handler = |call| Box::pin(finhub::create_session(call));
    let by_name: Handler = |call| Box::pin(finhub::create_session_by_name(call));
    let [admin, individual, organization] = finhub_each(&Method::POST, SESSIONS, "session.create", create);
    let [admins, customers] = NAMED_SESSIONS;
    [
        admin,
        individual,
        organization,
        finhub(&Method::POST, admins, "session.create", by_name),
        Route { collection: Individual, ..finhub(&Method::POST, customers, "session.create", by_name) },
    ]
};

/// Routes of `refresh-session`.
pub static REFRESH_SESSION: [Route; 3] = {
    let refresh: Handler = |call| Box::pin(finhub::refresh_session(call));
    let [admin, individual, organization] = finhub_each(&Method::PUT, REFRESH, "session.refresh", refresh);
    [Route { method: &Method::POST, ..admin }, individual, organization]
};

/// Routes of `delete-session`: of one session, and of all.
pub static DELETE_SESSION: [[Route; 3]; 2] = [
    finhub_each(&Method::DELETE, SESSION, "session.end", |call| Box::pin(finhub::delete_session(call))),
    finhub_each(&Method::DELETE, SESSIONS, "sessions.end", |call| Box::pin(finhub::end_sessions(call))),
];

/// Routes of `list-sessions`: of all sessions, and of one.
pub static LIST_SESSIONS: [[Route; 3]; 2] = [
    finhub_each(&Method::GET, SESSIONS, "sessions.list", |call| Box::pin(finhub::list_sessions(call))),
    finhub_each(&Method::GET, SESSION, "session.read", |call| Box::pin(finhub::read_session(call))),
];

/// Routes of `reset-login`.
pub static RESET_LOGIN: [Route; 3] = [
    finhub(&Method::POST, LOGIN_RESET, "login.reset", |call| Box::pin(finhub::reset_login(call))),
    post(PASSWORD_RESET, "code.ask", &ZITADEL_JSON, |call| Box::pin(zitadel::password_reset(call, Json))),
    post(PASSWORD_RESET_RPC, "code.ask", &ZITADEL_RPC, |call| Box::pin(zitadel::password_reset(call, Rpc))),
];

/// Routes of `update-credentials`.
pub static UPDATE_CREDENTIALS: [Route; 4] = [
    finhub(&Method::PUT, CREDENTIALS, "credentials.update", |call| {
        Box::pin(finhub::update_credentials(call))
    }),
    post(PASSWORD, "password.set", &ZITADEL_JSON, |call| Box::pin(zitadel::set_password(call, Json))),
    post(SET_PASSWORD_RPC, "password.set", &ZITADEL_RPC, |call| Box::pin(zitadel::set_password(call, Rpc))),
    post(OCARIOT_RESET, "password.set", &ocariot::OCARIOT, |call| Box::pin(ocariot::reset_password(call))),
];

/// The two routes of a ZITADEL call: JSON and RPC.
macro_rules! zitadel_call {
    ($method:ident $path:literal, $name:literal, $action:literal, $handler:ident) => {
        [
            Route {
                method: &Method::$method,
                ..post($path, $action, &ZITADEL_JSON, |call| Box::pin(zitadel::$handler(call, Json)))
            },
            post(concat!("/zitadel.user.v2.UserService/", $name), $action, &ZITADEL_RPC, |call| {
                Box::pin(zitadel::$handler(call, Rpc))
            }),
        ]
    };
}

/// Routes of `find-users`.
pub static FIND_USERS: [[Route; 2]; 2] = [
    zitadel_call!(GET "/v2/users/{userId}", "GetUserByID", "user.read", read_user),
    zitadel_call!(POST "/v2/users", "ListUsers", "users.list", list_users),
];

/// Routes of `manage-users`.
pub static MANAGE_USERS: [[Route; 2]; 16] = [
    zitadel_call!(POST "/v2/users/new", "CreateUser", "user.create", create_user),
    zitadel_call!(POST "/v2/users/human", "AddHumanUser", "user.create", add_human_user),
    zitadel_call!(PATCH "/v2/users/{userId}", "UpdateUser", "user.update", update_user),
    zitadel_call!(PUT "/v2/users/human/{userId}", "UpdateHumanUser", "user.update", update_human_user),
    zitadel_call!(POST "/v2/users/{userId}/email", "SetEmail", "email.set", set_email),
    zitadel_call!(POST "/v2/users/{userId}/email/send", "SendEmailCode", "email.code", send_email_code),
    zitadel_call!(POST "/v2/users/{userId}/email/resend", "ResendEmailCode", "email.code", resend_email_code),
    zitadel_call!(POST "/v2/users/{userId}/email/verify", "VerifyEmail", "email.verify", verify_email),
    zitadel_call!(POST "/v2/users/{userId}/phone", "SetPhone", "phone.set", set_phone),
    zitadel_call!(DELETE "/v2/users/{userId}/phone", "RemovePhone", "phone.remove", remove_phone),
    zitadel_call!(POST "/v2/users/{userId}/phone/verify", "VerifyPhone", "phone.verify", verify_phone),
    zitadel_call!(POST "/v2/users/{userId}/deactivate", "DeactivateUser", "user.disable", deactivate_user),
    zitadel_call!(POST "/v2/users/{userId}/reactivate", "ReactivateUser", "user.enable", reactivate_user),
    zitadel_call!(POST "/v2/users/{userId}/lock", "LockUser", "user.lock", lock_user),
    zitadel_call!(POST "/v2/users/{userId}/unlock", "UnlockUser", "user.unlock", unlock_user),
    zitadel_call!(DELETE "/v2/users/{userId}", "DeleteUser", "user.delete", delete_user),
];

/// Routes of `password-page`.
pub static PASSWORD_PAGE: [Route; 2] = [
    page(&Method::GET, "page.show", |call| Box::pin(page::show(call))),
    page(&Method::POST, "page.submit", |call| Box::pin(page::submit(call))),
];

/// Routes of `oauth`.
pub static OAUTH: [Route; 3] = [
    post("/tenants/{tenantId}/oauth/token", "token.issue", &oauth::OAUTH, |call| {
        Box::pin(oauth::token(call))
    }),
    post("/tenants/{tenantId}/oauth/introspect", "token.introspect", &oauth::OAUTH, |call| {
        Box::pin(oauth::introspect(call))
    }),
    post("/tenants/{tenantId}/oauth/revoke", "token.revoke", &oauth::OAUTH, |call| {
        Box::pin(oauth::revoke(call))
    }),
];

/// Routes of `discovery`.
pub static DISCOVERY: [Route; 4] = [
    public("/tenants/{tenantId}/.well-known/openid-configuration", "configuration.show", |call| {
        Box::pin(public::configuration(call))
    }),
    public("/tenants/{tenantId}/.well-known/oauth-authorization-server", "configuration.show", |call| {
        Box::pin(public::configuration(call))
    }),
    public("/tenants/{tenantId}/.well-known/jwks.json", "keys.show", |call| Box::pin(public::keys(call))),
    public("/healthz", "health.show", |call| Box::pin(public::health(call))),
];

/// Routes of `preflight`: one for each path that pages of other origins may call. Each lists the methods of
/// its path, because reading them from the other routes would link their handlers.
pub static PREFLIGHT: [Route; 49] = [
    preflight(SESSIONS[0], |call| Box::pin(cors::preflight(call, "POST, DELETE, GET"))),
    preflight(SESSIONS[1], |call| Box::pin(cors::preflight(call, "POST, DELETE, GET"))),
    preflight(SESSIONS[2], |call| Box::pin(cors::preflight(call, "POST, DELETE, GET"))),
    preflight(NAMED_SESSIONS[0], ONLY_POST),
    preflight(NAMED_SESSIONS[1], ONLY_POST),
    preflight(REFRESH[0], ONLY_POST),
    preflight(SESSION[1], |call| Box::pin(cors::preflight(call, "PUT, DELETE, GET"))),
    preflight(SESSION[2], |call| Box::pin(cors::preflight(call, "PUT, DELETE, GET"))),
    preflight(SESSION[0], |call| Box::pin(cors::preflight(call, "DELETE, GET"))),
    preflight(LOGIN_RESET, ONLY_POST),
    preflight(CREDENTIALS, |call| Box::pin(cors::preflight(call, "PUT"))),
    preflight(PASSWORD_RESET, ONLY_POST),
    preflight(PASSWORD_RESET_RPC, ONLY_POST),
    preflight(PASSWORD, ONLY_POST),
    preflight(SET_PASSWORD_RPC, ONLY_POST),
    preflight(OCARIOT_RESET, ONLY_POST),
    preflight("/v2/users/{userId}", |call| Box::pin(cors::preflight(call, "PATCH, DELETE, GET"))),
    preflight("/v2/users", ONLY_POST),
    preflight("/v2/users/new", ONLY_POST),
    preflight("/v2/users/human", ONLY_POST),
    preflight("/v2/users/human/{userId}", |call| Box::pin(cors::preflight(call, "PUT"))),
    preflight("/v2/users/{userId}/email", ONLY_POST),
    preflight("/v2/users/{userId}/email/send", ONLY_POST),
    preflight("/v2/users/{userId}/email/resend", ONLY_POST),
    preflight("/v2/users/{userId}/email/verify", ONLY_POST),
    preflight("/v2/users/{userId}/phone", |call| Box::pin(cors::preflight(call, "POST, DELETE"))),
    preflight("/v2/users/{userId}/phone/verify", ONLY_POST),
    preflight("/v2/users/{userId}/deactivate", ONLY_POST),
    preflight("/v2/users/{userId}/reactivate", ONLY_POST),
    preflight("/v2/users/{userId}/lock", ONLY_POST),
    preflight("/v2/users/{userId}/unlock", ONLY_POST),
    preflight("/zitadel.user.v2.UserService/GetUserByID", ONLY_POST),
    preflight("/zitadel.user.v2.UserService/ListUsers", ONLY_POST),
    preflight("/zitadel.user.v2.UserService/CreateUser", ONLY_POST),
    preflight("/zitadel.user.v2.UserService/AddHumanUser", ONLY_POST),
    preflight("/zitadel.user.v2.UserService/UpdateUser", ONLY_POST),
    preflight("/zitadel.user.v2.UserService/UpdateHumanUser", ONLY_POST),
    preflight("/zitadel.user.v2.UserService/SetEmail", ONLY_POST),
    preflight("/zitadel.user.v2.UserService/SendEmailCode", ONLY_POST),
    preflight("/zitadel.user.v2.UserService/ResendEmailCode", ONLY_POST),
    preflight("/zitadel.user.v2.UserService/VerifyEmail", ONLY_POST),
    preflight("/zitadel.user.v2.UserService/SetPhone", ONLY_POST),
    preflight("/zitadel.user.v2.UserService/RemovePhone", ONLY_POST),
    preflight("/zitadel.user.v2.UserService/VerifyPhone", ONLY_POST),
    preflight("/zitadel.user.v2.UserService/DeactivateUser", ONLY_POST),
    preflight("/zitadel.user.v2.UserService/ReactivateUser", ONLY_POST),
    preflight("/zitadel.user.v2.UserService/LockUser", ONLY_POST),
    preflight("/zitadel.user.v2.UserService/UnlockUser", ONLY_POST),
    preflight("/zitadel.user.v2.UserService/DeleteUser", ONLY_POST),
];

/// Finds the route of a request among the routes of one function.
pub struct Router {
    /// One router for each method, because a path of one method may also fit a parameter in a path of another.
    methods: Vec<(&'static Method, matchit::Router<&'static Route>)>,
}

impl Router {
    /// A router for `routes`.
    ///
    /// # Errors
    /// Two path patterns contradict each other.
    pub fn new(routes: &'static [Route]) -> Result<Self, matchit::InsertError> {
        let mut methods: Vec<(&'static Method, matchit::Router<&'static Route>)> = Vec::new();
        for route in routes {
            for method in route.methods() {
                if let Some((_, paths)) = methods.iter_mut().find(|(known, _)| *known == method) {
                    paths.insert(route.path, route)?;
                } else {
                    let mut paths = matchit::Router::new();
                    paths.insert(route.path, route)?;
                    methods.push((method, paths));
                }
            }
        }
        Ok(Self { methods })
    }

    /// The route for a method and a decoded path, with the path's parameters.
    pub fn find(&self, method: &Method, path: &str) -> Option<(&'static Route, MatchedPath)> {
        let (_, paths) = self.methods.iter().find(|(known, _)| *known == method)?;
        let found = paths.at(path).ok()?;
        let route = *found.value;
        let parameters =
            found.params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Some((route, MatchedPath { pattern: route.path, collection: route.collection, parameters }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::CrossOrigin;

    #[test]
    fn each_function_routes_only_its_own_paths() {
        for (owner, route) in table() {
            for function in Function::all() {
                let found = Router::new(function.routes()).unwrap().find(route.method, route.path);
                let found = found.map(|(found, _)| std::ptr::from_ref(found));
                assert_eq!(found, (function == owner).then_some(std::ptr::from_ref(route)), "{}", route.path);
            }
        }
    }

    // The adapter decoded the path: another decoding would turn one ID into another.
    #[test]
    fn path_parameters_are_not_decoded() {
        let router = Router::new(&UPDATE_CREDENTIALS).unwrap();
        let user = |path: &str| {
            let (_, matched) = router.find(&Method::PUT, path)?;
            matched.parameter("userId").map(str::to_owned)
        };
        assert_eq!(user("/api/v2.1/admin/users/a%2Fb#%41/credentials").unwrap(), "a%2Fb#%41");
        assert_eq!(user("/api/v2.1/admin/users/a/b/credentials"), None);
        assert_eq!(user("/api/v2.1/admin/users//credentials"), None);
        assert!(router.find(&Method::GET, "/api/v2.1/admin/users/a/credentials").is_none());
    }

    #[test]
    fn binaries_without_routes_are_those_that_no_request_triggers() {
        for function in Function::all() {
            assert_eq!(function.routes().is_empty(), function.trigger() != Trigger::Http, "{function:?}");
        }
    }

    /// The paths that pages of other origins may call, each with a preflight route, and no other path.
    #[test]
    fn each_shared_path_has_one_preflight_route() {
        let shared: Vec<_> = table()
            .map(|(_, route)| route)
            .filter(|route| route.dialect.cross_origin == CrossOrigin::Listed)
            .map(|route| route.path)
            .collect();
        for path in &shared {
            assert_eq!(PREFLIGHT.iter().filter(|route| route.path == *path).count(), 1, "{path}");
        }
        assert!(PREFLIGHT.iter().all(|route| shared.contains(&route.path)));
    }
}
