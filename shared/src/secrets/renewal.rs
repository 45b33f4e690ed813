//! What a tenant's next secret document is: pure but for the randomness that it is given.
//!
//! It works on the document's JSON, not on [`super::SecretDocument`]: whatever else operators or later
//! versions keep in it stays. Members that renewals add, all of them optional:
//!
//! - `madeFrom`: the version that this one was made from, which alone it may replace
//! - `createdAt`, `retiredAt` of a key (RFC 3339): when it was made, and when another took its place
//! - `standby` of a signing key: it is published, and signs nothing before the next renewal

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::rotation::RotationError;
use crate::{
    domain::SigningAlgorithm,
    json as strict,
    port::{Entropy, random},
    token::new_signing_key,
};

/// How long a key stays listed after another took its place. Nothing lives longer that a key makes: sessions
/// live a year at most (`session_life_seconds`), device proofs 180 days. Two days more, because a version
/// begins to hold after it was made.
const KEPT: Duration = Duration::from_secs(367 * 24 * 60 * 60);
/// The most that Secrets Manager takes (its quotas).
const MAX_BYTES: usize = 65_536;

/// What of a tenant's secret is made anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Renewal {
    /// `tenantKey`.
    pub tenant_key: bool,
    /// `tenantSecret`.
    pub tenant_secret: bool,
    /// A root key of the next version.
    pub root_key: bool,
    /// Signing keys.
    pub signing_keys: SigningKeys,
    /// What stays of the document before.
    pub old: Old,
}

/// What a renewal leaves of the document before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Old {
    /// Everything: old keys go on verifying.
    #[default]
    Kept,
    /// All but the keys of a renewed kind: whatever they made ends.
    Dropped,
    /// Nothing at all.
    Forgotten,
}

/// Which signing keys are made anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SigningKeys {
    /// None.
    #[default]
    AsTheyAre,
    /// One of each algorithm that there are keys of.
    EachListed,
    /// One of this algorithm, whether there are keys of it or not.
    Of(SigningAlgorithm),
}

impl Renewal {
    /// What a rotation on a schedule renews. `tenantKey` stays: it is what callers are known by, as a user
    /// is by its name, and a caller that has to change one value alone changes it more easily.
    pub const SCHEDULED: Self = Self {
        tenant_key: false,
        tenant_secret: true,
        root_key: true,
        signing_keys: SigningKeys::EachListed,
        old: Old::Kept,
    };

    /// The first document of a tenant.
    pub fn first(algorithm: SigningAlgorithm) -> Self {
        let signing_keys = match algorithm {
            // Its keys derive from the root key.
            SigningAlgorithm::Hs256 => SigningKeys::AsTheyAre,
            other => SigningKeys::Of(other),
        };
        Self { tenant_key: true, tenant_secret: true, root_key: true, signing_keys, old: Old::Forgotten }
    }
}

/// A document that follows another.
pub(super) struct Source<'a> {
    /// The document that it is made of; `None` where there is none.
    pub(super) document: Option<&'a SecretString>,
    /// Its version.
    pub(super) version: Option<&'a str>,
    /// Others whose numbers must not be used again: what their keys made may still be about.
    pub(super) others: &'a [SecretString],
}

/// The next document.
///
/// # Errors
/// `Malformed` when the one before is no JSON object of the known shape, `TooLarge`, or no randomness.
pub(super) fn renewed(
    source: &Source<'_>,
    renewal: Renewal,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<SecretString, RotationError> {
    let Renewal { tenant_key, tenant_secret, root_key, signing_keys, old } = renewal;
    let drops_old = old != Old::Kept;
    // One that cannot be read takes no numbers.
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
            SigningAlgorithm::ALL.into_iter().filter(is_listed).collect()
        }
    };
    for algorithm in algorithms {
        let keys = renewed_signing_keys(&document, &others, algorithm, drops_old, &at)?;
        document.insert("signingKeys".to_owned(), Value::Array(keys));
    }
    for name in ["rootKeys", "signingKeys"] {
        if let Some(Value::Array(keys)) = document.get_mut(name) {
            keys.retain(|key| is_kept(key, now));
        }
    }
    let text = Value::Object(document).to_string();
    if text.len() > MAX_BYTES {
        return Err(RotationError::TooLarge);
    }
    Ok(SecretString::from(text))
}

/// The keys after a renewal of one algorithm. The standby signs from now on: whoever verifies by the
/// published keys has had the time to learn of it; where there is none, a new key does. It comes first, and
/// a new standby last.
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

/// A document's JSON.
fn object(document: &SecretString) -> Result<Map<String, Value>, RotationError> {
    match strict::parse(document.expose_secret().as_bytes()) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(RotationError::Malformed),
    }
}

fn list(document: &Map<String, Value>, name: &str) -> Result<Vec<Value>, RotationError> {
    match document.get(name) {
        None => Ok(Vec::new()),
        Some(Value::Array(keys)) => Ok(keys.clone()),
        Some(_) => Err(RotationError::Malformed),
    }
}

/// One more than the highest number that the keys of any of the documents have.
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

/// Notes since when other keys are in the place of these; what is noted already stays.
fn retire(keys: &mut [Value], at: &str, these: impl Fn(&Value) -> bool) -> Result<(), RotationError> {
    for key in keys.iter_mut().filter(|key| these(key)) {
        let key = key.as_object_mut().ok_or(RotationError::Malformed)?;
        key.entry("retiredAt").or_insert_with(|| json!(at));
    }
    Ok(())
}

/// Whether what a key made may still be about. A time that cannot be read is none.
fn is_kept(key: &Value, now: Timestamp) -> bool {
    let retired = key.get("retiredAt").and_then(Value::as_str).and_then(|at| at.parse::<Timestamp>().ok());
    retired.and_then(|retired| retired.checked_add(KEPT).ok()).is_none_or(|until| now < until)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;
    use crate::{
        domain::{Failure, TenantId},
        secrets::SecretDocument,
        token::{
            RefreshToken, TenantKeys,
            tests::{at, session},
        },
    };

    /// Each byte is another than the one before.
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
        renewed(&Source { document, version, others }, renewal, at(day * DAY), &Counting::default())
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
    fn a_first_document_signs_by_its_algorithm() {
        for algorithm in SigningAlgorithm::ALL {
            let first = made(None, &[], Renewal::first(algorithm), 0).unwrap();
            let keys = keys(&first);
            assert!(keys.can_sign(algorithm) && keys.prove_signing().is_ok(), "{}", algorithm.name());
            assert_eq!(keys.root_version(), 1);
            let [key, secret] = ["tenantKey", "tenantSecret"].map(|name| value(&first)[name].clone());
            assert!(key.as_str().unwrap().starts_with("dwk1_") && key.as_str().unwrap().len() == 27);
            assert!(secret.as_str().unwrap().starts_with("dws1_") && secret.as_str().unwrap().len() == 48);
        }
    }

    // docs/design/security.md#rule-17: old versions verify until the last session that used them ends.
    #[test]
    fn what_was_made_before_is_verified_until_nothing_of_it_can_live() {
        let mut document = made(None, &[], Renewal::first(SigningAlgorithm::Es256), 0).unwrap();
        assert_eq!(numbers_of(&document).1, ["es256-1", "es256-2 standby"]);
        let first = keys(&document);
        let token = RefreshToken::parse(&RefreshToken::current(&session(), &first).unwrap()).unwrap();
        let tenant = TenantId::parse("t").unwrap();
        for day in [30, 60, 90, 396] {
            document = made(Some(&document), &[], Renewal::SCHEDULED, day).unwrap();
            assert!(token.is_authentic(&tenant, &keys(&document)), "day {day}");
        }
        // It was retired on day 30.
        assert_eq!(numbers_of(&document).0, [1, 2, 3, 4, 5]);
        let signing = numbers_of(&document).1;
        assert_eq!(signing, ["es256-5", "es256-4", "es256-3", "es256-2", "es256-1", "es256-6 standby"]);
        document = made(Some(&document), &[], Renewal::SCHEDULED, 397).unwrap();
        assert_eq!(numbers_of(&document).0, [2, 3, 4, 5, 6]);
        assert_eq!(numbers_of(&document).1.last().unwrap(), "es256-7 standby");
        assert!(!numbers_of(&document).1.contains(&"es256-1".to_owned()));
        assert!(!token.is_authentic(&tenant, &keys(&document)));
    }

    // A verifier that learned of the published keys knows the next one before it signs.
    #[test]
    fn the_key_that_signs_next_is_published_before() {
        let first = made(None, &[], Renewal::first(SigningAlgorithm::EdDsa), 0).unwrap();
        let second = made(Some(&first), &[], Renewal::SCHEDULED, 1).unwrap();
        let standby = value(&first)["signingKeys"][1].clone();
        let signer = value(&second)["signingKeys"][0].clone();
        assert_eq!((&signer["id"], &signer["privateKey"]), (&standby["id"], &standby["privateKey"]));
        assert!(signer.get("standby").is_none());
    }

    #[test]
    fn what_is_not_renewed_stays_and_so_does_what_nobody_knows() {
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
        assert_eq!(after["tenantKey"], before["tenantKey"], "callers are known by it");
        assert_eq!(after["rootKeys"][0]["note"], "kept");
        assert_eq!(after["of a later version"], before["of a later version"]);
    }

    // What an abandoned or rolled back version's key made must not meet another key of its number.
    #[test]
    fn no_number_is_used_again() {
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
    fn leaked_keys_are_dropped_and_others_stay() {
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

    // Keys that were listed by hand say nothing of their age: it counts from when they are first seen.
    #[test]
    fn keys_of_unknown_age_stay_for_their_whole_time() {
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
    fn what_is_no_document_is_not_renewed() {
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
