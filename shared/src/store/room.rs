//! Room for one more of a user's sessions, where its tenant limits them.
//!
//! The user item counts the sessions that were added under a limit. A login reads that count, then the
//! sessions that are live, and keeps its own only while the count is still the one that it read: of
//! any number at once, each sees those before it.
//!
//! The count is read first. Every session that was added before that reading is in the query, which is
//! consistent; every one that is added after it moves the count, whether the query saw it or not, and
//! the login reads again. Read the other way round, a session between the two would be in neither.
//! Sessions that end meanwhile only make room, so they need not move it; nor does a refresh, which adds
//! none. The set itself is in no item: a limit that is switched on later finds those made before it.

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem, Update};

use super::{
    DynamoStore,
    change::{Guard, Guarded},
    item::{instant, number},
    keys::Key,
    session::END,
    user::built,
};
use crate::{
    domain::{Failure, Session},
    port::Room,
};

/// A condition that no session was added since `:read` was the user's count. `:none` is 0: what a user
/// has that never had a session under a limit.
const SAME_SESSIONS: &str =
    "(sessions_revision = :read OR (:read = :none AND attribute_not_exists(sessions_revision)))";

impl DynamoStore {
    /// Ends what makes room for `session`, while the user's sessions are those that were read and its
    /// epoch is the session's: nothing ends for a session that is dead already.
    pub(super) fn make_room(&self, session: &Session, room: &Room) -> Result<Vec<Guarded>, Failure> {
        let Session { tenant, user, created_at: now, .. } = session;
        let next = Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::user(tenant, user).attributes()))
            .update_expression("SET sessions_revision = :next")
            .condition_expression(format!("session_epoch = :epoch AND {SAME_SESSIONS}"))
            .expression_attribute_values(":next", number(room.revision + 1))
            .expression_attribute_values(":read", number(room.revision))
            .expression_attribute_values(":none", number(0))
            .expression_attribute_values(":epoch", number(session.user_epoch))
            .build();
        let mut writes = vec![(Guard::Sessions, TransactWriteItem::builder().update(built(next)?).build())];
        for evicted in &room.evicted {
            let end = Update::builder()
                .table_name(&self.table)
                .set_key(Some(Key::session(tenant, user, evicted).attributes()))
                .update_expression(END)
                .condition_expression("attribute_exists(pk)")
                .expression_attribute_values(":now", instant(*now))
                .expression_attribute_values(":reuse", AttributeValue::Bool(false))
                .build();
            writes.push((Guard::Sessions, TransactWriteItem::builder().update(built(end)?).build()));
        }
        Ok(writes)
    }
}
