//! A tenant's policy: what decides how its logins and sessions behave.
//!
//! [`FIELDS`] is the one table of what a tenant's record may say of it: names, ranges and defaults with
//! their sources. Records are read by it, changes are judged by it, and docs/policy.md shows it.

use std::{net::IpAddr, time::Duration};

use ipnet::{IpNet, Ipv4Net};
use serde_json::{Map, Value};

use super::{
    FieldError, Invalid, LinkHost, LinkTemplate, LiveSession, PasswordPolicy, SessionId, WebOrigin, language,
};

/// How a tenant's logins and sessions behave. Durations are whole seconds in storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What signs its access tokens.
    pub algorithm: SigningAlgorithm,
    /// `iss` of its tokens; default `bff` (docs/design/contract.md#create-session).
    pub issuer: String,
    /// `aud` of its tokens; default `bff-clients`.
    pub audience: String,
    /// Life of an access token; default 1 h (seeds).
    pub token_life: Duration,
    /// Life of a session from login, whatever happens; default 24 h (seeds).
    pub session_life: Duration,
    /// Life of a session without a refresh; default 8 h, never below a token's life.
    pub idle_life: Duration,
    /// How long a retired refresh token still answers; default 30 s, at most 300 s (docs/design/contract.md).
    pub grace: Duration,
    /// Whether an expired access token may still be refreshed; default yes (docs/design/contract.md#refresh).
    pub refresh_after_expiry: bool,
    /// Wrong passwords in a row before a lockout; default 5 (docs/design/contract.md).
    pub max_attempts: usize,
    /// Length of a lockout, and of the quiet after which failures are forgotten; default 30 min.
    pub lockout: Duration,
    /// Wrong passwords in a row, whatever the time between them, after which a password opens nothing
    /// until it is set anew; default 100, the most that is allowed (docs/design/security.md#rule-8).
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
    /// Proxies whose `X-Forwarded-For` is believed; empty: none (docs/design/security.md#rule-22).
    pub trusted_proxies: Vec<IpNet>,
    /// Origins whose pages may read the answers; empty: none (docs/design/contract.md#every-request).
    pub cors_origins: Vec<WebOrigin>,
    /// What a new password must be.
    pub password: PasswordPolicy,
    /// What hashing a password costs.
    pub hash_cost: HashCost,
    /// Whether a password that an administrator chose must be changed at the next login; default yes.
    pub admin_set_password_expires: bool,
    /// How many of the last passwords, the present one among them, may not be used again; default 0:
    /// no rule, at most 24 (docs/design/security.md#rule-6).
    pub password_history: usize,
    /// Life of a reset code; default 1 h, at most 24 h (docs/design/contract.md#zitadel-v2).
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

/// Longest look back at old passwords (docs/design/security.md#rule-6).
const MAX_HISTORY: u64 = 24;
/// Most failures of one user within an hour that are remembered: the item stays small.
const MAX_FAILURES_PER_USER: u64 = 500;
/// Most wrong passwords in a row before one is disabled (NIST SP 800-63B-4, 3.2.2).
const MAX_CONSECUTIVE_FAILURES: u32 = 100;

impl Policy {
    /// The policy that a document asks for, as it is enforced, and everything that is wrong with the
    /// document. What is not named is at its default; fields that this version does not know are not
    /// looked at.
    pub fn read(document: &Document) -> (Self, Vec<Fault>) {
        let mut policy = Self::default();
        let mut faults = Vec::new();
        for field in FIELDS {
            if let Some(value) = document.get(field.name) {
                field.read(value, &mut policy, &mut faults);
            }
        }
        let broken = RULES.iter().filter(|rule| !(rule.holds)(&policy, document));
        faults.extend(broken.map(|rule| Fault::new(rule.field, rule.message, Weight::Bounded)));
        (policy.bounded(), faults)
    }

    /// The policy that a document asks for, which has no fault.
    ///
    /// # Errors
    /// All of its faults at once.
    pub fn checked(document: &Document) -> Result<Self, Vec<FieldError>> {
        let (policy, faults) = Self::read(document);
        if faults.is_empty() {
            Ok(policy)
        } else {
            Err(faults.into_iter().map(|fault| fault.error).collect())
        }
    }

    /// What a record says that asks for this policy: what differs from the defaults.
    pub fn document(&self) -> Document {
        let usual = Self::default();
        let differs = |field: &&Field| field.value(self) != field.value(&usual);
        let named = FIELDS.iter().filter(differs);
        named.filter_map(|field| Some((field.name.to_owned(), field.value(self)?))).collect()
    }

    /// The policy as it is enforced: numbers outside their range are brought to its nearest end.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        for field in FIELDS {
            if let Kind::Number { least, most, of, set } = field.kind
                && let Some(number) = of(&self)
            {
                set(&mut self, number.clamp(least, most));
            }
        }
        self.token_life = self.token_life.min(self.session_life);
        self.idle_life = self.idle_life.max(self.token_life);
        self.hash_cost = self.hash_cost.bounded();
        if let Some(limit) = &mut self.session_limit
            && limit.when_full == WhenFull::Single
        {
            limit.max = 1;
        }
        self.ip_allow = self.ip_allow.into_iter().map(canonical).collect();
        self.trusted_proxies = self.trusted_proxies.into_iter().map(canonical).collect();
        self
    }

    /// Whether a request from `ip` is admitted. IPv4-mapped IPv6 counts as IPv4 (docs/design/security.md#rule-22); with
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

/// What signs access tokens (docs/design/contract.md#create-session).
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
    /// OWASP Password Storage Cheat Sheet, argon2id (docs/design/security.md#rule-4).
    fn default() -> Self {
        Self { memory_kib: 19_456, passes: 2, lanes: 1 }
    }
}

/// What a tenant's record says of its policy, by the names of [`FIELDS`].
pub type Document = Map<String, Value>;

/// Something wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where and what.
    pub error: FieldError,
    /// What becomes of a record that has it.
    pub weight: Weight,
}

/// What becomes of a record that has a fault. No change is written that leaves any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// A number counts as the nearest end of its range.
    Bounded,
    /// The setting counts for nothing: it must not keep anybody from logging in.
    PassedOver,
    /// The tenant is closed until it is put right: nobody can say what was meant.
    Unusable,
}

impl Fault {
    fn new(field: &'static str, message: impl Into<std::borrow::Cow<'static, str>>, weight: Weight) -> Self {
        Self { error: FieldError::new(field, message), weight }
    }
}

/// One field of a policy.
#[derive(Debug)]
pub struct Field {
    /// Its name in a tenant's record.
    pub name: &'static str,
    /// What it decides, and where its default and range come from.
    pub meaning: &'static str,
    /// What becomes of a record where it cannot be used.
    weight: Weight,
    kind: Kind,
}

/// What a field holds, and where that is in a [`Policy`].
#[derive(Debug)]
enum Kind {
    Number { least: u64, most: u64, of: fn(&Policy) -> Option<u64>, set: fn(&mut Policy, u64) },
    Flag { of: fn(&Policy) -> bool, set: fn(&mut Policy, bool) },
    Text { form: &'static str, of: fn(&Policy) -> Option<String>, set: SetText },
    List { form: &'static str, most: usize, of: fn(&Policy) -> Vec<String>, add: SetText },
}

type SetText = fn(&mut Policy, &str) -> Result<(), Invalid>;

/// Something that holds of several fields together.
struct Rule {
    field: &'static str,
    message: &'static str,
    holds: fn(&Policy, &Document) -> bool,
}

const fn number(
    name: &'static str,
    (least, most): (u64, u64),
    meaning: &'static str,
    of: fn(&Policy) -> Option<u64>,
    set: fn(&mut Policy, u64),
) -> Field {
    Field { name, meaning, weight: Weight::Unusable, kind: Kind::Number { least, most, of, set } }
}

const fn flag(
    name: &'static str,
    meaning: &'static str,
    of: fn(&Policy) -> bool,
    set: fn(&mut Policy, bool),
) -> Field {
    Field { name, meaning, weight: Weight::Unusable, kind: Kind::Flag { of, set } }
}

const fn text(
    name: &'static str,
    form: &'static str,
    meaning: &'static str,
    of: fn(&Policy) -> Option<String>,
    set: SetText,
) -> Field {
    Field { name, meaning, weight: Weight::Unusable, kind: Kind::Text { form, of, set } }
}

const fn list(
    name: &'static str,
    (form, most): (&'static str, usize),
    meaning: &'static str,
    of: fn(&Policy) -> Vec<String>,
    add: SetText,
) -> Field {
    Field { name, meaning, weight: Weight::Unusable, kind: Kind::List { form, most, of, add } }
}

impl Field {
    const fn passed_over(self) -> Self {
        Self { weight: Weight::PassedOver, ..self }
    }

    /// The field of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        FIELDS.iter().find(|field| field.name == name)
    }

    /// Its value in a policy; none where that has none.
    pub fn value(&self, policy: &Policy) -> Option<Value> {
        match self.kind {
            Kind::Number { of, .. } => of(policy).map(Value::from),
            Kind::Flag { of, .. } => Some(of(policy).into()),
            Kind::Text { of, .. } => of(policy).map(Value::from),
            Kind::List { of, .. } => Some(of(policy).into()),
        }
    }

    /// What may be in it, in words.
    pub fn allowed(&self) -> String {
        match self.kind {
            Kind::Number { least, most: NO_LIMIT, .. } => format!("at least {least}"),
            Kind::Number { least, most, .. } => format!("{least} to {most}"),
            Kind::Flag { .. } => "true or false".to_owned(),
            Kind::Text { form, .. } => form.to_owned(),
            Kind::List { form, most, .. } => format!("up to {most}: {form}"),
        }
    }

    /// A value as an operator types it: the elements of a list with commas between.
    pub fn typed(&self, text: &str) -> Value {
        let whole = || Value::from(text);
        match self.kind {
            Kind::Number { .. } => text.parse::<i64>().map_or_else(|_| whole(), Value::from),
            Kind::Flag { .. } => text.parse::<bool>().map_or_else(|_| whole(), Value::from),
            Kind::Text { .. } => whole(),
            Kind::List { .. } => {
                let elements = text.split(',').map(str::trim).filter(|element| !element.is_empty());
                elements.collect::<Vec<_>>().into()
            }
        }
    }

    /// Sets what can be used of `value`, and says what cannot.
    fn read(&self, value: &Value, policy: &mut Policy, faults: &mut Vec<Fault>) {
        let mut unusable = |message: String| faults.push(Fault::new(self.name, message, self.weight));
        match self.kind {
            Kind::Number { least, most, set, .. } => {
                let whole = value.as_u64().or_else(|| value.as_i64().map(|_| 0));
                let Some(given) = whole else {
                    return unusable("must be a whole number".to_owned());
                };
                set(policy, given.clamp(least, most));
                if value.as_u64().is_none_or(|given| !(least..=most).contains(&given)) {
                    faults.push(Fault::new(
                        self.name,
                        format!("must be {}", self.allowed()),
                        Weight::Bounded,
                    ));
                }
            }
            Kind::Flag { set, .. } => match value.as_bool() {
                Some(given) => set(policy, given),
                None => unusable("must be true or false".to_owned()),
            },
            Kind::Text { set, .. } => match value.as_str().map(|given| set(policy, given)) {
                Some(Ok(())) => {}
                Some(Err(invalid)) => unusable(invalid.to_string()),
                None => unusable("must be a text".to_owned()),
            },
            Kind::List { most, add, .. } => {
                let given = value.as_array().map(|given| given.iter().map(Value::as_str));
                let Some(Some(given)) = given.map(Iterator::collect::<Option<Vec<_>>>) else {
                    return unusable("must be a list of texts".to_owned());
                };
                if given.len() > most {
                    unusable(format!("must not have more than {most} elements"));
                }
                for element in given {
                    if let Err(invalid) = add(policy, element) {
                        unusable(format!("has {element:?}: each {invalid}"));
                    }
                }
            }
        }
    }
}

/// The end of a range that has none but its type's.
const NO_LIMIT: u64 = u32::MAX as u64;
/// A year: longer is forever.
const YEAR: u64 = 365 * 24 * 60 * 60;
/// A day.
const DAY: u64 = 24 * 60 * 60;

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// A text of some length without control characters.
fn plain(text: &str) -> Result<String, Invalid> {
    let fits = (1..=MAX_TEXT_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
    if fits {
        Ok(text.to_owned())
    } else {
        Err(Invalid::new("must be 1 to 512 bytes without control characters"))
    }
}

/// Longest text: an address of mail with a name, an ARN, an issuer's URL.
const MAX_TEXT_BYTES: usize = 512;

fn network(text: &str) -> Result<IpNet, Invalid> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map_err(|_| Invalid::new("must be a network such as 192.0.2.0/24 or 2001:db8::/32"))
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// Every field (docs/policy.md). A field that another one needs comes after that.
pub const FIELDS: &[Field] = &[
    text(
        "algorithm",
        "ES256, EdDSA, RS256 or HS256",
        "What signs access tokens. ES256: small keys, and what most verifiers know; RS256 is what API Gateway's own JWT authorizer takes; HS256 keys are never published (RFC 7518, RFC 8037). All but HS256 need a signing key of theirs in the tenant's secret first: without one the tenant's requests are answered 503.",
        |policy| Some(policy.algorithm.name().to_owned()),
        |policy, name| {
            let known = SigningAlgorithm::from_name(name);
            policy.algorithm = known.ok_or(Invalid::new("must be ES256, EdDSA, RS256 or HS256"))?;
            Ok(())
        },
    ),
    text(
        "issuer",
        "1 to 512 bytes",
        "`iss` of access tokens (RFC 9068, section 2.2). The default is what FinHub's published tokens have; verifiers that find the tenant's keys by discovery need its published address, `{DOORWARD_PUBLIC_URL}/tenants/{tenantId}` (docs/authorizer.md). A change makes the tokens of every live session invalid: everybody logs in again.",
        |policy| Some(policy.issuer.clone()),
        |policy, text| plain(text).map(|text| policy.issuer = text),
    ),
    text(
        "audience",
        "1 to 512 bytes",
        "`aud` of access tokens (RFC 9068, section 2.2). The default is what FinHub's published tokens have. A change makes the tokens of every live session invalid: everybody logs in again.",
        |policy| Some(policy.audience.clone()),
        |policy, text| plain(text).map(|text| policy.audience = text),
    ),
    number(
        "token_life_seconds",
        (1, YEAR),
        "Life of an access token: nobody can take one back from those who verify it themselves, so it is short. FinHub's documents say an hour. At most `session_life_seconds`.",
        |policy| Some(policy.token_life.as_secs()),
        |policy, number| policy.token_life = Duration::from_secs(number),
    ),
    number(
        "session_life_seconds",
        (1, YEAR),
        "Life of a session from its login, whatever happens (ASVS 5.0, 7.3.2). FinHub's documents say 24 hours, as NIST SP 800-63B-4, 2.2.3 does for AAL2.",
        |policy| Some(policy.session_life.as_secs()),
        |policy, number| policy.session_life = Duration::from_secs(number),
    ),
    number(
        "idle_life_seconds",
        (1, YEAR),
        "Life of a session that is not refreshed (ASVS 5.0, 7.3.1): a working day. At least `token_life_seconds`, since a client refreshes once its token ends.",
        |policy| Some(policy.idle_life.as_secs()),
        |policy, number| policy.idle_life = Duration::from_secs(number),
    ),
    number(
        "grace_seconds",
        (0, 300),
        "How long a retired refresh token still answers with its successor: for two tabs, and for answers that were lost (RFC 9700, 4.14.2 leaves it open). Reuse after that ends the session.",
        |policy| Some(policy.grace.as_secs()),
        |policy, number| policy.grace = Duration::from_secs(number),
    ),
    flag(
        "refresh_after_expiry",
        "Whether a session is still refreshed once its access token has ended; otherwise a client must refresh before that.",
        |policy| policy.refresh_after_expiry,
        |policy, given| policy.refresh_after_expiry = given,
    ),
    number(
        "max_attempts",
        (1, 100),
        "Wrong passwords in a row until a user is locked (FinHub's documents; PCI DSS 4.0, 8.3.4 allows ten).",
        |policy| Some(wide(policy.max_attempts)),
        |policy, number| policy.max_attempts = count(number),
    ),
    number(
        "lockout_seconds",
        (1, DAY),
        "How long a user is locked, and the quiet after which wrong passwords are forgotten (FinHub's documents; PCI DSS 4.0, 8.3.4: at least 30 minutes).",
        |policy| Some(policy.lockout.as_secs()),
        |policy, number| policy.lockout = Duration::from_secs(number),
    ),
    number(
        "disable_after",
        (1, MAX_CONSECUTIVE_FAILURES as u64),
        "Wrong passwords in a row, whatever the time between them, after which the password opens nothing, for strangers or for that one device, until it is set anew (NIST SP 800-63B-4, 3.2.2: at most 100).",
        |policy| Some(policy.disable_after.into()),
        |policy, number| policy.disable_after = narrow(number),
    ),
    number(
        "failures_per_user",
        (1, MAX_FAILURES_PER_USER),
        "Wrong passwords for one user within an hour, over all its lockouts: a little more than lockouts alone let through.",
        |policy| Some(policy.failures_per_user.into()),
        |policy, number| policy.failures_per_user = narrow(number),
    ),
    number(
        "failures_per_ip",
        (1, NO_LIMIT),
        "Wrong passwords from one address, of IPv6 from one /64, within an hour: an office behind one address mistypes less than this, and a list of stolen passwords is longer (OWASP Credential Stuffing Prevention).",
        |policy| Some(policy.failures_per_ip.into()),
        |policy, number| policy.failures_per_ip = narrow(number),
    ),
    number(
        "failures_per_tenant",
        (1, NO_LIMIT),
        "Wrong passwords for all of the tenant's users within an hour: what slows an attack from many addresses at once.",
        |policy| Some(policy.failures_per_tenant.into()),
        |policy, number| policy.failures_per_tenant = narrow(number),
    ),
    number(
        "session_limit",
        (1, SessionLimit::MAX as u64),
        "How many sessions a user may have at once (ASVS 5.0, 7.1.2); unset: any number.",
        |policy| policy.session_limit.map(|limit| limit.max.into()),
        |policy, number| {
            let when_full = policy.session_limit.map_or(WhenFull::Reject, |limit| limit.when_full);
            policy.session_limit = Some(SessionLimit { max: narrow(number), when_full });
        },
    ),
    text(
        "when_full",
        "reject, oldest or single",
        "What a login does that would be one more than `session_limit`, which it needs: `reject` refuses it (so does a limit without this field), `oldest` ends the oldest session, `single` ends every other one and needs a limit of 1.",
        |policy| policy.session_limit.map(|limit| limit.when_full.name().to_owned()),
        |policy, name| {
            let known = WhenFull::from_name(name).ok_or(Invalid::new("must be reject, oldest or single"))?;
            if let Some(limit) = &mut policy.session_limit {
                limit.when_full = known;
            }
            Ok(())
        },
    ),
    list(
        "ip_allow",
        ("networks as CIDR, IPv4 and IPv6", 100),
        "Networks that requests may come from; none: from anywhere. IPv4-mapped IPv6 counts as IPv4.",
        |policy| texts(&policy.ip_allow),
        |policy, element| network(element).map(|net| policy.ip_allow.push(net)),
    ),
    list(
        "trusted_proxies",
        ("networks as CIDR, IPv4 and IPv6", 100),
        "Proxies whose `X-Forwarded-For` is believed: the client is the nearest address in it that is none of them. None: the client is whoever reached API Gateway.",
        |policy| texts(&policy.trusted_proxies),
        |policy, element| {
            let net = network(element)?;
            if canonical(net).prefix_len() == 0 {
                return Err(Invalid::new("must be smaller than the whole Internet, or anybody names the client"));
            }
            policy.trusted_proxies.push(net);
            Ok(())
        },
    ),
    list(
        "cors_origins",
        ("origins such as https://app.example.com", MAX_ORIGINS),
        "Origins whose pages may call the API and read its answers (Fetch, \"CORS protocol\"); none: no page may. Credentials are never allowed: tokens travel in headers that the page sets.",
        |policy| texts(&policy.cors_origins),
        |policy, element| WebOrigin::parse(element).map(|origin| policy.cors_origins.push(origin)),
    )
    .passed_over(),
    number(
        "password_min_length",
        (PasswordPolicy::FLOOR as u64, PasswordPolicy::CEILING as u64),
        "Shortest new password, in characters (NIST SP 800-63B-4, 3.1.1.2: 15 where a password is the only factor, never below 8).",
        |policy| Some(wide(policy.password.min_length())),
        |policy, number| policy.password = PasswordPolicy::new(count(number)),
    ),
    number(
        "hash_memory_kib",
        (8, HashCost::MAX_MEMORY_KIB as u64),
        "Memory of one argon2id hash (OWASP Password Storage Cheat Sheet). At least 8 for each lane (RFC 9106, section 3.1).",
        |policy| Some(policy.hash_cost.memory_kib.into()),
        |policy, number| policy.hash_cost.memory_kib = narrow(number),
    ),
    number(
        "hash_passes",
        (1, HashCost::MAX_PASSES as u64),
        "Passes of one argon2id hash (OWASP Password Storage Cheat Sheet).",
        |policy| Some(policy.hash_cost.passes.into()),
        |policy, number| policy.hash_cost.passes = narrow(number),
    ),
    number(
        "hash_lanes",
        (1, HashCost::MAX_LANES as u64),
        "Lanes of one argon2id hash (OWASP Password Storage Cheat Sheet).",
        |policy| Some(policy.hash_cost.lanes.into()),
        |policy, number| policy.hash_cost.lanes = narrow(number),
    ),
    flag(
        "admin_set_password_expires",
        "Whether a password that an administrator chose must be changed at the next login: two people know it (ASVS 5.0, 6.4.1).",
        |policy| policy.admin_set_password_expires,
        |policy, given| policy.admin_set_password_expires = given,
    ),
    number(
        "password_history",
        (0, MAX_HISTORY),
        "How many of the last passwords, the present one among them, may not be used again. NIST and OWASP ask for none; PCI DSS 4.0, 8.3.7 for four.",
        |policy| Some(wide(policy.password_history)),
        |policy, number| policy.password_history = count(number),
    ),
    number(
        "code_life_seconds",
        (1, DAY),
        "Life of a reset code (NIST SP 800-63B-4, 4.2.1.2 gives a mailed code 24 hours at most).",
        |policy| Some(policy.code_life.as_secs()),
        |policy, number| policy.code_life = Duration::from_secs(number),
    ),
    number(
        "codes_per_hour",
        (1, 60),
        "Reset codes that are sent to one user within an hour (OWASP Forgot Password Cheat Sheet: nobody's mailbox is flooded).",
        |policy| Some(wide(policy.codes_per_hour)),
        |policy, number| policy.codes_per_hour = count(number),
    ),
    number(
        "wrong_codes_per_ip",
        (1, NO_LIMIT),
        "Wrong reset codes from one address, of IPv6 from one /64, within an hour.",
        |policy| Some(policy.wrong_codes_per_ip.into()),
        |policy, number| policy.wrong_codes_per_ip = narrow(number),
    ),
    list(
        "link_hosts",
        ("host or host:port", 20),
        "Hosts that reset links may lead to besides the hosted page.",
        |policy| policy.link_hosts.iter().cloned().map(String::from).collect(),
        |policy, element| LinkHost::parse(element).map(|host| policy.link_hosts.push(host)),
    )
    .passed_over(),
    text(
        "link_template",
        "an https URL on one of `link_hosts`",
        "Where reset links lead to, with `{{.UserID}}`, `{{.OrgID}}` and `{{.Code}}` in path segments and query values; used in mails if it has `{{.Code}}`. Unset: the hosted page.",
        |policy| policy.link_template.as_ref().map(ToString::to_string),
        |policy, text| {
            policy.link_template = Some(LinkTemplate::parse(text, &policy.link_hosts)?);
            Ok(())
        },
    )
    .passed_over(),
    text(
        "event_bus",
        "name or ARN",
        "The EventBridge bus that gets an event for each message. Unset: Doorward sends mails and text messages itself.",
        |policy| match &policy.delivery {
            Delivery::Direct => None,
            Delivery::EventBus(bus) => Some(bus.clone()),
        },
        |policy, text| plain(text).map(|bus| policy.delivery = Delivery::EventBus(bus)),
    ),
    text(
        "mail_from",
        "an address, or a name and an address",
        "Sender of this tenant's mails; SES must have verified it. Unset: `DOORWARD_MAIL_FROM`.",
        |policy| policy.mail_from.clone(),
        |policy, text| {
            let address = plain(text)?;
            if !address.contains('@') {
                return Err(Invalid::new("must be a mail address, or a name and a mail address in <>"));
            }
            policy.mail_from = Some(address);
            Ok(())
        },
    ),
    text(
        "locale",
        "BCP 47",
        "Language of users that have none of their own.",
        |policy| Some(policy.locale.clone()),
        |policy, text| {
            policy.locale = language(text)?;
            Ok(())
        },
    ),
];

/// Origins of one tenant: they are written in one transaction with its record.
const MAX_ORIGINS: usize = 20;

const RULES: &[Rule] = &[
    Rule {
        field: "token_life_seconds",
        message: "must be at most session_life_seconds",
        holds: |policy, _| policy.token_life <= policy.session_life,
    },
    Rule {
        field: "idle_life_seconds",
        message: "must be at least token_life_seconds",
        holds: |policy, _| policy.idle_life >= policy.token_life,
    },
    Rule {
        field: "hash_memory_kib",
        message: "must be at least 8 times hash_lanes",
        holds: |policy, _| policy.hash_cost.memory_kib >= 8 * policy.hash_cost.lanes,
    },
    Rule {
        field: "when_full",
        message: "needs session_limit",
        holds: |_, document| document.contains_key("session_limit") || !document.contains_key("when_full"),
    },
    Rule {
        field: "session_limit",
        message: "must be 1 where when_full is single",
        holds: |policy, _| {
            policy.session_limit.is_none_or(|limit| limit.when_full != WhenFull::Single || limit.max == 1)
        },
    },
];

/// A network of IPv4-mapped IPv6 addresses as the IPv4 network it is (docs/design/security.md#rule-22).
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
    use super::*;
    use jiff::Timestamp;

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
        let limit = |max, when_full| SessionLimit { max, when_full };
        let oldest = limit(3, WhenFull::Oldest);
        assert_eq!(oldest.evicts(live(&[])), Some(Vec::new()));
        assert_eq!(oldest.evicts(live(&[1, 2])), Some(Vec::new()));
        assert_eq!(oldest.evicts(live(&[1, 3, 2])), Some(ids(&[3])));
        assert_eq!(oldest.evicts(live(&[4, 1, 5, 3, 2])), Some(ids(&[5, 4, 3])), "a limit that was lowered");
        assert_eq!(limit(1, WhenFull::Single).evicts(live(&[1, 2])), Some(ids(&[2, 1])));
        let reject = limit(2, WhenFull::Reject);
        assert_eq!(reject.evicts(live(&[1])), Some(Vec::new()));
        assert_eq!(reject.evicts(live(&[1, 2])), None);
        assert_eq!(reject.evicts(live(&[1, 2, 3])), None);
    }

    // docs/design/security.md#rule-22
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
    fn a_policy_stays_within_its_bounds() {
        let policy = Policy {
            grace: Duration::from_secs(10_000),
            idle_life: Duration::from_secs(1),
            max_attempts: 0,
            ..Policy::default()
        }
        .bounded();
        assert_eq!(policy.grace, Duration::from_secs(300));
        assert_eq!(policy.idle_life, policy.token_life);
        assert_eq!(policy.max_attempts, 1);
        let absurd = HashCost { memory_kib: u32::MAX, passes: 0, lanes: 1_000 }.bounded();
        assert_eq!(absurd, HashCost { memory_kib: HashCost::MAX_MEMORY_KIB, passes: 1, lanes: 4 });
        assert_eq!(Policy::default().bounded(), Policy::default());
    }

    fn document(text: &str) -> Document {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn every_field_is_named_once_and_says_what_the_policy_holds() {
        let mut names: Vec<_> = FIELDS.iter().map(|field| field.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FIELDS.len());
        assert_eq!(Policy::read(&Document::new()), (Policy::default(), Vec::new()));
        assert_eq!(Policy::default().document(), Document::new(), "a default is not written");
    }

    #[test]
    fn a_policy_survives_its_document() {
        let asked = document(
            r#"{"algorithm": "HS256", "issuer": "https://id.example", "audience": "app", "token_life_seconds": 60,
                "session_life_seconds": 600, "idle_life_seconds": 120, "grace_seconds": 0, "refresh_after_expiry": false,
                "max_attempts": 3, "lockout_seconds": 60, "disable_after": 10, "failures_per_user": 7,
                "failures_per_ip": 8, "failures_per_tenant": 9, "session_limit": 1, "when_full": "single",
                "ip_allow": ["192.0.2.0/24", "2001:db8::/32"], "trusted_proxies": ["10.0.0.0/8"],
                "cors_origins": ["https://app.example.com"], "password_min_length": 20, "hash_memory_kib": 64,
                "hash_passes": 1, "hash_lanes": 2, "admin_set_password_expires": false, "password_history": 24,
                "code_life_seconds": 60, "codes_per_hour": 60, "wrong_codes_per_ip": 1,
                "link_hosts": ["app.example.com"], "link_template": "https://app.example.com/{{.Code}}",
                "event_bus": "bus", "mail_from": "A <a@example.com>", "locale": "pt-BR"}"#,
        );
        assert!(FIELDS.iter().all(|field| asked.contains_key(field.name)), "each field is in it");
        let policy = Policy::checked(&asked).unwrap();
        let usual = Policy::default();
        for field in FIELDS {
            assert_eq!(field.value(&policy), asked.get(field.name).cloned());
            assert_ne!(field.value(&policy), field.value(&usual), "{} does something", field.name);
        }
        assert_eq!(policy.document(), asked);
    }

    #[test]
    fn everything_wrong_is_told_at_once_by_its_field() {
        let asked = document(
            r#"{"algorithm": "none", "token_life_seconds": 900, "session_life_seconds": 600, "idle_life_seconds": 60,
                "grace_seconds": 301, "refresh_after_expiry": "yes", "max_attempts": -1, "lockout_seconds": 1.5,
                "when_full": "oldest", "ip_allow": ["10.0.0.0/33", "192.0.2.0/24"], "trusted_proxies": ["0.0.0.0/0"],
                "cors_origins": ["https://app.example.com/"], "link_hosts": "app.example.com", "locale": "English!",
                "mail_from": "nobody", "issuer": "", "hash_memory_kib": 8, "hash_lanes": 4, "of_a_later_version": {}}"#,
        );
        let errors = Policy::checked(&asked).unwrap_err();
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_ref()).collect();
        assert_eq!(
            fields,
            [
                "algorithm",
                "issuer",
                "grace_seconds",
                "refresh_after_expiry",
                "max_attempts",
                "lockout_seconds",
                "ip_allow",
                "trusted_proxies",
                "cors_origins",
                "link_hosts",
                "mail_from",
                "locale",
                "token_life_seconds",
                "idle_life_seconds",
                "hash_memory_kib",
                "when_full",
            ]
        );
        let messages: Vec<_> = errors.iter().map(|error| error.message.as_ref()).collect();
        assert_eq!(messages[2], "must be 0 to 300");
        assert!(messages[6].starts_with("has \"10.0.0.0/33\": each must be a network"));
    }

    // docs/design/security.md#rule-22: or anybody names the client.
    #[test]
    fn nobody_trusts_the_whole_internet() {
        for (net, is_allowed) in [
            ("0.0.0.0/0", false),
            ("::/0", false),
            ("::ffff:0:0/96", false),
            ("::ffff:192.0.2.7/96", false),
            ("::ffff:192.0.2.0/120", true),
            ("::ffff:0:0/97", true),
            ("10.0.0.0/8", true),
        ] {
            let asked = document(&format!(r#"{{"trusted_proxies": ["{net}"]}}"#));
            assert_eq!(Policy::checked(&asked).is_ok(), is_allowed, "{net}");
        }
    }

    #[test]
    fn a_record_is_read_with_what_can_be_used_of_it() {
        let asked = document(
            r#"{"grace_seconds": 301, "max_attempts": -1, "idle_life_seconds": 1, "link_hosts": ["not a host", "app.example.com"],
                "link_template": "https://elsewhere.example/{{.Code}}", "cors_origins": ["*"], "when_full": "oldest"}"#,
        );
        let (policy, faults) = Policy::read(&asked);
        assert!(faults.iter().all(|fault| fault.weight != Weight::Unusable), "{faults:?}");
        assert_eq!(policy.grace, Duration::from_secs(300));
        assert_eq!((policy.max_attempts, policy.idle_life), (1, policy.token_life));
        assert_eq!(policy.link_hosts, [LinkHost::parse("app.example.com").unwrap()]);
        assert_eq!((policy.link_template, policy.cors_origins), (None, Vec::new()));
        for closing in [
            r#"{"algorithm": "none"}"#,
            r#"{"ip_allow": ["10.0.0.0/33"]}"#,
            r#"{"trusted_proxies": "10.0.0.0/8"}"#,
            r#"{"max_attempts": "five"}"#,
            r#"{"session_limit": 3, "when_full": "newest"}"#,
        ] {
            let (_, faults) = Policy::read(&document(closing));
            assert_eq!(
                faults.iter().map(|fault| fault.weight).collect::<Vec<_>>(),
                [Weight::Unusable],
                "{closing}"
            );
        }
    }

    #[test]
    fn values_are_typed_as_their_fields_take_them() {
        let typed = |name: &str, text: &str| Field::named(name).unwrap().typed(text);
        assert_eq!(typed("max_attempts", "7"), Value::from(7));
        assert_eq!(typed("refresh_after_expiry", "false"), Value::from(false));
        assert_eq!(typed("issuer", "7"), Value::from("7"));
        assert_eq!(
            typed("ip_allow", "10.0.0.0/8, 192.0.2.0/24"),
            Value::from(vec!["10.0.0.0/8", "192.0.2.0/24"])
        );
        assert_eq!(typed("ip_allow", ""), Value::from(Vec::<String>::new()));
        assert_eq!(typed("max_attempts", "many"), Value::from("many"));
    }
}
