//! Comparison of an output with the documented one, in which placeholders stand for values that vary.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use regex::Regex;
use serde_json::{Map, Value};

use crate::document::Format;

/// A name in braces that stands for a value that varies.
pub(crate) struct Placeholder {
    pub(crate) name: &'static str,
    pattern: &'static str,
    pub(crate) meaning: &'static str,
    /// Whether `--write` replaces each such value that the commands do not contain.
    found: bool,
}

const UUID: &str = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";

const fn typed(name: &'static str, pattern: &'static str, meaning: &'static str) -> Placeholder {
    Placeholder { name, pattern, meaning, found: true }
}

const fn named(name: &'static str, pattern: &'static str, meaning: &'static str) -> Placeholder {
    Placeholder { name, pattern, meaning, found: false }
}

/// Every placeholder. `--write` looks for them in this order.
pub(crate) const PLACEHOLDERS: [Placeholder; 18] = [
    typed("token", r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "an access token"),
    typed("refresh-token", r"dwr1_[\w-]+", "a refresh token"),
    typed("device-proof", r"dwd2_[\w-]+", "a device proof"),
    typed("tenant-key", r"dwk1_[\w-]+", "a tenant key"),
    typed("tenant-secret", r"dws1_[\w-]+", "a tenant secret"),
    typed("hash", "[0-9a-f]{64}", "a SHA-256 in hexadecimal"),
    typed("time", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z", "a time in RFC 3339"),
    typed("chain", "[0-9A-HJKMNP-TV-Z]{26}", "the ID of a chain of the audit log"),
    typed("uuid", UUID, "a UUID"),
    typed("epoch", r"1\d{12}", "milliseconds since 1970"),
    typed("day", r"\d{4}-\d\d-\d\d", "a day"),
    named("session-id", UUID, "the ID of a session"),
    named("user-id", UUID, "the ID of a user"),
    named("version-id", UUID, "the ID of a version of a secret"),
    named("cursor", r"[\w-]+", "a cursor of a list"),
    named("code", "[0-9A-Z]{8,20}", "a reset code"),
    named("seconds", r"\d+(?:\.\d+)?", "a number of seconds"),
    named("count", r"\d+", "a number that varies between runs"),
];

/// A line that stands for any number of lines.
const ANY_LINES: &str = "…";

/// Compares an output with the documented one. Returns the difference in lines, or `None` if they match.
pub(crate) fn difference(format: Format, expected: &str, actual: &str) -> Result<Option<String>> {
    match format {
        Format::Text => {
            let expected: Vec<&str> = expected.lines().collect();
            let actual: Vec<&str> = actual.trim_end().lines().collect();
            let patterns = expected.iter().map(|line| Line::parse(line)).collect::<Result<Vec<_>>>()?;
            Ok((!matches(&patterns, &actual)).then(|| in_lines(&expected, &patterns, &actual)))
        }
        Format::Json => {
            let expected = values(expected).context("the documented output is not JSON")?;
            let Ok(actual_values) = values(actual) else {
                return Ok(Some(format!("the output is not JSON:\n{actual}")));
            };
            if same_all(&expected, &actual_values)? {
                return Ok(None);
            }
            difference(Format::Text, &pretty(&expected), &pretty(&actual_values))
        }
    }
}

/// Returns an output as `--write` documents it: values that vary are placeholders, except those in `fixed`.
pub(crate) fn documented(format: Format, actual: &str, fixed: &str) -> Result<String> {
    let mut text = actual.trim_end().to_owned();
    if format == Format::Json {
        let mut found = values(actual).context("the output is not JSON")?;
        for value in &mut found {
            name_members(value, fixed);
        }
        pretty(&found).trim_end().clone_into(&mut text);
    }
    for placeholder in PLACEHOLDERS.iter().filter(|placeholder| placeholder.found) {
        let pattern = Regex::new(&format!(r"\b{}( {{2,}})?", placeholder.pattern))?;
        let name = format!("{{{}}}", placeholder.name);
        let replaced = pattern.replace_all(&text, |found: &regex::Captures<'_>| {
            let whole = found.get(0).map_or("", |it| it.as_str());
            if fixed.contains(whole.trim_end()) {
                return whole.to_owned();
            }
            // Keeps the columns of a table aligned.
            let padding = if found.get(1).is_some() { whole.len() } else { 0 };
            format!("{name:padding$}")
        });
        text = replaced.into_owned();
    }
    Ok(text.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n"))
}

/// Names values by their members, where the value does not show what it is.
fn name_members(value: &mut Value, fixed: &str) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| name_members(value, fixed)),
        Value::Object(members) => {
            for (name, value) in members {
                let placeholder = match name.as_str() {
                    "sessionId" => "{session-id}",
                    "nextCursor" => "{cursor}",
                    _ => {
                        name_members(value, fixed);
                        continue;
                    }
                };
                if value.as_str().is_some_and(|text| !fixed.contains(text)) {
                    *value = Value::from(placeholder);
                }
            }
        }
        _ => {}
    }
}

/// One documented line.
enum Line {
    /// Any number of lines.
    Any,
    One(Regex),
}

impl Line {
    fn parse(line: &str) -> Result<Self> {
        if line.trim() == ANY_LINES {
            return Ok(Self::Any);
        }
        pattern(line).map(Self::One)
    }

    fn fits(&self, line: &str) -> bool {
        matches!(self, Self::One(pattern) if pattern.is_match(&squeezed(line)))
    }
}

/// Returns a pattern for a text with placeholders. Runs of spaces count as one.
fn pattern(text: &str) -> Result<Regex> {
    let mut pattern = regex::escape(&squeezed(text));
    for placeholder in &PLACEHOLDERS {
        let escaped = regex::escape(&format!("{{{}}}", placeholder.name));
        pattern = pattern.replace(&escaped, &format!("(?:{})", placeholder.pattern));
    }
    Ok(Regex::new(&format!("^(?:{pattern})$"))?)
}

fn squeezed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn matches(patterns: &[Line], lines: &[&str]) -> bool {
    match (patterns.split_first(), lines.split_first()) {
        (None, rest) => rest.is_none(),
        (Some((Line::Any, patterns)), rest) => {
            matches(patterns, lines) || rest.is_some_and(|(_, rest)| matches_any(patterns, rest))
        }
        (Some((pattern, patterns)), Some((line, rest))) => pattern.fits(line) && matches(patterns, rest),
        (Some(_), None) => false,
    }
}

/// Whether some end of the lines matches.
fn matches_any(patterns: &[Line], lines: &[&str]) -> bool {
    (0..=lines.len()).any(|from| lines.get(from..).is_some_and(|rest| matches(patterns, rest)))
}

/// Returns both texts as a difference: `-` documented, `+` actual, and common lines without a mark.
fn in_lines(expected: &[&str], patterns: &[Line], actual: &[&str]) -> String {
    // The longest common sequence of lines, from each pair of positions to the ends.
    let (rows, columns) = (patterns.len(), actual.len());
    let mut common = vec![vec![0_usize; columns + 1]; rows + 1];
    let at = |common: &[Vec<usize>], row: usize, column: usize| {
        common.get(row).and_then(|row| row.get(column)).copied().unwrap_or_default()
    };
    let fits = |row: usize, column: usize| {
        patterns.get(row).zip(actual.get(column)).is_some_and(|(pattern, line)| pattern.fits(line))
    };
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            let length = if fits(row, column) {
                at(&common, row + 1, column + 1) + 1
            } else {
                at(&common, row + 1, column).max(at(&common, row, column + 1))
            };
            if let Some(cell) = common.get_mut(row).and_then(|row| row.get_mut(column)) {
                *cell = length;
            }
        }
    }
    let (mut text, mut row, mut column) = (String::new(), 0, 0);
    while row < rows || column < columns {
        let (mark, line);
        if row < rows && column < columns && fits(row, column) {
            (mark, line) = (' ', actual.get(column));
            (row, column) = (row + 1, column + 1);
        } else if column >= columns
            || (row < rows && at(&common, row + 1, column) >= at(&common, row, column + 1))
        {
            (mark, line) = ('-', expected.get(row));
            row += 1;
        } else {
            (mark, line) = ('+', actual.get(column));
            column += 1;
        }
        // Writing to a string does not fail.
        let _ = writeln!(text, "{mark} {}", line.copied().unwrap_or_default());
    }
    text
}

fn values(text: &str) -> Result<Vec<Value>> {
    Ok(serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>()?)
}

/// Prints values in few lines: arrays and objects without nested ones take one line.
fn pretty(values: &[Value]) -> String {
    values.iter().fold(String::new(), |text, value| text + &layout(value, 0) + "\n")
}

/// The width up to which a value takes one line.
const WIDTH: usize = 100;

fn layout(value: &Value, indent: usize) -> String {
    let short = value.to_string();
    let is_flat = |value: &Value| !value.is_array() && !value.is_object();
    let list = |open: char, items: Vec<String>, close: char| {
        let (pad, end) = (" ".repeat(indent + 2), " ".repeat(indent));
        format!("{open}\n{pad}{}\n{end}{close}", items.join(&format!(",\n{pad}")))
    };
    match value {
        Value::Object(members)
            if !members.is_empty() && (short.len() > WIDTH - indent || !members.values().all(is_flat)) =>
        {
            let member = |(name, value): (&String, &Value)| {
                format!("{}: {}", Value::from(name.as_str()), layout(value, indent + 2))
            };
            list('{', members.iter().map(member).collect(), '}')
        }
        Value::Array(items)
            if !items.is_empty() && (short.len() > WIDTH - indent || !items.iter().all(is_flat)) =>
        {
            list('[', items.iter().map(|value| layout(value, indent + 2)).collect(), ']')
        }
        Value::Object(members) if !members.is_empty() => {
            let member =
                |(name, value): (&String, &Value)| format!("{}: {value}", Value::from(name.as_str()));
            format!("{{ {} }}", members.iter().map(member).collect::<Vec<_>>().join(", "))
        }
        _ => short,
    }
}

fn same_all(expected: &[Value], actual: &[Value]) -> Result<bool> {
    if expected.len() != actual.len() {
        return Ok(false);
    }
    for (expected, actual) in expected.iter().zip(actual) {
        if !same(expected, actual)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn same(expected: &Value, actual: &Value) -> Result<bool> {
    match (expected, actual) {
        (Value::String(expected), Value::String(actual)) => {
            Ok(expected == actual || pattern(expected)?.is_match(&squeezed(actual)))
        }
        (Value::Array(expected), Value::Array(actual)) => same_all(expected, actual),
        (Value::Object(expected), Value::Object(actual)) => same_members(expected, actual),
        _ => Ok(expected == actual),
    }
}

fn same_members(expected: &Map<String, Value>, actual: &Map<String, Value>) -> Result<bool> {
    if expected.len() != actual.len() {
        return Ok(false);
    }
    for (name, expected) in expected {
        let Some(actual) = actual.get(name) else { return Ok(false) };
        if !same(expected, actual)? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "56305c2b-f13a-48e4-b462-ba55460b2ad9";

    fn differs(format: Format, expected: &str, actual: &str) -> Option<String> {
        difference(format, expected, actual).unwrap()
    }

    #[test]
    fn placeholder_matches_only_its_kind() {
        let expected = "Session {session-id} ended at {time}.\n";
        let actual = format!("Session   {ID} ended at 2026-11-21T13:08:33.122Z.");
        assert_eq!(differs(Format::Text, expected, &actual), None);
        let actual = "Session 1 ended at 2026-11-21T13:08:33.122Z.";
        let difference = differs(Format::Text, expected, actual).unwrap();
        assert_eq!(difference, format!("- {expected}+ {actual}\n"));
    }

    #[test]
    fn ellipsis_matches_any_number_of_lines() {
        for actual in ["a\nz\n", "a\nb\nc\nz\n"] {
            assert_eq!(differs(Format::Text, "a\n…\nz\n", actual), None);
        }
        assert!(differs(Format::Text, "a\n…\nz\n", "a\nb\n").is_some());
    }

    #[test]
    fn json_is_compared_by_value() {
        let expected = "{\"a\": \"{uuid}\",\n \"b\": [1]}\n{}";
        assert_eq!(differs(Format::Json, expected, &format!("{{\"b\":[1],\"a\":\"{ID}\"}}{{}}")), None);
        for actual in ["{\"a\":\"x\",\"b\":[1]}{}", "{\"b\":[1]}{}", "no JSON", ""] {
            assert!(differs(Format::Json, expected, actual).is_some(), "{actual}");
        }
    }

    #[test]
    fn difference_shows_common_lines_once() {
        let difference = differs(Format::Text, "a\nb\nc\n", "a\nx\nc\n").unwrap();
        assert_eq!(difference, "  a\n- b\n+ x\n  c\n");
    }

    #[test]
    fn written_output_has_placeholders_and_matches() {
        let actual = format!("{ID}  ok\n{}  ok\n", ID.replace('5', "6"));
        let written = documented(Format::Text, &actual, ID).unwrap();
        assert_eq!(written, format!("{ID}  ok\n{:<36}  ok\n", "{uuid}"));
        assert_eq!(differs(Format::Text, &written, &actual), None);

        let actual = format!("{{\"sessionId\":\"{ID}\",\"terminatedAt\":\"2026-11-21T13:08:33.122Z\"}}");
        let written = documented(Format::Json, &actual, "").unwrap();
        assert_eq!(written, "{ \"sessionId\": \"{session-id}\", \"terminatedAt\": \"{time}\" }\n");
        assert_eq!(differs(Format::Json, &written, &actual), None);
    }

    #[test]
    fn every_placeholder_is_a_valid_pattern() {
        for Placeholder { name, .. } in &PLACEHOLDERS {
            assert!(pattern(&format!("{{{name}}}")).unwrap().as_str().contains("(?:"), "{name}");
        }
    }
}
