//! Identifiers: one type each, one `parse` each, so that a request cannot hold an invalid one.

use std::{borrow::Borrow, fmt};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ulid::Ulid;
use uuid::Uuid;

/// Why a text is not what it should be; the message is fit for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(&'static str);

impl Invalid {
    pub(crate) const fn new(why: &'static str) -> Self {
        Self(why)
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $valid:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// # Errors
            /// [`Invalid`] when the text is not of the identifier's form.
            pub fn parse(text: &str) -> Result<Self, Invalid> {
                $valid(text)?;
                Ok(Self(text.to_owned()))
            }

            /// The identifier as clients write it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                $valid(&text)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), self.0)
            }
        }
    };
}

text_id! {
    /// A tenant: 1 to 64 letters, digits, `_` and `-`, case-sensitive.
    ///
    /// No `.`: a key id is `{tenant}.{key}` (see [`crate::token`]); nothing that a secret's name in
    /// Secrets Manager could not carry.
    TenantId, tenant_form
}
text_id! {
    /// A user within a tenant: 1 to 200 characters (the longest any dialect allows), no control
    /// characters, at most 512 bytes so that a storage key always fits DynamoDB's 2,048.
    UserId, free_form
}
text_id! {
    /// The organization that owns a user. Same form as [`UserId`].
    OrganizationId, free_form
}
text_id! {
    /// The customer a user belongs to. Same form as [`UserId`].
    CustomerId, free_form
}
text_id! {
    /// A session: 1 to 100 printable ASCII characters. Doorward issues UUIDs; whatever else a client
    /// sends names no session.
    SessionId, session_form
}

text_id! {
    /// What a client repeats a request by, without repeating what it did: 1 to 255 printable ASCII
    /// characters (docs/design/contract.md#every-request).
    IdempotencyKey, printable_form
}

fn printable_form(text: &str) -> Result<(), Invalid> {
    let valid = (1..=255).contains(&text.len()) && text.bytes().all(|b| matches!(b, b' '..=b'~'));
    if valid { Ok(()) } else { Err(Invalid("must be 1 to 255 printable ASCII characters")) }
}

fn tenant_form(text: &str) -> Result<(), Invalid> {
    let valid = (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if valid { Ok(()) } else { Err(Invalid("must be 1 to 64 letters, digits, '_' or '-'")) }
}

fn session_form(text: &str) -> Result<(), Invalid> {
    let valid = (1..=100).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if valid { Ok(()) } else { Err(Invalid("must be 1 to 100 printable ASCII characters")) }
}

fn free_form(text: &str) -> Result<(), Invalid> {
    if text.is_empty() || text.len() > 512 || text.chars().count() > 200 {
        return Err(Invalid("must be 1 to 200 characters"));
    }
    if text.chars().any(char::is_control) {
        return Err(Invalid("must not contain control characters"));
    }
    Ok(())
}

impl UserId {
    /// A random (version 4) UUID from 128 bits of entropy.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(SessionId::from_random(bytes).0)
    }
}

impl SessionId {
    /// A random (version 4) UUID from 128 bits of entropy.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid().hyphenated().to_string())
    }

    /// The UUID's bytes, where the text is the form that [`Self::from_random`] writes.
    pub fn to_uuid(&self) -> Option<Uuid> {
        Uuid::try_parse(&self.0).ok().filter(|uuid| uuid.hyphenated().to_string() == self.0)
    }
}

impl From<Uuid> for SessionId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid.hyphenated().to_string())
    }
}

/// One try at something the store must count or recognise exactly once: a login attempt, a
/// rotation. A ULID, so that it tells when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(Ulid);

impl AttemptId {
    /// An id made at `now` from 128 bits of entropy (80 are used).
    pub fn new(now: Timestamp, entropy: [u8; 16]) -> Self {
        let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
        Self(Ulid::from_parts(millis, u128::from_le_bytes(entropy)))
    }

    /// # Errors
    /// [`Invalid`] when the text is no ULID.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Ulid::from_string(text).map(Self).map_err(|_| Invalid("must be a ULID"))
    }

    /// When the attempt was made.
    pub fn made_at(self) -> Timestamp {
        i64::try_from(self.0.timestamp_ms())
            .ok()
            .and_then(|millis| Timestamp::from_millisecond(millis).ok())
            .unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A device that logged in before: what all of its proofs name (docs/design/security.md#rule-10). Opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProvenDevice([u8; Self::BYTES]);

impl ProvenDevice {
    /// Its length.
    pub const BYTES: usize = 16;

    /// A device of these random bytes.
    pub fn from_random(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// # Errors
    /// [`Invalid`] when the text is not as this type writes it.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(Invalid("must be the base64url of 16 bytes"))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for ProvenDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_ids_are_narrow() {
        for good in ["tenant_cloudvault", "97e7ff29-15f3-49ef-9681-3bbfcce4f6cd", "A", &"x".repeat(64)] {
            assert!(TenantId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a.b", "a/b", "a#b", "tenant\0", "ténant", &"x".repeat(65)] {
            assert!(TenantId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn other_ids_take_what_the_dialects_allow() {
        for good in ["user_12345", "a/b#c", "ü", &"é".repeat(200)] {
            assert!(UserId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a\nb", "a\0", &"x".repeat(201), &"𝄞".repeat(150)] {
            assert!(UserId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_attempt_id_tells_when_it_was_made() {
        let now = Timestamp::from_millisecond(1_768_341_708_974).unwrap();
        let id = AttemptId::new(now, [7; 16]);
        assert_eq!(id.made_at(), now);
        assert_eq!(AttemptId::parse(&id.to_string()).unwrap(), id);
    }

    #[test]
    fn a_device_has_one_spelling() {
        let device = ProvenDevice::from_random([0xfb; 16]);
        assert_eq!(ProvenDevice::parse(&device.to_string()).unwrap(), device);
        for bad in ["", "AAAA", &format!("{device}="), &device.to_string().replace('w', "x")] {
            assert!(ProvenDevice::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn session_ids_are_uuids() {
        let id = SessionId::from_random([0xab; 16]);
        assert_eq!(id.to_uuid().unwrap().get_version_num(), 4);
        assert_eq!(SessionId::from(id.to_uuid().unwrap()), id);
        assert!(SessionId::parse("sess_abc123").unwrap().to_uuid().is_none());
        assert!(SessionId::parse(&id.as_str().to_uppercase()).unwrap().to_uuid().is_none());
    }
}
