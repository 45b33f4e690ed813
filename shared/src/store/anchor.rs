//! Heads of the audit log's chains.
//!
//! A tenant's day is a partition of its own, so that a range of days is read by key.

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use aws_sdk_dynamodb::{
    operation::update_item::UpdateItemError,
    types::{AttributeValue, ReturnValuesOnConditionCheckFailure},
};
use jiff::Timestamp;
use serde::Deserialize;

use super::{
    DynamoStore,
    conflict::retried,
    item::{Attributes, corrupt, decode, instant, number, string, to_instant, ttl_seconds, unavailable},
    keys::{ANCHOR_PREFIX, Key},
};
use crate::{
    audit::{Anchor, ChainId, Head, Partition},
    domain::{Failure, TenantId},
    port::{Anchored, Anchors},
};

/// How long an anchor is kept: 13 months, one of the lives that CloudWatch Logs offers for a log. A
/// year's log can be verified on its last day.
const LIFE: Duration = Duration::from_secs(400 * 24 * 60 * 60);

#[derive(Deserialize)]
struct AnchorItem {
    sk: String,
    #[serde(default)]
    sequence: Option<u64>,
    #[serde(default)]
    hash: String,
    #[serde(default)]
    instance: String,
    #[serde(default)]
    function: String,
    #[serde(default)]
    last_at: i64,
    #[serde(default)]
    broken_at: Option<i64>,
}

#[async_trait]
impl Anchors for DynamoStore {
    async fn anchor(&self, head: &Head) -> Result<Anchored, Failure> {
        let key = Key::anchor(&head.partition(), head.chain);
        let values = HashMap::from([
            (":sequence".to_owned(), number(head.sequence)),
            (":hash".to_owned(), string(&head.hash)),
            (":instance".to_owned(), string(&head.instance)),
            (":function".to_owned(), string(&head.function)),
            (":first".to_owned(), instant(head.chain.began_at())),
            (":last".to_owned(), instant(head.at)),
            (":end".to_owned(), number(ttl_seconds(end_of(head.chain)))),
        ]);
        let names = ["sequence", "hash", "instance", "function"];
        let names: HashMap<_, _> =
            names.map(|name| (format!("#{name}"), name.to_owned())).into_iter().collect();
        let update = || async {
            self.client
                .update_item()
                .table_name(&self.table)
                .set_key(Some(key.attributes()))
                .update_expression(
                    "SET #sequence = :sequence, #hash = :hash, #instance = :instance, \
                     #function = :function, first_at = :first, last_at = :last, expires_at = :end",
                )
                .condition_expression("attribute_not_exists(#sequence) OR #sequence < :sequence")
                .set_expression_attribute_names(Some(names.clone()))
                .set_expression_attribute_values(Some(values.clone()))
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                .send()
                .await
        };
        let Err(error) = retried(update).await else {
            return Ok(Anchored::Kept);
        };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                let old: AnchorItem = decode(refused.item().cloned().unwrap_or_default())?;
                let is_other = old.sequence == Some(head.sequence) && old.hash != head.hash;
                Ok(if is_other { Anchored::Forked } else { Anchored::Known })
            }
            _ => Err(unavailable(&error)),
        }
    }

    async fn mark_broken(
        &self,
        partition: &Partition,
        chain: ChainId,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let key = Key::anchor(partition, chain);
        let update = || async {
            self.client
                .update_item()
                .table_name(&self.table)
                .set_key(Some(key.attributes()))
                .update_expression("SET broken_at = if_not_exists(broken_at, :now), expires_at = :end")
                .expression_attribute_values(":now", instant(now))
                .expression_attribute_values(":end", number(ttl_seconds(end_of(chain))))
                .send()
                .await
        };
        retried(update).await.map(|_| ()).map_err(|error| unavailable(&error))
    }

    async fn anchors(&self, partition: &Partition) -> Result<Vec<Anchor>, Failure> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
            .expression_attribute_values(":pk", AttributeValue::S(Key::anchors(partition)))
            .expression_attribute_values(":prefix", string(ANCHOR_PREFIX))
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        let mut anchors = Vec::new();
        while let Some(item) = pages.next().await {
            anchors.push(to_anchor(partition, item.map_err(|error| unavailable(&error))?)?);
        }
        Ok(anchors)
    }

    async fn tenant_ids(&self) -> Result<Vec<TenantId>, Failure> {
        // A record whose id is none has no log either.
        let known = self.tenants().await?;
        Ok(known.iter().filter_map(|tenant| TenantId::parse(&tenant.id).ok()).collect())
    }
}

/// When what is kept of a chain goes: the same whoever writes it, and when.
fn end_of(chain: ChainId) -> Timestamp {
    chain.began_at().checked_add(LIFE).unwrap_or(Timestamp::MAX)
}

fn to_anchor(partition: &Partition, item: Attributes) -> Result<Anchor, Failure> {
    let AnchorItem { sk, sequence, hash, instance, function, last_at, broken_at } = decode(item)?;
    let chain = sk.strip_prefix(ANCHOR_PREFIX).and_then(|id| ChainId::parse(id).ok());
    let chain = chain.ok_or_else(|| corrupt("anchor"))?;
    let at = to_instant(last_at)?;
    let tenant = partition.tenant.clone();
    Ok(Anchor {
        partition: partition.clone(),
        chain,
        head: sequence.map(|sequence| Head { tenant, chain, sequence, hash, instance, function, at }),
        broken_at: broken_at.map(to_instant).transpose()?,
    })
}
