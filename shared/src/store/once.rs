//! What requests with an `Idempotency-Key` succeeded in (docs/design/contract.md#every-request).
//!
//! The item is written in the transaction of what it remembers, on condition that its key is free: of
//! any number of requests at once one succeeds, and nothing lies between the success and its memory.

use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use serde::{Deserialize, Serialize};

use super::{
    DynamoStore,
    item::{Attributes, decode, encode, instant, to_instant, ttl_seconds},
    keys::Key,
    user::built,
};
use crate::{
    domain::{Failure, OrganizationId, SessionId, UserDetails},
    port::{NewOnce, Once, Success},
};

#[derive(Serialize, Deserialize)]
struct OnceItem {
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

impl From<&Once> for OnceItem {
    fn from(once: &Once) -> Self {
        let Once { fingerprint, key_version, success, ends_at } = once;
        Self {
            fingerprint: fingerprint.clone(),
            key_version: *key_version,
            success: success.into(),
            ends_at: ends_at.as_millisecond(),
            expires_at: ttl_seconds(*ends_at),
        }
    }
}

pub(super) fn to_once(attributes: Attributes) -> Result<Once, Failure> {
    let OnceItem { fingerprint, key_version, success, ends_at, expires_at: _ } = decode(attributes)?;
    Ok(Once { fingerprint, key_version, success: success.try_into()?, ends_at: to_instant(ends_at)? })
}

impl DynamoStore {
    /// Remembers a success under a key that is free. One whose time is over is free, whether TTL has
    /// come to it or not.
    pub(super) fn put_once(&self, new: &NewOnce) -> Result<TransactWriteItem, Failure> {
        let NewOnce { key, once, now } = new;
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(encode(&Key::once(key), &OnceItem::from(once))?))
            .condition_expression("attribute_not_exists(pk) OR ends_at <= :now")
            .expression_attribute_values(":now", instant(*now))
            .build();
        Ok(TransactWriteItem::builder().put(built(put)?).build())
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
            let once = Once { fingerprint: "f".into(), key_version: 3, success, ends_at: at(60) };
            let item = OnceItem::from(&once);
            assert_eq!((item.ends_at, item.expires_at), (60_000, 61));
            let attributes: Attributes = serde_dynamo::to_item(&item).unwrap();
            assert_eq!(to_once(attributes).unwrap(), once);
        }
    }
}
