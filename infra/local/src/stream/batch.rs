//! Batches of stream records in the format of a Lambda event, and the response to a batch.

use std::collections::VecDeque;

use aws_sdk_dynamodbstreams::{
    primitives::DateTime,
    types::{AttributeValue, OperationType, Record, StreamRecord, StreamViewType},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Stream;

#[derive(Default)]
pub(super) struct Batch {
    pub(super) items: VecDeque<Item>,
    /// Number of failures of the first record.
    pub(super) failures: u32,
    /// Error of the last invocation.
    pub(super) reason: String,
}

impl Batch {
    pub(super) fn new(items: VecDeque<Item>) -> Self {
        Self { items, ..Self::default() }
    }
}

/// Result of a failed invocation.
pub(super) enum Failed {
    /// The function did not receive the batch.
    Unreachable(String),
    All(String),
    /// Records before this index are handled.
    From(usize),
}

/// Record in the format of a Lambda event.
pub(super) struct Item {
    pub(super) event: Value,
    pub(super) sequence_number: String,
    /// Epoch seconds.
    pub(super) created: i64,
}

impl Item {
    /// Converts a record. Returns `None` without a sequence number, which every record has.
    pub(super) fn new(record: Record, stream: &Stream) -> Option<Self> {
        let Record { event_id, event_name, event_version, event_source, aws_region, dynamodb, .. } = record;
        let StreamRecord {
            approximate_creation_date_time: created,
            keys,
            sequence_number,
            size_bytes,
            stream_view_type,
            ..
        } = dynamodb?;
        let sequence_number = sequence_number?;
        let keys = keys.unwrap_or_default();
        let keys: serde_json::Map<_, _> =
            keys.into_iter().filter_map(|(name, value)| Some((name, key_value(&value)?))).collect();
        let created = created.as_ref().map_or(0, DateTime::secs);
        let event = json!({
            "eventID": event_id,
            "eventName": event_name.as_ref().map(OperationType::as_str),
            "eventVersion": event_version,
            "eventSource": event_source,
            "eventSourceARN": stream.arn,
            "awsRegion": aws_region,
            "dynamodb": {
                "ApproximateCreationDateTime": created,
                "Keys": keys,
                "SequenceNumber": sequence_number,
                "SizeBytes": size_bytes,
                "StreamViewType": stream_view_type.as_ref().map(StreamViewType::as_str),
            },
        });
        Some(Self { event, sequence_number, created })
    }

    pub(super) fn key(&self, name: &str) -> String {
        let key = self.event.pointer(&format!("/dynamodb/Keys/{name}/S"));
        key.and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

/// Value of a key attribute. Keys have no other types.
pub(super) fn key_value(value: &AttributeValue) -> Option<Value> {
    match value {
        AttributeValue::S(text) => Some(json!({ "S": text })),
        AttributeValue::N(number) => Some(json!({ "N": number })),
        AttributeValue::B(bytes) => Some(json!({ "B": STANDARD.encode(bytes) })),
        _ => None,
    }
}

/// Parses the sequence numbers of failed records from a response, by the rules of Lambda. An empty
/// response, `null` and an empty list mean success. An entry without a number invalidates the response.
pub(super) fn failed_items(answer: &[u8]) -> serde_json::Result<Vec<String>> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        batch_item_failures: Option<Vec<Failure>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Failure {
        item_identifier: String,
    }
    if answer.is_empty() {
        return Ok(Vec::new());
    }
    let answer: Option<Answer> = serde_json::from_slice(answer)?;
    let failures = answer.and_then(|answer| answer.batch_item_failures).unwrap_or_default();
    Ok(failures.into_iter().map(|failure| failure.item_identifier).collect())
}
