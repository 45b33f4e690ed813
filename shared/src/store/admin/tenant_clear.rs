//! Deletion of the items of a deleted tenant.
//!
//! The index of users finds the users, and the list of clients finds the API clients. The other items of requests have no
//! list: failures of addresses and invented users, stored results and revoked tokens. They expire, or a scan of the whole
//! table finds them.

use futures_util::{StreamExt, stream};

use crate::{
    domain::{Failure, TenantId, User},
    store::{
        DynamoStore,
        item::{Attributes, string},
        keys::{ANCHOR_PREFIX, Key, USER_SORT_KEY},
        table::unavailable,
        user_directory::{MAX_USERS, UserPosition, UsersOf},
    },
};

/// Items of a tenant that are deleted in parallel.
const PARALLEL_DELETIONS: usize = 16;

impl DynamoStore {
    /// Deletes the remaining items of a deleted tenant whose users the index lists
    /// ([`TenantRecord::lists_users`](crate::store::TenantRecord::lists_users)): users with all their items, API clients,
    /// templates and keys. Returns the number of deleted items without the published keys, because a rotation also writes
    /// keys of a secret that belongs to another stack. Items that only expire stay, and so do the anchors of the audit
    /// log.
    ///
    /// # Errors
    /// `Validation` when the tenant was created again. `Unavailable` when a request fails; repeat the call to delete the
    /// other items.
    pub async fn clear_tenant(&self, tenant: &TenantId) -> Result<u64, Failure> {
        let mut cleared = 0;
        // A user that was created shortly before can appear in the index during the first pass.
        loop {
            let deleted = self.clear_users(tenant).await?;
            cleared += deleted;
            if deleted == 0 {
                break;
            }
        }
        for client in self.clients(tenant).await? {
            cleared += self.clear_partition(&Key::client(tenant, &client.id).pk, None).await?.total();
        }
        self.require_deleted(tenant).await?;
        cleared += self.clear_partition(&Key::tenant(tenant).pk, None).await?.total();
        self.delete(Key::published_keys(tenant).attributes()).await?;
        Ok(cleared)
    }

    /// Deletes the users that the index lists. Returns the number of deleted items.
    async fn clear_users(&self, tenant: &TenantId) -> Result<u64, Failure> {
        let (of, mut after, mut cleared) = (UsersOf { tenant, organization: None }, None::<UserPosition>, 0);
        loop {
            let page = self.users_after(&of, after.as_ref(), MAX_USERS).await?;
            self.require_deleted(tenant).await?;
            let users = page.users.iter().map(|user| self.clear_user(user));
            let mut users = stream::iter(users).buffer_unordered(PARALLEL_DELETIONS);
            while let Some(deleted) = users.next().await {
                cleared += deleted?;
            }
            for partition in page.unreadable {
                cleared += self.clear_partition(&partition, None).await?.total();
            }
            after = page.next;
            if after.is_none() {
                return Ok(cleared);
            }
        }
    }

    /// Deletes the items of a user. Deletes the user item last, so that a repeated call finds the user again.
    async fn clear_user(&self, user: &User) -> Result<u64, Failure> {
        let User { tenant, id, username, .. } = user;
        let key = Key::user(tenant, id);
        let own = self.clear_partition(&key.pk, Some(USER_SORT_KEY)).await?;
        let mut keys = Vec::new();
        if self.owner_of(tenant, username).await?.is_some_and(|owner| owner == *id) {
            keys.push(Key::username(tenant, username).attributes());
        }
        keys.extend(user.any_email().map(|address| Key::mail(tenant, address, id).attributes()));
        let others = self.delete_all(keys).await?;
        self.delete(key.attributes()).await?;
        Ok(own.total() + others + 1)
    }

    /// Checks that the tenant was not created again. Its new items must not be deleted.
    async fn require_deleted(&self, tenant: &TenantId) -> Result<(), Failure> {
        match self.tenant_record(tenant).await? {
            None => Ok(()),
            Some(_) => {
                Err(Failure::field("tenant_id", "was created again; its remaining items were not deleted"))
            }
        }
    }

    /// Deletes items in parallel. Returns their number.
    pub(super) async fn delete_all(&self, keys: Vec<Attributes>) -> Result<u64, Failure> {
        let count = keys.len();
        let deletions = keys.into_iter().map(|key| self.delete(key));
        let mut deletions = stream::iter(deletions).buffer_unordered(PARALLEL_DELETIONS);
        while let Some(deleted) = deletions.next().await {
            deleted?;
        }
        Ok(u64::try_from(count).unwrap_or(u64::MAX))
    }

    /// Deletes all remaining items of a deleted tenant, also items that expire and users that the index does not list.
    /// Reads the whole table. Keeps the anchors of the audit log until they expire, because they contain no personal data
    /// and the log cannot be verified without them. Returns the number of items as [`Self::clear_tenant`] does.
    ///
    /// # Errors
    /// `Validation` when the tenant was created again. `Unavailable` when a request fails; repeat the call to delete the
    /// other items.
    pub async fn clear_whole_tenant(&self, tenant: &TenantId) -> Result<u64, Failure> {
        let own = Key::tenant(tenant).pk;
        let mut pages = self
            .client
            .scan()
            .table_name(&self.table)
            .filter_expression("pk = :own OR (begins_with(pk, :of) AND NOT begins_with(pk, :anchors))")
            .expression_attribute_values(":of", string(format!("{own}#")))
            .expression_attribute_values(":anchors", string(format!("{own}#{ANCHOR_PREFIX}")))
            .expression_attribute_values(":own", string(own))
            .projection_expression("pk, sk")
            .consistent_read(true)
            .into_paginator()
            .send();
        let mut cleared = 0;
        while let Some(page) = pages.next().await {
            let keys = page.map_err(|error| unavailable(&error))?.items.unwrap_or_default();
            let published = string(Key::published_keys(tenant).pk);
            cleared += keys.iter().filter(|key| key.get("pk") != Some(&published)).count();
            self.require_deleted(tenant).await?;
            self.delete_all(keys).await?;
        }
        Ok(u64::try_from(cleared).unwrap_or(u64::MAX))
    }
}
