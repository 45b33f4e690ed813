//! How the table's stream feeds the sender, from the description that deployment reads too:
//! `infra/delivery.json`. Its names are those of a Lambda event source mapping.
//!
//! Why these numbers:
//! - **filter**: new outbox items alone; sessions and users, the bulk of the stream, invoke nothing.
//! - **batch size 10, window 0**: a person waits for the mail, so nothing is collected. Ten that are
//!   there already, sent one after the other, stay far below the function's timeout.
//! - **parallelization factor 10**, the most there is: a shard is split by partition key, which is
//!   the user, so that one user's messages keep their order and few others wait for a slow send.
//! - **20 retries**: with growing pauses some 20 to 30 minutes, so that such an outage of SES costs no
//!   mail; and a record that can never be handled holds up those behind it for no longer.
//! - **a record's age of 24 h**, all that a stream keeps: how long a message is worth sending is
//!   written in the item, and the function judges it.
//! - **bisect** and **item failures**: one bad record neither fails nor sends its neighbours twice.
//! - **SQS**: what is given up stays for an operator, keys only.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

const DESCRIPTION: &str = include_str!("../../delivery.json");

/// The mapping as `infra/delivery.json` describes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delivery {
    /// The binary that is invoked.
    pub function: String,
    pub filter: Pattern,
    /// A `StartingPosition`: where a mapping begins that has not read yet.
    pub starting_position: String,
    pub batch_size: usize,
    /// The local stack never waits to fill a batch.
    pub maximum_batching_window_seconds: u32,
    /// The local stack has one shard and invokes one batch at a time.
    pub parallelization_factor: u32,
    pub maximum_retry_attempts: u32,
    pub maximum_record_age_seconds: i64,
    pub bisect_batch_on_function_error: bool,
    pub report_batch_item_failures: bool,
    /// The kind of queue for what is given up.
    pub on_failure: String,
}

/// An event filter pattern, as far as this project uses them: exact strings and prefixes.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Pattern {
    /// The value must be one of these.
    AnyOf(Vec<Rule>),
    /// Each of these members must fit.
    Members(BTreeMap<String, Pattern>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Rule {
    Exact(String),
    Prefix(Prefix),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prefix {
    pub prefix: String,
}

impl Delivery {
    /// # Errors
    /// When `infra/delivery.json` is not in its own form.
    pub fn load() -> Result<Self> {
        serde_json::from_str(DESCRIPTION).context("infra/delivery.json is not in the expected form")
    }
}

impl Pattern {
    #[must_use]
    pub fn matches(&self, value: &Value) -> bool {
        match self {
            Self::AnyOf(rules) => value.as_str().is_some_and(|text| rules.iter().any(|it| it.matches(text))),
            Self::Members(members) => {
                members.iter().all(|(name, pattern)| value.get(name).is_some_and(|it| pattern.matches(it)))
            }
        }
    }
}

impl Rule {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == text,
            Self::Prefix(Prefix { prefix }) => text.starts_with(prefix.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_within_what_lambda_takes() {
        let delivery = Delivery::load().unwrap();
        assert!((1..=10_000).contains(&delivery.batch_size));
        assert!(delivery.maximum_batching_window_seconds <= 300);
        assert!((1..=10).contains(&delivery.parallelization_factor));
        assert!(delivery.maximum_retry_attempts <= 10_000);
        assert!((60..=604_800).contains(&delivery.maximum_record_age_seconds));
    }

    #[test]
    fn only_new_outbox_items_pass() {
        let filter = Delivery::load().unwrap().filter;
        let record = |name: &str, sk: &str| json!({ "eventName": name, "dynamodb": { "Keys": { "pk": { "S": "OUT#" }, "sk": { "S": sk } } } });
        assert!(filter.matches(&record("INSERT", "OUT#01K")));
        assert!(!filter.matches(&record("REMOVE", "OUT#01K")));
        assert!(!filter.matches(&record("MODIFY", "OUT#01K")));
        assert!(!filter.matches(&record("INSERT", "S#OUT#")));
        assert!(!filter.matches(&record("INSERT", "USER")));
        assert!(!filter.matches(&json!({ "eventName": "INSERT" })));
    }

    #[test]
    fn patterns_that_would_not_be_followed_are_refused() {
        for pattern in [json!({ "a": [{ "suffix": "x" }] }), json!({ "a": [1] }), json!("x")] {
            serde_json::from_value::<Pattern>(pattern).unwrap_err();
        }
    }
}
