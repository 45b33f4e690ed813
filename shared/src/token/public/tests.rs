use std::collections::BTreeSet;

use jsonwebtoken::DecodingKey;
use secrecy::ExposeSecret;
use serde_json::Value;

use super::*;
use crate::{
    domain::{Policy, SessionId, TenantId},
    token::{
        Claims,
        tests::{self as fixture, at},
    },
};

fn jwk(key: &PublicKey) -> Jwk {
    serde_json::from_str(&key.jwk).unwrap()
}

fn ids(keys: &TenantKeys) -> Vec<String> {
    keys.public_keys().unwrap().iter().filter_map(|key| jwk(key).common.key_id).collect()
}

// docs/design/security.md#rule-17
#[test]
fn published_keys_contain_no_private_values() {
    let keys = fixture::keys("t").public_keys().unwrap();
    assert_eq!(keys.iter().map(|key| key.algorithm.name()).collect::<Vec<_>>(), ["EdDSA", "ES256", "RS256"]);
    for key in keys {
        let Value::Object(jwk) = serde_json::from_str(&key.jwk).unwrap() else { unreachable!() };
        let members: BTreeSet<_> = jwk.keys().map(String::as_str).collect();
        let public: &[&str] = match key.algorithm.name() {
            "ES256" => &["crv", "x", "y"],
            "EdDSA" => &["crv", "x"],
            _ => &["e", "n"],
        };
        let expected = ["alg", "kid", "kty", "use"].iter().chain(public).copied().collect();
        assert_eq!(members, expected);
        assert_eq!((jwk["use"].as_str(), jwk["alg"].as_str()), (Some("sig"), Some(key.algorithm.name())));
    }
}

#[test]
fn published_keys_verify_signed_tokens() {
    let keys = fixture::keys("t");
    let jti = SessionId::from_random([5; 16]);
    for key in keys.public_keys().unwrap() {
        let policy = Policy { algorithm: key.algorithm, ..Policy::default() };
        let claims = Claims::new(&fixture::session(), &fixture::user(), &policy, at(1_000), &jti);
        let token = claims.sign(&keys, &policy).unwrap();
        let (message, signature) = token.expose_secret().rsplit_once('.').unwrap();
        let header = jsonwebtoken::decode_header(token.expose_secret()).unwrap();
        assert_eq!(header.kid, jwk(&key).common.key_id);
        let published = DecodingKey::from_jwk(&jwk(&key)).unwrap();
        assert!(
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), &published, header.alg).unwrap(),
            "{}",
            key.algorithm.name()
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
