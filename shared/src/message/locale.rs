//! The languages in which a template is looked up.

/// The fallback language.
const LAST: &str = "en";
/// Maximum length of a language tag (RFC 5646, section 4.4.1).
const MAX_TAG: usize = 35;

/// Returns the tags of `preferred` in order, each followed by its shorter forms (RFC 4647, section 3.4), in
/// lower case. English is last.
pub(super) fn choices(preferred: &[&str]) -> Vec<String> {
    let mut choices: Vec<String> = Vec::new();
    let mut add = |tag: &str| {
        if !choices.iter().any(|known| known == tag) {
            choices.push(tag.to_owned());
        }
    };
    for tag in preferred.iter().filter(|tag| is_tag(tag)) {
        let tag = tag.to_ascii_lowercase();
        let mut rest = Some(tag.as_str());
        while let Some(tag) = rest {
            add(tag);
            rest = tag.rsplit_once('-').map(|(shorter, _)| shorter);
        }
    }
    add(LAST);
    choices
}

/// Returns whether a text has the basic format of a language tag (RFC 5646, section 2.1).
pub(super) fn is_tag(text: &str) -> bool {
    let is_part =
        |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
    text.len() <= MAX_TAG && text.split('-').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shorter_tags_follow_each_choice_and_english_is_last() {
        assert_eq!(choices(&["de-CH-1996", "fr"]), ["de-ch-1996", "de-ch", "de", "fr", "en"]);
        assert_eq!(choices(&["EN-gb", "en"]), ["en-gb", "en"]);
        assert_eq!(choices(&["", "-", "../de", "de_DE", &"a-".repeat(40)]), ["en"]);
    }
}
