//! Operations that only `doorwardctl` calls.

pub(super) mod api_client;
pub(super) mod tenant;
mod tenant_clear;
pub(super) mod user;
pub(super) mod user_check;
pub(super) mod user_data;
pub(super) mod user_import;

use super::{
    DynamoStore,
    keys::Key,
    table::{Expressions, Updated},
};
use crate::domain::Failure;

/// Result of an administrative change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switched {
    /// The change was made.
    Done,
    /// The item already has the requested state.
    Already,
    /// The tenant or user does not exist.
    Missing,
}

/// Attempts to change an item that others change at the same time.
const CHANGE_TRIES: usize = 5;

impl DynamoStore {
    /// Updates an existing item, unless it already has the requested state (`unless`).
    async fn switch(&self, key: &Key, update: Expressions, unless: &str) -> Result<Switched, Failure> {
        let update = update.when(format!("attribute_exists(pk) AND {unless}")).return_refused();
        Ok(match self.update(key, update).await? {
            Updated::Done(_) => Switched::Done,
            Updated::Refused(Some(_)) => Switched::Already,
            Updated::Refused(None) => Switched::Missing,
        })
    }
}

/// Returns the failure of a change that other changes of the same item prevented.
fn changed_meanwhile(what: impl std::fmt::Display) -> Failure {
    Failure::Unavailable(format!("{what} was changed at the same time; try again").into())
}
