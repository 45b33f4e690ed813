//! Users by page, by ID, by mail address and by username (docs/design/storage.md#users-of-a-tenant).
//!
//! The index `users`, the mail items and the username items only find users. Each function here reads the users that
//! they name with a consistent read, and returns only users that still match.

use aws_sdk_dynamodb::{
    operation::query::builders::QueryFluentBuilder,
    types::{Select, TransactWriteItem},
};
use serde::{Deserialize, Serialize};

use super::{
    DynamoStore,
    item::{Attributes, decode, encode, string, text},
    keys::{IndexKey, Key, MAIL_PREFIX, USERS_INDEX, USERS_OF, USERS_POSITION},
    table::{Expressions, unavailable},
    transaction::{Guard, Guarded},
    user::to_user,
};
use crate::domain::{Failure, OrganizationId, TenantId, User, UserId, Username, folded};

/// Maximum number of users that one look-up returns: the maximum number of keys of a batch read.
pub const MAX_USERS: usize = 100;
/// Maximum number of users that [`DynamoStore::users_from`] skips.
pub const MAX_OFFSET: usize = 10_000;

/// The users of a tenant, or of one of its organizations.
#[derive(Debug, Clone, Copy)]
pub struct UsersOf<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// Organization. `None` means all organizations.
    pub organization: Option<&'a OrganizationId>,
}

/// Position within the users of a tenant.
#[derive(Debug, Clone)]
pub struct UserPosition(Attributes);

impl UserPosition {
    /// Returns the position after a user.
    pub fn after(user: &User) -> Self {
        let mut position = Key::user(&user.tenant, &user.id).attributes();
        position.extend(IndexKey::of(user).attributes());
        Self(position)
    }
}

/// Page of users, sorted by the encoded IDs of organization and user.
#[derive(Debug)]
pub struct UserPage {
    /// Users. There can be fewer than requested although there are more pages, because users that moved or were deleted
    /// are left out.
    pub users: Vec<User>,
    /// Partition keys of user items that this version cannot decode.
    pub unreadable: Vec<String>,
    /// Position of the next page. `None` on the last page.
    pub next: Option<UserPosition>,
}

/// Users with one mail address.
#[derive(Debug)]
pub struct UsersByEmail {
    /// The users, verified address or not, at most [`MAX_USERS`].
    pub users: Vec<User>,
    /// More users have the address.
    pub are_more: bool,
}

/// Item that finds a user by a mail address.
#[derive(Serialize, Deserialize)]
struct MailItem {
    user_id: UserId,
}

impl DynamoStore {
    /// Reads up to `limit` users after a position. Makes one query and one batch read.
    ///
    /// # Errors
    /// `Unavailable` when a read fails.
    pub async fn users_after(
        &self,
        of: &UsersOf<'_>,
        after: Option<&UserPosition>,
        limit: usize,
    ) -> Result<UserPage, Failure> {
        let after = after.map(|position| position.0.clone());
        let query = self.users_query(of).limit(clamped(limit.clamp(1, MAX_USERS)));
        let page = query
            .projection_expression("pk, sk")
            .set_exclusive_start_key(after)
            .send()
            .await
            .map_err(|error| unavailable(&error))?;
        let mut keys: Vec<Key> = Vec::new();
        for item in page.items.unwrap_or_default() {
            if let (Some(pk), Some(sk)) = (text(&item, "pk"), text(&item, "sk")) {
                let key = Key { pk: pk.to_owned(), sk: sk.to_owned() };
                // DynamoDB rejects a batch that contains a key twice. The index can have a user at two positions for a moment.
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        let (users, unreadable) = self.read_users(&keys).await?;
        let belongs = |user: &User| {
            user.tenant == *of.tenant && of.organization.is_none_or(|of| user.organization == *of)
        };
        Ok(UserPage {
            users: users.into_iter().filter(belongs).collect(),
            unreadable,
            next: page.last_evaluated_key.map(UserPosition),
        })
    }

    /// Reads up to `limit` users after skipping `offset`, at most [`MAX_OFFSET`]. Makes one query for each MB of skipped
    /// index entries, which is one for about 4,000 users, then one query and one batch read.
    ///
    /// # Errors
    /// `Unavailable` when a read fails.
    pub async fn users_from(
        &self,
        of: &UsersOf<'_>,
        offset: usize,
        limit: usize,
    ) -> Result<UserPage, Failure> {
        let (mut left, mut after) = (clamped(offset.min(MAX_OFFSET)), None);
        while left > 0 {
            let skipped = self
                .users_query(of)
                .select(Select::Count)
                .limit(left)
                .set_exclusive_start_key(after)
                .send()
                .await
                .map_err(|error| unavailable(&error))?;
            left = left.saturating_sub(skipped.count);
            after = skipped.last_evaluated_key;
            if after.is_none() {
                return Ok(UserPage { users: Vec::new(), unreadable: Vec::new(), next: None });
            }
        }
        self.users_after(of, after.map(UserPosition).as_ref(), limit).await
    }

    /// Reads users by their IDs, at most [`MAX_USERS`], in one batch read. Leaves out IDs that no user has.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn users_by_id(&self, tenant: &TenantId, ids: &[UserId]) -> Result<Vec<User>, Failure> {
        let mut keys: Vec<Key> = Vec::new();
        for id in ids.iter().take(MAX_USERS) {
            let key = Key::user(tenant, id);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        self.readable_users(&keys).await
    }

    /// Reads the users with a mail address, verified or not, ignoring case. Makes one query and one batch read.
    ///
    /// # Errors
    /// `Unavailable` when a read fails.
    pub async fn users_by_email(&self, tenant: &TenantId, address: &str) -> Result<UsersByEmail, Failure> {
        let partition = Key::mail_partition(tenant, address);
        let query = self.query(partition, MAIL_PREFIX).limit(clamped(MAX_USERS));
        let page = query.send().await.map_err(|error| unavailable(&error))?;
        let found = page.items.unwrap_or_default().into_iter().map(decode::<MailItem>);
        let ids: Vec<_> = found.map(|item| Ok(item?.user_id)).collect::<Result<_, Failure>>()?;
        let mut users = self.users_by_id(tenant, &ids).await?;
        users.retain(|user| user.any_email().is_some_and(|own| folded(own) == folded(address)));
        Ok(UsersByEmail { users, are_more: page.last_evaluated_key.is_some() })
    }

    /// Reads the user with a username, ignoring case. Makes two batch reads.
    ///
    /// # Errors
    /// `Unavailable` when a read fails.
    pub async fn user_by_name(&self, tenant: &TenantId, name: &Username) -> Result<Option<User>, Failure> {
        let Some(owner) = self.owner_of(tenant, name).await? else {
            return Ok(None);
        };
        Ok(self.user(tenant, &owner).await?.filter(|user| user.username.accepts(name)))
    }

    /// Reads the user with an ID, or else the user with a username. Makes one to three batch reads.
    ///
    /// # Errors
    /// `Unavailable` when a read fails.
    pub async fn user_by_id_or_name(&self, tenant: &TenantId, text: &str) -> Result<Option<User>, Failure> {
        if let Ok(id) = UserId::parse(text)
            && let Some(user) = self.user(tenant, &id).await?
        {
            return Ok(Some(user));
        }
        match Username::parse(text) {
            Ok(name) => self.user_by_name(tenant, &name).await,
            Err(_) => Ok(None),
        }
    }

    /// Returns the query of the index.
    fn users_query(&self, UsersOf { tenant, organization }: &UsersOf<'_>) -> QueryFluentBuilder {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(USERS_INDEX)
            .expression_attribute_values(":of", string(IndexKey::partition(tenant)));
        match organization {
            None => query.key_condition_expression(format!("{USERS_OF} = :of")),
            Some(organization) => query
                .key_condition_expression(format!(
                    "{USERS_OF} = :of AND begins_with({USERS_POSITION}, :organization)"
                ))
                .expression_attribute_values(":organization", string(IndexKey::prefix(organization))),
        }
    }

    /// Reads users in one batch. Returns those that exist, and the partition keys of those that cannot be decoded.
    pub(super) async fn read_users(&self, keys: &[Key]) -> Result<(Vec<User>, Vec<String>), Failure> {
        let (mut users, mut unreadable) = (Vec::new(), Vec::new());
        if keys.is_empty() {
            return Ok((users, unreadable));
        }
        for (item, key) in self.read_all(keys).await?.into_iter().zip(keys) {
            match item.map(to_user) {
                Some(Ok(user)) => users.push(user),
                Some(Err(_)) => unreadable.push(key.pk.clone()),
                None => {}
            }
        }
        Ok((users, unreadable))
    }

    async fn readable_users(&self, keys: &[Key]) -> Result<Vec<User>, Failure> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.read_all(keys).await?.into_iter().flatten().map(to_user).collect()
    }

    /// Returns the write of the item that finds a user by its mail address, if it has one.
    pub(super) fn put_mail(&self, user: &User) -> Result<Option<TransactWriteItem>, Failure> {
        let Some(address) = user.any_email() else {
            return Ok(None);
        };
        let item =
            encode(&Key::mail(&user.tenant, address, &user.id), &MailItem { user_id: user.id.clone() })?;
        self.put_write(item, Expressions::default()).map(Some)
    }

    /// Returns the write that deletes the item of a user's mail address, if it has one.
    pub(super) fn delete_mail(&self, user: &User) -> Result<Option<TransactWriteItem>, Failure> {
        let key = user.any_email().map(|address| Key::mail(&user.tenant, address, &user.id));
        key.map(|key| self.delete_write(&key, Expressions::default())).transpose()
    }

    /// Returns the writes that replace the item of a user's mail address. Returns none if both addresses are equal apart
    /// from case.
    pub(super) fn move_mail(&self, old: &User, new: &User) -> Result<Vec<Guarded>, Failure> {
        let key = |user: &User| user.any_email().map(folded);
        if key(old) == key(new) {
            return Ok(Vec::new());
        }
        let writes = [self.delete_mail(old)?, self.put_mail(new)?];
        Ok(writes.into_iter().flatten().map(|write| (Guard::None, write)).collect())
    }
}

/// Returns a limit for DynamoDB.
fn clamped(limit: usize) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}
