//! Reading one of a user's live sessions (docs/design/contract.md#routes).

use super::{Service, UserPath, support::authenticate::admits};
use crate::{
    context::RequestContext,
    domain::{Failure, Session, SessionId},
    store::ExtraItem,
};

/// The session to read; the same input as for a logout.
pub use super::delete_session::Command;

/// A live session.
#[derive(Debug)]
pub struct Outcome {
    /// The session.
    pub session: Session,
    /// Id of the caller's own session.
    pub current: SessionId,
}

impl Service {
    /// Reads a session with one read. A second read follows if the epochs suggest that session and user were
    /// read at different moments.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `SessionNotFound`, `TenantSuspended`, `IpNotAllowed`,
    /// `Unavailable`.
    pub async fn read_session(&self, command: Command, context: &RequestContext) -> Result<Outcome, Failure> {
        let Command { at: UserPath { tenant, bearer, collection, owner, user, ip }, session: id } = command;
        let (request, bearer) = self.verify_bearer(context, &tenant, &bearer, &ip).await?;
        context.record_user(&user);
        context.record_session(&request.keys.session_digest(&id));
        admits(collection, &bearer)?;
        let mut caller = self.authenticate(&request, &bearer, Some(&user), ExtraItem::Session(&id)).await?;
        let session = caller.asked.take();
        let epoch = match caller.owner_of_sessions(&user, collection, &owner) {
            Ok(target) => target.session_epoch,
            Err(Failure::UserNotFound) => return Err(Failure::SessionNotFound),
            Err(failure) => return Err(failure),
        };
        let session = session
            .filter(|session| session.is_under(collection, &owner))
            .filter(|session| session.fault(context.now, epoch, request.tenant.session_epoch).is_none())
            .ok_or(Failure::SessionNotFound)?;
        Ok(Outcome { session, current: caller.session.id })
    }
}
