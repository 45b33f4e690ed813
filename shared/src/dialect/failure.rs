//! Status, text and headers of a failure, as most dialects render it.

use http::{HeaderValue, StatusCode};
use jiff::Timestamp;

use crate::domain::{Failure, TokenFault};

/// `Retry-After` of a 503 response, in seconds.
pub(super) const UNAVAILABLE_FOR_SECONDS: u64 = 2;

/// Status of a failure.
pub(super) fn status(failure: &Failure) -> StatusCode {
    match failure {
        Failure::Malformed(_)
        | Failure::Validation(_)
        | Failure::PasswordPolicy(_)
        | Failure::InvalidCode
        | Failure::UnauthorizedClient
        | Failure::InvalidScope
        | Failure::UnsupportedGrantType => StatusCode::BAD_REQUEST,
        Failure::Authentication(_)
        | Failure::InvalidClient
        | Failure::AccountLocked(_)
        | Failure::PasswordDisabled(_)
        | Failure::CredentialsResetRequired
        | Failure::InvalidToken(_)
        | Failure::InvalidRefreshToken
        | Failure::RefreshTokenReused
        | Failure::SessionExpired
        | Failure::SessionTerminated => StatusCode::UNAUTHORIZED,
        Failure::InvalidTenantCredentials
        | Failure::TenantSuspended
        | Failure::IpNotAllowed
        | Failure::Forbidden(_)
        | Failure::TenantMismatch => StatusCode::FORBIDDEN,
        Failure::RouteNotFound | Failure::UserNotFound | Failure::SessionNotFound => StatusCode::NOT_FOUND,
        Failure::UsernameTaken
        | Failure::UserStatusConflict
        | Failure::SessionLimit
        | Failure::IdempotencyExpired => StatusCode::CONFLICT,
        Failure::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Failure::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Failure::IdempotencyMismatch => StatusCode::UNPROCESSABLE_ENTITY,
        Failure::RateLimited(..) => StatusCode::TOO_MANY_REQUESTS,
        Failure::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        Failure::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Text of a failure for clients. It contains no cause.
pub(super) fn text(failure: &Failure) -> &'static str {
    match failure {
        Failure::Malformed(why) => why,
        Failure::Validation(_) => "The request is not valid",
        Failure::PasswordPolicy(_) => "The new password breaks the tenant's policy",
        Failure::PayloadTooLarge => "The body is larger than 64 KiB",
        Failure::UnsupportedMediaType => "Send the body as application/json, not compressed",
        Failure::RouteNotFound => "There is no such route",
        Failure::Authentication(_) => "Authentication failed",
        Failure::AccountLocked(_) => "Too many failed attempts: the account is locked for now",
        Failure::PasswordDisabled(_) => {
            "Too many failed attempts: the account is locked until its password is reset"
        }
        Failure::CredentialsResetRequired => "The login was reset: set a new password first",
        Failure::InvalidCode => "The code is wrong or no longer valid: ask for a new one",
        Failure::InvalidToken(_) => "The access token is missing, expired or not valid",
        Failure::InvalidRefreshToken => "The refresh token is not valid for this session",
        Failure::RefreshTokenReused => {
            "The refresh token was used before: the session is ended, log in again"
        }
        Failure::SessionExpired => "The session has expired: log in again",
        Failure::SessionTerminated => "The session was ended: log in again",
        Failure::InvalidTenantCredentials => "The tenant, its key or its secret is not valid",
        Failure::InvalidClient => "The client or its credentials are not valid",
        Failure::UnauthorizedClient => "The client may not do this",
        Failure::InvalidScope => "The client does not have the scope: ask for fewer scopes",
        Failure::UnsupportedGrantType => "The grant type is not supported: use client_credentials",
        Failure::TenantSuspended => "The tenant is suspended",
        Failure::IpNotAllowed => "The tenant does not accept requests from this address",
        Failure::Forbidden(_) => "The caller may not do this",
        Failure::TenantMismatch => "X-Tenant-ID must name the same tenant as the token or the body",
        Failure::UserNotFound => "There is no such user",
        Failure::SessionNotFound => "There is no such session",
        Failure::UsernameTaken => "The username is taken",
        Failure::UserStatusConflict => "The user's status or address does not allow this",
        Failure::SessionLimit => "The user has as many sessions as the tenant allows: end one first",
        Failure::IdempotencyMismatch => "This Idempotency-Key was used for another request: use a new one",
        Failure::IdempotencyExpired => {
            "The result stored for this Idempotency-Key has expired: use a new key"
        }
        Failure::RateLimited(..) => "Too many requests: try again later",
        Failure::Unavailable(_) => "The service is unavailable: try again shortly",
        Failure::Internal(_) => "The request failed: quote its X-Request-Id to the operator",
    }
}

/// Seconds after which a client may retry; `None` if a retry cannot help.
pub(super) fn retry_after(failure: &Failure, now: Timestamp) -> Option<u64> {
    match failure {
        Failure::AccountLocked(count) => count.locked_until.map(|until| seconds_until(until, now)),
        Failure::RateLimited(_, wait) => {
            Some(wait.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX).max(1))
        }
        Failure::Unavailable(_) => Some(UNAVAILABLE_FOR_SECONDS),
        _ => None,
    }
}

/// Whole seconds, rounded up, so that a retry at that time is not too early.
fn seconds_until(at: Timestamp, now: Timestamp) -> u64 {
    let millis = at.as_millisecond().saturating_sub(now.as_millisecond());
    u64::try_from(millis).unwrap_or_default().div_ceil(1_000).max(1)
}

/// The challenge of a 401 response. It has an error code only if a token was presented.
pub(super) fn challenge(failure: &Failure) -> HeaderValue {
    HeaderValue::from_static(match failure {
        Failure::InvalidToken(fault) if *fault != TokenFault::Missing => {
            "Bearer realm=\"doorward\", error=\"invalid_token\""
        }
        _ => "Bearer realm=\"doorward\"",
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::Limit;

    #[test]
    fn waits_are_rounded_up() {
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        assert_eq!(seconds_until(at(1_001), at(0)), 2);
        assert_eq!(seconds_until(at(1_000), at(0)), 1);
        assert_eq!(seconds_until(at(0), at(5_000)), 1);
        assert_eq!(
            retry_after(&Failure::RateLimited(Limit::User, Duration::from_millis(1_001)), at(0)),
            Some(2)
        );
    }
}
