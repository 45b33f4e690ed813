//! The list of common passwords, stored as fingerprints.

use aws_lc_rs::digest::{SHA256, digest};
use zeroize::Zeroizing;

use super::PasswordPolicy;

/// Size of a fingerprint in bytes.
const FINGERPRINT_BYTES: usize = 4;
/// Minimum length of a listed password in code points: the shortest password that a tenant can allow.
const WHOLE: usize = PasswordPolicy::FLOOR;
/// Minimum length in code points of a word that is looked up without the digits around it.
const WORD: usize = 4;

/// Sorted fingerprints of 46,608 passwords. Two passwords share a fingerprint, so that the list has
/// 186,428 bytes. They are part of the binary and are paged in when a password is checked.
///
/// One lookup reports an unlisted password as listed with a probability of 46,607 / 2^32, 1 in 92,000.
/// A check makes at most three lookups.
///
/// The list merges two sources, case-folded. It has the passwords of at least 8 code points, and the words
/// of 4 to 7 code points, because users append digits to them:
/// - Django 5.2.19, `django/contrib/auth/common-passwords.txt.gz`: 19,640 passwords, BSD-3-Clause;
/// - @zxcvbn-ts/language-common 4.1.3, `src/passwords.json`: 49,233 passwords, MIT.
///
/// Their licences are in `common-passwords.LICENSES.txt`; `shared/examples/blocklist.rs` generates the list.
static LIST: &[u8] = include_bytes!("common-passwords.bin");

/// Returns whether a folded password is listed.
pub(super) fn contains(folded: &[char]) -> bool {
    let text: Zeroizing<String> = Zeroizing::new(folded.iter().collect());
    let (list, _) = LIST.as_chunks::<FINGERPRINT_BYTES>();
    fingerprint(&text).is_some_and(|wanted| list.binary_search(&wanted).is_ok())
}

/// Returns the fingerprint of a folded password: the first bytes of its SHA-256. `None` if the text is too
/// short for the list.
pub fn fingerprint(folded: &str) -> Option<[u8; FINGERPRINT_BYTES]> {
    let is_letter = |c: Option<char>| c.is_some_and(char::is_alphabetic);
    let is_word = is_letter(folded.chars().next()) && is_letter(folded.chars().next_back());
    let length = folded.chars().count();
    if length < if is_word { WORD } else { WHOLE } {
        return None;
    }
    digest(&SHA256, folded.as_bytes()).as_ref().first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    // docs/design/security.md#rule-3
    #[test]
    fn list_is_complete_and_sorted() {
        let (list, rest) = LIST.as_chunks::<FINGERPRINT_BYTES>();
        assert_eq!((list.len(), rest.len()), (46_607, 0));
        assert!(list.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn short_texts_have_no_fingerprint() {
        for text in ["", "abc", "12345", "1a2b3c4", "pass12"] {
            assert_eq!(fingerprint(text), None, "{text}");
        }
        for text in ["love", "12345678", "p4ss"] {
            assert!(fingerprint(text).is_some(), "{text}");
        }
    }
}
