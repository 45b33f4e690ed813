//! Verifying a password against a user's attempt budget (security 7, 9 and 11).

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use jiff::Timestamp;

use super::Service;
use crate::{
    domain::{AttemptId, Failure, Password, Policy, TenantId, User, UserId},
    port::{AttemptBudget, AttemptKey, Reservation, Verdict},
};

/// How long a login waits for a place in all: well within a function's own time.
const WAITS_FOR: Duration = Duration::from_secs(4);

/// A place among the user's attempts.
pub(super) struct Place {
    id: AttemptId,
    seen: Vec<AttemptId>,
}

/// How a guess ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Guess {
    /// The password was wrong.
    Wrong,
    /// It was right and opened what it was for: the failures before it are forgiven.
    Right,
    /// It was right but opened nothing, or was never verified: the place alone is given back.
    Unused,
}

/// Why there is no place yet.
enum NoPlace {
    Busy,
    Refused(Failure),
}

impl Service {
    /// Takes a place, waiting some seconds for one while others are being verified.
    ///
    /// # Errors
    /// `AccountLocked`; `RateLimited` when every place stayed busy; `Unavailable`.
    pub(super) async fn reserve(
        &self,
        tenant: &TenantId,
        user: &UserId,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<Place, Failure> {
        let budget = AttemptBudget {
            max: policy.max_attempts,
            lockout_millis: i64::try_from(policy.lockout.as_millis()).unwrap_or(i64::MAX),
        };
        let id = self.attempt_id(now)?;
        let key = AttemptKey { tenant, user, id };
        let attempt = || async {
            match self.store.reserve_attempt(&key, budget, now).await {
                Ok(Reservation::Granted(seen)) => Ok(Place { id, seen }),
                Ok(Reservation::Locked(until)) => Err(NoPlace::Refused(Failure::AccountLocked(until))),
                Ok(Reservation::Busy) => Err(NoPlace::Busy),
                Err(failure) => Err(NoPlace::Refused(failure)),
            }
        };
        // A place is held for one hash: some 10 ms, more when many wait for the same cores.
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(10))
            .with_max_delay(Duration::from_millis(250))
            .with_max_times(25)
            .with_total_delay(Some(WAITS_FOR))
            .with_jitter();
        attempt.retry(backoff).when(|refusal| matches!(refusal, NoPlace::Busy)).await.map_err(|refusal| {
            match refusal {
                NoPlace::Busy => Failure::RateLimited(Duration::from_secs(1)),
                NoPlace::Refused(failure) => failure,
            }
        })
    }

    /// Whether `password` is `user`'s. Without a user, the same work and `false`.
    pub(super) async fn verify_password(
        &self,
        password: Password,
        user: Option<&User>,
        policy: &Policy,
    ) -> Result<bool, Failure> {
        self.passwords.verify(password, user.map(|user| user.password.clone()), policy.hash_cost).await
    }

    /// Says how the guess ended.
    ///
    /// # Errors
    /// `Unavailable`: the place stays taken, and counts as failed in the end.
    pub(super) async fn settle(
        &self,
        tenant: &TenantId,
        user: &UserId,
        place: &Place,
        guess: Guess,
    ) -> Result<(), Failure> {
        let verdict = match guess {
            Guess::Wrong => Verdict::Failed,
            Guess::Right => Verdict::Succeeded(&place.seen),
            Guess::Unused => Verdict::Succeeded(&[]),
        };
        self.store.settle_attempt(&AttemptKey { tenant, user, id: place.id }, &verdict).await
    }

    /// [`Self::settle`] where something else is answered already: what cannot be settled is logged.
    pub(super) async fn settle_quietly(&self, tenant: &TenantId, user: &UserId, place: &Place, guess: Guess) {
        if let Err(failure) = self.settle(tenant, user, place, guess).await {
            tracing::warn!(%failure, "attempt.not_settled");
        }
    }
}
