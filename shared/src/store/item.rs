//! How values look in an item: times as epoch milliseconds, the TTL attribute alone in seconds.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    error::{ProvideErrorMetadata, SdkError},
    types::AttributeValue,
};
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use super::keys::Key;
use crate::{
    aws,
    domain::{AttemptId, Failure},
};

/// An item's attributes.
pub(super) type Attributes = HashMap<String, AttributeValue>;

/// An item of `key` with the fields of `value`.
pub(super) fn encode(key: &Key, value: &impl Serialize) -> Result<Attributes, Failure> {
    let mut attributes: Attributes =
        serde_dynamo::to_item(value).map_err(|error| Failure::Internal(Box::new(error)))?;
    attributes.extend(key.attributes());
    Ok(attributes)
}

/// The fields of an item.
pub(super) fn decode<T: DeserializeOwned>(attributes: Attributes) -> Result<T, Failure> {
    // The error would quote the value that does not fit: only the fact is passed on.
    serde_dynamo::from_item(attributes).map_err(|_| corrupt(std::any::type_name::<T>()))
}

/// An item that is not as this version writes it.
pub(super) fn corrupt(what: &str) -> Failure {
    Failure::Internal(format!("a stored item is not a valid {what}").into())
}

/// A string value.
pub(super) fn string(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// A number value.
pub(super) fn number(number: impl std::fmt::Display) -> AttributeValue {
    AttributeValue::N(format!("{number}"))
}

/// A set of attempts.
pub(super) fn id_set(ids: impl IntoIterator<Item = AttemptId>) -> AttributeValue {
    AttributeValue::Ss(ids.into_iter().map(|id| id.to_string()).collect())
}

/// An instant.
pub(super) fn instant(at: Timestamp) -> AttributeValue {
    number(at.as_millisecond())
}

/// A TTL: never before `at`, in seconds.
pub(super) fn ttl_seconds(at: Timestamp) -> i64 {
    at.as_second().saturating_add(1)
}

/// An instant as an item keeps it.
pub(super) fn to_instant(millis: i64) -> Result<Timestamp, Failure> {
    Timestamp::from_millisecond(millis).map_err(|_| corrupt("instant"))
}

/// The failure that an error of DynamoDB is.
pub(super) fn unavailable<E, R>(error: &SdkError<E, R>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    aws::unavailable("DynamoDB", error)
}
