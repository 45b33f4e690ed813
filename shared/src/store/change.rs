//! Changes to a user that hold only while what allowed them holds: transactions.

use aws_sdk_dynamodb::{
    operation::transact_write_items::TransactWriteItemsError,
    types::{AttributeValue, ConditionCheck, TransactWriteItem, Update},
};
use jiff::Timestamp;

use super::{
    DynamoStore,
    conflict::retried,
    item::{instant, number, string, unavailable},
    keys::Key,
    session::LIVE,
    user::built,
};
use crate::{
    domain::{Failure, Session, User},
    port::{Committed, CredentialChange, GuardedChange},
};

/// What it means when the condition of one write of a transaction fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// The caller's session or user is not what it was.
    Caller,
    /// The target is not.
    Target,
    /// The name, or the id, is taken.
    Username,
    /// It has no condition.
    None,
}

/// One write of a transaction.
pub(super) type Guarded = (Guard, TransactWriteItem);

/// An update under construction: expressions and values grow together.
#[derive(Default)]
struct Draft {
    sets: Vec<&'static str>,
    conditions: Vec<&'static str>,
    values: Vec<(&'static str, AttributeValue)>,
}

impl Draft {
    fn set(&mut self, expression: &'static str, name: &'static str, value: AttributeValue) {
        self.sets.push(expression);
        self.values.push((name, value));
    }

    fn require(&mut self, condition: &'static str, name: &'static str, value: AttributeValue) {
        self.conditions.push(condition);
        self.values.push((name, value));
    }
}

impl DynamoStore {
    pub(super) async fn commit_reset(&self, change: &GuardedChange<'_>) -> Result<Committed, Failure> {
        let mut user = Draft::default();
        user.set("reset_required = :reset", ":reset", AttributeValue::Bool(true));
        end_sessions(&mut user);
        let mut writes = vec![(Guard::Caller, self.check_session(change.caller_session, change.now)?)];
        writes.extend(self.change_user(change, user)?);
        writes.push((Guard::None, self.forget_attempts(&change.target.tenant, &change.target.id)?));
        self.commit(writes).await
    }

    pub(super) async fn commit_credentials(
        &self,
        change: &GuardedChange<'_>,
        credentials: &CredentialChange,
    ) -> Result<Committed, Failure> {
        let CredentialChange { password, history, username, change_required } = credentials;
        let mut user = Draft::default();
        let mut writes = Vec::new();
        if let Some(username) = username {
            user.set("username = :username", ":username", string(username.as_written()));
            writes.extend(self.move_username(change.target, username)?);
        }
        if let Some(required) = change_required {
            user.set("change_required = :required", ":required", AttributeValue::Bool(*required));
        }
        if let Some(password) = password {
            user.set("password = :password", ":password", string(password.as_phc()));
            let history = history.iter().map(|hash| string(hash.as_phc())).collect();
            user.set("password_history = :history", ":history", AttributeValue::L(history));
            user.set("reset_required = :reset", ":reset", AttributeValue::Bool(false));
            end_sessions(&mut user);
        }
        let session = match password {
            Some(_) if change.is_own() => self.carry_session_over(change.caller_session, change.now)?,
            _ => self.check_session(change.caller_session, change.now)?,
        };
        writes.push((Guard::Caller, session));
        if password.is_some() && !change.is_own() {
            writes.push((Guard::None, self.forget_attempts(&change.target.tenant, &change.target.id)?));
        }
        writes.extend(self.change_user(change, user)?);
        self.commit(writes).await
    }

    /// Writes everything, or nothing.
    pub(super) async fn commit(&self, writes: Vec<Guarded>) -> Result<Committed, Failure> {
        let (guards, items): (Vec<_>, Vec<_>) = writes.into_iter().unzip();
        let request = || self.client.transact_write_items().set_transact_items(Some(items.clone())).send();
        match retried(request).await {
            Ok(_) => Ok(Committed::Done),
            Err(error) => match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => guards
                    .iter()
                    .zip(cancelled.cancellation_reasons())
                    .find(|(_, reason)| reason.code() == Some("ConditionalCheckFailed"))
                    .and_then(|(guard, _)| match guard {
                        Guard::Caller => Some(Committed::CallerGone),
                        Guard::Target => Some(Committed::TargetChanged),
                        Guard::Username => Some(Committed::UsernameTaken),
                        Guard::None => None,
                    })
                    .ok_or_else(|| unavailable(&error)),
                _ => Err(unavailable(&error)),
            },
        }
    }

    /// The user item's update; when the caller is somebody else, a check that it is what it was.
    fn change_user(&self, change: &GuardedChange<'_>, mut user: Draft) -> Result<Vec<Guarded>, Failure> {
        user.set("change_sequence = change_sequence + :one", ":one", number(1));
        user.set("changed_at = :now", ":now", instant(change.now));
        user.require(
            "organization_id = :organization",
            ":organization",
            string(change.target.organization.as_str()),
        );
        // Every change counts: of two at once, the second sees what the first left behind.
        user.require("change_sequence = :sequence", ":sequence", number(change.target.sequence));
        let key = Key::user(&change.target.tenant, &change.target.id);
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key.attributes()))
            .update_expression(format!("SET {}", user.sets.join(", ")))
            .condition_expression(user.conditions.join(" AND "))
            .set_expression_attribute_values(Some(
                user.values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            ))
            .build();
        let guard = if change.is_own() { Guard::Caller } else { Guard::Target };
        let mut writes = vec![(guard, TransactWriteItem::builder().update(built(update)?).build())];
        if !change.is_own() {
            writes.push((Guard::Caller, self.check_user(change.caller)?));
        }
        Ok(writes)
    }

    fn check_user(&self, caller: &User) -> Result<TransactWriteItem, Failure> {
        let check = ConditionCheck::builder()
            .table_name(&self.table)
            .set_key(Some(Key::user(&caller.tenant, &caller.id).attributes()))
            .condition_expression("session_epoch = :epoch")
            .expression_attribute_values(":epoch", number(caller.session_epoch))
            .build();
        Ok(TransactWriteItem::builder().condition_check(built(check)?).build())
    }

    fn check_session(&self, session: &Session, now: Timestamp) -> Result<TransactWriteItem, Failure> {
        let check = ConditionCheck::builder()
            .table_name(&self.table)
            .set_key(Some(Key::session(&session.tenant, &session.user, &session.id).attributes()))
            .condition_expression(format!("{LIVE} AND user_epoch = :epoch"))
            .expression_attribute_values(":now", instant(now))
            .expression_attribute_values(":epoch", number(session.user_epoch))
            .build();
        Ok(TransactWriteItem::builder().condition_check(built(check)?).build())
    }

    /// The one session that outlives its user's epoch: the caller's own, on a change of its own
    /// password.
    fn carry_session_over(&self, session: &Session, now: Timestamp) -> Result<TransactWriteItem, Failure> {
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::session(&session.tenant, &session.user, &session.id).attributes()))
            .update_expression("SET user_epoch = :next")
            .condition_expression(format!("{LIVE} AND user_epoch = :epoch"))
            .expression_attribute_values(":next", number(session.user_epoch + 1))
            .expression_attribute_values(":now", instant(now))
            .expression_attribute_values(":epoch", number(session.user_epoch))
            .build();
        Ok(TransactWriteItem::builder().update(built(update)?).build())
    }
}

fn end_sessions(user: &mut Draft) {
    user.set("session_epoch = session_epoch + :step", ":step", number(1));
}
