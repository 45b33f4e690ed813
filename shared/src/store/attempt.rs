//! The attempts item: at most `max` guesses at one user's password are ever verified between two
//! successful logins, however many arrive at once (docs/design/security.md#rule-7).
//!
//! It has a bucket for all strangers together and one for each device that proved an earlier login
//! (docs/design/security.md#rule-10): attributes of the same names, a device's with `#` and the device behind them. One
//! item, so that a new password forgets all of them in one write.
//!
//! `attempts` is the set of attempt ids that hold a place, `failed` the subset that was wrong. A
//! success gives back its own place and those of the failures that its reservation saw, so right
//! passwords in parallel never add up. Ids make a repeated write harmless. An attempt that neither
//! failed nor succeeded within [`LEASE`] died with its process: it counts as failed. These two are
//! forgotten after a lockout's length without a new attempt (`quiet_at`).
//!
//! `recent` has every attempt of the last hour that was not right, and those under way: what they
//! may be at most holds over all lockouts. `failures` counts those in a row, each once, in the write
//! that says that it failed; a success ends the row (docs/design/security.md#rule-8). A lockout that begins close to the
//! end of a row has only as many places as are left of it (`room`): the row never gets longer than it
//! may.
//!
//! All of it is kept 180 days after the last attempt, or until a new password once a row is full. A new
//! password forgets all of it, and every proof that was given under the old one: whoever knew that must
//! not keep guesses of its own.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use aws_sdk_dynamodb::{
    operation::update_item::UpdateItemError,
    types::{AttributeValue, Put, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem},
};
use jiff::Timestamp;

use super::{
    DynamoStore,
    conflict::retried,
    item::{Attributes, corrupt, id_set, instant, number, string, to_instant, ttl_seconds, unavailable},
    keys::Key,
    user::built,
};
use crate::{
    domain::{AttemptId, Failure, KnownDevice, ProvenDevice, TenantId, UserId},
    port::{AttemptBudget, AttemptKey, Reservation, Verdict},
};

/// No function runs longer: an attempt older than this will not end any more.
const LEASE: Duration = Duration::from_secs(60);
/// How long an attempt counts among the recent ones.
const HOUR: Duration = Duration::from_secs(60 * 60);
/// How long a row of failures is kept without another attempt, and the time since which proofs count: as
/// long as proofs live.
const KEPT: Duration = Duration::from_secs(180 * 24 * 60 * 60);
/// A TTL that never comes: the year 9999.
const FOREVER: i64 = 253_402_300_799;
/// Devices with a bucket at once: the item stays some 20 kB at most with the usual policy. One more is a
/// stranger: no bucket makes room for another, or its row of failures would be forgotten with it.
const MAX_DEVICES: usize = 32;
/// How often the record may be found changed by somebody else at the same moment.
const TRIES: usize = 4;

/// Since when a device must have logged in to be no stranger: since the password is as it is.
pub(super) const PROOFS_AFTER: &str = "proofs_after";

/// What a bucket consists of.
const ATTRIBUTES: [&str; 6] = ["attempts", "failed", "failures", "quiet_at", "recent", "room"];
/// The removal of all that.
const REMOVED: &str = "REMOVE #attempts, #failed, #failures, #quiet_at, #recent, #room";

/// A place is held and its attempt not settled.
const UNSETTLED: &str = "contains(#attempts, :own) AND NOT contains(#failed, :own)";

/// One bucket of the item: strangers', or a device's.
#[derive(Clone, Copy)]
struct Bucket(Option<ProvenDevice>);

impl Bucket {
    fn of(attempt: &AttemptKey<'_>) -> Self {
        Self(attempt.device.map(|device| device.id))
    }

    fn attribute(self, name: &str) -> String {
        self.0.map_or_else(|| name.to_owned(), |device| format!("{name}#{device}"))
    }

    /// The names that an expression uses: DynamoDB takes no others.
    fn names(self, change: &Change) -> HashMap<String, String> {
        let used = |name: &str| change.update.contains(name) || change.condition.contains(name);
        let names = ATTRIBUTES.map(|name| (format!("#{name}"), self.attribute(name)));
        names.into_iter().filter(|(name, _)| used(name)).collect()
    }

    /// The whole bucket, taken out of the item.
    fn removal(self) -> (String, Vec<(&'static str, AttributeValue)>) {
        match self.0 {
            None => (REMOVED.to_owned(), Vec::new()),
            Some(device) => {
                (format!("{REMOVED} DELETE devices :devices"), vec![(":devices", set_of(device))])
            }
        }
    }
}

fn set_of(device: ProvenDevice) -> AttributeValue {
    AttributeValue::Ss(vec![device.to_string()])
}

/// One conditional update of the item.
#[derive(Clone)]
struct Change {
    update: String,
    condition: String,
    values: Vec<(&'static str, AttributeValue)>,
}

/// One bucket, read, and what the item says of the others.
#[derive(Default)]
struct Attempts {
    places: BTreeSet<AttemptId>,
    failed: BTreeSet<AttemptId>,
    recent: BTreeSet<AttemptId>,
    failures: u32,
    /// Places of this lockout, where they are fewer than usual.
    room: Option<usize>,
    /// `None` for a bucket that is not there.
    quiet_at: Option<Timestamp>,
    /// A device's proof must not be older.
    proofs_after: Option<Timestamp>,
}

/// What a bucket without a place to take says.
enum Next {
    Answer(Reservation),
    /// Its time is over.
    StartOver,
    /// These attempts are recent no more.
    Forget(Vec<AttemptId>),
}

impl Attempts {
    fn read(item: &Attributes, bucket: Bucket) -> Result<Self, Failure> {
        let set = |name: &str| match item.get(&bucket.attribute(name)) {
            None => Ok(BTreeSet::new()),
            Some(AttributeValue::Ss(ids)) => {
                ids.iter().map(|id| AttemptId::parse(id).map_err(|_| corrupt("attempt id"))).collect()
            }
            Some(_) => Err(corrupt("attempt set")),
        };
        Ok(Self {
            places: set("attempts")?,
            failed: set("failed")?,
            recent: set("recent")?,
            failures: count(item, &bucket.attribute("failures"))?.unwrap_or_default(),
            room: count(item, &bucket.attribute("room"))?,
            quiet_at: at(item, &bucket.attribute("quiet_at"))?,
            proofs_after: at(item, PROOFS_AFTER)?,
        })
    }

    /// Those that were wrong, or died.
    fn lost(&self, now: Timestamp) -> Vec<AttemptId> {
        self.places.iter().copied().filter(|id| !self.is_under_way(*id, now)).collect()
    }

    fn is_under_way(&self, id: AttemptId, now: Timestamp) -> bool {
        let dead = id.made_at().checked_add(LEASE).is_ok_and(|end| end < now);
        self.places.contains(&id) && !self.failed.contains(&id) && !dead
    }

    /// Failures in a row once this lockout is over: what was never judged was wrong.
    fn failures_in_the_end(&self) -> u32 {
        let unjudged = self.places.difference(&self.failed).count();
        self.failures.saturating_add(u32::try_from(unjudged).unwrap_or(u32::MAX))
    }

    /// The recent ones, oldest first.
    fn recent(&self, now: Timestamp) -> Vec<AttemptId> {
        self.recent.iter().copied().filter(|id| end_of_hour(*id) > now).collect()
    }

    /// Why `attempt` did not get a place, and what is to be done about it.
    fn judge(&self, attempt: &AttemptKey<'_>, budget: AttemptBudget, now: Timestamp) -> Next {
        if self.places.contains(&attempt.id) {
            // The SDK repeated a write whose answer was lost: the place is ours.
            return Next::Answer(Reservation::Granted(self.lost(now)));
        }
        let is_old = |device: KnownDevice| self.proofs_after.is_some_and(|since| device.proven_at < since);
        let Some(quiet_at) = self.quiet_at.filter(|_| !attempt.device.is_some_and(is_old)) else {
            // Nothing else stands in the way of a bucket that is not there but too many others.
            return Next::Answer(Reservation::UnknownDevice);
        };
        let is_over = quiet_at <= now;
        let failures = if is_over { self.failures_in_the_end() } else { self.failures };
        if failures >= budget.disable_after {
            return Next::Answer(Reservation::Disabled);
        }
        let recent = self.recent(now);
        let open_again = recent.len().checked_sub(budget.per_hour).and_then(|at| recent.get(at).copied());
        let open_again = open_again.map(end_of_hour);
        let max = budget.max.min(self.room.unwrap_or(budget.max));
        if !is_over && self.lost(now).len() >= max {
            return Next::Answer(Reservation::Locked(open_again.map_or(quiet_at, |at| at.max(quiet_at))));
        }
        let under_way = recent.iter().filter(|id| self.is_under_way(**id, now)).count();
        match open_again {
            Some(at) if recent.len() - under_way >= budget.per_hour => Next::Answer(Reservation::Limited(at)),
            None if is_over => Next::StartOver,
            None if self.recent.len() >= budget.per_hour => {
                Next::Forget(self.recent.iter().copied().filter(|id| !recent.contains(id)).collect())
            }
            // What is under way may yet give back what it holds.
            _ => Next::Answer(Reservation::Busy),
        }
    }
}

fn end_of_hour(id: AttemptId) -> Timestamp {
    id.made_at().checked_add(HOUR).unwrap_or(Timestamp::MAX)
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

/// When a lockout that is extended now is over, and until when the item is kept.
fn ends(budget: AttemptBudget, now: Timestamp) -> (Timestamp, i64) {
    let quiet_at = Timestamp::from_millisecond(now.as_millisecond().saturating_add(budget.lockout_millis))
        .unwrap_or(Timestamp::MAX);
    let kept = now.checked_add(KEPT).unwrap_or(Timestamp::MAX);
    (quiet_at, ttl_seconds(kept.max(quiet_at)))
}

impl DynamoStore {
    pub(super) async fn reserve(
        &self,
        attempt: &AttemptKey<'_>,
        budget: AttemptBudget,
        now: Timestamp,
    ) -> Result<Reservation, Failure> {
        for _ in 0..TRIES {
            let kept = match self.change_attempts(attempt, take_place(attempt, budget, now)).await? {
                Ok(after) => {
                    let after = Attempts::read(&after, Bucket::of(attempt))?;
                    let seen = after.lost(now).into_iter().filter(|id| *id != attempt.id).collect();
                    return Ok(Reservation::Granted(seen));
                }
                Err(kept) => Attempts::read(&kept, Bucket::of(attempt))?,
            };
            match kept.judge(attempt, budget, now) {
                Next::Answer(reservation) => return Ok(reservation),
                Next::StartOver => {
                    let change = start_over(attempt.id, &kept, budget, now);
                    if self.change_attempts(attempt, change).await?.is_ok() {
                        return Ok(Reservation::Granted(Vec::new()));
                    }
                }
                Next::Forget(over) => {
                    // Ids do not come back: no condition.
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

    /// Forgets a user's attempts, and every device that logged in before now.
    pub(super) fn forget_attempts(
        &self,
        tenant: &TenantId,
        user: &UserId,
        now: Timestamp,
    ) -> Result<TransactWriteItem, Failure> {
        let mut item = Key::attempts(tenant, user).attributes();
        item.insert(PROOFS_AFTER.to_owned(), instant(now));
        let kept = now.checked_add(KEPT).unwrap_or(Timestamp::MAX);
        item.insert("expires_at".to_owned(), number(ttl_seconds(kept)));
        let put = Put::builder().table_name(&self.table).set_item(Some(item)).build();
        Ok(TransactWriteItem::builder().put(built(put)?).build())
    }

    pub(super) async fn settle(
        &self,
        attempt: &AttemptKey<'_>,
        verdict: &Verdict<'_>,
    ) -> Result<(), Failure> {
        for change in settlements(attempt, verdict) {
            let Err(kept) = self.change_attempts(attempt, change).await? else {
                return Ok(());
            };
            let kept = Attempts::read(&kept, Bucket::of(attempt))?;
            // Forgiven or forgotten meanwhile, or settled by a write whose answer was lost.
            if !kept.places.contains(&attempt.id) || kept.failed.contains(&attempt.id) {
                return Ok(());
            }
        }
        Err(Failure::Unavailable("the user's attempts kept changing".into()))
    }

    /// The item after the change, or as it is where the condition did not hold.
    async fn change_attempts(
        &self,
        attempt: &AttemptKey<'_>,
        change: Change,
    ) -> Result<Result<Attributes, Attributes>, Failure> {
        let names = Bucket::of(attempt).names(&change);
        let Change { update, condition, values } = change;
        let values: HashMap<_, _> =
            values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let request = || {
            self.client
                .update_item()
                .table_name(&self.table)
                .set_key(Some(Key::attempts(attempt.tenant, attempt.user).attributes()))
                .update_expression(&update)
                .condition_expression(&condition)
                .set_expression_attribute_names(Some(names.clone()))
                .set_expression_attribute_values(Some(values.clone()))
                .return_values(ReturnValue::AllNew)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                .send()
        };
        match retried(request).await {
            Ok(done) => Ok(Ok(done.attributes.unwrap_or_default())),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                    Ok(Err(refused.item.clone().unwrap_or_default()))
                }
                _ => Err(unavailable(&error)),
            },
        }
    }
}

/// Adds the attempt if there is room.
fn take_place(attempt: &AttemptKey<'_>, budget: AttemptBudget, now: Timestamp) -> Change {
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
    if let Some(room) = room(budget, 0) {
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

/// Replaces a lockout that is over by one with this attempt alone, unless somebody else did, or the
/// old one was still being settled.
fn start_over(attempt: AttemptId, kept: &Attempts, budget: AttemptBudget, now: Timestamp) -> Change {
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
        (":recent", id_set(kept.recent(now).into_iter().chain([attempt]))),
        (":quiet", instant(quiet_at)),
        (":ttl", number(kept_until)),
        (":was", instant(kept.quiet_at.unwrap_or(now))),
    ];
    if kept.places.is_empty() {
        conditions.push("attribute_not_exists(#attempts)");
    } else {
        conditions.push("#attempts = :places");
        values.push((":places", id_set(kept.places.iter().copied())));
    }
    if kept.failures == 0 {
        conditions.push("attribute_not_exists(#failures)");
    } else {
        conditions.push("#failures = :failures");
        values.push((":failures", number(kept.failures)));
    }
    let failures = kept.failures_in_the_end();
    if failures != kept.failures {
        sets.push("#failures = :in_the_end");
        values.push((":in_the_end", number(failures)));
    }
    match room(budget, failures) {
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

/// The places of a lockout after so many failures in a row, where they are fewer than usual.
fn room(budget: AttemptBudget, failures: u32) -> Option<usize> {
    let left = usize::try_from(budget.disable_after.saturating_sub(failures)).unwrap_or(usize::MAX);
    (left < budget.max).then_some(left)
}

/// What says how an attempt ended, in the order in which it is tried: each has a condition.
fn settlements(attempt: &AttemptKey<'_>, verdict: &Verdict<'_>) -> Vec<Change> {
    match verdict {
        Verdict::Failed { disable_after } => {
            let last = disable_after.saturating_sub(1);
            let (one_more, the_last) = (one_more(attempt.id, last), the_last(attempt.id, last));
            // A success in between ends the row, and others make it longer.
            match last {
                0 => vec![the_last],
                _ => vec![one_more.clone(), the_last.clone(), one_more, the_last],
            }
        }
        Verdict::Succeeded(seen) => {
            let ids = || id_set(seen.iter().copied().chain([attempt.id]));
            let give_back = Change {
                update: "DELETE #attempts :ids, #failed :ids, #recent :own_set REMOVE #failures, #room"
                    .to_owned(),
                condition: "contains(#attempts, :own)".to_owned(),
                values: vec![(":ids", ids()), (":own_set", id_set([attempt.id])), own(attempt.id)],
            };
            vec![leave_nothing(attempt, ids(), ""), give_back]
        }
        Verdict::Unused => {
            let give_back = Change {
                update: "DELETE #attempts :own_set, #recent :own_set".to_owned(),
                condition: "contains(#attempts, :own)".to_owned(),
                values: vec![(":own_set", id_set([attempt.id])), own(attempt.id)],
            };
            let ids = id_set([attempt.id]);
            vec![leave_nothing(attempt, ids, " AND attribute_not_exists(#failures)"), give_back]
        }
    }
}

/// A failure that is not the last of its row.
fn one_more(id: AttemptId, last: u32) -> Change {
    Change {
        update: "ADD #failed :own_set, #failures :one".to_owned(),
        condition: format!("{UNSETTLED} AND (attribute_not_exists(#failures) OR #failures < :last)"),
        values: vec![own(id), (":own_set", id_set([id])), (":one", number(1)), (":last", number(last))],
    }
}

/// The last one: the item is kept until a new password.
fn the_last(id: AttemptId, last: u32) -> Change {
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

/// Takes the bucket away if the attempt is all there is in it.
fn leave_nothing(attempt: &AttemptKey<'_>, ids: AttributeValue, and: &str) -> Change {
    let (update, mut values) = Bucket::of(attempt).removal();
    values.push((":ids", ids));
    values.push((":own_set", id_set([attempt.id])));
    Change { update, condition: format!("#attempts = :ids AND #recent = :own_set{and}"), values }
}

fn own(id: AttemptId) -> (&'static str, AttributeValue) {
    (":own", string(id.to_string()))
}
