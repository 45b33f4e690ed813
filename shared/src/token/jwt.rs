//! Parts that all JWTs share.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::Value;

use super::TenantKeys;
use crate::{
    domain::{Failure, Policy},
    json,
};

/// `typ` of every access token. It prevents the use of other JWTs as access tokens (RFC 9068, section 2.1).
pub(super) const TYPE: &str = "at+jwt";

/// Returns a duration in whole seconds.
pub(super) fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Signs claims as an access token, with the tenant's current key.
///
/// # Errors
/// `Unavailable` when the tenant has no key for its algorithm; `Internal` when signing fails.
pub(super) fn sign(
    claims: &impl Serialize,
    keys: &TenantKeys,
    policy: &Policy,
) -> Result<SecretString, Failure> {
    let signer = keys.signer(policy.algorithm)?;
    let mut header = jsonwebtoken::Header::new(signer.algorithm);
    header.typ = Some(TYPE.to_owned());
    header.kid = Some(signer.kid.clone());
    jsonwebtoken::encode(&header, claims, &signer.key)
        .map(SecretString::from)
        .map_err(|error| Failure::Internal(Box::new(error)))
}

/// Decodes a part of a token: canonical base64url of one JSON object without duplicate members.
pub(super) fn member_map(part: &str) -> Option<serde_json::Map<String, Value>> {
    json::parse_object(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
