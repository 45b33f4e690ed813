//! Usernames, passwords and the comparison of secrets.
//!
//! Secrets are `secrecy::SecretString`: redacted in `Debug`, without `Display` and `Serialize`, and
//! overwritten on drop (docs/design/security.md#rule-25).

use icu_casemap::CaseMapper;
use icu_normalizer::ComposingNormalizer;
use secrecy::{ExposeSecret, SecretString};

use super::{Invalid, visible};

/// A username, as written and in case-folded form. The folded form is unique within a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Username {
    written: String,
    folded: String,
}

impl Username {
    /// Maximum length in bytes in NFC: the longest mail address (RFC 5321, section 4.5.3.1.3).
    pub const MAX_BYTES: usize = 254;
    /// Maximum length of the folded name in bytes, so that a storage key fits DynamoDB's limit of 2,048.
    const MAX_FOLDED_BYTES: usize = 600;

    /// Parses a username: 1 to [`Self::MAX_BYTES`] bytes in NFC, no control characters. Usernames are
    /// compared after NFC and full case folding (docs/design/contract.md#create-session).
    ///
    /// # Errors
    /// [`Invalid`] if the name is empty, too long or has control characters.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let too_long = Invalid::new("must be 1 to 254 bytes");
        // A text of more than three times the maximum is also too long in NFC: see `Password::parse`.
        if text.is_empty() || text.len() > Self::MAX_BYTES * 3 {
            return Err(too_long);
        }
        if text.chars().any(char::is_control) {
            return Err(Invalid::new("must not contain control characters"));
        }
        let written = ComposingNormalizer::new_nfc().normalize(text).into_owned();
        let folded = folded(&written);
        if written.len() > Self::MAX_BYTES || folded.len() > Self::MAX_FOLDED_BYTES {
            return Err(too_long);
        }
        Ok(Self { written, folded })
    }

    /// Parses the username of a new user or a new username (docs/design/contract.md#ids).
    ///
    /// # Errors
    /// As [`Self::parse`]; also if the name has invisible characters or outer white space.
    pub fn parse_new(text: &str) -> Result<Self, Invalid> {
        visible::broken_rule(text).map_or_else(|| Self::parse(text), |rule| Err(Invalid::new(rule)))
    }

    /// Returns the name as the user wrote it, in NFC.
    pub fn as_written(&self) -> &str {
        &self.written
    }

    /// Returns the name with `…` in place of all characters but the first and the last one. In a mail address,
    /// the domain stays. Of a name with one or two characters, only the first one stays.
    pub fn masked(&self) -> String {
        let (name, domain) = match self.written.rsplit_once('@') {
            Some((local, domain)) if !local.is_empty() => (local, Some(domain)),
            _ => (self.written.as_str(), None),
        };
        let mut masked: String = name.chars().take(1).collect();
        masked.push('…');
        masked.extend(name.chars().skip(2).last());
        if let Some(domain) = domain {
            masked.push('@');
            masked.push_str(domain);
        }
        masked
    }

    /// Returns the case-folded name, for comparison.
    pub fn folded(&self) -> &str {
        &self.folded
    }

    /// Returns whether a user with this name may log in with the name `typed`. The comparison ignores case,
    /// invisible characters and outer white space. Usernames stored by earlier versions of Doorward may
    /// contain such characters.
    pub fn accepts(&self, typed: &Self) -> bool {
        self.visible().folded == typed.visible().folded
    }

    /// Returns the name without invisible characters and outer white space, which a login ignores.
    #[must_use]
    pub fn visible(&self) -> Self {
        Self { written: visible::trimmed(&self.written), folded: visible::trimmed(&self.folded) }
    }

    /// Returns whether both names are equal after case folding.
    pub fn is_same(&self, other: &Self) -> bool {
        self.folded == other.folded
    }
}

/// Case-folds a text that is in NFC.
pub fn folded(nfc: &str) -> String {
    // Folding can break the composed form (U+0345). The function therefore normalizes the result again.
    ComposingNormalizer::new_nfc().normalize(&CaseMapper::new().fold_string(nfc)).into_owned()
}

/// A password from a request: in NFC, never truncated or case-folded (docs/design/security.md#rule-2).
#[derive(Debug, Clone)]
pub struct Password {
    nfc: SecretString,
    /// Text as sent, if it is not in NFC.
    sent: Option<SecretString>,
}

impl Password {
    /// Maximum length in bytes after normalization (docs/design/security.md#rule-1).
    pub const MAX_BYTES: usize = 256;

    /// Normalizes a password to NFC.
    ///
    /// # Errors
    /// [`Invalid`] if the password is empty or longer than [`Self::MAX_BYTES`] in NFC.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new("must not be empty"));
        }
        // NFC never shrinks a text below a third of its bytes. A text of more than three times the maximum is
        // therefore also too long in NFC.
        let normalised = (text.len() <= Self::MAX_BYTES * 3)
            .then(|| SecretString::from(ComposingNormalizer::new_nfc().normalize(text).into_owned()));
        match normalised {
            Some(nfc) if nfc.expose_secret().len() <= Self::MAX_BYTES => {
                let sent = (nfc.expose_secret() != text).then(|| SecretString::from(text));
                Ok(Self { nfc, sent })
            }
            _ => Err(Invalid::new("must be at most 256 bytes")),
        }
    }

    /// Returns the bytes that are hashed.
    pub fn as_bytes(&self) -> &[u8] {
        self.as_str().as_bytes()
    }

    /// Returns the bytes that the client sent, if they are not in NFC. Another system may have hashed them
    /// (docs/design/security.md#rule-4).
    pub fn sent_bytes(&self) -> Option<&[u8]> {
        self.sent.as_ref().map(|sent| sent.expose_secret().as_bytes())
    }

    pub(super) fn as_str(&self) -> &str {
        self.nfc.expose_secret()
    }
}

/// A password hash as a PHC string. It is never returned or logged (docs/design/security.md#rule-25).
#[derive(Debug, Clone)]
pub struct PasswordHash(SecretString);

impl PasswordHash {
    /// Wraps a PHC string. Its format is checked when a password is verified.
    pub fn from_phc(phc: String) -> Self {
        Self(SecretString::from(phc))
    }

    /// Returns the PHC string.
    pub fn as_phc(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for PasswordHash {
    fn eq(&self, other: &Self) -> bool {
        self.as_phc() == other.as_phc()
    }
}

/// Compares two secrets in time that depends only on their lengths (docs/design/security.md#rule-25).
pub fn matches(presented: &SecretString, stored: &SecretString) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(
        presented.expose_secret().as_bytes(),
        stored.expose_secret().as_bytes(),
    )
    .is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usernames_are_compared_without_case_and_in_nfc() {
        let composed = Username::parse("Zo\u{eb}@Example.COM").unwrap();
        let decomposed = Username::parse("zoe\u{308}@example.com").unwrap();
        assert!(composed.is_same(&decomposed));
        assert_eq!(composed.as_written(), "Zo\u{eb}@Example.COM");
        assert!(Username::parse("STRASSE").unwrap().is_same(&Username::parse("straße").unwrap()));
        assert!(!Username::parse("a@b").unwrap().is_same(&Username::parse("a@c").unwrap()));
    }

    #[test]
    fn masked_username_shows_first_and_last_character_and_domain() {
        for (name, masked) in [
            ("marcus.jensen@example.com", "m…n@example.com"),
            ("al@example.com", "a…@example.com"),
            ("a@b@example.com", "a…b@example.com"),
            ("@example", "@…e"),
            ("zoë", "z…ë"),
            ("x", "x…"),
        ] {
            assert_eq!(Username::parse(name).unwrap().masked(), masked);
        }
    }

    // docs/design/contract.md#ids
    #[test]
    fn invisible_characters_are_rejected_in_new_usernames_and_ignored_at_login() {
        let plain = Username::parse_new("gil@example.com").unwrap();
        for text in [
            "gil@example.com ",
            "gil@example.com\u{200b}",
            "\u{202e}GIL@example.com",
            "\u{a0}gil@example.com",
        ] {
            assert!(Username::parse_new(text).is_err(), "{text:?}");
            let stored = Username::parse(text).unwrap();
            assert!(stored.accepts(&plain) && plain.accepts(&stored) && !stored.is_same(&plain), "{text:?}");
        }
        assert!(Username::parse_new("Gil B").is_ok());
        assert!(!Username::parse("Gil B").unwrap().accepts(&Username::parse("GilB").unwrap()));
    }

    // NFC lengthens these texts. The limit applies to the stored form, so that it can be parsed again.
    #[test]
    fn username_length_is_measured_in_nfc() {
        for (text, longest) in [("\u{915}\u{93c}", 42), ("\u{958}", 42), ("\u{1d160}", 21)] {
            assert!(Username::parse(&text.repeat(longest)).is_ok(), "{text}");
            assert!(Username::parse(&text.repeat(longest + 1)).is_err(), "{text}");
        }
        for (text, is_valid) in [
            ("x".repeat(254), true),
            ("x".repeat(255), false),
            ("e\u{301}".repeat(127), true),
            ("e\u{301}".repeat(128), false),
            (String::new(), false),
        ] {
            assert_eq!(Username::parse(&text).is_ok(), is_valid, "{text}");
        }
    }

    // docs/design/security.md#rule-2
    #[test]
    fn passwords_are_normalized_but_not_folded() {
        let composed = Password::parse("caf\u{e9}").unwrap();
        assert_eq!(composed.as_bytes(), Password::parse("cafe\u{301}").unwrap().as_bytes());
        assert_ne!(composed.as_bytes(), Password::parse("CAF\u{c9}").unwrap().as_bytes());
        assert_ne!(composed.as_bytes(), Password::parse(" caf\u{e9} ").unwrap().as_bytes());
        let decomposed = Password::parse("cafe\u{301}").unwrap();
        assert_eq!(decomposed.sent_bytes(), Some("cafe\u{301}".as_bytes()));
        assert_eq!(composed.sent_bytes(), None);
    }

    // docs/design/security.md#rule-1
    #[test]
    fn password_length_is_limited_to_256_bytes() {
        assert!(Password::parse(&"x".repeat(256)).is_ok());
        assert!(Password::parse(&"x".repeat(257)).is_err());
        assert!(Password::parse(&"x".repeat(100_000)).is_err());
        assert!(Password::parse("").is_err());
    }

    #[test]
    fn secrets_match_only_if_equal() {
        let secret = SecretString::from("your_tenant_secret");
        assert!(matches(&secret, &SecretString::from("your_tenant_secret")));
        for other in ["", "your_tenant_secre", "your_tenant_secret ", "Your_tenant_secret"] {
            assert!(!matches(&SecretString::from(other), &secret), "{other}");
        }
    }

    // docs/design/security.md#rule-25
    #[test]
    fn debug_output_redacts_passwords_and_secrets() {
        let shown = format!(
            "{:?} {:?} {:?}",
            SecretString::from("hunter2"),
            Password::parse("hunter2e\u{301}").unwrap(),
            PasswordHash::from_phc("hunter2".into())
        );
        assert!(!shown.contains("hunter2"));
    }

    proptest! {
        #[test]
        fn parsed_username_parses_to_itself(text in "\\PC{1,100}") {
            if let Ok(name) = Username::parse(&text) {
                let again = Username::parse(name.as_written()).unwrap();
                prop_assert_eq!(&again, &name);
                if text.is_ascii() {
                    prop_assert!(Username::parse(&text.to_uppercase()).unwrap().is_same(&name));
                }
            }
        }

        #[test]
        fn password_is_never_truncated(text in "\\PC{1,300}") {
            match Password::parse(&text) {
                Ok(password) => prop_assert!(password.as_bytes().len() <= Password::MAX_BYTES),
                Err(_) => prop_assert!(text.len() > Password::MAX_BYTES / 3),
            }
        }
    }
}
