//! One of a user's live sessions (docs/design/contract.md#routes).

use jiff::Timestamp;

use super::{Service, UserPath, authenticate::admits};
use crate::{
    domain::{Failure, Session, SessionId},
    telemetry,
};

/// Who looks at which session: what a logout takes, too.
pub use super::delete_session::Command;

/// A live session.
#[derive(Debug)]
pub struct Outcome {
    /// It.
    pub session: Session,
    /// The caller's own.
    pub current: SessionId,
}

impl Service {
    /// One read; two where the session asked for is dead by its epoch, which two items read at once may
    /// only seem to say.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `SessionNotFound`, `TenantSuspended`,
    /// `IpNotAllowed`, `Unavailable`.
    pub async fn read_session(&self, command: Command, now: Timestamp) -> Result<Outcome, Failure> {
        let Command { at: UserPath { tenant, bearer, collection, owner, user, ip }, session: id } = command;
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
