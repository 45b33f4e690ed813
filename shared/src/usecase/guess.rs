//! Verifying a password against what whoever guesses has left (docs/design/security.md#rule-7 to #rule-11).

use std::{net::IpAddr, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use backon::{ExponentialBuilder, Retryable};
use futures_util::future::join_all;
use jiff::Timestamp;

use super::Service;
use crate::{
    domain::{AttemptId, Failure, KnownDevice, Limit, Password, Policy, TenantId, User, UserId},
    port::{AttemptBudget, AttemptKey, BudgetOf, HourBudget, Reservation, Verdict},
};

/// How long a login waits for a place in all: well within a function's own time.
const WAITS_FOR: Duration = Duration::from_secs(4);
/// A tenant's budget of at least so many is kept in parts, so that no one item takes all of an
/// attack's writes: a partition takes 1,000 a second (docs/design/storage.md).
const PART: u32 = 1_000;
/// Most of those parts.
const MAX_PARTS: u32 = 16;

/// Where a guess comes from: it decides what binds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    /// A device that logged in before: its own attempts alone bind it (docs/design/security.md#rule-10). `None`: anybody,
    /// bound by the user's other attempts, and the budgets of address and tenant.
    pub(super) device: Option<KnownDevice>,
    /// The client's address.
    pub(super) ip: Option<IpAddr>,
}

impl Origin {
    /// The budgets that a guess at `user`'s password is held against.
    pub(super) fn budgets(
        self,
        tenant: &TenantId,
        user: &UserId,
        policy: &Policy,
        now: Timestamp,
    ) -> Vec<HourBudget> {
        if self.device.is_some() {
            return Vec::new();
        }
        let (part, share) = part_of(user, policy.failures_per_tenant);
        let of_address = (BudgetOf::WrongPasswords(self.ip), policy.failures_per_ip);
        let of_tenant = (BudgetOf::TenantPart(part), share);
        let budget = |(of, max)| HourBudget { tenant: tenant.clone(), of, max, now };
        [of_address, of_tenant].map(budget).into()
    }
}

/// Which part of its tenant's budget a user's failures are counted in, and how large that is.
fn part_of(user: &UserId, budget: u32) -> (u32, u32) {
    let parts = (budget / PART).clamp(1, MAX_PARTS);
    let hash = digest(&SHA256, user.as_str().as_bytes());
    let hash = hash.as_ref().first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    (hash % parts, budget.div_ceil(parts))
}

/// A place among the user's attempts, and what its guess took of the budgets.
pub(super) struct Place {
    id: AttemptId,
    /// Where the guess comes from: a device that is none any more is a stranger.
    pub(super) origin: Origin,
    disable_after: u32,
    seen: Vec<AttemptId>,
    /// Counted once the guess was wrong.
    owed: Vec<HourBudget>,
    /// Taken before, and given back unless the guess was wrong.
    taken: Vec<HourBudget>,
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
    UnknownDevice,
    Refused(Failure),
}

/// Why there is no part of a budget.
enum NoPart {
    None,
    Refused(Failure),
}

impl Service {
    /// Takes a place, waiting some seconds for one while others are being verified.
    ///
    /// # Errors
    /// `AccountLocked`; `PasswordDisabled`; `RateLimited` when every place stayed busy, or too many
    /// guesses at this user's password failed within the hour; `Unavailable`.
    pub(super) async fn reserve(
        &self,
        tenant: &TenantId,
        user: &UserId,
        origin: Origin,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<Place, Failure> {
        let budget = AttemptBudget {
            max: policy.max_attempts,
            per_hour: usize::try_from(policy.failures_per_user).unwrap_or(usize::MAX),
            disable_after: policy.disable_after,
            lockout_millis: i64::try_from(policy.lockout.as_millis()).unwrap_or(i64::MAX),
        };
        let id = self.attempt_id(now)?;
        let attempt = |origin: Origin| async move {
            let key = AttemptKey { tenant, user, device: origin.device, id };
            let refused = match self.store.reserve_attempt(&key, budget, now).await {
                Ok(Reservation::Granted(seen)) => return Ok((origin, seen)),
                Ok(Reservation::UnknownDevice) => return Err(NoPlace::UnknownDevice),
                Ok(Reservation::Busy) => return Err(NoPlace::Busy),
                Ok(Reservation::Locked(until)) => Failure::AccountLocked(until),
                Ok(Reservation::Limited(until)) => {
                    Failure::RateLimited(Limit::User, until.duration_since(now).unsigned_abs())
                }
                Ok(Reservation::Disabled) => Failure::PasswordDisabled,
                Err(failure) => failure,
            };
            Err(NoPlace::Refused(refused))
        };
        // A place is held for one hash: some 10 ms, more when many wait for the same cores.
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(10))
            .with_max_delay(Duration::from_millis(250))
            .with_max_times(25)
            .with_total_delay(Some(WAITS_FOR))
            .with_jitter();
        let is_busy = |refusal: &NoPlace| matches!(refusal, NoPlace::Busy);
        let mut taken = (|| attempt(origin)).retry(backoff).when(is_busy).await;
        if matches!(taken, Err(NoPlace::UnknownDevice)) {
            let stranger = Origin { device: None, ..origin };
            taken = (|| attempt(stranger)).retry(backoff).when(is_busy).await;
        }
        let (origin, seen) = taken.map_err(|refusal| match refusal {
            NoPlace::Busy | NoPlace::UnknownDevice => {
                Failure::RateLimited(Limit::Busy, Duration::from_secs(1))
            }
            NoPlace::Refused(failure) => failure,
        })?;
        let disable_after = budget.disable_after;
        Ok(Place { id, origin, disable_after, seen, owed: Vec::new(), taken: Vec::new() })
    }

    /// Holds a guess against its budgets, of which so much was `used` when they were read. While that
    /// is less than half, a failure is counted once it happened; from there on every guess takes its
    /// part before it is verified.
    ///
    /// # Errors
    /// `RateLimited` until the end of the hour; `Unavailable`. What was taken until then is given back
    /// with the place.
    pub(super) async fn charge(
        &self,
        place: &mut Place,
        budgets: Vec<HourBudget>,
        used: &[u32],
    ) -> Result<(), Failure> {
        let used = used.iter().copied().chain(std::iter::repeat(u32::MAX));
        let budgets: Vec<_> = budgets.into_iter().zip(used).collect();
        if let Some((spent, _)) = budgets.iter().find(|(budget, used)| *used >= budget.max) {
            return Err(spent.exhausted());
        }
        let (scarce, ample): (Vec<_>, Vec<_>) =
            budgets.into_iter().partition(|(budget, used)| *used >= budget.max / 2);
        place.owed = ample.into_iter().map(|(budget, _)| budget).collect();
        self.take(place, scarce.into_iter().map(|(budget, _)| budget).collect()).await
    }

    /// Takes a guess's part of every budget before it is verified; one after the other, so that whoever
    /// is refused by the first takes nothing of the second from others. Parts that others took may come
    /// back within a hash: it waits that long for one.
    ///
    /// # Errors
    /// As [`Self::charge`].
    pub(super) async fn take(&self, place: &mut Place, budgets: Vec<HourBudget>) -> Result<(), Failure> {
        for budget in budgets {
            let attempt = || async {
                let left = self.store.take_from_budget(&budget).await.map_err(NoPart::Refused)?;
                if left { Ok(()) } else { Err(NoPart::None) }
            };
            let backoff = ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(50))
                .with_max_times(4)
                .with_jitter();
            let taken = attempt.retry(backoff).when(|refusal| matches!(refusal, NoPart::None)).await;
            taken.map_err(|refusal| match refusal {
                NoPart::None => budget.exhausted(),
                NoPart::Refused(failure) => failure,
            })?;
            place.taken.push(budget);
        }
        Ok(())
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
        let attempt = AttemptKey { tenant, user, device: place.origin.device, id: place.id };
        let (verdict, budgets) = match guess {
            Guess::Wrong => (Verdict::Failed { disable_after: place.disable_after }, &place.owed),
            Guess::Right => (Verdict::Succeeded(&place.seen), &place.taken),
            Guess::Unused => (Verdict::Unused, &place.taken),
        };
        let adjusted = join_all(budgets.iter().map(|budget| async move {
            match guess {
                Guess::Wrong => self.store.count_against_budget(budget).await,
                Guess::Right | Guess::Unused => self.store.return_to_budget(budget).await,
            }
        }));
        let (settled, adjusted) = tokio::join!(self.store.settle_attempt(&attempt, &verdict), adjusted);
        adjusted.into_iter().fold(settled, Result::and)
    }

    /// [`Self::settle`] where something else is answered already: what cannot be settled is logged.
    pub(super) async fn settle_quietly(&self, tenant: &TenantId, user: &UserId, place: &Place, guess: Guess) {
        if let Err(failure) = self.settle(tenant, user, place, guess).await {
            tracing::warn!(%failure, "attempt.not_settled");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // docs/design/security.md#rule-10: no part is larger than its share, and users are spread over all of them.
    #[test]
    fn a_tenants_budget_is_kept_in_parts() {
        for (budget, parts, share) in
            [(1, 1, 1), (999, 1, 999), (2_000, 2, 1_000), (10_000, 10, 1_000), (100_000, 16, 6_250)]
        {
            let mut counts = vec![0; parts];
            for n in 0..1_600 {
                let (part, of) = part_of(&UserId::parse(&format!("user-{n}")).unwrap(), budget);
                assert_eq!(of, share, "{budget}");
                counts[part as usize] += 1;
            }
            assert!(counts.iter().all(|count| count * parts > 800), "{budget}: {counts:?}");
        }
    }
}
