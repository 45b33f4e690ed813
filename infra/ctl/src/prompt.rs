//! Passwords from stdin or from the terminal: never from an argument, which a shell keeps and every
//! process may see.

use std::io::{self, BufRead};

use anyhow::{Result, anyhow, bail};
use clap::Args;
use console::Term;
use doorward::domain::Password;
use secrecy::{ExposeSecret, SecretString};

use crate::output::{Output, Usage};

/// Most bytes that are read of a password: far above what one may have.
const MAX_BYTES: u64 = 4 * 1024;

/// Where a password comes from.
#[derive(Debug, Args)]
pub(crate) struct PasswordFrom {
    /// Read its password from the first line of stdin
    #[arg(long, conflicts_with = "password")]
    password_stdin: bool,

    /// Ask for its password at the terminal
    #[arg(long)]
    password: bool,
}

impl PasswordFrom {
    /// The password, where one is wanted.
    ///
    /// # Errors
    /// [`Usage`] where nobody can be asked; an error for what can be no password.
    pub(crate) fn read(&self, output: Output) -> Result<Option<Password>> {
        let typed = if self.password_stdin {
            first_line(io::stdin().lock())?
        } else if self.password {
            asked(output)?
        } else {
            return Ok(None);
        };
        Password::parse(typed.expose_secret()).map(Some).map_err(|invalid| anyhow!("the password {invalid}"))
    }
}

/// The first line, without its end.
fn first_line(source: impl BufRead) -> Result<SecretString> {
    let mut line = String::new();
    if source.take(MAX_BYTES).read_line(&mut line).is_err() {
        bail!("the password must be UTF-8");
    }
    let end = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(end);
    Ok(SecretString::from(line))
}

/// What somebody types twice, unseen.
fn asked(output: Output) -> Result<SecretString> {
    let terminal = Term::stderr();
    if output.json || !terminal.is_term() {
        bail!(Usage("pass --password-stdin: nobody can be asked here".to_owned()));
    }
    let ask = |what: &str| -> Result<SecretString> {
        terminal.write_str(what)?;
        Ok(SecretString::from(terminal.read_secure_line()?))
    };
    let (one, again) = (ask("Password: ")?, ask("Again: ")?);
    if one.expose_secret() == again.expose_secret() {
        Ok(one)
    } else {
        bail!("they differ: nothing was done")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line_without_its_end() {
        let read = |text: &str| first_line(text.as_bytes()).unwrap().expose_secret().to_owned();
        assert_eq!(read(" with spaces \n"), " with spaces ");
        assert_eq!(read("one\r\ntwo\n"), "one");
        assert_eq!(read("no end"), "no end");
        assert_eq!(read(""), "");
        assert!(first_line([0xff, b'\n'].as_slice()).is_err());
        assert_eq!(read(&"x".repeat(10_000)).len(), 4_096);
    }
}
