//! Limits of password attempts and codes: attempt slots, lockouts and hourly budgets
//! (docs/design/security.md#rule-7, docs/design/security.md#rule-8, docs/design/security.md#rule-10).

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use jiff::Timestamp;

use super::{AttemptCount, AttemptId, Failure, Limit, TenantId, after};

/// Age at which an unsettled attempt counts as failed. No function runs longer than 60 s.
const LEASE: Duration = Duration::from_secs(60);
/// Age after which the store checks whether an unsettled attempt created a session. Hashing and storing the result take
/// a few seconds at most.
const SETTLED_WITHIN: Duration = Duration::from_secs(15);
/// Time within which no more failures are forgotten than [`AttemptBudget::disable_after`], in seconds: 181 days.
const FORGETTING: i64 = 181 * 24 * 60 * 60;
/// Time that an attempt counts towards the hourly limit.
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Limits of the attempts at one user's password.
#[derive(Debug, Clone, Copy)]
pub struct AttemptBudget {
    /// Number of attempt slots. This many failures lock the user.
    pub max: usize,
    /// Failures within one hour, over all lockouts.
    pub per_hour: usize,
    /// Consecutive failures that disable the password (docs/design/security.md#rule-8). A new password or an
    /// operator's unlock ends this.
    pub disable_after: u32,
    /// Length of a lockout in milliseconds. Failures are forgotten after the same time without an attempt.
    pub lockout_millis: i64,
}

impl AttemptBudget {
    /// Returns the number of failures left until the password is disabled, if it is smaller than the usual number
    /// of attempt slots. `failures` are the consecutive failures so far.
    pub fn reduced_slots(self, failures: u32) -> Option<usize> {
        let left = usize::try_from(self.disable_after.saturating_sub(failures)).unwrap_or(usize::MAX);
        (left < self.max).then_some(left)
    }

    /// Returns the time by which one failure extends the life of the attempts, in seconds. An attacker who waits until
    /// the failures are forgotten has on average at most `disable_after` attempts in 181 days.
    pub fn failure_life(self) -> i64 {
        FORGETTING / i64::from(self.disable_after.max(1))
    }

    /// Returns the end of a lockout that is extended at `now`.
    pub fn lockout_end(self, now: Timestamp) -> Timestamp {
        Timestamp::from_millisecond(now.as_millisecond().saturating_add(self.lockout_millis))
            .unwrap_or(Timestamp::MAX)
    }
}

/// Result of a request for an attempt slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reservation {
    /// The attempt has a slot.
    Granted(GrantedSlot),
    /// The user is locked because of too many failures, until [`AttemptCount::locked_until`].
    Locked(AttemptCount),
    /// The hourly limit is reached. The next attempt is possible at this time.
    Limited(Timestamp),
    /// The password is disabled because of too many consecutive failures. A new password or an operator's unlock
    /// ends this.
    Disabled(AttemptCount),
    /// All slots are taken by attempts in progress.
    Busy,
    /// The device counts as unknown, because too many other devices have attempts.
    UnknownDevice,
}

/// State of the attempts when a slot was granted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GrantedSlot {
    /// Other attempts that had failed. A success forgives them.
    pub seen: Vec<AttemptId>,
    /// Whether the attempts had expired, so that DynamoDB may delete them at any time.
    pub is_expired: bool,
}

/// Attempts at one user's password, by one trusted device or by all unknown devices together.
#[derive(Debug, Clone, Default)]
pub struct AttemptState {
    /// Attempts that hold a slot.
    pub slots: BTreeSet<AttemptId>,
    /// Attempts that hold a slot and failed.
    pub failed: BTreeSet<AttemptId>,
    /// Attempts of the last hour that failed or are in progress. May contain older attempts.
    pub recent: BTreeSet<AttemptId>,
    /// Consecutive failures.
    pub failures: u32,
    /// Attempt slots of the current lockout, if fewer than usual.
    pub reduced_slots: Option<usize>,
    /// Time at which the failures are forgotten. `None` means that there are no attempts.
    pub quiet_at: Option<Timestamp>,
    /// Time at which all attempts of the user expire, in epoch seconds.
    pub expires_at: Option<i64>,
}

/// Next step for an attempt that did not get a slot at the first write.
#[derive(Debug, PartialEq, Eq)]
pub enum NextStep {
    /// The result is final.
    Return(Reservation),
    /// The lockout is over and is replaced by a new one.
    StartOver,
    /// These attempts no longer count towards the hourly limit and are removed.
    Forget(Vec<AttemptId>),
}

impl AttemptState {
    /// Returns the attempts that failed, including those whose process ended without a result.
    pub fn failed_attempts(&self, now: Timestamp) -> Vec<AttemptId> {
        self.slots.iter().copied().filter(|id| !self.is_in_progress(*id, now)).collect()
    }

    /// Returns the state for an attempt that got a slot.
    pub fn grant(&self, attempt: AttemptId, now: Timestamp) -> GrantedSlot {
        let seen = self.failed_attempts(now).into_iter().filter(|id| *id != attempt).collect();
        GrantedSlot { seen, is_expired: self.expires_at.is_some_and(|end| end < now.as_second()) }
    }

    /// Returns the attempts without a result that store none any more. Some of their logins may have succeeded.
    pub fn abandoned_attempts(&self, now: Timestamp) -> Vec<AttemptId> {
        let is_over = |id: &AttemptId| id.made_at().checked_add(SETTLED_WITHIN).is_ok_and(|end| end < now);
        self.slots.difference(&self.failed).copied().filter(is_over).collect()
    }

    /// Returns whether an attempt that waits for a slot may get one, or a final result, at the next write.
    pub fn may_proceed(&self, attempt: AttemptId, budget: AttemptBudget, now: Timestamp) -> bool {
        let has_slot = self.slots.len() < self.max_slots(budget) && self.recent.len() < budget.per_hour;
        has_slot || self.next_step(attempt, budget, now) != NextStep::Return(Reservation::Busy)
    }

    /// Returns the consecutive failures at the end of the lockout. Attempts without a result count as failed.
    pub fn final_failures(&self) -> u32 {
        let unsettled = self.slots.difference(&self.failed).count();
        self.failures.saturating_add(u32::try_from(unsettled).unwrap_or(u32::MAX))
    }

    /// Returns the attempts of the last hour, oldest first.
    pub fn last_hour(&self, now: Timestamp) -> Vec<AttemptId> {
        self.recent.iter().copied().filter(|id| end_of_hour(*id) > now).collect()
    }

    /// Decides what happens to an attempt that did not get a slot.
    pub fn next_step(&self, attempt: AttemptId, budget: AttemptBudget, now: Timestamp) -> NextStep {
        if self.slots.contains(&attempt) {
            // The SDK repeated a write whose response was lost. The first write reserved the slot.
            return NextStep::Return(Reservation::Granted(self.grant(attempt, now)));
        }
        let Some(quiet_at) = self.quiet_at else {
            // There are no earlier attempts, so that only the limit of trusted devices prevented the reservation.
            return NextStep::Return(Reservation::UnknownDevice);
        };
        let count = self.count(budget, now);
        if self.is_disabled(budget, now) {
            return NextStep::Return(Reservation::Disabled(count));
        }
        if count.locked_until.is_some() {
            return NextStep::Return(Reservation::Locked(count));
        }
        let is_over = quiet_at <= now;
        let recent = self.last_hour(now);
        let limited_until = self.limited_until(budget, now);
        let in_progress = recent.iter().filter(|id| self.is_in_progress(**id, now)).count();
        match limited_until {
            Some(at) if recent.len() - in_progress >= budget.per_hour => {
                NextStep::Return(Reservation::Limited(at))
            }
            None if is_over => NextStep::StartOver,
            None if self.recent.len() >= budget.per_hour => {
                NextStep::Forget(self.recent.iter().copied().filter(|id| !recent.contains(id)).collect())
            }
            // Attempts in progress may release their slots.
            _ => NextStep::Return(Reservation::Busy),
        }
    }

    /// Counts the failed attempts and names the limit that they count towards. If the password is disabled, these are
    /// the consecutive failures. Otherwise, these are the failures of the current lockout, whose last one locks the user.
    pub fn count(&self, budget: AttemptBudget, now: Timestamp) -> AttemptCount {
        if self.is_disabled(budget, now) {
            let failed = self.consecutive_failures(now);
            return AttemptCount { failed, max: budget.disable_after, locked_until: None };
        }
        let max = self.max_slots(budget);
        let quiet_at = self.quiet_at.filter(|quiet_at| *quiet_at > now);
        let failed = quiet_at.map_or(0, |_| self.failed_attempts(now).len());
        let limited_until = self.limited_until(budget, now);
        AttemptCount {
            failed: u32::try_from(failed).unwrap_or(u32::MAX),
            max: u32::try_from(max).unwrap_or(u32::MAX),
            locked_until: quiet_at.max(limited_until).filter(|_| failed >= max),
        }
    }

    /// Returns the number of attempt slots of the current lockout.
    fn max_slots(&self, budget: AttemptBudget) -> usize {
        budget.max.min(self.reduced_slots.unwrap_or(budget.max))
    }

    fn is_disabled(&self, budget: AttemptBudget, now: Timestamp) -> bool {
        self.consecutive_failures(now) >= budget.disable_after
    }

    /// Returns the consecutive failures. After the end of a lockout, attempts without a result count as failed.
    fn consecutive_failures(&self, now: Timestamp) -> u32 {
        let is_over = self.quiet_at.is_some_and(|quiet_at| quiet_at <= now);
        if is_over { self.final_failures() } else { self.failures }
    }

    /// Returns the time at which the hourly limit permits the next attempt, if the limit is reached.
    fn limited_until(&self, budget: AttemptBudget, now: Timestamp) -> Option<Timestamp> {
        let recent = self.last_hour(now);
        // The next attempt is possible when this one no longer counts.
        let blocking = recent.len().checked_sub(budget.per_hour).and_then(|index| recent.get(index));
        blocking.copied().map(end_of_hour)
    }

    /// Returns the attempts without a result whose process has ended.
    pub fn dead_attempts(&self, now: Timestamp) -> Vec<AttemptId> {
        self.slots.difference(&self.failed).copied().filter(|id| is_dead(*id, now)).collect()
    }

    fn is_in_progress(&self, id: AttemptId, now: Timestamp) -> bool {
        self.slots.contains(&id) && !self.failed.contains(&id) && !is_dead(id, now)
    }
}

/// Returns whether the process of an attempt has ended.
fn is_dead(id: AttemptId, now: Timestamp) -> bool {
    id.made_at().checked_add(LEASE).is_ok_and(|end| end < now)
}

fn end_of_hour(id: AttemptId) -> Timestamp {
    after(id.made_at(), HOUR)
}

/// Limit of failures within the current hour (docs/design/security.md#rule-10, docs/design/security.md#rule-19).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HourBudget {
    /// Tenant.
    pub tenant: TenantId,
    /// Subject of the budget.
    pub of: BudgetOf,
    /// Failures within one hour.
    pub max: u32,
    /// Current time.
    pub now: Timestamp,
}

impl HourBudget {
    const SECONDS: i64 = 60 * 60;

    /// Returns the current hour, counted from the epoch.
    pub fn hour(&self) -> i64 {
        self.now.as_second().div_euclid(Self::SECONDS)
    }

    /// Returns the end of the hour in epoch seconds.
    pub fn ends_at(&self) -> i64 {
        self.hour().saturating_add(1).saturating_mul(Self::SECONDS)
    }

    /// Returns the failure for requests after the budget is used up.
    pub fn exhausted(&self) -> Failure {
        let left = self.ends_at().saturating_sub(self.now.as_second());
        let limit = match self.of {
            BudgetOf::WrongCodes(_) | BudgetOf::WrongPasswords(_) => Limit::Address,
            BudgetOf::TenantPart(_) => Limit::Tenant,
        };
        Failure::RateLimited(limit, Duration::from_secs(u64::try_from(left).unwrap_or_default()))
    }
}

/// Subject of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetOf {
    /// Wrong codes from one address. All unknown addresses (`None`) share one budget.
    WrongCodes(Option<IpAddr>),
    /// Wrong passwords from one address. All unknown addresses (`None`) share one budget.
    WrongPasswords(Option<IpAddr>),
    /// Wrong passwords of one part of the tenant's users.
    TenantPart(u32),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::tests::at;

    const BUDGET: AttemptBudget =
        AttemptBudget { max: 2, per_hour: 4, disable_after: 6, lockout_millis: 600_000 };

    fn attempt(second: i64, number: u8) -> AttemptId {
        AttemptId::new(at(second), [number; 16])
    }

    /// A lockout with these failed attempts that ends at second 1,000.
    fn state(failed: &[AttemptId]) -> AttemptState {
        let failed: BTreeSet<_> = failed.iter().copied().collect();
        AttemptState {
            slots: failed.clone(),
            recent: failed.clone(),
            failures: failed.len().try_into().unwrap(),
            failed,
            quiet_at: Some(at(1_000)),
            ..AttemptState::default()
        }
    }

    fn next(state: &AttemptState, second: i64) -> NextStep {
        state.next_step(attempt(second, 99), BUDGET, at(second))
    }

    /// The count of a lockout with two failures.
    fn locked(until: Timestamp) -> AttemptCount {
        AttemptCount { failed: 2, max: 2, locked_until: Some(until) }
    }

    // docs/design/contract.md#failed-attempts
    #[test]
    fn count_has_a_lockout_time_from_the_last_failure_until_the_end_of_the_lockout() {
        let count = |failed, locked_until| AttemptCount { failed, max: 2, locked_until };
        let one = state(&[attempt(400, 1)]);
        assert_eq!(AttemptState::default().count(BUDGET, at(400)), count(0, None));
        assert_eq!(one.count(BUDGET, at(410)), count(1, None));
        let two = state(&[attempt(400, 1), attempt(401, 2)]);
        assert_eq!(two.count(BUDGET, at(999)), locked(at(1_000)));
        assert_eq!(two.count(BUDGET, at(1_000)), count(0, None));
        // An attempt in progress has not failed yet.
        let mut parallel = one.clone();
        parallel.slots.insert(attempt(405, 3));
        assert_eq!(parallel.count(BUDGET, at(410)), count(1, None));
        assert_eq!(parallel.count(BUDGET, at(466)), locked(at(1_000)));
        // Fewer failures than usual are left until the password is disabled.
        let last = AttemptState { reduced_slots: Some(1), ..one };
        assert_eq!(last.count(BUDGET, at(410)), AttemptCount { max: 1, ..count(1, Some(at(1_000))) });
        // The hourly limit outlasts the lockout.
        let recent = [attempt(300, 5), attempt(301, 6), attempt(400, 1), attempt(401, 2)];
        let limited = AttemptState { recent: recent.into(), ..two };
        assert_eq!(limited.count(BUDGET, at(410)), locked(at(3_900)));
    }

    #[test]
    fn full_slots_with_failures_lock_the_user() {
        let full = state(&[attempt(400, 1), attempt(401, 2)]);
        assert_eq!(next(&full, 410), NextStep::Return(Reservation::Locked(locked(at(1_000)))));
        assert_eq!(next(&full, 1_000), NextStep::StartOver);
    }

    #[test]
    fn attempts_in_progress_are_busy_until_their_lease_ends() {
        let mut state = state(&[attempt(400, 1)]);
        state.slots.insert(attempt(400, 2));
        assert_eq!(next(&state, 410), NextStep::Return(Reservation::Busy));
        assert_eq!(next(&state, 460), NextStep::Return(Reservation::Busy));
        assert_eq!(next(&state, 461), NextStep::Return(Reservation::Locked(locked(at(1_000)))));
        assert_eq!(state.final_failures(), 2);
    }

    #[test]
    fn repeated_reservation_keeps_its_slot() {
        let mut state = state(&[attempt(400, 1)]);
        state.slots.insert(attempt(410, 99));
        let granted = GrantedSlot { seen: vec![attempt(400, 1)], is_expired: false };
        assert_eq!(next(&state, 410), NextStep::Return(Reservation::Granted(granted)));
    }

    #[test]
    fn hourly_limit_outlasts_a_lockout() {
        let recent = [attempt(400, 1), attempt(401, 2), attempt(402, 3), attempt(403, 4)];
        let mut state = state(&recent[2..]);
        state.recent = recent.into();
        assert_eq!(next(&state, 1_000), NextStep::Return(Reservation::Limited(at(4_000))));
        state.quiet_at = Some(at(5_000));
        (state.slots, state.failed) = (BTreeSet::new(), BTreeSet::new());
        assert_eq!(next(&state, 4_001), NextStep::Forget(vec![attempt(400, 1), attempt(401, 2)]));
    }

    #[test]
    fn consecutive_failures_disable_the_password() {
        let state = AttemptState { failures: 6, ..state(&[attempt(400, 1)]) };
        let disabled = AttemptCount { failed: 6, max: 6, locked_until: None };
        assert_eq!(next(&state, 410), NextStep::Return(Reservation::Disabled(disabled)));
        assert_eq!(state.count(BUDGET, at(410)), disabled);
        assert_eq!(BUDGET.reduced_slots(4), None);
        assert_eq!(BUDGET.reduced_slots(5), Some(1));
    }

    // docs/design/security.md#rule-8
    #[test]
    fn failures_are_forgotten_at_most_as_often_as_they_may_occur() {
        for disable_after in 1..=100 {
            let life = AttemptBudget { disable_after, ..BUDGET }.failure_life();
            assert!(life > 25 * 60 * 60, "a failure must outlast the longest lockout and the hourly limit");
            assert!((FORGETTING - 100..=FORGETTING).contains(&(life * i64::from(disable_after))));
        }
    }

    // docs/design/security.md#rule-7
    #[test]
    fn unsettled_attempts_are_abandoned_after_15_seconds_and_dead_after_60() {
        let mut state = state(&[attempt(400, 1)]);
        state.slots.insert(attempt(400, 2));
        let unsettled = vec![attempt(400, 2)];
        for (second, abandoned, dead) in
            [(415, false, false), (416, true, false), (460, true, false), (461, true, true)]
        {
            let expected = |is_listed: bool| if is_listed { unsettled.clone() } else { Vec::new() };
            assert_eq!(state.abandoned_attempts(at(second)), expected(abandoned), "{second}");
            assert_eq!(state.dead_attempts(at(second)), expected(dead), "{second}");
        }
    }

    // docs/design/security.md#rule-7
    #[test]
    fn waiting_attempt_proceeds_when_a_slot_is_free_or_its_result_is_final() {
        let proceeds =
            |state: &AttemptState, second| state.may_proceed(attempt(second, 99), BUDGET, at(second));
        let mut busy = state(&[attempt(400, 1)]);
        assert!(proceeds(&busy, 410), "one of two slots is free");
        busy.slots.insert(attempt(400, 2));
        assert!(!proceeds(&busy, 410), "both slots are taken and one attempt is in progress");
        assert!(proceeds(&busy, 461), "the attempt in progress is dead, so that the user is locked");
        let reduced = AttemptState { reduced_slots: Some(1), slots: [attempt(400, 2)].into(), ..state(&[]) };
        assert!(!proceeds(&reduced, 410), "the only slot is taken");
        let mut limited = state(&[]);
        limited.recent = (1..=4).map(|number| attempt(400, number)).collect();
        limited.slots = [attempt(400, 1)].into();
        assert!(!proceeds(&limited, 410), "the hourly limit includes an attempt in progress");
        limited.failed = limited.slots.clone();
        assert!(proceeds(&limited, 410), "the hourly limit is final");
    }

    // docs/design/security.md#rule-7
    #[test]
    fn lockout_ends_after_its_length() {
        assert_eq!(BUDGET.lockout_end(at(400)), at(1_000));
        let endless = AttemptBudget { lockout_millis: i64::MAX, ..BUDGET };
        assert_eq!(endless.lockout_end(at(400)), Timestamp::MAX);
    }

    // docs/design/security.md#rule-7
    #[test]
    fn reduced_slots_lock_the_user_earlier() {
        let reduced = AttemptState { reduced_slots: Some(1), ..state(&[attempt(400, 1)]) };
        let count = AttemptCount { failed: 1, max: 1, locked_until: Some(at(1_000)) };
        assert_eq!(next(&reduced, 410), NextStep::Return(Reservation::Locked(count)));
    }

    #[test]
    fn attempt_counts_for_one_hour() {
        let state = state(&[attempt(400, 1), attempt(401, 2)]);
        assert_eq!(state.last_hour(at(3_999)), [attempt(400, 1), attempt(401, 2)]);
        assert_eq!(state.last_hour(at(4_000)), [attempt(401, 2)]);
    }

    #[test]
    fn grant_lists_other_failures_and_shows_whether_the_attempts_expired() {
        let state = AttemptState { expires_at: Some(500), ..state(&[attempt(400, 1), attempt(401, 2)]) };
        let seen = vec![attempt(400, 1)];
        for (second, is_expired) in [(500, false), (501, true)] {
            let granted = GrantedSlot { seen: seen.clone(), is_expired };
            assert_eq!(state.grant(attempt(401, 2), at(second)), granted, "{second}");
        }
    }

    // docs/design/security.md#rule-10
    #[test]
    fn hourly_budget_ends_at_the_full_hour() {
        let budget = |second| HourBudget {
            tenant: TenantId::parse("t").unwrap(),
            of: BudgetOf::TenantPart(0),
            max: 1,
            now: at(second),
        };
        let exhausted = |budget: &HourBudget| match budget.exhausted() {
            Failure::RateLimited(limit, wait) => (limit, wait.as_secs()),
            other => panic!("{other:?}"),
        };
        for (second, left) in [(7_200, 3_600), (7_201, 3_599), (10_799, 1)] {
            let budget = budget(second);
            assert_eq!((budget.hour(), budget.ends_at()), (2, 10_800), "{second}");
            assert_eq!(exhausted(&budget), (Limit::Tenant, left), "{second}");
        }
        let of_address = HourBudget { of: BudgetOf::WrongCodes(None), ..budget(7_200) };
        assert_eq!(exhausted(&of_address), (Limit::Address, 3_600));
    }
}
