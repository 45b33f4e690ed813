//! The attempts item. It limits how many passwords of one user are verified between two successful logins, also for
//! concurrent requests (docs/design/security.md#rule-7).
//!
//! The item has one bucket for all unknown devices and one for each trusted device
//! (docs/design/security.md#rule-10). The buckets have the same attributes; the names of a device's attributes end with
//! `#` and the device ID. All buckets share one item so that one write deletes them after a password change.
//!
//! - `attempts`: IDs of the attempts that hold a slot. IDs make a repeated write harmless. An attempt without a result
//!   after 60 s counts as failed, because its process ended. An attempt whose login created a session does not count:
//!   the ID of the session follows from the ID of the attempt.
//! - `failed`: the attempts among them that failed. A success releases its own slot and the slots of the failures that
//!   its reservation returned, so that parallel logins with the correct password never lock the user.
//! - `quiet_at`: time at which both sets are forgotten, one lockout length after the last attempt.
//! - `recent`: attempts of the last hour that failed or are in progress. The hourly limit spans all lockouts.
//! - `failures`: consecutive failures. The write that stores a failure counts it exactly once. A success resets the count
//!   (docs/design/security.md#rule-8).
//! - `room`: attempt slots of a lockout, if fewer than usual remain until the password is disabled. It prevents
//!   more consecutive failures than allowed.
//!
//! The item expires after a time that each failure extends ([`AttemptBudget::failure_life`]). No write depends on whether
//! the user exists, because the time of the expiry would otherwise reveal it (docs/design/security.md#rule-9). If the
//! password is disabled, the item does not expire.
//!
//! A new password removes all attempts. The rules themselves are in `domain/lockout.rs`.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use jiff::Timestamp;

use super::{
    DynamoStore,
    item::{
        Attributes, corrupt, id_set, instant, number, string, to_id_set, to_instant, to_number, ttl_after,
    },
    keys::Key,
    table::{Expressions, Updated},
};
use crate::domain::{
    AttemptBudget, AttemptId, AttemptState, Failure, GrantedSlot, NextStep, Reservation, SessionId, TenantId,
    TrustedDevice, TrustedDeviceId, UserId,
};

/// Identity of one password attempt.
#[derive(Debug, Clone, Copy)]
pub struct AttemptKey<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// User ID from the request. The user may not exist.
    pub user: &'a UserId,
    /// Trusted device. `None` means an unknown device. Each trusted device, and all unknown devices together, have
    /// separate slots (docs/design/security.md#rule-10).
    pub device: Option<TrustedDevice>,
    /// Attempt ID.
    pub id: AttemptId,
}

/// Result of an attempt.
#[derive(Debug, Clone, Copy)]
pub enum Verdict<'a> {
    /// The password was wrong.
    Failed {
        /// Limits of the attempts.
        budget: AttemptBudget,
        /// Current time.
        now: Timestamp,
        /// [`GrantedSlot::is_expired`]. It only selects the write that is tried first.
        is_expired: bool,
    },
    /// The password was correct. Deletes the attempt and the failures that its reservation returned.
    Succeeded(&'a [AttemptId]),
    /// The password was not verified, or it was correct but no session was created. Deletes only the attempt.
    Unused,
}

/// Time that an item without failures is stored, in addition to the lockout. It covers the hourly limit and the
/// difference between clocks.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// TTL that is never reached: the end of the year 9999, in epoch seconds.
const FOREVER: i64 = 253_402_300_799;
/// Maximum number of devices with a bucket. It limits the item to about 20 kB with the default policy. Further devices
/// count as unknown. No bucket is evicted, because its consecutive failures would be forgotten.
const MAX_DEVICES: usize = 32;
/// Attempts to write the item while other requests change it.
const TRIES: usize = 4;

/// Attributes of a bucket.
const ATTRIBUTES: [&str; 6] = ["attempts", "failed", "failures", "quiet_at", "recent", "room"];

impl AttemptKey<'_> {
    /// Returns the name of an attribute of this attempt's bucket.
    fn attribute(&self, name: &str) -> String {
        attribute_of(self.device.map(|device| device.id), name)
    }

    /// Returns the names of the bucket's attributes by their `#` placeholders. DynamoDB rejects names that the
    /// expressions do not use.
    fn names(&self, change: &Expressions) -> Vec<(String, String)> {
        let texts = [&change.update, &change.condition];
        let is_used = |name: &str| texts.into_iter().flatten().any(|text| text.contains(name));
        let names = ATTRIBUTES.map(|name| (format!("#{name}"), self.attribute(name)));
        names.into_iter().filter(|(placeholder, _)| is_used(placeholder)).collect()
    }

    /// Decodes the attempts of this attempt's bucket.
    fn read(&self, item: &Attributes) -> Result<AttemptState, Failure> {
        to_bucket(item, self.device.map(|device| device.id))
    }
}

/// Returns the name of an attribute of a device's bucket.
fn attribute_of(device: Option<TrustedDeviceId>, name: &str) -> String {
    device.map_or_else(|| name.to_owned(), |device| format!("{name}#{device}"))
}

/// Decodes the bucket of a device.
fn to_bucket(item: &Attributes, device: Option<TrustedDeviceId>) -> Result<AttemptState, Failure> {
    let named = |name: &str| attribute_of(device, name);
    Ok(AttemptState {
        slots: to_id_set(item, &named("attempts"))?,
        failed: to_id_set(item, &named("failed"))?,
        recent: to_id_set(item, &named("recent"))?,
        failures: to_number(item, &named("failures"))?.unwrap_or_default(),
        reduced_slots: to_number(item, &named("room"))?,
        quiet_at: to_number(item, &named("quiet_at"))?.map(to_instant).transpose()?,
        expires_at: to_number(item, "expires_at")?,
    })
}

/// Decodes all buckets of an item, that of unknown devices first. `None` means unknown devices.
pub(super) fn to_buckets(item: &Attributes) -> Result<Vec<(Option<TrustedDeviceId>, AttemptState)>, Failure> {
    let named = item.keys().filter_map(|name| name.split_once('#'));
    let devices =
        named.map(|(_, device)| TrustedDeviceId::parse(device).map_err(|_| corrupt("trusted device")));
    let devices: BTreeSet<_> = devices.collect::<Result<_, _>>()?;
    let all = [None].into_iter().chain(devices.into_iter().map(Some));
    all.map(|device| Ok((device, to_bucket(item, device)?))).collect()
}

fn set_of(device: TrustedDeviceId) -> AttributeValue {
    AttributeValue::Ss(vec![device.to_string()])
}

/// Returns the TTL of an item without failures.
fn first_ttl(budget: AttemptBudget, now: Timestamp) -> i64 {
    ttl_after(budget.lockout_end(now), KEPT)
}

impl DynamoStore {
    /// Reserves an attempt slot (docs/design/storage.md#attempts).
    ///
    /// # Errors
    /// `Unavailable` when a write fails.
    pub async fn reserve_attempt(
        &self,
        attempt: &AttemptKey<'_>,
        budget: AttemptBudget,
        now: Timestamp,
    ) -> Result<Reservation, Failure> {
        for _ in 0..TRIES {
            let kept = match self.change_attempts(attempt, reserve_slot(attempt, budget, now)).await? {
                Ok(after) => {
                    let slot = attempt.read(&after)?.grant(attempt.id, now);
                    return Ok(Reservation::Granted(slot));
                }
                Err(kept) => attempt.read(&kept)?,
            };
            let abandoned = kept.abandoned_attempts(now);
            if !abandoned.contains(&attempt.id)
                && self.settle_abandoned(attempt, &kept, &abandoned, budget, now).await?
            {
                continue;
            }
            match kept.next_step(attempt.id, budget, now) {
                NextStep::Return(reservation) => return Ok(reservation),
                NextStep::StartOver => {
                    let change = start_over(attempt.id, &kept, budget, now);
                    if self.change_attempts(attempt, change).await?.is_ok() {
                        let slot = GrantedSlot { seen: Vec::new(), ..kept.grant(attempt.id, now) };
                        return Ok(Reservation::Granted(slot));
                    }
                }
                NextStep::Forget(over) => {
                    // Attempt IDs are never reused, so the update needs no stricter condition.
                    let change = Expressions::update("DELETE #recent :over")
                        .when("attribute_exists(#recent)")
                        .value(":over", id_set(over));
                    let _ = self.change_attempts(attempt, change).await?;
                }
            }
        }
        Ok(Reservation::Busy)
    }

    /// Reads whether an attempt that waits for a slot may get one, or a final result, with
    /// [`Self::reserve_attempt`]. A read costs less than a refused write of the item.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn may_reserve(
        &self,
        attempt: &AttemptKey<'_>,
        budget: AttemptBudget,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        let [item] = self.read_each([Some(Key::attempts(attempt.tenant, attempt.user))]).await?;
        let state = attempt.read(&item.unwrap_or_default())?;
        Ok(state.may_proceed(attempt.id, budget, now))
    }

    /// Releases the slots of the attempts whose login created a session. If there are none, counts the attempts as failed
    /// whose process has ended, so that the next login need not look for their sessions again. Returns whether it changed
    /// anything. A bucket has at most 100 slots, so that one batch reads all sessions.
    async fn settle_abandoned(
        &self,
        attempt: &AttemptKey<'_>,
        kept: &AttemptState,
        ids: &[AttemptId],
        budget: AttemptBudget,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        let session =
            |id: &AttemptId| Key::session(attempt.tenant, attempt.user, &SessionId::of_attempt(*id));
        if ids.is_empty() {
            return Ok(false);
        }
        let sessions = self.read_all(&ids.iter().map(session).collect::<Vec<_>>()).await?;
        let found = ids.iter().zip(sessions).filter(|(_, session)| session.is_some());
        let succeeded: Vec<_> = found.map(|(id, _)| *id).collect();
        let change = if succeeded.is_empty() {
            let dead = kept.dead_attempts(now);
            // A new lockout counts them anyway. There is none if they disable the password.
            let starts_over = kept.quiet_at.is_none_or(|quiet_at| quiet_at <= now)
                && kept.final_failures() < budget.disable_after;
            if dead.is_empty() || starts_over {
                return Ok(false);
            }
            fail_dead(kept, dead, budget, now)
        } else {
            Expressions::update("DELETE #attempts :over, #recent :over")
                .when("attribute_exists(#attempts)")
                .value(":over", id_set(succeeded))
        };
        self.change_attempts(attempt, change).await.map(|_| true)
    }

    /// Returns a write that removes a user's attempts.
    pub(super) fn reset_attempts(
        &self,
        tenant: &TenantId,
        user: &UserId,
        now: Timestamp,
    ) -> Result<TransactWriteItem, Failure> {
        let mut item = Key::attempts(tenant, user).attributes();
        item.insert("expires_at".to_owned(), number(ttl_after(now, KEPT)));
        self.put_write(item, Expressions::default())
    }

    /// Stores the result of an attempt and releases its slot unless it failed. Returns the attempts after that.
    ///
    /// # Errors
    /// `Unavailable` when a write fails.
    pub async fn settle_attempt(
        &self,
        attempt: &AttemptKey<'_>,
        verdict: &Verdict<'_>,
    ) -> Result<AttemptState, Failure> {
        for change in settlements(attempt, verdict) {
            let kept = match self.change_attempts(attempt, change).await? {
                Ok(after) => return attempt.read(&after),
                Err(kept) => attempt.read(&kept)?,
            };
            // The attempt was forgiven or deleted, or a write whose response was lost stored the result.
            if !kept.slots.contains(&attempt.id) || kept.failed.contains(&attempt.id) {
                return Ok(kept);
            }
        }
        Err(Failure::Unavailable("the user's attempts kept changing; try again".into()))
    }

    /// Executes a change. Returns the new item, or the current item if the condition failed.
    async fn change_attempts(
        &self,
        attempt: &AttemptKey<'_>,
        change: Expressions,
    ) -> Result<Result<Attributes, Attributes>, Failure> {
        let names = attempt.names(&change);
        let change = change.names(names).return_new().return_refused();
        Ok(match self.update(&Key::attempts(attempt.tenant, attempt.user), change).await? {
            Updated::Done(item) => Ok(item),
            Updated::Refused(item) => Err(item.unwrap_or_default()),
        })
    }
}

/// Returns the change that reserves a slot if one is free.
fn reserve_slot(attempt: &AttemptKey<'_>, budget: AttemptBudget, now: Timestamp) -> Expressions {
    let mut add = "ADD #attempts :ids, #recent :ids".to_owned();
    let mut set = "SET #quiet_at = :quiet, expires_at = if_not_exists(expires_at, :ttl)".to_owned();
    let mut change = Expressions::condition(
        "(attribute_not_exists(#quiet_at) OR (#quiet_at > :now AND \
         (attribute_not_exists(#attempts) OR (size(#attempts) < :max AND \
         (attribute_not_exists(#room) OR size(#attempts) < #room))) AND \
         (attribute_not_exists(#recent) OR size(#recent) < :per_hour) AND \
         (attribute_not_exists(#failures) OR #failures < :disable_after)))",
    )
    .value(":ids", id_set([attempt.id]))
    .value(":quiet", instant(budget.lockout_end(now)))
    .value(":ttl", number(first_ttl(budget, now)))
    .value(":now", instant(now))
    .value(":max", number(budget.max))
    .value(":per_hour", number(budget.per_hour))
    .value(":disable_after", number(budget.disable_after));
    if let Some(room) = budget.reduced_slots(0) {
        set.push_str(", #room = if_not_exists(#room, :room)");
        change = change.value(":room", number(room));
    }
    if let Some(device) = attempt.device {
        add.push_str(", devices :devices");
        change = change
            .when("(attribute_not_exists(devices) OR contains(devices, :device) OR size(devices) < :most)")
            .value(":devices", set_of(device.id))
            .value(":device", string(device.id.to_string()))
            .value(":most", number(MAX_DEVICES));
    }
    Expressions { update: Some(format!("{add} {set}")), ..change }
}

/// Returns the change that replaces an expired lockout by one with only this attempt, unless the lockout changed since it
/// was read.
fn start_over(attempt: AttemptId, kept: &AttemptState, budget: AttemptBudget, now: Timestamp) -> Expressions {
    let mut set = "SET #attempts = :ids, #recent = :recent, #quiet_at = :quiet".to_owned();
    let mut remove = "REMOVE #failed".to_owned();
    let mut change = Expressions::condition("#quiet_at = :was")
        .value(":ids", id_set([attempt]))
        .value(":recent", id_set(kept.last_hour(now).into_iter().chain([attempt])))
        .value(":quiet", instant(budget.lockout_end(now)))
        .value(":was", instant(kept.quiet_at.unwrap_or(now)));
    change = when_kept(change, kept);
    let failures = kept.final_failures();
    if failures != kept.failures {
        let (expires_at, extended) = extend(change, kept, failures - kept.failures, budget, now);
        set.push_str(", #failures = :in_the_end, ");
        set.push_str(expires_at);
        change = extended.value(":in_the_end", number(failures));
    }
    if let Some(room) = budget.reduced_slots(failures) {
        set.push_str(", #room = :room");
        change = change.value(":room", number(room));
    } else {
        remove.push_str(", #room");
    }
    Expressions { update: Some(format!("{set} {remove}")), ..change }
}

/// Returns the changes that store a result. They are tried in this order until the condition of one holds.
fn settlements(attempt: &AttemptKey<'_>, verdict: &Verdict<'_>) -> Vec<Expressions> {
    let own_set = || id_set([attempt.id]);
    let change = |update: &str, condition: &str| {
        Expressions::update(update)
            .when(condition)
            .value(":own", string(attempt.id.to_string()))
            .value(":own_set", own_set())
    };
    match verdict {
        Verdict::Failed { budget, now, is_expired } => {
            let last = budget.disable_after.saturating_sub(1);
            let is_unsettled = "contains(#attempts, :own) AND NOT contains(#failed, :own)";
            let fail = |expires_at| {
                let update = format!("ADD #failed :own_set, #failures :one SET expires_at = {expires_at}");
                change(&update, is_unsettled).value(":one", number(1))
            };
            // The failure that disables the password. The item is then kept until a new password.
            let last_failure = fail(":forever").value(":forever", number(FOREVER));
            if last == 0 {
                return vec![last_failure];
            }
            let last_failure = last_failure.when("#failures >= :last").value(":last", number(last));
            let not_last = |failure: Expressions| {
                failure
                    .when("(attribute_not_exists(#failures) OR #failures < :last)")
                    .value(":last", number(last))
            };
            let another_failure = not_last(fail("expires_at + :life").when("expires_at >= :now"))
                .value(":life", number(budget.failure_life()))
                .value(":now", number(now.as_second()));
            // DynamoDB may delete an expired item days later.
            let in_expired_item = not_last(fail(":ttl").when("expires_at < :now"))
                .value(":ttl", number(first_ttl(*budget, *now) + budget.failure_life()))
                .value(":now", number(now.as_second()));
            let (first, second) = if *is_expired {
                (in_expired_item, another_failure)
            } else {
                (another_failure, in_expired_item)
            };
            // Concurrent attempts can reset or increase the consecutive failures between two writes.
            vec![first.clone(), last_failure.clone(), second, first, last_failure]
        }
        Verdict::Succeeded(seen) => {
            let ids = || id_set(seen.iter().copied().chain([attempt.id]));
            let update = "DELETE #attempts :ids, #failed :ids, #recent :own_set REMOVE #failures, #room";
            let release = change(update, "contains(#attempts, :own)").value(":ids", ids());
            vec![remove_bucket(attempt, ids()), release]
        }
        Verdict::Unused => {
            let update = "DELETE #attempts :own_set, #recent :own_set";
            let release = change(update, "contains(#attempts, :own)");
            vec![remove_bucket(attempt, own_set()).when("attribute_not_exists(#failures)"), release]
        }
    }
}

/// Returns the change that counts attempts without a result as failed, if the bucket is unchanged since it was read.
fn fail_dead(
    kept: &AttemptState,
    dead: Vec<AttemptId>,
    budget: AttemptBudget,
    now: Timestamp,
) -> Expressions {
    let count = u32::try_from(dead.len()).unwrap_or(u32::MAX);
    let (expires_at, change) = extend(Expressions::default(), kept, count, budget, now);
    let update = Some(format!("ADD #failed :dead, #failures :count SET {expires_at}"));
    let change = Expressions { update, ..change };
    when_kept(change, kept).value(":dead", id_set(dead)).value(":count", number(count))
}

/// Returns the assignment that extends the expiry by `count` further failures, and the change with its values. The item
/// does not expire if these failures disable the password.
fn extend(
    change: Expressions,
    kept: &AttemptState,
    count: u32,
    budget: AttemptBudget,
    now: Timestamp,
) -> (&'static str, Expressions) {
    if kept.failures.saturating_add(count) >= budget.disable_after {
        return ("expires_at = :forever", change.value(":forever", number(FOREVER)));
    }
    let life = budget.failure_life().saturating_mul(count.into());
    if kept.expires_at.is_some_and(|expires_at| expires_at >= now.as_second()) {
        return ("expires_at = expires_at + :life", change.value(":life", number(life)));
    }
    // DynamoDB may delete an expired item days later.
    let change = change.when("expires_at < :seconds").value(":seconds", number(now.as_second()));
    ("expires_at = :ttl", change.value(":ttl", number(first_ttl(budget, now) + life)))
}

/// Adds the condition that slots and consecutive failures of a bucket are unchanged since they were read.
fn when_kept(change: Expressions, kept: &AttemptState) -> Expressions {
    let change = if kept.slots.is_empty() {
        change.when("attribute_not_exists(#attempts)")
    } else {
        change.when("#attempts = :places").value(":places", id_set(kept.slots.iter().copied()))
    };
    if kept.failures == 0 {
        change.when("attribute_not_exists(#failures)")
    } else {
        change.when("#failures = :failures").value(":failures", number(kept.failures))
    }
}

/// Returns the change that removes the bucket if it contains only this attempt, and the attempts `ids`.
fn remove_bucket(attempt: &AttemptKey<'_>, ids: AttributeValue) -> Expressions {
    let update = "REMOVE #attempts, #failed, #failures, #quiet_at, #recent, #room";
    let change = match attempt.device {
        None => Expressions::update(update),
        Some(device) => Expressions::update(format!("{update} DELETE devices :devices"))
            .value(":devices", set_of(device.id)),
    };
    change
        .when("#attempts = :ids AND #recent = :own_set")
        .value(":ids", ids)
        .value(":own_set", id_set([attempt.id]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::tests::at;

    const BUDGET: AttemptBudget =
        AttemptBudget { max: 5, per_hour: 20, disable_after: 100, lockout_millis: 1_800_000 };
    const DAY: i64 = 86_400;
    /// The hundredth part of 181 days.
    const FAILURE_LIFE: i64 = 181 * DAY / 100;

    fn value(change: &Expressions, name: &str) -> Option<AttributeValue> {
        change.values.as_ref().and_then(|values| values.get(name)).cloned()
    }

    // docs/design/security.md#rule-8, docs/design/security.md#rule-9
    #[test]
    fn expiry_of_the_attempts_is_extended_by_each_failure() {
        let (tenant, user) = (TenantId::parse("t").unwrap(), UserId::parse("u").unwrap());
        let id = AttemptId::new(at(0), [1; 16]);
        let attempt = AttemptKey { tenant: &tenant, user: &user, device: None, id };
        // One second more, because DynamoDB deletes by whole seconds.
        let without_failures = 1_000 + 1_800 + DAY + 1;
        let verdict = Verdict::Failed { budget: BUDGET, now: at(1_000), is_expired: true };
        let in_expired_item = &settlements(&attempt, &verdict)[0];
        assert_eq!(value(in_expired_item, ":ttl"), Some(number(without_failures + FAILURE_LIFE)));
        let verdict = Verdict::Failed { budget: BUDGET, now: at(1_000), is_expired: false };
        let another = &settlements(&attempt, &verdict)[0];
        assert_eq!(value(another, ":life"), Some(number(FAILURE_LIFE)));
        let first = reserve_slot(&attempt, BUDGET, at(1_000));
        assert_eq!(value(&first, ":ttl"), Some(number(without_failures)));

        let dead = |number: u8| AttemptId::new(at(i64::from(number)), [number; 16]);
        let kept = AttemptState {
            slots: [dead(2), dead(3)].into(),
            failures: 1,
            quiet_at: Some(at(900)),
            expires_at: Some(1_000),
            ..AttemptState::default()
        };
        let next = start_over(id, &kept, BUDGET, at(1_000));
        assert_eq!(value(&next, ":life"), Some(number(2 * FAILURE_LIFE)));
        assert_eq!(value(&next, ":in_the_end"), Some(number(3)));
        let expired = AttemptState { expires_at: Some(999), ..kept.clone() };
        let next = start_over(id, &expired, BUDGET, at(1_000));
        assert_eq!(value(&next, ":ttl"), Some(number(without_failures + 2 * FAILURE_LIFE)));
        for (failures, is_kept_forever) in [(97, false), (98, true)] {
            let kept = AttemptState { failures, ..kept.clone() };
            let failed = fail_dead(&kept, vec![dead(2), dead(3)], BUDGET, at(1_000));
            assert_eq!(value(&failed, ":forever").is_some(), is_kept_forever, "{failures}");
            assert_eq!(value(&failed, ":count"), Some(number(2)));
        }
    }
}
