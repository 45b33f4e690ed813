//! One of a user's live sessions (contract, first table).

use jiff::Timestamp;

use super::{Service, authenticate::admits};
use crate::{
    domain::{ClientAddress, Collection, Failure, Session, SessionId, TenantId, UserId},
    telemetry,
    token::Unverified,
};

/// A look at a session.
#[derive(Debug)]
pub struct Command {
    /// Tenant.
    pub tenant: TenantId,
    /// The user's own token, or an administrator's.
    pub bearer: Unverified,
    /// The path's collection.
    pub collection: Collection,
    /// The organization or customer in the path.
    pub owner: String,
    /// The user in the path.
    pub user: UserId,
    /// The session in the path.
    pub session: SessionId,
    /// The client's address.
    pub ip: ClientAddress,
}

/// A live session.
#[derive(Debug)]
pub struct Outcome {
    /// It.
    pub session: Session,
    /// The caller's own.
    pub current: SessionId,
}

impl Service {
    /// One read.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `SessionNotFound`, `TenantSuspended`,
    /// `IpNotAllowed`, `Unavailable`.
    pub async fn read_session(&self, command: Command, now: Timestamp) -> Result<Outcome, Failure> {
        let Command { tenant, bearer, collection, owner, user, session: id, ip } = command;
        let (context, bearer) = self.verify_bearer(&tenant, &bearer, &ip, now).await?;
        telemetry::user(&user);
        telemetry::session(&context.keys.session_digest(&id));
        admits(collection, &bearer)?;
        let mut caller = self.authenticate_with_session(&context, &bearer, (&user, &id), now).await?;
        let session = caller.asked.take();
        let epoch = match caller.owner_of_sessions(&user, collection, &owner) {
            Ok(target) => target.session_epoch,
            Err(Failure::UserNotFound) => return Err(Failure::SessionNotFound),
            Err(failure) => return Err(failure),
        };
        let session = session
            .filter(|session| session.is_under(collection, &owner))
            .filter(|session| session.fault(now, epoch, context.tenant.session_epoch).is_none())
            .ok_or(Failure::SessionNotFound)?;
        Ok(Outcome { session, current: caller.session.id })
    }
}
