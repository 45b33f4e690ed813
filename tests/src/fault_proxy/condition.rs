//! Condition expressions of writes: recorded, or sent without one of their clauses (`cargo clauses`).

use std::{
    collections::HashSet,
    fs::OpenOptions,
    io::Write,
    sync::{LazyLock, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Collected, Full};
use serde_json::{Map, Value};

use super::call::{ItemKey, Operation, action_key};

/// Environment variable with the file to which each test writes its conditions.
pub const RECORD_VARIABLE: &str = "DOORWARD_TEST_RECORD_CONDITIONS";
/// Environment variable with the clause that every proxy drops: `{number of the clause}\t{condition}`.
pub const DROP_VARIABLE: &str = "DOORWARD_TEST_DROP_CLAUSE";

/// Exit status of a test process after DynamoDB rejected a write without a clause as invalid.
pub const INVALID_STATUS: i32 = 86;

/// Condition that is always true. A `ConditionCheck` must have a condition.
const ALWAYS: &str = "attribute_exists(pk) OR attribute_not_exists(pk)";

static RECORD: LazyLock<Option<String>> = LazyLock::new(|| std::env::var(RECORD_VARIABLE).ok());
static RECORDED: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);
static DROPPED: LazyLock<Option<(usize, String)>> = LazyLock::new(|| {
    let variable = std::env::var(DROP_VARIABLE).ok()?;
    let (number, condition) = variable.split_once('\t')?;
    Some((number.parse().ok()?, condition.to_owned()))
});

/// Condition expression without one of its clauses.
#[derive(Debug, PartialEq, Eq)]
pub struct Weakened {
    /// The dropped clause.
    pub clause: String,
    /// The remaining expression. Empty if the dropped clause was the only one.
    pub rest: String,
}

/// Returns a condition expression without each of its clauses in turn. A clause is a part of a conjunction at any depth,
/// or the whole expression.
pub fn weakened(expression: &str) -> Vec<Weakened> {
    let is_disjunction = split(expression, " OR ").len() > 1;
    let operator = if is_disjunction { " OR " } else { " AND " };
    let parts = split(expression, operator);
    let with = |at: usize, replacement: Option<String>| {
        let parts = parts.iter().enumerate();
        let parts = parts.filter_map(|(number, part)| match &replacement {
            Some(replacement) if number == at => Some(replacement.as_str()),
            None if number == at => None,
            _ => Some(*part),
        });
        parts.collect::<Vec<_>>().join(operator)
    };
    let mut found = Vec::new();
    if is_disjunction {
        found.push(Weakened { clause: expression.to_owned(), rest: String::new() });
    }
    for (at, part) in parts.iter().enumerate() {
        if !is_disjunction {
            found.push(Weakened { clause: (*part).to_owned(), rest: with(at, None) });
        }
        let group = part.strip_prefix('(').and_then(|part| part.strip_suffix(')'));
        let inner = group.or(is_disjunction.then_some(part)).map(weakened).unwrap_or_default();
        // Without its only clause, a part is always true, which is the same as no part.
        for Weakened { clause, rest } in inner.into_iter().filter(|inner| !inner.rest.is_empty()) {
            let is_one = split(&rest, " AND ").len() == 1 && split(&rest, " OR ").len() == 1;
            let rest = if group.is_some() && !is_one { format!("({rest})") } else { rest };
            found.push(Weakened { clause, rest: with(at, Some(rest)) });
        }
    }
    found
}

/// Splits an expression at an operator outside of parentheses.
fn split<'a>(expression: &'a str, operator: &str) -> Vec<&'a str> {
    let (mut depth, mut start, mut parts) = (0_usize, 0, Vec::new());
    for (at, character) in expression.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ' ' if depth == 0 && expression[at..].starts_with(operator) => {
                parts.push(&expression[start..at]);
                start = at + operator.len();
            }
            _ => {}
        }
    }
    parts.push(&expression[start..]);
    parts
}

/// Records the conditions of a call and drops the clause that the environment names. Returns whether the call changed.
pub(super) fn apply(test: &str, operation: Operation, json: &mut Value) -> bool {
    let mut is_changed = false;
    for (condition, write) in conditional_writes(operation, json) {
        if let Some(file) = &*RECORD {
            record(file, &format!("{test}\t{condition}\n"));
        }
        if let Some((number, _)) = DROPPED.as_ref().filter(|(_, dropped)| *dropped == condition) {
            drop_clause(write, *number, condition.starts_with("ConditionCheck "));
            is_changed = true;
        }
    }
    is_changed
}

/// Ends the process if the answer is a `ValidationException`: it would make the test fail, but not because of the
/// dropped clause.
pub(super) async fn exit_if_invalid(answer: &Response<Full<Bytes>>) {
    let body = answer.body().clone().collect().await.map(Collected::to_bytes).unwrap_or_default();
    if answer.status() == StatusCode::BAD_REQUEST
        && String::from_utf8_lossy(&body).contains("#ValidationException")
    {
        std::process::exit(INVALID_STATUS);
    }
}

/// The writes with a condition. Each has a text: kind of the write, kind of the item, expression.
fn conditional_writes(operation: Operation, json: &mut Value) -> Vec<(String, &mut Map<String, Value>)> {
    let writes: Vec<(String, &mut Value)> = match operation {
        Operation::TransactWriteItems => {
            let items = json["TransactItems"].as_array_mut().into_iter().flatten();
            let actions = items.filter_map(Value::as_object_mut).flatten();
            actions.map(|(action, write)| (action.clone(), write)).collect()
        }
        _ if operation.is_plain_write() => {
            vec![(format!("{operation:?}").trim_end_matches("Item").to_owned(), json)]
        }
        _ => Vec::new(),
    };
    let text_of = |action: &str, write: &Value| {
        let expression = normalised(write["ConditionExpression"].as_str()?);
        let ItemKey { pk, sk } = action_key(&serde_json::json!({ "": write }));
        Some(format!("{action} {} {}: {expression}", kind(&pk), kind(&sk)))
    };
    let found = writes.into_iter().filter_map(|(action, write)| Some((text_of(&action, write)?, write)));
    found.filter_map(|(text, write)| Some((text, write.as_object_mut()?))).collect()
}

fn normalised(expression: &str) -> String {
    expression.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Kind of a key: the key without its IDs, such as `T#U`.
pub(super) fn kind(key: &str) -> String {
    key.split('#').step_by(2).collect::<Vec<_>>().join("#")
}

fn drop_clause(write: &mut Map<String, Value>, number: usize, is_check: bool) {
    let expression = normalised(write["ConditionExpression"].as_str().unwrap_or_default());
    let rest =
        weakened(&expression).into_iter().nth(number).map(|weakened| weakened.rest).unwrap_or_default();
    match (rest.is_empty(), is_check) {
        (false, _) => write.insert("ConditionExpression".to_owned(), rest.into()),
        (true, true) => write.insert("ConditionExpression".to_owned(), ALWAYS.into()),
        (true, false) => write.remove("ConditionExpression"),
    };
    // DynamoDB rejects names and values that no expression uses.
    let expressions = ["ConditionExpression", "UpdateExpression"].map(|name| write.get(name).cloned());
    let text: Vec<_> = expressions.iter().flatten().filter_map(Value::as_str).collect();
    let text = text.join(" ");
    let is_part = |character: char| character.is_ascii_alphanumeric() || "_:#".contains(character);
    let used: HashSet<_> = text.split(|character| !is_part(character)).collect();
    for name in ["ExpressionAttributeNames", "ExpressionAttributeValues"] {
        let Some(placeholders) = write.get_mut(name).and_then(Value::as_object_mut) else { continue };
        placeholders.retain(|placeholder, _| used.contains(placeholder.as_str()));
        if placeholders.is_empty() {
            write.remove(name);
        }
    }
}

fn record(file: &str, line: &str) {
    let mut recorded = RECORDED.lock().unwrap_or_else(PoisonError::into_inner);
    if recorded.insert(line.to_owned()) {
        let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_part_of_a_conjunction_is_dropped_once() {
        let rests = |expression: &str| weakened(expression).into_iter().map(|it| it.rest).collect::<Vec<_>>();
        assert_eq!(rests("a = :a"), [""]);
        assert_eq!(
            rests("a AND size(b) < :b AND NOT c"),
            ["size(b) < :b AND NOT c", "a AND NOT c", "a AND size(b) < :b"]
        );
        assert_eq!(rests("a OR b"), [""]);
        assert_eq!(rests("a OR b AND c"), ["", "a OR c", "a OR b"]);
        assert_eq!(
            rests("(a OR (b AND c)) AND d"),
            ["d", "(a OR c) AND d", "(a OR b) AND d", "(a OR (b AND c))"]
        );
        assert_eq!(rests("a IN (:b, :c)"), [""]);
    }

    #[test]
    fn dropped_clause_takes_its_names_and_values_along() {
        let mut write = json!({
            "ConditionExpression": "#a = :a AND #b = :b",
            "UpdateExpression": "SET #a = :ab",
            "ExpressionAttributeNames": { "#a": "a", "#b": "b" },
            "ExpressionAttributeValues": { ":a": {}, ":ab": {}, ":b": {} },
        });
        let write = write.as_object_mut().unwrap();
        drop_clause(write, 0, false);
        let expected = json!({
            "ConditionExpression": "#b = :b",
            "UpdateExpression": "SET #a = :ab",
            "ExpressionAttributeNames": { "#a": "a", "#b": "b" },
            "ExpressionAttributeValues": { ":ab": {}, ":b": {} },
        });
        assert_eq!(*write, *expected.as_object().unwrap());
        drop_clause(write, 0, false);
        assert!(write.get("ConditionExpression").is_none());
    }
}
