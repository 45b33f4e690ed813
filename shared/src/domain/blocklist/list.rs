//! The commonest passwords, as fingerprints.

use aws_lc_rs::digest::{SHA256, digest};
use zeroize::Zeroizing;

use crate::domain::PasswordPolicy;

/// Bytes of a fingerprint.
const FINGERPRINT_BYTES: usize = 4;
/// Code points of the shortest password that any tenant accepts.
const WHOLE: usize = PasswordPolicy::FLOOR;
/// Code points of the shortest word that is looked up without the digits around it.
const WORD: usize = 4;

/// Sorted fingerprints of 46,608 passwords (two share one), 186,428 bytes that stay in the binary's own pages and
/// are not read before a password is judged. A password that is not listed is taken for one that is
/// with a probability of 46,607 / 2^32, 1 in 92,000, a look-up; there are three at most.
///
/// From two lists, folded and merged, those of at least 8 code points and the words of 4 to 7 (which
/// people lengthen by digits):
/// - Django 5.2.19, `django/contrib/auth/common-passwords.txt.gz`: 19,640 passwords, BSD-3-Clause;
/// - @zxcvbn-ts/language-common 4.1.3, `src/passwords.json`: 49,233 passwords, MIT.
///
/// Their licences are beside it; `shared/examples/blocklist.rs` makes it.
static LIST: &[u8] = include_bytes!("common-passwords.bin");

/// Whether a folded password is one of the commonest.
pub(super) fn contains(folded: &[char]) -> bool {
    let text: Zeroizing<String> = Zeroizing::new(folded.iter().collect());
    let (list, _) = LIST.as_chunks::<FINGERPRINT_BYTES>();
    fingerprint(&text).is_some_and(|wanted| list.binary_search(&wanted).is_ok())
}

/// What the list keeps of a folded password: the head of its SHA-256. `None` for one that is never
/// looked up.
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

    // docs/design/security.md#rule-3: the list is what its comment says, and can be searched.
    #[test]
    fn the_list_is_whole_and_sorted() {
        let (list, rest) = LIST.as_chunks::<FINGERPRINT_BYTES>();
        assert_eq!((list.len(), rest.len()), (46_607, 0));
        assert!(list.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn what_cannot_be_a_password_or_a_word_of_one_is_not_looked_up() {
        for text in ["", "abc", "12345", "1a2b3c4", "pass12"] {
            assert_eq!(fingerprint(text), None, "{text}");
        }
        for text in ["love", "12345678", "p4ss"] {
            assert!(fingerprint(text).is_some(), "{text}");
        }
    }
}
