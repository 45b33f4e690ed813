//! A tenant's policy: the rules for its logins and sessions.
//!
//! [`FIELDS`] is the table of all policy fields, with their names, ranges, defaults and sources. It is used to
//! read tenant records, to check changes and to generate docs/policy.md.

mod field;
mod fields;
mod values;

use std::{net::IpAddr, time::Duration};

use ipnet::{IpNet, Ipv4Net};

pub use field::{PolicyDocument, PolicyFault, PolicyField, Severity};
pub use fields::FIELDS;
use fields::{MAX_CONSECUTIVE_FAILURES, RULES};
pub use values::{HashCost, MessageDelivery, SessionLimit, SigningAlgorithm, WhenFull};

use super::{FieldError, LinkHost, LinkTemplate, PasswordPolicy, WebOrigin};

/// The rules for logins and sessions of a tenant. Durations are stored in whole seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Signature algorithm of access tokens.
    pub algorithm: SigningAlgorithm,
    /// `iss` of tokens; default `bff` (docs/design/contract.md#create-session).
    pub issuer: String,
    /// `aud` of tokens; default `bff-clients`.
    pub audience: String,
    /// Lifetime of an access token; default 1 h (FinHub's documents).
    pub token_life: Duration,
    /// Maximum lifetime of a session, from login; default 24 h (FinHub's documents).
    pub session_life: Duration,
    /// Lifetime of a session without a refresh; default 8 h, at least the lifetime of an access token.
    pub idle_life: Duration,
    /// Grace period in which a retired refresh token is accepted; default 30 s, at most 300 s (docs/design/contract.md).
    pub grace: Duration,
    /// Whether a session can be refreshed after its access token expired; default yes (docs/design/contract.md#refresh).
    pub refresh_after_expiry: bool,
    /// Consecutive failures before a lockout; default 5 (docs/design/contract.md).
    pub max_attempts: usize,
    /// Duration of a lockout, and also the time without failures after which earlier failures are forgotten;
    /// default 30 min.
    pub lockout: Duration,
    /// Consecutive failures after which the password is disabled until it is
    /// reset; default 100, which is also the maximum (docs/design/security.md#rule-8).
    pub disable_after: u32,
    /// Wrong passwords for one user within an hour, across lockouts; default 20.
    pub failures_per_user: u32,
    /// Wrong passwords from one address (IPv6: one /64) within an hour; default 300.
    pub failures_per_ip: u32,
    /// Wrong passwords for all users of the tenant within an hour; default 10,000.
    pub failures_per_tenant: u32,
    /// Limit of concurrent sessions of a user. `None` means no limit.
    pub session_limit: Option<SessionLimit>,
    /// Networks from which requests are allowed. Empty means any.
    pub ip_allow: Vec<IpNet>,
    /// Proxies whose `X-Forwarded-For` header is trusted. Empty means none (docs/design/security.md#rule-22).
    pub trusted_proxies: Vec<IpNet>,
    /// Origins whose pages may read responses. Empty means none (docs/design/contract.md#every-request).
    pub cors_origins: Vec<WebOrigin>,
    /// Rules for new passwords.
    pub password: PasswordPolicy,
    /// Cost of a password hash.
    pub hash_cost: HashCost,
    /// Whether a user must change a password that an administrator set; default yes.
    pub admin_set_password_expires: bool,
    /// Number of recent passwords, including the current one, that cannot be reused; default 0 (no rule), at
    /// most 24 (docs/design/security.md#rule-6).
    pub password_history: usize,
    /// Lifetime of a reset or verification code; default 1 h, at most 24 h (docs/design/contract.md#zitadel-v2).
    pub code_life: Duration,
    /// Codes of one purpose that are sent to one user within an hour; default 5.
    pub codes_per_hour: usize,
    /// Wrong codes from one address within an hour; default 100.
    pub wrong_codes_per_ip: u32,
    /// Hosts that reset and verification links may lead to, besides the host of the hosted page.
    pub link_hosts: Vec<LinkHost>,
    /// Template of reset links. `None` means the hosted page.
    pub link_template: Option<LinkTemplate>,
    /// Delivery of notifications.
    pub delivery: MessageDelivery,
    /// Sender of mails. `None` means the sender of the deployment.
    pub mail_from: Option<String>,
    /// Language of users without a preferred language (BCP 47); default `en`.
    pub locale: String,
}

impl Policy {
    /// Returns the effective policy of a document, and all faults of the document.
    ///
    /// Missing fields have their defaults. Fields that this version does not know are ignored.
    pub fn read(document: &PolicyDocument) -> (Self, Vec<PolicyFault>) {
        let mut policy = Self::default();
        let mut faults = Vec::new();
        for field in FIELDS {
            if let Some(value) = document.get(field.name) {
                field.read(value, &mut policy, &mut faults);
            }
        }
        let broken = RULES.iter().filter(|rule| !(rule.holds)(&policy, document));
        faults.extend(broken.map(|rule| PolicyFault::new(rule.field, rule.message, Severity::Bounded)));
        (policy.bounded(), faults)
    }

    /// Returns the policy of a document without faults.
    ///
    /// # Errors
    /// All faults of the document.
    pub fn checked(document: &PolicyDocument) -> Result<Self, Vec<FieldError>> {
        let (policy, faults) = Self::read(document);
        if faults.is_empty() {
            Ok(policy)
        } else {
            Err(faults.into_iter().map(|fault| fault.error).collect())
        }
    }

    /// Returns the document for this policy: all fields that differ from the defaults.
    pub fn document(&self) -> PolicyDocument {
        let usual = Self::default();
        let differs = |field: &&PolicyField| field.value(self) != field.value(&usual);
        let named = FIELDS.iter().filter(differs);
        named.filter_map(|field| Some((field.name.to_owned(), field.value(self)?))).collect()
    }

    /// Returns the effective policy: numbers outside their range are set to the nearest end of the range.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        for field in FIELDS {
            field.clamp(&mut self);
        }
        self.token_life = self.token_life.min(self.session_life);
        self.idle_life = self.idle_life.max(self.token_life);
        self.hash_cost = self.hash_cost.raised();
        if let Some(limit) = &mut self.session_limit
            && limit.when_full == WhenFull::Single
        {
            limit.max = 1;
        }
        self.ip_allow = self.ip_allow.into_iter().map(canonical).collect();
        self.trusted_proxies = self.trusted_proxies.into_iter().map(canonical).collect();
        self
    }

    /// Returns whether requests from `ip` are allowed. IPv4-mapped IPv6 addresses count as IPv4
    /// (docs/design/security.md#rule-22). If the tenant has an allow-list, an unknown address is rejected.
    pub fn admits(&self, ip: Option<IpAddr>) -> bool {
        self.ip_allow.is_empty()
            || ip.is_some_and(|ip| {
                let ip = ip.to_canonical();
                self.ip_allow.iter().any(|net| net.contains(&ip))
            })
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            algorithm: SigningAlgorithm::Es256,
            issuer: "bff".to_owned(),
            audience: "bff-clients".to_owned(),
            token_life: Duration::from_secs(60 * 60),
            session_life: Duration::from_secs(24 * 60 * 60),
            idle_life: Duration::from_secs(8 * 60 * 60),
            grace: Duration::from_secs(30),
            refresh_after_expiry: true,
            max_attempts: 5,
            lockout: Duration::from_secs(30 * 60),
            disable_after: MAX_CONSECUTIVE_FAILURES,
            failures_per_user: 20,
            failures_per_ip: 300,
            failures_per_tenant: 10_000,
            session_limit: None,
            ip_allow: Vec::new(),
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
            password: PasswordPolicy::default(),
            hash_cost: HashCost::default(),
            admin_set_password_expires: true,
            password_history: 0,
            code_life: Duration::from_secs(60 * 60),
            codes_per_hour: 5,
            wrong_codes_per_ip: 100,
            link_hosts: Vec::new(),
            link_template: None,
            delivery: MessageDelivery::Direct,
            mail_from: None,
            locale: "en".to_owned(),
        }
    }
}

/// Converts a network of IPv4-mapped IPv6 addresses to the IPv4 network (docs/design/security.md#rule-22).
fn canonical(net: IpNet) -> IpNet {
    match net {
        IpNet::V6(v6) => v6
            .addr()
            .to_ipv4_mapped()
            .zip(v6.prefix_len().checked_sub(96))
            .and_then(|(addr, prefix)| Ipv4Net::new(addr, prefix).ok())
            .map_or(net, IpNet::V4),
        IpNet::V4(_) => net,
    }
}

#[cfg(test)]
mod tests;
