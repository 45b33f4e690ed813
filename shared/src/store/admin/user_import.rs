//! Bulk operations on a tenant's users: export page by page, and import in batches.

use aws_sdk_dynamodb::types::CancellationReason;
use jiff::Timestamp;

use super::user::{IMPORTED_AS, WRITES_PER_USER};
use crate::{
    domain::{Failure, TenantId, User, UserId},
    store::{
        DynamoStore,
        item::{Attributes, string, text},
        keys::{Key, USER_SORT_KEY, user_partitions},
        table::unavailable,
        transaction::{Guard, Transacted, is_condition_failure},
        user::to_user,
    },
};

/// Users that one transaction creates. A transaction holds up to 100 writes; each user takes 3.
pub const USERS_AT_ONCE: usize = 33;

/// Position within the users of a tenant.
#[derive(Debug, Clone)]
pub struct UserPosition(Attributes);

impl UserPosition {
    /// Returns the position after a user, whether it exists or not.
    pub fn after(tenant: &TenantId, user: &UserId) -> Self {
        Self(Key::user(tenant, user).attributes())
    }
}

/// Page of a tenant's users, in an arbitrary but stable order.
#[derive(Debug)]
pub struct UserPage {
    /// Users.
    pub users: Vec<User>,
    /// Partition keys of user items that this version cannot decode.
    pub unreadable: Vec<String>,
    /// Position of the next page. `None` on the last page.
    pub next: Option<UserPosition>,
}

/// User to import.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The user.
    pub user: User,
    /// Digest of the import record. A second import of the same record is recognised by it, even if the user was
    /// changed in the meantime.
    pub imported_as: String,
}

/// Result of the import of one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportOutcome {
    /// The user was created.
    Created,
    /// The same record was imported before, or an identical user exists.
    Already,
    /// Another user has this ID.
    IdTaken,
    /// Another user has this username.
    UsernameTaken,
}

/// An ID that a new user must not have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnaddressableId {
    /// Tenant of the user.
    pub tenant: String,
    /// User that has the ID.
    pub user: String,
    /// Member of a user line that contains the ID: `id`, `organization` or `customer`.
    pub member: &'static str,
    /// The ID.
    pub id: String,
}

impl DynamoStore {
    /// Reads a page of a tenant's users consistently. Each page reads up to 1 MB of the whole table, because there is
    /// no index of users. A page may be empty.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn users(&self, tenant: &TenantId, from: Option<&UserPosition>) -> Result<UserPage, Failure> {
        let answer = self
            .client
            .scan()
            .table_name(&self.table)
            .filter_expression("begins_with(pk, :users) AND sk = :user")
            .expression_attribute_values(":users", string(user_partitions(tenant)))
            .expression_attribute_values(":user", string(USER_SORT_KEY))
            .set_exclusive_start_key(from.map(|position| position.0.clone()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| unavailable(&error))?;
        let mut page = UserPage {
            users: Vec::new(),
            unreadable: Vec::new(),
            next: answer.last_evaluated_key.map(UserPosition),
        };
        for item in answer.items.unwrap_or_default() {
            let key = text(&item, "pk").unwrap_or_default().to_owned();
            match to_user(item) {
                Ok(user) => page.users.push(user),
                Err(_) => page.unreadable.push(key),
            }
        }
        Ok(page)
    }

    /// Lists the IDs of users, organizations and customers that a new user must not have
    /// (docs/design/contract.md#ids). Reads the whole table.
    ///
    /// # Errors
    /// `Unavailable` when a request fails.
    pub async fn unaddressable_ids(&self) -> Result<Vec<UnaddressableId>, Failure> {
        let mut items = self
            .client
            .scan()
            .table_name(&self.table)
            .filter_expression("sk = :user")
            .projection_expression("tenant_id, user_id, organization_id, customer_id")
            .expression_attribute_values(":user", string(USER_SORT_KEY))
            .into_paginator()
            .items()
            .send();
        let mut found = Vec::new();
        while let Some(item) = items.next().await {
            let item = item.map_err(|error| unavailable(&error))?;
            let text = |name: &str| text(&item, name).unwrap_or_default().to_owned();
            for (member, id) in [
                ("id", text("user_id")),
                ("organization", text("organization_id")),
                ("customer", text("customer_id")),
            ] {
                if !id.is_empty() && UserId::parse_new(&id).is_err() {
                    found.push(UnaddressableId {
                        tenant: text("tenant_id"),
                        user: text("user_id"),
                        member,
                        id,
                    });
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Imports up to [`USERS_AT_ONCE`] users and returns their outcomes in the same order. A user that cannot be
    /// created does not affect the others. The users must have different IDs and usernames.
    ///
    /// # Errors
    /// `Unavailable` when a request fails. Some users may have been created; repeat the import to find out.
    pub async fn insert_users(
        &self,
        users: &[NewUser],
        now: Timestamp,
    ) -> Result<Vec<ImportOutcome>, Failure> {
        let mut outcomes: Vec<Option<ImportOutcome>> = vec![None; users.len()];
        loop {
            let waiting: Vec<_> =
                users.iter().zip(&mut outcomes).filter(|(_, outcome)| outcome.is_none()).collect();
            if waiting.is_empty() {
                return Ok(outcomes.into_iter().flatten().collect());
            }
            let mut writes = Vec::new();
            for (new, _) in &waiting {
                let created = self.creation_writes(&new.user, Some(&new.imported_as), now)?;
                writes.extend(created.map(|write| (Guard::None, write)));
            }
            let (reasons, failure) = match self.transact(writes).await? {
                Transacted::Done => {
                    for (_, outcome) in waiting {
                        *outcome = Some(ImportOutcome::Created);
                    }
                    continue;
                }
                Transacted::Cancelled { reasons, failure, .. } => (reasons, failure),
            };
            let mut is_progress = false;
            for ((new, outcome), reasons) in waiting.into_iter().zip(reasons.chunks(WRITES_PER_USER)) {
                *outcome = refused(new, reasons);
                is_progress |= outcome.is_some();
            }
            // Every round must decide at least one user, so that the loop ends.
            if !is_progress {
                return Err(failure);
            }
        }
    }

    /// Predicts the outcome of an import without writing.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn preview_users(&self, users: &[NewUser]) -> Result<Vec<ImportOutcome>, Failure> {
        let keys: Vec<_> = users
            .iter()
            .flat_map(|NewUser { user, .. }| {
                [Key::user(&user.tenant, &user.id), Key::username(&user.tenant, &user.username)]
            })
            .collect();
        let items = self.read_all(&keys).await?;
        let outcomes = users.iter().zip(items.chunks(2)).map(|(new, items)| match items {
            [Some(user), _] => compare(new, user),
            [None, Some(_)] => ImportOutcome::UsernameTaken,
            _ => ImportOutcome::Created,
        });
        Ok(outcomes.collect())
    }
}

/// Returns why a user was not created, or `None` if another user's write cancelled the transaction.
fn refused(new: &NewUser, reasons: &[CancellationReason]) -> Option<ImportOutcome> {
    match reasons {
        [user, ..] if is_condition_failure(user) => {
            Some(user.item.as_ref().map_or(ImportOutcome::IdTaken, |item| compare(new, item)))
        }
        [_, name, ..] if is_condition_failure(name) => Some(ImportOutcome::UsernameTaken),
        _ => None,
    }
}

/// Compares a user to import with the stored user that has the same ID.
fn compare(new: &NewUser, stored: &Attributes) -> ImportOutcome {
    let is_identical = || to_user(stored.clone()).is_ok_and(|stored| stored.has_same_content(&new.user));
    if text(stored, IMPORTED_AS) == Some(&new.imported_as) || is_identical() {
        ImportOutcome::Already
    } else {
        ImportOutcome::IdTaken
    }
}
