//! Public keys that a tenant publishes so that others can verify its access tokens.

use jsonwebtoken::jwk::{Jwk, PublicKeyUse};

use super::{TenantKeys, keys::jwt_algorithm};
use crate::domain::{Failure, PublicKey, SigningAlgorithm};

impl TenantKeys {
    /// Returns the public key of every asymmetric key pair, ordered by key ID. HS256 keys are never published,
    /// because the key that verifies also signs.
    ///
    /// # Errors
    /// `Internal` when a key cannot be converted to a JWK.
    pub fn public_keys(&self) -> Result<Vec<PublicKey>, Failure> {
        let asymmetric =
            self.verifiers().filter(|(_, verifier)| verifier.algorithm != SigningAlgorithm::Hs256);
        let public = asymmetric.map(|(kid, verifier)| {
            let mut jwk = Jwk::from_decoding_key(&verifier.key, Some(jwt_algorithm(verifier.algorithm)))
                .map_err(|error| Failure::Internal(Box::new(error)))?;
            jwk.common.key_id = Some(kid.to_owned());
            jwk.common.public_key_use = Some(PublicKeyUse::Signature);
            let jwk = serde_json::to_string(&jwk).map_err(|error| Failure::Internal(Box::new(error)))?;
            Ok(PublicKey { algorithm: verifier.algorithm, jwk, retired_at: verifier.retired_at })
        });
        public.collect()
    }
}

#[cfg(test)]
mod tests;
