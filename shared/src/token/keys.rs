//! Keys of a tenant, created from its secret document (docs/design/security.md#rule-17 and #rule-18).
//!
//! Callers send `tenantKey` and `tenantSecret`, so no key is derived from these two values. HKDF (RFC 5869)
//! derives one symmetric key for each purpose from the root key. Asymmetric signing keys are used unchanged. A key
//! ID is `{tenant}.{key}`, so that Doorward knows the tenant of a token before it tries a key.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, LessSafeKey, UnboundKey},
    encoding::{AsDer, Pkcs8V1Der},
    error::Unspecified,
    hkdf, hmac,
    pkcs8::Document,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use secrecy::{ExposeSecret, SecretString};
use strum::{EnumIter, IntoEnumIterator, IntoStaticStr};
use zeroize::Zeroizing;

use super::document::SecretDocument;
use crate::domain::{Failure, SessionId, SigningAlgorithm, SigningEnd, TenantId, matches};

/// Error for a secret document with an invalid value. Contains the field name, never the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the secret of tenant {tenant} is invalid: {field} {problem}")]
pub struct InvalidSecret {
    tenant: TenantId,
    field: &'static str,
    problem: &'static str,
}

/// Minimum length of `tenantKey` and `tenantSecret`.
const MIN_CREDENTIAL_BYTES: usize = 16;
/// Minimum length of a root key (docs/design/security.md#rule-17).
const MIN_ROOT_KEY_BYTES: usize = 32;

/// Interval in milliseconds at which the use of a secret version is stored. One minute is precise enough for
/// an operator who decides when to retire a version.
const NOTED_EVERY_MILLIS: i64 = 60_000;

const UNDERIVABLE: &str = "has a key from which no key can be derived";

/// Keyed digest of a session ID, used in logs instead of the ID (docs/design/security.md#rule-24).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionDigest(String);

impl SessionDigest {
    /// Returns the digest as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Keys of a tenant that sign and verify.
pub struct TenantKeys {
    tenant: TenantId,
    credentials: Vec<Credentials>,
    roots: HashMap<u32, DerivedKeys>,
    current_root: u32,
    signers: HashMap<SigningAlgorithm, Signer>,
    verifiers: BTreeMap<String, VerifyingKey>,
}

/// Tenant credentials from one version of the secret document.
struct Credentials {
    key: SecretString,
    secret: SecretString,
    version_id: String,
    /// Time at which their use was last stored, in milliseconds since the Unix epoch.
    noted_at: AtomicI64,
}

/// Keys derived from one version of the root key.
struct DerivedKeys {
    macs: HashMap<MacPurpose, hmac::Key>,
    outbox: LessSafeKey,
    form: LessSafeKey,
    /// Latest time at which the root key may have signed; `None` if it is not retired.
    end: Option<SigningEnd>,
}

/// Size of every MAC in bytes (HMAC-SHA256).
pub(super) const MAC_BYTES: usize = 32;

/// Purpose of a MAC. Each purpose has its own key, derived with the name of the purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub(super) enum MacPurpose {
    Refresh,
    Audit,
    Code,
    Cursor,
    Fingerprint,
    Device,
    Budget,
    Client,
    Name,
}

/// Signs access tokens.
pub(super) struct Signer {
    pub(super) kid: String,
    pub(super) algorithm: Algorithm,
    pub(super) key: EncodingKey,
}

/// Verifies access tokens of one key ID.
pub(super) struct VerifyingKey {
    pub(super) algorithm: SigningAlgorithm,
    pub(super) key: DecodingKey,
    /// Time of the key's retirement; `None` if it is not retired.
    pub(super) retired_at: Option<Timestamp>,
}

impl VerifyingKey {
    /// Returns the latest time at which the key may have signed; `None` if it is not retired.
    pub(super) fn end(&self) -> Option<SigningEnd> {
        self.retired_at.map(SigningEnd::of_key)
    }

    /// Returns whether the signature of `message` is valid.
    pub(super) fn accepts(&self, message: &[u8], signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, message, &self.key, jwt_algorithm(self.algorithm))
            .is_ok_and(|valid| valid)
    }
}

impl TenantKeys {
    /// Creates the keys from the document that signs and the other documents that are not retired. The credentials
    /// of all documents are accepted and all their keys verify. Only the first document's keys sign.
    ///
    /// # Errors
    /// [`InvalidSecret`] when the first document is invalid. Other invalid documents are skipped and logged.
    pub fn from_documents(tenant: &TenantId, documents: &[SecretDocument]) -> Result<Self, InvalidSecret> {
        let mut keys = Self {
            tenant: tenant.clone(),
            credentials: Vec::new(),
            roots: HashMap::new(),
            current_root: 0,
            signers: HashMap::new(),
            verifiers: BTreeMap::new(),
        };
        let (current, earlier) =
            documents.split_first().ok_or_else(|| keys.invalid("the document", "is missing"))?;
        keys.add(current, true)?;
        for document in earlier {
            if let Err(error) = keys.add(document, false) {
                tracing::warn!(tenant = %tenant, %error, "secret.previous_unusable");
            }
        }
        Ok(keys)
    }

    /// Checks tenant credentials. Returns the index of the matching pair, or `None` if no pair matches
    /// (docs/design/security.md#rule-18). If several pairs are identical, the current one matches.
    pub fn open_with(&self, key: &SecretString, secret: &SecretString) -> Option<usize> {
        // Always compares all pairs completely, so that the duration does not reveal which part matched.
        self.credentials.iter().enumerate().rev().fold(None, |opened, (at, own)| {
            if matches(key, &own.key) & matches(secret, &own.secret) { Some(at) } else { opened }
        })
    }

    /// Returns the secret version whose use must be stored, or `None` if its use was stored within the last minute
    /// or another request is storing it.
    pub fn use_to_note(&self, pair: usize, now: Timestamp) -> Option<&str> {
        let Credentials { version_id, noted_at, .. } = self.credentials.get(pair)?;
        let (before, now) = (noted_at.load(Ordering::Relaxed), now.as_millisecond());
        let due = now >= before.saturating_add(NOTED_EVERY_MILLIS);
        let is_first =
            || noted_at.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        (due && is_first()).then_some(version_id)
    }

    /// Returns the tenant of the keys.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Returns the root key version for new tokens.
    pub fn root_version(&self) -> u32 {
        self.current_root
    }

    /// Returns whether a root key version is known.
    pub fn has_root(&self, version: u32) -> bool {
        self.roots.contains_key(&version)
    }

    /// Returns whether a root key may have made a MAC with a stated time and life. A retired one made none later.
    pub(super) fn may_have_made(&self, version: u32, made_at: Timestamp) -> bool {
        self.roots.get(&version).is_some_and(|root| root.end.is_none_or(|end| end.admits(made_at)))
    }

    /// Returns whether anything of a root key that lives for `life` may be valid.
    pub(super) fn root_may_live(&self, version: u32, life: Duration, now: Timestamp) -> bool {
        self.roots.get(&version).is_some_and(|root| root.end.is_none_or(|end| end.may_live(life, now)))
    }

    /// Returns the digest that identifies a session in logs (docs/design/security.md#rule-24).
    pub fn session_digest(&self, session: &SessionId) -> SessionDigest {
        let mac = self.mac(MacPurpose::Audit, self.current_root, session.as_str().as_bytes());
        let start = mac.as_ref().ok().and_then(|mac| mac.as_ref().get(..12)).unwrap_or_default();
        SessionDigest(URL_SAFE_NO_PAD.encode(start))
    }

    /// Returns the part of the tenant's budget that counts the failures of a user or client: a number below `parts`. An
    /// attacker without the key cannot find IDs of the same part (docs/design/security.md#rule-10).
    ///
    /// # Errors
    /// `Unavailable` when the tenant has no root key.
    pub fn part_of(&self, id: &str, parts: u32) -> Result<u32, Failure> {
        let mac = self.mac(MacPurpose::Budget, self.current_root, id.as_bytes())?;
        let number = mac.as_ref().first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        Ok(number % parts.max(1))
    }

    /// Computes a MAC.
    ///
    /// # Errors
    /// `Unavailable` when the root key version is unknown.
    pub(super) fn mac(
        &self,
        purpose: MacPurpose,
        version: u32,
        message: &[u8],
    ) -> Result<hmac::Tag, Failure> {
        let missing = || Failure::Unavailable("the tenant's root key is missing".into());
        Ok(hmac::sign(self.mac_key(purpose, version).ok_or_else(missing)?, message))
    }

    /// Verifies a MAC in constant time.
    pub(super) fn is_mac(&self, purpose: MacPurpose, version: u32, message: &[u8], mac: &[u8]) -> bool {
        self.mac_key(purpose, version).is_some_and(|key| hmac::verify(key, message, mac).is_ok())
    }

    /// Verifies a MAC in base64url.
    pub(super) fn is_encoded_mac(
        &self,
        purpose: MacPurpose,
        version: u32,
        message: &[u8],
        mac: &str,
    ) -> bool {
        URL_SAFE_NO_PAD.decode(mac).is_ok_and(|mac| self.is_mac(purpose, version, message, &mac))
    }

    fn mac_key(&self, purpose: MacPurpose, version: u32) -> Option<&hmac::Key> {
        self.roots.get(&version)?.macs.get(&purpose)
    }

    pub(super) fn outbox_key(&self, version: u32) -> Option<&LessSafeKey> {
        self.roots.get(&version).map(|root| &root.outbox)
    }

    pub(super) fn form_key(&self, version: u32) -> Option<&LessSafeKey> {
        self.roots.get(&version).map(|root| &root.form)
    }

    /// Returns whether the tenant has a signing key for an algorithm.
    pub fn can_sign(&self, algorithm: SigningAlgorithm) -> bool {
        self.signers.contains_key(&algorithm)
    }

    pub(super) fn signer(&self, algorithm: SigningAlgorithm) -> Result<&Signer, Failure> {
        let missing = || self.invalid("signingKeys", "has no key for the tenant's algorithm");
        self.signers.get(&algorithm).ok_or_else(|| Failure::Unavailable(Box::new(missing())))
    }

    /// Signs a test message with each signing key and verifies it with the verifying key of the same key ID.
    ///
    /// # Errors
    /// [`InvalidSecret`] when a signature is not accepted.
    pub fn prove_signing(&self) -> Result<(), InvalidSecret> {
        /// Arbitrary test message.
        const MESSAGE: &[u8] = b"doorward";
        for Signer { kid, algorithm, key } in self.signers.values() {
            let signed = jsonwebtoken::crypto::sign(MESSAGE, key, *algorithm);
            let verifier = self.verifiers.get(kid).zip(signed.ok());
            let is_proven =
                verifier.is_some_and(|(verifier, signature)| verifier.accepts(MESSAGE, &signature));
            if !is_proven {
                return Err(self.invalid("signingKeys", "has a key whose signature cannot be verified"));
            }
        }
        Ok(())
    }

    pub(super) fn verifier(&self, kid: &str) -> Option<&VerifyingKey> {
        self.verifiers.get(kid)
    }

    /// Returns all verifying keys with their key IDs, ordered by key ID.
    pub(super) fn verifiers(&self) -> impl Iterator<Item = (&str, &VerifyingKey)> {
        self.verifiers.iter().map(|(kid, verifier)| (kid.as_str(), verifier))
    }

    fn invalid(&self, field: &'static str, problem: &'static str) -> InvalidSecret {
        InvalidSecret { tenant: self.tenant.clone(), field, problem }
    }

    fn add(&mut self, document: &SecretDocument, current: bool) -> Result<(), InvalidSecret> {
        for (field, value) in [("tenantKey", &document.tenant_key), ("tenantSecret", &document.tenant_secret)]
        {
            if value.expose_secret().len() < MIN_CREDENTIAL_BYTES {
                return Err(self.invalid(field, "is missing or shorter than 16 bytes"));
            }
        }
        if document.root_keys.is_empty() {
            return Err(self.invalid("rootKeys", "is missing or empty"));
        }
        let mut roots: Vec<(u32, _, _)> = Vec::new();
        for root in &document.root_keys {
            let bytes = decode(&root.key)
                .ok_or_else(|| self.invalid("rootKeys", "has a key that is not base64url"))?;
            if bytes.len() < MIN_ROOT_KEY_BYTES {
                return Err(self.invalid("rootKeys", "has a key shorter than 32 bytes"));
            }
            if roots.iter().any(|(version, ..)| *version == root.version) {
                return Err(self.invalid("rootKeys", "has two keys with the same version"));
            }
            roots.push((root.version, bytes, root.retired_at));
        }
        let mut signing: Vec<(String, _, _, _, _)> = Vec::new();
        for key in &document.signing_keys {
            let algorithm = SigningAlgorithm::from_name(&key.algorithm)
                .filter(|algorithm| *algorithm != SigningAlgorithm::Hs256)
                .ok_or_else(|| {
                    self.invalid("signingKeys", "has an algorithm other than ES256, EdDSA or RS256")
                })?;
            let der = decode(&key.private_key)
                .ok_or_else(|| self.invalid("signingKeys", "has a private key that is not base64url"))?;
            let (encoding, decoding) = key_pair(algorithm, &der).ok_or_else(|| {
                self.invalid("signingKeys", "has a private key that does not fit its algorithm")
            })?;
            if key.id.starts_with("root-") || signing.iter().any(|(id, ..)| *id == key.id) {
                return Err(
                    self.invalid("signingKeys", "has a duplicate id, or an id that starts with root-")
                );
            }
            signing.push((key.id.clone(), algorithm, encoding, decoding, key.retired_at));
        }

        let newest = roots.iter().max_by_key(|(version, ..)| *version).filter(|_| current);
        for (version, bytes, retired_at) in &roots {
            if !self.roots.contains_key(version) {
                // A document that was written by hand may contain `retiredAt` of the key that signs. It is ignored.
                let signs = newest.is_some_and(|(newest, ..)| newest == version);
                let retired_at = retired_at.filter(|_| !signs);
                self.add_root(*version, bytes, retired_at)
                    .map_err(|_| self.invalid("rootKeys", UNDERIVABLE))?;
            }
        }
        if let Some((version, bytes, _)) = newest {
            let key = derive(bytes, "hs256").map_err(|_| self.invalid("rootKeys", UNDERIVABLE))?;
            let signer = Signer {
                kid: self.hs256_kid(*version),
                algorithm: Algorithm::HS256,
                key: EncodingKey::from_secret(&*key),
            };
            self.signers.insert(SigningAlgorithm::Hs256, signer);
            self.current_root = *version;
        }
        for (id, algorithm, encoding, decoding, retired_at) in signing {
            let kid = format!("{}.{id}", self.tenant);
            let signs = current && !self.signers.contains_key(&algorithm);
            if signs {
                let signer = Signer { kid: kid.clone(), algorithm: jwt_algorithm(algorithm), key: encoding };
                self.signers.insert(algorithm, signer);
            }
            let retired_at = retired_at.filter(|_| !signs);
            self.verifiers.entry(kid).or_insert(VerifyingKey { algorithm, key: decoding, retired_at });
        }
        self.credentials.push(Credentials {
            key: document.tenant_key.clone(),
            secret: document.tenant_secret.clone(),
            version_id: document.version_id.clone(),
            noted_at: AtomicI64::new(i64::MIN),
        });
        Ok(())
    }

    fn add_root(
        &mut self,
        version: u32,
        bytes: &[u8],
        retired_at: Option<Timestamp>,
    ) -> Result<(), Unspecified> {
        let mut macs = HashMap::new();
        for purpose in MacPurpose::iter() {
            macs.insert(purpose, hmac::Key::new(hmac::HMAC_SHA256, &*derive(bytes, purpose.into())?));
        }
        let (outbox, form) = (encryption_key(bytes, "outbox")?, encryption_key(bytes, "form")?);
        let verifier = VerifyingKey {
            algorithm: SigningAlgorithm::Hs256,
            key: DecodingKey::from_secret(&*derive(bytes, "hs256")?),
            retired_at,
        };
        self.verifiers.insert(self.hs256_kid(version), verifier);
        let end = retired_at.map(SigningEnd::of_key);
        self.roots.insert(version, DerivedKeys { macs, outbox, form, end });
        Ok(())
    }

    fn hs256_kid(&self, version: u32) -> String {
        format!("{}.root-{version}", self.tenant)
    }
}

/// Generates a private key in the encoding of the secret document: base64url of PKCS#8 (ES256, EdDSA) or
/// PKCS#1 (RS256, 2,048 bits).
///
/// # Errors
/// `Internal` when the key cannot be generated, and for HS256, whose keys are derived from the root key.
pub fn new_signing_key(algorithm: SigningAlgorithm) -> Result<SecretString, Failure> {
    let rng = SystemRandom::new();
    let pkcs8 = |made: Result<Document, Unspecified>| made.map(|key| Zeroizing::new(key.as_ref().to_vec()));
    let made = match algorithm {
        SigningAlgorithm::Es256 => {
            pkcs8(EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng))
        }
        SigningAlgorithm::EdDsa => pkcs8(Ed25519KeyPair::generate_pkcs8v1(&rng)),
        SigningAlgorithm::Rs256 => new_rsa_key(),
        SigningAlgorithm::Hs256 => Err(Unspecified),
    };
    let key = made.map_err(|error| Failure::Internal(Box::new(error)))?;
    Ok(SecretString::from(URL_SAFE_NO_PAD.encode(&*key)))
}

fn new_rsa_key() -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    /// Size of the PKCS#8 header before the PKCS#1 key: version, algorithm and lengths (RFC 5958). The size is
    /// fixed for 2,048-bit keys.
    const PKCS8_HEAD: usize = 26;
    let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
    let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair)?;
    let pkcs1 = pkcs8.as_ref().get(PKCS8_HEAD..).ok_or(Unspecified)?;
    RsaKeyPair::from_der(pkcs1).map_err(|_| Unspecified)?;
    Ok(Zeroizing::new(pkcs1.to_vec()))
}

fn encryption_key(bytes: &[u8], purpose: &str) -> Result<LessSafeKey, Unspecified> {
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*derive(bytes, purpose)?)?))
}

/// Derives a key by HKDF-SHA256 with the purpose as `info`.
fn derive(root: &[u8], purpose: &str) -> Result<Zeroizing<[u8; 32]>, Unspecified> {
    let mut key = Zeroizing::new([0; 32]);
    let info = [b"doorward/v1/".as_slice(), purpose.as_bytes()];
    hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
        .extract(root)
        .expand(&info, hkdf::HKDF_SHA256)?
        .fill(&mut *key)?;
    Ok(key)
}

/// Decodes base64url without padding, which Doorward writes, or standard base64, which most tools write.
fn decode(text: &SecretString) -> Option<Zeroizing<Vec<u8>>> {
    let text = text.expose_secret();
    URL_SAFE_NO_PAD.decode(text).or_else(|_| STANDARD.decode(text)).ok().map(Zeroizing::new)
}

fn key_pair(algorithm: SigningAlgorithm, der: &[u8]) -> Option<(EncodingKey, DecodingKey)> {
    match algorithm {
        SigningAlgorithm::Es256 => {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).ok()?;
            Some((EncodingKey::from_ec_der(der), DecodingKey::from_ec_der(pair.public_key().as_ref())))
        }
        SigningAlgorithm::EdDsa => {
            let pair = Ed25519KeyPair::from_pkcs8(der).ok()?;
            Some((EncodingKey::from_ed_der(der), DecodingKey::from_ed_der(pair.public_key().as_ref())))
        }
        SigningAlgorithm::Rs256 => {
            let pair = RsaKeyPair::from_der(der).ok()?;
            Some((EncodingKey::from_rsa_der(der), DecodingKey::from_rsa_der(pair.public_key().as_ref())))
        }
        SigningAlgorithm::Hs256 => None,
    }
}

pub(super) fn jwt_algorithm(algorithm: SigningAlgorithm) -> Algorithm {
    match algorithm {
        SigningAlgorithm::Es256 => Algorithm::ES256,
        SigningAlgorithm::EdDsa => Algorithm::EdDSA,
        SigningAlgorithm::Rs256 => Algorithm::RS256,
        SigningAlgorithm::Hs256 => Algorithm::HS256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::tests::keys_of;

    // docs/design/security.md#rule-18
    #[test]
    fn signing_key_with_another_public_key_is_rejected() {
        let tenant = TenantId::parse("t").unwrap();
        let (mut keys, other) = (keys_of(&tenant, 1), keys_of(&tenant, 2));
        assert!(keys.prove_signing().is_ok());
        keys.verifiers.extend(other.verifiers);
        assert!(keys.prove_signing().is_err());
    }
}
