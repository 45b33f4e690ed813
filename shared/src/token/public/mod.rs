//! Public keys that a tenant publishes so that others can verify its access tokens.

use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};

use super::{TenantKeys, keys::jwt_algorithm};
use crate::domain::{Failure, SigningAlgorithm};

/// One of a tenant's public keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Name of the algorithm in the `alg` header of a JWT.
    pub algorithm: &'static str,
    /// Public key with the key ID used in tokens (RFC 7517, section 4; RFC 7518, section 6; RFC 8037, section 2).
    pub jwk: Jwk,
}

impl TenantKeys {
    /// Returns the public key of every asymmetric key pair that may have signed a token that is valid at `now`, ordered
    /// by key ID. HS256 keys are never published, because the key that verifies also signs.
    ///
    /// # Errors
    /// `Internal` when a key cannot be converted to a JWK.
    pub fn public_keys(&self, token_life: Duration, now: Timestamp) -> Result<Vec<PublicKey>, Failure> {
        let published = self.verifiers().filter(|(_, verifier)| {
            verifier.algorithm != SigningAlgorithm::Hs256
                && verifier.end.is_none_or(|end| end.may_live(token_life, now))
        });
        let public = published.map(|(kid, verifier)| {
            let mut jwk = Jwk::from_decoding_key(&verifier.key, Some(jwt_algorithm(verifier.algorithm)))
                .map_err(|error| Failure::Internal(Box::new(error)))?;
            jwk.common.key_id = Some(kid.to_owned());
            jwk.common.public_key_use = Some(PublicKeyUse::Signature);
            Ok(PublicKey { algorithm: verifier.algorithm.name(), jwk })
        });
        public.collect()
    }
}

#[cfg(test)]
mod tests;
