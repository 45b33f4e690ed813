//! Limits of the retired keys in a secret document (docs/design/security.md#rule-17).

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::after;

/// Time for which a retired key stays in a secret document. Sessions last at most 365 days (`session_life_seconds`)
/// and device proofs 180 days. Two days are added because a version becomes current some time after its creation.
const KEPT: Duration = Duration::from_secs(367 * 24 * 60 * 60);
/// Maximum number of retired keys of one kind. It permits a rotation every three days.
pub(crate) const MAX_RETIRED: usize = 128;

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
        drop_ended(&mut kept, at(367 * DAY + many - 1), of);
        assert_eq!(kept, [("root", None), ("other", None)]);
    }
}
