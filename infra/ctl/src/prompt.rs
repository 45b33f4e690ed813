//! Reads passwords from stdin or from the terminal. Passwords are never arguments, because shells keep
//! arguments in their history and other processes can see them.

use std::io::{self, BufRead};

use anyhow::{Result, anyhow, bail};
use clap::Args;
use console::Term;
use doorward::domain::Password;
use secrecy::{ExposeSecret, SecretString};

use crate::output::{Output, UsageError};

/// Maximum bytes read for a password, far above the maximum length of a password.
const MAX_BYTES: u64 = 4 * 1024;

/// Source of a password.
#[derive(Debug, Args)]
pub(crate) struct PasswordFrom {
    /// Read the password from the first line of stdin
    #[arg(long, conflicts_with = "password")]
    password_stdin: bool,

    /// Ask for the password at the terminal
    #[arg(long)]
    password: bool,
}

impl PasswordFrom {
    /// Reads the password if one of the options is given.
    ///
    /// # Errors
    /// [`UsageError`] if there is no terminal to ask at; an error for text that cannot be a password.
    pub(crate) fn read(&self, output: Output) -> Result<Option<Password>> {
        let typed = if self.password_stdin {
            first_line(io::stdin().lock())?
        } else if self.password {
            ask_twice(output)?
        } else {
            return Ok(None);
        };
        Password::parse(typed.expose_secret()).map(Some).map_err(|invalid| anyhow!("the password {invalid}"))
    }
}

/// Returns the first line without its line end and without a byte order mark.
fn first_line(source: impl BufRead) -> Result<SecretString> {
    let mut line = String::new();
    if source.take(MAX_BYTES).read_line(&mut line).is_err() {
        bail!("the password must be UTF-8 text");
    }
    let end = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(end);
    let read = SecretString::from(line);
    Ok(match read.expose_secret().strip_prefix('\u{feff}') {
        Some(text) => SecretString::from(text),
        None => read,
    })
}

/// Asks for the password twice, without echo.
fn ask_twice(output: Output) -> Result<SecretString> {
    let terminal = Term::stderr();
    if output.json || !terminal.is_term() {
        bail!(UsageError("cannot ask for a password here; pass --password-stdin".to_owned()));
    }
    let ask = |what: &str| -> Result<SecretString> {
        terminal.write_str(what)?;
        Ok(SecretString::from(terminal.read_secure_line()?))
    };
    let (one, again) = (ask("Password: ")?, ask("Repeat the password: ")?);
    if one.expose_secret() == again.expose_secret() {
        Ok(one)
    } else {
        bail!("the two passwords differ; nothing changed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_is_the_first_line_without_its_line_end() {
        let read = |text: &str| first_line(text.as_bytes()).unwrap().expose_secret().to_owned();
        assert_eq!(read(" with spaces \n"), " with spaces ");
        assert_eq!(read("one\r\ntwo\n"), "one");
        assert_eq!(read("no end"), "no end");
        assert_eq!(read("\u{feff}marked\n"), "marked");
        assert_eq!(read(""), "");
        assert!(first_line([0xff, b'\n'].as_slice()).is_err());
        assert_eq!(read(&"x".repeat(10_000)).len(), 4_096);
    }
}
