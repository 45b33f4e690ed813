//! Access to the DynamoDB table: single-item requests, consistent batch reads and retries.

use std::{future::Future, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    error::{BuildError, ProvideErrorMetadata, SdkError},
    operation::{transact_write_items::TransactWriteItemsError, update_item::UpdateItemError},
    types::{
        AttributeValue, CancellationReason, KeysAndAttributes, ReturnValue,
        ReturnValuesOnConditionCheckFailure,
    },
};
use backon::{ExponentialBuilder, Retryable};
use futures_util::future::BoxFuture;

use super::{item::Attributes, keys::Key};
use crate::{aws, domain::Failure};

/// Delay before the first repetition of an incomplete batch read.
const BATCH_RETRY_DELAY: Duration = Duration::from_millis(20);

/// The DynamoDB table that holds all state of Doorward.
#[derive(Debug, Clone)]
pub struct DynamoStore {
    pub(super) client: Client,
    pub(super) table: String,
}

/// Update and condition expressions of one write, with the names and values that they use.
#[derive(Debug, Clone, Default)]
pub(super) struct Expressions {
    pub(super) update: Option<String>,
    pub(super) condition: Option<String>,
    pub(super) names: Placeholders<String>,
    pub(super) values: Placeholders<AttributeValue>,
    pub(super) returns_new: bool,
    pub(super) returns_refused: bool,
}

type Placeholders<T> = std::collections::HashMap<String, T>;

impl Expressions {
    /// Creates an update without a condition.
    pub(super) fn update(update: impl Into<String>) -> Self {
        Self { update: Some(update.into()), ..Self::default() }
    }

    /// Creates the condition of a check, a put or a delete.
    pub(super) fn condition(condition: impl Into<String>) -> Self {
        Self::default().when(condition)
    }

    /// Sets the condition.
    pub(super) fn when(mut self, condition: impl Into<String>) -> Self {
        self.condition = Some(condition.into());
        self
    }

    /// Adds the attribute name behind a `#` placeholder.
    pub(super) fn name(mut self, placeholder: impl Into<String>, name: impl Into<String>) -> Self {
        self.names.insert(placeholder.into(), name.into());
        self
    }

    /// Adds the value behind a `:` placeholder.
    pub(super) fn value(mut self, placeholder: impl Into<String>, value: AttributeValue) -> Self {
        self.values.insert(placeholder.into(), value);
        self
    }

    /// Requests the new item when the update succeeds.
    pub(super) fn return_new(mut self) -> Self {
        self.returns_new = true;
        self
    }

    /// Requests the current item when the condition fails.
    pub(super) fn return_refused(mut self) -> Self {
        self.returns_refused = true;
        self
    }

    /// Returns the names and values as the SDK expects them: DynamoDB rejects empty maps.
    pub(super) fn take_maps(
        &mut self,
    ) -> (Option<Placeholders<String>>, Option<Placeholders<AttributeValue>>) {
        let (names, values) = (std::mem::take(&mut self.names), std::mem::take(&mut self.values));
        ((!names.is_empty()).then_some(names), (!values.is_empty()).then_some(values))
    }

    /// Returns the SDK option for the item of a failed condition.
    pub(super) fn on_refusal(&self) -> Option<ReturnValuesOnConditionCheckFailure> {
        self.returns_refused.then_some(ReturnValuesOnConditionCheckFailure::AllOld)
    }
}

/// Result of a conditional update.
#[derive(Debug)]
pub(super) enum Updated {
    /// The update succeeded. Holds the new item, or no attributes if it was not requested.
    Done(Attributes),
    /// The condition failed. Holds the current item if it was requested and exists.
    Refused(Option<Attributes>),
}

impl DynamoStore {
    /// Creates a store for the table `table`.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Checks that DynamoDB answers a read of the table.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn reach(&self) -> Result<(), Failure> {
        self.get(&Key::health(), None).await.map(|_| ())
    }

    /// Reads one item. `consistent` is the SDK option.
    pub(super) async fn get(
        &self,
        key: &Key,
        consistent: Option<bool>,
    ) -> Result<Option<Attributes>, Failure> {
        let request = self.client.get_item().table_name(&self.table).set_key(Some(key.attributes()));
        let output = request.set_consistent_read(consistent).send().await;
        output.map(|output| output.item).map_err(|error| unavailable(&error))
    }

    /// Deletes one item, if it exists.
    pub(super) async fn delete(&self, key: Attributes) -> Result<(), Failure> {
        let deleted = self.client.delete_item().table_name(&self.table).set_key(Some(key)).send().await;
        deleted.map(|_| ()).map_err(|error| unavailable(&error))
    }

    /// Updates one item. Retries while another write of the item is in progress.
    ///
    /// The future is boxed because the SDK's request types are nested deeply.
    pub(super) fn update(
        &self,
        key: &Key,
        mut expressions: Expressions,
    ) -> BoxFuture<'_, Result<Updated, Failure>> {
        let (names, values) = expressions.take_maps();
        let on_refusal = expressions.on_refusal();
        let request = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key.attributes()))
            .set_update_expression(expressions.update)
            .set_condition_expression(expressions.condition)
            .set_expression_attribute_names(names)
            .set_expression_attribute_values(values)
            .set_return_values(expressions.returns_new.then_some(ReturnValue::AllNew))
            .set_return_values_on_condition_check_failure(on_refusal);
        Box::pin(async move {
            match retried(|| request.clone().send()).await {
                Ok(output) => Ok(Updated::Done(output.attributes.unwrap_or_default())),
                Err(error) => match error.as_service_error() {
                    Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                        Ok(Updated::Refused(refused.item.clone()))
                    }
                    _ => Err(unavailable(&error)),
                },
            }
        })
    }

    /// Reads the items of a fixed number of keys with [`Self::read_all`]. The results have the order of the keys.
    pub(super) async fn read_each<const N: usize>(
        &self,
        keys: [Key; N],
    ) -> Result<[Option<Attributes>; N], Failure> {
        let items = self.read_all(&keys).await?;
        items
            .try_into()
            .map_err(|_| Failure::Internal("a batch read returned another number of items".into()))
    }

    /// Reads the items of `keys` in one consistent batch, in the order of `keys`. Repeats the batch up to twice
    /// when DynamoDB leaves keys unprocessed.
    pub(super) async fn read_all(&self, keys: &[Key]) -> Result<Vec<Option<Attributes>>, Failure> {
        let wanted = KeysAndAttributes::builder()
            .set_keys(Some(keys.iter().map(Key::attributes).collect()))
            .consistent_read(true)
            .build();
        let request = self.client.batch_get_item().request_items(&self.table, built(wanted)?);
        let read = || async {
            let output =
                request.clone().send().await.map_err(|error| BatchFault::Failed(unavailable(&error)))?;
            if output.unprocessed_keys.is_some_and(|keys| !keys.is_empty()) {
                return Err(BatchFault::Incomplete);
            }
            Ok(output.responses.and_then(|mut tables| tables.remove(&self.table)).unwrap_or_default())
        };
        let backoff =
            ExponentialBuilder::default().with_jitter().with_max_times(2).with_min_delay(BATCH_RETRY_DELAY);
        let read = read.retry(backoff).when(|fault| matches!(fault, BatchFault::Incomplete));
        let mut found = read.await.map_err(|fault| match fault {
            BatchFault::Failed(failure) => failure,
            BatchFault::Incomplete => {
                Failure::Unavailable("DynamoDB did not process all keys of a batch read".into())
            }
        })?;
        let mut take = |key: &Key| {
            let wanted = key.attributes();
            let matches =
                |item: &Attributes| wanted.iter().all(|(name, value)| item.get(name) == Some(value));
            found.iter().position(matches).map(|index| found.swap_remove(index))
        };
        Ok(keys.iter().map(&mut take).collect())
    }
}

/// Reason why a batch read failed.
enum BatchFault {
    /// DynamoDB returned unprocessed keys.
    Incomplete,
    Failed(Failure),
}

/// Error of a write that may be a conflict. A conflict is temporary: DynamoDB throttled the write, or another write
/// of the item was in progress. The write had no effect.
///
/// If DynamoDB reports that the same transaction is still in progress, the SDK itself retries it with the same
/// request token.
pub(super) trait Conflict {
    /// Returns whether the error is a conflict.
    fn is_conflict(&self) -> bool;
}

impl<R> Conflict for SdkError<UpdateItemError, R> {
    fn is_conflict(&self) -> bool {
        self.as_service_error().and_then(ProvideErrorMetadata::code) == Some("TransactionConflictException")
    }
}

impl<R> Conflict for SdkError<TransactWriteItemsError, R> {
    fn is_conflict(&self) -> bool {
        let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = self.as_service_error()
        else {
            return false;
        };
        let mut codes = cancelled.cancellation_reasons().iter().filter_map(CancellationReason::code);
        let is_temporary = |code: &str| {
            matches!(code, "TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded")
        };
        // A failed condition is a result, not a conflict.
        codes.clone().any(is_temporary) && !codes.any(|code| code == "ConditionalCheckFailed")
    }
}

/// Repeats `write` while it reports a conflict: up to 7 attempts within about 600 ms, with jitter.
pub(super) async fn retried<T, E, F>(write: impl FnMut() -> F) -> Result<T, E>
where
    E: Conflict,
    F: Future<Output = Result<T, E>>,
{
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(5))
        .with_max_delay(Duration::from_millis(200))
        .with_max_times(6)
        .with_jitter();
    write.retry(backoff).when(Conflict::is_conflict).await
}

/// Converts the result of an SDK builder.
pub(super) fn built<T>(result: Result<T, BuildError>) -> Result<T, Failure> {
    result.map_err(|error| Failure::Internal(Box::new(error)))
}

/// Converts a DynamoDB error into a failure.
pub(super) fn unavailable<E, R>(error: &SdkError<E, R>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    aws::unavailable("DynamoDB", error)
}
