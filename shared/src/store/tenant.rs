//! The tenant item, and the items that say which tenants name an origin.
//!
//! A record is read by the names this version knows; whatever else is in it, or in its policy, stays
//! as it is: a write puts back the item that was read with what the change names replaced, on
//! condition that nobody wrote since.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{AttributeValue, Delete, Put, TransactWriteItem, Update};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde_json::Value;

use super::{
    DynamoStore, Switched,
    change::{Guard, Guarded},
    item::{Attributes, number, string, unavailable},
    keys::{ANCHOR_PREFIX, Key, TENANT_SORT_KEY},
    user::built,
};
use crate::{
    domain::{
        Document, FIELDS, Failure, Fault, Field, FieldError, Policy, Tenant, TenantId, TenantStatus,
        WebOrigin, Weight,
    },
    port::Committed,
};

/// A tenant's record with all that it says: for operators' tools.
#[derive(Debug, Clone)]
pub struct TenantRecord {
    /// The tenant, with the policy that can be made of the record.
    pub tenant: Tenant,
    /// What the record says of the policy.
    pub document: Document,
    /// Fields of the policy that this version does not know; they are kept.
    pub unknown: Vec<String>,
    /// What is wrong with the policy.
    pub faults: Vec<Fault>,
    item: Attributes,
}

/// A tenant as a list shows it: for operators' tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantSummary {
    /// Its id.
    pub id: String,
    /// What people know it as.
    pub name: String,
    /// `ACTIVE` or `SUSPENDED`, or whatever the record says.
    pub status: String,
    /// Counts the writes of its record.
    pub version: u64,
}

/// What an operator changes of a tenant.
#[derive(Debug, Clone, Default)]
pub struct TenantChange {
    /// What people know it as from now on.
    pub name: Option<String>,
    /// Fields of the policy by name; `None` takes one out of the record: it is at its default again.
    pub policy: BTreeMap<String, Option<Value>>,
}

/// How often a record may be written by somebody else while a change is made.
const CHANGE_TRIES: usize = 5;

/// A condition that a record is the one that was read; `:none` is 0.
const AS_READ: &str = "(version = :read OR (:read = :none AND attribute_not_exists(version)))";

/// Items of a tenant that are deleted at the same time.
const DELETIONS_AT_ONCE: usize = 16;

impl TenantRecord {
    fn read(item: Attributes) -> Result<Self, Failure> {
        let corrupt =
            |what: &str| Failure::Unavailable(format!("a tenant's record has no usable {what}").into());
        let text = |name: &str| match item.get(name) {
            Some(AttributeValue::S(text)) => Some(text.as_str()),
            _ => None,
        };
        let id =
            text("tenant_id").and_then(|id| TenantId::parse(id).ok()).ok_or_else(|| corrupt("tenant_id"))?;
        let status = text("tenant_status").and_then(TenantStatus::from_name);
        let no_policy = Attributes::new();
        let said = match item.get("policy") {
            Some(AttributeValue::M(said)) => said,
            None => &no_policy,
            Some(_) => return Err(corrupt("policy")),
        };
        let document =
            FIELDS.iter().filter_map(|field| Some((field.name.to_owned(), value(said.get(field.name)?)?)));
        let document: Document = document.collect();
        let unknown = said.keys().filter(|name| Field::named(name).is_none()).cloned().collect();
        let (policy, faults) = Policy::read(&document);
        let tenant = Tenant {
            name: text("tenant_name").unwrap_or(id.as_str()).to_owned(),
            status: status.ok_or_else(|| corrupt("tenant_status"))?,
            session_epoch: whole(&item, "session_epoch").ok_or_else(|| corrupt("session_epoch"))?,
            // Records that were written before they were counted.
            version: whole(&item, "version").unwrap_or_default(),
            policy,
            id,
        };
        Ok(Self { tenant, document, unknown, faults, item })
    }

    /// The tenant, if its policy can be used. What is passed over is logged; what cannot be used closes
    /// this tenant, until it is put right.
    fn usable(self) -> Result<Tenant, Failure> {
        let Tenant { id, .. } = &self.tenant;
        for Fault { error, weight } in &self.faults {
            let FieldError { field, message } = error;
            match weight {
                Weight::Bounded => {}
                Weight::PassedOver => {
                    tracing::warn!(tenant = %id, %field, error = %message, "tenant.setting_unusable");
                }
                Weight::Unusable => {
                    let problem = format!("the policy of tenant {id} cannot be used: {field} {message}");
                    return Err(Failure::Unavailable(problem.into()));
                }
            }
        }
        Ok(self.tenant)
    }

    /// The record after a change.
    ///
    /// # Errors
    /// `Validation` with everything that would be wrong with it.
    fn changed(mut self, change: &TenantChange) -> Result<Self, Failure> {
        let mut errors = Vec::new();
        if let Some(name) = &change.name {
            if name.trim().is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
                errors.push(FieldError::new(
                    "tenant_name",
                    "must be 1 to 200 bytes without control characters",
                ));
            }
            self.item.insert("tenant_name".to_owned(), string(name));
        }
        let Some(AttributeValue::M(policy)) = Some(
            self.item.entry("policy".to_owned()).or_insert_with(|| AttributeValue::M(Attributes::new())),
        ) else {
            return Err(Failure::field("policy", "must be a map: put it right by hand"));
        };
        for (name, value) in &change.policy {
            match value {
                _ if Field::named(name).is_none() && !policy.contains_key(name) => {
                    errors.push(FieldError::new(name.clone(), "is no field of a policy"));
                }
                Some(_) if Field::named(name).is_none() => {
                    errors.push(FieldError::new(
                        name.clone(),
                        "is a field of a later version, which can set it",
                    ));
                }
                Some(value) => {
                    let value = serde_dynamo::to_attribute_value(value)
                        .map_err(|error| Failure::Internal(Box::new(error)))?;
                    policy.insert(name.clone(), value);
                }
                None => {
                    policy.remove(name);
                }
            }
        }
        let changed = Self::read(self.item)?;
        errors.extend(changed.faults.iter().map(|fault| fault.error.clone()));
        if errors.is_empty() { Ok(changed) } else { Err(Failure::Validation(errors)) }
    }
}

/// Most bytes of a tenant's name: it goes into the subjects of mails.
const MAX_NAME_BYTES: usize = 200;

/// A value as a document has it; nothing for one that is explicitly none.
fn value(attribute: &AttributeValue) -> Option<Value> {
    match attribute {
        AttributeValue::Null(_) => None,
        // What JSON does not have is no value of any field: an object is none, either.
        other => Some(
            serde_dynamo::from_attribute_value(other.clone())
                .unwrap_or_else(|_| Value::Object(Document::new())),
        ),
    }
}

fn whole(item: &Attributes, name: &str) -> Option<u64> {
    match item.get(name) {
        Some(AttributeValue::N(digits)) => digits.parse().ok(),
        _ => None,
    }
}

impl DynamoStore {
    pub(super) async fn read_tenant(&self, tenant: &TenantId) -> Result<Option<Tenant>, Failure> {
        self.tenant_record(tenant).await?.map(TenantRecord::usable).transpose()
    }

    /// A tenant's record, whatever is wrong with its policy. For operators' tools.
    ///
    /// # Errors
    /// `Unavailable` when storage does not answer, or the record is none.
    pub async fn tenant_record(&self, tenant: &TenantId) -> Result<Option<TenantRecord>, Failure> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(Key::tenant(tenant).attributes()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| unavailable(&error))?;
        answer.item.map(TenantRecord::read).transpose()
    }

    /// Every tenant, by id. For operators' tools: it reads the whole table.
    ///
    /// # Errors
    /// `Unavailable` when storage does not answer.
    pub async fn tenants(&self) -> Result<Vec<TenantSummary>, Failure> {
        let mut items = self
            .client
            .scan()
            .table_name(&self.table)
            .filter_expression("sk = :tenant")
            .expression_attribute_values(":tenant", string(TENANT_SORT_KEY))
            .into_paginator()
            .items()
            .send();
        let mut tenants = Vec::new();
        while let Some(item) = items.next().await {
            let item = item.map_err(|error| unavailable(&error))?;
            let text = |name: &str| match item.get(name) {
                Some(AttributeValue::S(text)) => text.clone(),
                _ => String::new(),
            };
            tenants.push(TenantSummary {
                id: text("tenant_id"),
                name: text("tenant_name"),
                status: text("tenant_status"),
                version: whole(&item, "version").unwrap_or_default(),
            });
        }
        tenants.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(tenants)
    }

    /// Creates a tenant with that name, status and policy. For operators' tools.
    ///
    /// Its epoch of sessions begins at `now` in milliseconds: an earlier tenant of the same id, whose
    /// users and their sessions may still lie in the table, was written less than once a millisecond,
    /// so that its epoch was lower and its sessions stay dead (docs/design/security.md#rule-15).
    ///
    /// # Errors
    /// `Validation` when there is a tenant of that id, or the policy has faults; `Unavailable`.
    pub async fn create_tenant(&self, tenant: &Tenant, now: Timestamp) -> Result<TenantRecord, Failure> {
        let Tenant { id, name, status, session_epoch: _, version: _, policy } = tenant;
        let mut item = Key::tenant(id).attributes();
        item.extend([
            ("tenant_id".to_owned(), string(id.as_str())),
            ("tenant_status".to_owned(), string(status.name())),
            ("session_epoch".to_owned(), number(first_epoch(now))),
            ("version".to_owned(), number(1)),
        ]);
        let change = TenantChange {
            name: Some(name.clone()),
            policy: policy.document().into_iter().map(|(name, value)| (name, Some(value))).collect(),
        };
        let record = TenantRecord::read(item)?.changed(&change)?;
        let put = Put::builder().condition_expression("attribute_not_exists(pk)");
        match self.write_tenant(&record, &[], put).await? {
            Committed::Done => Ok(record),
            _ => Err(Failure::field("tenant_id", "is taken: there is a tenant of that id")),
        }
    }

    /// Changes a tenant's name and policy, all or nothing; `None` when there is no such tenant. It holds
    /// in every function within 5 s. For operators' tools.
    ///
    /// # Errors
    /// `Validation` with everything that would be wrong with the record: nothing is written then;
    /// `Unavailable`, also while others keep writing it.
    pub async fn update_tenant(
        &self,
        tenant: &TenantId,
        change: &TenantChange,
    ) -> Result<Option<TenantRecord>, Failure> {
        for _ in 0..CHANGE_TRIES {
            let Some(before) = self.tenant_record(tenant).await? else {
                return Ok(None);
            };
            if let Some(after) = self.replace_record(before, change, Tenant::clone).await? {
                return Ok(Some(after));
            }
        }
        Err(Failure::Unavailable(format!("tenant {tenant} keeps changing: try again").into()))
    }

    /// Puts what differs between `old` and `new` into a tenant's record. Suspending it ends its sessions,
    /// and none that ended comes back. For operators' tools.
    ///
    /// # Errors
    /// As [`Self::update_tenant`]; `Unavailable` when the record was written since `old` was read.
    pub async fn replace_tenant(&self, old: &Tenant, new: &Tenant) -> Result<(), Failure> {
        let meanwhile = || Failure::Unavailable(format!("tenant {} was changed meanwhile", old.id).into());
        let before = self.tenant_record(&old.id).await?.ok_or_else(meanwhile)?;
        if before.tenant.version != old.version {
            return Err(meanwhile());
        }
        let (was, is) = (old.policy.document(), new.policy.document());
        let names = was.keys().chain(is.keys()).filter(|name| was.get(*name) != is.get(*name));
        let change = TenantChange {
            name: (old.name != new.name).then(|| new.name.clone()),
            policy: names.map(|name| (name.clone(), is.get(name).cloned())).collect(),
        };
        let switched = |before: &Tenant| {
            let closes = before.status == TenantStatus::Active && new.status == TenantStatus::Suspended;
            let least = before.session_epoch + u64::from(closes);
            Tenant { status: new.status, session_epoch: new.session_epoch.max(least), ..before.clone() }
        };
        self.replace_record(before, &change, switched).await?.map(|_| ()).ok_or_else(meanwhile)
    }

    /// Deletes the record of a suspended tenant, and its name among those of origins: from now on there is no
    /// such tenant. What else there is of it is left to [`Self::clear_tenant`]. For operators' tools.
    ///
    /// # Errors
    /// `Validation` when it is not suspended; `Unavailable`, also when the record was written meanwhile.
    pub async fn delete_tenant(&self, tenant: &TenantId) -> Result<Switched, Failure> {
        let Some(record) = self.tenant_record(tenant).await? else {
            return Ok(Switched::Missing);
        };
        let Tenant { status, version, policy, .. } = &record.tenant;
        if *status != TenantStatus::Suspended {
            return Err(Failure::field("tenant_status", "is ACTIVE: suspend the tenant first"));
        }
        let delete = Delete::builder()
            .table_name(&self.table)
            .set_key(Some(Key::tenant(tenant).attributes()))
            .condition_expression(format!("tenant_status = :suspended AND {AS_READ}"))
            .expression_attribute_values(":suspended", string(TenantStatus::Suspended.name()))
            .expression_attribute_values(":read", number(version))
            .expression_attribute_values(":none", number(0));
        let mut writes =
            vec![(Guard::Target, TransactWriteItem::builder().delete(built(delete.build())?).build())];
        for origin in each(&policy.cors_origins) {
            writes.push(self.name_origin(tenant, origin, "DELETE tenants :tenant")?);
        }
        match self.commit(writes).await? {
            Committed::Done => Ok(Switched::Done),
            _ => Err(Failure::Unavailable(format!("tenant {tenant} was changed meanwhile").into())),
        }
    }

    /// Deletes all that is left of a tenant that has no record: users, names, sessions, codes, messages,
    /// attempts and budgets. It reads the whole table. The anchors of its audit log stay for their time: they
    /// name nobody, and the log cannot be verified without them. How many items. For operators' tools.
    ///
    /// # Errors
    /// `Validation` when there is such a tenant, again; `Unavailable` when storage does not answer: what was
    /// deleted until then is gone, and the rest is there.
    pub async fn clear_tenant(&self, tenant: &TenantId) -> Result<u64, Failure> {
        let own = Key::tenant(tenant).pk;
        let mut pages = self
            .client
            .scan()
            .table_name(&self.table)
            .filter_expression("pk = :own OR (begins_with(pk, :of) AND NOT begins_with(pk, :anchors))")
            .expression_attribute_values(":of", string(format!("{own}#")))
            .expression_attribute_values(":anchors", string(format!("{own}#{ANCHOR_PREFIX}")))
            .expression_attribute_values(":own", string(own))
            .projection_expression("pk, sk")
            .consistent_read(true)
            .into_paginator()
            .send();
        let mut cleared = 0;
        while let Some(page) = pages.next().await {
            let keys = page.map_err(|error| unavailable(&error))?.items.unwrap_or_default();
            // Whoever creates it anew must not lose what is new.
            if self.tenant_record(tenant).await?.is_some() {
                return Err(Failure::field("tenant_id", "was created again: what is left of it stays"));
            }
            let deletions = keys.into_iter().map(|key| self.delete_key(key));
            let mut deletions = stream::iter(deletions).buffer_unordered(DELETIONS_AT_ONCE);
            while let Some(deleted) = deletions.next().await {
                deleted?;
                cleared += 1;
            }
        }
        Ok(cleared)
    }

    async fn delete_key(&self, key: Attributes) -> Result<(), Failure> {
        let deleted = self.client.delete_item().table_name(&self.table).set_key(Some(key)).send().await;
        deleted.map(|_| ()).map_err(|error| unavailable(&error))
    }

    /// Whether any tenant names an origin. Not read consistently: an origin is believed for a while
    /// anyway.
    pub(super) async fn read_origin(&self, origin: &WebOrigin) -> Result<bool, Failure> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(Key::origin(origin).attributes()))
            .send()
            .await
            .map_err(|error| unavailable(&error))?;
        // A set that loses its last element is gone.
        Ok(answer.item.is_some_and(|item| item.contains_key("tenants")))
    }

    /// Writes a record in the place of `before`; `None` when somebody else did meanwhile.
    async fn replace_record(
        &self,
        before: TenantRecord,
        change: &TenantChange,
        switched: impl FnOnce(&Tenant) -> Tenant,
    ) -> Result<Option<TenantRecord>, Failure> {
        let origins = before.tenant.policy.cors_origins.clone();
        let read = before.tenant.version;
        let mut record = before;
        let Tenant { status, session_epoch, .. } = switched(&record.tenant);
        record.item.extend([
            ("tenant_status".to_owned(), string(status.name())),
            ("session_epoch".to_owned(), number(session_epoch)),
            ("version".to_owned(), number(read + 1)),
        ]);
        let after = record.changed(change)?;
        let put = Put::builder()
            .condition_expression(format!("attribute_exists(pk) AND {AS_READ}"))
            .expression_attribute_values(":read", number(read))
            .expression_attribute_values(":none", number(0));
        match self.write_tenant(&after, &origins, put).await? {
            Committed::Done => Ok(Some(after)),
            _ => Ok(None),
        }
    }

    async fn write_tenant(
        &self,
        record: &TenantRecord,
        earlier: &[WebOrigin],
        put: aws_sdk_dynamodb::types::builders::PutBuilder,
    ) -> Result<Committed, Failure> {
        let Tenant { id, policy, .. } = &record.tenant;
        let put = put.table_name(&self.table).set_item(Some(record.item.clone())).build();
        let mut writes = vec![(Guard::Target, TransactWriteItem::builder().put(built(put)?).build())];
        // Those that stay are added as well: what was written by hand is put right.
        for origin in each(&policy.cors_origins) {
            writes.push(self.name_origin(id, origin, "ADD tenants :tenant")?);
        }
        for origin in each(earlier).filter(|origin| !policy.cors_origins.contains(origin)) {
            writes.push(self.name_origin(id, origin, "DELETE tenants :tenant")?);
        }
        self.commit(writes).await
    }

    fn name_origin(&self, tenant: &TenantId, origin: &WebOrigin, update: &str) -> Result<Guarded, Failure> {
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(Key::origin(origin).attributes()))
            .update_expression(update)
            .expression_attribute_values(":tenant", AttributeValue::Ss(vec![tenant.as_str().to_owned()]))
            .build();
        Ok((Guard::None, TransactWriteItem::builder().update(built(update)?).build()))
    }
}

/// Where a new epoch of sessions begins: above any that was counted up from an earlier instant by
/// less than one step a millisecond.
pub(super) fn first_epoch(now: Timestamp) -> u64 {
    u64::try_from(now.as_millisecond()).unwrap_or_default()
}

/// Every origin of a list once: a transaction writes no item twice.
fn each(origins: &[WebOrigin]) -> impl Iterator<Item = &WebOrigin> {
    origins
        .iter()
        .enumerate()
        .filter(|(at, origin)| !origins.iter().take(*at).any(|before| before == *origin))
        .map(|(_, origin)| origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(policy: Attributes) -> TenantRecord {
        let mut item = Key::tenant(&TenantId::parse("t").unwrap()).attributes();
        item.extend([
            ("tenant_id".to_owned(), string("t")),
            ("tenant_status".to_owned(), string("ACTIVE")),
            ("session_epoch".to_owned(), number(7)),
            ("of_a_later_version".to_owned(), AttributeValue::Ss(vec!["x".to_owned()])),
            ("policy".to_owned(), AttributeValue::M(policy)),
        ]);
        TenantRecord::read(item).unwrap()
    }

    fn said(name: &str, value: AttributeValue) -> Attributes {
        Attributes::from([(name.to_owned(), value)])
    }

    #[test]
    fn what_concerns_links_closes_nothing_and_all_else_does() {
        let hosts = AttributeValue::L(vec![string("not a host"), string("app.example.com")]);
        let tenant = record(said("link_hosts", hosts)).usable().unwrap();
        assert_eq!(tenant.policy.link_hosts.len(), 1);
        for (name, value) in [
            ("algorithm", string("none")),
            ("max_attempts", string("5")),
            ("ip_allow", AttributeValue::B(aws_sdk_dynamodb::primitives::Blob::new([255]))),
        ] {
            let Err(Failure::Unavailable(cause)) = record(said(name, value)).usable() else {
                panic!("{name}")
            };
            assert!(cause.to_string().contains(name), "{cause}");
        }
        assert!(record(said("algorithm", AttributeValue::Null(true))).usable().is_ok());
        assert!(record(said("grace_seconds", number(301))).usable().is_ok());
    }

    #[test]
    fn a_change_keeps_what_this_version_does_not_know() {
        let later = AttributeValue::Bs(vec![aws_sdk_dynamodb::primitives::Blob::new([255])]);
        let before = record(said("of_a_later_version", later.clone()));
        assert_eq!(before.unknown, ["of_a_later_version"]);
        let change = |name: &str, value: Option<Value>| TenantChange {
            name: Some("Name".to_owned()),
            policy: BTreeMap::from([(name.to_owned(), value)]),
        };
        let after = before.clone().changed(&change("grace_seconds", Some(7.into()))).unwrap();
        assert_eq!(after.item.get("of_a_later_version"), before.item.get("of_a_later_version"));
        let AttributeValue::M(policy) = &after.item["policy"] else { panic!("no policy") };
        assert_eq!(policy["of_a_later_version"], later);
        assert_eq!(policy["grace_seconds"], number(7));
        assert_eq!((after.tenant.name.as_str(), after.tenant.policy.grace.as_secs()), ("Name", 7));

        let refused = |change: &TenantChange| match before.clone().changed(change) {
            Err(Failure::Validation(errors)) => errors.iter().map(|error| error.field.to_string()).collect(),
            _ => Vec::new(),
        };
        assert_eq!(refused(&change("garce_seconds", Some(7.into()))), ["garce_seconds"]);
        assert_eq!(refused(&change("of_a_later_version", Some(7.into()))), ["of_a_later_version"]);
        let nameless =
            TenantChange { name: Some(" ".to_owned()), ..change("grace_seconds", Some(301.into())) };
        assert_eq!(refused(&nameless), ["tenant_name", "grace_seconds"]);
        assert!(before.changed(&change("of_a_later_version", None)).unwrap().unknown.is_empty());
    }
}
