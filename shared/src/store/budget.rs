//! Budgets of an hour: one counter each, gone with its hour (docs/design/security.md#rule-10 and #rule-19).
//!
//! A repeated write counts twice: a budget that is one smaller, or one larger, after a lost answer harms
//! nobody.

use aws_sdk_dynamodb::types::AttributeValue;

use super::{
    DynamoStore,
    conflict::{only_refused, retried},
    item::{Attributes, corrupt, number},
    keys::Key,
};
use crate::{domain::Failure, port::HourBudget};

/// How much of a budget its item says is used.
pub(super) fn to_used(item: Option<&Attributes>) -> Result<u32, Failure> {
    match item.and_then(|item| item.get("used")) {
        None => Ok(0),
        Some(AttributeValue::N(used)) => {
            let used: i64 = used.parse().map_err(|_| corrupt("budget"))?;
            Ok(u32::try_from(used.max(0)).unwrap_or(u32::MAX))
        }
        Some(_) => Err(corrupt("budget")),
    }
}

impl DynamoStore {
    /// Whether there was one left.
    pub(super) async fn take(&self, budget: &HourBudget) -> Result<bool, Failure> {
        let left = ("attribute_not_exists(used) OR used < :bound", number(budget.max));
        self.change(budget, 1, Some(left)).await
    }

    pub(super) async fn give_back(&self, budget: &HourBudget) -> Result<(), Failure> {
        self.change(budget, -1, Some(("used > :bound", number(0)))).await.map(|_| ())
    }

    pub(super) async fn count(&self, budget: &HourBudget) -> Result<(), Failure> {
        self.change(budget, 1, None).await.map(|_| ())
    }

    /// Whether the condition held.
    async fn change(
        &self,
        budget: &HourBudget,
        by: i32,
        condition: Option<(&str, AttributeValue)>,
    ) -> Result<bool, Failure> {
        let request = || {
            let request = self
                .client
                .update_item()
                .table_name(&self.table)
                .set_key(Some(Key::budget(budget).attributes()))
                .update_expression("ADD used :by SET expires_at = :ttl")
                .expression_attribute_values(":by", number(by))
                .expression_attribute_values(":ttl", number(budget.ends_at()));
            match &condition {
                Some((condition, bound)) => request
                    .condition_expression(*condition)
                    .expression_attribute_values(":bound", bound.clone()),
                None => request,
            }
            .send()
        };
        match retried(request).await {
            Ok(_) => Ok(true),
            Err(error) => only_refused(&error).map(|()| false),
        }
    }
}
