//! The one list of ways in which a request ends without success. Variants name facts; each dialect
//! maps them to its own status and words.

use std::{borrow::Cow, fmt, time::Duration};

use jiff::Timestamp;

/// One thing wrong with one part of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field's or header's name, as the client writes it.
    pub field: Cow<'static, str>,
    /// What is wrong and what would be right.
    pub message: Cow<'static, str>,
}

impl FieldError {
    /// An error about `field`.
    pub fn new(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// Why a bearer token was not accepted; for the log, never for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenFault {
    /// None was sent, or not as `Bearer`.
    Missing,
    /// Not a token of ours by its form.
    Malformed,
    /// Names no key of this tenant.
    UnknownKey,
    /// Its signature or a fixed claim is wrong.
    Forged,
    /// It is past `exp`, or before `iat` or `nbf`.
    Expired,
    /// The session it names ended, or its user's or tenant's sessions did.
    SessionGone,
}

impl TokenFault {
    /// Its stable name in the audit log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "MISSING",
            Self::Malformed => "MALFORMED",
            Self::UnknownKey => "UNKNOWN_KEY",
            Self::Forged => "FORGED",
            Self::Expired => "EXPIRED",
            Self::SessionGone => "SESSION_GONE",
        }
    }
}

/// Which limit a request met; for the log, clients are told one thing for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Wrong passwords for one user within an hour.
    User,
    /// Wrong passwords, or wrong codes, from one address within an hour.
    Address,
    /// Wrong passwords for all of the tenant's users within an hour.
    Tenant,
    /// Every place of the user's is being verified.
    Busy,
    /// Codes that are sent to one user within an hour.
    Codes,
    /// Rotations of one session within one grace.
    Rotations,
    /// Logins of one user at once, under a limit of sessions.
    Sessions,
}

impl Limit {
    /// Its stable name in the audit log.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "USER",
            Self::Address => "ADDRESS",
            Self::Tenant => "TENANT",
            Self::Busy => "BUSY",
            Self::Codes => "CODES",
            Self::Rotations => "ROTATIONS",
            Self::Sessions => "SESSIONS",
        }
    }
}

/// How a request ends without success. The text of a variant's cause is for the log alone.
#[derive(Debug)]
pub enum Failure {
    /// The event is no request that API Gateway sends, or the request is no valid HTTP.
    Malformed(&'static str),
    /// Fields or headers are missing, empty or of the wrong type.
    Validation(Vec<FieldError>),
    /// A new password breaks these rules.
    PasswordPolicy(Vec<FieldError>),
    /// The body is over the size that is read.
    PayloadTooLarge,
    /// The body is not of a type this route reads.
    UnsupportedMediaType,
    /// No route of this function.
    RouteNotFound,
    /// Unknown user, wrong password, wrong path or disabled: one answer for all.
    Authentication,
    /// Too many wrong passwords; open again at that time.
    AccountLocked(Timestamp),
    /// So many wrong passwords in a row that the password opens nothing until it is set anew.
    PasswordDisabled,
    /// The password is right, but the login was reset and not completed.
    CredentialsResetRequired,
    /// The code is wrong, spent or expired, or its user or tenant is unknown: one answer for all
    /// (docs/design/contract.md#zitadel-v2).
    InvalidCode,
    /// The bearer token was not accepted.
    InvalidToken(TokenFault),
    /// The refresh token is not one of this session.
    InvalidRefreshToken,
    /// A refresh token was presented after its grace: the session is ended.
    RefreshTokenReused,
    /// The session's life, or its idle life, is over.
    SessionExpired,
    /// The session was ended.
    SessionTerminated,
    /// Unknown tenant, wrong key or wrong secret: one answer for all.
    InvalidTenantCredentials,
    /// The tenant is suspended.
    TenantSuspended,
    /// The tenant does not admit this address.
    IpNotAllowed,
    /// The caller may not do this.
    Forbidden,
    /// `X-Tenant-ID` and the token name different tenants.
    TenantMismatch,
    /// No such user, or none the caller may see.
    UserNotFound,
    /// No such session, or none the caller may see.
    SessionNotFound,
    /// Another user of the tenant has that name.
    UsernameTaken,
    /// The user has as many sessions as the tenant allows.
    SessionLimit,
    /// The `Idempotency-Key` was used for another request.
    IdempotencyMismatch,
    /// What the `Idempotency-Key` succeeded in is over, or cannot be told again.
    IdempotencyExpired,
    /// That budget is used up; worth another try after so long.
    RateLimited(Limit, Duration),
    /// A dependency did not answer, or a tenant's secret cannot be used.
    Unavailable(Cause),
    /// A defect of ours.
    Internal(Cause),
}

/// What went wrong underneath: logged, never sent.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Failure {
    /// A `Validation` of one field.
    pub fn field(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Validation(vec![FieldError::new(field, message)])
    }

    /// Whether it is a fault of ours, or of what we depend on, and not of the caller.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Internal(_))
    }

    /// What the audit log says beyond the name: which way a token was wrong, which limit was met, or
    /// which fields, by their names. Nothing that anybody sent.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::InvalidToken(fault) => Some(fault.name().to_owned()),
            Self::RateLimited(limit, _) => Some(limit.name().to_owned()),
            Self::Validation(errors) | Self::PasswordPolicy(errors) => {
                let fields: Vec<_> = errors.iter().map(|error| error.field.as_ref()).collect();
                Some(fields.join(" "))
            }
            _ => None,
        }
    }

    /// The fact's name, for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "MALFORMED",
            Self::Validation(_) => "VALIDATION",
            Self::PasswordPolicy(_) => "PASSWORD_POLICY",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
            Self::RouteNotFound => "ROUTE_NOT_FOUND",
            Self::Authentication => "AUTHENTICATION",
            Self::AccountLocked(_) => "ACCOUNT_LOCKED",
            Self::PasswordDisabled => "PASSWORD_DISABLED",
            Self::SessionLimit => "SESSION_LIMIT",
            Self::IdempotencyMismatch => "IDEMPOTENCY_MISMATCH",
            Self::IdempotencyExpired => "IDEMPOTENCY_EXPIRED",
            Self::CredentialsResetRequired => "CREDENTIALS_RESET_REQUIRED",
            Self::InvalidCode => "INVALID_CODE",
            Self::InvalidToken(_) => "INVALID_TOKEN",
            Self::InvalidRefreshToken => "INVALID_REFRESH_TOKEN",
            Self::RefreshTokenReused => "REFRESH_TOKEN_REUSED",
            Self::SessionExpired => "SESSION_EXPIRED",
            Self::SessionTerminated => "SESSION_TERMINATED",
            Self::InvalidTenantCredentials => "INVALID_TENANT_CREDENTIALS",
            Self::TenantSuspended => "TENANT_SUSPENDED",
            Self::IpNotAllowed => "IP_NOT_ALLOWED",
            Self::Forbidden => "FORBIDDEN",
            Self::TenantMismatch => "TENANT_MISMATCH",
            Self::UserNotFound => "USER_NOT_FOUND",
            Self::SessionNotFound => "SESSION_NOT_FOUND",
            Self::UsernameTaken => "USERNAME_TAKEN",
            Self::RateLimited(..) => "RATE_LIMITED",
            Self::Unavailable(_) => "UNAVAILABLE",
            Self::Internal(_) => "INTERNAL",
        }
    }
}

impl fmt::Display for Failure {
    /// The fact and its cause: for logs.
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
