//! Where audit lines go.

use std::io::{self, Write};

/// Takes audit lines, one at a time and in order.
pub trait Sink: Send + Sync {
    /// Writes a line; it ends in a newline and has no other.
    ///
    /// # Errors
    /// When it is not written, or not whole.
    fn write(&self, line: &str) -> io::Result<()>;
}

/// Standard output, which Lambda takes to CloudWatch Logs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stdout;

impl Sink for Stdout {
    fn write(&self, line: &str) -> io::Result<()> {
        let mut output = io::stdout().lock();
        output.write_all(line.as_bytes())?;
        output.flush()
    }
}
