//! Whether the table answers.

use super::{DynamoStore, item::unavailable, keys::Key};
use crate::domain::Failure;

impl DynamoStore {
    /// Reads an item that is never there: half a read unit, whatever the table holds.
    pub(super) async fn read_nothing(&self) -> Result<(), Failure> {
        self.client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(Key::health().attributes()))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| unavailable(&error))
    }
}
