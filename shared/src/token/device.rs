//! Device proofs: distinguish trusted devices, on which the user has logged in, from unknown devices
//! (docs/design/security.md#rule-10; OWASP, "Slow Down Online Guessing Attacks with Device Cookies").
//!
//! A proof is `dwd2_` and the base64url encoding of: root key version (4 bytes), device ID (16 bytes), session epoch
//! of the user (8 bytes), time of issue (8 bytes, milliseconds since the Unix epoch), HMAC-SHA256 (32 bytes). The
//! MAC covers tenant, user and all other fields. The time only ends the lifetime of a proof. A password change
//! invalidates proofs by their epoch (docs/design/storage.md#attempts). A proof does not authenticate a user: it
//! only selects the attempt limit that a password attempt counts against.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::{
    framed,
    keys::{MAC_BYTES, MacPurpose, TenantKeys},
};
use crate::domain::{Failure, TenantId, TrustedDevice, TrustedDeviceId, UserId};

/// Prefix by which secret scanners recognise leaked proofs. It also identifies the layout.
const PREFIX: &str = "dwd2_";
/// Number of bytes before the MAC.
const HEAD_BYTES: usize = 4 + TrustedDeviceId::BYTES + 8 + 8;
/// Lifetime of a proof. A device without a login for this long becomes unknown again. Half a year covers users
/// who log in once per quarter.
const LIFE: Duration = Duration::from_secs(180 * 24 * 60 * 60);

/// Parsed device proof. It is not authenticated until [`DeviceProof::device`] returns a device.
pub struct DeviceProof {
    key_version: u32,
    device: TrustedDevice,
    /// Milliseconds since the Unix epoch.
    issued_at: i64,
    mac: [u8; MAC_BYTES],
}

impl DeviceProof {
    /// Length of every proof in characters. The decoder rejects spare bits other than zero, so each proof has only one
    /// encoding.
    pub const CHARS: usize = PREFIX.len() + ((HEAD_BYTES + MAC_BYTES) * 4).div_ceil(3);

    /// Issues a proof for a device on which `user` logged in at `now`. The device holds the epoch that was read
    /// together with the password.
    ///
    /// # Errors
    /// `Unavailable` when the tenant's root key no longer exists.
    pub fn issue(
        device: TrustedDevice,
        (tenant, user): (&TenantId, &UserId),
        keys: &TenantKeys,
        now: Timestamp,
    ) -> Result<SecretString, Failure> {
        let key_version = keys.root_version();
        let head = head(key_version, device, now.as_millisecond());
        let mac = keys.mac(MacPurpose::Device, key_version, &message(tenant, user, &head))?;
        let bytes = [head.as_slice(), mac.as_ref()].concat();
        Ok(SecretString::from(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// Parses a proof without authenticating it. Returns `None` when the text is not a well-formed proof.
    pub fn parse(text: &SecretString) -> Option<Self> {
        let text = text.expose_secret();
        if text.len() != Self::CHARS {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        let (key_version, rest) = bytes.split_first_chunk::<4>()?;
        let (device, rest) = rest.split_first_chunk::<{ TrustedDeviceId::BYTES }>()?;
        let (user_epoch, rest) = rest.split_first_chunk::<8>()?;
        let (issued_at, mac) = rest.split_first_chunk::<8>()?;
        Some(Self {
            key_version: u32::from_be_bytes(*key_version),
            device: TrustedDevice {
                id: TrustedDeviceId::from_random(*device),
                user_epoch: u64::from_be_bytes(*user_epoch),
            },
            issued_at: i64::from_be_bytes(*issued_at),
            mac: mac.try_into().ok()?,
        })
    }

    /// Returns the device if this tenant issued the proof for this user and the proof has not expired. A
    /// retired root key issued none after its retirement.
    pub fn device(
        &self,
        (tenant, user): (&TenantId, &UserId),
        keys: &TenantKeys,
        now: Timestamp,
    ) -> Option<TrustedDevice> {
        let head = head(self.key_version, self.device, self.issued_at);
        if !keys.is_mac(MacPurpose::Device, self.key_version, &message(tenant, user, &head), &self.mac) {
            return None;
        }
        let issued_at = Timestamp::from_millisecond(self.issued_at).ok()?;
        if !keys.may_have_made(self.key_version, issued_at) {
            return None;
        }
        let ends_at = issued_at.checked_add(LIFE).ok()?;
        (now < ends_at).then_some(self.device)
    }
}

fn head(key_version: u32, device: TrustedDevice, issued_at: i64) -> Vec<u8> {
    let TrustedDevice { id, user_epoch } = device;
    let (version, epoch, issued_at) =
        (key_version.to_be_bytes(), user_epoch.to_be_bytes(), issued_at.to_be_bytes());
    [version.as_slice(), id.as_bytes(), &epoch, &issued_at].concat()
}

fn message(tenant: &TenantId, user: &UserId, head: &[u8]) -> Vec<u8> {
    [framed(&[tenant.as_str(), user.as_str()]).as_slice(), head].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::token::tests::{at, document, keys, keys_of};

    fn device() -> TrustedDevice {
        TrustedDevice { id: TrustedDeviceId::from_random([5; 16]), user_epoch: 1_900_000_000_007 }
    }

    fn issued() -> SecretString {
        let (tenant, user) = (TenantId::parse("t").unwrap(), UserId::parse("u").unwrap());
        DeviceProof::issue(device(), (&tenant, &user), &keys("t"), at(1_000)).unwrap()
    }

    fn read(text: &SecretString, tenant: &str, user: &str, second: i64) -> Option<TrustedDevice> {
        let (tenant, user) = (TenantId::parse(tenant).unwrap(), UserId::parse(user).unwrap());
        DeviceProof::parse(text)?.device((&tenant, &user), &keys("t"), at(second))
    }

    // docs/design/security.md#rule-10, #rule-20
    #[test]
    fn proof_is_bound_to_tenant_and_user() {
        let proof = issued();
        assert!(proof.expose_secret().starts_with("dwd2_"));
        assert_eq!(read(&proof, "t", "u", 1_000), Some(device()));
        assert_eq!(read(&proof, "other", "u", 1_000), None);
        assert_eq!(read(&proof, "t", "v", 1_000), None);
        let (tenant, user) = (TenantId::parse("t").unwrap(), UserId::parse("u").unwrap());
        let parsed = DeviceProof::parse(&proof).unwrap();
        assert_eq!(
            parsed.device((&tenant, &user), &keys_of(&tenant, 9), at(1_000)),
            None,
            "proof of another key"
        );
    }

    // docs/design/security.md#rule-10
    #[test]
    fn proof_expires_after_180_days() {
        let end = 1_000 + 180 * 24 * 3_600;
        assert_eq!(read(&issued(), "t", "u", end - 1), Some(device()));
        assert_eq!(read(&issued(), "t", "u", end), None);
    }

    // docs/design/security.md#rule-10, #rule-17
    #[test]
    fn proof_is_valid_while_its_root_key_is_listed() {
        let tenant = TenantId::parse("t").unwrap();
        let user = UserId::parse("u").unwrap();
        let [old, both, new] = [[1].as_slice(), &[1, 2], &[2]]
            .map(|roots| TenantKeys::from_documents(&tenant, &[document(5, roots)]).unwrap());
        let proof = DeviceProof::issue(device(), (&tenant, &user), &old, at(1_000)).unwrap();
        let proof = DeviceProof::parse(&proof).unwrap();
        assert_eq!(proof.device((&tenant, &user), &both, at(1_001)), Some(device()));
        assert_eq!(proof.device((&tenant, &user), &new, at(1_001)), None);
        let renewed = DeviceProof::issue(device(), (&tenant, &user), &both, at(1_001)).unwrap();
        assert_eq!(DeviceProof::parse(&renewed).unwrap().key_version, 2);
    }

    // docs/design/security.md#rule-17
    #[test]
    fn proof_that_a_retired_root_key_issued_later_is_rejected() {
        let (tenant, user) = (TenantId::parse("t").unwrap(), UserId::parse("u").unwrap());
        let keys = |roots: &[u32], retired_at: Option<i64>| {
            let mut document = document(5, roots);
            document.root_keys[0].retired_at = retired_at.map(at);
            TenantKeys::from_documents(&tenant, &[document]).unwrap()
        };
        let (stolen, current) = (keys(&[1], None), keys(&[1, 2], Some(1_000)));
        for (issued_at, expected) in [(1_000 + 3_610, Some(device())), (1_000 + 3_611, None)] {
            let proof = DeviceProof::issue(device(), (&tenant, &user), &stolen, at(issued_at)).unwrap();
            let proof = DeviceProof::parse(&proof).unwrap();
            assert_eq!(proof.device((&tenant, &user), &current, at(10_000)), expected);
        }
    }

    proptest! {
        // docs/design/security.md#rule-10
        #[test]
        fn proof_with_changed_character_is_rejected(at in 0..DeviceProof::CHARS, replacement in "[A-Za-z0-9_-]") {
            let proof = issued();
            let mut changed = proof.expose_secret().to_owned();
            changed.replace_range(at..=at, &replacement);
            prop_assume!(changed != proof.expose_secret());
            prop_assert_eq!(read(&SecretString::from(changed), "t", "u", 1_000), None);
        }

        #[test]
        fn arbitrary_text_is_rejected(text in "(dwd2_)?[A-Za-z0-9_-]{91}|\\PC{0,100}") {
            prop_assert_eq!(read(&SecretString::from(text), "t", "u", 1_000), None);
        }
    }
}
