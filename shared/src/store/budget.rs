//! Hourly budgets. Each is one counter item that expires with its hour (docs/design/security.md#rule-10,
//! docs/design/security.md#rule-19).
//!
//! A write that the SDK repeats counts twice. This is acceptable, because it changes a budget only by 1.

use aws_sdk_dynamodb::types::AttributeValue;

use super::{
    DynamoStore,
    item::{Attributes, number, to_number},
    keys::Key,
    table::{Expressions, Updated},
};
use crate::domain::{Failure, HourBudget};

/// Returns the used part of a budget.
pub(super) fn to_used(item: Option<Attributes>) -> Result<u32, Failure> {
    let used: i64 = to_number(&item.unwrap_or_default(), "used")?.unwrap_or_default();
    Ok(u32::try_from(used.max(0)).unwrap_or(u32::MAX))
}

impl DynamoStore {
    /// Takes 1 from a budget. Returns `false` if the budget is used up.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn take_from_budget(&self, budget: &HourBudget) -> Result<bool, Failure> {
        let left = ("attribute_not_exists(used) OR used < :bound", number(budget.max));
        self.change_budget(budget, 1, Some(left)).await
    }

    /// Returns 1 to a budget, because the attempt did not fail.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn return_to_budget(&self, budget: &HourBudget) -> Result<(), Failure> {
        self.change_budget(budget, -1, Some(("used > :bound", number(0)))).await.map(|_| ())
    }

    /// Counts a failure that was not taken from the budget before. The count may exceed the budget.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn count_against_budget(&self, budget: &HourBudget) -> Result<(), Failure> {
        self.change_budget(budget, 1, None).await.map(|_| ())
    }

    /// Changes the used part of a budget. Returns whether the condition was true.
    async fn change_budget(
        &self,
        budget: &HourBudget,
        by: i32,
        condition: Option<(&str, AttributeValue)>,
    ) -> Result<bool, Failure> {
        let mut update = Expressions::update("ADD used :by SET expires_at = :ttl")
            .value(":by", number(by))
            .value(":ttl", number(budget.ends_at()));
        if let Some((condition, bound)) = condition {
            update = update.when(condition).value(":bound", bound);
        }
        let updated = self.update(&Key::budget(budget), update).await?;
        Ok(matches!(updated, Updated::Done(_)))
    }
}
