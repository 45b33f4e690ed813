//! Setting a password with a reset code (contract, "ZITADEL v2", SetPassword; the hosted page).

use std::net::IpAddr;

use jiff::Timestamp;
use secrecy::SecretString;

use super::{Service, UserDetails};
use crate::domain::{Code, Failure, Password, TenantId, UserId};

/// A new password, and the code that allows it.
#[derive(Debug)]
pub struct Command {
    /// The tenant that the request names; `None` for an id that no tenant can have.
    pub tenant: Option<TenantId>,
    /// Whose password.
    pub user: UserId,
    /// The code.
    pub code: Code,
    /// The new password, and the field it came in.
    pub password: (Password, &'static str),
    /// Names this submission of a form: sent twice, the second is the first's success again.
    pub submission: Option<SecretString>,
    /// The client's address.
    pub ip: Option<IpAddr>,
}

impl Service {
    /// # Errors
    /// `InvalidCode`, `PasswordPolicy`, `RateLimited`, `TenantSuspended`, `IpNotAllowed`,
    /// `Unavailable`.
    #[expect(clippy::unused_async, reason = "not there yet")]
    pub async fn set_password(&self, _command: Command, _now: Timestamp) -> Result<UserDetails, Failure> {
        Err(Failure::RouteNotFound)
    }
}
