//! Profile and metadata of a user: data that Doorward stores for its clients and never uses for a decision.

use std::collections::BTreeMap;

use strum::{EnumString, IntoStaticStr};

use super::{Invalid, id::named, visible};

/// Maximum length of a profile text and of a metadata key in characters.
const MAX_CHARS: usize = 200;
/// Maximum number of metadata keys of a user.
const MAX_KEYS: usize = 50;
/// Maximum length of all metadata keys and values of a user in bytes.
const MAX_METADATA_BYTES: usize = 4_096;

/// Prefix of metadata keys that requests use for roles, customer and customer type. No stored key has it.
pub const RESERVED_METADATA: &str = "doorward:";

/// Names and gender of a user. The preferred language is [`User::locale`](super::User::locale).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// Given name.
    pub given_name: Option<String>,
    /// Family name.
    pub family_name: Option<String>,
    /// Nick name.
    pub nick_name: Option<String>,
    /// Display name.
    pub display_name: Option<String>,
    /// Gender.
    pub gender: Option<Gender>,
}

/// Gender, as ZITADEL's protocol defines it. An unspecified gender is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, EnumString)]
#[strum(serialize_all = "UPPERCASE")]
pub enum Gender {
    /// Female.
    Female,
    /// Male.
    Male,
    /// Diverse.
    Diverse,
}

named!(Gender);

/// Parses a name in a profile.
///
/// # Errors
/// [`Invalid`] if the text does not have 1 to 200 characters, or has control characters, invisible characters or outer
/// white space.
pub fn profile_text(text: &str) -> Result<String, Invalid> {
    check_text(text).map(|()| text.to_owned())
}

fn check_text(text: &str) -> Result<(), Invalid> {
    if text.is_empty() || text.chars().nth(MAX_CHARS).is_some() {
        return Err(Invalid::new("must be 1 to 200 characters"));
    }
    if text.chars().any(char::is_control) {
        return Err(Invalid::new("must not contain control characters"));
    }
    visible::broken_rule(text).map_or(Ok(()), |rule| Err(Invalid::new(rule)))
}

/// Metadata of a user: values that clients store under keys of their choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata(BTreeMap<String, Vec<u8>>);

impl Metadata {
    /// Parses metadata.
    ///
    /// # Errors
    /// [`Invalid`] if a key or value is invalid, if the prefix of a key is reserved, or if the limits of 50 keys or 4 KB
    /// are exceeded.
    pub fn parse(entries: BTreeMap<String, Vec<u8>>) -> Result<Self, Invalid> {
        if entries.len() > MAX_KEYS {
            return Err(Invalid::new("must have at most 50 keys"));
        }
        for (key, value) in &entries {
            check_text(key).map_err(|_| {
                Invalid::new(
                    "must have keys of 1 to 200 characters, without control characters, invisible characters and \
                     outer white space",
                )
            })?;
            if key.starts_with(RESERVED_METADATA) {
                return Err(Invalid::new(
                    "must not have keys that begin with doorward:, because they are reserved",
                ));
            }
            if value.is_empty() {
                return Err(Invalid::new("must not have empty values"));
            }
        }
        if entries.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MAX_METADATA_BYTES {
            return Err(Invalid::new("must have at most 4,096 bytes in all keys and values"));
        }
        Ok(Self(entries))
    }

    /// Returns the metadata as stored, without checks.
    pub(crate) fn stored(entries: BTreeMap<String, Vec<u8>>) -> Self {
        Self(entries)
    }

    /// Returns keys and values, sorted by key.
    pub fn entries(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(entries: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), value.to_vec())).collect()
    }

    fn fault(entries: BTreeMap<String, Vec<u8>>) -> String {
        Metadata::parse(entries).unwrap_err().to_string()
    }

    #[test]
    fn profile_texts_have_up_to_200_visible_characters() {
        for good in ["Ada", "Ingeborg von der Höhe", "名前", &"ü".repeat(200)] {
            assert_eq!(profile_text(good).unwrap(), good);
        }
        for bad in ["", " Ada", "Ada ", "A\nda", "A\u{0}", "A\u{200b}da", "\u{202e}adA", &"ü".repeat(201)] {
            assert!(profile_text(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn genders_have_the_names_of_the_protocol() {
        for (gender, name) in
            [(Gender::Female, "FEMALE"), (Gender::Male, "MALE"), (Gender::Diverse, "DIVERSE")]
        {
            assert_eq!((gender.name(), Gender::from_name(name)), (name, Some(gender)));
        }
        assert_eq!(Gender::from_name("UNSPECIFIED"), None);
    }

    #[test]
    fn metadata_has_up_to_50_keys() {
        let keys =
            |count: usize| (0..count).map(|key| (key.to_string(), vec![0])).collect::<BTreeMap<_, _>>();
        let most = Metadata::parse(keys(50)).unwrap();
        assert_eq!(most.entries(), &keys(50));
        assert!(fault(keys(51)).contains("50 keys"));
    }

    #[test]
    fn metadata_has_up_to_4096_bytes_in_keys_and_values() {
        assert!(Metadata::parse(entries(&[("key", &[7; 4_093])])).is_ok());
        assert!(fault(entries(&[("key", &[7; 4_094])])).contains("4,096 bytes"));
        assert!(fault(entries(&[("a", &[7; 2_047]), ("b", &[7; 2_048])])).contains("4,096 bytes"));
    }

    #[test]
    fn metadata_keys_have_up_to_200_visible_characters() {
        assert!(Metadata::parse(entries(&[(&"k".repeat(200), b"v")])).is_ok());
        for bad in ["", " k", "k\n", "k\u{200b}", &"k".repeat(201)] {
            assert!(fault(entries(&[(bad, b"v")])).contains("keys of 1 to 200"), "{bad:?}");
        }
        assert!(fault(entries(&[("key", b"")])).contains("empty"));
    }

    #[test]
    fn reserved_metadata_keys_are_rejected() {
        for key in ["doorward:roles", "doorward:", "doorward:anything"] {
            assert!(fault(entries(&[(key, b"v")])).contains("reserved"), "{key}");
        }
        assert!(Metadata::parse(entries(&[("doorward", b"v"), ("Doorward:x", b"v")])).is_ok());
    }
}
