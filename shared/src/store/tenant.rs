//! A tenant's items: the tenant, its message templates, the last use of each version of its secret, and the items that
//! list the tenants that allow an origin.
//!
//! A tenant item may contain attributes and policy fields of a later version. They are ignored, and every write keeps
//! them.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{
    DynamoStore,
    item::{Attributes, decode, instant, number, string, text, to_number, ttl_after},
    keys::Key,
    table::{Expressions, Updated},
};
use crate::domain::{
    ActiveSecret, FIELDS, Failure, FieldError, Policy, PolicyDocument, PolicyFault, PolicyField,
    PreviousAlgorithm, Severity, SigningAlgorithm, Templates, Tenant, TenantId, TenantStatus, WebOrigin,
};

/// Decoded tenant item, including its faults.
#[derive(Debug, Clone)]
pub struct TenantRecord {
    /// The tenant. Policy fields with faults have their default.
    pub tenant: Tenant,
    /// Stored policy fields.
    pub document: PolicyDocument,
    /// Names of policy fields that this version does not know. They are kept.
    pub unknown: Vec<String>,
    /// Faults of the policy.
    pub faults: Vec<PolicyFault>,
    pub(super) item: Attributes,
}

impl TenantRecord {
    /// Decodes a tenant item.
    pub(super) fn read(item: Attributes) -> Result<Self, Failure> {
        let corrupt = |what: &str| {
            Failure::Unavailable(format!("a stored tenant has no valid `{what}`; correct the item").into())
        };
        let id = text(&item, "tenant_id").and_then(|id| TenantId::parse(id).ok());
        let id = id.ok_or_else(|| corrupt("tenant_id"))?;
        let status = text(&item, "tenant_status").and_then(TenantStatus::from_name);
        let no_policy = Attributes::new();
        let stored = match item.get("policy") {
            Some(AttributeValue::M(stored)) => stored,
            None => &no_policy,
            Some(_) => return Err(corrupt("policy")),
        };
        let document =
            FIELDS.iter().filter_map(|field| Some((field.name.to_owned(), value(stored.get(field.name)?)?)));
        let document: PolicyDocument = document.collect();
        let unknown = stored.keys().filter(|name| PolicyField::named(name).is_none()).cloned().collect();
        let (policy, faults) = Policy::read(&document);
        let tenant = Tenant {
            name: text(&item, "tenant_name").unwrap_or(id.as_str()).to_owned(),
            status: status.ok_or_else(|| corrupt("tenant_status"))?,
            session_epoch: counter(&item, "session_epoch").ok_or_else(|| corrupt("session_epoch"))?,
            // Early versions did not store a version.
            version: counter(&item, "version").unwrap_or_default(),
            active_secret: active_secret(&item),
            previous_algorithm: previous_algorithm(&item),
            policy,
            id,
        };
        Ok(Self { tenant, document, unknown, faults, item })
    }

    /// Returns whether the index lists all users of the tenant. If not, `doctor --repair` completes the index.
    pub fn lists_users(&self) -> bool {
        self.item.get(USERS_INDEXED) == Some(&AttributeValue::Bool(true))
    }

    /// Returns the tenant. Logs ignored settings.
    ///
    /// # Errors
    /// `Unavailable` when the policy has a fault that makes the tenant unsafe to serve.
    fn usable(self) -> Result<Tenant, Failure> {
        let Tenant { id, .. } = &self.tenant;
        for PolicyFault { error, severity } in &self.faults {
            let FieldError { field, message } = error;
            match severity {
                Severity::Bounded => {}
                Severity::Ignored => {
                    tracing::warn!(tenant = %id, %field, error = %message, "tenant.setting_unusable");
                }
                Severity::Unusable => {
                    let problem = format!("the policy of tenant {id} is invalid: {field} {message}");
                    return Err(Failure::Unavailable(problem.into()));
                }
            }
        }
        Ok(self.tenant)
    }
}

/// Decodes a policy value. Returns `None` for null.
fn value(attribute: &AttributeValue) -> Option<Value> {
    match attribute {
        AttributeValue::Null(_) => None,
        // A value that JSON cannot represent becomes an object, which no field accepts.
        other => Some(
            serde_dynamo::from_attribute_value(other.clone())
                .unwrap_or_else(|_| Value::Object(PolicyDocument::new())),
        ),
    }
}

/// Decodes a counter. Returns `None` if the item has no valid one.
pub(super) fn counter(item: &Attributes, name: &str) -> Option<u64> {
    to_number(item, name).ok().flatten()
}

/// Decodes the version of the secret in use. Returns `None` if the item has no valid one.
fn active_secret(item: &Attributes) -> Option<ActiveSecret> {
    let mut parts = text(item, SECRET_VERSION)?.split(' ');
    let (version, since) = (parts.next()?.to_owned(), milliseconds(parts.next()?)?);
    let previous_retired_at = parts.next().map(milliseconds);
    let retired = parts.next().map(str::to_owned);
    match (previous_retired_at, parts.next()) {
        (Some(None), _) | (_, Some(_)) => None,
        (at, None) => Some(ActiveSecret { version, since, previous_retired_at: at.flatten(), retired }),
    }
}

/// Encodes the version of the secret in use: its ID, the time in milliseconds, the time at which the version before it
/// was retired, if it was, and the ID of that version, if it is known.
pub(super) fn active_secret_value(secret: &ActiveSecret) -> AttributeValue {
    let ActiveSecret { version, since, previous_retired_at, retired } = secret;
    let retired = previous_retired_at.map(|at| {
        let version = retired.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
        format!(" {}{version}", at.as_millisecond())
    });
    string(format!("{version} {}{}", since.as_millisecond(), retired.unwrap_or_default()))
}

/// Decodes the replaced algorithm. Returns `None` if the item has no valid one.
fn previous_algorithm(item: &Attributes) -> Option<PreviousAlgorithm> {
    let (algorithm, replaced_at) = text(item, PREVIOUS_ALGORITHM)?.split_once(' ')?;
    let algorithm = SigningAlgorithm::from_name(algorithm)?;
    Some(PreviousAlgorithm { algorithm, replaced_at: milliseconds(replaced_at)? })
}

/// Encodes the replaced algorithm: its name, and the time in milliseconds.
pub(super) fn previous_algorithm_value(previous: PreviousAlgorithm) -> AttributeValue {
    let PreviousAlgorithm { algorithm, replaced_at } = previous;
    string(format!("{} {}", algorithm.name(), replaced_at.as_millisecond()))
}

fn milliseconds(text: &str) -> Option<Timestamp> {
    Timestamp::from_millisecond(text.parse().ok()?).ok()
}

/// Stored form of message templates. They have their own item, because only the delivery function reads them.
#[derive(Deserialize)]
struct TemplatesItem {
    templates: Templates,
}

/// Attribute with the version of the secret in use.
pub(super) const SECRET_VERSION: &str = "secret_version";
/// Attribute that is true once the index lists all users of the tenant. Tenants of earlier versions do not have it.
pub(super) const USERS_INDEXED: &str = "users_indexed";
/// Attribute with the algorithm before the last change.
pub(super) const PREVIOUS_ALGORITHM: &str = "previous_algorithm";

/// Minimum interval between two records of the same version of a secret, over all processes.
const USE_INTERVAL: Duration = Duration::from_secs(60);
/// Retention of the last use of a version of a secret: longer than any rotation takes.
const USE_RETENTION: Duration = Duration::from_secs(400 * 24 * 60 * 60);

impl DynamoStore {
    /// Reads a tenant.
    ///
    /// # Errors
    /// `Unavailable` when the read fails or the tenant cannot be served.
    pub async fn tenant(&self, tenant: &TenantId) -> Result<Option<Tenant>, Failure> {
        self.tenant_record(tenant).await?.map(TenantRecord::usable).transpose()
    }

    /// Reads a tenant with the faults of its policy.
    ///
    /// # Errors
    /// `Unavailable` when the read fails or the item cannot be decoded.
    pub async fn tenant_record(&self, tenant: &TenantId) -> Result<Option<TenantRecord>, Failure> {
        self.get(&Key::tenant(tenant), Some(true)).await?.map(TenantRecord::read).transpose()
    }

    /// Returns whether any tenant allows an origin.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn origin_is_named(&self, origin: &WebOrigin) -> Result<bool, Failure> {
        // DynamoDB removes a set when its last element is removed.
        let item = self.get(&Key::origin(origin), None).await?;
        Ok(item.is_some_and(|item| item.contains_key("tenants")))
    }

    /// Reads the message templates of a tenant. Returns `None` if the tenant uses the default templates.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn templates(&self, tenant: &TenantId) -> Result<Option<Templates>, Failure> {
        let item = self.get(&Key::templates(tenant), None).await?;
        item.map(|item| decode::<TemplatesItem>(item).map(|item| item.templates)).transpose()
    }

    /// Writes the version of the tenant's secret that is in use, unless the record already has it. A function
    /// whose loaded secret has another version loads the secret again. Changes nothing if the tenant does not
    /// exist.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn activate_secret(
        &self,
        tenant: &TenantId,
        version: &str,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let secret = ActiveSecret {
            version: version.to_owned(),
            since: now,
            previous_retired_at: None,
            retired: None,
        };
        let update = Expressions::update("SET secret_version = :secret")
            .when("attribute_exists(pk)")
            .when("(attribute_not_exists(secret_version) OR NOT begins_with(secret_version, :version))")
            .value(":secret", active_secret_value(&secret))
            .value(":version", string(format!("{version} ")));
        self.update(&Key::tenant(tenant), update).await.map(|_| ())
    }

    /// Marks the version before `version` as retired, if the record names `version`. Every function then loads the
    /// secret again.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn retire_previous_secret(
        &self,
        tenant: &TenantId,
        version: &str,
        retired: Option<&str>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let Some(since) = self.secret_active_since(tenant, version).await? else {
            return Ok(());
        };
        let version = version.to_owned();
        let named = ActiveSecret { version, since, previous_retired_at: None, retired: None };
        let retired = retired.map(str::to_owned);
        let retired = ActiveSecret { previous_retired_at: Some(now), retired, ..named.clone() };
        // An earlier call may have marked it, and a rotation may have written another version.
        let update = Expressions::update("SET secret_version = :retired")
            .when("secret_version = :named")
            .value(":retired", active_secret_value(&retired))
            .value(":named", active_secret_value(&named));
        self.update(&Key::tenant(tenant), update).await.map(|_| ())
    }

    /// Returns the time since which a version of the tenant's secret is in use; `None` if the record names no version or
    /// another one. The read is a write that changes nothing, because the role of `rotate-secret` has no permission for `GetItem`.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn secret_active_since(
        &self,
        tenant: &TenantId,
        version: &str,
    ) -> Result<Option<Timestamp>, Failure> {
        let update = Expressions::update("SET secret_version = secret_version")
            .when("begins_with(secret_version, :version)")
            .value(":version", string(format!("{version} ")))
            .return_updated();
        Ok(match self.update(&Key::tenant(tenant), update).await? {
            Updated::Done(item) => active_secret(&item).map(|secret| secret.since),
            Updated::Refused(_) => None,
        })
    }

    /// Records the use of a version of the tenant's secret, unless a use was recorded within the last 60 s. An operator
    /// retires the previous version when no caller uses it any more (docs/design/security.md#rule-18).
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn note_secret_use(
        &self,
        tenant: &TenantId,
        version: &str,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let due = now.checked_sub(USE_INTERVAL).unwrap_or(Timestamp::MIN);
        let update = Expressions::update("SET version_id = :version, last_used_at = :now, expires_at = :ttl")
            .when("attribute_not_exists(last_used_at) OR last_used_at <= :due")
            .value(":version", string(version))
            .value(":now", instant(now))
            .value(":ttl", number(ttl_after(now, USE_RETENTION)))
            .value(":due", instant(due));
        self.update(&Key::secret_use(tenant, version), update).await.map(|_| ())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::store::item::{number, string};

    pub(in crate::store) fn record(policy: Attributes) -> TenantRecord {
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

    pub(in crate::store) fn policy_with(name: &str, value: AttributeValue) -> Attributes {
        Attributes::from([(name.to_owned(), value)])
    }

    #[test]
    fn faults_of_link_settings_are_ignored_and_others_block_the_tenant() {
        let hosts = AttributeValue::L(vec![string("not a host"), string("app.example.com")]);
        let tenant = record(policy_with("link_hosts", hosts)).usable().unwrap();
        assert_eq!(tenant.policy.link_hosts.len(), 1);
        for (name, value) in [
            ("algorithm", string("none")),
            ("max_attempts", string("5")),
            ("ip_allow", AttributeValue::B(aws_sdk_dynamodb::primitives::Blob::new([255]))),
        ] {
            let Err(Failure::Unavailable(cause)) = record(policy_with(name, value)).usable() else {
                panic!("{name}")
            };
            assert!(cause.to_string().contains(name), "{cause}");
        }
        assert!(record(policy_with("algorithm", AttributeValue::Null(true))).usable().is_ok());
        assert!(record(policy_with("grace_seconds", number(301))).usable().is_ok());
    }
}
