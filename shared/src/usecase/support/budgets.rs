//! Hourly budgets of failed attempts, and the units that one attempt takes (docs/design/security.md#rule-10).

use std::{net::IpAddr, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use futures_util::future::join_all;

use super::tenant_request::TenantRequest;
use crate::{
    context::RequestContext,
    domain::{BudgetOf, Failure, HourBudget},
    store::DynamoStore,
    token::TenantKeys,
};

/// A tenant's budget of at least this size is split into parts, so that an attack does not write all its
/// failures to one item: a DynamoDB partition takes 1,000 writes per second (docs/design/storage.md).
const PART: u32 = 1_000;
/// Maximum number of parts.
const MAX_PARTS: u32 = 16;

/// The budgets that apply to an attempt from an address: that of the address, and the part of the tenant's budget that
/// counts the failures of `id`, a user or client.
///
/// # Errors
/// `Unavailable` when the tenant has no root key.
pub(in crate::usecase) fn hourly_budgets(
    request: &TenantRequest<'_>,
    ip: Option<IpAddr>,
    id: &str,
) -> Result<Vec<HourBudget>, Failure> {
    let policy = request.policy();
    let (part, share) = part_of(id, policy.failures_per_tenant, &request.keys)?;
    let of_address = (BudgetOf::WrongPasswords(ip), policy.failures_per_ip);
    let of_tenant = (BudgetOf::TenantPart(part), share);
    let budget = |(of, max)| HourBudget { tenant: request.tenant.id.clone(), of, max, now: request.now() };
    Ok([of_address, of_tenant].map(budget).into())
}

/// The part of its tenant's budget that counts the failures of an ID, and the size of that part. The part depends on a
/// key, because an attacker could otherwise use up the part of one user with failures of invented users.
fn part_of(id: &str, budget: u32, keys: &TenantKeys) -> Result<(u32, u32), Failure> {
    let parts = (budget / PART).clamp(1, MAX_PARTS);
    Ok((keys.part_of(id, parts)?, budget.div_ceil(parts)))
}

/// Units of hourly budgets that an attempt took, and those that it takes if it fails.
#[derive(Default)]
pub(in crate::usecase) struct BudgetCharge {
    /// Budgets that count the attempt if it fails.
    owed: Vec<HourBudget>,
    /// Budgets that already counted the attempt, and get the unit back unless it fails.
    taken: Vec<HourBudget>,
}

/// Why a budget gave no unit.
enum BudgetError {
    UsedUp,
    Refused(Failure),
}

impl BudgetCharge {
    /// Applies `budgets`, of which `used` units were used when they were read. A budget that is less than half
    /// used counts the attempt only if it fails. Any other budget counts it now, before the verification. A
    /// burst that begins when at least half is used therefore cannot exceed the budget.
    ///
    /// # Errors
    /// `RateLimited` until the end of the hour; `Unavailable`. Call [`Self::give_back`] then.
    pub(in crate::usecase) async fn charge(
        &mut self,
        store: &DynamoStore,
        context: &RequestContext,
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
            context.record_tenant_budget_half_used();
        }
        if let Some(failure) = spent {
            return Err(failure);
        }
        self.owed = ample.into_iter().map(|(budget, _)| budget).collect();
        self.take(store, scarce.into_iter().map(|(budget, _)| budget).collect()).await
    }

    /// Takes a unit of each budget, one after the other: an attempt that the first budget refuses takes nothing
    /// from the second. Waits about one hash for units that other attempts may give back.
    ///
    /// # Errors
    /// As [`Self::charge`].
    pub(in crate::usecase) async fn take(
        &mut self,
        store: &DynamoStore,
        budgets: Vec<HourBudget>,
    ) -> Result<(), Failure> {
        for budget in budgets {
            let take = || async {
                let left = store.take_from_budget(&budget).await;
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

    /// Counts a failed attempt.
    ///
    /// # Errors
    /// `Unavailable`
    pub(in crate::usecase) async fn failed(&self, store: &DynamoStore) -> Result<(), Failure> {
        let counted = join_all(self.owed.iter().map(|budget| store.count_against_budget(budget))).await;
        counted.into_iter().collect()
    }

    /// Gives the units back, because the attempt did not fail.
    ///
    /// # Errors
    /// `Unavailable`
    pub(in crate::usecase) async fn give_back(&self, store: &DynamoStore) -> Result<(), Failure> {
        let returned = join_all(self.taken.iter().map(|budget| store.return_to_budget(budget))).await;
        returned.into_iter().collect()
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
                let (part, of) = part_of(&format!("user-{n}"), budget, &keys).unwrap();
                assert_eq!(of, share, "{budget}");
                counts[part as usize] += 1;
            }
            assert!(counts.iter().all(|count| count * parts > 800), "{budget}: {counts:?}");
        }
    }
}
