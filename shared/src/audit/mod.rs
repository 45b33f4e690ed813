//! The audit log: one line of JSON for each decision (security 24), linked into chains of hashes whose
//! heads are kept elsewhere, so that a line that is missing or altered is found. docs/audit.md has the
//! form of a line and of a chain, for whoever verifies them.
//!
//! A chain is what one process tells of one tenant on one day (UTC): a tenant's log can be verified,
//! and handed out, without the others', and a day's without the days around it. No process waits for
//! another.

mod anchor;
mod chain;
mod event;
mod line;
mod metrics;
mod sink;
mod verify;

pub use anchor::{Anchor, Head, Reading, read};
pub use chain::{Audit, ChainId, Partition};
pub use event::{Class, Decision, Outcome};
pub use line::{Line, MARK, Unreadable};
pub use sink::{Sink, Stdout};
pub use verify::{Fault, FaultKind, Report, Scope, Verifier};

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};

/// Version of the lines' form: it changes when a member changes its meaning or goes.
pub const VERSION: u32 = 1;

/// What the first event of a chain names as the one before.
const NOTHING_BEFORE: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// SHA-256 (FIPS 180-4) in lower-case hexadecimal digits.
fn hash(text: &str) -> String {
    let mut digits = String::with_capacity(64);
    for byte in digest(&SHA256, text.as_bytes()).as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}
