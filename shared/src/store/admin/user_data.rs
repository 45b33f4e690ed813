//! Everything that is stored about one user, page by page: export and erasure.

use strum::IntoEnumIterator;

use crate::{
    domain::{
        AttemptState, CodePurpose, Failure, ResetCode, Session, TenantId, TrustedDeviceId, User, UserId,
    },
    store::{
        DynamoStore, Sealed,
        attempt::to_buckets,
        code::to_code,
        item::{Attributes, text, to_id_set},
        keys::{ATTEMPTS_SORT_KEY, CODE_PREFIX, Key, SESSION_PREFIX, USER_SORT_KEY, outbox_key},
        outbox::to_sealed,
        session::to_session,
        table::unavailable,
        user::to_user,
        user_change::IMPORTED_AS,
    },
};

/// Items that one query returns.
const PAGE: i32 = 100;

/// One item in the partition of a user.
#[derive(Debug)]
pub enum UserDatum {
    /// The user.
    User {
        /// The user.
        user: Box<User>,
        /// The item contains the digest of an import record.
        is_imported: bool,
    },
    /// A session, live or ended.
    Session(Box<Session>),
    /// The password attempts by device. `None` means all unknown devices.
    Attempts(Vec<(Option<TrustedDeviceId>, AttemptState)>),
    /// The newest code of a purpose.
    Code {
        /// Purpose.
        purpose: CodePurpose,
        /// The code.
        code: ResetCode,
        /// Number of wrong attempts.
        tries: usize,
    },
    /// A message that waits to be sent.
    Message(Sealed),
    /// An item that this version cannot decode.
    Unreadable {
        /// Sort key.
        sort_key: String,
    },
}

/// Page of the items of a user. The user is the first item.
#[derive(Debug)]
pub struct UserData {
    /// Items.
    pub items: Vec<UserDatum>,
    /// Position of the next page. `None` on the last page.
    pub next: Option<UserDataPosition>,
}

/// Position within the items of a user.
#[derive(Debug, Clone)]
pub struct UserDataPosition(Attributes);

/// Items outside the partition of a user that find it.
#[derive(Debug, PartialEq, Eq)]
pub struct UserFinders {
    /// The username item exists.
    pub username: bool,
    /// The mail item exists.
    pub email: bool,
}

/// Number of deleted items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Session items.
    pub sessions: u64,
    /// Other items.
    pub others: u64,
}

impl Erased {
    /// Returns the number of all deleted items.
    pub fn total(self) -> u64 {
        self.sessions.saturating_add(self.others)
    }
}

impl DynamoStore {
    /// Reads one page of the items in a user's partition, in one consistent query. The user may not exist.
    ///
    /// # Errors
    /// `Unavailable` when the query fails.
    pub async fn user_data(
        &self,
        tenant: &TenantId,
        user: &UserId,
        after: Option<UserDataPosition>,
    ) -> Result<UserData, Failure> {
        let page = self
            .partition_query(Key::user(tenant, user).pk)
            .scan_index_forward(false)
            .limit(PAGE)
            .set_exclusive_start_key(after.map(|position| position.0))
            .send()
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(UserData {
            items: page.items.unwrap_or_default().into_iter().map(to_datum).collect(),
            next: page.last_evaluated_key.map(UserDataPosition),
        })
    }

    /// Reads which items find a user by its name and its address.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn user_finders(&self, user: &User) -> Result<UserFinders, Failure> {
        let User { tenant, id, username, .. } = user;
        let mail = user.any_email().map(|address| Key::mail(tenant, address, id));
        let [name, mail] = self.read_each([Some(Key::username(tenant, username)), mail]).await?;
        let finds =
            |item: Option<Attributes>| item.is_some_and(|item| text(&item, "user_id") == Some(id.as_str()));
        Ok(UserFinders { username: finds(name), email: finds(mail) })
    }

    /// Deletes all items in a user's partition except the user item. Call it after the user was deleted. Returns the
    /// number of deleted items.
    ///
    /// # Errors
    /// `Unavailable` when a request fails; repeat the call to delete the other items.
    pub async fn erase_items(&self, tenant: &TenantId, user: &UserId) -> Result<Erased, Failure> {
        // A user of the same ID can have been created since. Its item stays, because its name and address find it.
        self.clear_partition(&Key::user(tenant, user).pk, Some(USER_SORT_KEY)).await
    }

    /// Deletes all items of a partition except the one with the sort key `kept`, page by page. Returns their number.
    pub(super) async fn clear_partition(
        &self,
        partition: &str,
        kept: Option<&str>,
    ) -> Result<Erased, Failure> {
        let (mut erased, mut after) = (Erased::default(), None);
        loop {
            let page = self
                .partition_query(partition)
                .projection_expression("pk, sk")
                .limit(PAGE)
                .set_exclusive_start_key(after)
                .send()
                .await
                .map_err(|error| unavailable(&error))?;
            let mut keys = page.items.unwrap_or_default();
            keys.retain(|key| kept.is_none() || text(key, "sk") != kept);
            let is_session =
                |key: &Attributes| text(key, "sk").is_some_and(|sk| sk.starts_with(SESSION_PREFIX));
            let (sessions, others): (Vec<_>, Vec<_>) = keys.into_iter().partition(is_session);
            erased.others += self.delete_all(others).await?;
            erased.sessions += self.delete_all(sessions).await?;
            after = page.last_evaluated_key;
            if after.is_none() {
                return Ok(erased);
            }
        }
    }
}

/// Decodes an item of a user's partition.
fn to_datum(item: Attributes) -> UserDatum {
    let sort_key = text(&item, "sk").unwrap_or_default().to_owned();
    decoded(&sort_key, item).ok().flatten().unwrap_or(UserDatum::Unreadable { sort_key })
}

/// Decodes an item. Returns `None` for an unknown sort key.
fn decoded(sort_key: &str, item: Attributes) -> Result<Option<UserDatum>, Failure> {
    if sort_key == USER_SORT_KEY {
        let is_imported = item.contains_key(IMPORTED_AS);
        return Ok(Some(UserDatum::User { user: Box::new(to_user(item)?), is_imported }));
    }
    if sort_key == ATTEMPTS_SORT_KEY {
        return Ok(Some(UserDatum::Attempts(to_buckets(&item)?)));
    }
    if sort_key.starts_with(SESSION_PREFIX) {
        return Ok(Some(UserDatum::Session(Box::new(to_session(item)?))));
    }
    if let Some(name) = sort_key.strip_prefix(CODE_PREFIX)
        && let Some(purpose) = CodePurpose::iter().find(|purpose| purpose.name() == name)
    {
        let tries = to_id_set(&item, "tries")?.len();
        return Ok(Some(UserDatum::Code { purpose, code: to_code(item)?, tries }));
    }
    let key = text(&item, "pk").and_then(|pk| outbox_key(pk, sort_key));
    key.map(|key| to_sealed(&key, &item).map(UserDatum::Message)).transpose()
}
