//! Renders outcomes and failures as FinHub responses.

use http::StatusCode;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{
    dialect::{Reply, time},
    domain::{Failure, FieldError, Session, SessionId},
    usecase::{Grant, delete_session, end_sessions, list_sessions, read_session, update_credentials},
};

pub(super) fn created(grant: &Grant) -> Reply {
    granted(grant, "Session created successfully")
}

pub(super) fn refreshed(grant: &Grant) -> Reply {
    granted(grant, "Session refreshed successfully")
}

fn granted(grant: &Grant, message: &str) -> Reply {
    let mut data = json!({
        "sessionId": grant.session.id.as_str(),
        "userId": grant.session.user.as_str(),
        "token": grant.token.expose_secret(),
        "refreshToken": grant.refresh_token.expose_secret(),
        "expiresAt": time(grant.token_expires_at),
        "tokenType": "Bearer",
        "expiresIn": grant.expires_in,
        "sessionExpiresAt": time(grant.session.expires_at),
        "success": true,
        "message": message,
        "errorType": "NONE",
    });
    if let Some(members) = data.as_object_mut() {
        if grant.password_change_required {
            members.insert("passwordChangeRequired".to_owned(), Value::Bool(true));
        }
        if let Some(proof) = &grant.device_proof {
            members.insert("deviceProof".to_owned(), proof.expose_secret().into());
        }
    }
    ok(json!({ "code": 200, "message": "Success", "data": data }))
}

pub(super) fn terminated(outcome: &delete_session::Outcome) -> Reply {
    ok(json!({
        "success": true,
        "data": {
            "sessionId": outcome.session.as_str(),
            "status": "TERMINATED",
            "terminatedAt": time(outcome.terminated_at),
        },
    }))
}

pub(super) fn all_terminated(outcome: &end_sessions::Outcome) -> Reply {
    ok(json!({
        "success": true,
        "data": {
            "userId": outcome.user.as_str(),
            "status": "TERMINATED",
            "sessionsTerminated": outcome.ended,
            "terminatedAt": time(outcome.ended_at),
        },
    }))
}

pub(super) fn sessions(outcome: &list_sessions::Outcome) -> Reply {
    let sessions: Vec<_> =
        outcome.sessions.iter().map(|session| details(session, &outcome.current)).collect();
    let mut data = json!({ "sessions": sessions });
    if let (Some(cursor), Some(members)) = (&outcome.cursor, data.as_object_mut()) {
        members.insert("nextCursor".to_owned(), Value::String(cursor.clone()));
    }
    ok(json!({ "success": true, "data": data }))
}

pub(super) fn session(outcome: &read_session::Outcome) -> Reply {
    ok(json!({ "success": true, "data": details(&outcome.session, &outcome.current) }))
}

/// JSON of a live session. Metadata that the client did not send is null.
fn details(session: &Session, current: &SessionId) -> Value {
    let Session { id, device, created_at, refreshed_at, idle_expires_at, expires_at, .. } = session;
    json!({
        "sessionId": id.as_str(),
        "status": "ACTIVE",
        "platform": device.platform,
        "deviceId": device.device_id,
        "userAgent": device.user_agent,
        "ipAddress": device.ip.map(|ip| ip.to_string()),
        "createdAt": time(*created_at),
        "lastRefreshedAt": time(*refreshed_at),
        "idleExpiresAt": time(*idle_expires_at),
        "sessionExpiresAt": time(*expires_at),
        "current": id == current,
    })
}

pub(super) fn login_reset() -> Reply {
    ok(json!({ "success": true, "data": { "message": "Credentials reset successfully" } }))
}

pub(super) fn credentials(outcome: &update_credentials::Outcome) -> Reply {
    let message = if outcome.updated.is_empty() {
        "Nothing to update: credentials unchanged"
    } else {
        "Credentials updated successfully"
    };
    ok(json!({
        "success": true,
        "data": {
            "userId": outcome.user.as_str(),
            "message": message,
            "updatedFields": outcome.updated,
            "sessionsRevoked": outcome.sessions_revoked,
        },
    }))
}

/// Renders a failure (docs/design/contract.md#create-session).
pub(crate) fn failure(failure: &Failure, now: Timestamp) -> Reply {
    let (status, error_type, message) = words(failure);
    let mut data = json!({ "success": false, "errorType": error_type, "message": message });
    let mut extra = |name: &str, value: Value| {
        if let Some(members) = data.as_object_mut() {
            members.insert(name.to_owned(), value);
        }
    };
    match failure {
        Failure::Validation(errors) | Failure::PasswordPolicy(errors) => extra("errors", list(errors)),
        Failure::AccountLocked(until) => extra("lockoutTime", Value::String(time(*until))),
        _ => {}
    }
    Reply::json(status, json!({ "code": status.as_u16(), "message": message, "data": data }))
        .with_failure_headers(failure, now)
}

fn words(failure: &Failure) -> (StatusCode, &'static str, &'static str) {
    match failure {
        Failure::Malformed(why) => (StatusCode::BAD_REQUEST, "VALIDATION", why),
        Failure::Validation(_) => (StatusCode::BAD_REQUEST, "VALIDATION", "The request is not valid"),
        Failure::PasswordPolicy(_) => {
            (StatusCode::BAD_REQUEST, "PASSWORD_POLICY", "The new password breaks the tenant's policy")
        }
        Failure::PayloadTooLarge => {
            (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", "The body is larger than 64 KiB")
        }
        Failure::UnsupportedMediaType => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UNSUPPORTED_MEDIA_TYPE",
            "Send the body as application/json",
        ),
        Failure::RouteNotFound => (StatusCode::NOT_FOUND, "NOT_FOUND", "There is no such route"),
        Failure::Authentication => (StatusCode::UNAUTHORIZED, "AUTHENTICATION", "Authentication failed"),
        Failure::AccountLocked(_) => (
            StatusCode::UNAUTHORIZED,
            "ACCOUNT_LOCKED",
            "Too many failed attempts: the account is locked for now",
        ),
        Failure::PasswordDisabled => (
            StatusCode::UNAUTHORIZED,
            "ACCOUNT_LOCKED",
            "Too many failed attempts: the account is locked until its password is reset",
        ),
        Failure::SessionLimit => (
            StatusCode::CONFLICT,
            "SESSION_LIMIT",
            "The user has as many sessions as the tenant allows: end one first",
        ),
        Failure::IdempotencyMismatch => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "IDEMPOTENCY_MISMATCH",
            "This Idempotency-Key was used for another request: use a new one",
        ),
        Failure::IdempotencyExpired => (
            StatusCode::CONFLICT,
            "IDEMPOTENCY_EXPIRED",
            "The result stored for this Idempotency-Key has expired: use a new key",
        ),
        Failure::CredentialsResetRequired => (
            StatusCode::UNAUTHORIZED,
            "CREDENTIALS_RESET_REQUIRED",
            "The login was reset: set a new password first",
        ),
        Failure::InvalidCode => (
            StatusCode::BAD_REQUEST,
            "INVALID_CODE",
            "The code is wrong or no longer valid: ask for a new one",
        ),
        Failure::InvalidToken(_) => {
            (StatusCode::UNAUTHORIZED, "INVALID_TOKEN", "The access token is missing, expired or not valid")
        }
        Failure::InvalidRefreshToken => (
            StatusCode::UNAUTHORIZED,
            "INVALID_REFRESH_TOKEN",
            "The refresh token is not valid for this session",
        ),
        Failure::RefreshTokenReused => (
            StatusCode::UNAUTHORIZED,
            "REFRESH_TOKEN_REUSED",
            "The refresh token was used before: the session is ended, log in again",
        ),
        Failure::SessionExpired => {
            (StatusCode::UNAUTHORIZED, "SESSION_EXPIRED", "The session has expired: log in again")
        }
        Failure::SessionTerminated => {
            (StatusCode::UNAUTHORIZED, "SESSION_TERMINATED", "The session was ended: log in again")
        }
        Failure::InvalidTenantCredentials => (
            StatusCode::FORBIDDEN,
            "INVALID_TENANT_CREDENTIALS",
            "The tenant, its key or its secret is not valid",
        ),
        Failure::TenantSuspended => (StatusCode::FORBIDDEN, "TENANT_SUSPENDED", "The tenant is suspended"),
        Failure::IpNotAllowed => {
            (StatusCode::FORBIDDEN, "IP_NOT_ALLOWED", "The tenant does not accept requests from this address")
        }
        Failure::Forbidden => (StatusCode::FORBIDDEN, "FORBIDDEN", "The caller may not do this"),
        Failure::TenantMismatch => {
            (StatusCode::FORBIDDEN, "TENANT_MISMATCH", "X-Tenant-ID is not the token's tenant")
        }
        Failure::UserNotFound => (StatusCode::NOT_FOUND, "USER_NOT_FOUND", "There is no such user"),
        Failure::SessionNotFound => (StatusCode::NOT_FOUND, "SESSION_NOT_FOUND", "There is no such session"),
        Failure::UsernameTaken => (StatusCode::CONFLICT, "USERNAME_TAKEN", "The username is taken"),
        Failure::RateLimited(..) => {
            (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", "Too many requests: try again later")
        }
        Failure::Unavailable(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "The service is unavailable: try again shortly")
        }
        Failure::Internal(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "INTERNAL",
            "The request failed: quote its X-Request-Id to the operator",
        ),
    }
}

fn list(errors: &[FieldError]) -> Value {
    errors.iter().map(|error| json!({ "field": error.field, "message": error.message })).collect()
}

fn ok(body: Value) -> Reply {
    Reply::json(StatusCode::OK, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::ReplyBody;

    // A cause goes to the log, never to the client.
    #[test]
    fn causes_stay_inside() {
        for failure in [Failure::Unavailable("secret cause".into()), Failure::Internal("secret cause".into())]
        {
            let reply = super::failure(&failure, Timestamp::UNIX_EPOCH);
            let ReplyBody::Json(body) = reply.body else { panic!("no JSON") };
            assert!(!body.to_string().contains("secret cause"));
        }
    }
}
