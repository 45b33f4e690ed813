//! Authorization of a request to one of a customer's own APIs (docs/design/contract.md#public-documents).

use jiff::Timestamp;

use super::Service;
use crate::{
    context::RequestContext,
    domain::{ClientAddress, Collection, Denial, Failure, Role, SessionId, TenantId, UserId},
    store::ExtraItem,
    token::{SCOPE_FULL, Unverified},
};

/// The caller of an API.
#[derive(Debug)]
pub struct Command {
    /// Tenant that the request or its token names.
    pub tenant: TenantId,
    /// Access token.
    pub bearer: Unverified,
    /// Client address.
    pub ip: ClientAddress,
}

/// A caller with a live session.
#[derive(Debug)]
pub struct Outcome {
    /// Tenant.
    pub tenant: TenantId,
    /// User.
    pub user: UserId,
    /// Session.
    pub session: SessionId,
    /// Collection in which the session was created.
    pub collection: Collection,
    /// Organization or customer in the path of that collection.
    pub owner: String,
    /// Roles in the user's record. The roles in the token may be out of date.
    pub roles: Vec<Role>,
    /// Scope of the token.
    pub scope: &'static str,
    /// When the token expires.
    pub expires_at: Timestamp,
}

impl Service {
    /// Authorizes a caller with one read of session and user (docs/design/storage.md#calls-per-request) and no
    /// write. A session that ended before the request is rejected. A tenant's record is cached for 5 s, so a
    /// suspension can take that long.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `TenantSuspended`, `IpNotAllowed`; `Forbidden` for a caller that must
    /// change its password first (docs/design/security.md#rule-21); `Unavailable`.
    pub async fn authorize(&self, command: Command, context: &RequestContext) -> Result<Outcome, Failure> {
        let Command { tenant, bearer, ip } = command;
        let (request, bearer) = self.verify_bearer(context, &tenant, &bearer, &ip).await?;
        let caller = self.authenticate(&request, &bearer, None, ExtraItem::None).await?;
        if caller.user.change_required {
            return Err(Failure::Forbidden(Denial::PasswordChangeRequired));
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
