//! The end of the time in which a retired key, or a replaced algorithm, signed (docs/design/security.md#rule-17).

use std::time::Duration;

use jiff::Timestamp;

/// Time for which a function uses a cached secret while Secrets Manager is unavailable. A function may sign with a
/// retired key for this long.
pub const MAX_CACHED: Duration = Duration::from_secs(60 * 60);
/// Time for which the previous version signs after the record has named the current one. It is longer than any
/// function uses an older record, so that every function knows a key before another one signs with it
/// (docs/design/security.md#rule-18).
pub const OVERLAP: Duration = Duration::from_secs(10);

/// Latest time at which a retired key, or a replaced algorithm, may have signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SigningEnd(Timestamp);

impl SigningEnd {
    /// Returns the end for a key that was retired at `retired_at`.
    pub fn of_key(retired_at: Timestamp) -> Self {
        Self(after(retired_at, MAX_CACHED + OVERLAP))
    }

    /// Returns the end for an algorithm that was replaced at `replaced_at`.
    pub fn of_algorithm(replaced_at: Timestamp) -> Self {
        Self(after(replaced_at, OVERLAP))
    }

    /// Returns whether a signature may come from before the end, by its stated time.
    pub fn admits(self, signed_at: Timestamp) -> bool {
        signed_at <= self.0
    }

    /// Returns whether something that was signed before the end, and lives for `life`, may be valid.
    pub fn may_live(self, life: Duration, now: Timestamp) -> bool {
        now < after(self.0, life)
    }
}

/// Returns `start` plus `duration`, at most the last representable time.
pub fn after(start: Timestamp, duration: Duration) -> Timestamp {
    start.checked_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::tests::at;

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
