//! Asking for a reset code (contract, "ZITADEL v2", PasswordReset).

use std::net::IpAddr;

use jiff::Timestamp;
use secrecy::SecretString;

use super::{Service, UserDetails};
use crate::{
    domain::{Code, Failure, Medium, TenantId, UserId},
    token::Unverified,
};

/// A request for a code.
#[derive(Debug)]
pub struct Command {
    /// Who asks.
    pub caller: Caller,
    /// Whose password it is for.
    pub user: UserId,
    /// What becomes of the code.
    pub delivery: Delivery,
    /// The client's address.
    pub ip: Option<IpAddr>,
}

/// Who asks for a code.
#[derive(Debug)]
pub enum Caller {
    /// The tenant itself, by what it sends to prove that.
    Tenant {
        /// Its id; `None` for one that no tenant can have.
        tenant: Option<TenantId>,
        /// `X-Tenant-Key`
        key: SecretString,
        /// `X-Tenant-Secret`
        secret: SecretString,
    },
    /// The user itself, or an administrator.
    Bearer {
        /// The tenant that the request names.
        tenant: TenantId,
        /// The token.
        token: Box<Unverified>,
    },
}

/// What becomes of a code.
#[derive(Debug)]
pub enum Delivery {
    /// It is sent to the user.
    Send {
        /// How.
        medium: Medium,
        /// The link's template; the tenant's own when absent.
        link: Option<String>,
    },
    /// It is the answer: for administrators.
    Return,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// The user's record; `None` for the tenant as caller, which learns nothing of it.
    pub details: Option<UserDetails>,
    /// The code, where it was to be returned.
    pub code: Option<Code>,
    /// When.
    pub asked_at: Timestamp,
}

impl Service {
    /// # Errors
    /// `Validation` (the template), `InvalidTenantCredentials`, `TenantMismatch`, `InvalidToken`,
    /// `Forbidden`, `UserNotFound`, `RateLimited`, `TenantSuspended`, `IpNotAllowed`, `Unavailable`.
    #[expect(clippy::unused_async, reason = "not there yet")]
    pub async fn password_reset(&self, _command: Command, _now: Timestamp) -> Result<Outcome, Failure> {
        Err(Failure::RouteNotFound)
    }
}
