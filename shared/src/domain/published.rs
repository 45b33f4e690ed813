//! Public keys of a tenant, as the table stores them (docs/design/decisions/public-keys.md).

use std::time::Duration;

use jiff::Timestamp;

use super::{Activation, ActiveSecret, SigningAlgorithm, SigningEnd};

/// Public signing keys in a tenant's secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedKeys {
    /// Current version of the secret at the publication.
    pub version: String,
    /// Version before it, if that one was not retired. Its keys are included.
    pub previous: Option<String>,
    /// Version that a rotation made the current version from; `None` if it was written by hand.
    pub made_from: Option<String>,
    /// Time of the rotation that created the current version; `None` if it was written by hand.
    pub created_at: Option<Timestamp>,
    /// The keys.
    pub keys: Vec<PublicKey>,
}

/// Public part of one signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Algorithm of the signatures.
    pub algorithm: SigningAlgorithm,
    /// JWK with the key ID used in tokens, as JSON (RFC 7517, section 4; RFC 7518, section 6; RFC 8037, section 2).
    pub jwk: String,
    /// Time at which the key was replaced.
    pub retired_at: Option<Timestamp>,
}

impl PublishedKeys {
    /// Returns the keys that sign, or may have signed a token that is valid at `now`. A token lives for `token_life`.
    pub fn valid(
        &self,
        active: Option<&ActiveSecret>,
        token_life: Duration,
        now: Timestamp,
    ) -> impl Iterator<Item = &PublicKey> {
        let activation = Activation::of(&self.version, self.made_from.as_deref(), active);
        self.keys.iter().filter(move |key| {
            let retired_at = activation.retirement(self.created_at, key.retired_at);
            retired_at.is_none_or(|at| SigningEnd::of_key(at).may_live(token_life, now))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    // docs/design/security.md#rule-17
    #[test]
    fn key_is_published_while_its_tokens_may_be_valid() {
        let key = |retired_at: Option<i64>| PublicKey {
            algorithm: SigningAlgorithm::Es256,
            jwk: String::new(),
            retired_at: retired_at.map(at),
        };
        let keys = PublishedKeys {
            version: "v2".to_owned(),
            previous: None,
            made_from: Some("v1".to_owned()),
            created_at: Some(at(1_000)),
            keys: vec![key(None), key(Some(1_000)), key(Some(0))],
        };
        let active = |version: &str, since: i64| {
            let version = version.to_owned();
            Some(ActiveSecret { version, since: at(since), previous_retired_at: None, retired: None })
        };
        let valid = |active: Option<ActiveSecret>, now: i64| {
            let retired = keys.valid(active.as_ref(), HOUR, at(now)).map(|key| key.retired_at);
            retired.map(|at| at.map(Timestamp::as_second)).collect::<Vec<_>>()
        };
        // A function may sign for 1 h and 10 s after a retirement, and a token lives for 1 h.
        assert_eq!(valid(active("v2", 5_000), 7_209), [None, Some(1_000), Some(0)]);
        assert_eq!(valid(active("v2", 5_000), 7_210), [None, Some(1_000)]);
        assert_eq!(valid(active("v2", 5_000), 12_209), [None, Some(1_000)]);
        assert_eq!(valid(active("v2", 5_000), 12_210), [None]);
        assert_eq!(valid(active("v1", 0), 99_999), [None, Some(1_000)], "the successor does not sign yet");
        assert_eq!(valid(active("v0", 0), 8_210), [None], "the current version was edited by hand");
        assert_eq!(valid(None, 8_210), [None]);
    }
}
