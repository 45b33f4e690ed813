//! What requests with an `Idempotency-Key` succeeded in (contract, "Every request").

use aws_sdk_dynamodb::types::TransactWriteItem;
use serde::{Deserialize, Serialize};

use super::{
    DynamoStore,
    item::{Attributes, decode, ttl_seconds},
    keys::Key,
};
use crate::{
    domain::{Failure, SessionId},
    port::{NewOnce, Once},
};

#[derive(Serialize, Deserialize)]
struct OnceItem {
    fingerprint: String,
    key_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session_id: Option<SessionId>,
    /// TTL, in seconds.
    expires_at: i64,
}

pub(super) fn to_once(attributes: Attributes) -> Result<Once, Failure> {
    let OnceItem { fingerprint, key_version, session_id, expires_at: _ } = decode(attributes)?;
    Ok(Once { fingerprint, key_version, session: session_id })
}

impl DynamoStore {
    /// Remembers a success under a key that is free.
    pub(super) fn put_once(&self, new: &NewOnce) -> Result<TransactWriteItem, Failure> {
        let Once { fingerprint, key_version, session } = new.once.clone();
        let expires_at = ttl_seconds(new.ends_at);
        let item = OnceItem { fingerprint, key_version, session_id: session, expires_at };
        self.put_new(&Key::once(&new.key), &item)
    }
}
