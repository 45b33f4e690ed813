//! The ways in which a request fails, independent of the HTTP API. Each dialect maps the variants to its own
//! status codes and messages.

use std::{borrow::Cow, fmt, time::Duration};

use jiff::Timestamp;
use strum::{IntoStaticStr, VariantNames};

/// An error in one field or header of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Name of the field or header, as the client writes it.
    pub field: Cow<'static, str>,
    /// Description of the error and of valid values. Clients see it.
    pub message: Cow<'static, str>,
}

impl FieldError {
    /// Creates an error for `field`.
    pub fn new(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// The reason why a bearer token was rejected. It is logged and never sent to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum TokenFault {
    /// The request has no `Bearer` token.
    Missing,
    /// The token does not have the format of a Doorward token.
    Malformed,
    /// The token names a key that this tenant does not have.
    UnknownKey,
    /// The signature, the issuer, the audience, the user type or the owner is wrong.
    Forged,
    /// The tenant did not sign with the token's algorithm at the time of issue.
    WrongAlgorithm,
    /// The key was retired before the time of issue, or nothing that it signed can be valid.
    RetiredKey,
    /// The current time is after `exp`, or before `iat` or `nbf`.
    Expired,
    /// The session ended, alone or together with all sessions of its user or tenant.
    SessionGone,
    /// The API client was disabled or deleted, the credential that obtained the token was retired, or the token was
    /// revoked.
    ClientGone,
}

impl TokenFault {
    /// Stable name in the audit log.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The limit that a request exceeded. It is logged; clients get the same response for every limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum Limit {
    /// Wrong passwords for one user within an hour.
    User,
    /// Wrong passwords, or wrong codes, from one address within an hour.
    Address,
    /// Wrong passwords for all of the tenant's users within an hour.
    Tenant,
    /// All attempt slots of the user are in use.
    Busy,
    /// Codes sent to one user within an hour.
    Codes,
    /// Rotations of one session within one grace period.
    Rotations,
    /// Concurrent logins of one user whose sessions are limited.
    Sessions,
}

impl Limit {
    /// Stable name in the audit log.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The permission that the caller lacks. It is logged; clients get the same response for every denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum Denial {
    /// The token belongs to a session of a customer route.
    CustomerToken,
    /// The caller is no administrator.
    NoAdministrator,
    /// The caller must change its password first.
    PasswordChangeRequired,
    /// Callers may not do this to their own account.
    OwnAccount,
    /// Tenant key and tenant secret do not permit this.
    TenantCredentials,
    /// The token belongs to an API client.
    ClientToken,
    /// The API client lacks the scope.
    MissingScope,
    /// The caller has no authority over users of this organization.
    AnotherOrganization,
    /// The caller may not grant this role.
    HigherRole,
    /// The page that sent the form is not the hosted page.
    Origin,
    /// The form token is invalid, has expired, or belongs to another browser or code.
    FormToken,
}

impl Denial {
    /// Stable name in the audit log.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Failed attempts at a user's password, and the limit that they count towards
/// (docs/design/contract.md#failed-attempts). The record of an unknown user has the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptCount {
    /// Failed attempts that count towards [`Self::max`].
    pub failed: u32,
    /// Number of failed attempts from which on no password is verified.
    pub max: u32,
    /// End of the lockout. `None` before the last failed attempt, and if the password is disabled.
    pub locked_until: Option<Timestamp>,
}

/// The reason why a request failed. The cause in a variant is only logged.
#[derive(Debug, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum Failure {
    /// The event is not an API Gateway request, or the request is not valid HTTP.
    Malformed(&'static str),
    /// Fields or headers are missing, empty or have the wrong type.
    Validation(Vec<FieldError>),
    /// A new password breaks these rules.
    PasswordPolicy(Vec<FieldError>),
    /// The request body exceeds the size limit.
    PayloadTooLarge,
    /// The route does not accept the media type of the request body.
    UnsupportedMediaType,
    /// This function has no such route.
    RouteNotFound,
    /// Unknown or disabled user, wrong password or wrong path. The response is the same for all.
    Authentication(AttemptCount),
    /// Too many wrong passwords. The lockout ends at [`AttemptCount::locked_until`].
    AccountLocked(AttemptCount),
    /// The password is disabled because of too many consecutive failures. A new password or an operator's unlock
    /// ends this.
    PasswordDisabled(AttemptCount),
    /// The password is correct, but the login was reset and the reset is not complete.
    CredentialsResetRequired,
    /// The code is wrong, used or expired, or its user or tenant does not exist. The response is the same
    /// for all (docs/design/contract.md#zitadel-v2).
    InvalidCode,
    /// The bearer token was rejected.
    InvalidToken(TokenFault),
    /// The refresh token does not belong to this session.
    InvalidRefreshToken,
    /// A refresh token was reused after its grace period, so the session was ended.
    RefreshTokenReused,
    /// The session reached its maximum or idle lifetime.
    SessionExpired,
    /// The session was ended.
    SessionTerminated,
    /// Unknown tenant, wrong key or wrong secret. The response is the same for all.
    InvalidTenantCredentials,
    /// Unknown API client, or wrong secret or assertion. The response is the same for all.
    InvalidClient,
    /// The API client lacks the scope that the request needs.
    UnauthorizedClient,
    /// The API client asked for a scope that it does not have.
    InvalidScope,
    /// The token endpoint does not support the grant type.
    UnsupportedGrantType,
    /// The tenant is suspended.
    TenantSuspended,
    /// The tenant does not allow requests from this address.
    IpNotAllowed,
    /// The caller lacks permission.
    Forbidden(Denial),
    /// `X-Tenant-ID` and the token name different tenants.
    TenantMismatch,
    /// The user does not exist, or the caller may not see it.
    UserNotFound,
    /// The session does not exist, or the caller may not see it.
    SessionNotFound,
    /// Another user of the tenant has this username.
    UsernameTaken,
    /// The status of the user does not allow the change, or no address of the user waits for verification.
    UserStatusConflict,
    /// The user has reached the tenant's session limit.
    SessionLimit,
    /// The `Idempotency-Key` was used for a different request.
    IdempotencyMismatch,
    /// The result stored for the `Idempotency-Key` has expired or cannot be replayed.
    IdempotencyExpired,
    /// The limit is exceeded. The client may retry after the given time.
    RateLimited(Limit, Duration),
    /// A dependency does not respond, or a tenant's secret is unusable.
    Unavailable(Cause),
    /// A defect in Doorward.
    Internal(Cause),
}

/// The underlying error. It is logged and never sent to a client.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Failure {
    /// Creates a `Validation` failure for one field.
    pub fn field(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Validation(vec![FieldError::new(field, message)])
    }

    /// Returns whether Doorward or one of its dependencies failed, and not the caller.
    pub fn is_server_error(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Internal(_))
    }

    /// Returns the detail that the audit log adds to the name: the token fault, the denial, the limit, or the
    /// names of the invalid fields. It never contains values from the request.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::InvalidToken(fault) => Some(fault.name().to_owned()),
            Self::Forbidden(denial) => Some(denial.name().to_owned()),
            Self::RateLimited(limit, _) => Some(limit.name().to_owned()),
            Self::Validation(errors) | Self::PasswordPolicy(errors) => {
                let fields: Vec<_> = errors.iter().map(|error| error.field.as_ref()).collect();
                Some(fields.join(" "))
            }
            _ => None,
        }
    }

    /// Name in logs and metrics.
    pub fn name(&self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for Failure {
    /// Writes the name and the cause, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "{}: {why}", self.name()),
            Self::InvalidToken(fault) => write!(f, "{}: {fault:?}", self.name()),
            Self::Validation(errors) | Self::PasswordPolicy(errors) => {
                write!(f, "{}:", self.name())?;
                errors.iter().try_for_each(|error| write!(f, " {}", error.field))
            }
            Self::Unavailable(cause) | Self::Internal(cause) => {
                write!(f, "{}: {cause}", self.name())?;
                let mut source = cause.source();
                while let Some(inner) = source {
                    write!(f, ": {inner}")?;
                    source = inner.source();
                }
                Ok(())
            }
            other => f.write_str(other.name()),
        }
    }
}

impl std::error::Error for Failure {}
