//! A user's live sessions, in pages (docs/design/contract.md#routes).

use jiff::Timestamp;

use super::{Service, UserPath, authenticate::admits};
use crate::{
    domain::{Failure, Session, SessionId},
    port::{CodeIs, SessionPageQuery, SessionsOf},
    secrets::TenantContext,
    telemetry,
    token::PageCursor,
};

/// A look at a user's sessions.
#[derive(Debug)]
pub struct Command {
    /// Whose sessions, and who asks.
    pub at: UserPath,
    /// Most sessions of a page; at least 1.
    pub limit: usize,
    /// Where the page before ended, as it said.
    pub cursor: Option<String>,
}

/// One page.
#[derive(Debug)]
pub struct Outcome {
    /// Live sessions, in the order of their ids: as many as were asked for or fewer.
    pub sessions: Vec<Session>,
    /// The caller's own session, which may be among them.
    pub current: SessionId,
    /// What asks for the next page; `None` when there is none.
    pub cursor: Option<String>,
}

impl Service {
    /// One read and one query.
    ///
    /// # Errors
    /// `TenantMismatch`, `InvalidToken`, `Forbidden`, `UserNotFound`, `Validation` of the cursor,
    /// `TenantSuspended`, `IpNotAllowed`, `Unavailable`.
    pub async fn list_sessions(&self, command: Command, now: Timestamp) -> Result<Outcome, Failure> {
        let Command { at: UserPath { tenant, bearer, collection, owner, user, ip }, limit, cursor } = command;
        let (context, bearer) = self.verify_bearer(&tenant, &bearer, &ip, now).await?;
        telemetry::user(&user);
        admits(collection, &bearer)?;
        let place = PageCursor { tenant: &tenant, user: &user, collection, owner: &owner };
        let (context, after) = self.place_of(context, place, cursor.as_deref(), now).await?;
        let caller = self.authenticate(&context, &bearer, Some(&user), CodeIs::Unwanted, now).await?;
        let target = caller.owner_of_sessions(&user, collection, &owner)?;
        let query = SessionPageQuery {
            of: SessionsOf::user(target, context.tenant.session_epoch, now),
            path: (collection, &owner),
            after: after.as_ref(),
            limit,
        };
        let page = self.store.session_page(&query).await?;
        let cursor = page.after.map(|after| place.make(&after, &context.keys)).transpose()?;
        Ok(Outcome { sessions: page.sessions, current: caller.session.id, cursor })
    }

    /// The session that the page before ended at. Its cursor may be of a key that another process
    /// learned of first: then the keys are asked for again.
    async fn place_of(
        &self,
        mut context: TenantContext,
        place: PageCursor<'_>,
        cursor: Option<&str>,
        now: Timestamp,
    ) -> Result<(TenantContext, Option<SessionId>), Failure> {
        let Some(cursor) = cursor else {
            return Ok((context, None));
        };
        if PageCursor::version(cursor).is_some_and(|version| !context.keys.has_root(version)) {
            (context.keys, _) = self.tenants.reload_keys(&context.tenant.id, now).await?;
        }
        let foreign = || Failure::field("cursor", "is none of this list: leave it out to begin again");
        let after = place.read(cursor, &context.keys).ok_or_else(foreign)?;
        Ok((context, Some(after)))
    }
}
