//! Password verification with attempt limits (docs/design/security.md#rule-7 to #rule-11).
//!
//! [`Service::reserve_attempt`] takes one of the user's attempt slots. Each slot ends in exactly one of
//! [`AttemptSlot::wrong`], [`AttemptSlot::right`] and [`AttemptSlot::unused`].

use std::{net::IpAddr, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder, Retryable};
use futures_util::future::join_all;
use jiff::Timestamp;

use super::tenant_request::TenantRequest;
use crate::{
    domain::{
        AttemptBudget, AttemptId, BudgetOf, Failure, GrantedSlot, HourBudget, Limit, Password, Reservation,
        SessionId, TrustedDevice, User, UserId,
    },
    port::PasswordCheck,
    store::{AttemptKey, Verdict},
    token::TenantKeys,
    usecase::Service,
};

/// Maximum total wait for an attempt slot. It is well below the timeout of a function.
const MAX_WAIT: Duration = Duration::from_secs(4);
/// Maximum time to store the result of an attempt. Longer than a burst of throttling, because an attempt without a
/// result holds its slot.
const MAX_SETTLING: Duration = Duration::from_secs(4);
/// A tenant's budget of at least this size is split into parts, so that an attack does not write all its
/// failures to one item: a DynamoDB partition takes 1,000 writes per second (docs/design/storage.md).
const PART: u32 = 1_000;
/// Maximum number of parts.
const MAX_PARTS: u32 = 16;

/// The source of a password attempt. It decides which limits apply.
#[derive(Debug, Clone, Copy)]
pub(in crate::usecase) struct AttemptSource {
    /// A trusted device: only its own attempts count (docs/design/security.md#rule-10). `None` for an unknown
    /// device: the attempts of all unknown devices count together, and the budgets of address and tenant apply.
    pub(in crate::usecase) device: Option<TrustedDevice>,
    /// Client address.
    pub(in crate::usecase) ip: Option<IpAddr>,
}

impl AttemptSource {
    /// The hourly budgets that apply to an attempt at `user`'s password.
    ///
    /// # Errors
    /// `Unavailable` when the tenant has no root key.
    pub(in crate::usecase) fn budgets(
        self,
        request: &TenantRequest<'_>,
        user: &UserId,
    ) -> Result<Vec<HourBudget>, Failure> {
        if self.device.is_some() {
            return Ok(Vec::new());
        }
        let policy = request.policy();
        let (part, share) = part_of(user, policy.failures_per_tenant, &request.keys)?;
        let of_address = (BudgetOf::WrongPasswords(self.ip), policy.failures_per_ip);
        let of_tenant = (BudgetOf::TenantPart(part), share);
        let budget =
            |(of, max)| HourBudget { tenant: request.tenant.id.clone(), of, max, now: request.now() };
        Ok([of_address, of_tenant].map(budget).into())
    }
}

/// The part of its tenant's budget that counts a user's failures, and the size of that part. The part depends on a
/// key, because an attacker could otherwise use up the part of one user with failures of invented users.
fn part_of(user: &UserId, budget: u32, keys: &TenantKeys) -> Result<(u32, u32), Failure> {
    let parts = (budget / PART).clamp(1, MAX_PARTS);
    Ok((keys.part_of(user, parts)?, budget.div_ceil(parts)))
}

/// A reserved attempt slot of a user, with the units that the attempt took from hourly budgets.
///
/// A slot that is dropped without an outcome stays reserved for a minute and then counts as failed.
#[must_use = "end the slot with wrong(), right() or unused()"]
pub(in crate::usecase) struct AttemptSlot<'a> {
    service: &'a Service,
    request: &'a TenantRequest<'a>,
    user: UserId,
    id: AttemptId,
    source: AttemptSource,
    budget: AttemptBudget,
    granted: GrantedSlot,
    /// Budgets that count the attempt if it turns out wrong.
    owed: Vec<HourBudget>,
    /// Budgets that already counted the attempt, and get the unit back unless it turns out wrong.
    taken: Vec<HourBudget>,
}

/// How a password attempt ended.
#[derive(Debug, Clone, Copy)]
enum AttemptOutcome {
    Wrong,
    Right,
    Unused,
}

/// Why a budget gave no unit.
enum BudgetError {
    UsedUp,
    Refused(Failure),
}

impl Service {
    /// Reserves an attempt slot. While other attempts hold all slots, waits for up to 4 s.
    ///
    /// # Errors
    /// - `AccountLocked`; `PasswordDisabled`.
    /// - `RateLimited`: every slot stayed busy, or too many attempts at this user's password failed within the
    ///   hour.
    /// - `Unavailable`.
    pub(in crate::usecase) async fn reserve_attempt<'a>(
        &'a self,
        request: &'a TenantRequest<'a>,
        user: &UserId,
        source: AttemptSource,
    ) -> Result<AttemptSlot<'a>, Failure> {
        let (tenant, policy, now) = (&request.tenant.id, request.policy(), request.now());
        let budget = AttemptBudget {
            max: policy.max_attempts,
            per_hour: usize::try_from(policy.failures_per_user).unwrap_or(usize::MAX),
            disable_after: policy.disable_after,
            lockout_millis: i64::try_from(policy.lockout.as_millis()).unwrap_or(i64::MAX),
        };
        let id = self.attempt_id(now)?;
        let key = |source: AttemptSource| AttemptKey { tenant, user, device: source.device, id };
        let (mut source, mut reserved) = (source, self.wait_for_slot(&key(source), budget, now).await?);
        if reserved == Reservation::UnknownDevice {
            source.device = None;
            reserved = self.wait_for_slot(&key(source), budget, now).await?;
        }
        let granted = match reserved {
            Reservation::Granted(granted) => granted,
            Reservation::Locked(until) => return Err(Failure::AccountLocked(until)),
            Reservation::Limited(until) => {
                let wait = until.duration_since(now).unsigned_abs();
                return Err(Failure::RateLimited(Limit::User, wait));
            }
            Reservation::Disabled => return Err(Failure::PasswordDisabled),
            Reservation::Busy | Reservation::UnknownDevice => {
                return Err(Failure::RateLimited(Limit::Busy, Duration::from_secs(1)));
            }
        };
        Ok(AttemptSlot {
            service: self,
            request,
            user: user.clone(),
            id,
            source,
            budget,
            granted,
            owed: Vec::new(),
            taken: Vec::new(),
        })
    }

    /// Reserves a slot. While all slots are busy, reads the attempts until a slot may be free, and then tries again.
    async fn wait_for_slot(
        &self,
        key: &AttemptKey<'_>,
        budget: AttemptBudget,
        now: Timestamp,
    ) -> Result<Reservation, Failure> {
        // A slot is held for one hash: about 10 ms, longer when hashes wait for the same cores.
        let mut waits = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(10))
            .with_max_delay(Duration::from_millis(250))
            .without_max_times()
            .with_total_delay(Some(MAX_WAIT))
            .with_jitter()
            .build();
        let mut reserved = self.store.reserve_attempt(key, budget, now).await?;
        while let (Reservation::Busy, Some(wait)) = (&reserved, waits.next()) {
            tokio::time::sleep(wait).await;
            if self.store.may_reserve(key, budget, now).await? {
                reserved = self.store.reserve_attempt(key, budget, now).await?;
            }
        }
        Ok(reserved)
    }

    /// Compares `password` with `user`'s hash. Without a user, does the same work and returns `Wrong`.
    pub(in crate::usecase) async fn verify_password(
        &self,
        request: &TenantRequest<'_>,
        password: Password,
        user: Option<&User>,
    ) -> Result<PasswordCheck, Failure> {
        let hash = user.map(|user| user.password.clone());
        self.passwords.verify(password, hash, request.policy().hash_cost).await
    }
}

impl AttemptSlot<'_> {
    /// Whether the attempt counts as one of an unknown device.
    pub(in crate::usecase) fn is_of_unknown_device(&self) -> bool {
        self.source.device.is_none()
    }

    /// Moves the attempt to the slots of unknown devices, because the proof of the device is older than the password.
    ///
    /// # Errors
    /// As [`Service::reserve_attempt`].
    pub(in crate::usecase) async fn of_unknown_device(self) -> Result<Self, Failure> {
        let (service, request, user) = (self.service, self.request, self.user.clone());
        let source = AttemptSource { device: None, ..self.source };
        self.unused().await;
        service.reserve_attempt(request, &user, source).await
    }

    /// ID of the session that a login with this attempt creates.
    pub(in crate::usecase) fn session_id(&self) -> SessionId {
        SessionId::of_attempt(self.id)
    }

    /// Applies `budgets`, of which `used` units were used when they were read. A budget that is less than half
    /// used counts the attempt only if it fails. Any other budget counts it now, before the verification. A
    /// burst that begins when at least half is used therefore cannot exceed the budget.
    ///
    /// # Errors
    /// `RateLimited` until the end of the hour; `Unavailable`. The slot gives back what it took.
    pub(in crate::usecase) async fn charge(
        &mut self,
        budgets: Vec<HourBudget>,
        used: &[u32],
    ) -> Result<(), Failure> {
        let used = used.iter().copied().chain(std::iter::repeat(u32::MAX));
        let budgets: Vec<_> = budgets.into_iter().zip(used).collect();
        let spent = budgets.iter().find(|(budget, used)| *used >= budget.max);
        let spent = spent.map(|(budget, _)| budget.exhausted());
        let (scarce, ample): (Vec<_>, Vec<_>) =
            budgets.into_iter().partition(|(budget, used)| *used >= budget.max / 2);
        if scarce.iter().any(|(budget, used)| matches!(budget.of, BudgetOf::TenantPart(_)) && *used > 0) {
            self.request.context.record_tenant_budget_half_used();
        }
        if let Some(failure) = spent {
            return Err(failure);
        }
        self.owed = ample.into_iter().map(|(budget, _)| budget).collect();
        self.take(scarce.into_iter().map(|(budget, _)| budget).collect()).await
    }

    /// Takes a unit of every budget that applies to the slot, without reading how much is used.
    ///
    /// # Errors
    /// As [`Self::charge`].
    pub(in crate::usecase) async fn charge_all(&mut self) -> Result<(), Failure> {
        let budgets = self.source.budgets(self.request, &self.user)?;
        self.take(budgets).await
    }

    /// Takes a unit of each budget, one after the other: an attempt that the first budget refuses takes nothing
    /// from the second. Waits about one hash for units that other attempts may give back.
    async fn take(&mut self, budgets: Vec<HourBudget>) -> Result<(), Failure> {
        for budget in budgets {
            let take = || async {
                let left = self.service.store.take_from_budget(&budget).await;
                if left.map_err(BudgetError::Refused)? { Ok(()) } else { Err(BudgetError::UsedUp) }
            };
            let backoff = ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(50))
                .with_max_times(4)
                .with_jitter();
            let taken = take.retry(backoff).when(|error| matches!(error, BudgetError::UsedUp)).await;
            taken.map_err(|error| match error {
                BudgetError::UsedUp => budget.exhausted(),
                BudgetError::Refused(failure) => failure,
            })?;
            self.taken.push(budget);
        }
        Ok(())
    }

    /// Ends the attempt: the password was wrong.
    ///
    /// # Errors
    /// `Unavailable`: the slot stays reserved and counts as failed after a minute.
    pub(in crate::usecase) async fn wrong(self) -> Result<(), Failure> {
        self.end(AttemptOutcome::Wrong).await
    }

    /// Ends the attempt: the password was right and the request succeeded. Forgives the failures before it.
    pub(in crate::usecase) async fn right(self) {
        self.end_quietly(AttemptOutcome::Right).await;
    }

    /// Ends the attempt without a trace: the password was not verified, or was right but the request failed for
    /// another reason. Forgives nothing.
    pub(in crate::usecase) async fn unused(self) {
        self.end_quietly(AttemptOutcome::Unused).await;
    }

    /// Logs an outcome that cannot be stored, because the response no longer depends on it.
    async fn end_quietly(self, outcome: AttemptOutcome) {
        if let Err(failure) = self.end(outcome).await {
            tracing::warn!(%failure, "attempt.not_settled");
        }
    }

    async fn end(self, outcome: AttemptOutcome) -> Result<(), Failure> {
        let store = &self.service.store;
        let tenant = &self.request.tenant.id;
        let attempt = AttemptKey { tenant, user: &self.user, device: self.source.device, id: self.id };
        let (verdict, budgets) = match outcome {
            AttemptOutcome::Wrong => {
                let GrantedSlot { is_expired, .. } = self.granted;
                (Verdict::Failed { budget: self.budget, now: self.request.now(), is_expired }, &self.owed)
            }
            AttemptOutcome::Right => (Verdict::Succeeded(&self.granted.seen), &self.taken),
            AttemptOutcome::Unused => (Verdict::Unused, &self.taken),
        };
        let adjusted = join_all(budgets.iter().map(|budget| async move {
            match outcome {
                AttemptOutcome::Wrong => store.count_against_budget(budget).await,
                AttemptOutcome::Right | AttemptOutcome::Unused => store.return_to_budget(budget).await,
            }
        }));
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_millis(500))
            .without_max_times()
            .with_jitter();
        let is_temporary = |failure: &Failure| matches!(failure, Failure::Unavailable(_));
        let settle = (|| store.settle_attempt(&attempt, &verdict)).retry(backoff).when(is_temporary);
        let settle = async {
            let timeout = |_| Failure::Unavailable("storing the result of an attempt timed out".into());
            tokio::time::timeout(MAX_SETTLING, settle).await.map_err(timeout)?
        };
        let (settled, adjusted) = tokio::join!(settle, adjusted);
        adjusted.into_iter().fold(settled, Result::and)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::tests::keys;

    // docs/design/security.md#rule-10
    #[test]
    fn tenant_budget_is_split_into_equal_parts_with_users_spread_over_them() {
        let keys = keys("a");
        for (budget, parts, share) in
            [(1, 1, 1), (999, 1, 999), (2_000, 2, 1_000), (10_000, 10, 1_000), (100_000, 16, 6_250)]
        {
            let mut counts = vec![0; parts];
            for n in 0..1_600 {
                let (part, of) =
                    part_of(&UserId::parse(&format!("user-{n}")).unwrap(), budget, &keys).unwrap();
                assert_eq!(of, share, "{budget}");
                counts[part as usize] += 1;
            }
            assert!(counts.iter().all(|count| count * parts > 800), "{budget}: {counts:?}");
        }
    }
}
