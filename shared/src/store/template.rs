//! The item of a tenant's own words for its messages. Apart from the tenant's record: only the sender
//! of messages reads it.

use serde::{Deserialize, Serialize};

use super::{
    DynamoStore,
    item::{decode, encode, unavailable},
    keys::Key,
};
use crate::{
    domain::{Failure, Templates, TenantId},
    message,
};

#[derive(Serialize, Deserialize)]
struct TemplatesItem {
    templates: Templates,
}

impl DynamoStore {
    pub(super) async fn read_templates(&self, tenant: &TenantId) -> Result<Option<Templates>, Failure> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(Key::templates(tenant).attributes()))
            .send()
            .await
            .map_err(|error| unavailable(&error))?;
        answer.item.map(|item| decode::<TemplatesItem>(item).map(|item| item.templates)).transpose()
    }

    /// Keeps a tenant's own words in the place of earlier ones; they are used within a minute. For
    /// operators' tools.
    ///
    /// # Errors
    /// `Validation` for a template that could not be used, naming it; `Unavailable`.
    pub async fn put_templates(&self, tenant: &TenantId, templates: &Templates) -> Result<(), Failure> {
        message::check(templates).map_err(|refused| {
            let why = refused.fault.to_string();
            Failure::field(refused.place, why)
        })?;
        let item = encode(&Key::templates(tenant), &TemplatesItem { templates: templates.clone() })?;
        self.client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| unavailable(&error))
    }
}
