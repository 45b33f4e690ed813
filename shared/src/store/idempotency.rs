//! Stored results of requests with an `Idempotency-Key` (docs/design/contract.md#every-request).
//!
//! A result is written in the same transaction as the change that it describes, on the condition that the key has no
//! result. Of several concurrent requests, exactly one succeeds, and each success has a stored result.

use aws_sdk_dynamodb::types::TransactWriteItem;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    DynamoStore,
    item::{Attributes, decode, encode, instant, number, ttl_seconds},
    keys::{Key, ResultKey},
    table::Expressions,
};
use crate::domain::{Failure, SessionId, UserDetails, UserId};

/// Result of a successful request with an `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredResult {
    /// Keyed hash of the request.
    pub fingerprint: String,
    /// Root key version of that hash.
    pub key_version: u32,
    /// Outcome to replay.
    pub success: Success,
    /// Expiry.
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub ends_at: Timestamp,
}

/// Outcome that can be replayed. It contains no token and no code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Success {
    /// A login.
    Session {
        /// Session ID.
        #[serde(rename = "session_id")]
        id: SessionId,
        /// Session epoch of the user at the login.
        user_epoch: u64,
    },
    /// A login reset.
    LoginReset {
        /// Session of the caller. `None` if an API client made the request.
        #[serde(rename = "session_id", default, skip_serializing_if = "Option::is_none")]
        by: Option<SessionId>,
    },
    /// A code was sent.
    CodeSent {
        /// Returned details of the user. `None` if the tenant made the request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<UserDetails>,
        /// Time of the request.
        #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
        asked_at: Timestamp,
    },
    /// A user was created.
    UserCreated {
        /// User ID.
        #[serde(rename = "user_id")]
        user: UserId,
        /// Returned details of the user.
        details: UserDetails,
    },
    /// A code was returned. It cannot be replayed, because codes are not stored.
    CodeReturned,
}

/// Result to store.
#[derive(Debug, Clone)]
pub struct NewStoredResult {
    /// Key. It must have no result, or an expired one.
    pub key: ResultKey,
    /// The result.
    pub result: StoredResult,
    /// Current time.
    pub now: Timestamp,
}

/// Encodes a stored result with its key.
fn result_item(key: &ResultKey, result: &StoredResult) -> Result<Attributes, Failure> {
    let mut item = encode(&Key::result(key), result)?;
    item.insert("expires_at".to_owned(), number(ttl_seconds(result.ends_at)));
    Ok(item)
}

/// Decodes a stored result.
pub(super) fn to_stored_result(attributes: Attributes) -> Result<StoredResult, Failure> {
    decode(attributes)
}

impl DynamoStore {
    /// Returns a write that stores a result. It replaces an expired result that DynamoDB has not deleted yet.
    pub(super) fn put_result(&self, new: &NewStoredResult) -> Result<TransactWriteItem, Failure> {
        let NewStoredResult { key, result, now } = new;
        let condition = Expressions::condition("attribute_not_exists(pk) OR ends_at <= :now")
            .value(":now", instant(*now));
        self.put_write(result_item(key, result)?, condition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{OrganizationId, TenantId};

    #[test]
    fn every_success_survives_storage() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let key = ResultKey { tenant: TenantId::parse("t").unwrap(), digest: "d".to_owned() };
        let session = || SessionId::parse("s").unwrap();
        let details = UserDetails {
            sequence: u64::from(u32::MAX) + 7,
            changed_at: at(5),
            created_at: at(3),
            organization: OrganizationId::parse("o").unwrap(),
        };
        for success in [
            Success::Session { id: session(), user_epoch: 7 },
            Success::LoginReset { by: Some(session()) },
            Success::LoginReset { by: None },
            Success::UserCreated { user: UserId::parse("u").unwrap(), details: details.clone() },
            Success::CodeSent { details: Some(details), asked_at: at(9) },
            Success::CodeSent { details: None, asked_at: at(9) },
            Success::CodeReturned,
        ] {
            let result = StoredResult { fingerprint: "f".into(), key_version: 3, success, ends_at: at(60) };
            let item = result_item(&key, &result).unwrap();
            assert_eq!((&item["ends_at"], &item["expires_at"]), (&number(60_000), &number(61)));
            assert_eq!(to_stored_result(item).unwrap(), result);
        }
    }
}
