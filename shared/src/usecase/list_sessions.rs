//! Listing a user's live sessions in pages (docs/design/contract.md#routes).

use super::{Service, UserPath};
use crate::{
    context::RequestContext,
    domain::{ClientScope, Failure, Session, SessionId},
    store::{ExtraItem, SessionPageQuery, SessionsOf},
    token::PageCursor,
};

/// A request for one page.
#[derive(Debug)]
pub struct Command {
    /// Path of the user's sessions, with the caller's bearer.
    pub at: UserPath,
    /// Maximum number of sessions in the page; at least 1.
    pub limit: usize,
    /// Cursor that the previous page returned.
    pub cursor: Option<String>,
}

/// A page of sessions.
#[derive(Debug)]
pub struct Outcome {
    /// Live sessions, newest first, at most as many as requested.
    pub sessions: Vec<Session>,
    /// Id of the caller's own session. An API client has none.
    pub current: Option<SessionId>,
    /// Cursor of the next page; `None` on the last page.
    pub cursor: Option<String>,
}

impl Service {
    /// Lists one page with one read, and one query per MB of the user's session items, at most four.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `UserNotFound`, `Validation` of the cursor,
    /// `TenantSuspended`, `IpNotAllowed`, `Unavailable`.
    pub async fn list_sessions(
        &self,
        command: Command,
        context: &RequestContext,
    ) -> Result<Outcome, Failure> {
        let Command { at: UserPath { tenant, bearer, collection, owner, user, ip }, limit, cursor } = command;
        let (request, token) = self.verify_token(context, &tenant, &bearer, &ip).await?;
        context.record_user(&user);
        token.admit_to(collection)?;
        let list = PageCursor { tenant: &tenant, user: &user, collection, owner: &owner };
        let foreign = || Failure::field("cursor", "does not belong to this list; omit it to start over");
        let read = |cursor: &str| list.read(cursor, &request.keys).ok_or_else(foreign);
        let after = cursor.as_deref().map(read).transpose()?;
        let caller = self.authenticate(&request, &token, Some(&user), ExtraItem::None).await?;
        let scope = ClientScope::SessionsRead;
        let target = caller.owner_of_sessions(scope, &user, (collection, &owner))?;
        let query = SessionPageQuery {
            of: SessionsOf::user(target, request.tenant.session_epoch, context.now),
            path: (collection, &owner),
            after: after.as_ref(),
            limit,
        };
        let page = self.store.session_page(&query).await?;
        let cursor = page.after.map(|after| list.make(&after, &request.keys)).transpose()?;
        Ok(Outcome { sessions: page.sessions, current: token.session().cloned(), cursor })
    }
}
