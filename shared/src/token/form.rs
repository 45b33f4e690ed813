//! What a form carries, so that only one that this tenant handed out is taken: for this user and
//! code and no other (docs/design/contract.md#public-documents).
//!
//! base64url of: root key version (4 bytes), nonce (16), HMAC-SHA256 (32) over tenant, user, code and
//! both of the former.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};

use super::{TenantKeys, framed};
use crate::domain::{Code, TenantId, UserId};

const NONCE_BYTES: usize = 16;
const MAC_BYTES: usize = 32;
/// Characters of 52 bytes.
const CHARS: usize = 70;

/// What a form sets: whose password, and with which code if that is not typed into it.
#[derive(Debug, Clone, Copy)]
pub struct FormToken<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// User.
    pub user: &'a UserId,
    /// Code.
    pub code: Option<&'a Code>,
}

impl FormToken<'_> {
    /// A token for one form. `None` when the tenant's root key is gone.
    pub fn make(&self, nonce: [u8; NONCE_BYTES], keys: &TenantKeys) -> Option<SecretString> {
        let version = keys.root_version();
        let tag = hmac::sign(keys.page_key(version)?, &self.message(version, &nonce));
        let bytes = [version.to_be_bytes().as_slice(), &nonce, tag.as_ref()].concat();
        Some(SecretString::from(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Version of the root key that a token says it was made with; `None` for what is none.
    pub fn version(token: &SecretString) -> Option<u32> {
        parts(token).map(|(version, ..)| version)
    }

    /// Whether `token` is one that this tenant made for this user and code.
    pub fn is_authentic(&self, token: &SecretString, keys: &TenantKeys) -> bool {
        parts(token).is_some_and(|(version, nonce, mac)| {
            keys.page_key(version)
                .is_some_and(|key| hmac::verify(key, &self.message(version, &nonce), &mac).is_ok())
        })
    }

    fn message(&self, version: u32, nonce: &[u8; NONCE_BYTES]) -> Vec<u8> {
        // No code is empty, so the empty text is none.
        let code = self.code.map_or("", Code::expose);
        let mut message = framed(&[self.tenant.as_str(), self.user.as_str(), code]);
        message.extend_from_slice(&version.to_be_bytes());
        message.extend_from_slice(nonce);
        message
    }
}

fn parts(token: &SecretString) -> Option<(u32, [u8; NONCE_BYTES], [u8; MAC_BYTES])> {
    let text = token.expose_secret();
    if text.len() != CHARS {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (version, rest) = bytes.split_first_chunk::<4>()?;
    let (nonce, mac) = rest.split_first_chunk::<NONCE_BYTES>()?;
    Some((u32::from_be_bytes(*version), *nonce, mac.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        domain::CodeKind,
        token::tests::{keys, keys_of},
    };

    // docs/design/security.md#rule-20
    #[test]
    fn a_form_belongs_to_one_tenant_user_and_code() {
        let keys = keys("t");
        let (tenant, other_tenant) = (TenantId::parse("t").unwrap(), TenantId::parse("other").unwrap());
        let (user, other_user) = (UserId::parse("u").unwrap(), UserId::parse("v").unwrap());
        let code = Code::from_random(CodeKind::Link, &[1; 20]);
        let other_code = Code::from_random(CodeKind::Link, &[2; 20]);
        let form = FormToken { tenant: &tenant, user: &user, code: Some(&code) };
        let token = form.make([7; 16], &keys).unwrap();
        assert!(form.is_authentic(&token, &keys));
        assert!(!form.is_authentic(&token, &keys_of(&tenant, 9)), "another key");
        for other in [
            FormToken { tenant: &other_tenant, ..form },
            FormToken { user: &other_user, ..form },
            FormToken { code: Some(&other_code), ..form },
            FormToken { code: None, ..form },
        ] {
            assert!(!other.is_authentic(&token, &keys), "{other:?}");
        }
        assert_ne!(token.expose_secret(), form.make([8; 16], &keys).unwrap().expose_secret());
    }

    proptest! {
        #[test]
        fn no_character_can_change(at in 0..CHARS, replacement in "[A-Za-z0-9_-]") {
            let (tenant, user) = (TenantId::parse("t").unwrap(), UserId::parse("u").unwrap());
            let form = FormToken { tenant: &tenant, user: &user, code: None };
            let token = form.make([7; 16], &keys("t")).unwrap();
            let mut changed = token.expose_secret().to_owned();
            changed.replace_range(at..=at, &replacement);
            prop_assume!(changed != token.expose_secret());
            prop_assert!(!form.is_authentic(&SecretString::from(changed), &keys("t")));
        }

        #[test]
        fn no_text_is_our_fault(text in "[A-Za-z0-9_-]{70}|\\PC{0,80}") {
            let (tenant, user) = (TenantId::parse("t").unwrap(), UserId::parse("u").unwrap());
            let form = FormToken { tenant: &tenant, user: &user, code: None };
            prop_assert!(!form.is_authentic(&SecretString::from(text), &keys("t")));
        }
    }
}
