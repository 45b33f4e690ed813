//! Renders outcomes and failures as FinHub responses.

use http::StatusCode;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{
    dialect::{
        Reply,
        failure::{status, text},
        time,
    },
    domain::{Collection, CustomerId, Failure, FieldError, Session, SessionId, TenantId, UserSummary},
    usecase::{Grant, delete_session, end_sessions, list_sessions, read_session, update_credentials},
};

/// Tokens of a created or refreshed session.
pub(super) fn granted(grant: &Grant, message: &str) -> Reply {
    let Session { id, tenant, collection, device, created_at, expires_at, .. } = &grant.session;
    let roles: Vec<_> = grant.user.roles.iter().map(|role| role.name()).collect();
    let mut data = json!({
        "sessionId": id.as_str(),
        "userId": grant.session.user.as_str(),
        "tenantId": tenant.as_str(),
        "roles": roles,
        "token": grant.token.expose_secret(),
        "refreshToken": grant.refresh_token.expose_secret(),
        "expiresAt": time(grant.token_expires_at),
        "tokenType": "Bearer",
        "expiresIn": grant.expires_in,
        "sessionExpiresAt": time(*expires_at),
        "sessionMetadata": {
            "clientIp": device.ip.map(|ip| ip.to_string()),
            "clientPlatform": device.platform,
            "userAgent": device.user_agent,
            "createdAt": time(*created_at),
        },
        "user": user(&grant.user, tenant),
        "success": true,
        "message": message,
        "errorType": "NONE",
    });
    if let Some(members) = data.as_object_mut() {
        let (owner, id) = match collection {
            Collection::Admin => ("organizationId", Some(grant.session.organization.as_str())),
            Collection::Individual | Collection::Organization => {
                ("customerId", grant.session.customer.as_ref().map(CustomerId::as_str))
            }
        };
        members.insert(owner.to_owned(), id.into());
        if grant.password_change_required {
            members.insert("passwordChangeRequired".to_owned(), Value::Bool(true));
        }
        if let Some(proof) = &grant.device_proof {
            members.insert("deviceProof".to_owned(), proof.expose_secret().into());
        }
    }
    Reply::json(StatusCode::OK, json!({ "code": 200, "message": "Success", "data": data }))
}

/// JSON of a user. Members without a value are null.
fn user(user: &UserSummary, tenant: &TenantId) -> Value {
    let UserSummary { id, username, organization, customer, email, roles, status, created_at, changed_at } =
        user;
    let roles: Vec<_> = roles.iter().map(|role| role.name()).collect();
    json!({
        "id": id.as_str(),
        "username": username.as_written(),
        "customerId": customer.as_ref().map(CustomerId::as_str),
        "organizationId": organization.as_str(),
        "email": email,
        "roles": roles,
        "isActive": status.is_active(),
        "createdAt": time(*created_at),
        "updatedAt": time(*changed_at),
        "tenantId": tenant.as_str(),
    })
}

pub(super) fn terminated(outcome: &delete_session::Outcome) -> Reply {
    success(json!({
        "sessionId": outcome.session.as_str(),
        "status": "TERMINATED",
        "terminatedAt": time(outcome.terminated_at),
    }))
}

pub(super) fn all_terminated(outcome: &end_sessions::Outcome) -> Reply {
    let data = json!({
        "userId": outcome.user.as_str(),
        "status": "TERMINATED",
        "terminatedAt": time(outcome.ended_at),
    });
    success(with_count(data, "sessionsTerminated", outcome.ended))
}

pub(super) fn sessions(outcome: &list_sessions::Outcome) -> Reply {
    let sessions: Vec<_> =
        outcome.sessions.iter().map(|session| details(session, outcome.current.as_ref())).collect();
    let mut data = json!({ "sessions": sessions });
    if let (Some(cursor), Some(members)) = (&outcome.cursor, data.as_object_mut()) {
        members.insert("nextCursor".to_owned(), Value::String(cursor.clone()));
    }
    success(data)
}

pub(super) fn session(outcome: &read_session::Outcome) -> Reply {
    success(details(&outcome.session, outcome.current.as_ref()))
}

/// JSON of a live session. Metadata that the client did not send is null.
fn details(session: &Session, current: Option<&SessionId>) -> Value {
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
        "current": Some(id) == current,
    })
}

pub(super) fn login_reset() -> Reply {
    success(json!({ "message": "Credentials reset successfully" }))
}

pub(super) fn credentials(outcome: &update_credentials::Outcome) -> Reply {
    let message = if outcome.updated.is_empty() {
        "Nothing to update: credentials unchanged"
    } else {
        "Credentials updated successfully"
    };
    let data = json!({
        "userId": outcome.user.as_str(),
        "message": message,
        "updatedFields": outcome.updated,
    });
    success(with_count(data, "sessionsRevoked", outcome.sessions_revoked))
}

/// Adds a number of sessions to an object, if it is known.
fn with_count(mut data: Value, name: &str, count: Option<u64>) -> Value {
    if let (Some(members), Some(count)) = (data.as_object_mut(), count) {
        members.insert(name.to_owned(), count.into());
    }
    data
}

/// Renders a failure (docs/design/contract.md#create-session).
pub(crate) fn failure(failure: &Failure, now: Timestamp) -> Reply {
    let (status, message) = (status(failure), text(failure));
    let mut data = json!({ "success": false, "errorType": error_type(failure), "message": message });
    let mut extra = |name: &str, value: Value| {
        if let Some(members) = data.as_object_mut() {
            members.insert(name.to_owned(), value);
        }
    };
    match failure {
        Failure::Validation(errors) | Failure::PasswordPolicy(errors) => extra("errors", list(errors)),
        Failure::Authentication(count) | Failure::AccountLocked(count) | Failure::PasswordDisabled(count) => {
            extra("attempts", count.failed.into());
            extra("maxAttempts", count.max.into());
            extra("lockoutTime", count.locked_until.map(time).into());
        }
        _ => {}
    }
    Reply::json(status, json!({ "code": status.as_u16(), "message": message, "data": data }))
        .with_failure_headers(failure, now)
}

/// `errorType` of a failure.
fn error_type(failure: &Failure) -> &'static str {
    match failure {
        Failure::Malformed(_) => "VALIDATION",
        Failure::RouteNotFound => "NOT_FOUND",
        Failure::PasswordDisabled(_) => "ACCOUNT_LOCKED",
        other => other.name(),
    }
}

fn list(errors: &[FieldError]) -> Value {
    errors.iter().map(|error| json!({ "field": error.field, "message": error.message })).collect()
}

fn success(data: Value) -> Reply {
    Reply::json(StatusCode::OK, Value::from_iter([("success", Value::Bool(true)), ("data", data)]))
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
