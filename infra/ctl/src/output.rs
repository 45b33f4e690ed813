//! What is written: tables and sentences for people, JSON for programs.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use anyhow::{Error, Result, bail};
use comfy_table::{Table, presets::NOTHING};
use doorward::domain::{Failure, FieldError};
use serde_json::{Value, json};

/// The exit code for what was refused or failed.
const FAILED: u8 = 1;
/// The exit code for a call that cannot mean anything.
const USAGE: u8 = 2;

/// A call that cannot mean anything: exit code 2, as clap's own.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Where results and errors go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// For programs.
    pub(crate) json: bool,
}

impl Output {
    /// A result: as JSON, or as people read it.
    ///
    /// # Errors
    /// When stdout takes nothing.
    pub(crate) fn result(self, value: &Value, text: impl FnOnce() -> String) -> Result<()> {
        let text = if self.json { format!("{value:#}") } else { text() };
        Ok(unless_closed(writeln!(io::stdout(), "{}", text.trim_end()))?)
    }

    /// One of many results, on one line: for programs.
    ///
    /// # Errors
    /// When stdout takes nothing.
    pub(crate) fn line(value: &Value) -> Result<()> {
        Ok(unless_closed(writeln!(io::stdout(), "{value}"))?)
    }

    /// What a person should know beside the result.
    ///
    /// # Errors
    /// When stderr takes nothing.
    pub(crate) fn note(self, text: &str) -> Result<()> {
        if self.json { Ok(()) } else { Ok(unless_closed(writeln!(io::stderr(), "{text}"))?) }
    }

    /// Asks the person at the terminal, who types `answer` to go on.
    ///
    /// # Errors
    /// [`Usage`] where nobody can be asked; an error for any other answer.
    pub(crate) fn confirm(self, question: &str, answer: &str) -> Result<()> {
        if self.json || !io::stdin().is_terminal() {
            bail!(Usage("pass --yes: nobody can be asked here".to_owned()));
        }
        write!(io::stderr(), "{question} Type {answer} to go on: ")?;
        let mut typed = String::new();
        io::stdin().read_line(&mut typed)?;
        if typed.trim() == answer { Ok(()) } else { bail!("nothing was done") }
    }

    /// An error, with what to do about it, and the exit code for it.
    pub(crate) fn error(self, error: &Error) -> ExitCode {
        let faults = error.downcast_ref().map(faults).unwrap_or_default();
        let message = message(error);
        let mut stderr = io::stderr().lock();
        // A closed stderr is no reason to fail in another way.
        let _ = if self.json {
            let errors = faults.iter().map(|fault| json!({ "field": fault.field, "message": fault.message }));
            writeln!(stderr, "{}", json!({ "error": message, "errors": errors.collect::<Vec<_>>() }))
        } else {
            let lines = faults.iter().map(|fault| format!("\n  {} {}", fault.field, fault.message));
            writeln!(stderr, "error: {message}{}", lines.collect::<String>())
        };
        ExitCode::from(if error.is::<Usage>() { USAGE } else { FAILED })
    }
}

/// Whoever reads no further (`| head`) has what it wanted.
pub(crate) fn unless_closed(written: io::Result<()>) -> io::Result<()> {
    written.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

/// What is wrong with each field, where that is what is wrong.
fn faults(failure: &Failure) -> &[FieldError] {
    match failure {
        Failure::Validation(errors) | Failure::PasswordPolicy(errors) => errors,
        _ => &[],
    }
}

fn message(error: &Error) -> String {
    match error.downcast_ref() {
        Some(Failure::Validation(_) | Failure::PasswordPolicy(_)) => {
            "nothing was written: put these right and try again".to_owned()
        }
        Some(Failure::Unavailable(cause)) => {
            format!("{cause}; check --table, the Region and the credentials, and try again")
        }
        _ => format!("{error:#}"),
    }
}

/// A table with one line for each row.
pub(crate) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(head);
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// A value as a table shows it.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_goes_away_is_no_error_and_anything_else_is() {
        assert!(unless_closed(Ok(())).is_ok());
        assert!(unless_closed(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        assert!(unless_closed(Err(io::ErrorKind::StorageFull.into())).is_err());
    }

    #[test]
    fn wrong_calls_and_failures_have_their_exit_codes() {
        let output = Output { json: true };
        let code = |error: Error| output.error(&error);
        assert_eq!(code(Usage("no".to_owned()).into()), ExitCode::from(2));
        assert_eq!(code(anyhow::anyhow!("no")), ExitCode::from(1));
        assert_eq!(code(Failure::Validation(Vec::new()).into()), ExitCode::from(1));
        assert!(output.confirm("?", "t").unwrap_err().is::<Usage>(), "a program cannot be asked");
    }
}
