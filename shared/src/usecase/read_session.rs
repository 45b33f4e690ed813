//! Reading one of a user's live sessions (docs/design/contract.md#routes).

use super::{Service, UserPath};
use crate::{
    context::RequestContext,
    domain::{ClientScope, Failure, Session, SessionId},
    store::ExtraItem,
};

/// The session to read; the same input as for a logout.
pub use super::delete_session::Command;

/// A live session.
#[derive(Debug)]
pub struct Outcome {
    /// The session.
    pub session: Session,
    /// Id of the caller's own session. An API client has none.
    pub current: Option<SessionId>,
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
        let (request, token) = self.verify_token(context, &tenant, &bearer, &ip).await?;
        context.record_user(&user);
        context.record_session(&request.keys.session_digest(&id));
        token.admit_to(collection)?;
        let mut caller = self.authenticate(&request, &token, Some(&user), ExtraItem::Session(&id)).await?;
        let session = caller.asked.take();
        let path = (collection, owner.as_str());
        let epoch = match caller.owner_of_sessions(ClientScope::SessionsRead, &user, path) {
            Ok(target) => target.session_epoch,
            Err(Failure::UserNotFound) => return Err(Failure::SessionNotFound),
            Err(failure) => return Err(failure),
        };
        let session = session
            .filter(|session| session.is_under(collection, &owner))
            .filter(|session| session.fault(context.now, epoch, request.tenant.session_epoch).is_none())
            .ok_or(Failure::SessionNotFound)?;
        Ok(Outcome { session, current: token.session().cloned() })
    }
}
