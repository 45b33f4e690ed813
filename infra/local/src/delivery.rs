//! Connection of the table's stream to the delivery function, as `infra/delivery.json` describes it.
//! The deployment reads the same file. Its names are those of a Lambda event source mapping.
//!
//! Reasons for the values:
//! - **filter**: only outbox items that are new or were queued again invoke the function. Most records
//!   of the stream are sessions and users.
//! - **batch size 10, window 0**: a person waits for the mail, so Lambda does not wait for more
//!   records. Sending ten messages one after the other takes far less than the function's timeout.
//! - **parallelization factor 10** (the maximum): Lambda splits a shard by partition key, which
//!   identifies the user. One user's messages keep their order, and a slow send delays few others.
//! - **20 retries**: with growing pauses they last 20 to 30 minutes. An SES outage of that length
//!   loses no mail, and a record that always fails delays the records behind it no longer. Throttling
//!   by SES counts no retry: the function queues the message again, until the message expires.
//! - **maximum record age 24 h**, the retention of a stream: the item contains its own expiry, which
//!   the function checks.
//! - **bisect** and **item failures**: a bad record does not make its neighbours fail or be sent
//!   twice.
//! - **SQS**: records that were given up stay in a queue for an operator. They contain only keys.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

const DESCRIPTION: &str = include_str!("../../delivery.json");

/// Contents of `infra/delivery.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delivery {
    /// Name of the function's binary.
    pub function: String,
    pub filter: Pattern,
    /// A `StartingPosition`: where a new mapping begins to read.
    pub starting_position: String,
    pub batch_size: usize,
    /// Seconds. The local stack never waits to fill a batch.
    pub maximum_batching_window_seconds: u32,
    /// The local stack has one shard and sends one batch at a time.
    pub parallelization_factor: u32,
    pub maximum_retry_attempts: u32,
    pub maximum_record_age_seconds: i64,
    pub bisect_batch_on_function_error: bool,
    pub report_batch_item_failures: bool,
    /// Kind of destination for records that were given up.
    pub on_failure: String,
}

/// Event filter pattern. Supports the rules that this project uses: exact strings and prefixes.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Pattern {
    /// The value must match one of these rules.
    AnyOf(Vec<Rule>),
    /// Each of these members must exist and match.
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
    /// When `infra/delivery.json` has an unexpected format.
    pub fn load() -> Result<Self> {
        serde_json::from_str(DESCRIPTION).context("infra/delivery.json has an unexpected format")
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
    fn values_are_within_the_limits_of_lambda() {
        let delivery = Delivery::load().unwrap();
        assert!((1..=10_000).contains(&delivery.batch_size));
        assert!(delivery.maximum_batching_window_seconds <= 300);
        assert!((1..=10).contains(&delivery.parallelization_factor));
        assert!(delivery.maximum_retry_attempts <= 10_000);
        assert!((60..=604_800).contains(&delivery.maximum_record_age_seconds));
    }

    #[test]
    fn only_queued_outbox_items_match_the_filter() {
        let filter = Delivery::load().unwrap().filter;
        let record = |name: &str, sk: &str| json!({ "eventName": name, "dynamodb": { "Keys": { "pk": { "S": "OUT#" }, "sk": { "S": sk } } } });
        assert!(filter.matches(&record("INSERT", "OUT#01K")));
        assert!(!filter.matches(&record("REMOVE", "OUT#01K")));
        assert!(filter.matches(&record("MODIFY", "OUT#01K")));
        assert!(!filter.matches(&record("INSERT", "S#OUT#")));
        assert!(!filter.matches(&record("INSERT", "USER")));
        assert!(!filter.matches(&json!({ "eventName": "INSERT" })));
    }

    #[test]
    fn unsupported_patterns_are_rejected() {
        for pattern in [json!({ "a": [{ "suffix": "x" }] }), json!({ "a": [1] }), json!("x")] {
            serde_json::from_value::<Pattern>(pattern).unwrap_err();
        }
    }
}
