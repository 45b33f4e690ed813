//! A user's sessions together: counted, held against a limit, listed in pages. They share the user's
//! partition, so each is a consistent query of it.

use crate::domain::{Collection, Session, TenantId, User, UserId};
use aws_sdk_dynamodb::{operation::query::builders::QueryFluentBuilder, types::Select};
use jiff::Timestamp;
use serde::Deserialize;

use super::{
    DynamoStore,
    item::{decode, instant, number, string, to_instant},
    keys::{Key, SESSION_PREFIX},
    session::{LIVE, to_session},
    table::unavailable,
};
use crate::domain::{Failure, LiveSession, SessionId, SessionPosition};

/// A user's sessions, of which those are live that its and its tenant's epochs have not passed.
#[derive(Debug, Clone, Copy)]
pub struct SessionsOf<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// The user, whether it exists or not.
    pub user: &'a UserId,
    /// Its epoch.
    pub user_epoch: u64,
    /// The tenant's.
    pub tenant_epoch: u64,
    /// Now.
    pub now: Timestamp,
}

impl<'a> SessionsOf<'a> {
    /// The sessions of a user as it was read.
    pub fn user(user: &'a User, tenant_epoch: u64, now: Timestamp) -> Self {
        let User { tenant, id, session_epoch, .. } = user;
        Self { tenant, user: id, user_epoch: *session_epoch, tenant_epoch, now }
    }
}

/// A page of a user's sessions.
#[derive(Debug, Clone, Copy)]
pub struct SessionPageQuery<'a> {
    /// Whose.
    pub of: SessionsOf<'a>,
    /// The collection and its owner in the path, which the sessions must fit.
    pub path: (Collection, &'a str),
    /// Position at which the previous page ended.
    pub after: Option<&'a SessionPosition>,
    /// Maximum number of sessions; at least 1.
    pub limit: usize,
}

/// What [`DynamoStore::session_page`] found.
#[derive(Debug)]
pub struct SessionPage {
    /// Sessions, at most as many as requested.
    pub sessions: Vec<Session>,
    /// Position after which the next page starts; `None` on the last page.
    pub after: Option<SessionPosition>,
}

/// What of a session is held against a limit.
#[derive(Deserialize)]
struct LiveItem {
    session_id: SessionId,
    created_at: i64,
}

impl DynamoStore {
    /// The sessions that live. As when a session is judged, one whose epochs are ahead does: it was
    /// created or carried over after they were read.
    fn live(&self, of: &SessionsOf<'_>, also: &str) -> QueryFluentBuilder {
        let SessionsOf { tenant, user, user_epoch, tenant_epoch, now } = *of;
        self.client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk AND begins_with(sk, :sessions)")
            .filter_expression(format!(
                "{LIVE} AND user_epoch >= :user_epoch AND tenant_epoch >= :tenant_epoch{also}"
            ))
            .expression_attribute_values(":pk", string(Key::user(tenant, user).pk))
            .expression_attribute_values(":sessions", string(SESSION_PREFIX))
            .expression_attribute_values(":now", instant(now))
            .expression_attribute_values(":user_epoch", number(user_epoch))
            .expression_attribute_values(":tenant_epoch", number(tenant_epoch))
            .consistent_read(true)
    }

    /// How many of a user's sessions are live, leaving out `except`.
    ///
    /// # Errors
    /// `Unavailable` when storage does not answer.
    pub async fn count_sessions(
        &self,
        of: &SessionsOf<'_>,
        except: Option<&SessionId>,
    ) -> Result<u64, Failure> {
        let mut pages = self
            .live(of, " AND session_id <> :except")
            .expression_attribute_values(":except", string(except.map_or("", SessionId::as_str)))
            .select(Select::Count)
            .into_paginator()
            .send();
        let mut live = 0;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| unavailable(&error))?;
            live += u64::try_from(page.count).unwrap_or_default();
        }
        Ok(live)
    }

    /// A user's live sessions, in no order.
    ///
    /// # Errors
    /// `Unavailable` when storage does not answer.
    pub async fn live_sessions(&self, of: &SessionsOf<'_>) -> Result<Vec<LiveSession>, Failure> {
        let mut items =
            self.live(of, "").projection_expression("session_id, created_at").into_paginator().items().send();
        let mut live = Vec::new();
        while let Some(item) = items.next().await {
            let item: LiveItem = decode(item.map_err(|error| unavailable(&error))?)?;
            live.push(LiveSession { id: item.session_id, created_at: to_instant(item.created_at)? });
        }
        Ok(live)
    }

    /// A page of a user's live sessions, newest first. Over all pages, each session that lives throughout is
    /// listed exactly once.
    ///
    /// Reads all sessions of the user, because their order in the table is the order of their ids. Ended
    /// sessions are read too until their absolute life is over.
    ///
    /// # Errors
    /// `Unavailable` when storage does not answer.
    pub async fn session_page(&self, query: &SessionPageQuery<'_>) -> Result<SessionPage, Failure> {
        let SessionPageQuery { of, path: (collection, owner), after, limit } = *query;
        let mut items = self.live(&of, "").into_paginator().items().send();
        let mut sessions = Vec::new();
        while let Some(item) = items.next().await {
            let session = to_session(item.map_err(|error| unavailable(&error))?)?;
            let is_on_later_page = after.is_none_or(|after| SessionPosition::of(&session) > *after);
            if session.is_under(collection, owner) && is_on_later_page {
                sessions.push(session);
            }
        }
        sessions.sort_by_cached_key(SessionPosition::of);
        let has_more = sessions.len() > limit;
        sessions.truncate(limit);
        let after = sessions.last().map(SessionPosition::of).filter(|_| has_more);
        Ok(SessionPage { sessions, after })
    }
}
