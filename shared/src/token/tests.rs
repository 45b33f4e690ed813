//! Fixtures for tests, and tests of keys and refresh tokens.

use jiff::Timestamp;
use proptest::prelude::*;
use secrecy::{ExposeSecret, SecretString};

use super::*;
use crate::domain::{
    Collection, Metadata, OrganizationId, PasswordHash, Policy, Profile, Role, Session, SigningAlgorithm,
    Tenant, TenantId, TenantStatus, User, UserId, UserStatus, Username,
};

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(crate) fn session() -> Session {
    Session { expires_at: at(100_000), ..crate::domain::tests::session() }
}

pub(crate) fn user() -> User {
    User {
        tenant: TenantId::parse("t").unwrap(),
        id: UserId::parse("u").unwrap(),
        username: Username::parse("u@example.com").unwrap(),
        password: PasswordHash::from_phc(String::new()),
        organization: OrganizationId::parse("o").unwrap(),
        customer: None,
        customer_kind: None::<Collection>,
        roles: vec![Role::Admin],
        password_history: Vec::new(),
        email: None,
        phone: None,
        unverified_email: None,
        unverified_phone: None,
        profile: Profile::default(),
        metadata: Metadata::default(),
        locale: None,
        status: UserStatus::Active,
        session_epoch: 3,
        proofs_epoch: 0,
        sessions_revision: 0,
        reset_required: false,
        change_required: false,
        sequence: 0,
        created_at: at(0),
        changed_at: at(0),
    }
}

pub(crate) fn tenant(policy: Policy) -> Tenant {
    Tenant {
        id: TenantId::parse("t").unwrap(),
        name: "T".to_owned(),
        status: TenantStatus::Active,
        session_epoch: 0,
        version: 0,
        active_secret: None,
        previous_algorithm: None,
        policy,
    }
}

pub(crate) fn document(seed: u8, roots: &[u32]) -> SecretDocument {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let roots: Vec<_> = roots
        .iter()
        .map(|version| {
            let mut key = [seed; 32];
            key[0] = u8::try_from(*version).unwrap();
            serde_json::json!({ "version": version, "key": URL_SAFE_NO_PAD.encode(key) })
        })
        .collect();
    let signing = |id: &str, algorithm: SigningAlgorithm| {
        let key = new_signing_key(algorithm).unwrap();
        serde_json::json!({ "id": id, "algorithm": algorithm.name(), "privateKey": key.expose_secret() })
    };
    let text = serde_json::json!({
        "tenantKey": format!("tenant-key-number-{seed}"),
        "tenantSecret": format!("tenant-secret-number-{seed}"),
        "rootKeys": roots,
        "signingKeys": [
            signing("es1", SigningAlgorithm::Es256),
            signing("ed1", SigningAlgorithm::EdDsa),
            signing("rs1", SigningAlgorithm::Rs256),
        ],
    })
    .to_string();
    SecretDocument::parse(&SecretString::from(text)).unwrap()
}

pub(crate) fn keys_of(tenant: &TenantId, seed: u8) -> TenantKeys {
    TenantKeys::from_documents(tenant, &[document(seed, &[1])]).unwrap()
}

/// Returns the same keys for the same tenant during one test process.
pub(crate) fn keys(tenant: &str) -> std::sync::Arc<TenantKeys> {
    use std::{
        collections::HashMap,
        sync::{Arc, LazyLock, Mutex},
    };
    static KEYS: LazyLock<Mutex<HashMap<String, Arc<TenantKeys>>>> = LazyLock::new(Mutex::default);
    let mut keys = KEYS.lock().unwrap();
    let made = || Arc::new(keys_of(&TenantId::parse(tenant).unwrap(), 7));
    keys.entry(tenant.to_owned()).or_insert_with(made).clone()
}

// docs/design/security.md#rule-18
#[test]
fn previous_secret_authenticates_and_verifies_but_does_not_sign() {
    let tenant = TenantId::parse("t").unwrap();
    let (old, new) = (document(1, &[1]), document(2, &[2]));
    let before = TenantKeys::from_documents(&tenant, std::slice::from_ref(&old)).unwrap();
    let both = TenantKeys::from_documents(&tenant, &[new.clone(), old]).unwrap();
    let after = TenantKeys::from_documents(&tenant, &[new]).unwrap();
    let pair = |seed: u8| {
        (
            SecretString::from(format!("tenant-key-number-{seed}")),
            SecretString::from(format!("tenant-secret-number-{seed}")),
        )
    };
    for (keys, opens_old, opens_new) in [(&before, true, false), (&both, true, true), (&after, false, true)] {
        let (key, secret) = pair(1);
        assert_eq!(keys.open_with(&key, &secret).is_some(), opens_old);
        let (key, secret) = pair(2);
        assert_eq!(keys.open_with(&key, &secret).is_some(), opens_new);
    }
    // A key and a secret of different pairs are rejected.
    assert!(both.open_with(&pair(1).0, &pair(2).1).is_none());
    assert_eq!(both.root_version(), 2);
    let token = RefreshToken::parse(&RefreshToken::current(&session(), &before).unwrap()).unwrap();
    assert!(token.is_authentic(&tenant, &both) && !token.is_authentic(&tenant, &after));
}

// docs/design/security.md#rule-17
#[test]
fn short_or_malformed_secret_is_rejected() {
    let tenant = TenantId::parse("t").unwrap();
    let good = r#"{"tenantKey":"0123456789abcdef","tenantSecret":"0123456789abcdef","rootKeys":[{"version":1,"key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#;
    let build = |text: &str| {
        let document = SecretDocument::parse(&SecretString::from(text)).ok()?;
        TenantKeys::from_documents(&tenant, &[document]).ok()
    };
    assert!(build(good).is_some());
    let private = new_signing_key(SigningAlgorithm::EdDsa).unwrap();
    let private = private.expose_secret();
    let signing =
        format!(r#"}}],"signingKeys":[{{"id":"x","algorithm":"EdDSA","privateKey":"{private}"}}]}}"#);
    assert!(build(&good.replace("}]}", &signing)).is_some());
    for (from, to) in [
        (r#""0123456789abcdef","tenantSecret""#, r#""short","tenantSecret""#),
        (r#""tenantSecret":"0123456789abcdef""#, r#""tenantSecret":"""#),
        (r#""tenantSecret":"0123456789abcdef","#, ""),
        ("AAAA\"", "\""),
        (r#"{"version":1,"key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#, ""),
        ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "%%%"),
        ("}]}", r#"}],"signingKeys":[{"id":"x","algorithm":"none","privateKey":"AAAA"}]}"#),
        ("}]}", r#"}],"signingKeys":[{"id":"x","algorithm":"ES256","privateKey":"AAAA"}]}"#),
        (
            "}]}",
            &format!(
                r#"}}],"signingKeys":[{{"id":"root-2","algorithm":"EdDSA","privateKey":"{private}"}}]}}"#
            ),
        ),
        (
            "}]}",
            &format!(
                r#"}}],"signingKeys":[{{"id":"x","algorithm":"EdDSA","privateKey":"{private}"}},{{"id":"x","algorithm":"EdDSA","privateKey":"{private}"}}]}}"#
            ),
        ),
        ("}]}", ""),
        ("}]}", r#"},{"version":1,"key":"BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#),
    ] {
        let bad = good.replace(from, to);
        assert!(bad != good && build(&bad).is_none(), "{bad}");
    }
    assert!(TenantKeys::from_documents(&tenant, &[]).is_err());
}

#[test]
fn session_digest_is_unique_and_differs_from_the_id() {
    let keys = keys("t");
    let ids = [session().id, crate::domain::SessionId::from_random([2; 16])];
    assert_ne!(keys.session_digest(&ids[0]).as_str(), keys.session_digest(&ids[1]).as_str());
    assert!(!keys.session_digest(&ids[0]).as_str().contains(ids[0].as_str()));
}

// docs/design/security.md#rule-12, #rule-20
#[test]
fn refresh_token_is_bound_to_tenant_user_session_and_generation() {
    let keys = keys("t");
    let tenant = TenantId::parse("t").unwrap();
    let text = RefreshToken::current(&session(), &keys).unwrap();
    assert!(text.expose_secret().starts_with("dwr1_"));
    let token = RefreshToken::parse(&text).unwrap();
    assert!(token.is_authentic(&tenant, &keys));
    assert_eq!((token.generation, &token.session, token.user.as_str()), (0, &session().id, "u"));
    assert_eq!(
        RefreshToken::current(&session(), &keys).unwrap().expose_secret(),
        text.expose_secret(),
        "the current token is always the same text"
    );
    // The same keys in another tenant, and another key in the same tenant.
    assert!(!token.is_authentic(&TenantId::parse("other").unwrap(), &keys));
    assert!(!token.is_authentic(&tenant, &keys_of(&tenant, 9)));
    for change in [
        |token: &mut RefreshToken| token.generation += 1,
        |token: &mut RefreshToken| token.nonce.0[0] ^= 1,
        |token: &mut RefreshToken| token.user = UserId::parse("v").unwrap(),
        |token: &mut RefreshToken| token.session = crate::domain::SessionId::from_random([3; 16]),
    ] {
        let mut changed = token.clone();
        change(&mut changed);
        assert!(!changed.is_authentic(&tenant, &keys));
    }
}

proptest! {
    // docs/design/security.md#rule-12
    #[test]
    fn malformed_refresh_token_is_rejected(text in "(dwr1_)?[A-Za-z0-9_=-]{0,300}|\\PC{0,60}") {
        if let Some(token) = RefreshToken::parse(&SecretString::from(text)) {
            prop_assert!(!token.is_authentic(&TenantId::parse("t").unwrap(), &keys("t")));
        }
    }

    // docs/design/security.md#rule-12
    #[test]
    fn refresh_token_with_changed_character_is_rejected(position in any::<prop::sample::Index>(), replacement in "[A-Za-z0-9_-]") {
        let keys = keys("t");
        let text = RefreshToken::current(&session(), &keys).unwrap();
        let text = text.expose_secret();
        let at = position.index(text.len());
        let mut changed = text.to_owned();
        changed.replace_range(at..=at, &replacement);
        prop_assume!(changed != *text);
        let token = RefreshToken::parse(&SecretString::from(changed));
        prop_assert!(!token.is_some_and(|token| token.is_authentic(&TenantId::parse("t").unwrap(), &keys)));
    }
}
