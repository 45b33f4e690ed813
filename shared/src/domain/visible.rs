//! Invisible characters and white space, which make two different IDs or names look alike.

use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{DefaultIgnorableCodePoint, GeneralCategory},
};

/// Returns whether a character is invisible: a format character (Unicode category `Cf`, which includes
/// bidirectional controls) or another character that fonts do not draw (`Default_Ignorable_Code_Point`).
fn is_invisible(letter: char) -> bool {
    CodePointMapData::<GeneralCategory>::new().get(letter) == GeneralCategory::Format
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(letter)
}

/// Returns the rule that a new ID or name breaks.
pub(super) fn broken_rule(text: &str) -> Option<&'static str> {
    if text.chars().any(is_invisible) {
        Some("must not contain invisible characters")
    } else if text.trim() != text {
        Some("must not begin or end with white space")
    } else {
        None
    }
}

/// Returns the text without invisible characters and outer white space.
pub(super) fn trimmed(text: &str) -> String {
    let visible: String = text.chars().filter(|letter| !is_invisible(*letter)).collect();
    visible.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_and_outer_white_space_are_found_and_removed() {
        for text in ["a b", "ü", "名前", "e\u{301}"] {
            assert_eq!(broken_rule(text), None, "{text:?}");
            assert_eq!(trimmed(text), text);
        }
        // Spaces, a zero width space, bidirectional controls, a soft hyphen, a Hangul filler, a tag character.
        for text in [
            " ab",
            "ab ",
            "ab\u{a0}",
            "\u{2003}ab",
            "a\u{200b}b",
            "ab\u{200b} ",
            "\u{202e}ab",
            "a\u{2066}b",
            "a\u{ad}b",
            "ab\u{3164}",
            "a\u{e0041}b",
            "\u{feff}ab",
            "\u{200b} ab",
        ] {
            assert!(broken_rule(text).is_some(), "{text:?}");
            assert_eq!(trimmed(text), "ab", "{text:?}");
        }
    }
}
