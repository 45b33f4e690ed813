//! A tenant's users as a whole: read page by page, and put into the table many at once. For operators'
//! tools.

use aws_sdk_dynamodb::{
    operation::transact_write_items::TransactWriteItemsError,
    types::{CancellationReason, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem},
};
use jiff::Timestamp;

use super::{
    DynamoStore,
    conflict::retried,
    item::{Attributes, encode, string, unavailable},
    keys::{Key, USER_SORT_KEY, user_partitions},
    user::{built, new_item, to_user},
};
use crate::domain::{Failure, TenantId, User, UserId};

/// Users that one transaction creates: it holds 100 writes, and each takes three.
pub const USERS_AT_ONCE: usize = 33;

/// What a user was imported from, by digest. Kept in its item, told to nobody.
const IMPORTED_AS: &str = "imported_as";

/// Where a reading of a tenant's users goes on.
#[derive(Debug, Clone)]
pub struct UserPosition(Attributes);

impl UserPosition {
    /// Behind that user, whether it exists or not.
    pub fn after(tenant: &TenantId, user: &UserId) -> Self {
        Self(Key::user(tenant, user).attributes())
    }
}

/// Some of a tenant's users, in no order that means anything.
#[derive(Debug)]
pub struct UserPage {
    /// They.
    pub users: Vec<User>,
    /// Partition keys of users' items that this version cannot read.
    pub unreadable: Vec<String>,
    /// Where the next page begins; none when this is the last.
    pub next: Option<UserPosition>,
}

/// A user to create.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// It.
    pub user: User,
    /// Digest of what it is imported from: a second import of the same knows it again, whatever became
    /// of the user since.
    pub imported_as: String,
}

/// What became of one user of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It was created.
    Created,
    /// It was imported from the same before, or is in the table just so.
    Already,
    /// Its id is another user's.
    IdTaken,
    /// Its name is another user's.
    UsernameTaken,
}

impl DynamoStore {
    /// A page of a tenant's users. It reads up to 1 MB of the whole table, of which it may find none:
    /// there is no index of users. Consistent, so that a user that was there before is not missed.
    ///
    /// # Errors
    /// `Unavailable` when storage does not answer.
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
            let key = item.get("pk").and_then(|pk| pk.as_s().ok()).cloned().unwrap_or_default();
            match to_user(item) {
                Ok(user) => page.users.push(user),
                Err(_) => page.unreadable.push(key),
            }
        }
        Ok(page)
    }

    /// Creates up to [`USERS_AT_ONCE`] users, each as [`Self::create_user`] does: one that cannot be
    /// created leaves the others be. No two of them may share an id or a name. What became of each, in
    /// their order.
    ///
    /// # Errors
    /// `Unavailable` when storage does not answer: any of them may have been created. Asking again
    /// tells.
    pub async fn insert_users(&self, users: &[NewUser], now: Timestamp) -> Result<Vec<Placed>, Failure> {
        let mut placed: Vec<Option<Placed>> = vec![None; users.len()];
        loop {
            let waiting: Vec<_> =
                users.iter().zip(&mut placed).filter(|(_, placed)| placed.is_none()).collect();
            if waiting.is_empty() {
                return Ok(placed.into_iter().flatten().collect());
            }
            let writes: Vec<_> = waiting.iter().map(|(new, _)| self.writes_of(new, now)).collect();
            let writes: Vec<_> =
                writes.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
            let request =
                || self.client.transact_write_items().set_transact_items(Some(writes.clone())).send();
            let Err(error) = retried(request).await else {
                for (_, placed) in waiting {
                    *placed = Some(Placed::Created);
                }
                continue;
            };
            let mut settled = false;
            if let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) =
                error.as_service_error()
            {
                let reasons = cancelled.cancellation_reasons().chunks(WRITES_EACH);
                for ((new, placed), reasons) in waiting.into_iter().zip(reasons) {
                    *placed = refused(new, reasons);
                    settled |= placed.is_some();
                }
            }
            // Each round settles one at least, or it is no answer about any of them.
            if !settled {
                return Err(unavailable(&error));
            }
        }
    }

    /// What would become of users that were created now. Decides nothing.
    ///
    /// # Errors
    /// `Unavailable` when storage does not answer.
    pub async fn foresee_users(&self, users: &[NewUser]) -> Result<Vec<Placed>, Failure> {
        let keys: Vec<_> = users
            .iter()
            .flat_map(|NewUser { user, .. }| {
                [Key::user(&user.tenant, &user.id), Key::username(&user.tenant, &user.username)]
            })
            .collect();
        let items = self.read_all(&keys).await?;
        let foreseen = users.iter().zip(items.chunks(2)).map(|(new, items)| match items {
            [Some(user), _] => against(new, user),
            [None, Some(_)] => Placed::UsernameTaken,
            _ => Placed::Created,
        });
        Ok(foreseen.collect())
    }

    fn writes_of(&self, new: &NewUser, now: Timestamp) -> Result<[TransactWriteItem; WRITES_EACH], Failure> {
        let NewUser { user, imported_as } = new;
        let mut item = encode(&Key::user(&user.tenant, &user.id), &new_item(user, now))?;
        item.insert(IMPORTED_AS.to_owned(), string(imported_as));
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build();
        Ok([
            TransactWriteItem::builder().put(built(put)?).build(),
            self.take_username(user, &user.username)?,
            // Guesses at the id before it was anybody's, and proofs of an earlier user of it.
            self.forget_attempts(&user.tenant, &user.id, now)?,
        ])
    }
}

/// Writes that create one user.
const WRITES_EACH: usize = 3;

/// Why a user could not be created; `None` when that was not up to it.
fn refused(new: &NewUser, reasons: &[CancellationReason]) -> Option<Placed> {
    let is_refused = |reason: &&CancellationReason| reason.code() == Some("ConditionalCheckFailed");
    let [user, name, ..] = reasons else {
        return None;
    };
    match (Some(user).filter(is_refused), Some(name).filter(is_refused)) {
        (Some(user), _) => Some(user.item.as_ref().map_or(Placed::IdTaken, |item| against(new, item))),
        (None, Some(_)) => Some(Placed::UsernameTaken),
        (None, None) => None,
    }
}

/// What a user is to one that has its id.
fn against(new: &NewUser, known: &Attributes) -> Placed {
    let imported_before = known.get(IMPORTED_AS).and_then(|kept| kept.as_s().ok()) == Some(&new.imported_as);
    let is_so = || to_user(known.clone()).is_ok_and(|known| known.says_the_same(&new.user));
    if imported_before || is_so() { Placed::Already } else { Placed::IdTaken }
}
