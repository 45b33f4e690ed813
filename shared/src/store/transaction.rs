//! Transactions: writes that succeed together or not at all, each with the meaning of its failed condition.

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::transact_write_items::TransactWriteItemsError,
    types::{CancellationReason, ConditionCheck, Delete, Put, TransactWriteItem, Update},
};
use futures_util::future::BoxFuture;

use super::{
    DynamoStore,
    item::Attributes,
    keys::Key,
    table::{Conflict, Expressions, built, conditional, reasons_of, retried_while, unavailable},
};
use crate::domain::Failure;

/// Result of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// All writes succeeded.
    Done,
    /// No write succeeded, because the condition of one failed. The guard states its meaning.
    Refused(Guard),
    /// No write succeeded, because each try was throttled or overlapped another write of its items.
    Conflicted,
}

impl Committed {
    /// Returns whether the writes succeeded. `false` means that a condition failed.
    ///
    /// # Errors
    /// `Unavailable` for [`Committed::Conflicted`].
    pub fn is_done(self) -> Result<bool, Failure> {
        match self {
            Self::Done => Ok(true),
            Self::Refused(_) => Ok(false),
            Self::Conflicted => Err(conflicted()),
        }
    }
}

/// Returns the failure of a transaction whose tries all conflicted.
pub(crate) fn conflicted() -> Failure {
    Failure::Unavailable(
        "DynamoDB throttled the writes, or other writes of the items kept overlapping".into(),
    )
}

/// Meaning of a failed condition of one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// The caller changes its own account, and its session ended or its user item changed.
    Caller,
    /// The target changed or was deleted.
    Target,
    /// The username, or the ID of a new user, already exists in the tenant.
    Username,
    /// The reset code was replaced, invalidated or used, or has expired.
    Code,
    /// The user's sessions changed since they were read, or another write that changes them is in progress.
    Sessions,
    /// The idempotency key already has a stored result.
    IdempotencyKey,
    /// The tenant has the maximum number of API clients.
    Clients,
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
        /// Whether the cause is a conflict ([`Conflict`]).
        is_conflict: bool,
        /// Failure to return when neither a condition nor a conflict explains the cancellation.
        failure: Failure,
    },
}

impl DynamoStore {
    /// Executes a transaction and translates the first failed condition.
    pub(super) fn commit(&self, writes: Vec<Guarded>) -> BoxFuture<'_, Result<Committed, Failure>> {
        let guards: Vec<_> = writes.iter().map(|(guard, _)| *guard).collect();
        Box::pin(async move {
            let (reasons, is_conflict, failure) = match self.transact(writes).await? {
                Transacted::Done => return Ok(Committed::Done),
                Transacted::Cancelled { reasons, is_conflict, failure } => (reasons, is_conflict, failure),
            };
            if have_overlapping_sessions(&guards, &reasons) {
                return Ok(Committed::Refused(Guard::Sessions));
            }
            let mut outcomes = guards.iter().zip(&reasons);
            let failed = outcomes.find(|(_, reason)| is_condition_failure(reason));
            match failed.map(|(guard, _)| *guard) {
                None if is_conflict => Ok(Committed::Conflicted),
                Some(Guard::None) | None => Err(failure),
                Some(guard) => Ok(Committed::Refused(guard)),
            }
        })
    }

    /// Executes a transaction. Retries while other writes of its items are in progress, except those of
    /// [`Guard::Sessions`]: the other write changes what the transaction depends on, so that its repetition would fail.
    ///
    /// All tries have the same request token. If DynamoDB committed an earlier try whose answer was lost, it therefore
    /// reports success instead of a failed condition.
    pub(super) async fn transact(&self, writes: Vec<Guarded>) -> Result<Transacted, Failure> {
        let (guards, items): (Vec<_>, Vec<_>) = writes.into_iter().unzip();
        let request = self.client.transact_write_items().set_transact_items(Some(items));
        let request = request.client_request_token(request_token()?);
        let is_worth_repeating = |error: &SdkError<TransactWriteItemsError>| {
            error.is_conflict() && !have_overlapping_sessions(&guards, reasons_of(error))
        };
        let Err(error) = retried_while(|| request.clone().send(), is_worth_repeating).await else {
            return Ok(Transacted::Done);
        };
        let (failure, is_conflict) = (unavailable(&error), error.is_conflict());
        match error.into_service_error() {
            TransactWriteItemsError::TransactionCanceledException(cancelled) => Ok(Transacted::Cancelled {
                reasons: cancelled.cancellation_reasons.unwrap_or_default(),
                is_conflict,
                failure,
            }),
            _ => Err(failure),
        }
    }

    /// Returns a write that updates an item.
    pub(super) fn update_write(
        &self,
        key: &Key,
        expressions: Expressions,
    ) -> Result<TransactWriteItem, Failure> {
        let update = Update::builder().table_name(&self.table).set_key(Some(key.attributes()));
        let update = conditional!(update.set_update_expression(expressions.update), expressions).build();
        Ok(TransactWriteItem::builder().update(built(update)?).build())
    }

    /// Returns a write that only checks a condition.
    pub(super) fn check_write(
        &self,
        key: &Key,
        expressions: Expressions,
    ) -> Result<TransactWriteItem, Failure> {
        let check = ConditionCheck::builder().table_name(&self.table).set_key(Some(key.attributes()));
        let check = conditional!(check, expressions).build();
        Ok(TransactWriteItem::builder().condition_check(built(check)?).build())
    }

    /// Returns a write that deletes an item.
    pub(super) fn delete_write(
        &self,
        key: &Key,
        expressions: Expressions,
    ) -> Result<TransactWriteItem, Failure> {
        let delete = Delete::builder().table_name(&self.table).set_key(Some(key.attributes()));
        let delete = conditional!(delete, expressions).build();
        Ok(TransactWriteItem::builder().delete(built(delete)?).build())
    }

    /// Returns a write that puts an item.
    pub(super) fn put_write(
        &self,
        item: Attributes,
        expressions: Expressions,
    ) -> Result<TransactWriteItem, Failure> {
        let put = Put::builder().table_name(&self.table).set_item(Some(item));
        let put = conditional!(put, expressions).build();
        Ok(TransactWriteItem::builder().put(built(put)?).build())
    }
}

/// Returns a new random request token: a UUID, like those that the SDK creates for each call without a token.
#[expect(clippy::disallowed_methods, reason = "a request token is not secret, and no result depends on it")]
fn request_token() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Failure::Internal(error.to_string().into()))?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid().hyphenated().to_string())
}

/// Returns whether another write of the items of [`Guard::Sessions`] is in progress, and no condition failed.
fn have_overlapping_sessions(guards: &[Guard], reasons: &[CancellationReason]) -> bool {
    let overlaps = |reason: &CancellationReason| reason.code() == Some("TransactionConflict");
    let mut outcomes = guards.iter().zip(reasons);
    !reasons.iter().any(is_condition_failure)
        && outcomes.any(|(guard, reason)| *guard == Guard::Sessions && overlaps(reason))
}

/// Returns whether a write failed because of its condition.
pub(super) fn is_condition_failure(reason: &CancellationReason) -> bool {
    reason.code() == Some("ConditionalCheckFailed")
}
