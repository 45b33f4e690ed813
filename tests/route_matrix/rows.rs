//! The rows: the valid request of each route and its expected results.

use doorward::route::table;
use http::Method;

use super::cases::{
    CONNECT, CONNECT_CODE, CONNECT_CREATE, CONNECT_STATUS, FINHUB, FINHUB_LOGIN, FINHUB_ONE_SESSION,
    FINHUB_REFRESH_ADMIN, FINHUB_REFRESH_CUSTOMER, FORM, HEALTH, OAUTH, OCARIOT, PAGE, PREFLIGHT, PUBLIC,
    Results, ZITADEL, ZITADEL_CODE, ZITADEL_CREATE, ZITADEL_STATUS,
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

pub(crate) const ROWS: [Row; 72] = [
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
    (
        "POST",
        "/v2/users/new",
        Request::Json(
            r#"{"organizationId": "b4c3d4e7-f8a9-0123-b4c5-d6e7f8a9012b", "username": "new", "human": {}}"#,
        ),
        &ZITADEL_CREATE,
    ),
    (
        "POST",
        "/zitadel.user.v2.UserService/CreateUser",
        Request::Json(
            r#"{"organizationId": "b4c3d4e7-f8a9-0123-b4c5-d6e7f8a9012b", "username": "new", "human": {}}"#,
        ),
        &CONNECT_CREATE,
    ),
    (
        "POST",
        "/v2/users/human",
        Request::Json(
            r#"{"organization": {"orgId": "b4c3d4e7-f8a9-0123-b4c5-d6e7f8a9012b"}, "username": "new"}"#,
        ),
        &ZITADEL_CREATE,
    ),
    (
        "POST",
        "/zitadel.user.v2.UserService/AddHumanUser",
        Request::Json(
            r#"{"organization": {"orgId": "b4c3d4e7-f8a9-0123-b4c5-d6e7f8a9012b"}, "username": "new"}"#,
        ),
        &CONNECT_CREATE,
    ),
    ("GET", "/v2/users/{userId}", Request::Sessions, &ZITADEL),
    ("POST", "/zitadel.user.v2.UserService/GetUserByID", Request::Json(r#"{"userId": "USER"}"#), &CONNECT),
    ("POST", "/v2/users", Request::Json("{}"), &ZITADEL_CREATE),
    ("POST", "/zitadel.user.v2.UserService/ListUsers", Request::Json("{}"), &CONNECT_CREATE),
    ("PATCH", "/v2/users/{userId}", Request::Json(r#"{"human": {"profile": {"nickName": "x"}}}"#), &ZITADEL),
    (
        "POST",
        "/zitadel.user.v2.UserService/UpdateUser",
        Request::Json(r#"{"userId": "USER", "human": {"profile": {"nickName": "x"}}}"#),
        &CONNECT,
    ),
    ("PUT", "/v2/users/human/{userId}", Request::Json(r#"{"profile": {"nickName": "x"}}"#), &ZITADEL),
    (
        "POST",
        "/zitadel.user.v2.UserService/UpdateHumanUser",
        Request::Json(r#"{"userId": "USER", "profile": {"nickName": "x"}}"#),
        &CONNECT,
    ),
    (
        "POST",
        "/v2/users/{userId}/email",
        Request::Json(r#"{"email": "new@new.example", "isVerified": true}"#),
        &ZITADEL,
    ),
    (
        "POST",
        "/zitadel.user.v2.UserService/SetEmail",
        Request::Json(r#"{"userId": "USER", "email": "new@new.example", "isVerified": true}"#),
        &CONNECT,
    ),
    ("POST", "/v2/users/{userId}/email/send", Request::Json("{}"), &ZITADEL_STATUS),
    (
        "POST",
        "/zitadel.user.v2.UserService/SendEmailCode",
        Request::Json(r#"{"userId": "USER"}"#),
        &CONNECT_STATUS,
    ),
    ("POST", "/v2/users/{userId}/email/resend", Request::Json("{}"), &ZITADEL_STATUS),
    (
        "POST",
        "/zitadel.user.v2.UserService/ResendEmailCode",
        Request::Json(r#"{"userId": "USER"}"#),
        &CONNECT_STATUS,
    ),
    (
        "POST",
        "/v2/users/{userId}/email/verify",
        Request::Json(r#"{"verificationCode": "AAAAAAAA"}"#),
        &ZITADEL_CODE,
    ),
    (
        "POST",
        "/zitadel.user.v2.UserService/VerifyEmail",
        Request::Json(r#"{"userId": "USER", "verificationCode": "AAAAAAAA"}"#),
        &CONNECT_CODE,
    ),
    (
        "POST",
        "/v2/users/{userId}/phone",
        Request::Json(r#"{"phone": "+4512345678", "isVerified": true}"#),
        &ZITADEL,
    ),
    (
        "POST",
        "/zitadel.user.v2.UserService/SetPhone",
        Request::Json(r#"{"userId": "USER", "phone": "+4512345678", "isVerified": true}"#),
        &CONNECT,
    ),
    ("DELETE", "/v2/users/{userId}/phone", Request::Sessions, &ZITADEL),
    ("POST", "/zitadel.user.v2.UserService/RemovePhone", Request::Json(r#"{"userId": "USER"}"#), &CONNECT),
    (
        "POST",
        "/v2/users/{userId}/phone/verify",
        Request::Json(r#"{"verificationCode": "AAAAAAAA"}"#),
        &ZITADEL_CODE,
    ),
    (
        "POST",
        "/zitadel.user.v2.UserService/VerifyPhone",
        Request::Json(r#"{"userId": "USER", "verificationCode": "AAAAAAAA"}"#),
        &CONNECT_CODE,
    ),
    ("POST", "/v2/users/{userId}/deactivate", Request::Json("{}"), &ZITADEL),
    ("POST", "/zitadel.user.v2.UserService/DeactivateUser", Request::Json(r#"{"userId": "USER"}"#), &CONNECT),
    ("POST", "/v2/users/{userId}/reactivate", Request::Json("{}"), &ZITADEL_STATUS),
    (
        "POST",
        "/zitadel.user.v2.UserService/ReactivateUser",
        Request::Json(r#"{"userId": "USER"}"#),
        &CONNECT_STATUS,
    ),
    ("POST", "/v2/users/{userId}/lock", Request::Json("{}"), &ZITADEL),
    ("POST", "/zitadel.user.v2.UserService/LockUser", Request::Json(r#"{"userId": "USER"}"#), &CONNECT),
    ("POST", "/v2/users/{userId}/unlock", Request::Json("{}"), &ZITADEL_STATUS),
    (
        "POST",
        "/zitadel.user.v2.UserService/UnlockUser",
        Request::Json(r#"{"userId": "USER"}"#),
        &CONNECT_STATUS,
    ),
    ("DELETE", "/v2/users/{userId}", Request::Sessions, &ZITADEL),
    ("POST", "/zitadel.user.v2.UserService/DeleteUser", Request::Json(r#"{"userId": "USER"}"#), &CONNECT),
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
