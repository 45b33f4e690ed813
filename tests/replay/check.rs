//! Comparison of responses with recorded expectations.

use anyhow::{Result, bail, ensure};
use e2e::Answer;
use serde_json::{Value, json};

use super::recorded::Response;

/// Headers of every response (docs/design/contract.md#every-request).
const ALWAYS: [(&str, &str); 4] = [
    ("cache-control", "no-store"),
    ("strict-transport-security", "max-age=31536000"),
    ("x-content-type-options", "nosniff"),
    ("x-request-id", "*"),
];

/// Headers that a response may have only if the event expects them.
const OPTIONAL: [&str; 4] = ["www-authenticate", "retry-after", "access-control-allow-origin", "vary"];

/// Checks the headers of every response.
pub(crate) fn check_common_headers(answer: &Answer) -> Result<()> {
    for (name, expected) in ALWAYS {
        let found = answer.header(name);
        ensure!(found == expected || (expected == "*" && !found.is_empty()), "header {name}: {found:?}");
    }
    Ok(())
}

/// Compares an HTTP response with the recorded one.
pub(super) fn check(answer: &Answer, expect: &Response) -> Result<()> {
    ensure!(answer.status == expect.status, "status {}, body {}", answer.status, answer.text);
    let named = expect.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let always = ALWAYS.into_iter().filter(|(name, _)| !expect.headers.contains_key(*name));
    for (name, expected) in always.chain(named) {
        let found = answer.header(name);
        ensure!(found == expected || (expected == "*" && !found.is_empty()), "header {name}: {found:?}");
    }
    for name in OPTIONAL {
        let expected = expect.headers.contains_key(name);
        ensure!(answer.headers.contains_key(name) == expected, "header {name}: {:?}", answer.header(name));
    }
    ensure!(answer.cookies == expect.cookies, "cookies {:?}", answer.cookies);
    let kind = match (expect.headers.get("content-type"), &expect.body) {
        (Some(kind), _) => kind,
        (None, Some(_)) => "application/json",
        // A success without a body, such as a revocation.
        (None, None) if expect.text.is_none() && matches!(answer.status, 200 | 204) => "",
        (None, None) => return check_page(answer, expect),
    };
    ensure!(answer.header("content-type") == kind, "content-type {}", answer.header("content-type"));
    ensure!(expect.body.is_some() || answer.bytes.is_empty(), "body {}", answer.text);
    same(&answer.body, expect.body.as_ref().unwrap_or(&Value::Null), "body")
}

/// Checks an HTML page for the expected and the forbidden texts. A response without expected texts must
/// have no body.
fn check_page(answer: &Answer, expect: &Response) -> Result<()> {
    let kind = if expect.text.is_some() { "text/html; charset=utf-8" } else { "" };
    ensure!(answer.header("content-type") == kind, "content-type {}", answer.header("content-type"));
    ensure!(kind.is_empty() == answer.text.is_empty(), "body {}", answer.text);
    for text in expect.text.iter().flatten() {
        ensure!(answer.text.contains(text), "the text {text:?} is missing in {}", answer.text);
    }
    for text in &expect.text_without {
        ensure!(!answer.text.contains(text), "the text {text:?} is in {}", answer.text);
    }
    for name in ["content-security-policy", "referrer-policy", "x-frame-options"] {
        ensure!(answer.headers.contains_key(name), "header {name} is missing");
    }
    Ok(())
}

/// Compares two values. `<kind>` in `expected` accepts every value of that kind.
pub(super) fn same(found: &Value, expected: &Value, at: &str) -> Result<()> {
    match (found, expected) {
        (Value::String(text), Value::String(kind)) if kind.starts_with('<') => {
            let fits = match kind.as_str() {
                "<uuid>" => text.len() == 36 && text.matches('-').count() == 4,
                "<jwt>" => text.split('.').count() == 3 && text.starts_with("eyJ"),
                "<refresh token>" => text.starts_with("dwr1_"),
                "<device proof>" => text.starts_with("dwd2_") && text.len() == 96,
                "<time>" => text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok(),
                "<code>" => text.len() == 8 && text.bytes().all(|letter| letter.is_ascii_alphanumeric()),
                "<text>" => !text.is_empty(),
                other => bail!("{at}: unknown kind {other}; events/README.md lists the kinds"),
            };
            ensure!(fits, "{at}: {text} is not a {kind}");
        }
        (Value::Object(found), Value::Object(expected)) => {
            for (name, expected) in expected {
                same(found.get(name).unwrap_or(&Value::Null), expected, &format!("{at}.{name}"))?;
            }
            let unexpected: Vec<_> = found.keys().filter(|name| !expected.contains_key(*name)).collect();
            ensure!(unexpected.is_empty(), "{at}: unexpected {unexpected:?}");
        }
        (Value::Array(found), Value::Array(expected)) => {
            ensure!(found.len() == expected.len(), "{at}: {} elements, not {}", found.len(), expected.len());
            for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
                same(found, expected, &format!("{at}[{index}]"))?;
            }
        }
        _ => ensure!(found == expected, "{at}: {found}, not {expected}"),
    }
    Ok(())
}

/// Compares the result and the error of an invocation.
pub(super) fn same_result(
    found: Result<Value>,
    answer: Option<&Value>,
    error: Option<&str>,
    at: &str,
) -> Result<()> {
    let found = match found {
        Ok(answer) => json!({ "answer": answer, "error": null }),
        Err(error) => json!({ "answer": null, "error": error.to_string() }),
    };
    same(&found, &json!({ "answer": answer, "error": error }), at)
}
