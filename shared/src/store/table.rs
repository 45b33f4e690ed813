//! Access to the DynamoDB table: single-item requests, consistent batch reads and retries.

use std::{collections::HashMap, future::Future, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    error::{BuildError, ProvideErrorMetadata, SdkError},
    operation::{
        query::builders::QueryFluentBuilder, transact_write_items::TransactWriteItemsError,
        update_item::UpdateItemError,
    },
    types::{
        AttributeValue, CancellationReason, KeysAndAttributes, ReturnValue,
        ReturnValuesOnConditionCheckFailure,
    },
};
use backon::{ExponentialBuilder, Retryable};
use futures_util::future::BoxFuture;

use super::{
    item::{Attributes, number, string},
    keys::Key,
};
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
///
/// Names and values are `None` while they are empty, because DynamoDB rejects empty maps.
#[derive(Debug, Clone, Default)]
pub(super) struct Expressions {
    pub(super) update: Option<String>,
    pub(super) condition: Option<String>,
    pub(super) names: Option<HashMap<String, String>>,
    pub(super) values: Option<Attributes>,
    pub(super) on_success: Option<ReturnValue>,
    pub(super) on_refusal: Option<ReturnValuesOnConditionCheckFailure>,
}

impl Expressions {
    /// Creates an update without a condition.
    pub(super) fn update(update: impl Into<String>) -> Self {
        Self { update: Some(update.into()), ..Self::default() }
    }

    /// Creates the condition of a check, a put or a delete.
    pub(super) fn condition(condition: impl Into<String>) -> Self {
        Self::default().when(condition)
    }

    /// Creates the condition that no item has the key.
    pub(super) fn absent() -> Self {
        Self::condition("attribute_not_exists(pk)")
    }

    /// Adds a condition. If there are several, a condition that contains `OR` needs parentheses.
    pub(super) fn when(mut self, condition: impl Into<String>) -> Self {
        let condition = condition.into();
        self.condition = Some(match self.condition {
            Some(others) => format!("{others} AND {condition}"),
            None => condition,
        });
        self
    }

    /// Adds the condition that a counter has not changed since it was read as `read`. A counter that an item does not
    /// have counts as 0.
    pub(super) fn when_unchanged(self, counter: &str, read: u64) -> Self {
        let same = format!("{counter} = :read");
        let condition = if read == 0 { format!("(attribute_not_exists({counter}) OR {same})") } else { same };
        self.when(condition).value(":read", number(read))
    }

    /// Adds the attribute name behind a `#` placeholder.
    pub(super) fn name(self, placeholder: impl Into<String>, name: impl Into<String>) -> Self {
        self.names([(placeholder.into(), name.into())])
    }

    /// Adds attribute names by their `#` placeholders.
    pub(super) fn names(mut self, names: impl IntoIterator<Item = (String, String)>) -> Self {
        for (placeholder, name) in names {
            self.names.get_or_insert_default().insert(placeholder, name);
        }
        self
    }

    /// Adds the value behind a `:` placeholder.
    pub(super) fn value(mut self, placeholder: impl Into<String>, value: AttributeValue) -> Self {
        self.values.get_or_insert_default().insert(placeholder.into(), value);
        self
    }

    /// Requests the new item when the update succeeds.
    pub(super) fn return_new(self) -> Self {
        Self { on_success: Some(ReturnValue::AllNew), ..self }
    }

    /// Requests the new values of the updated attributes when the update succeeds.
    pub(super) fn return_updated(self) -> Self {
        Self { on_success: Some(ReturnValue::UpdatedNew), ..self }
    }

    /// Requests the current item when the condition fails.
    pub(super) fn return_refused(self) -> Self {
        Self { on_refusal: Some(ReturnValuesOnConditionCheckFailure::AllOld), ..self }
    }
}

/// Sets the condition of a write, which the builders of the SDK have in common but share no trait for.
macro_rules! conditional {
    ($builder:expr, $expressions:expr) => {
        $builder
            .set_condition_expression($expressions.condition)
            .set_expression_attribute_names($expressions.names)
            .set_expression_attribute_values($expressions.values)
            .set_return_values_on_condition_check_failure($expressions.on_refusal)
    };
}
pub(super) use conditional;

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
        expressions: Expressions,
    ) -> BoxFuture<'_, Result<Updated, Failure>> {
        let request = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key.attributes()))
            .set_update_expression(expressions.update)
            .set_return_values(expressions.on_success);
        let request = conditional!(request, expressions);
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

    /// Returns a consistent query for the items of a partition whose sort keys begin with `prefix`.
    pub(super) fn query(&self, partition: impl Into<String>, prefix: &str) -> QueryFluentBuilder {
        self.partition_query(partition)
            .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
            .expression_attribute_values(":prefix", string(prefix))
    }

    /// Returns a consistent query for all items of a partition.
    pub(super) fn partition_query(&self, partition: impl Into<String>) -> QueryFluentBuilder {
        self.client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", string(partition))
            .consistent_read(true)
    }

    /// Reads one item for each key, in their order, in one consistent batch. Reads nothing for `None`.
    pub(super) async fn read_each<const N: usize>(
        &self,
        keys: [Option<Key>; N],
    ) -> Result<[Option<Attributes>; N], Failure> {
        let wanted: Vec<_> = keys.iter().flatten().cloned().collect();
        let mut items = self.read_all(&wanted).await?.into_iter();
        Ok(keys.map(|key| key.and_then(|_| items.next().flatten())))
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
        let mut codes = reasons_of(self).iter().filter_map(CancellationReason::code);
        let is_temporary = |code: &str| {
            matches!(code, "TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded")
        };
        // A failed condition is a result, not a conflict.
        codes.clone().any(is_temporary) && !codes.any(|code| code == "ConditionalCheckFailed")
    }
}

/// Returns the reasons of a cancelled transaction; none for other errors.
pub(super) fn reasons_of<R>(error: &SdkError<TransactWriteItemsError, R>) -> &[CancellationReason] {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
            cancelled.cancellation_reasons()
        }
        _ => &[],
    }
}

/// Repeats `write` while it reports a conflict ([`retried_while`]).
pub(super) async fn retried<T, E, F>(write: impl FnMut() -> F) -> Result<T, E>
where
    E: Conflict,
    F: Future<Output = Result<T, E>>,
{
    retried_while(write, Conflict::is_conflict).await
}

/// Repeats `write` while its error is temporary: up to 13 attempts within about 4 s, with jitter.
///
/// Fifty parallel transactions on one item need this long, because DynamoDB processes them one after the other
/// and refuses those that overlap.
pub(super) async fn retried_while<T, E, F>(
    write: impl FnMut() -> F,
    is_temporary: impl FnMut(&E) -> bool,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(10))
        .with_max_delay(Duration::from_millis(300))
        .with_max_times(12)
        .with_jitter();
    write.retry(backoff).when(is_temporary).await
}

/// Reads and decodes all items of a query.
pub(super) async fn query_all<T>(
    query: QueryFluentBuilder,
    decode: impl FnMut(Attributes) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let items: Result<Vec<_>, _> = query.into_paginator().items().send().try_collect().await;
    items.map_err(|error| unavailable(&error))?.into_iter().map(decode).collect()
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
