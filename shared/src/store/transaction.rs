//! Transactions: writes that succeed together or not at all, each with the meaning of its failed condition.

use aws_sdk_dynamodb::{
    operation::transact_write_items::TransactWriteItemsError,
    types::{CancellationReason, ConditionCheck, Delete, Put, TransactWriteItem, Update},
};
use futures_util::future::BoxFuture;
use serde::Serialize;

use super::{
    DynamoStore,
    item::{Attributes, encode},
    keys::Key,
    table::{Expressions, built, retried, unavailable},
};
use crate::domain::Failure;

/// Result of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// All writes succeeded.
    Done,
    /// The caller's session ended or the caller's session epoch changed.
    CallerGone,
    /// The target changed or was deleted.
    TargetChanged,
    /// The username, or the ID of a new user, already exists in the tenant.
    UsernameTaken,
    /// The reset code was replaced, used or has expired.
    CodeChanged,
    /// The user's sessions changed since they were read.
    SessionsChanged,
    /// The idempotency key already has a stored result.
    Repeated,
}

/// Meaning of a failed condition of one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// The caller's session or user changed.
    Caller,
    /// The target changed.
    Target,
    /// The username or user ID already exists.
    Username,
    /// The reset code changed or has expired.
    Code,
    /// The user's sessions changed.
    Sessions,
    /// The idempotency key already has a stored result.
    IdempotencyKey,
    /// A failed condition of this write is a server error; most of these writes have none.
    None,
}

/// One write of a transaction, with the meaning of its failed condition.
pub(super) type Guarded = (Guard, TransactWriteItem);

/// Result of a transaction, with the reasons of DynamoDB.
pub(super) enum Transacted {
    /// All writes succeeded.
    Done,
    /// No write succeeded. The reasons are in the order of the writes.
    Cancelled {
        /// One reason for each write.
        reasons: Vec<CancellationReason>,
        /// Failure to return when no condition explains the cancellation.
        failure: Failure,
    },
}

impl DynamoStore {
    /// Executes a transaction and translates the first failed condition.
    pub(super) fn commit(&self, writes: Vec<Guarded>) -> BoxFuture<'_, Result<Committed, Failure>> {
        let (guards, items): (Vec<_>, Vec<_>) = writes.into_iter().unzip();
        Box::pin(async move {
            let (reasons, failure) = match self.transact(items).await? {
                Transacted::Done => return Ok(Committed::Done),
                Transacted::Cancelled { reasons, failure } => (reasons, failure),
            };
            let mut outcomes = guards.iter().zip(&reasons);
            let failed = outcomes.find(|(_, reason)| is_condition_failure(reason));
            match failed.map(|(guard, _)| guard) {
                Some(Guard::Caller) => Ok(Committed::CallerGone),
                Some(Guard::Target) => Ok(Committed::TargetChanged),
                Some(Guard::Username) => Ok(Committed::UsernameTaken),
                Some(Guard::Code) => Ok(Committed::CodeChanged),
                Some(Guard::Sessions) => Ok(Committed::SessionsChanged),
                Some(Guard::IdempotencyKey) => Ok(Committed::Repeated),
                Some(Guard::None) | None => Err(failure),
            }
        })
    }

    /// Executes a transaction. Retries while other writes of its items are in progress.
    pub(super) async fn transact(&self, items: Vec<TransactWriteItem>) -> Result<Transacted, Failure> {
        let request = self.client.transact_write_items().set_transact_items(Some(items));
        let Err(error) = retried(|| request.clone().send()).await else {
            return Ok(Transacted::Done);
        };
        let failure = unavailable(&error);
        match error.into_service_error() {
            TransactWriteItemsError::TransactionCanceledException(cancelled) => Ok(Transacted::Cancelled {
                reasons: cancelled.cancellation_reasons.unwrap_or_default(),
                failure,
            }),
            _ => Err(failure),
        }
    }

    /// Returns a write that updates an item.
    pub(super) fn update_write(
        &self,
        key: &Key,
        mut expressions: Expressions,
    ) -> Result<TransactWriteItem, Failure> {
        let (names, values) = expressions.take_maps();
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key.attributes()))
            .set_update_expression(expressions.update)
            .set_condition_expression(expressions.condition)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .build();
        Ok(TransactWriteItem::builder().update(built(update)?).build())
    }

    /// Returns a write that only checks a condition.
    pub(super) fn check_write(
        &self,
        key: &Key,
        mut expressions: Expressions,
    ) -> Result<TransactWriteItem, Failure> {
        let (names, values) = expressions.take_maps();
        let check = ConditionCheck::builder()
            .table_name(&self.table)
            .set_key(Some(key.attributes()))
            .set_condition_expression(expressions.condition)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .build();
        Ok(TransactWriteItem::builder().condition_check(built(check)?).build())
    }

    /// Returns a write that deletes an item.
    pub(super) fn delete_write(
        &self,
        key: &Key,
        mut expressions: Expressions,
    ) -> Result<TransactWriteItem, Failure> {
        let (names, values) = expressions.take_maps();
        let delete = Delete::builder()
            .table_name(&self.table)
            .set_key(Some(key.attributes()))
            .set_condition_expression(expressions.condition)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .build();
        Ok(TransactWriteItem::builder().delete(built(delete)?).build())
    }

    /// Returns a write that puts an item.
    pub(super) fn put_write(
        &self,
        item: Attributes,
        mut expressions: Expressions,
    ) -> Result<TransactWriteItem, Failure> {
        let (names, values) = expressions.take_maps();
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .set_return_values_on_condition_check_failure(expressions.on_refusal())
            .set_condition_expression(expressions.condition)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .build();
        Ok(TransactWriteItem::builder().put(built(put)?).build())
    }

    /// Returns a write that puts an item whose key must not exist.
    pub(super) fn put_new(&self, key: &Key, item: &impl Serialize) -> Result<TransactWriteItem, Failure> {
        self.put_write(encode(key, item)?, Expressions::condition("attribute_not_exists(pk)"))
    }
}

/// Returns whether a write failed because of its condition.
pub(super) fn is_condition_failure(reason: &CancellationReason) -> bool {
    reason.code() == Some("ConditionalCheckFailed")
}
