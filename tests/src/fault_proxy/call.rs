//! Calls of the SDK: operation, keys and body of a request.

use std::fmt;

use bytes::Bytes;
use http::request::Parts;
use serde_json::Value;
use strum::EnumString;

use super::condition;

/// Operation of DynamoDB or Secrets Manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString)]
pub enum Operation {
    BatchGetItem,
    BatchWriteItem,
    DeleteItem,
    DescribeSecret,
    GetItem,
    GetSecretValue,
    PutItem,
    PutSecretValue,
    Query,
    TransactGetItems,
    TransactWriteItems,
    UpdateItem,
    UpdateSecretVersionStage,
    /// An operation that faults cannot name.
    Other,
}

impl Operation {
    /// Returns whether the operation changes items or secrets.
    pub(super) fn is_write(self) -> bool {
        self.is_plain_write()
            || matches!(
                self,
                Self::TransactWriteItems | Self::PutSecretValue | Self::UpdateSecretVersionStage
            )
    }

    /// Returns whether the operation writes items without a transaction.
    pub(super) fn is_plain_write(self) -> bool {
        matches!(self, Self::BatchWriteItem | Self::DeleteItem | Self::PutItem | Self::UpdateItem)
    }

    /// Returns whether the operation reads a secret or its versions.
    pub(super) fn is_secret_read(self) -> bool {
        matches!(self, Self::DescribeSecret | Self::GetSecretValue)
    }

    /// Returns whether the operation is a transaction.
    pub(super) fn is_transaction(self) -> bool {
        matches!(self, Self::TransactGetItems | Self::TransactWriteItems)
    }
}

/// Primary key of an item, or the ID of a secret with an empty sort key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ItemKey {
    pub pk: String,
    pub sk: String,
}

impl ItemKey {
    /// Reads the key of an item or of a `Key` member.
    pub(super) fn of(attributes: &Value) -> Self {
        let text = |name: &str| attributes[name]["S"].as_str().unwrap_or_default().to_owned();
        Self { pk: text("pk"), sk: text("sk") }
    }
}

impl fmt::Display for ItemKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pk, self.sk)
    }
}

/// One HTTP request of the SDK.
pub(super) struct Call {
    pub(super) operation: Operation,
    /// The items in the order of the request. A query has one, with an empty sort key.
    pub(super) keys: Vec<ItemKey>,
    pub(super) json: Value,
    pub(super) head: Parts,
    pub(super) body: Bytes,
    /// Whether a clause of a condition was dropped.
    pub(super) is_weakened: bool,
}

impl Call {
    /// Reads a request of the test `test`.
    pub(super) fn new(test: &str, head: Parts, mut body: Bytes) -> Self {
        let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
        let name = target.and_then(|target| target.rsplit('.').next()).unwrap_or_default();
        let operation = name.parse().unwrap_or(Operation::Other);
        let mut json: Value = serde_json::from_slice(&body).unwrap_or_default();
        let is_weakened = condition::apply(test, operation, &mut json);
        if is_weakened {
            body = json.to_string().into();
        }
        let keys = keys(operation, &json);
        Self { operation, keys, json, head, body, is_weakened }
    }

    /// Client request token of a transaction.
    pub(super) fn token(&self) -> Option<&str> {
        self.json["ClientRequestToken"].as_str()
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.keys.iter().map(ToString::to_string).collect();
        write!(f, "{:?} [{}]", self.operation, keys.join(", "))
    }
}

fn keys(operation: Operation, json: &Value) -> Vec<ItemKey> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let tables = || json["RequestItems"].as_object().into_iter().flat_map(serde_json::Map::values);
    match operation {
        Operation::PutItem => vec![ItemKey::of(&json["Item"])],
        Operation::DeleteItem | Operation::GetItem | Operation::UpdateItem => vec![ItemKey::of(&json["Key"])],
        Operation::BatchGetItem => {
            tables().flat_map(|table| list(&table["Keys"])).map(|key| ItemKey::of(&key)).collect()
        }
        Operation::BatchWriteItem => tables().flat_map(list).map(|entry| action_key(&entry)).collect(),
        Operation::TransactGetItems | Operation::TransactWriteItems => {
            list(&json["TransactItems"]).iter().map(action_key).collect()
        }
        Operation::Query => vec![ItemKey { pk: partition(json), sk: String::new() }],
        _ => {
            let secret = json["SecretId"].as_str();
            secret.map(|id| ItemKey { pk: id.to_owned(), sk: String::new() }).into_iter().collect()
        }
    }
}

/// Reads the key of one action of a transaction or of a batch write, such as `{"Put": {"Item": …}}`.
pub(super) fn action_key(entry: &Value) -> ItemKey {
    let action = entry.as_object().and_then(|entry| entry.values().next()).unwrap_or(&Value::Null);
    ItemKey::of(action.get("Item").or_else(|| action.get("Key")).unwrap_or(&Value::Null))
}

/// Reads the partition key of a query, whose condition begins with `pk = :placeholder`.
fn partition(json: &Value) -> String {
    let condition = json["KeyConditionExpression"].as_str().unwrap_or_default();
    let mut words = condition.split_whitespace().skip_while(|word| *word != "pk").skip(2);
    let value = words.next().map(|placeholder| &json["ExpressionAttributeValues"][placeholder]["S"]);
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}
