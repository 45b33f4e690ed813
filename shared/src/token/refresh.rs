//! Refresh tokens.
//!
//! A refresh token is `dwr1_` and the base64url encoding of: session ID (16 bytes), generation (4 bytes), root
//! key version (4 bytes), the session's nonce (32 bytes), HMAC-SHA256 (32 bytes), user ID. The MAC covers
//! tenant, user and all other fields, so that Doorward rejects a forged token before it reads storage.
//!
//! The nonce is 256 bits from the operating system. Creating a token requires both the nonce, which is in the
//! table, and the root key, which is not (docs/design/security.md#rule-12). Tokens are never stored: the current
//! token is derived from the session whenever it is needed.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::{
    framed,
    keys::{MAC_BYTES, MacPurpose, TenantKeys},
};
use crate::domain::{Failure, Nonce, Session, SessionId, TenantId, UserId};

/// Prefix by which secret scanners recognise leaked tokens. It also identifies the layout.
const PREFIX: &str = "dwr1_";
/// Number of bytes before the MAC.
const HEAD_BYTES: usize = 16 + 4 + 4 + 32;
/// Number of bytes before the user ID.
const FIXED_BYTES: usize = HEAD_BYTES + MAC_BYTES;

/// Parsed refresh token. It is not authenticated until [`RefreshToken::is_authentic`] returns true.
#[derive(Clone)]
pub struct RefreshToken {
    /// User of the session.
    pub user: UserId,
    /// Session that the token refreshes.
    pub session: SessionId,
    /// Nonce of the session.
    pub nonce: Nonce,
    /// Number of rotations of the session before this token.
    pub generation: u64,
    key_version: u32,
    mac: [u8; MAC_BYTES],
}

impl RefreshToken {
    /// Length of a token with the longest user ID.
    pub const MAX_CHARS: usize = PREFIX.len() + ((FIXED_BYTES + 512) * 4).div_ceil(3);

    /// Parses a token without authenticating it. Returns `None` when the text is not a well-formed token.
    pub fn parse(text: &SecretString) -> Option<Self> {
        let text = text.expose_secret();
        if text.len() > Self::MAX_CHARS {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        let (session, rest) = bytes.split_first_chunk::<16>()?;
        let (generation, rest) = rest.split_first_chunk::<4>()?;
        let (key_version, rest) = rest.split_first_chunk::<4>()?;
        let (nonce, rest) = rest.split_first_chunk::<32>()?;
        let (mac, user) = rest.split_first_chunk::<MAC_BYTES>()?;
        Some(Self {
            user: UserId::parse(std::str::from_utf8(user).ok()?).ok()?,
            session: SessionId::from(Uuid::from_bytes(*session)),
            nonce: Nonce(*nonce),
            generation: u64::from(u32::from_be_bytes(*generation)),
            key_version: u32::from_be_bytes(*key_version),
            mac: *mac,
        })
    }

    /// Returns whether this tenant issued the token and no bit of it was changed.
    pub fn is_authentic(&self, tenant: &TenantId, keys: &TenantKeys) -> bool {
        let head = head(&self.session, self.generation, self.key_version, self.nonce);
        head.is_some_and(|head| {
            let message = message(tenant, &self.user, &head);
            keys.is_mac(MacPurpose::Refresh, self.key_version, &message, &self.mac)
        })
    }

    /// Returns whether a session of this token may be live: the token's root key is not retired, or was retired less
    /// than the life of a session ago.
    pub fn may_live(&self, session_life: Duration, keys: &TenantKeys, now: Timestamp) -> bool {
        keys.root_may_live(self.key_version, session_life, now)
    }

    /// Returns the current refresh token of a session: the same text for the same generation.
    ///
    /// # Errors
    /// `Unavailable` when the root key no longer exists, or for a session that has no refresh token.
    pub fn current(session: &Session, keys: &TenantKeys) -> Result<SecretString, Failure> {
        let Session { tenant, user, id, generation, nonce, key_version, .. } = session;
        let head = head(id, *generation, *key_version, *nonce)
            .ok_or_else(|| Failure::Unavailable("the session has no refresh token".into()))?;
        let mac = keys.mac(MacPurpose::Refresh, *key_version, &message(tenant, user, &head))?;
        let bytes = [head.as_slice(), mac.as_ref(), user.as_str().as_bytes()].concat();
        Ok(SecretString::from(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }
}

fn head(session: &SessionId, generation: u64, key_version: u32, nonce: Nonce) -> Option<[u8; HEAD_BYTES]> {
    let parts = [
        session.to_uuid()?.as_bytes().as_slice(),
        &u32::try_from(generation).ok()?.to_be_bytes(),
        &key_version.to_be_bytes(),
        &nonce.0,
    ]
    .concat();
    parts.try_into().ok()
}

fn message(tenant: &TenantId, user: &UserId, head: &[u8; HEAD_BYTES]) -> Vec<u8> {
    [framed(&[tenant.as_str(), user.as_str()]).as_slice(), head].concat()
}
