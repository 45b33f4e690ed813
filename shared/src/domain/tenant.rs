//! A tenant and its policy: what decides how its logins and sessions behave.

use std::{net::IpAddr, time::Duration};

use ipnet::{IpNet, Ipv4Net};

use super::{LinkHost, LinkTemplate, LiveSession, PasswordPolicy, SessionId, TenantId};

/// A tenant's record.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// What people know it as: in mails and on the hosted page.
    pub name: String,
    /// Whether it is open for business.
    pub status: TenantStatus,
    /// Counts the times that all its sessions were ended at once (storage, "Epoch, not time").
    pub session_epoch: u64,
    /// How its logins and sessions behave.
    pub policy: Policy,
}

/// Whether a tenant's users may do anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantStatus {
    /// Open.
    Active,
    /// Every route answers 403 once the tenant's credentials or a bearer were right.
    Suspended,
}

/// How a tenant's logins and sessions behave. Durations are whole seconds in storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What signs its access tokens.
    pub algorithm: SigningAlgorithm,
    /// `iss` of its tokens; default `bff` (contract, "Create session").
    pub issuer: String,
    /// `aud` of its tokens; default `bff-clients`.
    pub audience: String,
    /// Life of an access token; default 1 h (seeds).
    pub token_life: Duration,
    /// Life of a session from login, whatever happens; default 24 h (seeds).
    pub session_life: Duration,
    /// Life of a session without a refresh; default 8 h, never below a token's life.
    pub idle_life: Duration,
    /// How long a retired refresh token still answers; default 30 s, at most 300 s (contract).
    pub grace: Duration,
    /// Whether an expired access token may still be refreshed; default yes (contract, "Refresh").
    pub refresh_after_expiry: bool,
    /// Wrong passwords in a row before a lockout; default 5 (contract).
    pub max_attempts: usize,
    /// Length of a lockout, and of the quiet after which failures are forgotten; default 30 min.
    pub lockout: Duration,
    /// Wrong passwords in a row, whatever the time between them, after which a password opens nothing
    /// until it is set anew; default 100, the most that is allowed (security 8).
    pub disable_after: u32,
    /// Wrong passwords for one user within an hour, over all its lockouts; default 20.
    pub failures_per_user: u32,
    /// Wrong passwords from one address, of IPv6 from one /64, within an hour; default 300.
    pub failures_per_ip: u32,
    /// Wrong passwords for all of the tenant's users within an hour; default 10,000.
    pub failures_per_tenant: u32,
    /// How many sessions a user may have at once; unset: any number.
    pub session_limit: Option<SessionLimit>,
    /// Networks that requests may come from; empty means any.
    pub ip_allow: Vec<IpNet>,
    /// Proxies whose `X-Forwarded-For` is believed; empty: none (security 22).
    pub trusted_proxies: Vec<IpNet>,
    /// Origins whose pages may read the answers; empty: none (contract, "Every request").
    pub cors_origins: Vec<String>,
    /// What a new password must be.
    pub password: PasswordPolicy,
    /// What hashing a password costs.
    pub hash_cost: HashCost,
    /// Whether a password that an administrator chose must be changed at the next login; default yes.
    pub admin_set_password_expires: bool,
    /// How many of the last passwords, the present one among them, may not be used again; default 0:
    /// no rule, at most 24 (security 6).
    pub password_history: usize,
    /// Life of a reset code; default 1 h, at most 24 h (contract, "ZITADEL v2").
    pub code_life: Duration,
    /// Codes that are sent to one user within an hour; default 5.
    pub codes_per_hour: usize,
    /// Wrong codes from one address within an hour; default 100.
    pub wrong_codes_per_ip: u32,
    /// Hosts that a reset link may lead to: none but the hosted page's unless named here.
    pub link_hosts: Vec<LinkHost>,
    /// Where a reset link leads to; unset: the hosted page.
    pub link_template: Option<LinkTemplate>,
    /// How messages reach users.
    pub delivery: Delivery,
    /// Sender of mails; unset: the deployment's.
    pub mail_from: Option<String>,
    /// Language of those users who have none of their own (BCP 47); default `en`.
    pub locale: String,
}

/// How many sessions a user may have at once, and what happens at one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimit {
    /// So many; at least 1.
    pub max: u32,
    /// What a login does that would be one more.
    pub when_full: WhenFull,
}

impl SessionLimit {
    /// Most sessions that a limit may allow.
    pub const MAX: u32 = 100;

    /// Those of a user's `live` sessions that end so that one more fits, oldest first; `None` when it
    /// is the one more that does not.
    pub fn evicts(self, mut live: Vec<LiveSession>) -> Option<Vec<SessionId>> {
        let max = usize::try_from(self.max).unwrap_or(usize::MAX);
        let surplus = (live.len() + 1).saturating_sub(max);
        match self.when_full {
            WhenFull::Reject if surplus > 0 => None,
            WhenFull::Reject | WhenFull::Oldest | WhenFull::Single => {
                live.sort_by(|one, other| (one.created_at, &one.id).cmp(&(other.created_at, &other.id)));
                Some(live.into_iter().take(surplus).map(|session| session.id).collect())
            }
        }
    }

    fn bounded(self) -> Self {
        let max = if self.when_full == WhenFull::Single { 1 } else { self.max.clamp(1, Self::MAX) };
        Self { max, ..self }
    }
}

/// What a login does that finds its user's sessions full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It is refused.
    Reject,
    /// It ends the oldest.
    Oldest,
    /// It ends every other: a user has one session, its newest.
    Single,
}

impl WhenFull {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Reject, Self::Oldest, Self::Single];

    /// Its name in a tenant's record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Oldest => "oldest",
            Self::Single => "single",
        }
    }

    /// The one of that exact name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|when| when.name() == name)
    }
}

/// How messages reach a tenant's users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Doorward sends them: mail by SES, text messages by SNS.
    Direct,
    /// The tenant does: it gets an event on that EventBridge bus.
    EventBus(String),
}

/// Longest look back at old passwords (security 6).
const MAX_HISTORY: usize = 24;
/// Longest life of a reset code (contract, "ZITADEL v2").
const MAX_CODE_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Most wrong passwords in a row before one is disabled (NIST SP 800-63B-4, 3.2.2).
const MAX_CONSECUTIVE_FAILURES: u32 = 100;
/// Longest grace window (contract, "Refresh").
const MAX_GRACE: Duration = Duration::from_secs(300);

impl Policy {
    /// The policy as it is enforced: numbers outside their range are brought to its nearest end.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.session_life = self.session_life.max(Duration::from_secs(1));
        self.token_life = self.token_life.clamp(Duration::from_secs(1), self.session_life);
        self.idle_life = self.idle_life.max(self.token_life);
        self.grace = self.grace.min(MAX_GRACE);
        self.max_attempts = self.max_attempts.clamp(1, 100);
        self.lockout = self.lockout.max(Duration::from_secs(1));
        self.hash_cost = self.hash_cost.bounded();
        self.password_history = self.password_history.min(MAX_HISTORY);
        self.code_life = self.code_life.clamp(Duration::from_secs(1), MAX_CODE_LIFE);
        self.codes_per_hour = self.codes_per_hour.clamp(1, 60);
        self.wrong_codes_per_ip = self.wrong_codes_per_ip.max(1);
        self.disable_after = self.disable_after.clamp(1, MAX_CONSECUTIVE_FAILURES);
        self.failures_per_user = self.failures_per_user.max(1);
        self.failures_per_ip = self.failures_per_ip.max(1);
        self.failures_per_tenant = self.failures_per_tenant.max(1);
        self.session_limit = self.session_limit.map(SessionLimit::bounded);
        self.ip_allow = self.ip_allow.into_iter().map(canonical).collect();
        self.trusted_proxies = self.trusted_proxies.into_iter().map(canonical).collect();
        self
    }

    /// Whether a request from `ip` is admitted. IPv4-mapped IPv6 counts as IPv4 (security 22); with
    /// a list, an unknown address is not.
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
            delivery: Delivery::Direct,
            mail_from: None,
            locale: "en".to_owned(),
        }
    }
}

/// What signs access tokens (contract, "Create session").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SigningAlgorithm {
    /// ECDSA on P-256: the default.
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSA with SHA-256: what API Gateway's own JWT authorizer accepts.
    Rs256,
    /// HMAC with a key derived from the tenant's root key, as in the seeds' examples.
    Hs256,
}

impl SigningAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 4] = [Self::Es256, Self::EdDsa, Self::Rs256, Self::Hs256];

    /// Its name in a JWT's `alg` (RFC 7518, section 3.1; RFC 8037 for `EdDSA`).
    pub fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Hs256 => "HS256",
        }
    }

    /// The algorithm of that exact name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// Cost of one argon2id hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl HashCost {
    /// Most memory of one hash: a record must not be able to exhaust a function.
    pub const MAX_MEMORY_KIB: u32 = 128 * 1024;
    /// Most passes.
    pub const MAX_PASSES: u32 = 16;
    /// Most lanes.
    pub const MAX_LANES: u32 = 4;

    /// The nearest cost that is hashed with.
    #[must_use]
    pub fn bounded(self) -> Self {
        let lanes = self.lanes.clamp(1, Self::MAX_LANES);
        Self {
            // argon2's own minimum (RFC 9106, section 3.1).
            memory_kib: self.memory_kib.clamp(8 * lanes, Self::MAX_MEMORY_KIB),
            passes: self.passes.clamp(1, Self::MAX_PASSES),
            lanes,
        }
    }
}

impl Default for HashCost {
    /// OWASP Password Storage Cheat Sheet, argon2id (security 4).
    fn default() -> Self {
        Self { memory_kib: 19_456, passes: 2, lanes: 1 }
    }
}

/// A network of IPv4-mapped IPv6 addresses as the IPv4 network it is (security 22).
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
mod tests {
    use jiff::Timestamp;

    use super::*;

    // security 22
    #[test]
    fn allow_lists_see_through_mapped_addresses() {
        let policy = Policy { ip_allow: vec!["192.0.2.0/24".parse().unwrap()], ..Policy::default() };
        assert!(policy.admits(Some("192.0.2.7".parse().unwrap())));
        assert!(policy.admits(Some("::ffff:192.0.2.7".parse().unwrap())));
        assert!(!policy.admits(Some("198.51.100.7".parse().unwrap())));
        assert!(!policy.admits(None));
        assert!(Policy::default().admits(None));
        let mapped = Policy { ip_allow: vec!["::ffff:192.0.2.0/120".parse().unwrap()], ..Policy::default() };
        assert!(mapped.bounded().admits(Some("192.0.2.7".parse().unwrap())));
    }

    #[test]
    fn a_limit_ends_the_oldest_or_refuses_the_newest() {
        let live = |ages: &[u8]| -> Vec<_> {
            let session = |age: &u8| LiveSession {
                id: SessionId::from_random([*age; 16]),
                created_at: Timestamp::from_second(1_000 - i64::from(*age)).unwrap(),
            };
            ages.iter().map(session).collect()
        };
        let ids = |ages: &[u8]| ages.iter().map(|age| SessionId::from_random([*age; 16])).collect();
        let limit = |max, when_full| SessionLimit { max, when_full }.bounded();
        let oldest = limit(3, WhenFull::Oldest);
        assert_eq!(oldest.evicts(live(&[])), Some(Vec::new()));
        assert_eq!(oldest.evicts(live(&[1, 2])), Some(Vec::new()));
        assert_eq!(oldest.evicts(live(&[1, 3, 2])), Some(ids(&[3])));
        assert_eq!(oldest.evicts(live(&[4, 1, 5, 3, 2])), Some(ids(&[5, 4, 3])), "a limit that was lowered");
        assert_eq!(limit(7, WhenFull::Single).evicts(live(&[1, 2])), Some(ids(&[2, 1])));
        let reject = limit(2, WhenFull::Reject);
        assert_eq!(reject.evicts(live(&[1])), Some(Vec::new()));
        assert_eq!(reject.evicts(live(&[1, 2])), None);
        assert_eq!(reject.evicts(live(&[1, 2, 3])), None);
    }

    #[test]
    fn a_policy_stays_within_its_bounds() {
        let policy = Policy {
            grace: Duration::from_secs(10_000),
            idle_life: Duration::from_secs(1),
            max_attempts: 0,
            ..Policy::default()
        }
        .bounded();
        assert_eq!(policy.grace, MAX_GRACE);
        assert_eq!(policy.idle_life, policy.token_life);
        assert_eq!(policy.max_attempts, 1);
        let absurd = HashCost { memory_kib: u32::MAX, passes: 0, lanes: 1_000 }.bounded();
        assert_eq!(absurd, HashCost { memory_kib: HashCost::MAX_MEMORY_KIB, passes: 1, lanes: 4 });
        assert_eq!(Policy::default().bounded(), Policy::default());
    }
}
