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
//! The item expires 181 days after the last attempt. If the password is disabled, the item is kept until a new password.
//! A new password deletes all attempts and invalidates all device proofs of earlier epochs, because a person who knew
//! the old password must not have attempt slots of a trusted device. The rules themselves are in `domain/lockout.rs`.

use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use jiff::Timestamp;

use super::{
    DynamoStore,
    item::{
        Attributes, id_set, instant, number, string, to_id_set, to_instant, to_number, ttl_after, ttl_seconds,
    },
    keys::Key,
    table::{Expressions, Updated},
};
use crate::domain::{
    AttemptBudget, AttemptId, AttemptState, Failure, NextStep, Reservation, SessionId, TenantId,
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
        /// [`AttemptBudget::disable_after`]
        disable_after: u32,
    },
    /// The password was correct. Deletes the attempt and the failures that its reservation returned.
    Succeeded(&'a [AttemptId]),
    /// The password was not verified, or it was correct but no session was created. Deletes only the attempt.
    Unused,
}

/// Retention of consecutive failures and of [`PROOFS_EPOCH`] after the last attempt. It is one day longer than the
/// lifetime of device proofs, because clocks differ.
const KEPT: Duration = Duration::from_secs(181 * 24 * 60 * 60);
/// TTL that is never reached: the end of the year 9999, in epoch seconds.
const FOREVER: i64 = 253_402_300_799;
/// Maximum number of devices with a bucket. It limits the item to about 20 kB with the default policy. Further devices
/// count as unknown. No bucket is evicted, because its consecutive failures would be forgotten.
const MAX_DEVICES: usize = 32;
/// Attempts to write the item while other requests change it.
const TRIES: usize = 4;

/// Attribute with the epoch of the user after its last password change. Device proofs of earlier epochs are invalid.
pub(super) const PROOFS_EPOCH: &str = "proofs_epoch";

/// Attributes of a bucket.
const ATTRIBUTES: [&str; 6] = ["attempts", "failed", "failures", "quiet_at", "recent", "room"];

impl AttemptKey<'_> {
    /// Returns the name of an attribute of this attempt's bucket.
    fn attribute(&self, name: &str) -> String {
        self.device.map_or_else(|| name.to_owned(), |device| format!("{name}#{}", device.id))
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
        let at = |name: &str| to_number(item, name)?.map(to_instant).transpose();
        Ok(AttemptState {
            slots: to_id_set(item, &self.attribute("attempts"))?,
            failed: to_id_set(item, &self.attribute("failed"))?,
            recent: to_id_set(item, &self.attribute("recent"))?,
            failures: to_number(item, &self.attribute("failures"))?.unwrap_or_default(),
            reduced_slots: to_number(item, &self.attribute("room"))?,
            quiet_at: at(&self.attribute("quiet_at"))?,
            proofs_epoch: to_number(item, PROOFS_EPOCH)?,
        })
    }
}

fn set_of(device: TrustedDeviceId) -> AttributeValue {
    AttributeValue::Ss(vec![device.to_string()])
}

/// Returns the end of a lockout that is extended now, and the TTL of the item.
fn ends(budget: AttemptBudget, now: Timestamp) -> (Timestamp, i64) {
    let quiet_at = budget.lockout_end(now);
    (quiet_at, ttl_after(now, KEPT).max(ttl_seconds(quiet_at)))
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
                    let after = attempt.read(&after)?;
                    let seen =
                        after.failed_attempts(now).into_iter().filter(|id| *id != attempt.id).collect();
                    return Ok(Reservation::Granted(seen));
                }
                Err(kept) => attempt.read(&kept)?,
            };
            let abandoned = kept.abandoned_attempts(now);
            if !abandoned.contains(&attempt.id) && self.release_succeeded(attempt, &abandoned).await? {
                continue;
            }
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
        Ok(state.may_proceed(attempt.id, attempt.device, budget, now))
    }

    /// Releases the slots of the attempts whose login created a session. Returns whether there are any. A bucket has at
    /// most 100 slots, so that one batch reads all sessions.
    async fn release_succeeded(&self, attempt: &AttemptKey<'_>, ids: &[AttemptId]) -> Result<bool, Failure> {
        let session =
            |id: &AttemptId| Key::session(attempt.tenant, attempt.user, &SessionId::of_attempt(*id));
        if ids.is_empty() {
            return Ok(false);
        }
        let sessions = self.read_all(&ids.iter().map(session).collect::<Vec<_>>()).await?;
        let found = ids.iter().zip(sessions).filter(|(_, session)| session.is_some());
        let succeeded: Vec<_> = found.map(|(id, _)| *id).collect();
        if succeeded.is_empty() {
            return Ok(false);
        }
        let change = Expressions::update("DELETE #attempts :over, #recent :over")
            .when("attribute_exists(#attempts)")
            .value(":over", id_set(succeeded));
        self.change_attempts(attempt, change).await.map(|_| true)
    }

    /// Returns a write that deletes a user's attempts and invalidates all device proofs of epochs before `epoch`.
    pub(super) fn reset_attempts(
        &self,
        tenant: &TenantId,
        user: &UserId,
        epoch: u64,
        now: Timestamp,
    ) -> Result<TransactWriteItem, Failure> {
        let mut item = Key::attempts(tenant, user).attributes();
        item.insert(PROOFS_EPOCH.to_owned(), number(epoch));
        item.insert("expires_at".to_owned(), number(ttl_after(now, KEPT)));
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
            let kept = attempt.read(&kept)?;
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
    let (quiet_at, kept_until) = ends(budget, now);
    let mut add = "ADD #attempts :ids, #recent :ids".to_owned();
    let mut set = "SET #quiet_at = :quiet, expires_at = if_not_exists(pinned, :ttl)".to_owned();
    let mut change = Expressions::condition(
        "(attribute_not_exists(#quiet_at) OR (#quiet_at > :now AND \
         (attribute_not_exists(#attempts) OR (size(#attempts) < :max AND \
         (attribute_not_exists(#room) OR size(#attempts) < #room))) AND \
         (attribute_not_exists(#recent) OR size(#recent) < :per_hour) AND \
         (attribute_not_exists(#failures) OR #failures < :disable_after)))",
    )
    .value(":ids", id_set([attempt.id]))
    .value(":quiet", instant(quiet_at))
    .value(":ttl", number(kept_until))
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
            .when("(attribute_not_exists(proofs_epoch) OR proofs_epoch <= :proven)")
            .value(":devices", set_of(device.id))
            .value(":device", string(device.id.to_string()))
            .value(":proven", number(device.user_epoch))
            .value(":most", number(MAX_DEVICES));
    }
    Expressions { update: Some(format!("{add} {set}")), ..change }
}

/// Returns the change that replaces an expired lockout by one with only this attempt, unless the lockout changed since it
/// was read.
fn start_over(attempt: AttemptId, kept: &AttemptState, budget: AttemptBudget, now: Timestamp) -> Expressions {
    let (quiet_at, kept_until) = ends(budget, now);
    let mut set = "SET #attempts = :ids, #recent = :recent, #quiet_at = :quiet, \
         expires_at = if_not_exists(pinned, :ttl)"
        .to_owned();
    let mut remove = "REMOVE #failed".to_owned();
    let mut change = Expressions::condition("#quiet_at = :was")
        .value(":ids", id_set([attempt]))
        .value(":recent", id_set(kept.last_hour(now).into_iter().chain([attempt])))
        .value(":quiet", instant(quiet_at))
        .value(":ttl", number(kept_until))
        .value(":was", instant(kept.quiet_at.unwrap_or(now)));
    change = if kept.slots.is_empty() {
        change.when("attribute_not_exists(#attempts)")
    } else {
        change.when("#attempts = :places").value(":places", id_set(kept.slots.iter().copied()))
    };
    change = if kept.failures == 0 {
        change.when("attribute_not_exists(#failures)")
    } else {
        change.when("#failures = :failures").value(":failures", number(kept.failures))
    };
    let failures = kept.final_failures();
    if failures != kept.failures {
        set.push_str(", #failures = :in_the_end");
        change = change.value(":in_the_end", number(failures));
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
        Verdict::Failed { disable_after } => {
            let last = disable_after.saturating_sub(1);
            let is_unsettled = "contains(#attempts, :own) AND NOT contains(#failed, :own)";
            let fail = |update| change(update, is_unsettled).value(":one", number(1));
            // The failure that disables the password. The item is then kept until a new password.
            let last_failure =
                fail("ADD #failed :own_set, #failures :one SET pinned = :forever, expires_at = :forever")
                    .value(":forever", number(FOREVER));
            if last == 0 {
                return vec![last_failure];
            }
            let last_failure = last_failure.when("#failures >= :last").value(":last", number(last));
            let another_failure = fail("ADD #failed :own_set, #failures :one")
                .when("(attribute_not_exists(#failures) OR #failures < :last)")
                .value(":last", number(last));
            // Concurrent attempts can reset or increase the consecutive failures between two writes.
            vec![another_failure.clone(), last_failure.clone(), another_failure, last_failure]
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
