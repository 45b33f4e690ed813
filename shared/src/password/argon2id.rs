//! Hashing of new passwords with argon2id (docs/design/security.md#rule-4).

use argon2::{Algorithm, Argon2, Block, Params, Version, password_hash::phc};
use zeroize::Zeroizing;

use super::{MatchedForm, NO_SALT_OR_HASH};
use crate::domain::{Failure, HashCost, Invalid, Password, PasswordHash};

const SCHEME: Invalid = Invalid::new(
    "must be an argon2id (v=19), bcrypt ($2a$, $2b$, $2y$), scrypt or PBKDF2 (sha256, sha512, sha1) hash",
);
const PARAMS: Invalid = Invalid::new("must have the argon2id parameters m, t and p, and no keyid");
const COST: Invalid =
    Invalid::new("must have an argon2id cost of 8 KiB per lane to 131072 KiB (m), 1 to 16 (t), 1 to 4 (p)");

/// Length of a salt in bytes.
pub(super) const SALT_BYTES: usize = 16;
/// Length of a hash in bytes.
pub(super) const HASH_BYTES: usize = 32;

/// A stored argon2id hash.
pub(super) struct Argon2Hash {
    params: Params,
    salt: Vec<u8>,
    hash: Zeroizing<Vec<u8>>,
}

impl Argon2Hash {
    /// Parses a PHC string.
    ///
    /// # Errors
    /// [`Invalid`] if the hash is not argon2id, or if its cost exceeds the limits.
    pub(super) fn parse(parsed: &phc::PasswordHash) -> Result<Self, Invalid> {
        if parsed.algorithm.as_str() != Algorithm::Argon2id.as_str()
            || parsed.version != Some(Version::V0x13.into())
        {
            return Err(SCHEME);
        }
        let params = Params::try_from(parsed).map_err(|_| PARAMS)?;
        let (salt, hash) = parsed.salt.zip(parsed.hash).ok_or(NO_SALT_OR_HASH)?;
        // The secret that a key ID names is unknown.
        if !params.keyid().is_empty() {
            return Err(PARAMS);
        }
        // A stored hash must not exhaust the memory of a function.
        let stored =
            Self { params, salt: salt.as_ref().to_vec(), hash: Zeroizing::new(hash.as_bytes().to_vec()) };
        if stored.cost() == stored.cost().bounded() { Ok(stored) } else { Err(COST) }
    }

    /// Creates a hash for unknown users, which no password matches. Verification costs the same as for other
    /// hashes (docs/design/security.md#rule-9).
    ///
    /// # Errors
    /// `Internal` if argon2 rejects the cost.
    pub(super) fn dummy(cost: HashCost) -> Result<Self, Failure> {
        let hash = Zeroizing::new(vec![0; HASH_BYTES]);
        Ok(Self { params: params(cost)?, salt: vec![0; SALT_BYTES], hash })
    }

    /// Memory for verification, in blocks of 1 KiB.
    pub(super) fn blocks(&self) -> usize {
        self.params.block_count()
    }

    fn cost(&self) -> HashCost {
        let params = &self.params;
        HashCost { memory_kib: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() }
    }

    /// Returns the cost of the hash that should replace this one, whose password `form` matched. The new hash
    /// never has less memory or fewer passes (docs/design/security.md#rule-4).
    pub(super) fn replacement(&self, form: MatchedForm, policy: HashCost) -> Option<HashCost> {
        let (stored, policy) = (self.cost(), policy.bounded());
        let strongest = HashCost {
            memory_kib: policy.memory_kib.max(stored.memory_kib),
            passes: policy.passes.max(stored.passes),
            lanes: policy.lanes,
        };
        if form == MatchedForm::Sent {
            return Some(strongest.bounded());
        }
        let is_current = stored == policy && (self.salt.len(), self.hash.len()) == (SALT_BYTES, HASH_BYTES);
        (strongest == policy && !is_current).then_some(policy)
    }

    /// Verifies a password.
    ///
    /// # Errors
    /// `Internal` if argon2 rejects the parameters.
    pub(super) fn verify(&self, password: &[u8], memory: &mut [Block]) -> Result<bool, Failure> {
        let made = digest(&self.params, password, &self.salt, self.hash.len(), memory)?;
        Ok(aws_lc_rs::constant_time::verify_slices_are_equal(&made, &self.hash).is_ok())
    }
}

/// Converts a cost to argon2 parameters.
///
/// # Errors
/// `Internal` if argon2 rejects the cost.
pub(super) fn params(cost: HashCost) -> Result<Params, Failure> {
    let cost = cost.bounded();
    Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(HASH_BYTES)).map_err(|_| out_of_bounds())
}

/// Creates the failure for a cost beyond the limits.
pub(super) fn out_of_bounds() -> Failure {
    Failure::Internal("the hash cost of the tenant is out of range".into())
}

/// Hashes a new password.
///
/// # Errors
/// `Internal` if argon2 rejects the parameters.
pub(super) fn hash(
    params: &Params,
    password: &Password,
    salt: &[u8],
    memory: &mut [Block],
) -> Result<PasswordHash, Failure> {
    let made = digest(params, password.as_bytes(), salt, HASH_BYTES, memory)?;
    phc_text(params, salt, &made)
}

fn digest(
    params: &Params,
    password: &[u8],
    salt: &[u8],
    length: usize,
    memory: &mut [Block],
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut out = Zeroizing::new(vec![0; length]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
        .hash_password_into_with_memory(password, salt, &mut out, memory)
        .map_err(|error| Failure::Internal(error.to_string().into()))?;
    Ok(out)
}

/// Encodes a hash as a PHC string.
///
/// # Errors
/// `Internal` if a part cannot be encoded.
pub(super) fn phc_text(params: &Params, salt: &[u8], hash: &[u8]) -> Result<PasswordHash, Failure> {
    let broken =
        |what: &str| Failure::Internal(format!("cannot encode a new password hash: invalid {what}").into());
    let text = phc::PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: phc::ParamsString::try_from(params).map_err(|_| broken("parameters"))?,
        salt: Some(phc::Salt::new(salt).map_err(|_| broken("salt"))?),
        hash: Some(phc::Output::new(hash).map_err(|_| broken("hash"))?),
    };
    Ok(PasswordHash::from_phc(text.to_string()))
}
