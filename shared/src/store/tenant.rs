//! The tenant item.

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    DynamoStore,
    item::{corrupt, decode, encode, unavailable},
    keys::Key,
};
use crate::domain::{
    Delivery, Failure, HashCost, Invalid, LinkHost, LinkTemplate, PasswordPolicy, Policy, SessionLimit,
    SigningAlgorithm, Tenant, TenantId, TenantStatus, WhenFull,
};

#[derive(Serialize, Deserialize)]
struct TenantItem {
    tenant_id: TenantId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant_name: Option<String>,
    tenant_status: StatusName,
    session_epoch: u64,
    #[serde(default)]
    policy: PolicyItem,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum StatusName {
    Active,
    Suspended,
}

/// What the record says of the policy; the rest is at its default.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct PolicyItem {
    #[serde(skip_serializing_if = "Option::is_none")]
    algorithm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audience: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_life_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_life_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_life_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_after_expiry: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lockout_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_after: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failures_per_user: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failures_per_ip: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failures_per_tenant: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    when_full: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_allow: Option<Vec<IpNet>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trusted_proxies: Option<Vec<IpNet>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cors_origins: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_min_length: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash_memory_kib: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash_passes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash_lanes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_set_password_expires: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_history: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code_life_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    codes_per_hour: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wrong_codes_per_ip: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_hosts: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_template: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_bus: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mail_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locale: Option<String>,
}

impl From<&Policy> for PolicyItem {
    fn from(policy: &Policy) -> Self {
        let Policy {
            algorithm,
            issuer,
            audience,
            token_life,
            session_life,
            idle_life,
            grace,
            refresh_after_expiry,
            max_attempts,
            lockout,
            disable_after,
            failures_per_user,
            failures_per_ip,
            failures_per_tenant,
            session_limit,
            ip_allow,
            trusted_proxies,
            cors_origins,
            password,
            hash_cost: HashCost { memory_kib, passes, lanes },
            admin_set_password_expires,
            password_history,
            code_life,
            codes_per_hour,
            wrong_codes_per_ip,
            link_hosts,
            link_template,
            delivery,
            mail_from,
            locale,
        } = policy;
        Self {
            algorithm: Some(algorithm.name().to_owned()),
            issuer: Some(issuer.clone()),
            audience: Some(audience.clone()),
            token_life_seconds: Some(token_life.as_secs()),
            session_life_seconds: Some(session_life.as_secs()),
            idle_life_seconds: Some(idle_life.as_secs()),
            grace_seconds: Some(grace.as_secs()),
            refresh_after_expiry: Some(*refresh_after_expiry),
            max_attempts: Some(*max_attempts),
            lockout_seconds: Some(lockout.as_secs()),
            disable_after: Some(*disable_after),
            failures_per_user: Some(*failures_per_user),
            failures_per_ip: Some(*failures_per_ip),
            failures_per_tenant: Some(*failures_per_tenant),
            session_limit: session_limit.map(|limit| limit.max),
            when_full: session_limit.map(|limit| limit.when_full.name().to_owned()),
            ip_allow: Some(ip_allow.clone()),
            trusted_proxies: Some(trusted_proxies.clone()),
            cors_origins: Some(cors_origins.clone()),
            password_min_length: Some(password.min_length()),
            hash_memory_kib: Some(*memory_kib),
            hash_passes: Some(*passes),
            hash_lanes: Some(*lanes),
            admin_set_password_expires: Some(*admin_set_password_expires),
            password_history: Some(*password_history),
            code_life_seconds: Some(code_life.as_secs()),
            codes_per_hour: Some(*codes_per_hour),
            wrong_codes_per_ip: Some(*wrong_codes_per_ip),
            link_hosts: Some(link_hosts.iter().cloned().map(String::from).collect()),
            link_template: link_template.as_ref().map(|template| template.as_str().to_owned()),
            event_bus: match delivery {
                Delivery::Direct => None,
                Delivery::EventBus(bus) => Some(bus.clone()),
            },
            mail_from: mail_from.clone(),
            locale: Some(locale.clone()),
        }
    }
}

impl TryFrom<PolicyItem> for Policy {
    type Error = Failure;

    fn try_from(item: PolicyItem) -> Result<Self, Failure> {
        let usual = Self::default();
        let seconds = |given: Option<u64>, usual: Duration| given.map_or(usual, Duration::from_secs);
        let algorithm = match &item.algorithm {
            Some(name) => SigningAlgorithm::from_name(name).ok_or_else(|| corrupt("signing algorithm"))?,
            None => usual.algorithm,
        };
        // A setting of links that cannot be used must not keep anybody from logging in: reset links lead
        // to the hosted page then.
        let hosts = item.link_hosts.unwrap_or_default();
        let link_hosts: Vec<_> =
            hosts.iter().filter_map(|host| usable("link_hosts", LinkHost::parse(host))).collect();
        let link_template = item
            .link_template
            .and_then(|text| usable("link_template", LinkTemplate::parse(&text, &link_hosts)));
        let policy = Self {
            algorithm,
            issuer: item.issuer.unwrap_or(usual.issuer),
            audience: item.audience.unwrap_or(usual.audience),
            token_life: seconds(item.token_life_seconds, usual.token_life),
            session_life: seconds(item.session_life_seconds, usual.session_life),
            idle_life: seconds(item.idle_life_seconds, usual.idle_life),
            grace: seconds(item.grace_seconds, usual.grace),
            refresh_after_expiry: item.refresh_after_expiry.unwrap_or(usual.refresh_after_expiry),
            max_attempts: item.max_attempts.unwrap_or(usual.max_attempts),
            lockout: seconds(item.lockout_seconds, usual.lockout),
            disable_after: item.disable_after.unwrap_or(usual.disable_after),
            failures_per_user: item.failures_per_user.unwrap_or(usual.failures_per_user),
            failures_per_ip: item.failures_per_ip.unwrap_or(usual.failures_per_ip),
            failures_per_tenant: item.failures_per_tenant.unwrap_or(usual.failures_per_tenant),
            session_limit: match item.session_limit {
                None => None,
                Some(max) => {
                    let when_full = item.when_full.as_deref().unwrap_or("reject");
                    let when_full =
                        WhenFull::from_name(when_full).ok_or_else(|| corrupt("rule for full sessions"))?;
                    Some(SessionLimit { max, when_full })
                }
            },
            ip_allow: item.ip_allow.unwrap_or_default(),
            trusted_proxies: item.trusted_proxies.unwrap_or_default(),
            cors_origins: item.cors_origins.unwrap_or_default(),
            password: item.password_min_length.map_or(usual.password, PasswordPolicy::new),
            hash_cost: HashCost {
                memory_kib: item.hash_memory_kib.unwrap_or(usual.hash_cost.memory_kib),
                passes: item.hash_passes.unwrap_or(usual.hash_cost.passes),
                lanes: item.hash_lanes.unwrap_or(usual.hash_cost.lanes),
            },
            admin_set_password_expires: item
                .admin_set_password_expires
                .unwrap_or(usual.admin_set_password_expires),
            password_history: item.password_history.unwrap_or(usual.password_history),
            code_life: seconds(item.code_life_seconds, usual.code_life),
            codes_per_hour: item.codes_per_hour.unwrap_or(usual.codes_per_hour),
            wrong_codes_per_ip: item.wrong_codes_per_ip.unwrap_or(usual.wrong_codes_per_ip),
            link_hosts,
            link_template,
            delivery: item.event_bus.map_or(usual.delivery, Delivery::EventBus),
            mail_from: item.mail_from,
            locale: item.locale.unwrap_or(usual.locale),
        };
        Ok(policy.bounded())
    }
}

fn usable<T>(field: &'static str, parsed: Result<T, Invalid>) -> Option<T> {
    parsed.inspect_err(|error| tracing::warn!(field, %error, "tenant.setting_unusable")).ok()
}

impl DynamoStore {
    pub(super) async fn read_tenant(&self, tenant: &TenantId) -> Result<Option<Tenant>, Failure> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(Key::tenant(tenant).attributes()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| unavailable(&error))?;
        let Some(attributes) = answer.item else {
            return Ok(None);
        };
        let item: TenantItem = decode(attributes)?;
        Ok(Some(Tenant {
            name: item.tenant_name.unwrap_or_else(|| item.tenant_id.as_str().to_owned()),
            id: item.tenant_id,
            status: match item.tenant_status {
                StatusName::Active => TenantStatus::Active,
                StatusName::Suspended => TenantStatus::Suspended,
            },
            session_epoch: item.session_epoch,
            policy: item.policy.try_into()?,
        }))
    }

    /// Writes a tenant's record, replacing an earlier one. For operators' tools.
    ///
    /// # Errors
    /// `Unavailable` when storage does not answer.
    pub async fn put_tenant(&self, tenant: &Tenant) -> Result<(), Failure> {
        let item = TenantItem {
            tenant_id: tenant.id.clone(),
            tenant_name: Some(tenant.name.clone()),
            tenant_status: match tenant.status {
                TenantStatus::Active => StatusName::Active,
                TenantStatus::Suspended => StatusName::Suspended,
            },
            session_epoch: tenant.session_epoch,
            policy: PolicyItem::from(&tenant.policy),
        };
        self.client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(encode(&Key::tenant(&tenant.id), &item)?))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| unavailable(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_cannot_be_used_closes_nothing() {
        let item = PolicyItem {
            link_hosts: Some(vec!["not a host".into(), "app.example.com".into()]),
            link_template: Some("https://elsewhere.example/{{.Code}}".into()),
            ..PolicyItem::default()
        };
        let policy = Policy::try_from(item).unwrap();
        assert_eq!(policy.link_hosts, [LinkHost::parse("app.example.com").unwrap()]);
        assert_eq!(policy.link_template, None);
    }

    #[test]
    fn a_policy_survives_storage() {
        let policy = Policy {
            algorithm: SigningAlgorithm::Hs256,
            ip_allow: vec!["2001:db8::/32".parse().unwrap()],
            refresh_after_expiry: false,
            max_attempts: 3,
            link_hosts: vec![LinkHost::parse("app.example.com:8443").unwrap()],
            link_template: Some(
                LinkTemplate::parse(
                    "https://app.example.com:8443/{{.UserID}}?code={{.Code}}",
                    &[LinkHost::parse("app.example.com:8443").unwrap()],
                )
                .unwrap(),
            ),
            delivery: Delivery::EventBus("bus".into()),
            mail_from: Some("no-reply@example.com".into()),
            password_history: 24,
            ..Policy::default()
        };
        assert_eq!(Policy::try_from(PolicyItem::from(&policy)).unwrap(), policy);
        assert_eq!(Policy::try_from(PolicyItem::default()).unwrap(), Policy::default());
    }
}
