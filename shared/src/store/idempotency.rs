//! Stored results of requests with an `Idempotency-Key` (docs/design/contract.md#every-request).
//!
//! A result is written in the same transaction as the change that it describes, on the condition that the key has no
//! result. Of several concurrent requests, exactly one succeeds, and each success has a stored result.

use aws_sdk_dynamodb::types::TransactWriteItem;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    DynamoStore,
    item::{Attributes, decode, encode, instant, to_instant, ttl_seconds},
    keys::{Key, ResultKey},
    table::Expressions,
};
use crate::domain::{Failure, OrganizationId, SessionId, UserDetails};

/// Result of a successful request with an `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResult {
    /// Keyed hash of the request.
    pub fingerprint: String,
    /// Root key version of that hash.
    pub key_version: u32,
    /// Outcome to replay.
    pub success: Success,
    /// Expiry.
    pub ends_at: Timestamp,
}

/// Outcome that can be replayed. It contains no token and no code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Success {
    /// A login.
    Session {
        /// Session ID.
        id: SessionId,
        /// Session epoch of the user at the login.
        user_epoch: u64,
    },
    /// A login reset by the caller of this session.
    LoginReset(SessionId),
    /// A code was sent.
    CodeSent {
        /// Returned details of the user. `None` if the tenant made the request.
        details: Option<UserDetails>,
        /// Time of the request.
        asked_at: Timestamp,
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

#[derive(Serialize, Deserialize)]
struct ResultItem {
    fingerprint: String,
    key_version: u32,
    success: SuccessItem,
    ends_at: i64,
    /// TTL, in seconds.
    expires_at: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "SCREAMING_SNAKE_CASE")]
enum SuccessItem {
    Session {
        session_id: SessionId,
        user_epoch: u64,
    },
    LoginReset {
        session_id: SessionId,
    },
    CodeSent {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<DetailsItem>,
        asked_at: i64,
    },
    CodeReturned,
}

#[derive(Serialize, Deserialize)]
struct DetailsItem {
    change_sequence: u64,
    changed_at: i64,
    created_at: i64,
    organization_id: OrganizationId,
}

impl From<&Success> for SuccessItem {
    fn from(success: &Success) -> Self {
        match success.clone() {
            Success::Session { id, user_epoch } => Self::Session { session_id: id, user_epoch },
            Success::LoginReset(by) => Self::LoginReset { session_id: by },
            Success::CodeSent { details, asked_at } => Self::CodeSent {
                details: details.map(|UserDetails { sequence, changed_at, created_at, organization }| {
                    DetailsItem {
                        change_sequence: sequence,
                        changed_at: changed_at.as_millisecond(),
                        created_at: created_at.as_millisecond(),
                        organization_id: organization,
                    }
                }),
                asked_at: asked_at.as_millisecond(),
            },
            Success::CodeReturned => Self::CodeReturned,
        }
    }
}

impl TryFrom<SuccessItem> for Success {
    type Error = Failure;

    fn try_from(item: SuccessItem) -> Result<Self, Failure> {
        Ok(match item {
            SuccessItem::Session { session_id, user_epoch } => Self::Session { id: session_id, user_epoch },
            SuccessItem::LoginReset { session_id } => Self::LoginReset(session_id),
            SuccessItem::CodeSent { details, asked_at } => {
                let details = details.map(|item| {
                    Ok::<_, Failure>(UserDetails {
                        sequence: item.change_sequence,
                        changed_at: to_instant(item.changed_at)?,
                        created_at: to_instant(item.created_at)?,
                        organization: item.organization_id,
                    })
                });
                Self::CodeSent { details: details.transpose()?, asked_at: to_instant(asked_at)? }
            }
            SuccessItem::CodeReturned => Self::CodeReturned,
        })
    }
}

impl From<&StoredResult> for ResultItem {
    fn from(result: &StoredResult) -> Self {
        let StoredResult { fingerprint, key_version, success, ends_at } = result;
        Self {
            fingerprint: fingerprint.clone(),
            key_version: *key_version,
            success: success.into(),
            ends_at: ends_at.as_millisecond(),
            expires_at: ttl_seconds(*ends_at),
        }
    }
}

/// Decodes a stored result.
pub(super) fn to_stored_result(attributes: Attributes) -> Result<StoredResult, Failure> {
    let ResultItem { fingerprint, key_version, success, ends_at, expires_at: _ } = decode(attributes)?;
    Ok(StoredResult { fingerprint, key_version, success: success.try_into()?, ends_at: to_instant(ends_at)? })
}

impl DynamoStore {
    /// Returns a write that stores a result. It replaces an expired result that DynamoDB has not deleted yet.
    pub(super) fn put_result(&self, new: &NewStoredResult) -> Result<TransactWriteItem, Failure> {
        let NewStoredResult { key, result, now } = new;
        let item = encode(&Key::result(key), &ResultItem::from(result))?;
        let condition = Expressions::condition("attribute_not_exists(pk) OR ends_at <= :now")
            .value(":now", instant(*now));
        self.put_write(item, condition)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn every_success_survives_storage() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let session = || SessionId::parse("s").unwrap();
        let details = UserDetails {
            sequence: u64::from(u32::MAX) + 7,
            changed_at: at(5),
            created_at: at(3),
            organization: OrganizationId::parse("o").unwrap(),
        };
        for success in [
            Success::Session { id: session(), user_epoch: 7 },
            Success::LoginReset(session()),
            Success::CodeSent { details: Some(details), asked_at: at(9) },
            Success::CodeSent { details: None, asked_at: at(9) },
            Success::CodeReturned,
        ] {
            let result = StoredResult { fingerprint: "f".into(), key_version: 3, success, ends_at: at(60) };
            let item = ResultItem::from(&result);
            assert_eq!((item.ends_at, item.expires_at), (60_000, 61));
            let attributes: Attributes = serde_dynamo::to_item(&item).unwrap();
            assert_eq!(to_stored_result(attributes).unwrap(), result);
        }
    }
}
