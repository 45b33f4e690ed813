//! Failures that the user of the command can solve.

use std::fmt;

/// Exit code of `cargo dev` for wrong arguments or an unsuitable machine, such as a taken port.
pub const EXIT_USAGE: u8 = 2;

/// A failure with a hint that tells the user what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    message: String,
    hint: String,
    exit_code: u8,
}

impl Problem {
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into(), exit_code: 1 }
    }

    #[must_use]
    pub fn with_exit_code(mut self, exit_code: u8) -> Self {
        self.exit_code = exit_code;
        self
    }

    #[must_use]
    pub fn hint(&self) -> &str {
        &self.hint
    }

    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}
