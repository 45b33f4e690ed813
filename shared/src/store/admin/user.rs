//! Administration of users: create, change, disable, unlock and delete.
//!
//! A change that must end sessions increments the session epoch in the same write
//! (docs/design/security.md#rule-15).

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use jiff::Timestamp;

use super::{CHANGE_TRIES, Switched, changed_meanwhile, first_epoch};
use crate::{
    domain::{Failure, TenantId, User, UserId},
    store::{
        DynamoStore,
        item::{instant, number, string, text},
        keys::{Key, OUTBOX_PREFIX},
        table::{Expressions, unavailable},
        transaction::{Committed, Guard, conflicted},
        user::{METADATA, user_item},
    },
};

/// Writes that create one user.
pub(super) const WRITES_PER_USER: usize = 3;

/// Attribute with the digest of a user's import record. It is never returned.
pub(super) const IMPORTED_AS: &str = "imported_as";

/// Messages that one transaction deletes. A transaction holds up to 100 writes; deleting the user takes 4.
const MAX_DELETED_MESSAGES: i32 = 96;

/// Optional attributes of a user item.
const OPTIONAL: [&str; 15] = [
    "customer_id",
    "customer_type",
    "password_history",
    "email",
    "phone",
    "unverified_email",
    "unverified_phone",
    "given_name",
    "family_name",
    "nick_name",
    "display_name",
    "gender",
    METADATA,
    "locale",
    "locked",
];

impl DynamoStore {
    /// Creates a user and reserves the username. The session epoch of `user` is ignored, so that sessions of an
    /// earlier user with the same ID stay ended (docs/design/security.md#rule-15).
    ///
    /// # Errors
    /// `UsernameTaken` when the tenant already has this user ID or username. `Unavailable` when the write fails.
    pub async fn create_user(&self, user: &User, now: Timestamp) -> Result<(), Failure> {
        let [user, username, attempts] = self.creation_writes(user, None, now)?;
        let writes = vec![(Guard::Username, user), (Guard::Username, username), (Guard::None, attempts)];
        if self.commit(writes).await?.is_done()? { Ok(()) } else { Err(Failure::UsernameTaken) }
    }

    /// Returns the writes that create a user: the user item, the username and the attempts. `imported_as` is the digest
    /// of an import record.
    pub(super) fn creation_writes(
        &self,
        user: &User,
        imported_as: Option<&str>,
        now: Timestamp,
    ) -> Result<[TransactWriteItem; WRITES_PER_USER], Failure> {
        let epoch = first_epoch(now);
        let mut item = user_item(&User { session_epoch: epoch, proofs_epoch: epoch, ..user.clone() })?;
        item.extend(imported_as.map(|digest| (IMPORTED_AS.to_owned(), string(digest))));
        Ok([
            self.put_write(item, Expressions::absent().return_refused())?,
            self.reserve_username(user, &user.username)?,
            // Attempts may exist from before the user was created.
            self.reset_attempts(&user.tenant, &user.id, now)?,
        ])
    }

    /// Replaces a user, moves the username and ends the lockout. A change of roles, organization, customer or
    /// password, or a higher epoch in `new`, ends the user's sessions. Other attributes of the item stay.
    ///
    /// # Errors
    /// `UsernameTaken` when another user has the username. `Unavailable` when the user changed since `old` was read.
    pub async fn replace_user(&self, old: &User, new: &User) -> Result<(), Failure> {
        match self.commit_replacement(old, new, true).await? {
            Committed::Done => Ok(()),
            Committed::Refused(Guard::Username) => Err(Failure::UsernameTaken),
            Committed::Refused(_) => Err(changed_meanwhile(format_args!("user {}", new.id))),
            Committed::Conflicted => Err(conflicted()),
        }
    }

    /// Applies `change` to the current user. Returns `None` if the user does not exist. A change of roles,
    /// organization, customer or password ends the user's sessions in the same write. A new password also ends the
    /// lockout and invalidates the reset code. A new address invalidates the reset code.
    ///
    /// # Errors
    /// `UsernameTaken` when another user has the username. `Unavailable` when the write fails or the user keeps
    /// changing. Any error of `change`.
    pub async fn update_user(
        &self,
        tenant: &TenantId,
        user: &UserId,
        change: impl Fn(&User) -> Result<User, Failure>,
    ) -> Result<Option<User>, Failure> {
        for _ in 0..CHANGE_TRIES {
            let Some(old) = self.user(tenant, user).await? else {
                return Ok(None);
            };
            match self.commit_replacement(&old, &change(&old)?, false).await? {
                Committed::Done => return self.user(tenant, user).await,
                Committed::Refused(Guard::Username) => return Err(Failure::UsernameTaken),
                Committed::Refused(_) => {}
                Committed::Conflicted => return Err(conflicted()),
            }
        }
        Err(changed_meanwhile(format_args!("user {user}")))
    }

    /// Writes the differences between `old` and `new`, if the user is unchanged since `old` was read.
    async fn commit_replacement(&self, old: &User, new: &User, unlocks: bool) -> Result<Committed, Failure> {
        let key = Key::user(&new.tenant, &new.id);
        let (before, mut after) = (user_item(old)?, user_item(new)?);
        for counter in ["pk", "sk", "session_epoch", "proofs_epoch", "change_sequence", "sessions_revision"] {
            after.remove(counter);
        }
        let is_removed = |name: &&String| !after.contains_key(*name) && OPTIONAL.contains(&name.as_str());
        let removed: Vec<_> = before.keys().filter(is_removed).map(String::as_str).collect();
        let mut sets = vec!["change_sequence = change_sequence + :one".to_owned()];
        let ends_sessions = old.must_end_sessions(new);
        if ends_sessions {
            sets.push("session_epoch = session_epoch + :one".to_owned());
        }
        let has_new_password = old.password.as_phc() != new.password.as_phc();
        if unlocks || has_new_password {
            // The right-hand sides have the values from before the update.
            let next = if ends_sessions { " + :one" } else { "" };
            sets.push(format!("proofs_epoch = session_epoch{next}"));
        }
        sets.extend(after.keys().map(|name| format!("{name} = :{name}")));
        let remove =
            if removed.is_empty() { String::new() } else { format!(" REMOVE {}", removed.join(", ")) };
        let mut update = Expressions::update(format!("SET {}{remove}", sets.join(", ")))
            .when("change_sequence = :sequence")
            .value(":one", number(1))
            .value(":sequence", number(old.sequence));
        for (name, value) in after {
            update = update.value(format!(":{name}"), value);
        }
        let mut writes = vec![(Guard::Target, self.update_write(&key, update)?)];
        if unlocks || has_new_password {
            writes.push((Guard::None, self.reset_attempts(&new.tenant, &new.id, new.changed_at)?));
        }
        if unlocks || has_new_password || (&old.email, &old.phone) != (&new.email, &new.phone) {
            writes.push((Guard::None, self.void_code(&new.tenant, &new.id, new.changed_at)?));
        }
        writes.extend(self.move_username(old, &new.username)?);
        self.commit(writes).await
    }

    /// Disables an active or locked user and ends all sessions of the user. Takes effect at once.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn disable_user(
        &self,
        tenant: &TenantId,
        user: &UserId,
        now: Timestamp,
    ) -> Result<Switched, Failure> {
        let update = "SET disabled = :to, session_epoch = session_epoch + :one, \
                      change_sequence = change_sequence + :one, changed_at = :now REMOVE locked";
        self.switch_user(tenant, user, (update, "(disabled <> :to OR attribute_exists(locked))"), true, now)
            .await
    }

    /// Enables a disabled or locked user. Earlier sessions stay ended.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn enable_user(
        &self,
        tenant: &TenantId,
        user: &UserId,
        now: Timestamp,
    ) -> Result<Switched, Failure> {
        let update =
            "SET disabled = :to, change_sequence = change_sequence + :one, changed_at = :now REMOVE locked";
        self.switch_user(tenant, user, (update, "disabled <> :to"), false, now).await
    }

    async fn switch_user(
        &self,
        tenant: &TenantId,
        user: &UserId,
        (update, unless): (&str, &str),
        disabled: bool,
        now: Timestamp,
    ) -> Result<Switched, Failure> {
        let update = Expressions::update(update)
            .value(":to", AttributeValue::Bool(disabled))
            .value(":one", number(1))
            .value(":now", instant(now));
        self.switch(&Key::user(tenant, user), update, unless).await
    }

    /// Ends all sessions of a user at once, including sessions of logins in progress.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn revoke_sessions(
        &self,
        tenant: &TenantId,
        user: &UserId,
        now: Timestamp,
    ) -> Result<Switched, Failure> {
        let update = Expressions::update(
            "SET session_epoch = session_epoch + :one, change_sequence = change_sequence + :one, \
             changed_at = :now",
        )
        .value(":one", number(1))
        .value(":now", instant(now));
        self.switch(&Key::user(tenant, user), update, "attribute_exists(session_epoch)").await
    }

    /// Deletes a user's attempts, by unknown and trusted devices. This ends a lockout and enables a password that
    /// consecutive failures disabled. Sessions and password stay.
    ///
    /// # Errors
    /// `Unavailable` when a request fails.
    pub async fn unlock_user(&self, tenant: &TenantId, user: &UserId) -> Result<Switched, Failure> {
        // This check only reports a mistyped ID. Attempts are also stored for users that do not exist.
        if self.user(tenant, user).await?.is_none() {
            return Ok(Switched::Missing);
        }
        let key = Key::attempts(tenant, user);
        let [attempts] = self.read_each([Some(key.clone())]).await?;
        let is_plain = |name: &String| ["pk", "sk", "expires_at"].contains(&name.as_str());
        if attempts.unwrap_or_default().keys().all(is_plain) {
            return Ok(Switched::Already);
        }
        // The whole item, because a disabled password gave it a TTL that is never reached.
        self.delete(key.attributes()).await.map(|()| Switched::Done)
    }

    /// Deletes a user, the username, the attempts, the reset code and the queued messages. All sessions end at once,
    /// because a session needs its user. DynamoDB deletes the session items when they expire.
    ///
    /// # Errors
    /// `Unavailable` when a request fails or the user keeps changing.
    pub async fn delete_user(&self, tenant: &TenantId, user: &UserId) -> Result<Switched, Failure> {
        for _ in 0..CHANGE_TRIES {
            let Some(known) = self.user(tenant, user).await? else {
                return Ok(Switched::Missing);
            };
            if self.commit_deletion(&known).await?.is_done()? {
                return Ok(Switched::Done);
            }
        }
        Err(changed_meanwhile(format_args!("user {user}")))
    }

    async fn commit_deletion(&self, user: &User) -> Result<Committed, Failure> {
        let User { tenant, id, .. } = user;
        let unchanged =
            Expressions::condition("change_sequence = :sequence").value(":sequence", number(user.sequence));
        let none = Expressions::default;
        let mut writes = vec![
            (Guard::Target, self.delete_write(&Key::user(tenant, id), unchanged)?),
            (Guard::Target, self.release_username(user)?),
            (Guard::None, self.delete_write(&Key::attempts(tenant, id), none())?),
            (Guard::None, self.delete_write(&Key::code(tenant, id), none())?),
        ];
        for message in self.message_keys(tenant, id).await? {
            writes.push((Guard::None, self.delete_write(&message, none())?));
        }
        self.commit(writes).await
    }

    /// Returns the keys of a user's queued messages, oldest first.
    async fn message_keys(&self, tenant: &TenantId, user: &UserId) -> Result<Vec<Key>, Failure> {
        let pk = Key::user(tenant, user).pk;
        let query = self.query(&pk, OUTBOX_PREFIX).projection_expression("sk").limit(MAX_DELETED_MESSAGES);
        let output = query.send().await.map_err(|error| unavailable(&error))?;
        let items = output.items.unwrap_or_default();
        let sort_keys = items.iter().filter_map(|item| text(item, "sk"));
        Ok(sort_keys.map(|sk| Key { pk: pk.clone(), sk: sk.to_owned() }).collect())
    }
}
