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
    domain::{Failure, PasswordHash, Session, User},
    port::{Committed, CredentialChange, Ending, GuardedChange, NewCode},
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
    /// The code is not the one that was read, or not live.
    Code,
    /// The user's sessions are not those that were read.
    Sessions,
    /// The request's key is taken.
    Once,
    /// It has no condition.
    None,
}

/// One write of a transaction.
pub(super) type Guarded = (Guard, TransactWriteItem);

/// An update under construction: expressions and values grow together.
#[derive(Default)]
pub(super) struct Draft {
    sets: Vec<&'static str>,
    conditions: Vec<&'static str>,
    values: Vec<(&'static str, AttributeValue)>,
}

impl Draft {
    pub(super) fn set(&mut self, expression: &'static str, name: &'static str, value: AttributeValue) {
        self.sets.push(expression);
        self.values.push((name, value));
    }

    /// A new password: it ends the user's sessions, and completes a login reset.
    pub(super) fn set_password(&mut self, password: &PasswordHash, history: &[PasswordHash]) {
        let texts = history.iter().map(|hash| string(hash.as_phc())).collect();
        self.set("password = :password", ":password", string(password.as_phc()));
        self.set("password_history = :history", ":history", AttributeValue::L(texts));
        self.set("reset_required = :reset", ":reset", AttributeValue::Bool(false));
        self.end_sessions();
    }

    fn end_sessions(&mut self) {
        self.set("session_epoch = session_epoch + :step", ":step", number(1));
    }

    fn require(&mut self, condition: &'static str, name: &'static str, value: AttributeValue) {
        self.conditions.push(condition);
        self.values.push((name, value));
    }
}

impl DynamoStore {
    pub(super) async fn commit_reset(
        &self,
        change: &GuardedChange<'_>,
        code: &NewCode,
    ) -> Result<Committed, Failure> {
        let mut user = Draft::default();
        user.set("reset_required = :reset", ":reset", AttributeValue::Bool(true));
        user.end_sessions();
        let mut writes = vec![(Guard::Caller, self.check_session(change.caller_session, change.now)?)];
        writes.extend(self.change_user(change, user)?);
        writes.extend(self.put_code(code)?);
        writes
            .push((Guard::None, self.forget_attempts(&change.target.tenant, &change.target.id, change.now)?));
        self.commit(writes).await
    }

    pub(super) async fn commit_credentials(
        &self,
        change: &GuardedChange<'_>,
        credentials: &CredentialChange,
    ) -> Result<Committed, Failure> {
        let CredentialChange { password, history, username, change_required, message } = credentials;
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
            user.set_password(password, history);
            writes.push((Guard::None, self.void_code(&change.target.tenant, &change.target.id, change.now)?));
        }
        if let Some(message) = message {
            writes.push((Guard::None, self.put_outbox(message)?));
        }
        let session = match password {
            Some(_) if change.is_own() => self.carry_session_over(change.caller_session, change.now)?,
            _ => self.check_session(change.caller_session, change.now)?,
        };
        writes.push((Guard::Caller, session));
        if password.is_some() {
            writes.push((
                Guard::None,
                self.forget_attempts(&change.target.tenant, &change.target.id, change.now)?,
            ));
        }
        writes.extend(self.change_user(change, user)?);
        self.commit(writes).await
    }

    pub(super) async fn commit_end(
        &self,
        change: &GuardedChange<'_>,
        ending: Ending,
    ) -> Result<Committed, Failure> {
        let mut user = Draft::default();
        user.end_sessions();
        let session = match ending {
            Ending::AllButCurrent if change.is_own() => {
                self.carry_session_over(change.caller_session, change.now)?
            }
            Ending::All | Ending::AllButCurrent => self.check_session(change.caller_session, change.now)?,
        };
        let mut writes = vec![(Guard::Caller, session)];
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
                        Guard::Code => Some(Committed::CodeChanged),
                        Guard::Sessions => Some(Committed::SessionsChanged),
                        Guard::Once => Some(Committed::Repeated),
                        Guard::None => None,
                    })
                    .ok_or_else(|| unavailable(&error)),
                _ => Err(unavailable(&error)),
            },
        }
    }

    /// The user item's update; when the caller is somebody else, a check that it is what it was.
    fn change_user(&self, change: &GuardedChange<'_>, user: Draft) -> Result<Vec<Guarded>, Failure> {
        let guard = if change.is_own() { Guard::Caller } else { Guard::Target };
        let mut writes = vec![(guard, self.user_update(change.target, user, change.now)?)];
        if !change.is_own() {
            writes.push((Guard::Caller, self.check_user(change.caller)?));
        }
        Ok(writes)
    }

    /// Every change counts: of two at once, the second sees what the first left behind.
    pub(super) fn user_update(
        &self,
        target: &User,
        mut draft: Draft,
        now: Timestamp,
    ) -> Result<TransactWriteItem, Failure> {
        draft.set("change_sequence = change_sequence + :one", ":one", number(1));
        draft.set("changed_at = :now", ":now", instant(now));
        draft.require(
            "organization_id = :organization",
            ":organization",
            string(target.organization.as_str()),
        );
        draft.require("change_sequence = :sequence", ":sequence", number(target.sequence));
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::user(&target.tenant, &target.id).attributes()))
            .update_expression(format!("SET {}", draft.sets.join(", ")))
            .condition_expression(draft.conditions.join(" AND "))
            .set_expression_attribute_values(Some(
                draft.values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            ))
            .build();
        Ok(TransactWriteItem::builder().update(built(update)?).build())
    }

    /// That whoever asked for something still may: its session and record, and whose it asked for.
    pub(super) fn check_caller(&self, change: &GuardedChange<'_>) -> Result<Vec<Guarded>, Failure> {
        let mut checks = vec![
            (Guard::Caller, self.check_session(change.caller_session, change.now)?),
            (Guard::Caller, self.check_user(change.caller)?),
        ];
        if !change.is_own() {
            let check = ConditionCheck::builder()
                .table_name(&self.table)
                .set_key(Some(Key::user(&change.target.tenant, &change.target.id).attributes()))
                .condition_expression("organization_id = :organization")
                .expression_attribute_values(":organization", string(change.target.organization.as_str()))
                .build();
            let check = TransactWriteItem::builder().condition_check(built(check)?).build();
            checks.push((Guard::Target, check));
        }
        Ok(checks)
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
    /// password, or when it ends all others.
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
