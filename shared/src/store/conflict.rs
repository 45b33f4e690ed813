//! Writes that DynamoDB refuses: tried again when another was under way, an answer when their
//! condition failed.

use std::{future::Future, time::Duration};

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    operation::{transact_write_items::TransactWriteItemsError, update_item::UpdateItemError},
};
use backon::{ExponentialBuilder, Retryable};

use super::item::unavailable;
use crate::domain::Failure;

/// Whether an error says that nothing happened because another write was under way. (A transaction
/// still in progress is tried again by the SDK itself, with the same request token.)
pub(super) trait Conflict {
    fn is_conflict(&self) -> bool;
}

impl<R> Conflict for SdkError<UpdateItemError, R> {
    fn is_conflict(&self) -> bool {
        self.as_service_error().and_then(ProvideErrorMetadata::code) == Some("TransactionConflictException")
    }
}

impl<R> Conflict for SdkError<TransactWriteItemsError, R> {
    fn is_conflict(&self) -> bool {
        match self.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                let mut codes = cancelled.cancellation_reasons().iter().filter_map(|reason| reason.code());
                let passing = |code: &str| {
                    matches!(
                        code,
                        "TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded"
                    )
                };
                // A failed condition is an answer, not a conflict.
                codes.clone().any(passing) && !codes.any(|code| code == "ConditionalCheckFailed")
            }
            _ => false,
        }
    }
}

/// Tries `write` until it is not in conflict, seven times at most over some 600 ms, with jitter.
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

/// Nothing, for a condition that failed; anything else is a failure.
pub(super) fn only_refused<R: std::fmt::Debug>(error: &SdkError<UpdateItemError, R>) -> Result<(), Failure> {
    match error.as_service_error() {
        Some(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(()),
        _ => Err(unavailable(error)),
    }
}
