//! Refresh tokens.
//!
//! `dwr1_` + base64url of: session (16 bytes), generation (4), root key version (4), the session's
//! nonce (32), HMAC-SHA256 (32), user id. The MAC covers tenant, user and all of the rest, so a
//! token is authentic or not before storage is touched; the nonce is 256 bits from the OS, so the
//! root key alone makes no token, and without the root key the table's nonce makes none either
//! (docs/design/security.md#rule-12). Nothing that could be presented is ever stored: the current token is derived
//! again from the session.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::{TenantKeys, framed};
use crate::domain::{Nonce, Session, SessionId, TenantId, UserId};

/// Lets secret scanners recognise a leaked token, and names the layout.
const PREFIX: &str = "dwr1_";
const MAC_BYTES: usize = 32;
/// Bytes before the MAC.
const HEAD_BYTES: usize = 16 + 4 + 4 + 32;
/// Bytes before the user id.
const FIXED_BYTES: usize = HEAD_BYTES + MAC_BYTES;
/// A token of the longest user id.
const MAX_CHARS: usize = PREFIX.len() + (FIXED_BYTES + 512).div_ceil(3) * 4;

/// What a refresh token names. Only [`RefreshToken::parse`] and [`RefreshToken::is_authentic`] stand
/// between a client's text and a decision.
#[derive(Clone)]
pub struct RefreshToken {
    /// User it was given to.
    pub user: UserId,
    /// Session it refreshes.
    pub session: SessionId,
    /// The session's nonce.
    pub nonce: Nonce,
    /// Its place in the session's rotations.
    pub generation: u64,
    key_version: u32,
    mac: [u8; MAC_BYTES],
}

impl std::fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RefreshToken([redacted])")
    }
}

impl RefreshToken {
    /// Reads a token's text; says nothing about who made it. `None` when the text is not of a refresh token's form: nothing else is looked at then.
    pub fn parse(text: &SecretString) -> Option<Self> {
        let text = text.expose_secret();
        if text.len() > MAX_CHARS {
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

    /// Whether this tenant made it. A token of another tenant, of another key or with any bit
    /// changed is not.
    pub fn is_authentic(&self, tenant: &TenantId, keys: &TenantKeys) -> bool {
        let head = head(&self.session, self.generation, self.key_version, self.nonce);
        match (keys.refresh_key(self.key_version), head) {
            (Some(key), Some(head)) => {
                hmac::verify(key, &message(tenant, &self.user, &head), &self.mac).is_ok()
            }
            _ => false,
        }
    }

    /// The session's current refresh token: always the same text for the same generation. `None`
    /// when the root key of its version is gone.
    pub fn current(session: &Session, keys: &TenantKeys) -> Option<SecretString> {
        let Session { tenant, user, id, generation, nonce, key_version, .. } = session;
        let head = head(id, *generation, *key_version, *nonce)?;
        let tag = hmac::sign(keys.refresh_key(*key_version)?, &message(tenant, user, &head));
        let bytes = [head.as_slice(), tag.as_ref(), user.as_str().as_bytes()].concat();
        Some(SecretString::from(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// Version of the root key that it says it was made with.
    pub fn key_version(&self) -> u32 {
        self.key_version
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
    let mut message = framed(&[tenant.as_str(), user.as_str()]);
    message.extend_from_slice(head);
    message
}
