//! Import of users in batches.

use aws_sdk_dynamodb::types::CancellationReason;
use jiff::Timestamp;

use crate::{
    domain::{Failure, User},
    store::{
        DynamoStore,
        item::{Attributes, text},
        keys::Key,
        transaction::{Transacted, is_condition_failure},
        user::to_user,
        user_change::IMPORTED_AS,
    },
};

/// Users that one transaction creates. A transaction holds up to 100 writes; each user takes up to 4.
pub const USERS_AT_ONCE: usize = 25;

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

impl DynamoStore {
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
            let (mut writes, mut lengths) = (Vec::new(), Vec::new());
            for (new, _) in &waiting {
                let created = self.creation_writes(&new.user, Some(&new.imported_as), now)?;
                lengths.push(created.len());
                writes.extend(created);
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
            let (mut is_progress, mut reasons) = (false, reasons.as_slice());
            for ((new, outcome), length) in waiting.into_iter().zip(lengths) {
                let (own, others) = reasons.split_at(length.min(reasons.len()));
                reasons = others;
                *outcome = refused(new, own);
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
