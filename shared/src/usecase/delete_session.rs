//! Logout (docs/design/contract.md#logout).

use jiff::Timestamp;

use super::{Service, UserPath};
use crate::{
    context::RequestContext,
    domain::{ClientScope, Failure, SessionId},
    store::{EndSession, ExtraItem},
};

/// A logout.
#[derive(Debug)]
pub struct Command {
    /// Path of the user's sessions, with the caller's bearer.
    pub at: UserPath,
    /// Session in the path.
    pub session: SessionId,
}

/// An ended session.
#[derive(Debug)]
pub struct Outcome {
    /// Id of the session.
    pub session: SessionId,
    /// When the session ended. A repeated logout returns the time of the first.
    pub terminated_at: Timestamp,
}

impl Service {
    /// Ends a session. One write if the session ends itself; one more read if another caller ends it.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `SessionNotFound`, `TenantSuspended`, `IpNotAllowed`,
    /// `Unavailable`.
    pub async fn delete_session(
        &self,
        command: Command,
        context: &RequestContext,
    ) -> Result<Outcome, Failure> {
        let Command { at: UserPath { tenant, bearer, collection, owner, user, ip }, session } = command;
        let (request, token) = self.verify_token(context, &tenant, &bearer, &ip).await?;
        context.record_user(&user);
        context.record_session(&request.keys.session_digest(&session));
        token.admit_to(collection)?;
        // A session may end itself repeatedly. Therefore this route alone accepts the token of an ended session.
        if token.own(&user).is_none_or(|bearer| bearer.session != session) {
            let caller = self.authenticate(&request, &token, Some(&user), ExtraItem::None).await?;
            let scope = ClientScope::SessionsWrite;
            // A restricted token may end only its own session (docs/design/security.md#rule-21).
            caller.require(scope)?;
            caller.target(scope, &user).map_err(|failure| match failure {
                Failure::UserNotFound => Failure::SessionNotFound,
                other => other,
            })?;
        }
        let end = EndSession {
            tenant: &tenant,
            user: &user,
            session: &session,
            path: Some((collection, &owner)),
            reuse: false,
            now: context.now,
        };
        let terminated_at = self.store.end_session(&end).await?.ok_or(Failure::SessionNotFound)?;
        Ok(Outcome { session, terminated_at })
    }
}
