//! Renewal of secret documents: creates the next document of a tenant from the current one.
//!
//! The code works on JSON instead of [`crate::token::SecretDocument`], so that members added by operators or
//! later versions are preserved. A renewal adds these optional members:
//!
//! - `madeFrom`: version that the document was created from, and the only version that it may replace
//! - `createdAt` of the document and of a key (RFC 3339): time of its creation
//! - `retiredAt` of a key: time at which the document with its successor was created. The next renewal replaces it by
//!   the time at which that document became active, until which the key may have signed
//! - `standby` of a signing key: the key is published, but does not sign until the next renewal

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use strum::IntoEnumIterator;

use super::error::RotationError;
use crate::{
    domain::{Activation, SigningAlgorithm},
    json::parse_object,
    port::{Entropy, random},
    token::{drop_ended, new_signing_key},
};

/// Maximum size of a secret (quota of Secrets Manager).
const MAX_BYTES: usize = 65_536;

/// Parts of a tenant's secret to renew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Renewal {
    /// Whether to renew `tenantKey`.
    pub tenant_key: bool,
    /// Whether to renew `tenantSecret`.
    pub tenant_secret: bool,
    /// Whether to add a root key with the next version.
    pub root_key: bool,
    /// Signing keys to renew.
    pub signing_keys: SigningKeys,
    /// Parts of the previous document to keep.
    pub old: Old,
}

/// Parts of the previous document that a renewal keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Old {
    /// Everything. Old keys continue to verify.
    #[default]
    Kept,
    /// Everything except the keys of the renewed kinds. Tokens and sessions of the dropped keys become invalid.
    Dropped,
    /// Nothing.
    Forgotten,
}

/// Signing keys to renew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SigningKeys {
    /// None.
    #[default]
    AsTheyAre,
    /// One key for each algorithm in the document.
    EachListed,
    /// One key for this algorithm.
    Of(SigningAlgorithm),
}

impl Renewal {
    /// Renewal by a scheduled rotation. `tenantKey` stays because it identifies the callers, like a username, and
    /// because callers can change one value more easily than two.
    pub const SCHEDULED: Self = Self {
        tenant_key: false,
        tenant_secret: true,
        root_key: true,
        signing_keys: SigningKeys::EachListed,
        old: Old::Kept,
    };

    /// Returns the renewal that creates the first document of a tenant.
    pub fn first(algorithm: SigningAlgorithm) -> Self {
        let signing_keys = match algorithm {
            // HS256 keys are derived from the root key.
            SigningAlgorithm::Hs256 => SigningKeys::AsTheyAre,
            other => SigningKeys::Of(other),
        };
        Self { tenant_key: true, tenant_secret: true, root_key: true, signing_keys, old: Old::Forgotten }
    }
}

/// Input of a renewal.
pub(super) struct Source<'a> {
    /// Current document, if any.
    pub(super) document: Option<&'a SecretString>,
    /// Version ID of the current document.
    pub(super) version: Option<&'a str>,
    /// Time since which the current document is active; `None` if the tenant's record does not name its version.
    pub(super) active_since: Option<Timestamp>,
    /// Other documents whose key numbers must not be reused, because tokens of their keys may still exist.
    pub(super) others: &'a [SecretString],
}

/// Creates the next document.
///
/// # Errors
/// `Malformed` when the current document does not have the expected structure; `TooLarge`; `Failed` when the
/// system returns no randomness.
pub(super) fn renewed(
    source: &Source<'_>,
    renewal: Renewal,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<SecretString, RotationError> {
    let Renewal { tenant_key, tenant_secret, root_key, signing_keys, old } = renewal;
    let drops_old = old != Old::Kept;
    // A malformed document reserves no numbers.
    let mut others: Vec<_> = source.others.iter().filter_map(|other| object(other).ok()).collect();
    let mut document = match source.document {
        Some(before) if old == Old::Forgotten => {
            others.extend(object(before).ok());
            Map::new()
        }
        Some(before) => object(before)?,
        None => Map::new(),
    };
    let at = format!("{now:.0}");
    settle_retirement(&mut document, source.active_since.unwrap_or(now))?;
    document.insert("createdAt".to_owned(), json!(at));
    match source.version {
        Some(version) => document.insert("madeFrom".to_owned(), json!(version)),
        None => document.remove("madeFrom"),
    };
    if tenant_key {
        let bytes: [u8; 16] = random(entropy)?;
        document.insert("tenantKey".to_owned(), json!(format!("dwk1_{}", URL_SAFE_NO_PAD.encode(bytes))));
    }
    if tenant_secret {
        let bytes: [u8; 32] = random(entropy)?;
        document.insert("tenantSecret".to_owned(), json!(format!("dws1_{}", URL_SAFE_NO_PAD.encode(bytes))));
    }
    if root_key {
        let next = numbers(&document, &others, "rootKeys", |key| key.get("version")?.as_u64());
        let mut keys = list(&document, "rootKeys")?;
        if drops_old {
            keys.clear();
        }
        retire(&mut keys, &at, |_| true)?;
        let bytes: [u8; 32] = random(entropy)?;
        keys.push(json!({ "version": next, "key": URL_SAFE_NO_PAD.encode(bytes), "createdAt": at }));
        document.insert("rootKeys".to_owned(), Value::Array(keys));
    }
    let listed = list(&document, "signingKeys")?;
    let algorithms = match signing_keys {
        SigningKeys::AsTheyAre => Vec::new(),
        SigningKeys::Of(algorithm) => vec![algorithm],
        SigningKeys::EachListed => {
            let is_listed = |algorithm: &SigningAlgorithm| listed.iter().any(|key| is_of(key, *algorithm));
            SigningAlgorithm::iter().filter(is_listed).collect()
        }
    };
    for algorithm in algorithms {
        let keys = renewed_signing_keys(&document, &others, algorithm, drops_old, &at)?;
        document.insert("signingKeys".to_owned(), Value::Array(keys));
    }
    for name in ["rootKeys", "signingKeys"] {
        if let Some(Value::Array(keys)) = document.get_mut(name) {
            drop_ended(keys, now, |key| (key.get("algorithm").cloned(), time(key, "retiredAt")));
        }
    }
    let text = Value::Object(document).to_string();
    if text.len() > MAX_BYTES {
        return Err(RotationError::TooLarge);
    }
    Ok(SecretString::from(text))
}

/// Returns the signing keys after the renewal of one algorithm. The standby key starts to sign, because verifiers
/// have had time to fetch it. If there is no standby key, a new key signs. The signing key is placed first, and a
/// new standby key last.
fn renewed_signing_keys(
    document: &Map<String, Value>,
    others: &[Map<String, Value>],
    algorithm: SigningAlgorithm,
    drops_old: bool,
    at: &str,
) -> Result<Vec<Value>, RotationError> {
    let name = algorithm.name();
    let prefix = format!("{}-", name.to_lowercase());
    let mut next = numbers(document, others, "signingKeys", |key| {
        key.get("id")?.as_str()?.strip_prefix(&prefix)?.parse().ok()
    });
    let mut make = || -> Result<Value, RotationError> {
        let key = new_signing_key(algorithm)?;
        let id = format!("{prefix}{next}");
        next += 1;
        Ok(json!({ "id": id, "algorithm": name, "privateKey": key.expose_secret(), "createdAt": at }))
    };
    let mut keys = list(document, "signingKeys")?;
    if drops_old {
        keys.retain(|key| !is_of(key, algorithm));
    }
    let is_standby = |key: &Value| is_of(key, algorithm) && key.get("standby") == Some(&Value::Bool(true));
    let mut signer = match keys.iter().position(is_standby) {
        Some(position) => keys.remove(position),
        None => make()?,
    };
    if let Some(signer) = signer.as_object_mut() {
        signer.remove("standby");
    }
    retire(&mut keys, at, |key| is_of(key, algorithm))?;
    keys.insert(0, signer);
    let mut standby = make()?;
    if let Some(standby) = standby.as_object_mut() {
        standby.insert("standby".to_owned(), Value::Bool(true));
    }
    keys.push(standby);
    Ok(keys)
}

/// Parses a document.
fn object(document: &SecretString) -> Result<Map<String, Value>, RotationError> {
    parse_object(document.expose_secret().as_bytes()).map_err(|_| RotationError::Malformed)
}

fn list(document: &Map<String, Value>, name: &str) -> Result<Vec<Value>, RotationError> {
    match document.get(name) {
        None => Ok(Vec::new()),
        Some(Value::Array(keys)) => Ok(keys.clone()),
        Some(_) => Err(RotationError::Malformed),
    }
}

/// Returns the next unused key number of all documents.
fn numbers(
    document: &Map<String, Value>,
    others: &[Map<String, Value>],
    name: &str,
    number: impl Fn(&Value) -> Option<u64>,
) -> u64 {
    let lists = std::iter::once(document).chain(others).filter_map(|document| document.get(name)?.as_array());
    lists.flatten().filter_map(number).max().unwrap_or_default() + 1
}

fn is_of(key: &Value, algorithm: SigningAlgorithm) -> bool {
    key.get("algorithm").and_then(Value::as_str) == Some(algorithm.name())
}

/// Sets `retiredAt` of keys that do not have it.
fn retire(keys: &mut [Value], at: &str, these: impl Fn(&Value) -> bool) -> Result<(), RotationError> {
    for key in keys.iter_mut().filter(|key| these(key)) {
        let key = key.as_object_mut().ok_or(RotationError::Malformed)?;
        key.entry("retiredAt").or_insert_with(|| json!(at));
    }
    Ok(())
}

/// Sets `retiredAt` of the keys that the document replaced to the time at which it became active.
fn settle_retirement(
    document: &mut Map<String, Value>,
    active_since: Timestamp,
) -> Result<(), RotationError> {
    let created_at = document.get("createdAt").and_then(Value::as_str).and_then(|at| at.parse().ok());
    for name in ["rootKeys", "signingKeys"] {
        let mut keys = list(document, name)?;
        for key in &mut keys {
            let retired_at = Activation::Since(active_since).retirement(created_at, time(key, "retiredAt"));
            if let (Some(at), Some(key)) = (retired_at, key.as_object_mut()) {
                key.insert("retiredAt".to_owned(), json!(format!("{at:.0}")));
            }
        }
        if document.contains_key(name) {
            document.insert(name.to_owned(), Value::Array(keys));
        }
    }
    Ok(())
}

/// Returns a time of a key. An invalid time counts as absent.
fn time(key: &Value, name: &str) -> Option<Timestamp> {
    key.get(name).and_then(Value::as_str).and_then(|at| at.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;
    use crate::{
        domain::{Failure, TenantId},
        token::{
            RefreshToken, SecretDocument, TenantKeys,
            tests::{at, session},
        },
    };

    /// Entropy that returns consecutive byte values.
    #[derive(Default)]
    struct Counting(AtomicU8);

    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), Failure> {
            bytes.fill_with(|| self.0.fetch_add(1, Ordering::Relaxed));
            Ok(())
        }
    }

    const DAY: i64 = 24 * 60 * 60;

    fn made(
        document: Option<&SecretString>,
        others: &[SecretString],
        renewal: Renewal,
        day: i64,
    ) -> Result<SecretString, RotationError> {
        let version = document.is_some().then_some("before");
        // Each document is active from its creation on.
        let before = document.and_then(|text| serde_json::from_str::<Value>(text.expose_secret()).ok());
        let active_since = before.and_then(|document| time(&document, "createdAt"));
        let source = Source { document, version, active_since, others };
        renewed(&source, renewal, at(day * DAY), &Counting::default())
    }

    fn value(text: &SecretString) -> Value {
        serde_json::from_str(text.expose_secret()).unwrap()
    }

    fn keys(text: &SecretString) -> TenantKeys {
        let document = SecretDocument::parse(text).unwrap();
        TenantKeys::from_documents(&TenantId::parse("t").unwrap(), &[document]).unwrap()
    }

    fn numbers_of(text: &SecretString) -> (Vec<u64>, Vec<String>) {
        let value = value(text);
        let roots = value["rootKeys"].as_array().unwrap().iter();
        let signing = value["signingKeys"].as_array().into_iter().flatten();
        let id = |key: &Value| {
            let standby = if key["standby"] == true { " standby" } else { "" };
            format!("{}{standby}", key["id"].as_str().unwrap())
        };
        (roots.map(|key| key["version"].as_u64().unwrap()).collect(), signing.map(id).collect())
    }

    // docs/design/security.md#rule-17
    #[test]
    fn first_document_signs_with_its_algorithm() {
        for algorithm in SigningAlgorithm::iter() {
            let first = made(None, &[], Renewal::first(algorithm), 0).unwrap();
            let keys = keys(&first);
            assert!(keys.can_sign(algorithm) && keys.prove_signing().is_ok(), "{}", algorithm.name());
            assert_eq!(keys.root_version(), 1);
            let [key, secret] = ["tenantKey", "tenantSecret"].map(|name| value(&first)[name].clone());
            assert!(key.as_str().unwrap().starts_with("dwk1_") && key.as_str().unwrap().len() == 27);
            assert!(secret.as_str().unwrap().starts_with("dws1_") && secret.as_str().unwrap().len() == 48);
        }
    }

    // docs/design/security.md#rule-17
    #[test]
    fn retired_keys_verify_until_their_last_session_has_expired() {
        let mut document = made(None, &[], Renewal::first(SigningAlgorithm::Es256), 0).unwrap();
        assert_eq!(numbers_of(&document).1, ["es256-1", "es256-2 standby"]);
        let first = keys(&document);
        let token = RefreshToken::parse(&RefreshToken::current(&session(), &first).unwrap()).unwrap();
        let tenant = TenantId::parse("t").unwrap();
        for day in [30, 60, 90, 396] {
            document = made(Some(&document), &[], Renewal::SCHEDULED, day).unwrap();
            assert!(token.is_authentic(&tenant, &keys(&document)), "day {day}");
        }
        // Version 1 was retired on day 30.
        assert_eq!(numbers_of(&document).0, [1, 2, 3, 4, 5]);
        let signing = numbers_of(&document).1;
        assert_eq!(signing, ["es256-5", "es256-4", "es256-3", "es256-2", "es256-1", "es256-6 standby"]);
        document = made(Some(&document), &[], Renewal::SCHEDULED, 397).unwrap();
        assert_eq!(numbers_of(&document).0, [2, 3, 4, 5, 6]);
        assert_eq!(numbers_of(&document).1.last().unwrap(), "es256-7 standby");
        assert!(!numbers_of(&document).1.contains(&"es256-1".to_owned()));
        assert!(!token.is_authentic(&tenant, &keys(&document)));
    }

    // docs/design/security.md#rule-17
    #[test]
    fn time_of_retirement_is_that_of_the_activation() {
        let first = made(None, &[], Renewal::first(SigningAlgorithm::Es256), 0).unwrap();
        let second = made(Some(&first), &[], Renewal::SCHEDULED, 1).unwrap();
        let next = |document: &SecretString, active_since: Option<i64>, day: i64| {
            let active_since = active_since.map(|day| at(day * DAY));
            let source =
                Source { document: Some(document), version: Some("before"), active_since, others: &[] };
            renewed(&source, Renewal::SCHEDULED, at(day * DAY), &Counting::default()).unwrap()
        };
        let retired_on = |document: &SecretString, id: &str| {
            let keys = value(document)["signingKeys"].clone();
            let key = keys.as_array().unwrap().iter().find(|key| key["id"] == id).cloned();
            time(&key.unwrap(), "retiredAt").map(|at| at.as_second() / DAY)
        };
        assert_eq!(retired_on(&second, "es256-1"), Some(1), "until it is active");
        let third = next(&second, Some(3), 5);
        assert_eq!((retired_on(&third, "es256-1"), retired_on(&third, "es256-2")), (Some(3), Some(5)));
        let roots = value(&third)["rootKeys"].clone();
        assert_eq!(time(&roots[0], "retiredAt"), Some(at(3 * DAY)));
        let fourth = next(&third, Some(6), 7);
        assert_eq!((retired_on(&fourth, "es256-1"), retired_on(&fourth, "es256-2")), (Some(3), Some(6)));
        assert_eq!(retired_on(&next(&second, None, 5), "es256-1"), Some(5), "the time is unknown");
    }

    #[test]
    fn standby_key_is_published_before_it_signs() {
        let first = made(None, &[], Renewal::first(SigningAlgorithm::EdDsa), 0).unwrap();
        let second = made(Some(&first), &[], Renewal::SCHEDULED, 1).unwrap();
        let standby = value(&first)["signingKeys"][1].clone();
        let signer = value(&second)["signingKeys"][0].clone();
        assert_eq!((&signer["id"], &signer["privateKey"]), (&standby["id"], &standby["privateKey"]));
        assert!(signer.get("standby").is_none());
    }

    #[test]
    fn other_values_and_unknown_members_are_preserved() {
        let mut before = value(&made(None, &[], Renewal::first(SigningAlgorithm::Es256), 0).unwrap());
        before["of a later version"] = json!({ "x": [1, null] });
        before["rootKeys"][0]["note"] = json!("kept");
        let text = SecretString::from(before.to_string());
        let secret = Renewal { tenant_secret: true, ..Renewal::default() };
        let after = value(&made(Some(&text), &[], secret, 1).unwrap());
        assert_ne!(after["tenantSecret"], before["tenantSecret"]);
        assert_eq!(after["madeFrom"], "before");
        for name in ["tenantKey", "rootKeys", "signingKeys", "of a later version"] {
            assert_eq!(after[name], before[name], "{name}");
        }
        let after = value(&made(Some(&text), &[], Renewal::SCHEDULED, 1).unwrap());
        assert_eq!(after["tenantKey"], before["tenantKey"], "a scheduled renewal keeps tenantKey");
        assert_eq!(after["rootKeys"][0]["note"], "kept");
        assert_eq!(after["of a later version"], before["of a later version"]);
    }

    // Otherwise tokens of an abandoned version would be verified with another key of the same number.
    #[test]
    fn key_numbers_are_not_reused() {
        let first = made(None, &[], Renewal::first(SigningAlgorithm::Es256), 0).unwrap();
        let abandoned = made(Some(&first), &[], Renewal::SCHEDULED, 1).unwrap();
        let next = made(Some(&first), &[abandoned, SecretString::from("no JSON")], Renewal::SCHEDULED, 2);
        let (roots, signing) = numbers_of(&next.unwrap());
        assert_eq!((roots, signing[0].as_str()), (vec![1, 3], "es256-2"));
        assert_eq!(signing.last().unwrap(), "es256-4 standby");
        let blank = Renewal::first(SigningAlgorithm::EdDsa);
        let (roots, signing) = numbers_of(&made(Some(&first), &[], blank, 2).unwrap());
        assert_eq!((roots, signing), (vec![2], vec!["eddsa-1".to_owned(), "eddsa-2 standby".to_owned()]));
    }

    #[test]
    fn dropped_keys_are_removed_and_others_stay() {
        let first = made(None, &[], Renewal::first(SigningAlgorithm::Es256), 0).unwrap();
        let also = Renewal { signing_keys: SigningKeys::Of(SigningAlgorithm::EdDsa), ..Renewal::default() };
        let both = made(Some(&first), &[], also, 0).unwrap();
        let leaked = Renewal {
            root_key: true,
            signing_keys: SigningKeys::Of(SigningAlgorithm::Es256),
            old: Old::Dropped,
            ..Renewal::default()
        };
        let (roots, signing) = numbers_of(&made(Some(&both), &[], leaked, 1).unwrap());
        assert_eq!(roots, [2]);
        assert_eq!(signing, ["es256-3", "eddsa-1", "eddsa-2 standby", "es256-4 standby"]);
    }

    // The retention of keys without timestamps starts at the first renewal.
    #[test]
    fn keys_of_unknown_age_are_kept_for_the_full_retention() {
        let root = |version: u32| json!({ "version": version, "key": "A".repeat(43) });
        let by_hand = json!({
            "tenantKey": "0123456789abcdef",
            "tenantSecret": "0123456789abcdef",
            "rootKeys": [root(7), root(2)],
        });
        let by_hand = SecretString::from(by_hand.to_string());
        let seen = made(Some(&by_hand), &[], Renewal::SCHEDULED, 1_000).unwrap();
        assert_eq!(numbers_of(&seen).0, [7, 2, 8]);
        let later = made(Some(&seen), &[], Renewal::SCHEDULED, 1_366).unwrap();
        assert_eq!(numbers_of(&later).0, [7, 2, 8, 9]);
        let last = made(Some(&later), &[], Renewal::SCHEDULED, 1_367).unwrap();
        assert_eq!(numbers_of(&last).0, [8, 9, 10]);
    }

    #[test]
    fn malformed_or_too_large_document_is_rejected() {
        for bad in ["", "[]", "null", r#"{"rootKeys":{}}"#, r#"{"rootKeys":[1]}"#, r#"{"signingKeys":7}"#] {
            let bad = SecretString::from(bad);
            let refused = made(Some(&bad), &[], Renewal::SCHEDULED, 0);
            assert!(matches!(refused, Err(RotationError::Malformed)), "{}", bad.expose_secret());
        }
        let large = SecretString::from(json!({ "x": "x".repeat(MAX_BYTES) }).to_string());
        let refused = made(Some(&large), &[], Renewal::SCHEDULED, 0);
        assert!(matches!(refused, Err(RotationError::TooLarge)));
    }
}
