//! The attempts item. It limits how many passwords of one user are verified between two successful logins, also for
//! concurrent requests (docs/design/security.md#rule-7).
//!
//! The item has one bucket for all unknown devices and one for each trusted device
//! (docs/design/security.md#rule-10). The buckets have the same attributes; the names of a device's attributes end with
//! `#` and the device ID. All buckets share one item so that one write deletes them after a password change.
//!
//! - `attempts`: IDs of the attempts that hold a slot. IDs make a repeated write harmless. An attempt without a result
//!   after 60 s counts as failed, because its process ended.
//! - `failed`: the attempts among them that failed. A success releases its own slot and the slots of the failures that
//!   its reservation returned, so that parallel logins with the correct password never lock the user.
//! - `quiet_at`: time at which both sets are forgotten, one lockout length after the last attempt.
//! - `recent`: attempts of the last hour that failed or are in progress. The hourly limit spans all lockouts.
//! - `failures`: consecutive failures. The write that stores a failure counts it exactly once. A success resets the count
//!   (docs/design/security.md#rule-8).
//! - `room`: attempt slots of a lockout, if fewer than usual remain until the password is disabled. It prevents
//!   more consecutive failures than allowed.
//!
//! The item expires 180 days after the last attempt. If the password is disabled, the item is kept until a new password.
//! A new password deletes all attempts and invalidates all device proofs from before, because a person who knew the
//! old password must not have attempt slots of a trusted device. The rules themselves are in `domain/lockout.rs`.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use jiff::Timestamp;

use super::{
    DynamoStore,
    item::{Attributes, corrupt, id_set, instant, number, string, to_instant, ttl_seconds},
    keys::Key,
    table::{Expressions, Updated},
};
use crate::domain::{
    AttemptBudget, AttemptId, AttemptState, Failure, NextStep, Reservation, TenantId, TrustedDevice,
    TrustedDeviceId, UserId,
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
        /// [`AttemptBudget::disable_after`]
        disable_after: u32,
    },
    /// The password was correct. Deletes the attempt and the failures that its reservation returned.
    Succeeded(&'a [AttemptId]),
    /// The password was not verified, or it was correct but no session was created. Deletes only the attempt.
    Unused,
}

/// Retention of consecutive failures after the last attempt, and of the earliest valid device proof: the lifetime of
/// device proofs.
const KEPT: Duration = Duration::from_secs(180 * 24 * 60 * 60);
/// TTL that is never reached: the end of the year 9999, in epoch seconds.
const FOREVER: i64 = 253_402_300_799;
/// Maximum number of devices with a bucket. It limits the item to about 20 kB with the default policy. Further devices
/// count as unknown. No bucket is evicted, because its consecutive failures would be forgotten.
const MAX_DEVICES: usize = 32;
/// Attempts to write the item while other requests change it.
const TRIES: usize = 4;

/// Attribute with the earliest valid device proof: the time of the last password change.
pub(super) const PROOFS_AFTER: &str = "proofs_after";

/// Attributes of a bucket.
const ATTRIBUTES: [&str; 6] = ["attempts", "failed", "failures", "quiet_at", "recent", "room"];
/// Expression that removes all attributes of a bucket.
const REMOVED: &str = "REMOVE #attempts, #failed, #failures, #quiet_at, #recent, #room";

/// Condition that the attempt has a slot and no result.
const UNSETTLED: &str = "contains(#attempts, :own) AND NOT contains(#failed, :own)";

/// Bucket of the item: all unknown devices together (`None`), or one trusted device.
#[derive(Clone, Copy)]
struct Bucket(Option<TrustedDeviceId>);

impl Bucket {
    fn of(attempt: &AttemptKey<'_>) -> Self {
        Self(attempt.device.map(|device| device.id))
    }

    fn attribute(self, name: &str) -> String {
        self.0.map_or_else(|| name.to_owned(), |device| format!("{name}#{device}"))
    }

    /// Returns the attribute names that the expressions use. DynamoDB rejects unused names.
    fn names(self, change: &Change) -> HashMap<String, String> {
        let used = |name: &str| change.update.contains(name) || change.condition.contains(name);
        let names = ATTRIBUTES.map(|name| (format!("#{name}"), self.attribute(name)));
        names.into_iter().filter(|(name, _)| used(name)).collect()
    }

    /// Returns the update that removes the bucket, with its values.
    fn removal(self) -> (String, Vec<(&'static str, AttributeValue)>) {
        match self.0 {
            None => (REMOVED.to_owned(), Vec::new()),
            Some(device) => {
                (format!("{REMOVED} DELETE devices :devices"), vec![(":devices", set_of(device))])
            }
        }
    }
}

fn set_of(device: TrustedDeviceId) -> AttributeValue {
    AttributeValue::Ss(vec![device.to_string()])
}

/// Conditional update of one bucket.
#[derive(Clone)]
struct Change {
    update: String,
    condition: String,
    values: Vec<(&'static str, AttributeValue)>,
}

/// Decodes the attempts of one bucket.
fn read(item: &Attributes, bucket: Bucket) -> Result<AttemptState, Failure> {
    let set = |name: &str| match item.get(&bucket.attribute(name)) {
        None => Ok(BTreeSet::new()),
        Some(AttributeValue::Ss(ids)) => {
            ids.iter().map(|id| AttemptId::parse(id).map_err(|_| corrupt("attempt id"))).collect()
        }
        Some(_) => Err(corrupt("attempt set")),
    };
    Ok(AttemptState {
        slots: set("attempts")?,
        failed: set("failed")?,
        recent: set("recent")?,
        failures: count(item, &bucket.attribute("failures"))?.unwrap_or_default(),
        reduced_slots: count(item, &bucket.attribute("room"))?,
        quiet_at: at(item, &bucket.attribute("quiet_at"))?,
        proofs_after: at(item, PROOFS_AFTER)?,
    })
}

fn at(item: &Attributes, name: &str) -> Result<Option<Timestamp>, Failure> {
    count::<i64>(item, name)?.map(to_instant).transpose()
}

fn count<N: std::str::FromStr>(item: &Attributes, name: &str) -> Result<Option<N>, Failure> {
    match item.get(name) {
        None => Ok(None),
        Some(AttributeValue::N(number)) => number.parse().map(Some).map_err(|_| corrupt("count")),
        Some(_) => Err(corrupt("count")),
    }
}

/// Returns the end of a lockout that is extended now, and the TTL of the item.
fn ends(budget: AttemptBudget, now: Timestamp) -> (Timestamp, i64) {
    let quiet_at = budget.lockout_end(now);
    let kept = now.checked_add(KEPT).unwrap_or(Timestamp::MAX);
    (quiet_at, ttl_seconds(kept.max(quiet_at)))
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
                    let after = read(&after, Bucket::of(attempt))?;
                    let seen =
                        after.failed_attempts(now).into_iter().filter(|id| *id != attempt.id).collect();
                    return Ok(Reservation::Granted(seen));
                }
                Err(kept) => read(&kept, Bucket::of(attempt))?,
            };
            match kept.next_step(attempt.id, attempt.device, budget, now) {
                NextStep::Return(reservation) => return Ok(reservation),
                NextStep::StartOver => {
                    let change = start_over(attempt.id, &kept, budget, now);
                    if self.change_attempts(attempt, change).await?.is_ok() {
                        return Ok(Reservation::Granted(Vec::new()));
                    }
                }
                NextStep::Forget(over) => {
                    // Attempt IDs are never reused, so the update needs no stricter condition.
                    let change = Change {
                        update: "DELETE #recent :over".to_owned(),
                        condition: "attribute_exists(#recent)".to_owned(),
                        values: vec![(":over", id_set(over))],
                    };
                    let _ = self.change_attempts(attempt, change).await?;
                }
            }
        }
        Ok(Reservation::Busy)
    }

    /// Returns a write that deletes a user's attempts and invalidates all device proofs from before now.
    pub(super) fn reset_attempts(
        &self,
        tenant: &TenantId,
        user: &UserId,
        now: Timestamp,
    ) -> Result<TransactWriteItem, Failure> {
        let mut item = Key::attempts(tenant, user).attributes();
        item.insert(PROOFS_AFTER.to_owned(), instant(now));
        let kept = now.checked_add(KEPT).unwrap_or(Timestamp::MAX);
        item.insert("expires_at".to_owned(), number(ttl_seconds(kept)));
        self.put_write(item, Expressions::default())
    }

    /// Stores the result of an attempt and releases its slot unless it failed.
    ///
    /// # Errors
    /// `Unavailable` when a write fails.
    pub async fn settle_attempt(
        &self,
        attempt: &AttemptKey<'_>,
        verdict: &Verdict<'_>,
    ) -> Result<(), Failure> {
        for change in settlements(attempt, verdict) {
            let Err(kept) = self.change_attempts(attempt, change).await? else {
                return Ok(());
            };
            let kept = read(&kept, Bucket::of(attempt))?;
            // The attempt was forgiven or deleted, or a write whose response was lost stored the result.
            if !kept.slots.contains(&attempt.id) || kept.failed.contains(&attempt.id) {
                return Ok(());
            }
        }
        Err(Failure::Unavailable("the user's attempts kept changing; try again".into()))
    }

    /// Executes a change. Returns the new item, or the current item if the condition failed.
    async fn change_attempts(
        &self,
        attempt: &AttemptKey<'_>,
        change: Change,
    ) -> Result<Result<Attributes, Attributes>, Failure> {
        let names = Bucket::of(attempt).names(&change);
        let Change { update, condition, values } = change;
        let mut update = Expressions::update(update).when(condition).return_new().return_refused();
        update.names = names;
        for (placeholder, value) in values {
            update = update.value(placeholder, value);
        }
        Ok(match self.update(&Key::attempts(attempt.tenant, attempt.user), update).await? {
            Updated::Done(item) => Ok(item),
            Updated::Refused(item) => Err(item.unwrap_or_default()),
        })
    }
}

/// Returns the change that reserves a slot if one is free.
fn reserve_slot(attempt: &AttemptKey<'_>, budget: AttemptBudget, now: Timestamp) -> Change {
    let (quiet_at, kept_until) = ends(budget, now);
    let mut add = "ADD #attempts :ids, #recent :ids".to_owned();
    let mut set = "SET #quiet_at = :quiet, expires_at = if_not_exists(pinned, :ttl)".to_owned();
    let mut condition = "(attribute_not_exists(#quiet_at) OR (#quiet_at > :now AND \
         (attribute_not_exists(#attempts) OR (size(#attempts) < :max AND \
         (attribute_not_exists(#room) OR size(#attempts) < #room))) AND \
         (attribute_not_exists(#recent) OR size(#recent) < :per_hour) AND \
         (attribute_not_exists(#failures) OR #failures < :disable_after)))"
        .to_owned();
    let mut values = vec![
        (":ids", id_set([attempt.id])),
        (":quiet", instant(quiet_at)),
        (":ttl", number(kept_until)),
        (":now", instant(now)),
        (":max", number(budget.max)),
        (":per_hour", number(budget.per_hour)),
        (":disable_after", number(budget.disable_after)),
    ];
    if let Some(room) = budget.reduced_slots(0) {
        set.push_str(", #room = if_not_exists(#room, :room)");
        values.push((":room", number(room)));
    }
    if let Some(device) = attempt.device {
        add.push_str(", devices :devices");
        condition.push_str(
            " AND (attribute_not_exists(devices) OR contains(devices, :device) OR size(devices) < :most) \
             AND (attribute_not_exists(proofs_after) OR proofs_after <= :proven)",
        );
        values.push((":devices", set_of(device.id)));
        values.push((":device", string(device.id.to_string())));
        values.push((":proven", instant(device.proven_at)));
        values.push((":most", number(MAX_DEVICES)));
    }
    Change { update: format!("{add} {set}"), condition, values }
}

/// Returns the change that replaces an expired lockout by one with only this attempt, unless the lockout changed since it
/// was read.
fn start_over(attempt: AttemptId, kept: &AttemptState, budget: AttemptBudget, now: Timestamp) -> Change {
    let (quiet_at, kept_until) = ends(budget, now);
    let mut sets = vec![
        "#attempts = :ids",
        "#recent = :recent",
        "#quiet_at = :quiet",
        "expires_at = if_not_exists(pinned, :ttl)",
    ];
    let mut removes = vec!["#failed"];
    let mut conditions = vec!["#quiet_at = :was"];
    let mut values = vec![
        (":ids", id_set([attempt])),
        (":recent", id_set(kept.last_hour(now).into_iter().chain([attempt]))),
        (":quiet", instant(quiet_at)),
        (":ttl", number(kept_until)),
        (":was", instant(kept.quiet_at.unwrap_or(now))),
    ];
    if kept.slots.is_empty() {
        conditions.push("attribute_not_exists(#attempts)");
    } else {
        conditions.push("#attempts = :places");
        values.push((":places", id_set(kept.slots.iter().copied())));
    }
    if kept.failures == 0 {
        conditions.push("attribute_not_exists(#failures)");
    } else {
        conditions.push("#failures = :failures");
        values.push((":failures", number(kept.failures)));
    }
    let failures = kept.final_failures();
    if failures != kept.failures {
        sets.push("#failures = :in_the_end");
        values.push((":in_the_end", number(failures)));
    }
    match budget.reduced_slots(failures) {
        Some(room) => {
            sets.push("#room = :room");
            values.push((":room", number(room)));
        }
        None => removes.push("#room"),
    }
    Change {
        update: format!("SET {} REMOVE {}", sets.join(", "), removes.join(", ")),
        condition: conditions.join(" AND "),
        values,
    }
}

/// Returns the changes that store a result. They are tried in this order until the condition of one holds.
fn settlements(attempt: &AttemptKey<'_>, verdict: &Verdict<'_>) -> Vec<Change> {
    match verdict {
        Verdict::Failed { disable_after } => {
            let last = disable_after.saturating_sub(1);
            let (another_failure, last_failure) =
                (another_failure(attempt.id, last), last_failure(attempt.id, last));
            // Concurrent attempts can reset or increase the consecutive failures between two writes.
            match last {
                0 => vec![last_failure],
                _ => vec![another_failure.clone(), last_failure.clone(), another_failure, last_failure],
            }
        }
        Verdict::Succeeded(seen) => {
            let ids = || id_set(seen.iter().copied().chain([attempt.id]));
            let release = Change {
                update: "DELETE #attempts :ids, #failed :ids, #recent :own_set REMOVE #failures, #room"
                    .to_owned(),
                condition: "contains(#attempts, :own)".to_owned(),
                values: vec![(":ids", ids()), (":own_set", id_set([attempt.id])), own(attempt.id)],
            };
            vec![remove_bucket(attempt, ids(), ""), release]
        }
        Verdict::Unused => {
            let release = Change {
                update: "DELETE #attempts :own_set, #recent :own_set".to_owned(),
                condition: "contains(#attempts, :own)".to_owned(),
                values: vec![(":own_set", id_set([attempt.id])), own(attempt.id)],
            };
            let ids = id_set([attempt.id]);
            vec![remove_bucket(attempt, ids, " AND attribute_not_exists(#failures)"), release]
        }
    }
}

/// Returns the change that stores a failure after which the password stays enabled.
fn another_failure(id: AttemptId, last: u32) -> Change {
    Change {
        update: "ADD #failed :own_set, #failures :one".to_owned(),
        condition: format!("{UNSETTLED} AND (attribute_not_exists(#failures) OR #failures < :last)"),
        values: vec![own(id), (":own_set", id_set([id])), (":one", number(1)), (":last", number(last))],
    }
}

/// Returns the change that stores the failure that disables the password. The item is then kept until a new password.
fn last_failure(id: AttemptId, last: u32) -> Change {
    let mut change = Change {
        update: "ADD #failed :own_set, #failures :one SET pinned = :forever, expires_at = :forever"
            .to_owned(),
        condition: UNSETTLED.to_owned(),
        values: vec![own(id), (":own_set", id_set([id])), (":one", number(1)), (":forever", number(FOREVER))],
    };
    if last > 0 {
        change.condition.push_str(" AND #failures >= :last");
        change.values.push((":last", number(last)));
    }
    change
}

/// Returns the change that removes the bucket if it contains only this attempt.
fn remove_bucket(attempt: &AttemptKey<'_>, ids: AttributeValue, and: &str) -> Change {
    let (update, mut values) = Bucket::of(attempt).removal();
    values.push((":ids", ids));
    values.push((":own_set", id_set([attempt.id])));
    Change { update, condition: format!("#attempts = :ids AND #recent = :own_set{and}"), values }
}

fn own(id: AttemptId) -> (&'static str, AttributeValue) {
    (":own", string(id.to_string()))
}
