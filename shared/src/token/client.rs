//! Credentials of API clients: secrets and their keyed hashes, and public keys (docs/design/security.md#rule-27).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, jwk::Jwk};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::{
    framed,
    keys::{MacPurpose, TenantKeys},
};
use crate::{
    domain::{ClientId, ClientKey, Failure, SecretHash, SigningAlgorithm},
    json,
    port::{Entropy, random},
};

/// Prefix by which secret scanners recognise leaked secrets.
const PREFIX: &str = "dws1_";
/// Minimum and maximum length of an RSA modulus in bytes.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=512;
/// Maximum length of a key ID.
const MAX_KEY_ID: usize = 200;

/// Creates a client secret of 256 random bits.
///
/// # Errors
/// As [`Entropy::fill`].
pub fn new_client_secret(entropy: &dyn Entropy) -> Result<SecretString, Failure> {
    let bytes: [u8; 32] = random(entropy)?;
    Ok(SecretString::from(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
}

impl TenantKeys {
    /// Returns the hash of a client secret, made with the current root key.
    ///
    /// # Errors
    /// `Unavailable` when the tenant has no root key.
    pub fn client_secret_hash(
        &self,
        client: &ClientId,
        secret: &SecretString,
    ) -> Result<SecretHash, Failure> {
        let key_version = self.root_version();
        let mac = self.mac(MacPurpose::Client, key_version, &self.secret_message(client, secret))?;
        Ok(SecretHash { mac: URL_SAFE_NO_PAD.encode(mac), key_version })
    }

    /// Returns whether a hash is the one of a client secret. If the root key of the hash no longer exists, no secret
    /// matches.
    pub fn is_client_secret(&self, client: &ClientId, secret: &SecretString, hash: &SecretHash) -> bool {
        let message = self.secret_message(client, secret);
        self.is_encoded_mac(MacPurpose::Client, hash.key_version, &message, &hash.mac)
    }

    fn secret_message(&self, client: &ClientId, secret: &SecretString) -> Vec<u8> {
        framed(&[self.tenant().as_str(), client.as_str(), secret.expose_secret()])
    }
}

/// Error for a key set that cannot be registered. Contains the problem, and no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidJwks(&'static str);

/// Parses the public keys of a client: a JWK Set, or one JWK (RFC 7517). Accepts EC keys on P-256 for ES256, RSA keys of
/// 2,048 to 4,096 bits for RS256, and Ed25519 keys for EdDSA.
///
/// # Errors
/// [`InvalidJwks`] if the text is not a key set, or if a key is private, of another kind or incomplete, or if two keys
/// have the same ID.
pub fn client_keys(text: &[u8]) -> Result<Vec<ClientKey>, InvalidJwks> {
    let members = json::parse_object(text)
        .map_err(|_| InvalidJwks("is not a JWK Set; expected a JSON object with the member `keys`"))?;
    let jwks = match members.get("keys") {
        Some(Value::Array(keys)) => keys.clone(),
        Some(_) => return Err(InvalidJwks("is not a JWK Set; the member `keys` must be an array")),
        None => vec![Value::Object(members)],
    };
    let keys: Vec<_> = jwks.iter().map(client_key).collect::<Result<_, _>>()?;
    let ids: Vec<_> = keys.iter().map(|key| &key.id).collect();
    let is_twice = ids.iter().enumerate().any(|(at, id)| ids.iter().skip(at + 1).any(|other| other == id));
    if is_twice {
        return Err(InvalidJwks("has two keys with the same `kid`, or several keys without a `kid`"));
    }
    Ok(keys)
}

fn client_key(jwk: &Value) -> Result<ClientKey, InvalidJwks> {
    let jwk = jwk.as_object().ok_or(InvalidJwks("has a key that is not a JSON object"))?;
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    if ["d", "p", "q", "dp", "dq", "qi", "k"].iter().any(|private| jwk.contains_key(*private)) {
        return Err(InvalidJwks("has a private or symmetric key; register only public keys"));
    }
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return Err(InvalidJwks("has a key whose `use` is not `sig`"));
    }
    let (algorithm, names) = match (text("kty"), text("crv")) {
        (Some("EC"), Some("P-256")) => (SigningAlgorithm::Es256, ["kty", "crv", "x", "y"].as_slice()),
        (Some("OKP"), Some("Ed25519")) => (SigningAlgorithm::EdDsa, ["kty", "crv", "x"].as_slice()),
        (Some("RSA"), _) => (SigningAlgorithm::Rs256, ["kty", "n", "e"].as_slice()),
        _ => {
            return Err(InvalidJwks(
                "has a key of an unsupported type; use EC with P-256, OKP with Ed25519, or RSA",
            ));
        }
    };
    if text("alg").is_some_and(|stated| client_algorithm(stated) != Some(algorithm)) {
        return Err(InvalidJwks(
            "has a key whose `alg` is not ES256, EdDSA or RS256, or not that of its type",
        ));
    }
    let incomplete = InvalidJwks("has a key with a missing or invalid member");
    let mut kept = Map::new();
    for name in names {
        kept.insert((*name).to_owned(), json!(text(name).ok_or(incomplete)?));
    }
    let bytes = |name: &str| text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let is_of_size = match algorithm {
        SigningAlgorithm::Rs256 => {
            bytes("n").is_some_and(|n| RSA_BYTES.contains(&n.iter().skip_while(|byte| **byte == 0).count()))
        }
        _ => bytes("x").is_some_and(|x| x.len() == 32),
    };
    if !is_of_size {
        return Err(InvalidJwks("has a key of the wrong size; RSA keys must have 2048 to 4096 bits"));
    }
    let id = match jwk.get("kid") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) if (1..=MAX_KEY_ID).contains(&id.len()) => Some(id.clone()),
        Some(_) => return Err(InvalidJwks("has a `kid` that is not a text of 1 to 200 bytes")),
    };
    let key = ClientKey { id, algorithm, jwk: Value::Object(kept).to_string() };
    if verifying_key(&key).is_none() {
        return Err(incomplete);
    }
    Ok(key)
}

/// Returns the algorithm that a key or an assertion of a client names. `Ed25519` is the name of RFC 9864 for EdDSA with
/// this curve.
pub(super) fn client_algorithm(name: &str) -> Option<SigningAlgorithm> {
    match name {
        "Ed25519" => Some(SigningAlgorithm::EdDsa),
        _ => SigningAlgorithm::from_name(name).filter(|known| *known != SigningAlgorithm::Hs256),
    }
}

/// Returns the key that verifies signatures; `None` if the stored key is invalid.
pub(super) fn verifying_key(key: &ClientKey) -> Option<DecodingKey> {
    let jwk: Jwk = serde_json::from_str(&key.jwk).ok()?;
    DecodingKey::from_jwk(&jwk).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::tests as fixture;

    const EC: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    const ED: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    fn id(text: &str) -> ClientId {
        ClientId::parse(text).unwrap()
    }

    // docs/design/security.md#rule-27
    #[test]
    fn hash_of_a_secret_belongs_to_its_tenant_client_and_root_key() {
        let keys = fixture::keys("t");
        let secret = SecretString::from("dws1_secret");
        let hash = keys.client_secret_hash(&id("c"), &secret).unwrap();
        assert!(keys.is_client_secret(&id("c"), &secret, &hash));
        assert!(!keys.is_client_secret(&id("d"), &secret, &hash), "another client");
        assert!(
            !keys.is_client_secret(&id("c"), &SecretString::from("dws1_secreT"), &hash),
            "another secret"
        );
        assert!(!fixture::keys("u").is_client_secret(&id("c"), &secret, &hash), "another tenant");
        let unknown = SecretHash { key_version: 99, ..hash.clone() };
        assert!(!keys.is_client_secret(&id("c"), &secret, &unknown), "an unknown root key");
        assert!(!hash.mac.contains("secret"));
    }

    #[test]
    fn public_keys_of_the_three_algorithms_are_accepted() {
        let set = format!(
            r#"{{"keys":[{EC},{}]}}"#,
            ED.replace("\"kty\"", "\"kid\":\"b\",\"alg\":\"EdDSA\",\"kty\"")
        );
        let keys = client_keys(set.as_bytes()).unwrap();
        assert_eq!(
            [keys[0].algorithm, keys[1].algorithm],
            [SigningAlgorithm::Es256, SigningAlgorithm::EdDsa]
        );
        assert_eq!((keys[0].id.as_deref(), keys[1].id.as_deref()), (None, Some("b")));
        assert!(!keys[1].jwk.contains("kid"), "the stored key has only its public members");
        assert_eq!(client_keys(EC.as_bytes()).unwrap().len(), 1, "one JWK");
        let rsa = |bytes: usize| {
            let n = URL_SAFE_NO_PAD.encode(vec![0xab; bytes]);
            client_keys(format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB"}}"#).as_bytes())
        };
        assert_eq!(rsa(256).unwrap()[0].algorithm, SigningAlgorithm::Rs256);
        assert!(rsa(255).is_err() && rsa(513).is_err());
    }

    #[test]
    fn other_keys_are_rejected() {
        for (from, to) in [
            ("P-256", "P-384"),
            ("\"kty\":\"EC\"", "\"kty\":\"oct\",\"k\":\"AAAA\""),
            ("{", "{\"d\":\"AAAA\","),
            ("{", "{\"use\":\"enc\","),
            ("{", "{\"alg\":\"HS256\","),
            ("{", "{\"alg\":\"none\","),
            ("{", "{\"kid\":7,"),
            ("{", "{\"kid\":\"\","),
            ("f83O", "f83"),
            ("\"y\"", "\"z\""),
        ] {
            let changed = EC.replacen(from, to, 1);
            assert_ne!(changed, EC);
            assert!(client_keys(changed.as_bytes()).is_err(), "{changed}");
        }
        assert!(
            client_keys(format!(r#"{{"keys":[{EC},{ED}]}}"#).as_bytes()).is_err(),
            "two keys without kid"
        );
        assert!(client_keys(br#"{"keys":{}}"#).is_err() && client_keys(b"[]").is_err());
    }
}
