//! The tenant item, and the items that list the tenants that allow an origin.
//!
//! A tenant item may contain attributes and policy fields of a later version. They are ignored, and every write keeps
//! them.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::Value;

use super::{DynamoStore, item::Attributes, keys::Key};
use crate::domain::{
    FIELDS, Failure, FieldError, Policy, PolicyDocument, PolicyFault, PolicyField, Severity, Tenant,
    TenantId, TenantStatus, WebOrigin,
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
        let text = |name: &str| match item.get(name) {
            Some(AttributeValue::S(text)) => Some(text.as_str()),
            _ => None,
        };
        let id =
            text("tenant_id").and_then(|id| TenantId::parse(id).ok()).ok_or_else(|| corrupt("tenant_id"))?;
        let status = text("tenant_status").and_then(TenantStatus::from_name);
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
            name: text("tenant_name").unwrap_or(id.as_str()).to_owned(),
            status: status.ok_or_else(|| corrupt("tenant_status"))?,
            session_epoch: whole(&item, "session_epoch").ok_or_else(|| corrupt("session_epoch"))?,
            // Early versions did not store a version.
            version: whole(&item, "version").unwrap_or_default(),
            policy,
            id,
        };
        Ok(Self { tenant, document, unknown, faults, item })
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

/// Decodes a non-negative integer.
pub(super) fn whole(item: &Attributes, name: &str) -> Option<u64> {
    match item.get(name) {
        Some(AttributeValue::N(digits)) => digits.parse().ok(),
        _ => None,
    }
}

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
