//! Administration of tenants: create, change, suspend, delete, and list.
//!
//! A write replaces the item that was read, with only the requested attributes changed, on the condition that the item
//! has not changed since.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{CHANGE_TRIES, Switched, changed_meanwhile};
use crate::{
    domain::{
        Failure, FieldError, PolicyField, PreviousAlgorithm, Tenant, TenantId, TenantStatus, WebOrigin,
    },
    store::{
        DynamoStore,
        item::{Attributes, decode, number, string, text},
        keys::{Key, SECRET_PREFIX, TENANT_SORT_KEY},
        table::{Expressions, query_all, unavailable},
        tenant::{
            PREVIOUS_ALGORITHM, SECRET_VERSION, TenantRecord, USERS_INDEXED, active_secret_value, counter,
            previous_algorithm_value,
        },
        transaction::{Committed, Guard, Guarded},
        user_change::first_epoch,
    },
};

/// Tenant in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantSummary {
    /// Tenant ID.
    pub id: String,
    /// Display name.
    pub name: String,
    /// `ACTIVE`, `SUSPENDED` or another stored value.
    pub status: String,
    /// Number of writes of the tenant item.
    pub version: u64,
    /// The index lists all users of the tenant.
    pub lists_users: bool,
}

impl TenantSummary {
    pub(super) fn of(item: &Attributes) -> Self {
        let text = |name: &str| text(item, name).unwrap_or_default().to_owned();
        Self {
            id: text("tenant_id"),
            name: text("tenant_name"),
            status: text("tenant_status"),
            version: counter(item, "version").unwrap_or_default(),
            lists_users: item.get(USERS_INDEXED) == Some(&AttributeValue::Bool(true)),
        }
    }
}

/// Change of a tenant.
#[derive(Debug, Clone, Default)]
pub struct TenantChange {
    /// New display name.
    pub name: Option<String>,
    /// New values of policy fields by name. `None` resets a field to its default.
    pub policy: BTreeMap<String, Option<Value>>,
}

/// Last use of one version of a tenant's secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LastUse {
    /// Version ID in Secrets Manager.
    #[serde(rename = "version_id")]
    pub version: String,
    /// Time of the last use, accurate to 60 s.
    #[serde(rename = "last_used_at", with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub at: Timestamp,
}

/// Maximum length of a tenant's name in bytes. The name is part of mail subjects.
const MAX_NAME_BYTES: usize = 200;

impl TenantRecord {
    /// Applies a change.
    ///
    /// # Errors
    /// `Validation` with all faults of the changed tenant.
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
            return Err(Failure::field("policy", "must be a map; correct the item by hand"));
        };
        for (name, value) in &change.policy {
            match value {
                _ if PolicyField::named(name).is_none() && !policy.contains_key(name) => {
                    errors.push(FieldError::new(name.clone(), "is not a policy field"));
                }
                Some(_) if PolicyField::named(name).is_none() => {
                    errors.push(FieldError::new(
                        name.clone(),
                        "is a field of a later version; use that version to set it",
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

impl DynamoStore {
    /// Lists all tenants, sorted by ID. Reads the whole table.
    ///
    /// # Errors
    /// `Unavailable` when a request fails.
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
            tenants.push(TenantSummary::of(&item.map_err(|error| unavailable(&error))?));
        }
        tenants.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(tenants)
    }

    /// Creates a tenant with the name, status and policy of `tenant`. Users and sessions of an earlier tenant with the
    /// same ID may still be stored; these sessions stay ended (docs/design/security.md#rule-15).
    ///
    /// # Errors
    /// `Validation` when the tenant ID exists or the policy has faults. `Unavailable` when a request fails.
    pub async fn create_tenant(&self, tenant: &Tenant, now: Timestamp) -> Result<TenantRecord, Failure> {
        let Tenant { id, name, status, active_secret, policy, .. } = tenant;
        let mut item = Key::tenant(id).attributes();
        item.extend([
            ("tenant_id".to_owned(), string(id.as_str())),
            ("tenant_status".to_owned(), string(status.name())),
            ("session_epoch".to_owned(), number(first_epoch(now))),
            ("version".to_owned(), number(1)),
            (USERS_INDEXED.to_owned(), AttributeValue::Bool(true)),
        ]);
        if let Some(secret) = active_secret {
            item.insert(SECRET_VERSION.to_owned(), active_secret_value(secret));
        }
        let change = TenantChange {
            name: Some(name.clone()),
            policy: policy.document().into_iter().map(|(name, value)| (name, Some(value))).collect(),
        };
        let record = TenantRecord::read(item)?.changed(&change)?;
        let absent = Expressions::absent();
        if self.write_tenant(&record, &[], absent).await?.is_done()? {
            Ok(record)
        } else {
            Err(Failure::field("tenant_id", "already exists"))
        }
    }

    /// Changes a tenant's name and policy in one transaction. Returns `None` if the tenant does not exist. The change
    /// takes effect in every function within 5 s.
    ///
    /// # Errors
    /// `Validation` with all faults of the changed tenant. `Unavailable` when a request fails or the tenant keeps
    /// changing.
    pub async fn update_tenant(
        &self,
        tenant: &TenantId,
        change: &TenantChange,
        now: Timestamp,
    ) -> Result<Option<TenantRecord>, Failure> {
        for _ in 0..CHANGE_TRIES {
            let Some(before) = self.tenant_record(tenant).await? else {
                return Ok(None);
            };
            if let Some(after) = self.replace_record(before, change, Tenant::clone, now).await? {
                return Ok(Some(after));
            }
        }
        Err(changed_meanwhile(format_args!("tenant {tenant}")))
    }

    /// Writes the differences between `old` and `new`. Suspending the tenant ends its sessions. They stay ended when the
    /// tenant is resumed.
    ///
    /// # Errors
    /// The errors of [`Self::update_tenant`]. `Unavailable` when the tenant changed since `old` was read.
    pub async fn replace_tenant(&self, old: &Tenant, new: &Tenant, now: Timestamp) -> Result<(), Failure> {
        let conflict = || changed_meanwhile(format_args!("tenant {}", old.id));
        let before = self.tenant_record(&old.id).await?.ok_or_else(conflict)?;
        if before.tenant.version != old.version {
            return Err(conflict());
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
        self.replace_record(before, &change, switched, now).await?.map(|_| ()).ok_or_else(conflict)
    }

    /// Deletes the item of a suspended tenant and removes the tenant from its origins. [`Self::clear_tenant`] deletes the
    /// other items.
    ///
    /// # Errors
    /// `Validation` when the tenant is not suspended. `Unavailable` when a request fails or the tenant changed.
    pub async fn delete_tenant(&self, tenant: &TenantId) -> Result<Switched, Failure> {
        let Some(record) = self.tenant_record(tenant).await? else {
            return Ok(Switched::Missing);
        };
        let Tenant { status, version, policy, .. } = &record.tenant;
        if *status != TenantStatus::Suspended {
            return Err(Failure::field("tenant_status", "is ACTIVE; suspend the tenant first"));
        }
        // A change of the status also changes the version.
        let unchanged = Expressions::default().when_unchanged("version", *version);
        let mut writes = vec![(Guard::Target, self.delete_write(&Key::tenant(tenant), unchanged)?)];
        for origin in each(&policy.cors_origins) {
            writes.push(self.name_origin(tenant, origin, "DELETE tenants :tenant")?);
        }
        if self.commit(writes).await?.is_done()? {
            Ok(Switched::Done)
        } else {
            Err(changed_meanwhile(format_args!("tenant {tenant}")))
        }
    }

    /// Suspends a tenant and ends all its sessions. Takes effect in every function within 5 s, when the cached tenant
    /// expires.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn suspend_tenant(&self, tenant: &TenantId) -> Result<Switched, Failure> {
        let update = "SET tenant_status = :to, session_epoch = session_epoch + :one ADD version :one";
        self.switch_tenant(tenant, update, TenantStatus::Suspended).await
    }

    /// Resumes a suspended tenant. Earlier sessions stay ended.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn resume_tenant(&self, tenant: &TenantId) -> Result<Switched, Failure> {
        let update = "SET tenant_status = :to ADD version :one";
        self.switch_tenant(tenant, update, TenantStatus::Active).await
    }

    async fn switch_tenant(
        &self,
        tenant: &TenantId,
        update: &str,
        to: TenantStatus,
    ) -> Result<Switched, Failure> {
        let update = Expressions::update(update).value(":to", string(to.name())).value(":one", number(1));
        self.switch(&Key::tenant(tenant), update, "tenant_status <> :to").await
    }

    /// Lists the IDs of all tenants, including tenants without audit events. Tenants with an invalid ID have no log.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn tenant_ids(&self) -> Result<Vec<TenantId>, Failure> {
        let tenants = self.tenants().await?;
        Ok(tenants.iter().filter_map(|tenant| TenantId::parse(&tenant.id).ok()).collect())
    }

    /// Lists the last use of each version of a tenant's secret, in any order.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn secret_uses(&self, tenant: &TenantId) -> Result<Vec<LastUse>, Failure> {
        query_all(self.query(Key::tenant(tenant).pk, SECRET_PREFIX), decode).await
    }

    /// Replaces `before` by the changed tenant. Returns `None` if the tenant changed since it was read. A rotation
    /// changes only the version of the secret, which has its own condition.
    async fn replace_record(
        &self,
        before: TenantRecord,
        change: &TenantChange,
        change_status: impl FnOnce(&Tenant) -> Tenant,
        now: Timestamp,
    ) -> Result<Option<TenantRecord>, Failure> {
        let Tenant { version: read, policy, .. } = &before.tenant;
        let (read, algorithm, origins) = (*read, policy.algorithm, policy.cors_origins.clone());
        let mut record = before;
        let Tenant { status, session_epoch, .. } = change_status(&record.tenant);
        record.item.extend([
            ("tenant_status".to_owned(), string(status.name())),
            ("session_epoch".to_owned(), number(session_epoch)),
            ("version".to_owned(), number(read + 1)),
        ]);
        let mut after = record.changed(change)?;
        if after.tenant.policy.algorithm != algorithm {
            let previous = PreviousAlgorithm { algorithm, replaced_at: now };
            after.item.insert(PREVIOUS_ALGORITHM.to_owned(), previous_algorithm_value(previous));
            after.tenant.previous_algorithm = Some(previous);
        }
        let unchanged = Expressions::condition("attribute_exists(pk)").when_unchanged("version", read);
        let unchanged = match after.item.get(SECRET_VERSION) {
            Some(secret) => unchanged.when("secret_version = :secret").value(":secret", secret.clone()),
            None => unchanged.when("attribute_not_exists(secret_version)"),
        };
        Ok(self.write_tenant(&after, &origins, unchanged).await?.is_done()?.then_some(after))
    }

    async fn write_tenant(
        &self,
        record: &TenantRecord,
        earlier: &[WebOrigin],
        condition: Expressions,
    ) -> Result<Committed, Failure> {
        let Tenant { id, policy, .. } = &record.tenant;
        let mut writes = vec![(Guard::Target, self.put_write(record.item.clone(), condition)?)];
        // Unchanged origins are added again, which repairs a tenant item that was edited by hand.
        for origin in each(&policy.cors_origins) {
            writes.push(self.name_origin(id, origin, "ADD tenants :tenant")?);
        }
        for origin in each(earlier).filter(|origin| !policy.cors_origins.contains(origin)) {
            writes.push(self.name_origin(id, origin, "DELETE tenants :tenant")?);
        }
        self.commit(writes).await
    }

    fn name_origin(&self, tenant: &TenantId, origin: &WebOrigin, update: &str) -> Result<Guarded, Failure> {
        let update = Expressions::update(update)
            .value(":tenant", AttributeValue::Ss(vec![tenant.as_str().to_owned()]));
        Ok((Guard::None, self.update_write(&Key::origin(origin), update)?))
    }
}

/// Returns the distinct origins of a list, because a transaction cannot write an item twice.
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
    use crate::store::tenant::tests::{policy_with, record};

    #[test]
    fn change_keeps_unknown_attributes_and_policy_fields() {
        let later = AttributeValue::Bs(vec![aws_sdk_dynamodb::primitives::Blob::new([255])]);
        let before = record(policy_with("of_a_later_version", later.clone()));
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
        assert_eq!(refused(&change("garce_seconds", None)), ["garce_seconds"]);
        assert_eq!(refused(&change("of_a_later_version", Some(7.into()))), ["of_a_later_version"]);
        let nameless =
            TenantChange { name: Some(" ".to_owned()), ..change("grace_seconds", Some(301.into())) };
        assert_eq!(refused(&nameless), ["tenant_name", "grace_seconds"]);
        assert!(before.changed(&change("of_a_later_version", None)).unwrap().unknown.is_empty());
    }

    #[test]
    fn tenant_name_has_1_to_200_bytes_without_control_characters() {
        let named = |name: &str| {
            let change = TenantChange { name: Some(name.to_owned()), policy: BTreeMap::new() };
            record(Attributes::new()).changed(&change).is_ok()
        };
        assert!(named("N") && named(&"N".repeat(200)));
        for name in ["", " ", "a\nb", &"N".repeat(201), &"\u{eb}".repeat(101)] {
            assert!(!named(name), "{name:?}");
        }
    }
}
