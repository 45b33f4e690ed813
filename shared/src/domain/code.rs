//! Reset codes: what a person proves with that it may set a new password (docs/design/security.md#rule-19).

use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::{AttemptId, Invalid};

/// 32 letters and digits that nobody takes for one another: no `I`, `O`, `0`, `1`. Five bits each.
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// Wrong tries that a typed code survives (docs/design/contract.md#zitadel-v2): the last of them kills it.
pub const MAX_CODE_TRIES: usize = 5;
/// The hour in which codes asked for, and wrong ones, are counted.
pub const CODE_WINDOW: Duration = Duration::from_secs(60 * 60);

/// How a code reaches whoever uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeKind {
    /// In a link: 20 characters, 100 bits, no limit of tries, so that nobody kills another's link.
    Link,
    /// Typed by a person: 8 characters, dead after [`MAX_CODE_TRIES`] wrong ones.
    Typed,
}

impl CodeKind {
    /// Characters of such a code.
    pub fn length(self) -> usize {
        match self {
            Self::Link => 20,
            Self::Typed => 8,
        }
    }
}

/// A reset code, made or presented. Redacted in `Debug`.
#[derive(Debug, Clone)]
pub struct Code(SecretString);

impl Code {
    /// Most characters that are read (docs/design/contract.md#zitadel-v2).
    pub const MAX_CHARS: usize = 20;

    /// A new code of that kind, from as many random bytes as the longest has characters.
    pub fn from_random(kind: CodeKind, bytes: &[u8; 20]) -> Self {
        let letter = |byte: &u8| ALPHABET.get(usize::from(byte % 32)).copied().map_or('A', char::from);
        Self(SecretString::from(bytes.iter().take(kind.length()).map(letter).collect::<String>()))
    }

    /// A code as somebody sends it: 1 to [`Self::MAX_CHARS`] characters, in either case.
    ///
    /// # Errors
    /// [`Invalid`] for other lengths. Anything else is a code that opens nothing.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() || text.chars().count() > Self::MAX_CHARS {
            return Err(Invalid::new("must be 1 to 20 characters"));
        }
        Ok(Self(SecretString::from(text.to_ascii_uppercase())))
    }

    /// Which kind it is, by its length: one that is neither is treated as typed, and wrong.
    pub fn kind(&self) -> CodeKind {
        if self.0.expose_secret().len() == CodeKind::Link.length() { CodeKind::Link } else { CodeKind::Typed }
    }

    /// What is sent to whoever may have it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// A user's newest reset code as stored: a keyed hash, never the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetCode {
    /// Tells it from those before and after it.
    pub id: AttemptId,
    /// What it proves; `None` where there is no such user, and so nothing to prove.
    pub proof: Option<CodeProof>,
    /// End of its life.
    pub ends_at: Timestamp,
    /// When codes were sent within the last [`CODE_WINDOW`].
    pub sent: Vec<Timestamp>,
    /// Set once it was used: what did, a form's submission as a keyed hash or one try.
    pub spent: Option<String>,
}

/// What a stored code is compared by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeProof {
    /// How it is used.
    pub kind: CodeKind,
    /// Keyed hash over tenant, user, purpose and code; base64url.
    pub digest: String,
    /// Version of the root key behind it.
    pub key_version: u32,
}

/// Those of `sent` that still count at `now`.
pub fn recent(sent: &[Timestamp], now: Timestamp) -> Vec<Timestamp> {
    let counts = |at: &Timestamp| at.checked_add(CODE_WINDOW).is_ok_and(|end| end > now);
    sent.iter().copied().filter(counts).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        // docs/design/security.md#rule-19
        #[test]
        fn codes_are_of_their_length_and_alphabet_and_read_back(bytes in any::<[u8; 20]>()) {
            for kind in [CodeKind::Link, CodeKind::Typed] {
                let code = Code::from_random(kind, &bytes);
                prop_assert_eq!(code.expose().len(), kind.length());
                prop_assert!(code.expose().bytes().all(|letter| ALPHABET.contains(&letter)));
                prop_assert_eq!(code.kind(), kind);
                let typed = Code::parse(&code.expose().to_lowercase()).unwrap();
                prop_assert_eq!(typed.expose(), code.expose());
            }
        }

        #[test]
        fn whatever_is_presented_is_a_code_or_refused(text in "\\PC{0,30}") {
            let valid = (1..=Code::MAX_CHARS).contains(&text.chars().count());
            prop_assert_eq!(Code::parse(&text).is_ok(), valid);
        }
    }

    // docs/design/security.md#rule-19: every letter stands for five bits, none is likelier than another.
    #[test]
    fn the_alphabet_has_no_letter_twice() {
        let distinct: std::collections::BTreeSet<_> = ALPHABET.iter().collect();
        assert_eq!(distinct.len(), 32);
        assert!(!ALPHABET.iter().any(|letter| b"IO01".contains(letter)));
    }

    // docs/design/security.md#rule-25
    #[test]
    fn debug_shows_no_code() {
        let code = Code::from_random(CodeKind::Link, &[7; 20]);
        assert!(!format!("{code:?}").contains(code.expose()));
    }

    #[test]
    fn an_hour_later_nothing_counts() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(recent(&[at(0), at(10)], at(3_600)), [at(10)]);
        assert_eq!(recent(&[at(0), at(10)], at(3_610)), []);
    }
}
