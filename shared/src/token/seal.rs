//! Encryption of outbox messages: AES-256-GCM with the tenant's outbox key. The ciphertext is bound to the item
//! that stores it. Neither the table nor its stream contains a readable code (docs/design/security.md#rule-19).

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{framed, keys::TenantKeys};
use crate::{
    domain::{AttemptId, Code, CodeMessage, Failure, Medium, Notification},
    port::{Entropy, random},
    store::{OutboxKey, Sealed},
};

/// Plaintext of a message, serialized as JSON.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum PlainMessage {
    ResetCode {
        code: String,
        id: String,
        medium: Medium,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link: Option<String>,
    },
    EmailCode {
        code: String,
        id: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link: Option<String>,
        verifies: Option<String>,
    },
    PhoneCode {
        code: String,
        id: String,
        verifies: Option<String>,
    },
    PasswordChanged,
    UsernameChanged,
    Nothing,
}

impl TenantKeys {
    /// Encrypts a message for the outbox item `key`. Delivery stops at `ends_at`.
    ///
    /// # Errors
    /// `Internal` when the message cannot be encrypted.
    pub fn seal_notification(
        &self,
        key: OutboxKey,
        notification: &Notification,
        ends_at: jiff::Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Sealed, Failure> {
        let broken = || Failure::Internal("the message could not be encrypted".into());
        let key_version = self.root_version();
        let sealing = self.outbox_key(key_version).ok_or_else(broken)?;
        let plain = serde_json::to_vec(&PlainMessage::from(notification)).map_err(|_| broken())?;
        let mut text = Zeroizing::new(plain);
        let nonce: [u8; NONCE_LEN] = random(entropy)?;
        let tag = sealing
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), bound_to(&key), &mut text)
            .map_err(|_| broken())?;
        let bytes = [nonce.as_slice(), &text, tag.as_ref()].concat();
        Ok(Sealed { key, key_version, bytes, ends_at })
    }

    /// Decrypts a message that [`Self::seal_notification`] encrypted.
    ///
    /// # Errors
    /// `Unavailable` when the root key version is unknown; `Internal` when the item was changed.
    pub fn open_notification(&self, sealed: &Sealed) -> Result<Notification, Failure> {
        let opening = self.outbox_key(sealed.key_version).ok_or_else(|| {
            Failure::Unavailable("the root key of the outbox message no longer exists".into())
        })?;
        let broken = || Failure::Internal("the outbox message cannot be decrypted".into());
        let (nonce, text) = sealed.bytes.split_first_chunk::<NONCE_LEN>().ok_or_else(broken)?;
        let mut text = Zeroizing::new(text.to_vec());
        let plain = opening
            .open_in_place(Nonce::assume_unique_for_key(*nonce), bound_to(&sealed.key), &mut text)
            .map_err(|_| broken())?;
        serde_json::from_slice::<PlainMessage>(plain).map_err(|_| broken())?.try_into().map_err(|()| broken())
    }
}

fn bound_to(key: &OutboxKey) -> Aad<Vec<u8>> {
    Aad::from(framed(&[key.tenant.as_str(), key.user.as_str(), &key.id.to_string()]))
}

impl From<&Notification> for PlainMessage {
    fn from(notification: &Notification) -> Self {
        match notification {
            Notification::ResetCode(CodeMessage { code, id, medium, link, verifies: _ }) => Self::ResetCode {
                code: code.expose().to_owned(),
                id: id.to_string(),
                medium: *medium,
                link: link.clone(),
            },
            Notification::EmailCode(CodeMessage { code, id, medium: _, link, verifies }) => Self::EmailCode {
                code: code.expose().to_owned(),
                id: id.to_string(),
                link: link.clone(),
                verifies: verifies.clone(),
            },
            Notification::PhoneCode(CodeMessage { code, id, medium: _, link: _, verifies }) => {
                Self::PhoneCode {
                    code: code.expose().to_owned(),
                    id: id.to_string(),
                    verifies: verifies.clone(),
                }
            }
            Notification::PasswordChanged => Self::PasswordChanged,
            Notification::UsernameChanged => Self::UsernameChanged,
            Notification::Nothing => Self::Nothing,
        }
    }
}

impl TryFrom<PlainMessage> for Notification {
    type Error = ();

    fn try_from(plain: PlainMessage) -> Result<Self, ()> {
        let message = |code: String, id: String, medium, link, verifies| {
            let (code, id) = (Code::parse(&code).map_err(|_| ())?, AttemptId::parse(&id).map_err(|_| ())?);
            Ok::<_, ()>(CodeMessage { code, id, medium, link, verifies })
        };
        Ok(match plain {
            PlainMessage::ResetCode { code, id, medium, link } => {
                Self::ResetCode(message(code, id, medium, link, None)?)
            }
            PlainMessage::EmailCode { code, id, link, verifies } => {
                Self::EmailCode(message(code, id, Medium::Mail, link, verifies)?)
            }
            PlainMessage::PhoneCode { code, id, verifies } => {
                Self::PhoneCode(message(code, id, Medium::Text, None, verifies)?)
            }
            PlainMessage::PasswordChanged => Self::PasswordChanged,
            PlainMessage::UsernameChanged => Self::UsernameChanged,
            PlainMessage::Nothing => Self::Nothing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{CodeKind, TenantId, UserId},
        function::SystemEntropy,
        token::tests::{at, keys, keys_of},
    };

    fn key() -> OutboxKey {
        OutboxKey {
            tenant: TenantId::parse("t").unwrap(),
            user: UserId::parse("u").unwrap(),
            id: AttemptId::new(at(5), [3; 16]),
        }
    }

    fn message() -> Notification {
        Notification::ResetCode(CodeMessage {
            code: Code::from_random(CodeKind::Link, &[9; 20]),
            id: AttemptId::new(at(7), [1; 16]),
            medium: Medium::Text,
            link: Some("https://app.example.com/{{.Code}}".into()),
            verifies: None,
        })
    }

    // docs/design/security.md#rule-19
    #[test]
    fn sealed_message_is_unreadable_and_decrypts_for_its_item() {
        let sealed = keys("t").seal_notification(key(), &message(), at(9), &SystemEntropy).unwrap();
        let shown = format!("{sealed:?} {:?}", String::from_utf8_lossy(&sealed.bytes));
        assert!(!shown.contains("LLLLLLLL"), "{shown}");
        let Notification::ResetCode(opened) = keys("t").open_notification(&sealed).unwrap() else {
            panic!("wrong kind of message");
        };
        assert_eq!(opened.code.expose(), Code::from_random(CodeKind::Link, &[9; 20]).expose());
        assert_eq!((opened.medium, opened.link.is_some()), (Medium::Text, true));
        assert_eq!(opened.id, AttemptId::new(at(7), [1; 16]));
        let again = keys("t").seal_notification(key(), &message(), at(9), &SystemEntropy).unwrap();
        assert_ne!(again.bytes, sealed.bytes, "the nonce differs for each encryption");
    }

    // docs/design/security.md#rule-19, #rule-20
    #[test]
    fn moved_or_changed_message_does_not_decrypt() {
        let sealed = keys("t").seal_notification(key(), &message(), at(9), &SystemEntropy).unwrap();
        for change in [
            |sealed: &mut Sealed| sealed.key.user = UserId::parse("v").unwrap(),
            |sealed: &mut Sealed| sealed.key.tenant = TenantId::parse("other").unwrap(),
            |sealed: &mut Sealed| sealed.key.id = AttemptId::new(at(6), [3; 16]),
            |sealed: &mut Sealed| sealed.bytes[20] ^= 1,
            |sealed: &mut Sealed| sealed.bytes.truncate(10),
        ] {
            let mut changed = sealed.clone();
            change(&mut changed);
            assert!(matches!(keys("t").open_notification(&changed), Err(Failure::Internal(_))));
        }
        let other = keys_of(&TenantId::parse("t").unwrap(), 9);
        assert!(other.open_notification(&sealed).is_err());
        let unknown = Sealed { key_version: 77, ..sealed };
        assert!(matches!(keys("t").open_notification(&unknown), Err(Failure::Unavailable(_))));
    }

    #[test]
    fn every_kind_of_message_is_read_back() {
        let Notification::ResetCode(code) = message() else { panic!("no code") };
        for message in [
            message(),
            Notification::EmailCode(code.clone()),
            Notification::PhoneCode(code),
            Notification::PasswordChanged,
            Notification::UsernameChanged,
            Notification::Nothing,
        ] {
            let sealed = keys("t").seal_notification(key(), &message, at(9), &SystemEntropy).unwrap();
            assert_eq!(keys("t").open_notification(&sealed).unwrap().name(), message.name());
        }
    }
}
