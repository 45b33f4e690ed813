//! Usernames and passwords.

use icu_casemap::CaseMapper;
use icu_normalizer::ComposingNormalizer;
use secrecy::{ExposeSecret, SecretString};

use super::{FieldError, ForbiddenNames, Invalid, blocklist};

/// A login name, as written and in the form in which names are compared and kept unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Username {
    written: String,
    folded: String,
}

impl Username {
    /// Bytes of a name in NFC: the longest mail address (RFC 5321, section 4.5.3.1.3).
    pub const MAX_BYTES: usize = 254;
    /// Bytes of the folded name, so that a storage key always fits DynamoDB's 2,048.
    const MAX_FOLDED_BYTES: usize = 600;

    /// 1 to [`Self::MAX_BYTES`] bytes once in NFC, no control characters. Names are equal after NFC
    /// and full case folding (docs/design/contract.md#create-session).
    ///
    /// # Errors
    /// [`Invalid`] when the name is empty, too long or has control characters.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let too_long = Invalid::new("must be 1 to 254 bytes");
        // No need to normalise a novel: see `Password::parse`.
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

    /// The name as the user wrote it, in NFC.
    pub fn as_written(&self) -> &str {
        &self.written
    }

    /// The form in which names are compared.
    pub fn folded(&self) -> &str {
        &self.folded
    }

    /// Whether both name the same login.
    pub fn is_same(&self, other: &Self) -> bool {
        self.folded == other.folded
    }
}

/// The form in which texts in NFC are equal across case.
pub fn folded(nfc: &str) -> String {
    // Folding can undo the composed form (U+0345), hence NFC again.
    ComposingNormalizer::new_nfc().normalize(&CaseMapper::new().fold_string(nfc)).into_owned()
}

/// A password as presented: in NFC, never truncated or case-folded (docs/design/security.md#rule-2).
#[derive(Debug, Clone)]
pub struct Password(SecretString);

impl Password {
    /// Bytes accepted after normalisation (docs/design/security.md#rule-1).
    pub const MAX_BYTES: usize = 256;

    /// # Errors
    /// [`Invalid`] when it is empty or longer than [`Self::MAX_BYTES`] once in NFC.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new("must not be empty"));
        }
        // NFC never shrinks a text below a third of its bytes: no need to normalise a novel.
        let normalised = (text.len() <= Self::MAX_BYTES * 3)
            .then(|| SecretString::from(ComposingNormalizer::new_nfc().normalize(text).into_owned()));
        match normalised {
            Some(secret) if secret.expose_secret().len() <= Self::MAX_BYTES => Ok(Self(secret)),
            _ => Err(Invalid::new("must be at most 256 bytes")),
        }
    }

    /// What is hashed.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }

    fn as_str(&self) -> &str {
        self.0.expose_secret()
    }
}

/// A password's hash as a PHC string; useless to a client and shown to nobody (docs/design/security.md#rule-25).
#[derive(Clone)]
pub struct PasswordHash(SecretString);

impl PasswordHash {
    /// Wraps a PHC string; its form is checked where it is verified.
    pub fn from_phc(phc: String) -> Self {
        Self(SecretString::from(phc))
    }

    /// The PHC string.
    pub fn as_phc(&self) -> &str {
        self.0.expose_secret()
    }
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash([redacted])")
    }
}

/// What a tenant asks of a new password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordPolicy {
    min_length: usize,
}

impl PasswordPolicy {
    /// NIST SP 800-63B-4, 3.1.1.2: single-factor passwords (docs/design/security.md#rule-1).
    pub const DEFAULT_MIN_LENGTH: usize = 15;
    /// No tenant goes below this (docs/design/security.md#rule-1).
    pub const FLOOR: usize = 8;

    /// No tenant asks for more: 64 characters of 4 bytes are what [`Password::MAX_BYTES`] holds.
    pub const CEILING: usize = 64;

    /// A policy of at least `min_length` code points, between [`Self::FLOOR`] and [`Self::CEILING`].
    pub fn new(min_length: usize) -> Self {
        Self { min_length: min_length.clamp(Self::FLOOR, Self::CEILING) }
    }

    /// The shortest password in code points.
    pub fn min_length(self) -> usize {
        self.min_length
    }

    /// Every rule that `password` breaks; none means it may be used.
    pub fn broken_rules(
        self,
        password: &Password,
        field: &'static str,
        names: &ForbiddenNames<'_>,
    ) -> Vec<FieldError> {
        let mut broken = Vec::new();
        if password.as_str().chars().count() < self.min_length {
            broken.push(FieldError::new(field, format!("must have at least {} characters", self.min_length)));
        }
        broken.extend(
            blocklist::broken_rules(password.as_str(), self.min_length, names)
                .map(|rule| FieldError::new(field, rule)),
        );
        broken
    }
}

impl Default for PasswordPolicy {
    fn default() -> Self {
        Self::new(Self::DEFAULT_MIN_LENGTH)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::TenantId;

    fn broken(password: &str, username: &str) -> Vec<FieldError> {
        let names = ForbiddenNames {
            username: &Username::parse(username).unwrap(),
            tenant: &TenantId::parse("tenant_cloudvault").unwrap(),
            tenant_name: "CloudVault",
        };
        PasswordPolicy::default().broken_rules(&Password::parse(password).unwrap(), "password", &names)
    }

    #[test]
    fn names_meet_across_case_and_composition() {
        let composed = Username::parse("Zo\u{eb}@Example.COM").unwrap();
        let decomposed = Username::parse("zoe\u{308}@example.com").unwrap();
        assert!(composed.is_same(&decomposed));
        assert_eq!(composed.as_written(), "Zo\u{eb}@Example.COM");
        assert!(Username::parse("STRASSE").unwrap().is_same(&Username::parse("straße").unwrap()));
        assert!(!Username::parse("a@b").unwrap().is_same(&Username::parse("a@c").unwrap()));
    }

    /// NFC lengthens these: the cap counts what is stored, so that it can be read back.
    #[test]
    fn names_are_measured_as_they_are_kept() {
        for (text, longest) in [("\u{915}\u{93c}", 42), ("\u{958}", 42), ("\u{1d160}", 21)] {
            assert!(Username::parse(&text.repeat(longest)).is_ok(), "{text}");
            assert!(Username::parse(&text.repeat(longest + 1)).is_err(), "{text}");
        }
    }

    // docs/design/security.md#rule-2
    #[test]
    fn passwords_are_normalised_and_not_folded() {
        let composed = Password::parse("caf\u{e9}").unwrap();
        assert_eq!(composed.as_bytes(), Password::parse("cafe\u{301}").unwrap().as_bytes());
        assert_ne!(composed.as_bytes(), Password::parse("CAF\u{c9}").unwrap().as_bytes());
        assert_ne!(composed.as_bytes(), Password::parse(" caf\u{e9} ").unwrap().as_bytes());
    }

    // docs/design/security.md#rule-1
    #[test]
    fn password_bounds() {
        assert!(Password::parse(&"x".repeat(256)).is_ok());
        assert!(Password::parse(&"x".repeat(257)).is_err());
        assert!(Password::parse(&"x".repeat(100_000)).is_err());
        assert!(Password::parse("").is_err());
        // 64 and more are accepted, and length counts code points, not bytes.
        assert!(broken("Zwölf Boxkämpf!", "n").is_empty());
        assert_eq!(broken("Zwölf Boxkämpf", "n").len(), 1);
        assert_eq!(PasswordPolicy::new(1).min_length(), PasswordPolicy::FLOOR);
    }

    #[test]
    fn a_password_is_not_the_username() {
        assert_eq!(broken("Marcus.Jensen@Example.com", "marcus.jensen@example.com").len(), 1);
    }

    // docs/design/security.md#rule-25
    #[test]
    fn debug_shows_no_password() {
        let shown = format!(
            "{:?} {:?}",
            Password::parse("hunter2").unwrap(),
            PasswordHash::from_phc("hunter2".into())
        );
        assert!(!shown.contains("hunter2"));
    }

    proptest! {
        #[test]
        fn a_name_reads_back_as_itself(text in "\\PC{1,100}") {
            if let Ok(name) = Username::parse(&text) {
                let again = Username::parse(name.as_written()).unwrap();
                prop_assert_eq!(&again, &name);
                if text.is_ascii() {
                    prop_assert!(Username::parse(&text.to_uppercase()).unwrap().is_same(&name));
                }
            }
        }

        #[test]
        fn no_password_is_cut(text in "\\PC{1,300}") {
            match Password::parse(&text) {
                Ok(password) => prop_assert!(password.as_bytes().len() <= Password::MAX_BYTES),
                Err(_) => prop_assert!(text.len() > Password::MAX_BYTES / 3),
            }
        }
    }
}
