//! Reset codes, which authorize a user to set a new password (docs/design/security.md#rule-19).

use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use strum::{EnumIter, IntoStaticStr};

use super::{AttemptId, Invalid, UserId};

/// 32 letters and digits that are hard to confuse: no `I`, `O`, `0`, `1`. Each encodes five bits.
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// Maximum number of wrong attempts at a typed code (docs/design/contract.md#zitadel-v2). The last one
/// invalidates the code.
pub const MAX_CODE_TRIES: usize = 5;
/// The period in which requested codes and wrong codes are counted.
pub const CODE_WINDOW: Duration = Duration::from_secs(60 * 60);

/// What a code authorizes. Each purpose has its own newest code, and a code serves only its purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum CodePurpose {
    /// A new password.
    Password,
    /// The verification of the mail address.
    Email,
    /// The verification of the phone number.
    Phone,
}

impl CodePurpose {
    /// Name in storage keys and MACs.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The way in which a user enters a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CodeKind {
    /// Part of a link: 20 characters, 100 bits. Attempts are not limited, so that one user cannot invalidate
    /// another user's link.
    Link,
    /// Typed by the user: 8 characters. It becomes invalid after [`MAX_CODE_TRIES`] wrong attempts.
    Typed,
}

impl CodeKind {
    /// Number of characters.
    pub fn length(self) -> usize {
        match self {
            Self::Link => 20,
            Self::Typed => 8,
        }
    }
}

/// A reset code, generated or received. Redacted in `Debug`.
#[derive(Debug, Clone)]
pub struct Code(SecretString);

impl Code {
    /// Maximum length in characters (docs/design/contract.md#zitadel-v2).
    pub const MAX_CHARS: usize = 20;
    /// Maximum length in a request, with blanks and hyphens.
    const MAX_SENT_CHARS: usize = 40;

    /// Creates a code from random bytes, one byte for each character.
    pub fn from_random(kind: CodeKind, bytes: &[u8; 20]) -> Self {
        let letter = |byte: &u8| ALPHABET.get(usize::from(byte % 32)).copied().map_or('A', char::from);
        Self(SecretString::from(bytes.iter().take(kind.length()).map(letter).collect::<String>()))
    }

    /// Parses a code from a request: 1 to [`Self::MAX_CHARS`] characters, upper or lower case. Ignores blanks and
    /// hyphens, because people copy codes with blanks around them and group letters when they type.
    ///
    /// # Errors
    /// [`Invalid`] for other lengths. Other characters are accepted, but match no code.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let is_long = text.chars().nth(Self::MAX_SENT_CHARS).is_some();
        let letters = || text.chars().filter(|letter| !letter.is_whitespace() && *letter != '-');
        if is_long || !(1..=Self::MAX_CHARS).contains(&letters().count()) {
            return Err(Invalid::new("must be 1 to 20 characters; blanks and hyphens are ignored"));
        }
        Ok(Self(SecretString::from(letters().map(|letter| letter.to_ascii_uppercase()).collect::<String>())))
    }

    /// Returns the kind, which follows from the length. A code of another length counts as typed, and is wrong.
    pub fn kind(&self) -> CodeKind {
        if self.0.expose_secret().len() == CodeKind::Link.length() { CodeKind::Link } else { CodeKind::Typed }
    }

    /// Returns the code in plain text, for delivery to the user.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Parameters of a reset link to the hosted page: the user, and the code unless the user types it.
#[derive(Debug, Clone)]
pub struct ResetLink {
    /// User whose password is to be set. The user may not exist.
    pub user: UserId,
    /// Code.
    pub code: Option<Code>,
}

/// A user's newest reset code as stored. It contains a keyed hash, never the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetCode {
    /// ID, which distinguishes the code from earlier and later ones.
    pub id: AttemptId,
    /// Hash for verifying a code. `None` if a change of the user invalidated the code.
    pub proof: Option<CodeProof>,
    /// Expiry time.
    pub ends_at: Timestamp,
    /// Times at which codes were sent within the last [`CODE_WINDOW`].
    pub sent: Vec<Timestamp>,
    /// Set when the code was used: a keyed hash of the form submission, or the ID of the attempt.
    pub spent: Option<String>,
}

impl ResetCode {
    /// Returns the time for the ID of a code that replaces `before`. It is later than the time of the ID of `before`,
    /// also if the clocks of functions differ. Therefore a newer code of a user always has a higher ID.
    pub fn id_time(before: Option<&Self>, now: Timestamp) -> Timestamp {
        let later = before.and_then(|before| before.id.made_at().checked_add(Duration::from_millis(1)).ok());
        later.map_or(now, |later| later.max(now))
    }
}

/// The stored hash of a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeProof {
    /// Kind of the code.
    pub kind: CodeKind,
    /// Keyed hash over tenant, user, purpose and code, in base64url.
    pub digest: String,
    /// Version of the root key that the hash key is derived from.
    pub key_version: u32,
}

/// Returns the times in `sent` that are within [`CODE_WINDOW`] before `now`.
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
        fn generated_code_has_its_length_and_alphabet_and_parses(bytes in any::<[u8; 20]>()) {
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
        fn only_texts_of_1_to_20_characters_are_parsed(text in "\\PC{0,30}") {
            let letters = text.chars().filter(|letter| !letter.is_whitespace() && *letter != '-').count();
            prop_assert_eq!(Code::parse(&text).is_ok(), (1..=Code::MAX_CHARS).contains(&letters));
        }
    }

    // docs/design/security.md#rule-19: all characters are equally likely.
    #[test]
    fn alphabet_has_32_distinct_characters() {
        let distinct: std::collections::BTreeSet<_> = ALPHABET.iter().collect();
        assert_eq!(distinct.len(), 32);
        assert!(!ALPHABET.iter().any(|letter| b"IO01".contains(letter)));
    }

    // docs/design/security.md#rule-25
    #[test]
    fn debug_output_redacts_the_code() {
        let code = Code::from_random(CodeKind::Link, &[7; 20]);
        assert!(!format!("{code:?}").contains(code.expose()));
    }

    #[test]
    fn sent_codes_are_forgotten_after_an_hour() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(recent(&[at(0), at(10)], at(3_600)), [at(10)]);
        assert_eq!(recent(&[at(0), at(10)], at(3_610)), []);
    }

    // docs/design/security.md#rule-19
    #[test]
    fn random_bytes_give_each_character_equally_often() {
        let mut counts = std::collections::BTreeMap::<_, u32>::new();
        for byte in 0..=255 {
            let code = Code::from_random(CodeKind::Typed, &[byte; 20]);
            *counts.entry(code.expose().to_owned()).or_default() += 1;
        }
        assert!(counts.len() == 32 && counts.values().all(|count| *count == 8), "{counts:?}");
    }

    #[test]
    fn sent_code_has_at_most_40_characters_with_blanks() {
        assert!(Code::parse(&format!("{}A", " ".repeat(39))).is_ok());
        assert!(Code::parse(&format!("{}A", " ".repeat(40))).is_err());
        assert!(Code::parse(&"A".repeat(20)).is_ok() && Code::parse(&"A".repeat(21)).is_err());
    }

    // docs/design/security.md#rule-19
    #[test]
    fn newer_code_has_a_later_id_also_if_the_clock_goes_backward() {
        let at = |millisecond| Timestamp::from_millisecond(millisecond).unwrap();
        let before = ResetCode {
            id: AttemptId::new(at(5_000), [1; 16]),
            proof: None,
            ends_at: at(9_000),
            sent: Vec::new(),
            spent: None,
        };
        assert_eq!(ResetCode::id_time(None, at(1_000)), at(1_000));
        for (now, expected) in [(1_000, 5_001), (5_000, 5_001), (6_000, 6_000)] {
            assert_eq!(ResetCode::id_time(Some(&before), at(now)), at(expected), "{now}");
        }
    }
}
