//! The outbox: messages that wait to be delivered. The table's stream tells the sender of each; what
//! they say is sealed (docs/design/security.md#rule-19).

use aws_sdk_dynamodb::{
    primitives::Blob,
    types::{AttributeValue, Put, TransactWriteItem},
};

use super::{
    DynamoStore,
    code::to_code,
    item::{Attributes, corrupt, instant, number, to_instant, ttl_seconds, unavailable},
    keys::Key,
    user::{built, to_user},
};
use crate::{
    domain::Failure,
    port::{OutboxItems, OutboxKey, Sealed},
};

impl DynamoStore {
    pub(super) async fn read_outbox(&self, key: &OutboxKey) -> Result<OutboxItems, Failure> {
        let OutboxKey { tenant, user, .. } = key;
        let keys = [Key::outbox(key), Key::user(tenant, user), Key::code(tenant, user)];
        let [sealed, user, code] = self.read_each(keys).await?;
        Ok(OutboxItems {
            sealed: sealed.map(|item| to_sealed(key, &item)).transpose()?,
            user: user.map(to_user).transpose()?,
            code: code.map(to_code).transpose()?,
        })
    }

    pub(super) async fn delete_outbox(&self, key: &OutboxKey) -> Result<(), Failure> {
        self.client
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(Key::outbox(key).attributes()))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| unavailable(&error))
    }

    pub(super) fn put_outbox(&self, sealed: &Sealed) -> Result<TransactWriteItem, Failure> {
        let mut item = Key::outbox(&sealed.key).attributes();
        item.extend([
            ("message".to_owned(), AttributeValue::B(Blob::new(sealed.bytes.clone()))),
            ("key_version".to_owned(), number(sealed.key_version)),
            ("ends_at".to_owned(), instant(sealed.ends_at)),
            ("expires_at".to_owned(), number(ttl_seconds(sealed.ends_at))),
        ]);
        let put = Put::builder().table_name(&self.table).set_item(Some(item)).build();
        Ok(TransactWriteItem::builder().put(built(put)?).build())
    }
}

fn to_sealed(key: &OutboxKey, item: &Attributes) -> Result<Sealed, Failure> {
    let whole = |name: &str| match item.get(name) {
        Some(AttributeValue::N(digits)) => digits.parse::<i64>().ok(),
        _ => None,
    };
    match (item.get("message"), whole("key_version"), whole("ends_at")) {
        (Some(AttributeValue::B(message)), Some(version), Some(ends_at)) => Ok(Sealed {
            key: key.clone(),
            key_version: u32::try_from(version).map_err(|_| corrupt("message"))?,
            bytes: message.clone().into_inner(),
            ends_at: to_instant(ends_at)?,
        }),
        _ => Err(corrupt("message")),
    }
}
