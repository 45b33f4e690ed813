//! Whether a caller of somebody's own API is logged in (docs/design/contract.md#public-documents).

use jiff::Timestamp;

use super::Service;
use crate::{
    domain::{ClientAddress, Collection, Failure, Role, SessionId, TenantId, UserId},
    port::CodeIs,
    token::{SCOPE_FULL, Unverified},
};

/// Who calls.
#[derive(Debug)]
pub struct Command {
    /// The tenant that the call names, or its token does.
    pub tenant: TenantId,
    /// The caller's token.
    pub bearer: Unverified,
    /// The client's address.
    pub ip: ClientAddress,
}

/// A caller whose session is live, as read just now.
#[derive(Debug)]
pub struct Outcome {
    /// Its tenant.
    pub tenant: TenantId,
    /// It.
    pub user: UserId,
    /// Its session.
    pub session: SessionId,
    /// The collection that the session was created through.
    pub collection: Collection,
    /// The organization or customer that the collection's path names.
    pub owner: String,
    /// What it may do, as its record has it, not its token.
    pub roles: Vec<Role>,
    /// What its token opens: everything.
    pub scope: &'static str,
    /// When its token ends.
    pub expires_at: Timestamp,
}

impl Service {
    /// One read, of session and user together (docs/design/storage.md#calls-per-request), and no write: what ended before it was
    /// asked opens nothing. A tenant is known for 5 s: so long a suspension may take.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `TenantSuspended`, `IpNotAllowed`; `Forbidden` for a caller whose
    /// password must change (docs/design/security.md#rule-21); `Unavailable`.
    pub async fn authorize(&self, command: Command, now: Timestamp) -> Result<Outcome, Failure> {
        let Command { tenant, bearer, ip } = command;
        let (context, bearer) = self.verify_bearer(&tenant, &bearer, &ip, now).await?;
        let caller = self.authenticate(&context, &bearer, None, CodeIs::Unwanted, now).await?;
        if caller.user.change_required {
            return Err(Failure::Forbidden);
        }
        Ok(Outcome {
            tenant: bearer.tenant,
            user: bearer.user,
            session: bearer.session,
            collection: bearer.collection,
            owner: bearer.owner,
            roles: caller.user.roles,
            scope: SCOPE_FULL,
            expires_at: bearer.expires_at,
        })
    }
}
