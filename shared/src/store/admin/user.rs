//! Administration of users: create, change, disable, unlock and delete.
//!
//! A change that must end sessions increments the session epoch in the same write
//! (docs/design/security.md#rule-15).

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;

use super::{CHANGE_TRIES, Switched, changed_meanwhile};
use crate::{
    domain::{Failure, TenantId, User, UserId},
    store::{
        DynamoStore,
        item::{instant, number},
        keys::Key,
        table::Expressions,
        transaction::{Committed, Guard, conflicted},
        user_change::Replacement,
    },
};

impl DynamoStore {
    /// Creates a user and reserves the username. The session epoch of `user` is ignored, so that sessions of an
    /// earlier user with the same ID stay ended (docs/design/security.md#rule-15).
    ///
    /// # Errors
    /// `UsernameTaken` when the tenant already has this user ID or username. `Unavailable` when the write fails.
    pub async fn create_user(&self, user: &User, now: Timestamp) -> Result<(), Failure> {
        if self.commit(self.creation_writes(user, None, now)?).await?.is_done()? {
            Ok(())
        } else {
            Err(Failure::UsernameTaken)
        }
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
    async fn commit_replacement(
        &self,
        old: &User,
        new: &User,
        resets_access: bool,
    ) -> Result<Committed, Failure> {
        let replacement = Replacement { resets_access, ..Replacement::default() };
        self.commit(self.replacement_writes(old, new, replacement)?).await
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

    /// Deletes a user, the username, the mail item, the attempts, the codes and the queued messages. All sessions end at once,
    /// because a session needs its user. DynamoDB deletes the session items when they expire.
    ///
    /// # Errors
    /// `Unavailable` when a request fails or the user keeps changing.
    pub async fn delete_user(&self, tenant: &TenantId, user: &UserId) -> Result<Switched, Failure> {
        for _ in 0..CHANGE_TRIES {
            let Some(known) = self.user(tenant, user).await? else {
                return Ok(Switched::Missing);
            };
            if self.commit(self.deletion_writes(&known).await?).await?.is_done()? {
                return Ok(Switched::Done);
            }
        }
        Err(changed_meanwhile(format_args!("user {user}")))
    }
}
