//! The rows: the valid request of each route and its expected results.

use doorward::route::table;
use http::Method;

use super::cases::{
    CONNECT, FINHUB, FINHUB_LOGIN, FINHUB_ONE_SESSION, FINHUB_REFRESH_ADMIN, FINHUB_REFRESH_CUSTOMER, FORM,
    HEALTH, OAUTH, OCARIOT, PAGE, PREFLIGHT, PUBLIC, Results, ZITADEL,
};

/// The valid request of a route.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Request {
    /// A login with the target's password.
    Login,
    /// A refresh with the target's tokens.
    Refresh,
    /// A request about the target's sessions, without a body.
    Sessions,
    /// A request with this body, in which `USER` stands for the target's ID.
    Json(&'static str),
    /// A request for the hosted page with the cookie of a reset link.
    Page,
    /// The submitted form of the hosted page.
    Form,
    /// A form of an API client, in which `TOKEN` stands for the target's access token.
    Client(&'static str),
    /// A request that anyone may send.
    Public,
    /// The preflight request of a browser.
    Preflight,
}

/// A row: method, path, valid request and expected results.
pub(crate) type Row = (&'static str, &'static str, Request, &'static Results);

pub(crate) const ROWS: [Row; 36] = [
    (
        "POST",
        "/api/v2.1/admin/organization/{organizationId}/users/{userId}/sessions",
        Request::Login,
        &FINHUB_LOGIN,
    ),
    (
        "POST",
        "/api/v2.1/customer/individual/{customerId}/users/{userId}/sessions",
        Request::Login,
        &FINHUB_LOGIN,
    ),
    (
        "POST",
        "/api/v2.1/customer/organization/{customerId}/users/{userId}/sessions",
        Request::Login,
        &FINHUB_LOGIN,
    ),
    ("POST", "/api/v2.1/admin/sessions", Request::Login, &FINHUB_LOGIN),
    ("POST", "/api/v2.1/customer/sessions", Request::Login, &FINHUB_LOGIN),
    ("POST", "/api/v2.1/admin/sessions/{sessionId}/refresh", Request::Refresh, &FINHUB_REFRESH_ADMIN),
    (
        "PUT",
        "/api/v2.1/customer/individual/{customerId}/users/{userId}/sessions/{sessionId}",
        Request::Refresh,
        &FINHUB_REFRESH_CUSTOMER,
    ),
    (
        "PUT",
        "/api/v2.1/customer/organization/{customerId}/users/{userId}/sessions/{sessionId}",
        Request::Refresh,
        &FINHUB_REFRESH_CUSTOMER,
    ),
    (
        "DELETE",
        "/api/v2.1/admin/organization/{organizationId}/users/{userId}/sessions/{sessionId}",
        Request::Sessions,
        &FINHUB_ONE_SESSION,
    ),
    (
        "DELETE",
        "/api/v2.1/customer/individual/{customerId}/users/{userId}/sessions/{sessionId}",
        Request::Sessions,
        &FINHUB_ONE_SESSION,
    ),
    (
        "DELETE",
        "/api/v2.1/customer/organization/{customerId}/users/{userId}/sessions/{sessionId}",
        Request::Sessions,
        &FINHUB_ONE_SESSION,
    ),
    (
        "DELETE",
        "/api/v2.1/admin/organization/{organizationId}/users/{userId}/sessions",
        Request::Sessions,
        &FINHUB,
    ),
    (
        "DELETE",
        "/api/v2.1/customer/individual/{customerId}/users/{userId}/sessions",
        Request::Sessions,
        &FINHUB,
    ),
    (
        "DELETE",
        "/api/v2.1/customer/organization/{customerId}/users/{userId}/sessions",
        Request::Sessions,
        &FINHUB,
    ),
    (
        "GET",
        "/api/v2.1/admin/organization/{organizationId}/users/{userId}/sessions",
        Request::Sessions,
        &FINHUB,
    ),
    ("GET", "/api/v2.1/customer/individual/{customerId}/users/{userId}/sessions", Request::Sessions, &FINHUB),
    (
        "GET",
        "/api/v2.1/customer/organization/{customerId}/users/{userId}/sessions",
        Request::Sessions,
        &FINHUB,
    ),
    (
        "GET",
        "/api/v2.1/admin/organization/{organizationId}/users/{userId}/sessions/{sessionId}",
        Request::Sessions,
        &FINHUB_ONE_SESSION,
    ),
    (
        "GET",
        "/api/v2.1/customer/individual/{customerId}/users/{userId}/sessions/{sessionId}",
        Request::Sessions,
        &FINHUB_ONE_SESSION,
    ),
    (
        "GET",
        "/api/v2.1/customer/organization/{customerId}/users/{userId}/sessions/{sessionId}",
        Request::Sessions,
        &FINHUB_ONE_SESSION,
    ),
    ("POST", "/api/v2.1/admin/users/login/reset", Request::Json(r#"{"userId": "USER"}"#), &FINHUB),
    ("PUT", "/api/v2.1/admin/users/{userId}/credentials", Request::Json("{}"), &FINHUB),
    ("POST", "/v2/users/{userId}/password_reset", Request::Json(r#"{"returnCode": {}}"#), &ZITADEL),
    (
        "POST",
        "/zitadel.user.v2.UserService/PasswordReset",
        Request::Json(r#"{"userId": "USER", "returnCode": {}}"#),
        &CONNECT,
    ),
    (
        "POST",
        "/v2/users/{userId}/password",
        Request::Json(r#"{"newPassword": {"password": "a brand new passphrase"}}"#),
        &ZITADEL,
    ),
    (
        "POST",
        "/zitadel.user.v2.UserService/SetPassword",
        Request::Json(r#"{"userId": "USER", "newPassword": {"password": "a brand new passphrase"}}"#),
        &CONNECT,
    ),
    (
        "POST",
        "/v1/users/{user_id}/reset-password",
        Request::Json(r#"{"new_password": "a brand new passphrase"}"#),
        &OCARIOT,
    ),
    ("GET", "/tenants/{tenantId}/password/change", Request::Page, &PAGE),
    ("POST", "/tenants/{tenantId}/password/change", Request::Form, &FORM),
    ("POST", "/tenants/{tenantId}/oauth/token", Request::Client("grant_type=client_credentials"), &OAUTH),
    ("POST", "/tenants/{tenantId}/oauth/introspect", Request::Client("token=TOKEN"), &OAUTH),
    ("POST", "/tenants/{tenantId}/oauth/revoke", Request::Client("token=TOKEN"), &OAUTH),
    ("GET", "/tenants/{tenantId}/.well-known/oauth-authorization-server", Request::Public, &PUBLIC),
    ("GET", "/tenants/{tenantId}/.well-known/openid-configuration", Request::Public, &PUBLIC),
    ("GET", "/tenants/{tenantId}/.well-known/jwks.json", Request::Public, &PUBLIC),
    ("GET", "/healthz", Request::Public, &HEALTH),
];

/// The rows of all routes. The preflight routes derive from the other routes and share one row.
pub(crate) fn rows() -> Vec<Row> {
    let preflights = table().filter(|(_, route)| route.method == Method::OPTIONS);
    let preflights = preflights.map(|(_, route)| ("OPTIONS", route.path, Request::Preflight, &PREFLIGHT));
    ROWS.into_iter().chain(preflights).collect()
}
