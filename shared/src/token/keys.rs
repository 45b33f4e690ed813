//! A tenant's keys, from its secret document (docs/design/security.md#rule-17 and #rule-18).
//!
//! `tenantKey` and `tenantSecret` are what callers send, so never a key. Everything symmetric is
//! derived from a root key by HKDF (RFC 5869), one purpose each; asymmetric signing keys are kept
//! as they are. A key id is `{tenant}.{key}`, so that a token names its tenant before any key is
//! tried.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicI64, Ordering},
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
use zeroize::Zeroizing;

use crate::{
    domain::{Failure, SessionId, SigningAlgorithm, TenantId, matches},
    secrets::SecretDocument,
};

/// Why a secret document cannot be used; names the field, never its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the secret of tenant {tenant} cannot be used: {field} {problem}")]
pub struct InvalidSecret {
    tenant: TenantId,
    field: &'static str,
    problem: &'static str,
}

/// Shortest `tenantKey` and `tenantSecret` that open anything.
const MIN_CREDENTIAL_BYTES: usize = 16;
/// Shortest root key (docs/design/security.md#rule-17).
const MIN_ROOT_KEY_BYTES: usize = 32;

/// How often the use of a version of a secret is noted, in milliseconds: a minute tells an operator
/// enough.
const NOTED_EVERY_MILLIS: i64 = 60_000;

const UNDERIVABLE: &str = "has a key that nothing can be derived from";

/// A session's keyed digest: what logs call it by (docs/design/security.md#rule-24).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionDigest(String);

impl SessionDigest {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a tenant's keys sign and check.
pub struct TenantKeys {
    tenant: TenantId,
    credentials: Vec<Credentials>,
    roots: HashMap<u32, RootKeys>,
    current_root: u32,
    signers: HashMap<SigningAlgorithm, Signer>,
    verifiers: BTreeMap<String, Verifier>,
}

/// What callers send to prove that they are the tenant, as one of its documents has it.
struct Credentials {
    key: SecretString,
    secret: SecretString,
    version_id: String,
    /// When their use was last noted, in epoch milliseconds.
    noted_at: AtomicI64,
}

struct RootKeys {
    refresh: hmac::Key,
    audit: hmac::Key,
    code: hmac::Key,
    outbox: LessSafeKey,
    page: hmac::Key,
    cursor: hmac::Key,
    fingerprint: hmac::Key,
    device: hmac::Key,
}

/// Signs access tokens.
pub(super) struct Signer {
    pub(super) kid: String,
    pub(super) algorithm: Algorithm,
    pub(super) key: EncodingKey,
}

/// Verifies access tokens of one key id.
pub(super) struct Verifier {
    pub(super) algorithm: Algorithm,
    pub(super) name: &'static str,
    pub(super) key: DecodingKey,
}

impl TenantKeys {
    /// Takes the current document, then those that are not retired yet. All their `tenantKey` and
    /// `tenantSecret` pairs open the door and all their keys verify; the current one alone signs.
    ///
    /// # Errors
    /// [`InvalidSecret`] when the current document cannot be used. An earlier one that cannot is
    /// left out.
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

    /// Whether a caller is the tenant, and by which of its pairs: the current one's where several are
    /// the same (docs/design/security.md#rule-18).
    pub fn open_with(&self, key: &SecretString, secret: &SecretString) -> Option<usize> {
        // No short circuit: which of the pairs, and which half, is nobody's business.
        self.credentials.iter().enumerate().rev().fold(None, |opened, (at, own)| {
            if matches(key, &own.key) & matches(secret, &own.secret) { Some(at) } else { opened }
        })
    }

    /// The version of the tenant's secret whose use is to be noted; `None` where it was within the
    /// minute, or is by another request just now.
    pub fn use_to_note(&self, pair: usize, now: Timestamp) -> Option<&str> {
        let Credentials { version_id, noted_at, .. } = self.credentials.get(pair)?;
        let (before, now) = (noted_at.load(Ordering::Relaxed), now.as_millisecond());
        let due = now >= before.saturating_add(NOTED_EVERY_MILLIS);
        let is_ours = || noted_at.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        (due && is_ours()).then_some(version_id)
    }

    /// Version of the root key that new refresh tokens are made with.
    pub fn root_version(&self) -> u32 {
        self.current_root
    }

    /// Whether there is a root key of that version.
    pub fn has_root(&self, version: u32) -> bool {
        self.roots.contains_key(&version)
    }

    /// A session's id for the log: tells sessions apart and opens none (docs/design/security.md#rule-24).
    pub fn session_digest(&self, session: &SessionId) -> SessionDigest {
        SessionDigest(self.roots.get(&self.current_root).map_or_else(String::new, |root| {
            let tag = hmac::sign(&root.audit, session.as_str().as_bytes());
            URL_SAFE_NO_PAD.encode(tag.as_ref().get(..12).unwrap_or_default())
        }))
    }

    pub(super) fn refresh_key(&self, version: u32) -> Option<&hmac::Key> {
        self.roots.get(&version).map(|root| &root.refresh)
    }

    pub(super) fn code_key(&self, version: u32) -> Option<&hmac::Key> {
        self.roots.get(&version).map(|root| &root.code)
    }

    pub(super) fn outbox_key(&self, version: u32) -> Option<&LessSafeKey> {
        self.roots.get(&version).map(|root| &root.outbox)
    }

    pub(super) fn page_key(&self, version: u32) -> Option<&hmac::Key> {
        self.roots.get(&version).map(|root| &root.page)
    }

    pub(super) fn cursor_key(&self, version: u32) -> Option<&hmac::Key> {
        self.roots.get(&version).map(|root| &root.cursor)
    }

    pub(super) fn fingerprint_key(&self, version: u32) -> Option<&hmac::Key> {
        self.roots.get(&version).map(|root| &root.fingerprint)
    }

    pub(super) fn device_key(&self, version: u32) -> Option<&hmac::Key> {
        self.roots.get(&version).map(|root| &root.device)
    }

    /// Whether access tokens of that algorithm can be signed.
    pub fn can_sign(&self, algorithm: SigningAlgorithm) -> bool {
        self.signers.contains_key(&algorithm)
    }

    pub(super) fn signer(&self, algorithm: SigningAlgorithm) -> Result<&Signer, Failure> {
        self.signers.get(&algorithm).ok_or_else(|| {
            Failure::Unavailable(Box::new(
                self.invalid("signingKeys", "has no key for the tenant's algorithm"),
            ))
        })
    }

    /// That what it signs is verified by the key of the same id, for each algorithm that it signs by.
    ///
    /// # Errors
    /// [`InvalidSecret`] when a key does not do that.
    pub fn prove_signing(&self) -> Result<(), InvalidSecret> {
        /// Anything will do.
        const MESSAGE: &[u8] = b"doorward";
        for Signer { kid, algorithm, key } in self.signers.values() {
            let signed = jsonwebtoken::crypto::sign(MESSAGE, key, *algorithm);
            let verified = self.verifiers.get(kid).zip(signed.ok()).is_some_and(|(verifier, signature)| {
                jsonwebtoken::crypto::verify(&signature, MESSAGE, &verifier.key, verifier.algorithm)
                    .is_ok_and(|valid| valid)
            });
            if !verified {
                return Err(self.invalid("signingKeys", "has a key that does not verify what it signs"));
            }
        }
        Ok(())
    }

    pub(super) fn verifier(&self, kid: &str) -> Option<&Verifier> {
        self.verifiers.get(kid)
    }

    /// Every key that verifies, with its id, in the order of the ids.
    pub(super) fn verifiers(&self) -> impl Iterator<Item = (&str, &Verifier)> {
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
        let mut roots = Vec::new();
        for root in &document.root_keys {
            let bytes = decode(&root.key)
                .ok_or_else(|| self.invalid("rootKeys", "has a key that is not base64url"))?;
            if bytes.len() < MIN_ROOT_KEY_BYTES {
                return Err(self.invalid("rootKeys", "has a key shorter than 32 bytes"));
            }
            if roots.iter().any(|(version, _)| *version == root.version) {
                return Err(self.invalid("rootKeys", "has two keys of one version"));
            }
            roots.push((root.version, bytes));
        }
        let mut signing: Vec<(String, _, _, _)> = Vec::new();
        for key in &document.signing_keys {
            let algorithm = SigningAlgorithm::from_name(&key.algorithm)
                .filter(|algorithm| *algorithm != SigningAlgorithm::Hs256)
                .ok_or_else(|| {
                    self.invalid("signingKeys", "has an algorithm that is none of ES256, EdDSA, RS256")
                })?;
            let der = decode(&key.private_key)
                .ok_or_else(|| self.invalid("signingKeys", "has a private key that is not base64url"))?;
            let (encoding, decoding) = key_pair(algorithm, &der).ok_or_else(|| {
                self.invalid("signingKeys", "has a private key that is not of its algorithm")
            })?;
            if key.id.starts_with("root-") || signing.iter().any(|(id, ..)| *id == key.id) {
                return Err(self.invalid("signingKeys", "has an id twice, or one that begins with root-"));
            }
            signing.push((key.id.clone(), algorithm, encoding, decoding));
        }

        for (version, bytes) in &roots {
            if !self.roots.contains_key(version) {
                self.add_root(*version, bytes).map_err(|_| self.invalid("rootKeys", UNDERIVABLE))?;
            }
        }
        if let Some((version, bytes)) = roots.iter().max_by_key(|(version, _)| *version).filter(|_| current) {
            let key = derive(bytes, "hs256").map_err(|_| self.invalid("rootKeys", UNDERIVABLE))?;
            let signer = Signer {
                kid: self.hs256_kid(*version),
                algorithm: Algorithm::HS256,
                key: EncodingKey::from_secret(&*key),
            };
            self.signers.insert(SigningAlgorithm::Hs256, signer);
            self.current_root = *version;
        }
        for (id, algorithm, encoding, decoding) in signing {
            let kid = format!("{}.{id}", self.tenant);
            if current && !self.signers.contains_key(&algorithm) {
                let signer = Signer { kid: kid.clone(), algorithm: jwt_algorithm(algorithm), key: encoding };
                self.signers.insert(algorithm, signer);
            }
            let verifier =
                Verifier { algorithm: jwt_algorithm(algorithm), name: algorithm.name(), key: decoding };
            self.verifiers.entry(kid).or_insert(verifier);
        }
        self.credentials.push(Credentials {
            key: document.tenant_key.clone(),
            secret: document.tenant_secret.clone(),
            version_id: document.version_id.clone(),
            noted_at: AtomicI64::new(i64::MIN),
        });
        Ok(())
    }

    fn add_root(&mut self, version: u32, bytes: &[u8]) -> Result<(), Unspecified> {
        let root = RootKeys {
            refresh: hmac::Key::new(hmac::HMAC_SHA256, &*derive(bytes, "refresh")?),
            audit: hmac::Key::new(hmac::HMAC_SHA256, &*derive(bytes, "audit")?),
            code: hmac::Key::new(hmac::HMAC_SHA256, &*derive(bytes, "code")?),
            outbox: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*derive(bytes, "outbox")?)?),
            page: hmac::Key::new(hmac::HMAC_SHA256, &*derive(bytes, "page")?),
            cursor: hmac::Key::new(hmac::HMAC_SHA256, &*derive(bytes, "cursor")?),
            fingerprint: hmac::Key::new(hmac::HMAC_SHA256, &*derive(bytes, "fingerprint")?),
            device: hmac::Key::new(hmac::HMAC_SHA256, &*derive(bytes, "device")?),
        };
        let verifier = Verifier {
            algorithm: Algorithm::HS256,
            name: SigningAlgorithm::Hs256.name(),
            key: DecodingKey::from_secret(&*derive(bytes, "hs256")?),
        };
        self.verifiers.insert(self.hs256_kid(version), verifier);
        self.roots.insert(version, root);
        Ok(())
    }

    fn hs256_kid(&self, version: u32) -> String {
        format!("{}.root-{version}", self.tenant)
    }
}

/// A fresh private key for `algorithm`, in the form the secret document keeps: base64url of PKCS#8
/// (ES256, EdDSA) or PKCS#1 (RS256, 2,048 bits). For operators' tools.
///
/// # Errors
/// `Failure::Internal` when the key cannot be made; HS256 keys are derived, never made.
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
    /// What PKCS#8 puts before the PKCS#1 key: version, algorithm and lengths (RFC 5958), of fixed
    /// size for keys of this size.
    const PKCS8_HEAD: usize = 26;
    let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
    let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair)?;
    let pkcs1 = pkcs8.as_ref().get(PKCS8_HEAD..).ok_or(Unspecified)?;
    RsaKeyPair::from_der(pkcs1).map_err(|_| Unspecified)?;
    Ok(Zeroizing::new(pkcs1.to_vec()))
}

/// HKDF-SHA256 with the purpose as `info`; a key, or an error, never a key of zeros.
fn derive(root: &[u8], purpose: &str) -> Result<Zeroizing<[u8; 32]>, Unspecified> {
    let mut key = Zeroizing::new([0; 32]);
    let info = [b"doorward/v1/".as_slice(), purpose.as_bytes()];
    hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
        .extract(root)
        .expand(&info, hkdf::HKDF_SHA256)?
        .fill(&mut *key)?;
    Ok(key)
}

/// base64url without padding, as everything of ours, or standard base64, as most tools write keys.
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

fn jwt_algorithm(algorithm: SigningAlgorithm) -> Algorithm {
    match algorithm {
        SigningAlgorithm::Es256 => Algorithm::ES256,
        SigningAlgorithm::EdDsa => Algorithm::EdDSA,
        SigningAlgorithm::Rs256 => Algorithm::RS256,
        SigningAlgorithm::Hs256 => Algorithm::HS256,
    }
}
