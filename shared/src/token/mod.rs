//! Access tokens (JWT), refresh tokens, and the tenant keys that sign and verify them.

mod access;
mod assertion;
mod client;
mod client_token;
mod code;
mod cursor;
mod device;
mod document;
mod form_token;
mod idempotency;
mod jwt;
mod keys;
mod public;
mod refresh;
mod retired;
mod seal;
#[cfg(test)]
pub(crate) mod tests;
mod unknown_name;

pub use access::{AccessToken, Bearer, Claims, SCOPE_FULL, SCOPE_PASSWORD_CHANGE, Unverified};
pub use assertion::{Assertion, AssertionFault};
pub use client::{InvalidJwks, client_keys, new_client_secret};
pub use client_token::{ClientBearer, ClientClaims};
pub use cursor::PageCursor;
pub use device::DeviceProof;
pub use document::{MalformedDocument, RootKey, SecretDocument, SigningKey};
pub use form_token::{BrowserId, FormOwner};
pub use idempotency::{KeyOwner, KeyedRequest};
pub use keys::{InvalidSecret, SessionDigest, TenantKeys, new_signing_key};
pub use refresh::RefreshToken;
pub(crate) use retired::drop_ended;

/// Encodes texts as the input of a MAC. A length prefix before each text makes the encoding unambiguous.
fn framed(texts: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut message = Vec::new();
    for text in texts {
        let text = text.as_ref();
        message.extend_from_slice(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        message.extend_from_slice(text);
    }
    message
}
