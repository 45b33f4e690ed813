//! Administration of API clients: create, list, change and delete.

use aws_sdk_dynamodb::types::AttributeValue;

use super::{Switched, changed_meanwhile};
use crate::{
    domain::{ApiClient, ClientId, Failure, MAX_CLIENTS, TenantId},
    store::{
        DynamoStore,
        api_client::{client_item, credentials_value, to_client},
        item::{number, string},
        keys::Key,
        table::{Expressions, Updated},
        transaction::{Committed, Guard},
    },
};

/// Result of the creation of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCreation {
    /// The client was created.
    Done,
    /// The tenant has the maximum number of clients.
    Full,
    /// The tenant does not exist.
    NoTenant,
}

impl DynamoStore {
    /// Creates a client, if its tenant exists and has fewer than [`MAX_CLIENTS`] clients. The transaction decides both.
    ///
    /// # Errors
    /// `Unavailable` when a request fails, or if a client has the same random ID.
    pub async fn create_client(&self, client: &ApiClient) -> Result<ClientCreation, Failure> {
        let register = Expressions::update("ADD client_ids :id")
            .when("(attribute_not_exists(client_ids) OR size(client_ids) < :max)")
            .value(":id", id_set(&client.id))
            .value(":max", number(MAX_CLIENTS));
        let exists = Expressions::condition("attribute_exists(pk)");
        let writes = vec![
            (Guard::Target, self.check_write(&Key::tenant(&client.tenant), exists)?),
            (Guard::Clients, self.update_write(&Key::clients(&client.tenant), register)?),
            (Guard::None, self.put_write(client_item(client)?, Expressions::absent())?),
        ];
        match self.commit(writes).await? {
            Committed::Done => Ok(ClientCreation::Done),
            Committed::Refused(Guard::Clients) => Ok(ClientCreation::Full),
            Committed::Refused(_) => Ok(ClientCreation::NoTenant),
            Committed::Conflicted => Err(changed_meanwhile(format_args!("tenant {}", client.tenant))),
        }
    }

    /// Reads a client.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn client(&self, tenant: &TenantId, id: &ClientId) -> Result<Option<ApiClient>, Failure> {
        self.get(&Key::client(tenant, id), Some(true)).await?.map(to_client).transpose()
    }

    /// Lists the clients of a tenant, oldest first.
    ///
    /// # Errors
    /// `Unavailable` when a read fails.
    pub async fn clients(&self, tenant: &TenantId) -> Result<Vec<ApiClient>, Failure> {
        let register = self.get(&Key::clients(tenant), Some(true)).await?.unwrap_or_default();
        let ids = match register.get("client_ids") {
            Some(AttributeValue::Ss(ids)) => ids.as_slice(),
            _ => return Ok(Vec::new()),
        };
        let keys: Vec<_> =
            ids.iter().filter_map(|id| ClientId::parse(id).ok()).map(|id| Key::client(tenant, &id)).collect();
        let items = self.read_all(&keys).await?;
        let mut clients: Vec<_> = items.into_iter().flatten().map(to_client).collect::<Result<_, _>>()?;
        clients.sort_by(|one, other| {
            (one.created_at, one.id.as_str()).cmp(&(other.created_at, other.id.as_str()))
        });
        Ok(clients)
    }

    /// Writes the status and the credentials of `after`. Other attributes stay, because functions write some of them.
    ///
    /// # Errors
    /// `Unavailable` when the write fails, or when the client changed since it was read.
    pub async fn change_client(&self, after: &ApiClient) -> Result<(), Failure> {
        let update =
            Expressions::update("SET client_status = :status, credentials = :credentials, revision = :next")
                .when_unchanged("revision", after.revision)
                .value(":status", string(after.status.name()))
                .value(":credentials", credentials_value(after)?)
                .value(":next", number(after.revision + 1));
        match self.update(&Key::client(&after.tenant, &after.id), update).await? {
            Updated::Done(_) => Ok(()),
            Updated::Refused(_) => Err(changed_meanwhile(format_args!("client {}", after.id))),
        }
    }

    /// Deletes a client. Its tokens are rejected at once.
    ///
    /// # Errors
    /// `Unavailable` when the transaction fails.
    pub async fn delete_client(&self, tenant: &TenantId, id: &ClientId) -> Result<Switched, Failure> {
        let unregister = Expressions::update("DELETE client_ids :id").value(":id", id_set(id));
        let exists = Expressions::condition("attribute_exists(pk)");
        let writes = vec![
            (Guard::Target, self.delete_write(&Key::client(tenant, id), exists)?),
            (Guard::None, self.update_write(&Key::clients(tenant), unregister)?),
        ];
        Ok(if self.commit(writes).await?.is_done()? { Switched::Done } else { Switched::Missing })
    }
}

fn id_set(id: &ClientId) -> AttributeValue {
    AttributeValue::Ss(vec![id.as_str().to_owned()])
}
