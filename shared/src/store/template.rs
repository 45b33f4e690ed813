//! The item of a tenant's message templates. It is separate from the tenant item, because only the delivery
//! function reads it.

use serde::{Deserialize, Serialize};

use super::{DynamoStore, item::decode, keys::Key};
use crate::domain::{Failure, Templates, TenantId};

/// Stored form of message templates.
#[derive(Serialize, Deserialize)]
pub(super) struct TemplatesItem {
    pub(super) templates: Templates,
}

impl DynamoStore {
    /// Reads the message templates of a tenant. Returns `None` if the tenant uses the default templates.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn templates(&self, tenant: &TenantId) -> Result<Option<Templates>, Failure> {
        let item = self.get(&Key::templates(tenant), None).await?;
        item.map(|item| decode::<TemplatesItem>(item).map(|item| item.templates)).transpose()
    }
}
