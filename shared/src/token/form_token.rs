//! Form tokens of the password page. The page accepts only forms that it returned for the same tenant, user and
//! code (docs/design/contract.md#public-documents).
//!
//! A token is the base64url encoding of: root key version (4 bytes), nonce (16 bytes), HMAC-SHA256 (32 bytes).
//! The MAC covers tenant, user, code, root key version and nonce.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};

use super::{
    framed,
    keys::{MAC_BYTES, MacPurpose, TenantKeys},
};
use crate::domain::{Code, Failure, TenantId, UserId};

const NONCE_BYTES: usize = 16;
/// Length of a token in characters: 52 bytes in base64url.
const CHARS: usize = 70;

/// Form that a token belongs to.
#[derive(Debug, Clone, Copy)]
pub struct FormToken<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// User whose password the form sets.
    pub user: &'a UserId,
    /// Code from the link; `None` if the user types the code into the form.
    pub code: Option<&'a Code>,
}

impl FormToken<'_> {
    /// Creates a token for the form.
    ///
    /// # Errors
    /// `Unavailable` when the tenant's root key no longer exists.
    pub fn make(&self, nonce: [u8; NONCE_BYTES], keys: &TenantKeys) -> Result<SecretString, Failure> {
        let version = keys.root_version();
        let mac = keys.mac(MacPurpose::Page, version, &self.message(version, &nonce))?;
        let bytes = [version.to_be_bytes().as_slice(), &nonce, mac.as_ref()].concat();
        Ok(SecretString::from(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Returns whether this tenant issued `token` for this user and code.
    pub fn is_authentic(&self, token: &SecretString, keys: &TenantKeys) -> bool {
        parts(token).is_some_and(|(version, nonce, mac)| {
            keys.is_mac(MacPurpose::Page, version, &self.message(version, &nonce), &mac)
        })
    }

    fn message(&self, version: u32, nonce: &[u8; NONCE_BYTES]) -> Vec<u8> {
        // The empty string means "no code", because a code is never empty.
        let code = self.code.map_or("", Code::expose);
        let texts = framed(&[self.tenant.as_str(), self.user.as_str(), code]);
        [texts.as_slice(), &version.to_be_bytes(), nonce].concat()
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
    fn form_token_is_bound_to_tenant_user_and_code() {
        let keys = keys("t");
        let (tenant, other_tenant) = (TenantId::parse("t").unwrap(), TenantId::parse("other").unwrap());
        let (user, other_user) = (UserId::parse("u").unwrap(), UserId::parse("v").unwrap());
        let code = Code::from_random(CodeKind::Link, &[1; 20]);
        let other_code = Code::from_random(CodeKind::Link, &[2; 20]);
        let form = FormToken { tenant: &tenant, user: &user, code: Some(&code) };
        let token = form.make([7; 16], &keys).unwrap();
        assert!(form.is_authentic(&token, &keys));
        assert!(!form.is_authentic(&token, &keys_of(&tenant, 9)), "token of another key");
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
        fn token_with_changed_character_is_rejected(at in 0..CHARS, replacement in "[A-Za-z0-9_-]") {
            let (tenant, user) = (TenantId::parse("t").unwrap(), UserId::parse("u").unwrap());
            let form = FormToken { tenant: &tenant, user: &user, code: None };
            let token = form.make([7; 16], &keys("t")).unwrap();
            let mut changed = token.expose_secret().to_owned();
            changed.replace_range(at..=at, &replacement);
            prop_assume!(changed != token.expose_secret());
            prop_assert!(!form.is_authentic(&SecretString::from(changed), &keys("t")));
        }

        #[test]
        fn arbitrary_text_is_rejected(text in "[A-Za-z0-9_-]{70}|\\PC{0,80}") {
            let (tenant, user) = (TenantId::parse("t").unwrap(), UserId::parse("u").unwrap());
            let form = FormToken { tenant: &tenant, user: &user, code: None };
            prop_assert!(!form.is_authentic(&SecretString::from(text), &keys("t")));
        }
    }
}
