//! Public keys of a tenant. Their item has its own partition, so that a role can be limited to it.

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    DynamoStore,
    item::{corrupt, decode, encode, to_instant},
    keys::Key,
    table::{Expressions, unavailable},
};
use crate::domain::{Failure, PublicKey, PublishedKeys, SigningAlgorithm, TenantId};

/// Stored public keys, with the number of their writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKeys {
    /// The keys.
    pub keys: PublishedKeys,
    revision: u64,
}

#[derive(Serialize, Deserialize)]
struct PublishedItem {
    revision: u64,
    version: String,
    previous: Option<String>,
    #[serde(default)]
    made_from: Option<String>,
    created_at: Option<i64>,
    keys: Vec<StoredKey>,
}

#[derive(Serialize, Deserialize)]
struct StoredKey {
    algorithm: String,
    jwk: String,
    retired_at: Option<i64>,
}

impl DynamoStore {
    /// Reads the public keys of a tenant; `None` if they were never published.
    ///
    /// # Errors
    /// `Unavailable` when the read fails. `Internal` when the item cannot be decoded.
    pub async fn published_keys(&self, tenant: &TenantId) -> Result<Option<StoredKeys>, Failure> {
        let item = self.get(&Key::published_keys(tenant), Some(true)).await?;
        item.map(|item| decode::<PublishedItem>(item).and_then(stored)).transpose()
    }

    /// Writes the public keys of a tenant. Returns `false` if they were written since `before` was read.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn publish_keys(
        &self,
        tenant: &TenantId,
        before: Option<&StoredKeys>,
        keys: &PublishedKeys,
    ) -> Result<bool, Failure> {
        let read = before.map_or(0, |before| before.revision);
        let item = encode(&Key::published_keys(tenant), &unstored(keys, read + 1))?;
        let unchanged = Expressions::default().when_unchanged("revision", read);
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item));
        let put = put
            .set_condition_expression(unchanged.condition)
            .set_expression_attribute_values(unchanged.values);
        match put.send().await {
            Ok(_) => Ok(true),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(PutItemError::is_conditional_check_failed_exception) =>
            {
                Ok(false)
            }
            Err(error) => Err(unavailable(&error)),
        }
    }
}

fn stored(item: PublishedItem) -> Result<StoredKeys, Failure> {
    let PublishedItem { revision, version, previous, made_from, created_at, keys } = item;
    let time = |at: Option<i64>| at.map(to_instant).transpose();
    let keys = keys.into_iter().map(|StoredKey { algorithm, jwk, retired_at }| {
        let algorithm =
            SigningAlgorithm::from_name(&algorithm).ok_or_else(|| corrupt("set of public keys"))?;
        Ok(PublicKey { algorithm, jwk, retired_at: time(retired_at)? })
    });
    let keys = PublishedKeys {
        version,
        previous,
        made_from,
        created_at: time(created_at)?,
        keys: keys.collect::<Result<_, Failure>>()?,
    };
    Ok(StoredKeys { keys, revision })
}

fn unstored(published: &PublishedKeys, revision: u64) -> PublishedItem {
    let time = |at: Option<Timestamp>| at.map(Timestamp::as_millisecond);
    let keys = published.keys.iter().map(|key| StoredKey {
        algorithm: key.algorithm.name().to_owned(),
        jwk: key.jwk.clone(),
        retired_at: time(key.retired_at),
    });
    PublishedItem {
        revision,
        version: published.version.clone(),
        previous: published.previous.clone(),
        made_from: published.made_from.clone(),
        created_at: time(published.created_at),
        keys: keys.collect(),
    }
}
