//! Room for one more of a user's sessions, where its tenant limits them.
//!
//! The user item counts the changes to the set of its sessions. A login reads that set, and keeps its
//! session only while the count is the one that it read: of any number at once, each sees those
//! before it.

use aws_sdk_dynamodb::types::{TransactWriteItem, Update};

use super::{
    DynamoStore,
    change::{Guard, Guarded},
    item::{instant, number},
    keys::Key,
    user::built,
};
use crate::{
    domain::{Failure, Session},
    port::Room,
};

impl DynamoStore {
    /// Ends what makes room for `session`, while the user's sessions are those that were read.
    pub(super) fn make_room(&self, session: &Session, room: &Room) -> Result<Vec<Guarded>, Failure> {
        let Session { tenant, user, created_at: now, .. } = session;
        let next = Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::user(tenant, user).attributes()))
            .update_expression("SET sessions_revision = :next")
            .condition_expression(
                "session_epoch = :epoch AND (sessions_revision = :read OR \
                 (:read = :none AND attribute_not_exists(sessions_revision)))",
            )
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
                .update_expression(
                    "SET ended_at = if_not_exists(ended_at, :now), \
                     ended_by_reuse = if_not_exists(ended_by_reuse, :reuse)",
                )
                .condition_expression("attribute_exists(pk)")
                .expression_attribute_values(":now", instant(*now))
                .expression_attribute_values(":reuse", aws_sdk_dynamodb::types::AttributeValue::Bool(false))
                .build();
            writes.push((Guard::Sessions, TransactWriteItem::builder().update(built(end)?).build()));
        }
        Ok(writes)
    }
}
