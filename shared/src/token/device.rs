//! Device proofs: what tells a device that logged in before from a stranger (docs/design/security.md#rule-10; OWASP,
//! "Slow Down Online Guessing Attacks with Device Cookies").
//!
//! `dwd1_` + base64url of: root key version (4 bytes), device (16), issued at (8, epoch seconds),
//! HMAC-SHA256 (32) over tenant, user and all of the former. A proof opens nothing: it decides among
//! whose attempts a guess counts.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::{TenantKeys, framed};
use crate::domain::{KnownDevice, ProvenDevice, TenantId, UserId};

/// Lets secret scanners recognise a leaked proof, and names the layout.
const PREFIX: &str = "dwd1_";
const MAC_BYTES: usize = 32;
/// Bytes before the MAC.
const HEAD_BYTES: usize = 4 + ProvenDevice::BYTES + 8;
/// Characters of every proof: 60 bytes leave no padding, so that one proof has one spelling.
const CHARS: usize = PREFIX.len() + (HEAD_BYTES + MAC_BYTES) / 3 * 4;
/// A device that does not log in for so long is a stranger again: half a year covers people who come
/// once a quarter.
const LIFE: Duration = Duration::from_secs(180 * 24 * 60 * 60);

/// What a proof says. Only [`DeviceProof::parse`] and [`DeviceProof::device`] stand between a client's
/// text and a decision.
pub struct DeviceProof {
    key_version: u32,
    device: ProvenDevice,
    issued_at: i64,
    mac: [u8; MAC_BYTES],
}

impl std::fmt::Debug for DeviceProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeviceProof([redacted])")
    }
}

impl DeviceProof {
    /// A proof for a device on which `user` logged in at `now`. `None` when the tenant's root key is
    /// gone.
    pub fn issue(
        device: ProvenDevice,
        (tenant, user): (&TenantId, &UserId),
        keys: &TenantKeys,
        now: Timestamp,
    ) -> Option<SecretString> {
        let key_version = keys.root_version();
        let head = head(key_version, device, now.as_millisecond());
        let tag = hmac::sign(keys.device_key(key_version)?, &message(tenant, user, &head));
        let bytes = [head.as_slice(), tag.as_ref()].concat();
        Some(SecretString::from(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// Reads a proof's text; says nothing about who made it. `None` when it is not of a proof's form.
    pub fn parse(text: &SecretString) -> Option<Self> {
        let text = text.expose_secret();
        if text.len() != CHARS {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        let (key_version, rest) = bytes.split_first_chunk::<4>()?;
        let (device, rest) = rest.split_first_chunk::<{ ProvenDevice::BYTES }>()?;
        let (issued_at, mac) = rest.split_first_chunk::<8>()?;
        Some(Self {
            key_version: u32::from_be_bytes(*key_version),
            device: ProvenDevice::from_random(*device),
            issued_at: i64::from_be_bytes(*issued_at),
            mac: mac.try_into().ok()?,
        })
    }

    /// The device, if this tenant made the proof for that user and it has not lived out its life.
    pub fn device(
        &self,
        (tenant, user): (&TenantId, &UserId),
        keys: &TenantKeys,
        now: Timestamp,
    ) -> Option<KnownDevice> {
        let head = head(self.key_version, self.device, self.issued_at);
        let key = keys.device_key(self.key_version)?;
        hmac::verify(key, &message(tenant, user, &head), &self.mac).ok()?;
        let proven_at = Timestamp::from_millisecond(self.issued_at).ok()?;
        let ends_at = proven_at.checked_add(LIFE).ok()?;
        (now < ends_at).then_some(KnownDevice { id: self.device, proven_at })
    }

    /// Version of the root key that it says it was made with.
    pub fn key_version(&self) -> u32 {
        self.key_version
    }
}

fn head(key_version: u32, device: ProvenDevice, issued_at: i64) -> Vec<u8> {
    [key_version.to_be_bytes().as_slice(), device.as_bytes(), &issued_at.to_be_bytes()].concat()
}

fn message(tenant: &TenantId, user: &UserId, head: &[u8]) -> Vec<u8> {
    let mut message = framed(&[tenant.as_str(), user.as_str()]);
    message.extend_from_slice(head);
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::token::tests::{at, document, keys, keys_of};

    fn device() -> ProvenDevice {
        ProvenDevice::from_random([5; 16])
    }

    fn issued() -> SecretString {
        let (tenant, user) = (TenantId::parse("t").unwrap(), UserId::parse("u").unwrap());
        DeviceProof::issue(device(), (&tenant, &user), &keys("t"), at(1_000)).unwrap()
    }

    fn read(text: &SecretString, tenant: &str, user: &str, second: i64) -> Option<ProvenDevice> {
        let (tenant, user) = (TenantId::parse(tenant).unwrap(), UserId::parse(user).unwrap());
        let known = DeviceProof::parse(text)?.device((&tenant, &user), &keys("t"), at(second))?;
        assert_eq!(known.proven_at, at(1_000));
        Some(known.id)
    }

    // docs/design/security.md#rule-10, #rule-20
    #[test]
    fn a_proof_is_one_tenants_and_one_users() {
        let proof = issued();
        assert!(proof.expose_secret().starts_with("dwd1_"));
        assert_eq!(read(&proof, "t", "u", 1_000), Some(device()));
        assert_eq!(read(&proof, "other", "u", 1_000), None);
        assert_eq!(read(&proof, "t", "v", 1_000), None);
        let (tenant, user) = (TenantId::parse("t").unwrap(), UserId::parse("u").unwrap());
        let parsed = DeviceProof::parse(&proof).unwrap();
        assert_eq!(parsed.device((&tenant, &user), &keys_of(&tenant, 9), at(1_000)), None, "another key");
    }

    // docs/design/security.md#rule-10
    #[test]
    fn a_proof_lives_180_days_from_its_login() {
        let end = 1_000 + 180 * 24 * 3_600;
        assert_eq!(read(&issued(), "t", "u", end - 1), Some(device()));
        assert_eq!(read(&issued(), "t", "u", end), None);
    }

    // docs/design/security.md#rule-10, #rule-17
    #[test]
    fn a_proof_lives_as_long_as_the_version_of_its_key_is_listed() {
        let tenant = TenantId::parse("t").unwrap();
        let user = UserId::parse("u").unwrap();
        let [old, both, new] = [[1].as_slice(), &[1, 2], &[2]]
            .map(|roots| TenantKeys::from_documents(&tenant, &[document(5, roots)]).unwrap());
        let proof = DeviceProof::issue(device(), (&tenant, &user), &old, at(1_000)).unwrap();
        let proof = DeviceProof::parse(&proof).unwrap();
        assert_eq!(proof.device((&tenant, &user), &both, at(1_001)).map(|known| known.id), Some(device()));
        assert_eq!(proof.device((&tenant, &user), &new, at(1_001)), None);
        let renewed = DeviceProof::issue(device(), (&tenant, &user), &both, at(1_001)).unwrap();
        assert_eq!(DeviceProof::parse(&renewed).unwrap().key_version(), 2);
    }

    // docs/design/security.md#rule-25
    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", DeviceProof::parse(&issued()).unwrap()), "DeviceProof([redacted])");
    }

    proptest! {
        // docs/design/security.md#rule-10
        #[test]
        fn no_character_of_a_proof_can_change(at in 0..CHARS, replacement in "[A-Za-z0-9_-]") {
            let proof = issued();
            let mut changed = proof.expose_secret().to_owned();
            changed.replace_range(at..=at, &replacement);
            prop_assume!(changed != proof.expose_secret());
            prop_assert_eq!(read(&SecretString::from(changed), "t", "u", 1_000), None);
        }

        #[test]
        fn no_text_is_our_fault(text in "(dwd1_)?[A-Za-z0-9_-]{80}|\\PC{0,90}") {
            prop_assert_eq!(read(&SecretString::from(text), "t", "u", 1_000), None);
        }
    }
}
