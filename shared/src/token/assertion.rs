//! Client assertions: signed JWTs with which a client authenticates (RFC 7523, section 3).

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use strum::IntoStaticStr;

use super::{
    client::{client_algorithm, verifying_key},
    jwt::member_map,
    keys::jwt_algorithm,
};
use crate::domain::{ApiClient, ClientId, ClientKey, ClientProof, SigningAlgorithm};

/// Maximum length of an assertion.
const MAX_CHARS: usize = 8_192;
/// Maximum length of the claim `jti` in bytes.
const MAX_TOKEN_ID: usize = 512;
/// Maximum time between the request and the expiry of an assertion, in seconds. Its ID is stored until the expiry.
const MAX_LIFE_SECONDS: i64 = 60 * 60;
/// Maximum number of seconds by which the client's clock may be ahead.
const AHEAD_SECONDS: i64 = 5;

/// Public keys whose private keys were deleted. The signature of an unknown client is verified with one of them, so that the
/// response takes as long as for a known client.
const EC_STAND_IN: &str = r#"{"kty":"EC","crv":"P-256","x":"ei2yxkhEEGL0vLnNn-qtmGZP9yjIuo5xHO25kvT-BfA","y":"K3q3BGxDRTUdnOP_MoWDH2gYUrWasG9jGaITFcP4I5M"}"#;
const ED_STAND_IN: &str =
    r#"{"kty":"OKP","crv":"Ed25519","x":"cRO7zjpVdXf0iKJ-GVU5kTUlygujhDQRkdZEWup4HjI"}"#;
const RSA_STAND_IN: &str = r#"{"kty":"RSA","n":"vubQoppOyJKZaHZNlSiFZoCH0BlhS6z2mzGNWHe1KbSRi-MhjSheXGOowkUCS98SW7kKX_eABEwsSQ6zxo5buRi_qCvZ2I1EpZaIJIoE6lLo09Iweanq1SExgw5Zh7le-HGn4UzncG8s1snKWCUZNOh3H42lKrtTDftelIZg8HuykPrBwR0-Y9NmEUioDDVWC-QdSHUbiYnuKCwSGnsJWVGGFQkQkPAkvQwT2_ebVtHyGt6r8z0xKU_TEZFS1F7b2NK9Zb4Y7pw2mP0oHQk1DwGP3ou-h0W6dZBrtd3FqVyssIMhsqZY-p2RzMIxrH3ioYN5GXOxRBL87k8tFci8mw","e":"AQAB"}"#;

/// Parsed assertion whose signature is not verified.
#[derive(Debug)]
pub struct Assertion {
    message: SecretString,
    signature: SecretString,
    algorithm: SigningAlgorithm,
    key_id: Option<String>,
    client: ClientId,
    audience: Vec<String>,
    starts: i64,
    expires: i64,
    token_id: String,
}

/// The reason why an assertion was rejected. It is logged and never sent to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum AssertionFault {
    /// The client does not exist, or has no such live key.
    UnknownKey,
    /// The signature is wrong.
    Forged,
    /// The assertion is for another server.
    WrongAudience,
    /// The assertion has expired, is not valid yet, or is valid for more than an hour.
    Expired,
}

impl Assertion {
    /// Parses an assertion without verifying it. Returns `None` unless it is a JWT with ES256, RS256 or EdDSA whose
    /// `iss` and `sub` are one client ID, and that has `aud`, `exp` and `jti`.
    pub fn parse(text: &SecretString) -> Option<Self> {
        let text = text.expose_secret();
        if text.len() > MAX_CHARS {
            return None;
        }
        let (message, signature) = text.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        let header = member_map(header)?;
        let is_typed = match header.get("typ") {
            None => true,
            Some(kind) => ["jwt", "client-authentication+jwt"]
                .iter()
                .any(|known| kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case(known))),
        };
        if !is_typed || header.contains_key("crit") {
            return None;
        }
        let algorithm = client_algorithm(header.get("alg")?.as_str()?)?;
        let key_id = match header.get("kid") {
            None => None,
            Some(id) => Some(id.as_str()?.to_owned()),
        };
        let claims = member_map(payload)?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let client =
            ClientId::parse(text("sub")?).ok().filter(|client| text("iss") == Some(client.as_str()))?;
        let token_id = text("jti").filter(|id| (1..=MAX_TOKEN_ID).contains(&id.len()))?.to_owned();
        let mut starts = i64::MIN;
        for date in ["nbf", "iat"].iter().filter_map(|name| claims.get(*name)) {
            starts = starts.max(whole_seconds(date)?);
        }
        Some(Self {
            message: SecretString::from(message),
            signature: SecretString::from(signature),
            algorithm,
            key_id,
            client,
            audience: audience(claims.get("aud")?)?,
            starts,
            expires: whole_seconds(claims.get("exp")?)?,
            token_id,
        })
    }

    /// Returns the client that the assertion names.
    pub fn client(&self) -> &ClientId {
        &self.client
    }

    /// Returns a digest of the assertion's ID, for the item that makes it single use.
    pub fn digest(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest(&SHA256, self.token_id.as_bytes()))
    }

    /// Returns the expiry.
    pub fn expires_at(&self) -> Timestamp {
        Timestamp::from_second(self.expires).unwrap_or(Timestamp::MAX)
    }

    /// Verifies signature and claims, and returns the version of the key. The work is the same for an unknown client.
    ///
    /// # Errors
    /// [`AssertionFault`]
    pub fn verify(
        &self,
        client: Option<&ApiClient>,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<u32, AssertionFault> {
        let found = client.and_then(|client| self.key(client));
        let verifier = found.and_then(|(_, key)| verifying_key(key)).or_else(|| stand_in(self.algorithm));
        let (message, signature) = (self.message.expose_secret(), self.signature.expose_secret());
        let is_signed = verifier.is_some_and(|key| {
            let algorithm = jwt_algorithm(self.algorithm);
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, algorithm)
                .is_ok_and(|valid| valid)
        });
        let (version, _) = found.ok_or(AssertionFault::UnknownKey)?;
        if !is_signed {
            return Err(AssertionFault::Forged);
        }
        if !self.audience.iter().any(|named| audiences.contains(named)) {
            return Err(AssertionFault::WrongAudience);
        }
        let now = now.as_second();
        let is_current = now < self.expires
            && self.expires <= now.saturating_add(MAX_LIFE_SECONDS + AHEAD_SECONDS)
            && self.starts <= now.saturating_add(AHEAD_SECONDS);
        if is_current { Ok(version) } else { Err(AssertionFault::Expired) }
    }

    /// Returns the client's live key that the assertion names, or the only one of its algorithm if it names none.
    fn key<'a>(&self, client: &'a ApiClient) -> Option<(u32, &'a ClientKey)> {
        let keys = client.live().filter_map(|credential| match &credential.proof {
            ClientProof::Key(key) if key.algorithm == self.algorithm => Some((credential.version, key)),
            _ => None,
        });
        let mut named = keys.filter(|(_, key)| self.key_id.is_none() || key.id == self.key_id);
        match (named.next(), named.next()) {
            (Some(key), None) => Some(key),
            _ => None,
        }
    }
}

/// Returns the whole seconds of a date. Some libraries write fractions of a second.
fn whole_seconds(date: &Value) -> Option<i64> {
    let Value::Number(date) = date else {
        return None;
    };
    date.as_i64().or_else(|| date.to_string().split('.').next()?.parse().ok())
}

/// Returns the audiences of the claim `aud`: a text, or an array of texts.
fn audience(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(several) => several.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

fn stand_in(algorithm: SigningAlgorithm) -> Option<jsonwebtoken::DecodingKey> {
    let jwk = match algorithm {
        SigningAlgorithm::Es256 => EC_STAND_IN,
        SigningAlgorithm::EdDsa => ED_STAND_IN,
        SigningAlgorithm::Rs256 => RSA_STAND_IN,
        SigningAlgorithm::Hs256 => return None,
    };
    verifying_key(&ClientKey { id: None, algorithm, jwk: jwk.to_owned() })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
    };
    use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        domain::{client_tests, tests::at},
        token::client_keys,
    };

    const TOKEN_ENDPOINT: &str = "https://auth.example.com/tenants/t/oauth/token";

    /// A client with one ES256 key, and the private key.
    fn signer(id: Option<&str>) -> (ApiClient, EncodingKey) {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let private = EncodingKey::from_ec_der(pkcs8.as_ref());
        let mut jwk = Jwk::from_encoding_key(&private, Algorithm::ES256).unwrap();
        jwk.common.key_id = id.map(str::to_owned);
        let keys = client_keys(serde_json::to_string(&jwk).unwrap().as_bytes()).unwrap();
        (client_tests::client().with_keys(keys, at(0)).unwrap(), private)
    }

    fn claims() -> Value {
        let id = client_tests::client().id;
        json!({ "iss": id, "sub": id, "aud": TOKEN_ENDPOINT, "exp": 1_060, "iat": 1_000, "jti": "one" })
    }

    fn signed(header: &Header, claims: &Value, key: &EncodingKey) -> Option<Assertion> {
        Assertion::parse(&SecretString::from(jsonwebtoken::encode(header, claims, key).unwrap()))
    }

    fn verified(claims: &Value, now: i64) -> Result<u32, AssertionFault> {
        let (client, private) = signer(None);
        let assertion = signed(&Header::new(Algorithm::ES256), claims, &private).unwrap();
        assertion.verify(Some(&client), &["bff".to_owned(), TOKEN_ENDPOINT.to_owned()], at(now))
    }

    // docs/design/security.md#rule-27
    #[test]
    fn assertion_proves_a_live_key_of_its_client() {
        assert_eq!(verified(&claims(), 1_000), Ok(1));
        let (client, private) = signer(Some("one"));
        let mut header = Header::new(Algorithm::ES256);
        let audiences = [TOKEN_ENDPOINT.to_owned()];
        let assertion = signed(&header, &claims(), &private).unwrap();
        assert_eq!(assertion.verify(Some(&client), &audiences, at(1_000)), Ok(1), "the only key");
        assert_eq!(assertion.verify(None, &audiences, at(1_000)), Err(AssertionFault::UnknownKey));
        let (another, _) = signer(Some("one"));
        assert_eq!(assertion.verify(Some(&another), &audiences, at(1_000)), Err(AssertionFault::Forged));
        let retired = another.with_keys(client.live().filter_map(key_of).collect(), at(1)).unwrap();
        assert_eq!(assertion.verify(Some(&retired), &audiences, at(1_000)), Ok(2));
        header.kid = Some("two".to_owned());
        let assertion = signed(&header, &claims(), &private).unwrap();
        assert_eq!(assertion.verify(Some(&client), &audiences, at(1_000)), Err(AssertionFault::UnknownKey));
    }

    fn key_of(credential: &crate::domain::ClientCredential) -> Option<ClientKey> {
        match &credential.proof {
            ClientProof::Key(key) => Some(key.clone()),
            ClientProof::Secret(_) => None,
        }
    }

    // docs/design/security.md#rule-27
    #[test]
    fn key_without_an_id_is_chosen_by_the_algorithm() {
        let (client, private) = signer(None);
        let assertion = signed(&Header::new(Algorithm::ES256), &claims(), &private).unwrap();
        let own = client.live().find_map(key_of).unwrap();
        let other = ClientKey { id: None, algorithm: SigningAlgorithm::EdDsa, jwk: ED_STAND_IN.to_owned() };
        for (keys, expected) in [
            (vec![own.clone(), other.clone()], Ok(())),
            (vec![other], Err(AssertionFault::UnknownKey)),
            (vec![own, signer(None).0.live().find_map(key_of).unwrap()], Err(AssertionFault::UnknownKey)),
        ] {
            let client = client_tests::client().with_keys(keys, at(1)).unwrap();
            let result = assertion.verify(Some(&client), &[TOKEN_ENDPOINT.to_owned()], at(1_000));
            assert_eq!(result.map(|_| ()), expected);
        }
    }

    #[test]
    fn assertion_is_limited_to_8192_characters() {
        let (_, private) = signer(None);
        let padded = |bytes: usize| {
            let mut claims = claims();
            claims["padding"] = json!("x".repeat(bytes));
            jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &private).unwrap()
        };
        let longest = (5_700..6_200).find(|bytes| padded(*bytes).len() >= MAX_CHARS).unwrap();
        for (bytes, length, is_accepted) in [(longest, 8_192, true), (longest + 1, 8_194, false)] {
            let text = padded(bytes);
            assert_eq!((text.len(), Assertion::parse(&text.into()).is_some()), (length, is_accepted));
        }
    }

    // docs/design/security.md#rule-27
    #[test]
    fn assertion_is_for_this_server_and_valid_for_an_hour_at_most() {
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            claims
        };
        for (claims, now, expected) in [
            (with("aud", json!("bff")), 1_000, Ok(1)),
            (with("aud", json!(["other", TOKEN_ENDPOINT])), 1_000, Ok(1)),
            (
                with("aud", json!("https://auth.example.com/tenants/u/oauth/token")),
                1_000,
                Err(AssertionFault::WrongAudience),
            ),
            (with("aud", json!([])), 1_000, Err(AssertionFault::WrongAudience)),
            (claims(), 1_059, Ok(1)),
            (claims(), 1_060, Err(AssertionFault::Expired)),
            (claims(), 995, Ok(1)),
            (claims(), 994, Err(AssertionFault::Expired)),
            (with("nbf", json!(1_006)), 1_000, Err(AssertionFault::Expired)),
            (with("exp", json!(1_000 + 3_605)), 1_000, Ok(1)),
            (with("exp", json!(1_000 + 3_606)), 1_000, Err(AssertionFault::Expired)),
            (with("exp", json!(1_060.5)), 1_000, Ok(1)),
        ] {
            assert_eq!(verified(&claims, now), expected, "{claims} at {now}");
        }
    }

    #[test]
    fn incomplete_assertions_are_rejected() {
        let (_, private) = signer(None);
        let header = Header::new(Algorithm::ES256);
        for (name, value) in [
            ("iss", json!("another")),
            ("sub", json!("another")),
            ("sub", Value::Null),
            ("jti", Value::Null),
            ("jti", json!("")),
            ("jti", json!("x".repeat(513))),
            ("exp", Value::Null),
            ("exp", json!("1060")),
            ("aud", Value::Null),
            ("aud", json!([1])),
            ("iat", json!(true)),
        ] {
            let mut changed = claims();
            changed[name] = value.clone();
            assert!(signed(&header, &changed, &private).is_none(), "{name} {value}");
        }
        let text = jsonwebtoken::encode(&header, &claims(), &private).unwrap();
        let (_, rest) = text.split_once('.').unwrap();
        let named = |name: &str| {
            let header = URL_SAFE_NO_PAD.encode(json!({ "alg": name }).to_string());
            Assertion::parse(&SecretString::from(format!("{header}.{rest}"))).map(|it| it.algorithm)
        };
        assert_eq!(named("Ed25519"), Some(SigningAlgorithm::EdDsa), "the name of RFC 9864");
        assert_eq!(named("HS256"), None);
        let typed = |kind: &str| Header { typ: Some(kind.to_owned()), ..header.clone() };
        assert!(signed(&typed("client-authentication+jwt"), &claims(), &private).is_some());
        assert!(signed(&typed("at+jwt"), &claims(), &private).is_none(), "an access token");
        for forged in [
            json!({ "alg": "none" }),
            json!({ "alg": "ES384" }),
            json!({ "alg": "ES256", "crit": ["exp"] }),
            json!({ "alg": "ES256", "kid": 1 }),
        ] {
            let text = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(forged.to_string()));
            assert!(Assertion::parse(&SecretString::from(text)).is_none(), "{forged}");
        }
    }

    // The public key must not be used as an HMAC key.
    #[test]
    fn symmetric_assertion_is_rejected() {
        let (client, _) = signer(None);
        let jwk = client.live().find_map(key_of).unwrap().jwk;
        let header = Header::new(Algorithm::HS256);
        assert!(signed(&header, &claims(), &EncodingKey::from_secret(jwk.as_bytes())).is_none());
    }

    #[test]
    fn every_algorithm_of_clients_has_a_stand_in() {
        for algorithm in [SigningAlgorithm::Es256, SigningAlgorithm::EdDsa, SigningAlgorithm::Rs256] {
            assert!(stand_in(algorithm).is_some(), "{algorithm:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_no_assertion(text in "\\PC{0,200}") {
            prop_assert!(Assertion::parse(&SecretString::from(text)).is_none());
        }
    }
}
