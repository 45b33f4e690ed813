//! Identifiers. Each has its own type and one `parse` function, so that a request cannot contain an invalid one.

use std::{borrow::Borrow, fmt};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ulid::Ulid;
use uuid::Uuid;

use super::visible;

/// The reason why a text is invalid. Clients see the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(&'static str);

impl Invalid {
    pub(crate) const fn new(why: &'static str) -> Self {
        Self(why)
    }
}

/// Implements `Display` and the conversions that serde uses for a newtype over `String` with a `parse` function.
macro_rules! text_conversions {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
pub(super) use text_conversions;

/// Adds the conversions to and from the names that `strum` derives for an enum. Stored items, tokens, logs and
/// responses contain these names.
macro_rules! named {
    ($name:ident) => {
        impl $name {
            /// Returns the name.
            pub fn name(self) -> &'static str {
                self.into()
            }

            /// Returns the value with exactly this name.
            pub fn from_name(name: &str) -> Option<Self> {
                name.parse().ok()
            }
        }
    };
}
pub(super) use named;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $valid:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Parses an identifier.
            ///
            /// # Errors
            /// [`Invalid`] if the text does not have the format of the identifier.
            pub fn parse(text: &str) -> Result<Self, Invalid> {
                $valid(text)?;
                Ok(Self(text.to_owned()))
            }

            /// Returns the identifier as clients write it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        text_conversions!($name);

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
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
    /// A tenant ID: 1 to 64 letters, digits, `_` and `-`, case-sensitive.
    ///
    /// `.` is not allowed because a key ID is `{tenant}.{key}` (see `crate::token`). All characters are
    /// allowed in the name of a secret in Secrets Manager.
    TenantId, tenant_form
}
text_id! {
    /// A user ID, unique within a tenant: 1 to 200 characters (the maximum of all dialects), no control
    /// characters, and at most 512 bytes so that a storage key fits DynamoDB's limit of 2,048 bytes.
    UserId, free_form
}
text_id! {
    /// ID of the organization that owns a user. Same format as [`UserId`].
    OrganizationId, free_form
}
text_id! {
    /// ID of the customer that a user belongs to. Same format as [`UserId`].
    CustomerId, free_form
}
text_id! {
    /// A session ID: 1 to 100 printable ASCII characters. Doorward issues UUIDs, so that no session has an
    /// ID of another format.
    SessionId, session_form
}

text_id! {
    /// ID of an API client: 1 to 64 letters, digits, `_` and `-`. Doorward issues `dwc_` and 32 hexadecimal digits.
    ClientId, tenant_form
}

text_id! {
    /// An idempotency key, with which a client can repeat a request safely: 1 to 255 printable ASCII
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

/// Adds the parser of IDs that an operator or a client chooses for a new item.
macro_rules! chosen_ids {
    ($($name:ident),+) => {$(
        impl $name {
            /// Parses the ID of a new item (docs/design/contract.md#ids). Stored items may have other IDs.
            ///
            /// # Errors
            /// [`Invalid`] if a path cannot contain the ID on every route, or if the ID has invisible characters or
            /// outer white space.
            pub fn parse_new(text: &str) -> Result<Self, Invalid> {
                addressable_form(text)?;
                Self::parse(text)
            }
        }
    )+};
}
chosen_ids!(UserId, OrganizationId, CustomerId);

fn addressable_form(text: &str) -> Result<(), Invalid> {
    if text.contains(['/', '?', '#', '%', '\\']) || matches!(text, "." | "..") {
        return Err(Invalid("must not be . or .. or contain / ? # % or \\, because paths contain the ID"));
    }
    visible::broken_rule(text).map_or(Ok(()), |rule| Err(Invalid(rule)))
}

impl UserId {
    /// Creates a random (version 4) UUID from 128 bits of entropy.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(SessionId::from_random(bytes).0)
    }

    /// Creates the stand-in for the user ID of an unknown username from a digest of the name. It begins with NUL, so
    /// that no request can contain it and no user can have it.
    pub(crate) fn of_unknown_name(digest: &str) -> Self {
        Self(format!("\0{digest}"))
    }
}

impl ClientId {
    /// Creates an ID from 128 bits of entropy.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(format!("dwc_{}", Uuid::from_bytes(bytes).simple()))
    }
}

impl SessionId {
    /// Creates a random (version 4) UUID from 128 bits of entropy.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid().hyphenated().to_string())
    }

    /// Creates the ID of the session of a login from the ID of its password attempt. A stored session therefore
    /// shows that the attempt succeeded.
    pub fn of_attempt(attempt: AttemptId) -> Self {
        let digest = digest(&SHA256, attempt.to_string().as_bytes());
        Self::from_random(digest.as_ref().first_chunk().copied().unwrap_or_default())
    }

    /// Returns the UUID if the text has the format that [`Self::from_random`] writes.
    pub fn to_uuid(&self) -> Option<Uuid> {
        Uuid::try_parse(&self.0).ok().filter(|uuid| uuid.hyphenated().to_string() == self.0)
    }
}

impl From<Uuid> for SessionId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid.hyphenated().to_string())
    }
}

/// ID of an operation that the store counts or recognizes exactly once, such as a password attempt or a
/// token rotation. It is a ULID and contains its creation time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(Ulid);

impl AttemptId {
    /// Creates an ID with the time `now` and 128 bits of entropy, of which 80 are used.
    pub fn new(now: Timestamp, entropy: [u8; 16]) -> Self {
        let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
        Self(Ulid::from_parts(millis, u128::from_le_bytes(entropy)))
    }

    /// Parses an ID.
    ///
    /// # Errors
    /// [`Invalid`] if the text is not a ULID.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        Ulid::from_string(text).map(Self).map_err(|_| Invalid("must be a ULID"))
    }

    /// Returns the creation time.
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

/// ID of a trusted device, which logged in before (docs/design/security.md#rule-10). All proofs of the device
/// contain it. The ID alone gives no access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustedDeviceId([u8; Self::BYTES]);

impl TrustedDeviceId {
    /// Length in bytes.
    pub const BYTES: usize = 16;

    /// Creates an ID from random bytes.
    pub fn from_random(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Parses an ID.
    ///
    /// # Errors
    /// [`Invalid`] if the text is not the base64url form that this type writes.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or(Invalid("must be the base64url of 16 bytes"))
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for TrustedDeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_ids_allow_only_letters_digits_underscore_and_hyphen() {
        for good in ["tenant_cloudvault", "97e7ff29-15f3-49ef-9681-3bbfcce4f6cd", "A", &"x".repeat(64)] {
            assert!(TenantId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a.b", "a/b", "a#b", "tenant\0", "ténant", &"x".repeat(65)] {
            assert!(TenantId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn user_ids_allow_1_to_200_characters_without_control_characters() {
        for good in ["user_12345", "a/b#c", "ü", &"é".repeat(200)] {
            assert!(UserId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a\nb", "a\0", &"x".repeat(201), &"𝄞".repeat(150)] {
            assert!(UserId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn stand_in_for_an_unknown_name_is_not_the_id_of_any_user() {
        let stand_in = UserId::of_unknown_name("digest");
        assert!(UserId::parse(stand_in.as_str()).is_err() && UserId::parse_new(stand_in.as_str()).is_err());
        assert_ne!(stand_in, UserId::parse("digest").unwrap());
    }

    // docs/design/contract.md#ids
    #[test]
    fn new_ids_can_be_part_of_a_path() {
        for good in ["user_12345", "ü", "a b", "auth0|5f7c", "x@y", "...", &"é".repeat(200)] {
            assert!(UserId::parse_new(good).is_ok(), "{good}");
        }
        for bad in
            ["", "a/b", "a%2Fb", "a?b", "a#b", "a\\b", ".", "..", " a", "a\u{200b}", "\u{202e}a", "a\n"]
        {
            assert!(UserId::parse_new(bad).is_err(), "{bad:?}");
            assert!(
                OrganizationId::parse_new(bad).is_err() && CustomerId::parse_new(bad).is_err(),
                "{bad:?}"
            );
        }
        assert!(UserId::parse("a/b").is_ok(), "stored users keep their IDs");
    }

    #[test]
    fn attempt_id_contains_its_creation_time() {
        let now = Timestamp::from_millisecond(1_768_341_708_974).unwrap();
        let id = AttemptId::new(now, [7; 16]);
        assert_eq!(id.made_at(), now);
        assert_eq!(AttemptId::parse(&id.to_string()).unwrap(), id);
    }

    #[test]
    fn device_id_has_one_spelling() {
        let device = TrustedDeviceId::from_random([0xfb; 16]);
        assert_eq!(TrustedDeviceId::parse(&device.to_string()).unwrap(), device);
        for bad in ["", "AAAA", &format!("{device}="), &device.to_string().replace('w', "x")] {
            assert!(TrustedDeviceId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn issued_session_ids_are_version_4_uuids() {
        let id = SessionId::from_random([0xab; 16]);
        assert_eq!(id.to_uuid().unwrap().get_version_num(), 4);
        assert_eq!(SessionId::from(id.to_uuid().unwrap()), id);
        assert!(SessionId::parse("sess_abc123").unwrap().to_uuid().is_none());
        assert!(SessionId::parse(&id.as_str().to_uppercase()).unwrap().to_uuid().is_none());
    }
}
