//! A user's sessions together: counted, held against a limit, listed in pages. They share the user's
//! partition, so each is a consistent query of it.

use aws_sdk_dynamodb::{operation::query::builders::QueryFluentBuilder, types::Select};
use serde::Deserialize;

use super::{
    DynamoStore,
    item::{corrupt, decode, instant, number, string, to_instant, unavailable},
    keys::{Key, SESSION_PREFIX},
    session::{LIVE, to_session},
};
use crate::{
    domain::{Failure, LiveSession, SessionId},
    port::{SessionPage, SessionPageQuery, SessionsOf},
};

/// Sessions looked at by one query of a page: the longest page, and the one behind it that tells
/// whether there are more.
const LOOKED_AT: i32 = 101;
/// Queries for one page. Ended sessions stay in the table up to their absolute life: among very many of
/// them a page is shorter, or empty, with a cursor to go on from.
const MAX_QUERIES: usize = 10;

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

    pub(super) async fn count_live(
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

    pub(super) async fn read_live(&self, of: &SessionsOf<'_>) -> Result<Vec<LiveSession>, Failure> {
        let mut items =
            self.live(of, "").projection_expression("session_id, created_at").into_paginator().items().send();
        let mut live = Vec::new();
        while let Some(item) = items.next().await {
            let item: LiveItem = decode(item.map_err(|error| unavailable(&error))?)?;
            live.push(LiveSession { id: item.session_id, created_at: to_instant(item.created_at)? });
        }
        Ok(live)
    }

    pub(super) async fn read_page(&self, query: &SessionPageQuery<'_>) -> Result<SessionPage, Failure> {
        let SessionPageQuery { of, path: (collection, owner), after, limit } = *query;
        let mut sessions = Vec::new();
        let mut after = after.cloned();
        for _ in 0..MAX_QUERIES {
            let start = after.as_ref().map(|id| Key::session(of.tenant, of.user, id).attributes());
            let answer = self.live(&of, "").limit(LOOKED_AT).set_exclusive_start_key(start).send().await;
            let answer = answer.map_err(|error| unavailable(&error))?;
            for item in answer.items.unwrap_or_default() {
                let session = to_session(item)?;
                if session.is_under(collection, owner) {
                    sessions.push(session);
                }
            }
            let last = answer.last_evaluated_key.as_ref().and_then(|key| key.get("sk"));
            let last = last.map(|sk| sk.as_s().ok().and_then(|sk| Key::session_id(sk)));
            after = last.map(|id| id.ok_or_else(|| corrupt("session key"))).transpose()?;
            if after.is_none() || sessions.len() >= limit {
                break;
            }
        }
        if sessions.len() > limit {
            sessions.truncate(limit);
            after = sessions.last().map(|session| session.id.clone());
        }
        Ok(SessionPage { sessions, after })
    }
}
