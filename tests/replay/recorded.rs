//! The typed form of a recorded event's `doorward` member (events/README.md). Unknown keys are errors, so
//! that a mistyped key never falls back to a default.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use doorward::domain::Medium;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// What the replay reads of a recorded event.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// The steps that set the case up, each a [`Step`] once its placeholders are filled.
    #[serde(default)]
    pub(super) given: Vec<Value>,
    /// The decoded body of a binary request.
    pub(super) sends: Option<Value>,
    /// The decompressed batch of an event of CloudWatch Logs.
    pub(super) holds: Option<Value>,
    /// The expected result, whose type depends on the function.
    pub(super) expect: Value,
}

impl Case {
    /// Reads the `doorward` member of a recorded event.
    pub(super) fn of(recorded: &Value) -> Result<Self> {
        read(&recorded["doorward"]).context("doorward")
    }
}

/// Reads one typed part of a recorded event.
pub(super) fn read<T: DeserializeOwned>(value: &Value) -> Result<T> {
    serde_json::from_value(value.clone()).with_context(|| {
        format!("{value} has a missing, misspelled or unexpected key; events/README.md lists the keys")
    })
}

/// The expected HTTP response.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Response {
    pub(super) status: i64,
    /// Headers besides those of every response.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) cookies: Vec<String>,
    pub(super) body: Option<Value>,
    /// Texts that the page contains.
    pub(super) text: Option<Vec<String>>,
    /// Texts that the page does not contain.
    #[serde(default)]
    pub(super) text_without: Vec<String>,
    /// Outcome and reason in the audit log. Absent for `SUCCESS` without a reason, and for a request without an event.
    #[serde(default)]
    pub(super) audit: String,
}

/// The expected result of a batch of the table's stream.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Delivered {
    /// Lambda's result: the records to send again.
    pub(super) answer: Value,
    pub(super) sent: Vec<Message>,
}

/// A message that was sent: the recipient and the name of the reset code in it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Message {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) event: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<String>,
}

/// The expected result of an event of CloudWatch Logs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Anchored {
    pub(super) answer: Option<Value>,
    pub(super) error: Option<String>,
    #[serde(default)]
    pub(super) anchors: Vec<StoredAnchor>,
}

/// A stored anchor of a chain of the audit log.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct StoredAnchor {
    pub(super) tenant: Option<String>,
    pub(super) day: String,
    pub(super) chain: String,
    pub(super) sequence: Option<u64>,
    pub(super) hash: Option<Value>,
    pub(super) is_broken: bool,
}

/// The expected decision of the authorizer.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Decision {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) answer: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// As in [`Response`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) audit: String,
}

/// The expected result of a step of a secret rotation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RotationStep {
    pub(super) answer: Option<Value>,
    pub(super) error: Option<String>,
    /// The version that is current afterwards: the rotation's own, or `another`.
    pub(super) current: Option<String>,
}

fn login() -> String {
    "login".to_owned()
}

fn code() -> String {
    "code".to_owned()
}

fn cursor() -> String {
    "cursor".to_owned()
}

fn queued() -> String {
    "queued".to_owned()
}

fn client() -> String {
    "client".to_owned()
}

fn once() -> u32 {
    1
}

/// One step of `given`.
#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields, rename_all_fields = "camelCase")]
pub(super) enum Step {
    Login {
        login: String,
        #[serde(rename = "as", default = "login")]
        name: String,
        collection: Option<String>,
    },
    Refresh {
        refresh: String,
        #[serde(rename = "as")]
        name: Option<String>,
        #[serde(default = "once")]
        times: u32,
    },
    Logout {
        logout: String,
    },
    Client {
        client: String,
        scopes: Vec<String>,
        organization: Option<String>,
        #[serde(rename = "as", default = "client")]
        name: String,
    },
    DisableClient {
        disable_client: String,
    },
    EndAll {
        end_all: String,
    },
    List {
        list: String,
        limit: u32,
        #[serde(rename = "as", default = "cursor")]
        name: String,
    },
    Forget {
        forget: String,
    },
    Fail {
        fail: String,
        #[serde(default = "once")]
        times: u32,
    },
    FailUpdate {
        fail_update: String,
        #[serde(default = "login")]
        by: String,
        #[serde(default = "once")]
        times: u32,
    },
    FailCode {
        fail_code: String,
        #[serde(default = "once")]
        times: u32,
    },
    Reset {
        reset: String,
        #[serde(default = "login")]
        by: String,
    },
    Update {
        update: String,
        #[serde(default = "login")]
        by: String,
        with: Value,
    },
    Follow {
        follow: String,
        #[serde(default)]
        typing: bool,
    },
    Ask {
        ask: String,
        #[serde(rename = "as", default = "code")]
        name: String,
        by: Option<String>,
        #[serde(default = "once")]
        times: u32,
    },
    Queue {
        queue: String,
        #[serde(default)]
        medium: MessageMedium,
        #[serde(rename = "as", default = "queued")]
        name: String,
    },
    Queued {
        queued: String,
        #[serde(rename = "as", default = "queued")]
        name: String,
    },
    Courier {
        courier: CourierFate,
    },
    Advance {
        advance_milliseconds: u64,
    },
    Origin {
        names: String,
        tenant: String,
    },
    LinkHost {
        leads_to: String,
        tenant: String,
    },
    Tenant {
        tenant: String,
        #[serde(default)]
        status: Status,
        admits: Option<String>,
    },
    Policy(PolicyChange),
    Rotate {
        rotating: String,
        version: String,
        steps: Vec<doorward::secrets::Step>,
    },
    Down {
        down: Dependency,
    },
    Send {
        #[expect(dead_code, reason = "only `first` is a value")]
        send: Sent,
        #[serde(default)]
        with: Map<String, Value>,
    },
}

/// Changed fields of a tenant's policy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct PolicyChange {
    pub(super) policy: String,
    pub(super) password_history: Option<usize>,
    pub(super) wrong_codes: Option<u32>,
    pub(super) disable_after: Option<u32>,
    pub(super) failures_per_user: Option<u32>,
    pub(super) failures_per_address: Option<u32>,
    pub(super) failures_per_tenant: Option<u32>,
    pub(super) session_limit: Option<u32>,
    pub(super) when_full: Option<String>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum MessageMedium {
    #[default]
    Mail,
    Text,
}

impl From<MessageMedium> for Medium {
    fn from(medium: MessageMedium) -> Self {
        match medium {
            MessageMedium::Mail => Self::Mail,
            MessageMedium::Text => Self::Text,
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum CourierFate {
    Failed,
    Refused,
    Throttled,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Status {
    #[default]
    Active,
    Suspended,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Dependency {
    Dynamodb,
    Secrets,
    Hashing,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Sent {
    First,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn misspelled_keys_and_values_of_steps_are_rejected() {
        assert!(read::<Step>(&json!({ "fail": "a@example.com", "times": 3 })).is_ok());
        for step in [
            json!({ "fail": "a@example.com", "time": 3 }),
            json!({ "fial": "a@example.com", "times": 3 }),
            json!({ "fail": "a@example.com", "times": "3" }),
            json!({ "login": "a@example.com", "AS": "admin" }),
            json!({ "tenant": "t", "status": "suspended" }),
            json!({ "policy": "t", "disabledAfter": 3 }),
            json!({ "down": "dynamo" }),
            json!({ "send": "second" }),
            json!({}),
        ] {
            assert!(read::<Step>(&step).is_err(), "{step} was accepted");
        }
    }

    #[test]
    fn misspelled_keys_of_a_case_are_rejected() {
        assert!(Case::of(&json!({ "doorward": { "given": [], "expect": {} } })).is_ok());
        for case in [
            json!({ "doorward": { "givn": [], "expect": {} } }),
            json!({ "doorward": { "given": [], "expects": {} } }),
            json!({ "doorward": { "given": [] } }),
            json!({}),
        ] {
            assert!(Case::of(&case).is_err(), "{case} was accepted");
        }
    }

    #[test]
    fn misspelled_keys_of_expectations_are_rejected() {
        assert!(read::<Response>(&json!({ "status": 200, "textWithout": [] })).is_ok());
        assert!(read::<Response>(&json!({ "status": 200, "text_without": [] })).is_err());
        assert!(read::<Response>(&json!({ "status": 200, "header": {} })).is_err());
        assert!(read::<Response>(&json!({ "status": "200" })).is_err());
        assert!(read::<Decision>(&json!({ "answers": {} })).is_err());
        assert!(read::<Delivered>(&json!({ "answer": {}, "sends": [] })).is_err());
        assert!(read::<Anchored>(&json!({ "answer": {}, "anchor": [] })).is_err());
        assert!(read::<RotationStep>(&json!({ "answer": {}, "curent": "another" })).is_err());
    }
}
