//! Results and errors: tables and sentences for people, JSON for programs.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use anyhow::{Error, Result, bail};
use comfy_table::{Table, presets::NOTHING};
use doorward::{
    domain::{Failure, FieldError},
    store::Switched,
};
use serde_json::{Value, json};

/// Exit code of commands that were refused or failed.
const FAILED: u8 = 1;
/// Exit code of invalid arguments.
const USAGE: u8 = 2;

/// Error for invalid arguments. Its exit code is 2, like the exit code of clap.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Format of results and errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// JSON instead of text.
    pub(crate) json: bool,
}

/// Returns whether a switch changed its target; `None` if the target does not exist.
pub(crate) fn changed(done: Switched) -> Option<bool> {
    match done {
        Switched::Done => Some(true),
        Switched::Already => Some(false),
        Switched::Missing => None,
    }
}

impl Output {
    /// Writes a result to stdout, as JSON or as text.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub(crate) fn result(self, value: &Value, text: impl FnOnce() -> String) -> Result<()> {
        let text = if self.json { format!("{value:#}") } else { text() };
        Ok(unless_closed(writeln!(io::stdout(), "{}", text.trim_end()))?)
    }

    /// Writes that `subject` has a new state and its effect, or that it was already in that state.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub(crate) fn switched(
        self,
        subject: &str,
        value: &Value,
        (changed, state, effect): (bool, &str, &str),
    ) -> Result<()> {
        self.result(value, || {
            if changed {
                format!("{subject} is {state}. {effect}")
            } else {
                format!("{subject} is already {state}; nothing changed.")
            }
        })
    }

    /// Writes one of several results as one JSON line.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub(crate) fn line(value: &Value) -> Result<()> {
        Ok(unless_closed(writeln!(io::stdout(), "{value}"))?)
    }

    /// Writes a note for people to stderr. Does nothing with `--json`.
    ///
    /// # Errors
    /// If stderr cannot be written.
    pub(crate) fn note(self, text: &str) -> Result<()> {
        if self.json { Ok(()) } else { Ok(unless_closed(writeln!(io::stderr(), "{text}"))?) }
    }

    /// Asks for confirmation at the terminal. The user confirms by typing `answer`.
    ///
    /// # Errors
    /// [`UsageError`] if stdin is not a terminal or with `--json`; an error for any other answer.
    pub(crate) fn confirm(self, question: &str, answer: &str) -> Result<()> {
        if self.json || !io::stdin().is_terminal() {
            let reason =
                if self.json { "--json cannot ask for confirmation" } else { "stdin is not a terminal" };
            bail!(UsageError(format!("{reason}; pass `--yes` to skip the confirmation")));
        }
        write!(io::stderr(), "{question} Type {answer} to confirm: ")?;
        let mut typed = String::new();
        io::stdin().read_line(&mut typed)?;
        if typed.trim() == answer { Ok(()) } else { bail!("not confirmed; nothing changed") }
    }

    /// Writes an error to stderr and returns its exit code.
    pub(crate) fn error(self, error: &Error) -> ExitCode {
        let faults = error.downcast_ref().map(faults).unwrap_or_default();
        let message = message(error);
        let mut stderr = io::stderr().lock();
        // A closed stderr must not cause a second error.
        let _ = if self.json {
            let errors = faults.iter().map(|fault| json!({ "field": fault.field, "message": fault.message }));
            writeln!(stderr, "{}", json!({ "error": message, "errors": errors.collect::<Vec<_>>() }))
        } else {
            let lines = faults.iter().map(|fault| format!("\n  {} {}", fault.field, fault.message));
            writeln!(stderr, "error: {message}{}", lines.collect::<String>())
        };
        ExitCode::from(if error.is::<UsageError>() { USAGE } else { FAILED })
    }
}

/// Ignores a closed pipe, because a reader such as `head` has read all that it needs.
pub(crate) fn unless_closed(written: io::Result<()>) -> io::Result<()> {
    written.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

/// Returns the field errors of a failed validation.
fn faults(failure: &Failure) -> &[FieldError] {
    match failure {
        Failure::Validation(errors) | Failure::PasswordPolicy(errors) => errors,
        _ => &[],
    }
}

fn message(error: &Error) -> String {
    match error.downcast_ref() {
        Some(Failure::Validation(_) | Failure::PasswordPolicy(_)) => {
            "nothing was written; correct these fields and try again".to_owned()
        }
        Some(Failure::Unavailable(cause)) => {
            format!("{cause}; check --table, the Region and the credentials, then try again")
        }
        _ => format!("{error:#}"),
    }
}

/// Formats a table with one line per row.
pub(crate) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(head);
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Formats a JSON value for a table cell.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Object(members) if members.is_empty() => "-".to_owned(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_pipe_is_ignored_and_other_write_errors_are_returned() {
        assert!(unless_closed(Ok(())).is_ok());
        assert!(unless_closed(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        assert!(unless_closed(Err(io::ErrorKind::StorageFull.into())).is_err());
    }

    #[test]
    fn usage_errors_exit_with_2_and_failures_with_1() {
        let output = Output { json: true };
        let code = |error: Error| output.error(&error);
        assert_eq!(code(UsageError("no".to_owned()).into()), ExitCode::from(2));
        assert_eq!(code(anyhow::anyhow!("no")), ExitCode::from(1));
        assert_eq!(code(Failure::Validation(Vec::new()).into()), ExitCode::from(1));
        assert!(
            output.confirm("?", "t").unwrap_err().is::<UsageError>(),
            "a confirmation with --json is a usage error"
        );
    }
}
