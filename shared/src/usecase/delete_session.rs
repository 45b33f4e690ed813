//! Logging out (docs/design/contract.md#logout).

use jiff::Timestamp;

use super::{Service, UserPath, authenticate::admits};
use crate::{
    domain::{Failure, SessionId},
    port::{CodeIs, EndSession},
    telemetry,
};

/// A logout.
#[derive(Debug)]
pub struct Command {
    /// Whose sessions, and who asks.
    pub at: UserPath,
    /// The session in the path.
    pub session: SessionId,
}

/// An ended session.
#[derive(Debug)]
pub struct Outcome {
    /// Which.
    pub session: SessionId,
    /// Since when: the first time it was ended.
    pub terminated_at: Timestamp,
}

impl Service {
    /// One write when a session ends itself; one read before it when somebody else does.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `SessionNotFound`, `TenantSuspended`,
    /// `IpNotAllowed`, `Unavailable`.
    pub async fn delete_session(&self, command: Command, now: Timestamp) -> Result<Outcome, Failure> {
        let Command { at: UserPath { tenant, bearer, collection, owner, user, ip }, session } = command;
        let (context, bearer) = self.verify_bearer(&tenant, &bearer, &ip, now).await?;
        telemetry::user(&user);
        telemetry::session(&context.keys.session_digest(&session));
        admits(collection, &bearer)?;
        // A session may end itself however often it likes, ended or not: that is why this route
        // alone accepts an ended session's token.
        if bearer.session != session || bearer.user != user {
            let caller = self.authenticate(&context, &bearer, Some(&user), CodeIs::Unwanted, now).await?;
            let allowed = match &caller.other {
                Some(other) => caller.may_administer(other),
                None => bearer.user == user,
            };
            if !allowed {
                return Err(Failure::SessionNotFound);
            }
        }
        let end = EndSession {
            tenant: &tenant,
            user: &user,
            session: &session,
            path: Some((collection, &owner)),
            reuse: false,
            now,
        };
        let terminated_at = self.store.end_session(&end).await?.ok_or(Failure::SessionNotFound)?;
        Ok(Outcome { session, terminated_at })
    }
}
