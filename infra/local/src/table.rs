//! Creates the table from `infra/table.json`, the description that the deployment also reads.
//!
//! The embedded DynamoDB supports neither point-in-time recovery nor KMS keys. These settings apply
//! only to the deployment.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::{
    Client,
    types::{
        AttributeDefinition, BillingMode, CreateGlobalSecondaryIndexAction, GlobalSecondaryIndex,
        GlobalSecondaryIndexUpdate, KeySchemaElement, KeyType, Projection, ProjectionType,
        ScalarAttributeType, StreamSpecification, StreamViewType, TableDescription, TableStatus,
        TimeToLiveSpecification, TimeToLiveStatus,
    },
};
use serde::Deserialize;

const DESCRIPTION: &str = include_str!("../../table.json");

/// Time limit for a table to become active. The embedded table is active at once.
const ACTIVE_WITHIN: Duration = Duration::from_secs(30);

/// Contents of `infra/table.json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TableSpec {
    pub key_schema: KeySchema,
    pub indexes: Vec<IndexSpec>,
    /// A `BillingMode`: `PAY_PER_REQUEST`.
    pub billing_mode: String,
    /// Attribute with the epoch seconds after which DynamoDB may delete an item.
    pub ttl_attribute: String,
    /// A `StreamViewType`: `KEYS_ONLY`, so that the stream contains no password hash.
    pub stream: String,
    pub point_in_time_recovery: bool,
    pub deletion_protection: bool,
    /// Kind of encryption. `KMS` is a key that AWS manages.
    pub encryption: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeySchema {
    pub partition_key: KeyAttribute,
    pub sort_key: KeyAttribute,
}

/// A global secondary index.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IndexSpec {
    pub name: String,
    pub partition_key: KeyAttribute,
    pub sort_key: KeyAttribute,
    /// A `ProjectionType`: `KEYS_ONLY`.
    pub projection: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyAttribute {
    pub name: String,
    /// A `ScalarAttributeType`: `S`, `N` or `B`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Result of [`create_if_missing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    Now,
    Before,
}

impl TableSpec {
    /// # Errors
    /// When `infra/table.json` has an unexpected format.
    pub fn load() -> Result<Self> {
        serde_json::from_str(DESCRIPTION).context("infra/table.json has an unexpected format")
    }

    fn schema(&self) -> Result<Vec<KeySchemaElement>> {
        schema(&self.key_schema.partition_key, &self.key_schema.sort_key)
    }

    /// Definitions of the key attributes of the table and its indexes.
    fn attributes(&self) -> Result<Vec<AttributeDefinition>> {
        let definition = |attribute: &KeyAttribute| {
            let builder = AttributeDefinition::builder().attribute_name(&attribute.name);
            let kind = ScalarAttributeType::from(attribute.kind.as_str());
            Ok(builder.attribute_type(kind).build()?)
        };
        let own = [&self.key_schema.partition_key, &self.key_schema.sort_key];
        let of_indexes = self.indexes.iter().flat_map(|index| [&index.partition_key, &index.sort_key]);
        own.into_iter().chain(of_indexes).map(definition).collect()
    }

    fn indexes(&self) -> Result<Vec<GlobalSecondaryIndex>> {
        let index = |index: &IndexSpec| {
            let builder = GlobalSecondaryIndex::builder().index_name(&index.name);
            let builder = builder.set_key_schema(Some(index.schema()?)).projection(index.projection());
            Ok(builder.build()?)
        };
        self.indexes.iter().map(index).collect()
    }
}

impl IndexSpec {
    fn schema(&self) -> Result<Vec<KeySchemaElement>> {
        schema(&self.partition_key, &self.sort_key)
    }

    fn projection(&self) -> Projection {
        Projection::builder().projection_type(ProjectionType::from(self.projection.as_str())).build()
    }
}

fn schema(partition: &KeyAttribute, sort: &KeyAttribute) -> Result<Vec<KeySchemaElement>> {
    let element = |(attribute, kind): (&KeyAttribute, KeyType)| {
        let builder = KeySchemaElement::builder().attribute_name(&attribute.name);
        Ok(builder.key_type(kind).build()?)
    };
    [(partition, KeyType::Hash), (sort, KeyType::Range)].into_iter().map(element).collect()
}

/// Creates the table with its indexes, its stream and its time to live where they are missing.
///
/// # Errors
/// When a call fails, or when a table of this name with other keys exists.
pub async fn create_if_missing(client: &Client, table: &str) -> Result<Created> {
    let spec = TableSpec::load()?;
    let created =
        create(client, table, &spec).await.with_context(|| format!("cannot create the table {table}"))?;
    enable_ttl(client, table, &spec.ttl_attribute)
        .await
        .with_context(|| format!("cannot set the time to live of the table {table}"))?;
    Ok(created)
}

async fn create(client: &Client, table: &str, spec: &TableSpec) -> Result<Created> {
    if let Some(existing) = describe(client, table).await? {
        ensure!(
            existing.key_schema() == spec.schema()?,
            "a table of this name with other keys exists; use --memory or another --data-dir"
        );
        add_indexes(client, table, spec, &existing).await?;
        return Ok(Created::Before);
    }
    let stream = StreamSpecification::builder()
        .stream_enabled(true)
        .stream_view_type(StreamViewType::from(spec.stream.as_str()))
        .build()?;
    // DynamoDB rejects an empty list.
    let indexes = Some(spec.indexes()?).filter(|indexes| !indexes.is_empty());
    client
        .create_table()
        .table_name(table)
        .set_key_schema(Some(spec.schema()?))
        .set_attribute_definitions(Some(spec.attributes()?))
        .set_global_secondary_indexes(indexes)
        .billing_mode(BillingMode::from(spec.billing_mode.as_str()))
        .stream_specification(stream)
        .deletion_protection_enabled(spec.deletion_protection)
        .send()
        .await?;
    tokio::time::timeout(ACTIVE_WITHIN, until_active(client, table))
        .await
        .context("the table did not become active within 30 seconds")??;
    Ok(Created::Now)
}

/// Adds the indexes that a table of an earlier version does not have.
async fn add_indexes(
    client: &Client,
    table: &str,
    spec: &TableSpec,
    existing: &TableDescription,
) -> Result<()> {
    for index in &spec.indexes {
        let mut known = existing.global_secondary_indexes().iter();
        if known.any(|known| known.index_name() == Some(&index.name)) {
            continue;
        }
        let create = CreateGlobalSecondaryIndexAction::builder()
            .index_name(&index.name)
            .set_key_schema(Some(index.schema()?))
            .projection(index.projection())
            .build()?;
        client
            .update_table()
            .table_name(table)
            .set_attribute_definitions(Some(spec.attributes()?))
            .global_secondary_index_updates(GlobalSecondaryIndexUpdate::builder().create(create).build())
            .send()
            .await?;
    }
    Ok(())
}

async fn describe(client: &Client, table: &str) -> Result<Option<TableDescription>> {
    match client.describe_table().table_name(table).send().await {
        Ok(output) => Ok(output.table),
        Err(error) => match error.into_service_error() {
            error if error.is_resource_not_found_exception() => Ok(None),
            error => Err(error.into()),
        },
    }
}

async fn until_active(client: &Client, table: &str) -> Result<()> {
    loop {
        let status = describe(client, table).await?.and_then(|description| description.table_status);
        if status == Some(TableStatus::Active) {
            return Ok(());
        }
        // Needed only for a remote DynamoDB, which has no call that waits.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn enable_ttl(client: &Client, table: &str, attribute: &str) -> Result<()> {
    let current = client
        .describe_time_to_live()
        .table_name(table)
        .send()
        .await?
        .time_to_live_description
        .and_then(|description| description.time_to_live_status);
    if matches!(current, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)) {
        return Ok(());
    }
    let specification = TimeToLiveSpecification::builder().attribute_name(attribute).enabled(true).build()?;
    client.update_time_to_live().table_name(table).time_to_live_specification(specification).send().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;
    use crate::{
        clients,
        dynamodb::{EmbeddedDynamo, Storage},
    };

    #[tokio::test]
    async fn created_table_matches_the_description() {
        let server = EmbeddedDynamo::start(Storage::Memory).await.unwrap();
        let client = clients::dynamodb(server.url());
        assert_eq!(create_if_missing(&client, "doorward").await.unwrap(), Created::Now);
        assert_eq!(create_if_missing(&client, "doorward").await.unwrap(), Created::Before);

        let table = describe(&client, "doorward").await.unwrap().unwrap();
        let keys: Vec<_> =
            table.key_schema().iter().map(|key| (key.attribute_name(), key.key_type().as_str())).collect();
        assert_eq!(keys, [("pk", "HASH"), ("sk", "RANGE")]);
        assert_eq!(table.billing_mode_summary().unwrap().billing_mode(), Some(&BillingMode::PayPerRequest));
        let stream = table.stream_specification().unwrap();
        assert_eq!(stream.stream_view_type(), Some(&StreamViewType::KeysOnly));
        assert_eq!(table.deletion_protection_enabled(), Some(true));
        let [index] = table.global_secondary_indexes() else { panic!("{table:?}") };
        assert_eq!(index.index_name(), Some("users"));
        let keys: Vec<_> = index.key_schema().iter().map(KeySchemaElement::attribute_name).collect();
        assert_eq!(keys, ["users_of", "users_position"]);
        let projection = index.projection().unwrap();
        assert_eq!(projection.projection_type(), Some(&ProjectionType::KeysOnly));
        let ttl = client.describe_time_to_live().table_name("doorward").send().await.unwrap();
        let ttl = ttl.time_to_live_description().unwrap();
        assert_eq!(ttl.attribute_name(), Some("expires_at"));
        assert_eq!(ttl.time_to_live_status(), Some(&TimeToLiveStatus::Enabled));
    }

    #[tokio::test]
    async fn table_of_an_earlier_version_gets_the_index_with_its_items() {
        let server = EmbeddedDynamo::start(Storage::Memory).await.unwrap();
        let client = clients::dynamodb(server.url());
        let spec = TableSpec::load().unwrap();
        let earlier = TableSpec { indexes: Vec::new(), ..spec.clone() };
        create(&client, "doorward", &earlier).await.unwrap();
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let item = [("pk", "p"), ("sk", "USER"), ("users_of", "T#t"), ("users_position", "O#o#U#u")];
        let item = item.map(|(name, value)| (name.to_owned(), text(value)));
        client.put_item().table_name("doorward").set_item(Some(item.into())).send().await.unwrap();
        for _ in 0..2 {
            assert_eq!(create_if_missing(&client, "doorward").await.unwrap(), Created::Before);
        }
        let listed = client.query().table_name("doorward").index_name("users");
        let listed = listed.key_condition_expression("users_of = :of");
        let listed = listed.expression_attribute_values(":of", text("T#t")).send().await.unwrap();
        assert_eq!(listed.count(), 1);
    }

    #[tokio::test]
    async fn table_with_other_keys_is_rejected() {
        let server = EmbeddedDynamo::start(Storage::Memory).await.unwrap();
        let client = clients::dynamodb(server.url());
        client
            .create_table()
            .table_name("doorward")
            .attribute_definitions(
                AttributeDefinition::builder()
                    .attribute_name("id")
                    .attribute_type(ScalarAttributeType::S)
                    .build()
                    .unwrap(),
            )
            .key_schema(
                KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build().unwrap(),
            )
            .billing_mode(BillingMode::PayPerRequest)
            .send()
            .await
            .unwrap();
        let error = create_if_missing(&client, "doorward").await.unwrap_err();
        assert!(format!("{error:#}").contains("other keys"));
    }
}
