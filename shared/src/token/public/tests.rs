use std::{collections::BTreeSet, time::Duration};

use jsonwebtoken::DecodingKey;
use secrecy::ExposeSecret;
use serde_json::Value;

use super::*;
use crate::{
    domain::{Policy, SessionId, SigningAlgorithm, TenantId},
    token::{
        Claims,
        tests::{self as fixture, at},
    },
};

const HOUR: Duration = Duration::from_secs(60 * 60);

fn ids(keys: &TenantKeys) -> Vec<String> {
    keys.public_keys(HOUR, at(0)).unwrap().into_iter().filter_map(|key| key.jwk.common.key_id).collect()
}

// docs/design/security.md#rule-17
#[test]
fn published_keys_contain_no_private_values() {
    let keys = fixture::keys("t").public_keys(HOUR, at(0)).unwrap();
    assert_eq!(keys.iter().map(|key| key.algorithm).collect::<Vec<_>>(), ["EdDSA", "ES256", "RS256"]);
    for key in keys {
        let Value::Object(jwk) = serde_json::to_value(&key.jwk).unwrap() else { unreachable!() };
        let members: BTreeSet<_> = jwk.keys().map(String::as_str).collect();
        let public: &[&str] = match key.algorithm {
            "ES256" => &["crv", "x", "y"],
            "EdDSA" => &["crv", "x"],
            _ => &["e", "n"],
        };
        let expected = ["alg", "kid", "kty", "use"].iter().chain(public).copied().collect();
        assert_eq!(members, expected);
        assert_eq!((jwk["use"].as_str(), jwk["alg"].as_str()), (Some("sig"), Some(key.algorithm)));
    }
}

#[test]
fn published_keys_verify_signed_tokens() {
    let keys = fixture::keys("t");
    let jti = SessionId::from_random([5; 16]);
    for key in keys.public_keys(HOUR, at(0)).unwrap() {
        let algorithm = SigningAlgorithm::from_name(key.algorithm).unwrap();
        let policy = Policy { algorithm, ..Policy::default() };
        let claims = Claims::new(&fixture::session(), &fixture::user(), &policy, at(1_000), &jti);
        let token = claims.sign(&keys, &policy).unwrap();
        let (message, signature) = token.expose_secret().rsplit_once('.').unwrap();
        let header = jsonwebtoken::decode_header(token.expose_secret()).unwrap();
        assert_eq!(header.kid, key.jwk.common.key_id);
        let published = DecodingKey::from_jwk(&key.jwk).unwrap();
        assert!(
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), &published, header.alg).unwrap(),
            "{}",
            key.algorithm
        );
    }
}

// docs/design/security.md#rule-18
#[test]
fn keys_are_published_until_they_are_retired() {
    let tenant = TenantId::parse("t").unwrap();
    let (mut old, new) = (fixture::document(1, &[1]), fixture::document(2, &[2]));
    for key in &mut old.signing_keys {
        key.id = format!("old-{}", key.id);
    }
    let both = TenantKeys::from_documents(&tenant, &[new.clone(), old]).unwrap();
    assert_eq!(ids(&both), ["t.ed1", "t.es1", "t.old-ed1", "t.old-es1", "t.old-rs1", "t.rs1"]);
    let after = TenantKeys::from_documents(&tenant, &[new]).unwrap();
    assert_eq!(ids(&after), ["t.ed1", "t.es1", "t.rs1"]);
}

// docs/design/security.md#rule-17
#[test]
fn retired_key_is_published_while_its_tokens_may_be_valid() {
    let mut document = fixture::document(1, &[1]);
    let mut retired = document.signing_keys[0].clone();
    retired.id = "old".to_owned();
    retired.retired_at = Some(at(0));
    document.signing_keys.push(retired);
    let keys = TenantKeys::from_documents(&TenantId::parse("t").unwrap(), &[document]).unwrap();
    let publishes_at = |second: i64| {
        let keys = keys.public_keys(HOUR, at(second)).unwrap();
        keys.iter().any(|key| key.jwk.common.key_id.as_deref() == Some("t.old"))
    };
    // A function may sign for 1 h and 10 s, and a token lives for 1 h.
    assert!(publishes_at(7_209) && !publishes_at(7_210));
}
