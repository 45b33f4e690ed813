//! Encoding of values in items. Times are epoch milliseconds, except the TTL attribute, which is in seconds.

use std::{
    collections::{BTreeSet, HashMap},
    str::FromStr,
    time::Duration,
};

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use super::keys::Key;
use crate::domain::{AttemptId, Failure, after};

/// Attributes of an item.
pub(super) type Attributes = HashMap<String, AttributeValue>;

/// Encodes an item with the key `key` and the fields of `value`. Fields that are `None` are not stored.
pub(super) fn encode(key: &Key, value: &impl Serialize) -> Result<Attributes, Failure> {
    let mut attributes: Attributes =
        serde_dynamo::to_item(value).map_err(|error| Failure::Internal(Box::new(error)))?;
    attributes.retain(|_, value| !value.is_null());
    attributes.extend(key.attributes());
    Ok(attributes)
}

/// Decodes the fields of an item.
pub(super) fn decode<T: DeserializeOwned>(attributes: Attributes) -> Result<T, Failure> {
    // The SDK error contains the invalid value, which may be secret. It is not passed on.
    serde_dynamo::from_item(attributes).map_err(|_| corrupt(std::any::type_name::<T>()))
}

/// Returns the failure for an item that this version cannot decode.
pub(super) fn corrupt(what: &str) -> Failure {
    Failure::Internal(format!("a stored item is not a valid {what}").into())
}

/// Encodes a string.
pub(super) fn string(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// Encodes a number.
pub(super) fn number(number: impl std::fmt::Display) -> AttributeValue {
    AttributeValue::N(format!("{number}"))
}

/// Encodes a set of attempt IDs.
pub(super) fn id_set(ids: impl IntoIterator<Item = AttemptId>) -> AttributeValue {
    AttributeValue::Ss(ids.into_iter().map(|id| id.to_string()).collect())
}

/// Encodes a time.
pub(super) fn instant(at: Timestamp) -> AttributeValue {
    number(at.as_millisecond())
}

/// Returns the size of an item in bytes: the bytes of its names and values. DynamoDB adds at most 3 bytes for each map or
/// list, and 1 byte for each of their members, which are not counted.
pub(super) fn size(item: &Attributes) -> usize {
    item.iter().map(|(name, value)| name.len() + value_size(value)).sum()
}

fn value_size(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text.len(),
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::Ss(texts) | AttributeValue::Ns(texts) => texts.iter().map(String::len).sum(),
        AttributeValue::L(values) => values.iter().map(value_size).sum(),
        AttributeValue::M(members) => size(members),
        _ => 1,
    }
}

/// Returns a TTL in epoch seconds, rounded up so that the item never expires before `at`.
pub(super) fn ttl_seconds(at: Timestamp) -> i64 {
    at.as_second().saturating_add(1)
}

/// Returns the TTL of an item that is kept for `duration`.
pub(super) fn ttl_after(at: Timestamp, duration: Duration) -> i64 {
    ttl_seconds(after(at, duration))
}

/// Decodes a time.
pub(super) fn to_instant(millis: i64) -> Result<Timestamp, Failure> {
    Timestamp::from_millisecond(millis).map_err(|_| corrupt("instant"))
}

/// Returns a string attribute, or `None` if the item has none.
pub(super) fn text<'a>(item: &'a Attributes, name: &str) -> Option<&'a str> {
    item.get(name).and_then(|value| value.as_s().ok()).map(String::as_str)
}

/// Decodes a number attribute. Returns `None` if the item does not have the attribute.
pub(super) fn to_number<N: FromStr>(item: &Attributes, name: &str) -> Result<Option<N>, Failure> {
    let digits = item.get(name).map(|value| value.as_n().map_err(|_| corrupt("number"))).transpose()?;
    digits.map(|digits| digits.parse().map_err(|_| corrupt("number"))).transpose()
}

/// Decodes a set of attempt IDs. DynamoDB stores no empty sets, so that an absent attribute is an empty set.
pub(super) fn to_id_set(item: &Attributes, name: &str) -> Result<BTreeSet<AttemptId>, Failure> {
    match item.get(name) {
        None => Ok(BTreeSet::new()),
        Some(AttributeValue::Ss(ids)) => {
            ids.iter().map(|id| AttemptId::parse(id).map_err(|_| corrupt("attempt ID"))).collect()
        }
        Some(_) => Err(corrupt("set of attempt IDs")),
    }
}
