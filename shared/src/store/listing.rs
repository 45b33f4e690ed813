//! A user's live sessions: counted, read for the session limit, or listed in pages. They share the user's partition,
//! so that one consistent query reads them.

use std::{collections::BTreeMap, time::Duration};

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
use crate::domain::{
    Collection, Failure, LiveSession, Session, SessionId, SessionPosition, TenantId, User, UserId,
};

/// Maximum number of query pages that a list reads. A page has up to 1 MB, ended sessions included, which is about
/// 1,500 sessions. Counts, and logins under a session limit, read one page.
const LISTED_PAGES: usize = 4;
/// Maximum time for a count.
const MAX_COUNTING: Duration = Duration::from_secs(1);

/// Selects a user's live sessions: those whose epochs are not behind the user's and the tenant's.
#[derive(Debug, Clone, Copy)]
pub struct SessionsOf<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// The user, whether it exists or not.
    pub user: &'a UserId,
    /// Session epoch of the user.
    pub user_epoch: u64,
    /// Session epoch of the tenant.
    pub tenant_epoch: u64,
    /// Current time.
    pub now: Timestamp,
}

impl<'a> SessionsOf<'a> {
    /// Selects the sessions of a user that was read.
    pub fn user(user: &'a User, tenant_epoch: u64, now: Timestamp) -> Self {
        let User { tenant, id, session_epoch, .. } = user;
        Self { tenant, user: id, user_epoch: *session_epoch, tenant_epoch, now }
    }
}

/// A page of a user's sessions.
#[derive(Debug, Clone, Copy)]
pub struct SessionPageQuery<'a> {
    /// User and epochs.
    pub of: SessionsOf<'a>,
    /// Collection and owner in the path. Only sessions under it are listed.
    pub path: (Collection, &'a str),
    /// Position at which the previous page ended.
    pub after: Option<&'a SessionPosition>,
    /// Maximum number of sessions; at least 1.
    pub limit: usize,
}

/// Result of [`DynamoStore::session_page`].
#[derive(Debug)]
pub struct SessionPage {
    /// Sessions, at most as many as requested.
    pub sessions: Vec<Session>,
    /// Position after which the next page starts; `None` on the last page.
    pub after: Option<SessionPosition>,
}

/// Attributes of a session that the session limit needs.
#[derive(Deserialize)]
struct LiveItem {
    session_id: SessionId,
    created_at: i64,
}

impl DynamoStore {
    /// Query for the live sessions. A session whose epochs are ahead counts as live, as in `Session::fault`: it was
    /// created or kept after the epochs were read.
    fn live(&self, of: &SessionsOf<'_>, also: &str) -> QueryFluentBuilder {
        let SessionsOf { tenant, user, user_epoch, tenant_epoch, now } = *of;
        self.query(Key::user(tenant, user).pk, SESSION_PREFIX)
            .filter_expression(format!(
                "{LIVE} AND user_epoch >= :user_epoch AND tenant_epoch >= :tenant_epoch{also}"
            ))
            .expression_attribute_values(":now", instant(now))
            .expression_attribute_values(":user_epoch", number(user_epoch))
            .expression_attribute_values(":tenant_epoch", number(tenant_epoch))
    }

    /// Number of live sessions without `except`, as information for people. Returns `None` if the user's sessions,
    /// ended ones included, fill more than one page. Also returns `None` if storage does not answer, so that no change
    /// fails because of its count.
    pub async fn count_sessions(&self, of: &SessionsOf<'_>, except: Option<&SessionId>) -> Option<u64> {
        let count = self
            .live(of, " AND session_id <> :except")
            .expression_attribute_values(":except", string(except.map_or("", SessionId::as_str)))
            .select(Select::Count)
            .send();
        let failure = match tokio::time::timeout(MAX_COUNTING, count).await {
            Ok(Ok(page)) if page.last_evaluated_key.is_some() => return None,
            Ok(Ok(page)) => return u64::try_from(page.count).ok(),
            Ok(Err(error)) => unavailable(&error),
            Err(_) => Failure::Unavailable("counting the sessions timed out".into()),
        };
        tracing::warn!(%failure, "sessions.not_counted");
        None
    }

    /// Ids and creation times of the live sessions, in no particular order. Reads the first page of the user's
    /// sessions.
    ///
    /// # Errors
    /// `Unavailable` when storage does not answer.
    pub async fn live_sessions(&self, of: &SessionsOf<'_>) -> Result<Vec<LiveSession>, Failure> {
        let query = self.live(of, "").projection_expression("session_id, created_at");
        let page = query.send().await.map_err(|error| unavailable(&error))?;
        let session = |item| {
            let LiveItem { session_id: id, created_at } = decode(item)?;
            Ok(LiveSession { id, created_at: to_instant(created_at)? })
        };
        page.items.unwrap_or_default().into_iter().map(session).collect()
    }

    /// A page of a user's live sessions, newest first. Over all pages, each session that lives throughout is
    /// listed exactly once.
    ///
    /// Reads the sessions from the first, because their order in the table is the order of their ids. Ended
    /// sessions are read too until their absolute life is over. Sessions after the first four query
    /// pages are not listed.
    ///
    /// # Errors
    /// `Unavailable` when storage does not answer.
    pub async fn session_page(&self, query: &SessionPageQuery<'_>) -> Result<SessionPage, Failure> {
        let SessionPageQuery { of, path: (collection, owner), after, limit } = *query;
        let mut pages = self.live(&of, "").into_paginator().send();
        let mut items = Vec::new();
        for _ in 0..LISTED_PAGES {
            let Some(read) = pages.next().await else { break };
            items.extend(read.map_err(|error| unavailable(&error))?.items.unwrap_or_default());
        }
        let mut page = BTreeMap::new();
        let mut has_more = false;
        for item in items {
            let session = to_session(item)?;
            let position = SessionPosition::of(&session);
            if session.is_under(collection, owner) && after.is_none_or(|after| position > *after) {
                page.insert(position, session);
            }
            if page.len() > limit {
                page.pop_last();
                has_more = true;
            }
        }
        let after = page.last_key_value().map(|(position, _)| position.clone()).filter(|_| has_more);
        Ok(SessionPage { sessions: page.into_values().collect(), after })
    }
}
