//! The attempts item: at most `max` guesses at one user's password are ever verified between two
//! successful logins, however many arrive at once (security 7).
//!
//! `attempts` is the set of attempt ids that hold a place, `failed` the subset that was wrong. A
//! success gives back its own place and those of the failures that its reservation saw, so right
//! passwords in parallel never add up. Ids make a repeated write harmless. An attempt that neither
//! failed nor succeeded within [`LEASE`] died with its process: it counts as failed. Everything is
//! forgotten after a lockout's length without a new attempt.

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_dynamodb::{
    operation::update_item::UpdateItemError,
    types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use jiff::Timestamp;

use super::{
    DynamoStore,
    conflict::{only_refused, retried},
    item::{Attributes, corrupt, id_set, instant, number, to_instant, ttl_seconds, unavailable},
    keys::Key,
};
use crate::{
    domain::{AttemptId, Failure},
    port::{AttemptBudget, AttemptKey, Reservation, Verdict},
};

/// No function runs longer: an attempt older than this will not end any more.
const LEASE: Duration = Duration::from_secs(60);
/// How often a quiet record may be found reset by somebody else at the same moment.
const RESET_TRIES: usize = 3;

/// The item, read.
struct Attempts {
    places: BTreeSet<AttemptId>,
    failed: BTreeSet<AttemptId>,
    quiet_at: Timestamp,
}

impl Attempts {
    fn read(item: &Attributes) -> Result<Self, Failure> {
        let set = |name: &str| match item.get(name) {
            None => Ok(BTreeSet::new()),
            Some(AttributeValue::Ss(ids)) => {
                ids.iter().map(|id| AttemptId::parse(id).map_err(|_| corrupt("attempt id"))).collect()
            }
            Some(_) => Err(corrupt("attempt set")),
        };
        let quiet_at = match item.get("quiet_at") {
            Some(AttributeValue::N(millis)) => to_instant(millis.parse().map_err(|_| corrupt("instant"))?)?,
            _ => return Err(corrupt("attempts item")),
        };
        Ok(Self { places: set("attempts")?, failed: set("failed")?, quiet_at })
    }

    /// Those that were wrong, or died.
    fn lost(&self, now: Timestamp) -> Vec<AttemptId> {
        let dead = |id: &AttemptId| id.made_at().checked_add(LEASE).is_ok_and(|end| end < now);
        self.places.iter().copied().filter(|id| self.failed.contains(id) || dead(id)).collect()
    }
}

impl DynamoStore {
    pub(super) async fn reserve(
        &self,
        attempt: &AttemptKey<'_>,
        budget: AttemptBudget,
        now: Timestamp,
    ) -> Result<Reservation, Failure> {
        let quiet_at =
            Timestamp::from_millisecond(now.as_millisecond().saturating_add(budget.lockout_millis))
                .unwrap_or(Timestamp::MAX);
        for _ in 0..RESET_TRIES {
            let kept = match self.take_place(attempt, budget, now, quiet_at).await? {
                Ok(after) => {
                    let seen = after.lost(now).into_iter().filter(|id| *id != attempt.id).collect();
                    return Ok(Reservation::Granted(seen));
                }
                Err(kept) => kept,
            };
            if kept.places.contains(&attempt.id) {
                // The SDK repeated a write whose answer was lost: the place is ours.
                return Ok(Reservation::Granted(kept.lost(now)));
            }
            if kept.quiet_at > now {
                let locked = kept.lost(now).len() >= budget.max;
                return Ok(if locked { Reservation::Locked(kept.quiet_at) } else { Reservation::Busy });
            }
            if self.start_over(attempt, kept.quiet_at, quiet_at).await? {
                return Ok(Reservation::Granted(Vec::new()));
            }
        }
        Ok(Reservation::Busy)
    }

    /// Adds the attempt if there is room; otherwise what stands in its way.
    async fn take_place(
        &self,
        attempt: &AttemptKey<'_>,
        budget: AttemptBudget,
        now: Timestamp,
        quiet_at: Timestamp,
    ) -> Result<Result<Attempts, Attempts>, Failure> {
        let request = || {
            self.client
                .update_item()
                .table_name(&self.table)
                .set_key(Some(Key::attempts(attempt.tenant, attempt.user).attributes()))
                .update_expression("ADD attempts :id SET quiet_at = :quiet, expires_at = :ttl")
                .condition_expression(
                    "attribute_not_exists(quiet_at) OR \
                     (quiet_at > :now AND (attribute_not_exists(attempts) OR size(attempts) < :max))",
                )
                .expression_attribute_values(":id", id_set([attempt.id]))
                .expression_attribute_values(":quiet", instant(quiet_at))
                .expression_attribute_values(":ttl", number(ttl_seconds(quiet_at)))
                .expression_attribute_values(":now", instant(now))
                .expression_attribute_values(":max", number(budget.max))
                .return_values(ReturnValue::AllNew)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                .send()
        };
        match retried(request).await {
            Ok(done) => Ok(Ok(Attempts::read(&done.attributes.unwrap_or_default())?)),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                    let kept = refused.item.as_ref().ok_or_else(|| corrupt("attempts item"))?;
                    Ok(Err(Attempts::read(kept)?))
                }
                _ => Err(unavailable(&error)),
            },
        }
    }

    /// Replaces a record that went quiet by one with this attempt alone, unless somebody else did.
    async fn start_over(
        &self,
        attempt: &AttemptKey<'_>,
        was_quiet_at: Timestamp,
        quiet_at: Timestamp,
    ) -> Result<bool, Failure> {
        let request = || {
            self.client
                .update_item()
                .table_name(&self.table)
                .set_key(Some(Key::attempts(attempt.tenant, attempt.user).attributes()))
                .update_expression("SET attempts = :id, quiet_at = :quiet, expires_at = :ttl REMOVE failed")
                .condition_expression("quiet_at = :was")
                .expression_attribute_values(":id", id_set([attempt.id]))
                .expression_attribute_values(":quiet", instant(quiet_at))
                .expression_attribute_values(":ttl", number(ttl_seconds(quiet_at)))
                .expression_attribute_values(":was", instant(was_quiet_at))
                .send()
        };
        match retried(request).await {
            Ok(_) => Ok(true),
            Err(error) => only_refused(&error).map(|()| false),
        }
    }

    pub(super) async fn settle(
        &self,
        attempt: &AttemptKey<'_>,
        verdict: &Verdict<'_>,
    ) -> Result<(), Failure> {
        let (update, condition) = match verdict {
            // Not one that was forgiven or forgotten meanwhile.
            Verdict::Failed => ("ADD failed :ids", "contains(attempts, :own)"),
            Verdict::Succeeded([]) => ("DELETE attempts :ids", "contains(attempts, :own)"),
            Verdict::Succeeded(_) => ("DELETE attempts :ids, failed :ids", "contains(attempts, :own)"),
        };
        let ids = match verdict {
            Verdict::Failed => id_set([attempt.id]),
            Verdict::Succeeded(seen) => id_set(seen.iter().copied().chain([attempt.id])),
        };
        let request = || {
            self.client
                .update_item()
                .table_name(&self.table)
                .set_key(Some(Key::attempts(attempt.tenant, attempt.user).attributes()))
                .update_expression(update)
                .condition_expression(condition)
                .expression_attribute_values(":ids", ids.clone())
                .expression_attribute_values(":own", super::item::string(attempt.id.to_string()))
                .send()
        };
        match retried(request).await {
            Ok(_) => Ok(()),
            Err(error) => only_refused(&error),
        }
    }
}
