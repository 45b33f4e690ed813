//! The audit log: one JSON line per authentication decision (docs/design/security.md#rule-24).
//!
//! Each line contains the hash of the previous line of its chain. The last event of each chain is stored
//! outside the log as its anchor, so that verification finds missing and altered lines. docs/audit.md specifies
//! the format of lines and chains.
//!
//! A chain contains the events that one process records for one tenant on one day (UTC). Therefore the log of
//! one tenant or day can be verified and exported separately, and processes do not wait for each other.

mod anchor;
mod chain;
mod decision;
mod event;
mod id;
mod line;
#[cfg(test)]
mod tests;
mod verify;

pub use anchor::{Anchor, Reading, read};
pub use chain::{Audit, Sink, Stdout};
pub use decision::{Class, Decision, Outcome};
pub(crate) use id::hash;
pub use id::{ChainId, Partition, VERSION};
pub use line::{Head, Line, MARK};
pub use verify::{Fault, FaultKind, Report, Scope, Verifier};
