//! Form tokens of the password page: the state of one form, encrypted with AES-256-GCM
//! (docs/design/contract.md#public-documents).
//!
//! A token is the base64url encoding of: root key version (4 bytes), nonce (12 bytes), ciphertext with tag. The plaintext
//! has the user, the code and the end of the form. The ciphertext is bound to the tenant and to the browser.

use std::{fmt, time::Duration};

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{framed, keys::TenantKeys};
use crate::{
    domain::{Code, Failure, Invalid, ResetLink, TenantId, UserId, after},
    port::{Entropy, random},
};

/// Life of a form.
const LIFE: Duration = Duration::from_secs(15 * 60);
/// Maximum length of a token in characters: a user ID of 512 bytes and a code, escaped and encoded.
const MAX_CHARS: usize = 4_096;

/// Random ID of a browser. A form token works only in the browser that it was issued to. Redacted in `Debug`.
#[derive(Clone)]
pub struct BrowserId(SecretString);

impl BrowserId {
    const BYTES: usize = 16;

    /// Creates an ID.
    ///
    /// # Errors
    /// `Internal` when the system has no randomness.
    pub fn new(entropy: &dyn Entropy) -> Result<Self, Failure> {
        let bytes: [u8; Self::BYTES] = random(entropy)?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes).into()))
    }

    /// Parses an ID from a cookie.
    ///
    /// # Errors
    /// [`Invalid`] when it is not the base64url encoding of 16 bytes.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let is_id = URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == Self::BYTES);
        if is_id { Ok(Self(text.into())) } else { Err(Invalid::new("must be 16 bytes in base64url")) }
    }

    /// Returns the ID as text, for the cookie.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for BrowserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BrowserId(redacted)")
    }
}

/// Tenant and browser that a form token belongs to.
#[derive(Debug, Clone, Copy)]
pub struct FormOwner<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// Browser.
    pub browser: &'a BrowserId,
}

impl FormOwner<'_> {
    fn bound_to(&self) -> Aad<Vec<u8>> {
        Aad::from(framed(&[self.tenant.as_str(), self.browser.expose()]))
    }
}

/// Plaintext of a token, serialized as JSON.
#[derive(Serialize, Deserialize)]
struct FormState {
    user: String,
    code: Option<String>,
    /// In milliseconds since the Unix epoch.
    ends_at: i64,
}

impl TenantKeys {
    /// Creates the token of a form that was opened with `link`. Each token is different.
    ///
    /// # Errors
    /// `Unavailable` when the tenant has no root key; `Internal` when the form cannot be encrypted.
    pub fn seal_form(
        &self,
        link: &ResetLink,
        owner: FormOwner<'_>,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<SecretString, Failure> {
        let missing = || Failure::Unavailable("the tenant's root key is missing".into());
        let broken = || Failure::Internal("the form could not be encrypted".into());
        let version = self.root_version();
        let key = self.form_key(version).ok_or_else(missing)?;
        let ends_at = after(now, LIFE).as_millisecond();
        let code = link.code.as_ref().map(|code| code.expose().to_owned());
        let state = FormState { user: link.user.as_str().to_owned(), code, ends_at };
        let mut text = Zeroizing::new(serde_json::to_vec(&state).map_err(|_| broken())?);
        let nonce: [u8; NONCE_LEN] = random(entropy)?;
        let tag = key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), owner.bound_to(), &mut text)
            .map_err(|_| broken())?;
        let bytes = [version.to_be_bytes().as_slice(), &nonce, &text, tag.as_ref()].concat();
        Ok(SecretString::from(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Returns the link that a form was opened with. Returns `None` if this tenant did not issue the token to this
    /// browser, or if the form has expired.
    pub fn open_form(&self, token: &SecretString, owner: FormOwner<'_>, now: Timestamp) -> Option<ResetLink> {
        let token = token.expose_secret();
        if token.len() > MAX_CHARS {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (version, rest) = bytes.split_first_chunk::<4>()?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>()?;
        let key = self.form_key(u32::from_be_bytes(*version))?;
        let mut text = Zeroizing::new(text.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key.open_in_place(nonce, owner.bound_to(), &mut text).ok()?;
        let FormState { user, code, ends_at } = serde_json::from_slice(plain).ok()?;
        if now.as_millisecond() >= ends_at {
            return None;
        }
        let code = code.map(|code| Code::parse(&code)).transpose().ok()?;
        Some(ResetLink { user: UserId::parse(&user).ok()?, code })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        domain::CodeKind,
        function::SystemEntropy,
        token::tests::{at, keys, keys_of},
    };

    fn link(code: Option<Code>) -> ResetLink {
        ResetLink { user: UserId::parse("u").unwrap(), code }
    }

    fn tenant(id: &str) -> TenantId {
        TenantId::parse(id).unwrap()
    }

    fn browser() -> BrowserId {
        BrowserId::new(&SystemEntropy).unwrap()
    }

    // docs/design/security.md#rule-19, #rule-20
    #[test]
    fn form_token_is_bound_to_tenant_and_browser_and_contains_user_and_code() {
        let (keys, t, browser) = (keys("t"), tenant("t"), browser());
        let owner = FormOwner { tenant: &t, browser: &browser };
        let code = Code::from_random(CodeKind::Link, &[1; 20]);
        for code in [Some(code), None] {
            let link = link(code);
            let token = keys.seal_form(&link, owner, at(5), &SystemEntropy).unwrap();
            let opened = keys.open_form(&token, owner, at(5)).unwrap();
            assert_eq!(opened.user, link.user);
            let exposed = |link: &ResetLink| link.code.as_ref().map(|code| code.expose().to_owned());
            assert_eq!(exposed(&opened), exposed(&link));
            let again = keys.seal_form(&link, owner, at(5), &SystemEntropy).unwrap();
            assert_ne!(token.expose_secret(), again.expose_secret());

            let (other_tenant, other_browser) = (tenant("other"), BrowserId::new(&SystemEntropy).unwrap());
            let of_other_tenant = FormOwner { tenant: &other_tenant, ..owner };
            assert!(keys.open_form(&token, of_other_tenant, at(5)).is_none());
            let of_other_browser = FormOwner { browser: &other_browser, ..owner };
            assert!(keys.open_form(&token, of_other_browser, at(5)).is_none());
            assert!(keys_of(&t, 9).open_form(&token, owner, at(5)).is_none(), "token of another key");
        }
    }

    // docs/design/security.md#rule-19
    #[test]
    fn form_token_expires_after_15_minutes() {
        let (keys, t, browser) = (keys("t"), tenant("t"), browser());
        let owner = FormOwner { tenant: &t, browser: &browser };
        let token = keys.seal_form(&link(None), owner, at(5), &SystemEntropy).unwrap();
        assert!(keys.open_form(&token, owner, at(5 + 15 * 60 - 1)).is_some());
        assert!(keys.open_form(&token, owner, at(5 + 15 * 60)).is_none());
    }

    // docs/design/security.md#rule-25
    #[test]
    fn debug_output_redacts_the_browser() {
        let browser = browser();
        assert!(!format!("{browser:?}").contains(browser.expose()));
        assert_eq!(BrowserId::parse(browser.expose()).unwrap().expose(), browser.expose());
    }

    proptest! {
        #[test]
        fn token_with_changed_character_is_rejected(at_char in 0..70_usize, replacement in "[A-Za-z0-9_-]") {
            let (keys, t, browser) = (keys("t"), tenant("t"), browser());
            let owner = FormOwner { tenant: &t, browser: &browser };
            let token = keys.seal_form(&link(None), owner, at(5), &SystemEntropy).unwrap();
            let mut changed = token.expose_secret().to_owned();
            changed.replace_range(at_char..=at_char, &replacement);
            prop_assume!(changed != token.expose_secret());
            prop_assert!(keys.open_form(&SecretString::from(changed), owner, at(5)).is_none());
        }

        #[test]
        fn opened_form_names_the_user_of_its_link(user in "[\\PC]{1,200}", code in "[^\\p{C}\\s-]{1,20}") {
            let (keys, t, browser) = (keys("t"), tenant("t"), browser());
            let owner = FormOwner { tenant: &t, browser: &browser };
            let Ok(user) = UserId::parse(&user) else { return Ok(()) };
            let link = ResetLink { user, code: Some(Code::parse(&code).unwrap()) };
            let token = keys.seal_form(&link, owner, at(5), &SystemEntropy).unwrap();
            prop_assert_eq!(keys.open_form(&token, owner, at(5)).unwrap().user, link.user);
        }

        #[test]
        fn arbitrary_text_is_rejected(text in "[A-Za-z0-9_-]{70}|\\PC{0,80}") {
            let (t, browser) = (tenant("t"), browser());
            let owner = FormOwner { tenant: &t, browser: &browser };
            prop_assert!(keys("t").open_form(&SecretString::from(text.as_str()), owner, at(5)).is_none());
            if BrowserId::parse(&text).is_ok() {
                prop_assert_eq!(text.len(), 22);
            }
        }
    }
}
