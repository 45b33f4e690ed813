//! Hashing of new passwords with argon2id (docs/design/security.md#rule-4).

use argon2::{Algorithm, Argon2, Block, Params, Version, password_hash::phc};
use zeroize::Zeroizing;

use super::unusable;
use crate::domain::{Failure, HashCost, Password, PasswordHash};

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
    /// `Internal` if the hash is not argon2id, or if its cost exceeds the limits.
    pub(super) fn parse(parsed: &phc::PasswordHash) -> Result<Self, Failure> {
        if parsed.algorithm.as_str() != Algorithm::Argon2id.as_str()
            || parsed.version != Some(Version::V0x13.into())
        {
            return Err(unusable());
        }
        let params = Params::try_from(parsed).map_err(|_| unusable())?;
        let (salt, hash) = parsed.salt.zip(parsed.hash).ok_or_else(unusable)?;
        // A stored hash must not exhaust the memory of a function.
        let cost = HashCost { memory_kib: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() };
        if cost != cost.bounded() {
            return Err(unusable());
        }
        Ok(Self { params, salt: salt.as_ref().to_vec(), hash: Zeroizing::new(hash.as_bytes().to_vec()) })
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

    /// Returns whether a new hash with `cost` has the same parameters.
    pub(super) fn has_cost(&self, cost: HashCost) -> bool {
        let Self { params, salt, hash } = self;
        let HashCost { memory_kib, passes, lanes } = cost.bounded();
        (params.m_cost(), params.t_cost(), params.p_cost()) == (memory_kib, passes, lanes)
            && (salt.len(), hash.len()) == (SALT_BYTES, HASH_BYTES)
    }

    /// Verifies a password.
    ///
    /// # Errors
    /// `Internal` if argon2 rejects the parameters.
    pub(super) fn verify(&self, password: &Password, memory: &mut [Block]) -> Result<bool, Failure> {
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
    let made = digest(params, password, salt, HASH_BYTES, memory)?;
    phc_text(params, salt, &made)
}

fn digest(
    params: &Params,
    password: &Password,
    salt: &[u8],
    length: usize,
    memory: &mut [Block],
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut out = Zeroizing::new(vec![0; length]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
        .hash_password_into_with_memory(password.as_bytes(), salt, &mut out, memory)
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
