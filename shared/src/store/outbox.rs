//! The outbox: messages to deliver. The table's stream reports each message to the delivery function. The message
//! is encrypted, because anyone who reads the table could otherwise use its code (docs/design/security.md#rule-19).

use aws_sdk_dynamodb::{
    primitives::Blob,
    types::{AttributeValue, TransactWriteItem},
};
use jiff::Timestamp;

use super::{
    DynamoStore,
    item::{Attributes, corrupt, instant, number, to_instant, to_number, ttl_seconds},
    keys::{Key, OutboxKey},
    table::Expressions,
};
use crate::domain::Failure;

/// Encrypted message. Only the tenant's root key decrypts it.
#[derive(Clone)]
pub struct Sealed {
    /// Key of the outbox item.
    pub key: OutboxKey,
    /// Version of the root key that encrypted the message.
    pub key_version: u32,
    /// Nonce, ciphertext and tag.
    pub bytes: Vec<u8>,
    /// Time after which the message is not delivered.
    pub ends_at: Timestamp,
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed")
            .field("key", &self.key)
            .field("ends_at", &self.ends_at)
            .finish_non_exhaustive()
    }
}

impl DynamoStore {
    /// Deletes a message from the outbox, if it exists.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn delete_outbox(&self, key: &OutboxKey) -> Result<(), Failure> {
        self.delete(Key::outbox(key).attributes()).await
    }

    /// Puts a message at the end of the stream again, if it exists: the stream reports the update as a new record, which
    /// has its own attempts and its own age.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn requeue_outbox(&self, key: &OutboxKey) -> Result<(), Failure> {
        let update =
            Expressions::update("ADD requeued :one").when("attribute_exists(pk)").value(":one", number(1));
        self.update(&Key::outbox(key), update).await.map(|_| ())
    }

    /// Returns a write that adds a message to the outbox.
    pub(super) fn put_outbox(&self, sealed: &Sealed) -> Result<TransactWriteItem, Failure> {
        let mut item = Key::outbox(&sealed.key).attributes();
        item.extend([
            ("message".to_owned(), AttributeValue::B(Blob::new(sealed.bytes.clone()))),
            ("key_version".to_owned(), number(sealed.key_version)),
            ("ends_at".to_owned(), instant(sealed.ends_at)),
            ("expires_at".to_owned(), number(ttl_seconds(sealed.ends_at))),
        ]);
        self.put_write(item, Expressions::default())
    }
}

/// Decodes an outbox item.
pub(super) fn to_sealed(key: &OutboxKey, item: &Attributes) -> Result<Sealed, Failure> {
    match (item.get("message"), to_number(item, "key_version")?, to_number(item, "ends_at")?) {
        (Some(AttributeValue::B(message)), Some(key_version), Some(ends_at)) => Ok(Sealed {
            key: key.clone(),
            key_version,
            bytes: message.clone().into_inner(),
            ends_at: to_instant(ends_at)?,
        }),
        _ => Err(corrupt("message")),
    }
}
