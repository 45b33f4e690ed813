//! Time at which the keys that a version of a secret replaced were retired (docs/design/security.md#rule-17).

use jiff::Timestamp;

use super::ActiveSecret;

/// Use of a version of a secret, as far as the tenant's record shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// The version is in use since this time.
    Since(Timestamp),
    /// The version that this one was made from is in use.
    Pending,
    /// The record names no version, or another one: this version was edited or moved by hand.
    Unknown,
}

impl Activation {
    /// Returns the use of a version that was made from `made_from`.
    pub fn of(version: &str, made_from: Option<&str>, active: Option<&ActiveSecret>) -> Self {
        match active {
            Some(active) if active.version == version => Self::Since(active.since),
            Some(active) if made_from == Some(active.version.as_str()) => Self::Pending,
            _ => Self::Unknown,
        }
    }

    /// Returns the time at which a key was retired, from the time in the version's document and the time of the
    /// document's creation. A key that the document replaced signed until the version was activated, and may sign while
    /// the activation is pending. Keys of other documents, and of documents without a time, keep their time.
    pub fn retirement(self, created_at: Option<Timestamp>, stated: Option<Timestamp>) -> Option<Timestamp> {
        let stated = stated?;
        match (self, created_at.filter(|created_at| stated >= *created_at)) {
            (Self::Since(since), Some(created_at)) => Some(since.max(created_at)),
            (Self::Pending, Some(_)) => None,
            (Self::Unknown, _) | (_, None) => Some(stated),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::tests::at;

    // docs/design/security.md#rule-17
    #[test]
    fn replaced_keys_sign_again_only_while_the_source_of_their_version_is_active() {
        let active = |version: &str| ActiveSecret {
            version: version.to_owned(),
            since: at(200),
            previous_retired_at: None,
            retired: None,
        };
        let retired_at = |version: &str, stated: i64| {
            let activation = Activation::of("own", Some("before"), Some(&active(version)));
            activation.retirement(Some(at(100)), Some(at(stated)))
        };
        assert_eq!(retired_at("own", 100), Some(at(200)), "since its activation");
        assert_eq!(retired_at("before", 100), None, "not activated yet");
        assert_eq!(retired_at("another", 100), Some(at(100)), "edited or moved by hand");
        for version in ["own", "before", "another"] {
            assert_eq!(retired_at(version, 99), Some(at(99)), "an earlier document replaced the key");
        }
        let since = Activation::Since(at(200));
        assert_eq!(since.retirement(Some(at(300)), Some(at(300))), Some(at(300)), "clocks differ");
        assert_eq!(since.retirement(None, Some(at(100))), Some(at(100)), "the document has no time");
        assert_eq!(since.retirement(Some(at(100)), None), None, "the key was not replaced");
        assert_eq!(Activation::of("own", Some("before"), None), Activation::Unknown);
    }
}
