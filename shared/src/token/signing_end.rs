//! The end of the time in which a retired key, or a replaced algorithm, signed (docs/design/security.md#rule-17).

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    cache::after,
    domain::{MAX_CACHED, OVERLAP},
};

/// Time for which a retired key stays in a secret document. Sessions last at most 365 days (`session_life_seconds`)
/// and device proofs 180 days. Two days are added because a version becomes current some time after its creation.
const KEPT: Duration = Duration::from_secs(367 * 24 * 60 * 60);
/// Maximum number of retired keys of one kind. It permits a rotation every three days.
pub(crate) const MAX_RETIRED: usize = 128;

/// Latest time at which a retired key, or a replaced algorithm, may have signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SigningEnd(Timestamp);

impl SigningEnd {
    /// Returns the end for a key that was retired at `retired_at`.
    pub(super) fn of_key(retired_at: Timestamp) -> Self {
        Self(after(retired_at, MAX_CACHED + OVERLAP))
    }

    /// Returns the end for an algorithm that was replaced at `replaced_at`.
    pub(super) fn of_algorithm(replaced_at: Timestamp) -> Self {
        Self(after(replaced_at, OVERLAP))
    }

    /// Returns whether a signature may come from before the end, by its stated time.
    pub(super) fn admits(self, signed_at: Timestamp) -> bool {
        signed_at <= self.0
    }

    /// Returns whether something that was signed before the end, and lives for `life`, may be valid.
    pub(super) fn may_live(self, life: Duration, now: Timestamp) -> bool {
        now < after(self.0, life)
    }
}

/// Removes the retired keys that are too old, and the oldest ones if there are too many of one kind. `of` returns the
/// kind of a key, and the time of its retirement.
pub(crate) fn drop_ended<K, Kind: PartialEq>(
    keys: &mut Vec<K>,
    now: Timestamp,
    of: impl Fn(&K) -> (Kind, Option<Timestamp>),
) {
    keys.retain(|key| of(key).1.is_none_or(|retired_at| now < after(retired_at, KEPT)));
    let all: Vec<_> = keys.iter().map(&of).collect();
    keys.retain(|key| {
        let (kind, retired_at) = of(key);
        let is_newer = |(other, at): &&(Kind, Option<Timestamp>)| *other == kind && *at > retired_at;
        retired_at.is_none() || all.iter().filter(is_newer).count() < MAX_RETIRED
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::tests::at;

    const DAY: i64 = 24 * 60 * 60;

    // docs/design/security.md#rule-17
    #[test]
    fn retired_keys_are_limited_in_age_and_in_number_per_kind() {
        let many = i64::try_from(MAX_RETIRED).unwrap() + 2;
        let mut keys: Vec<_> = (0..many).map(|second| ("root", Some(second))).collect();
        keys.extend([("root", None), ("other", Some(0)), ("other", None)]);
        let of = |key: &(&'static str, Option<i64>)| (key.0, key.1.map(at));
        let mut kept = keys.clone();
        drop_ended(&mut kept, at(367 * DAY - 1), of);
        assert_eq!(
            kept,
            keys.iter()
                .filter(|key| **key != ("root", Some(0)) && **key != ("root", Some(1)))
                .copied()
                .collect::<Vec<_>>()
        );
        drop_ended(&mut kept, at(367 * DAY + many), of);
        assert_eq!(kept, [("root", None), ("other", None)]);
    }

    // docs/design/security.md#rule-17
    #[test]
    fn end_of_a_key_includes_the_life_of_caches_and_the_activation() {
        let end = SigningEnd::of_key(at(0));
        assert!(end.admits(at(3_610)) && !end.admits(at(3_611)));
        assert!(end.may_live(Duration::from_secs(60), at(3_669)));
        assert!(!end.may_live(Duration::from_secs(60), at(3_670)));
        assert!(SigningEnd::of_algorithm(at(0)).admits(at(10)));
        assert!(!SigningEnd::of_algorithm(at(0)).admits(at(11)));
    }
}
