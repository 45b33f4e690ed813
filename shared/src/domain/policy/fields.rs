//! The table of policy fields, and the rules that hold between fields.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;

use super::{
    HashCost, MessageDelivery, SessionLimit, SigningAlgorithm, WhenFull, canonical,
    field::{NO_LIMIT, PolicyField, Rule, flag, list, number, text},
};
use crate::domain::{Invalid, LinkHost, LinkTemplate, Mailbox, PasswordPolicy, WebOrigin, language};

/// Maximum length of the password history (docs/design/security.md#rule-6).
const MAX_HISTORY: u64 = 24;
/// Maximum number of a user's failures within an hour. It limits the size of the stored item.
const MAX_FAILURES_PER_USER: u64 = 500;
/// Maximum number of consecutive failures before a password is disabled (NIST SP 800-63B-4, 3.2.2).
pub(super) const MAX_CONSECUTIVE_FAILURES: u32 = 100;

/// Seconds of a year, the maximum of lifetimes.
const YEAR: u64 = 365 * 24 * 60 * 60;
/// Seconds of a day.
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

/// Checks the length of a text, and that it has no control characters.
fn plain(text: &str) -> Result<String, Invalid> {
    let fits = (1..=MAX_TEXT_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
    if fits {
        Ok(text.to_owned())
    } else {
        Err(Invalid::new("must be 1 to 512 bytes, without control characters"))
    }
}

/// Maximum length of a text field in bytes.
const MAX_TEXT_BYTES: usize = 512;

fn network(text: &str) -> Result<IpNet, Invalid> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map_err(|_| Invalid::new("must be a network such as 192.0.2.0/24 or 2001:db8::/32"))
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

impl PolicyField {
    /// Returns the field with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        FIELDS.iter().find(|field| field.name == name)
    }
}

/// All policy fields (docs/policy.md). A field comes after the fields that it depends on.
pub const FIELDS: &[PolicyField] = &[
    text(
        "algorithm",
        "ES256, EdDSA, RS256 or HS256",
        "Signature algorithm of access tokens (RFC 7518, RFC 8037). `ES256` has small keys and is widely supported. The JWT authorizer of API Gateway requires `RS256`. `HS256` keys are never published. For every other algorithm, first add a signing key to the tenant's secret (`doorwardctl tenant signing-key rotate --algorithm`). `doorwardctl` rejects the change if this key is missing.",
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
        "`iss` of access tokens (RFC 9068, section 2.2). The default matches FinHub's published tokens. Verifiers that use discovery need `{DOORWARD_PUBLIC_URL}/tenants/{tenantId}` (docs/authorizer.md). A change invalidates the tokens of all sessions, so that all users must log in again.",
        |policy| Some(policy.issuer.clone()),
        |policy, text| plain(text).map(|text| policy.issuer = text),
    ),
    text(
        "audience",
        "1 to 512 bytes",
        "`aud` of access tokens (RFC 9068, section 2.2). The default matches FinHub's published tokens. A change invalidates the tokens of all sessions, so that all users must log in again.",
        |policy| Some(policy.audience.clone()),
        |policy, text| plain(text).map(|text| policy.audience = text),
    ),
    number(
        "token_life_seconds",
        (1, DAY),
        "Lifetime of an access token. Keep it short, because an API that verifies tokens offline accepts a token until it expires. The default is from FinHub's documents. At most 24 hours, and at most `session_life_seconds`.",
        |policy| Some(policy.token_life.as_secs()),
        |policy, number| policy.token_life = Duration::from_secs(number),
    ),
    number(
        "session_life_seconds",
        (1, YEAR),
        "Maximum lifetime of a session, from login (ASVS 5.0, 7.3.2). The default is from FinHub's documents and NIST SP 800-63B-4, 2.2.3 (AAL2).",
        |policy| Some(policy.session_life.as_secs()),
        |policy, number| policy.session_life = Duration::from_secs(number),
    ),
    number(
        "idle_life_seconds",
        (1, YEAR),
        "Lifetime of a session that is not refreshed (ASVS 5.0, 7.3.1). The default is a working day. At least `token_life_seconds`, because a client refreshes when its access token expires.",
        |policy| Some(policy.idle_life.as_secs()),
        |policy, number| policy.idle_life = Duration::from_secs(number),
    ),
    number(
        "grace_seconds",
        (0, 300),
        "Time for which a replaced refresh token still returns the current one, for parallel tabs and lost responses (RFC 9700, 4.14.2 gives no value). If a replaced token is used later, the session ends.",
        |policy| Some(policy.grace.as_secs()),
        |policy, number| policy.grace = Duration::from_secs(number),
    ),
    flag(
        "refresh_after_expiry",
        "Whether a session can be refreshed after its access token expired. If false, a client must refresh before the token expires.",
        |policy| policy.refresh_after_expiry,
        |policy, given| policy.refresh_after_expiry = given,
    ),
    number(
        "max_attempts",
        (1, 100),
        "Number of consecutive wrong passwords after which a user is locked out. The default is from FinHub's documents; PCI DSS 4.0, 8.3.4 allows ten. Unknown devices together and each trusted device are counted separately.",
        |policy| Some(wide(policy.max_attempts)),
        |policy, number| policy.max_attempts = count(number),
    ),
    number(
        "lockout_seconds",
        (1, DAY),
        "Duration of a lockout. Earlier failures are also forgotten after the same time without a further attempt. The default is from FinHub's documents; PCI DSS 4.0, 8.3.4 requires at least 30 minutes.",
        |policy| Some(policy.lockout.as_secs()),
        |policy, number| policy.lockout = Duration::from_secs(number),
    ),
    number(
        "disable_after",
        (1, MAX_CONSECUTIVE_FAILURES as u64),
        "Number of consecutive wrong passwords after which the password is disabled (NIST SP 800-63B-4, 3.2.2: at most 100). Each wrong password is remembered for 181 days divided by this number, added up. It works again after a password reset or `doorwardctl user unlock`. Unknown devices together and each trusted device are counted separately.",
        |policy| Some(policy.disable_after.into()),
        |policy, number| policy.disable_after = narrow(number),
    ),
    number(
        "failures_per_user",
        (1, MAX_FAILURES_PER_USER),
        "Maximum number of wrong passwords for one user within 60 minutes, over all lockouts. The default is slightly more than the lockouts allow. Unknown devices together and each trusted device are counted separately.",
        |policy| Some(policy.failures_per_user.into()),
        |policy, number| policy.failures_per_user = narrow(number),
    ),
    number(
        "failures_per_ip",
        (1, NO_LIMIT),
        "Maximum number of wrong passwords from one client address (IPv6: one /64) within a clock hour. An office behind one address stays below the default; an attack with a list of stolen passwords exceeds it (OWASP Credential Stuffing Prevention).",
        |policy| Some(policy.failures_per_ip.into()),
        |policy, number| policy.failures_per_ip = narrow(number),
    ),
    number(
        "failures_per_tenant",
        (1, NO_LIMIT),
        "Maximum number of wrong passwords for all users of the tenant within a clock hour. The limit slows down an attack from many addresses.",
        |policy| Some(policy.failures_per_tenant.into()),
        |policy, number| policy.failures_per_tenant = narrow(number),
    ),
    number(
        "session_limit",
        (1, SessionLimit::MAX as u64),
        "Maximum number of concurrent sessions of a user (ASVS 5.0, 7.1.2). Unset: no limit.",
        |policy| policy.session_limit.map(|limit| limit.max.into()),
        |policy, number| {
            let when_full = policy.session_limit.map_or(WhenFull::Reject, |limit| limit.when_full);
            policy.session_limit = Some(SessionLimit { max: narrow(number), when_full });
        },
    ),
    text(
        "when_full",
        "reject, oldest or single",
        "Effect of a login when the user has `session_limit` sessions. `reject` (the default) rejects the login. `oldest` ends the oldest session. `single` ends all other sessions and requires a `session_limit` of 1. Requires `session_limit`.",
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
        "Networks from which requests are allowed. None: all. IPv4-mapped IPv6 addresses count as IPv4.",
        |policy| texts(&policy.ip_allow),
        |policy, element| network(element).map(|net| policy.ip_allow.push(net)),
    ),
    list(
        "trusted_proxies",
        ("networks as CIDR, IPv4 and IPv6", 100),
        "Proxies whose `X-Forwarded-For` header is trusted. The client address is then the last address in this header that is not a trusted proxy. None: the client address is the source address that API Gateway reports.",
        |policy| texts(&policy.trusted_proxies),
        |policy, element| {
            let net = network(element)?;
            if canonical(net).prefix_len() == 0 {
                return Err(Invalid::new("must not be the whole Internet, because then any sender can choose the client address"));
            }
            policy.trusted_proxies.push(net);
            Ok(())
        },
    ),
    list(
        "cors_origins",
        ("origins such as https://app.example.com", MAX_ORIGINS),
        "Web origins whose pages may call the API and read responses (Fetch, \"CORS protocol\"). None: no page. Cookies are never allowed, because pages send tokens in headers.",
        |policy| texts(&policy.cors_origins),
        |policy, element| WebOrigin::parse(element).map(|origin| policy.cors_origins.push(origin)),
    )
    .ignored(),
    number(
        "password_min_length",
        (PasswordPolicy::FLOOR as u64, PasswordPolicy::CEILING as u64),
        "Minimum length of a new password in characters (NIST SP 800-63B-4, 3.1.1.2: 15 if a password is the only factor, never below 8).",
        |policy| Some(wide(policy.password.min_length())),
        |policy, number| policy.password = PasswordPolicy::new(count(number)),
    ),
    number(
        "hash_memory_kib",
        (HashCost::MEMORY_FLOOR as u64, HashCost::MAX_MEMORY_KIB as u64),
        "Memory of an argon2id hash in KiB. The minimum depends on `hash_passes`: 47104 with 1 pass, 19456 with 2, 12288 with 3, 9216 with 4, 7168 with 5 or more (OWASP Password Storage Cheat Sheet).",
        |policy| Some(policy.hash_cost.memory_kib.into()),
        |policy, number| policy.hash_cost.memory_kib = narrow(number),
    ),
    number(
        "hash_passes",
        (1, HashCost::MAX_PASSES as u64),
        "Number of passes of an argon2id hash (OWASP Password Storage Cheat Sheet).",
        |policy| Some(policy.hash_cost.passes.into()),
        |policy, number| policy.hash_cost.passes = narrow(number),
    ),
    number(
        "hash_lanes",
        (1, HashCost::MAX_LANES as u64),
        "Number of lanes of an argon2id hash (OWASP Password Storage Cheat Sheet).",
        |policy| Some(policy.hash_cost.lanes.into()),
        |policy, number| policy.hash_cost.lanes = narrow(number),
    ),
    flag(
        "admin_set_password_expires",
        "Whether a user must change a password that an administrator set, because two people know it (ASVS 5.0, 6.4.1).",
        |policy| policy.admin_set_password_expires,
        |policy, given| policy.admin_set_password_expires = given,
    ),
    number(
        "password_history",
        (0, MAX_HISTORY),
        "Number of recent passwords, including the current one, that cannot be reused. NIST and OWASP require none; PCI DSS 4.0, 8.3.7 requires four.",
        |policy| Some(wide(policy.password_history)),
        |policy, number| policy.password_history = count(number),
    ),
    number(
        "code_life_seconds",
        (1, DAY),
        "Lifetime of a reset or verification code (NIST SP 800-63B-4, 4.2.1.2: at most 24 hours for a code sent by mail).",
        |policy| Some(policy.code_life.as_secs()),
        |policy, number| policy.code_life = Duration::from_secs(number),
    ),
    number(
        "codes_per_hour",
        (1, 60),
        "Maximum number of reset codes that are sent to one user within an hour. Verification codes have the same limit, counted separately for email and phone. The limit prevents flooding of a mailbox (OWASP Forgot Password Cheat Sheet).",
        |policy| Some(wide(policy.codes_per_hour)),
        |policy, number| policy.codes_per_hour = count(number),
    ),
    number(
        "wrong_codes_per_ip",
        (1, NO_LIMIT),
        "Maximum number of wrong reset codes from one client address (IPv6: one /64) within a clock hour.",
        |policy| Some(policy.wrong_codes_per_ip.into()),
        |policy, number| policy.wrong_codes_per_ip = narrow(number),
    ),
    list(
        "link_hosts",
        ("host or host:port", 20),
        "Hosts that reset and verification links may lead to, in addition to the host of the hosted page.",
        |policy| policy.link_hosts.iter().cloned().map(String::from).collect(),
        |policy, element| LinkHost::parse(element).map(|host| policy.link_hosts.push(host)),
    )
    .ignored(),
    text(
        "link_template",
        "an https URL on one of `link_hosts`",
        "Template of reset links. The placeholders `{{.UserID}}`, `{{.OrgID}}` and `{{.Code}}` are allowed in path segments and query values. Mails use it only if it contains `{{.Code}}`. Unset: the hosted page.",
        |policy| policy.link_template.as_ref().map(ToString::to_string),
        |policy, text| {
            policy.link_template = Some(LinkTemplate::parse(text, &policy.link_hosts)?);
            Ok(())
        },
    )
    .ignored(),
    text(
        "event_bus",
        "name or ARN",
        "EventBridge bus that receives an event for each notification. Unset: Doorward sends mails and text messages itself.",
        |policy| match &policy.delivery {
            MessageDelivery::Direct => None,
            MessageDelivery::EventBus(bus) => Some(bus.clone()),
        },
        |policy, text| plain(text).map(|bus| policy.delivery = MessageDelivery::EventBus(bus)),
    ),
    text(
        "mail_from",
        "one address, or a name and one address in <>",
        "Sender of the tenant's mails. It must be verified in SES. Names may contain any letters; international domains are converted. Unset: `DOORWARD_MAIL_FROM`.",
        |policy| policy.mail_from.clone(),
        |policy, text| {
            let sender = plain(text)?;
            Mailbox::parse(&sender)?;
            policy.mail_from = Some(sender);
            Ok(())
        },
    )
    .ignored(),
    text(
        "locale",
        "BCP 47",
        "Language of users without a preferred language.",
        |policy| Some(policy.locale.clone()),
        |policy, text| {
            policy.locale = language(text)?;
            Ok(())
        },
    ),
];

/// Maximum number of origins of a tenant. They are written in one transaction with the tenant record.
const MAX_ORIGINS: usize = 20;

pub(super) const RULES: &[Rule] = &[
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
        message: "must be at least 47104 with 1 of hash_passes, 19456 with 2, 12288 with 3, 9216 with 4, 7168 with 5",
        holds: |policy, _| policy.hash_cost.memory_kib >= policy.hash_cost.memory_floor(),
    },
    Rule {
        field: "when_full",
        message: "requires session_limit",
        holds: |_, document| document.contains_key("session_limit") || !document.contains_key("when_full"),
    },
    Rule {
        field: "session_limit",
        message: "must be 1 if when_full is single",
        holds: |policy, _| {
            policy.session_limit.is_none_or(|limit| limit.when_full != WhenFull::Single || limit.max == 1)
        },
    },
];
