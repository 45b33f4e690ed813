use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::*;
use crate::domain::{LiveSession, SessionId};

#[test]
fn session_limit_ends_the_oldest_sessions_or_rejects_the_login() {
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
    assert_eq!(oldest.evicts(live(&[4, 1, 5, 3, 2])), Some(ids(&[5, 4, 3])), "after the limit was lowered");
    assert_eq!(limit(1, WhenFull::Single).evicts(live(&[1, 2])), Some(ids(&[2, 1])));
    let reject = limit(2, WhenFull::Reject);
    assert_eq!(reject.evicts(live(&[1])), Some(Vec::new()));
    assert_eq!(reject.evicts(live(&[1, 2])), None);
    assert_eq!(reject.evicts(live(&[1, 2, 3])), None);
}

// docs/design/security.md#rule-22
#[test]
fn allow_list_matches_ipv4_mapped_addresses() {
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
fn values_outside_their_range_are_clamped() {
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

fn document(text: &str) -> PolicyDocument {
    serde_json::from_str(text).unwrap()
}

#[test]
fn field_names_are_unique_and_defaults_are_not_written() {
    let mut names: Vec<_> = FIELDS.iter().map(|field| field.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), FIELDS.len());
    assert_eq!(Policy::read(&PolicyDocument::new()), (Policy::default(), Vec::new()));
    assert_eq!(Policy::default().document(), PolicyDocument::new(), "a default is not written");
}

#[test]
fn policy_and_document_convert_into_each_other() {
    let asked = document(
        r#"{"algorithm": "HS256", "issuer": "https://id.example", "audience": "app", "token_life_seconds": 60,
            "session_life_seconds": 600, "idle_life_seconds": 120, "grace_seconds": 0, "refresh_after_expiry": false,
            "max_attempts": 3, "lockout_seconds": 60, "disable_after": 10, "failures_per_user": 7,
            "failures_per_ip": 8, "failures_per_tenant": 9, "session_limit": 1, "when_full": "single",
            "ip_allow": ["192.0.2.0/24", "2001:db8::/32"], "trusted_proxies": ["10.0.0.0/8"],
            "cors_origins": ["https://app.example.com"], "password_min_length": 20, "hash_memory_kib": 47104,
            "hash_passes": 1, "hash_lanes": 2, "admin_set_password_expires": false, "password_history": 24,
            "code_life_seconds": 60, "codes_per_hour": 60, "wrong_codes_per_ip": 1,
            "link_hosts": ["app.example.com"], "link_template": "https://app.example.com/{{.Code}}",
            "event_bus": "bus", "mail_from": "A <a@example.com>", "locale": "pt-BR"}"#,
    );
    assert!(FIELDS.iter().all(|field| asked.contains_key(field.name)), "the document has all fields");
    let policy = Policy::checked(&asked).unwrap();
    let usual = Policy::default();
    for field in FIELDS {
        assert_eq!(field.value(&policy), asked.get(field.name).cloned());
        assert_ne!(field.value(&policy), field.value(&usual), "{} differs from its default", field.name);
    }
    assert_eq!(policy.document(), asked);
}

// docs/design/security.md#rule-4: the minima of the OWASP Password Storage Cheat Sheet.
#[test]
fn hash_cost_below_the_floor_is_raised_and_refused_in_changes() {
    for (passes, floor) in [(1, 47_104), (2, 19_456), (3, 12_288), (4, 9_216), (5, 7_168), (16, 7_168)] {
        let asked =
            |memory: u32| document(&format!(r#"{{"hash_memory_kib": {memory}, "hash_passes": {passes}}}"#));
        assert_eq!(Policy::checked(&asked(floor)).unwrap().hash_cost.memory_kib, floor, "{passes}");
        for below in [floor - 1, 8] {
            let (raised, faults) = Policy::read(&asked(below));
            assert_eq!((raised.hash_cost.memory_kib, raised.hash_cost.passes), (floor, passes));
            assert!(faults.iter().all(|fault| fault.error.field == "hash_memory_kib"), "{faults:?}");
            assert!(faults.iter().all(|fault| fault.severity == Severity::Bounded), "{faults:?}");
            assert!(!faults.is_empty() && Policy::checked(&asked(below)).is_err(), "{passes} {below}");
        }
    }
    // The default number of passes counts if the document has none.
    assert!(Policy::checked(&document(r#"{"hash_memory_kib": 19455}"#)).is_err());
}

#[test]
fn sender_is_exactly_one_mailbox() {
    let policy =
        Policy::checked(&document(r#"{"mail_from": "Büro Müller <no-reply@example.com>"}"#)).unwrap();
    assert_eq!(policy.mail_from.as_deref(), Some("Büro Müller <no-reply@example.com>"));
    for bad in ["a@example.com, b@example.com", "A <a@example.com>, b@example.com", "jörg@example.com", "<a>"]
    {
        let (policy, faults) = Policy::read(&document(&format!(r#"{{"mail_from": {bad:?}}}"#)));
        assert_eq!(
            (policy.mail_from, faults.len(), faults[0].severity),
            (None, 1, Severity::Ignored),
            "{bad}"
        );
    }
}

#[test]
fn all_faults_are_reported_at_once() {
    let asked = document(
        r#"{"algorithm": "none", "token_life_seconds": 900, "session_life_seconds": 600, "idle_life_seconds": 60,
            "grace_seconds": 301, "refresh_after_expiry": "yes", "max_attempts": -1, "lockout_seconds": 1.5,
            "when_full": "oldest", "ip_allow": ["10.0.0.0/33", "192.0.2.0/24"], "trusted_proxies": ["0.0.0.0/0"],
            "cors_origins": ["https://app.example.com/"], "link_hosts": "app.example.com", "locale": "English!",
            "mail_from": "nobody", "issuer": "", "hash_memory_kib": 7168, "hash_lanes": 4, "of_a_later_version": {}}"#,
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
    assert!(messages[6].starts_with("contains \"10.0.0.0/33\", but each element must be a network"));
}

// docs/design/security.md#rule-22
#[test]
fn whole_internet_cannot_be_a_trusted_proxy() {
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
fn usable_settings_of_a_faulty_document_are_applied() {
    let asked = document(
        r#"{"grace_seconds": 301, "max_attempts": -1, "idle_life_seconds": 1, "link_hosts": ["not a host", "app.example.com"],
            "link_template": "https://elsewhere.example/{{.Code}}", "cors_origins": ["*"], "when_full": "oldest"}"#,
    );
    let (policy, faults) = Policy::read(&asked);
    assert!(faults.iter().all(|fault| fault.severity != Severity::Unusable), "{faults:?}");
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
            faults.iter().map(|fault| fault.severity).collect::<Vec<_>>(),
            [Severity::Unusable],
            "{closing}"
        );
    }
}

#[test]
fn command_line_values_are_converted_to_the_type_of_the_field() {
    let typed = |name: &str, text: &str| PolicyField::named(name).unwrap().typed(text);
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
