//! Transactions that create, change and delete a user with all items that belong to it.
//!
//! Requests and `doorwardctl` share these writes, so that the same rules apply to both: a change that must end sessions
//! increments the session epoch (docs/design/security.md#rule-15), a new address invalidates codes, and the items that
//! find the user move with it.

use jiff::Timestamp;
use strum::IntoEnumIterator;

use super::{
    DynamoStore,
    code::NewCode,
    credentials::GuardedChange,
    idempotency::NewStoredResult,
    item::{number, string, text},
    keys::{Key, OUTBOX_PREFIX},
    outbox::Sealed,
    table::{Expressions, unavailable},
    transaction::{Committed, Guard, Guarded},
    user::{METADATA, user_item},
};
use crate::domain::{CodeProof, CodePurpose, Failure, TenantId, User, UserId};

/// Attribute with the digest of a user's import record. It is never returned.
pub(super) const IMPORTED_AS: &str = "imported_as";

/// Messages that one transaction deletes. A transaction holds up to 100 writes; deleting the user takes up to 9.
const MAX_DELETED_MESSAGES: i32 = 91;

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

/// Items to write in the transaction of a user.
#[derive(Debug, Default)]
pub struct UserExtras {
    /// Codes to issue, of different purposes.
    pub codes: Vec<NewCode>,
    /// Code that the change uses.
    pub spent: Option<SpentCode>,
    /// Notifications.
    pub messages: Vec<Sealed>,
    /// Result to store for the request's idempotency key.
    pub result: Option<NewStoredResult>,
}

/// A code that a change uses. It must not have been replaced, invalidated or used since it was read.
#[derive(Debug)]
pub struct SpentCode {
    /// Purpose.
    pub purpose: CodePurpose,
    /// Stored hash of the correct code.
    pub proof: CodeProof,
    /// Keyed hash of the submission that uses the code, or the ID of the attempt.
    pub submission: String,
}

/// Effects of a replacement that do not follow from the two versions of the user.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Replacement<'a> {
    /// The failed attempts are deleted, which ends a lockout, and the device proofs and the reset code become invalid.
    pub(super) resets_access: bool,
    /// The failed attempts are deleted.
    pub(super) lifts_lockout: bool,
    /// The caller changes its own account. No session of the user may have ended since it was read.
    pub(super) is_own: bool,
    /// Purposes of codes that the same transaction issues or uses. Their items are not written twice.
    pub(super) codes: &'a [CodePurpose],
}

impl DynamoStore {
    /// Creates a user with its username and mail items, in one transaction. The session epoch of `user` is ignored, so
    /// that sessions of an earlier user with the same ID stay ended (docs/design/security.md#rule-15).
    ///
    /// Returns `Refused(Guard::Username)` if the tenant already has this user ID or username.
    ///
    /// # Errors
    /// `Validation` when the user is too large. `Unavailable` when the transaction fails.
    pub async fn add_user(
        &self,
        user: &User,
        extras: &UserExtras,
        now: Timestamp,
    ) -> Result<Committed, Failure> {
        let mut writes = self.creation_writes(user, None, now)?;
        writes.extend(self.extra_writes(user, extras, now)?);
        // The first failed condition counts. A repeated request also finds its own username taken.
        writes.sort_by_key(|(guard, _)| *guard != Guard::IdempotencyKey);
        self.commit(writes).await
    }

    /// Replaces the target of a change by `new`, in one transaction. Ends its sessions, invalidates codes and moves its
    /// username and mail items as the differences require. If the target becomes active, its lockout ends.
    ///
    /// Returns `Refused(Guard::Target)` if the target changed since it was read, and `Refused(Guard::Username)` if
    /// another user has the username.
    ///
    /// # Errors
    /// `Validation` when the user is too large. `Unavailable` when the transaction fails.
    pub async fn change_user(
        &self,
        change: &GuardedChange<'_>,
        new: &User,
        extras: &UserExtras,
    ) -> Result<Committed, Failure> {
        let old = change.target;
        let issued = extras.codes.iter().map(|code| code.purpose);
        let codes: Vec<_> = issued.chain(extras.spent.as_ref().map(|spent| spent.purpose)).collect();
        let replacement = Replacement {
            resets_access: false,
            lifts_lockout: !old.is_active() && new.is_active(),
            is_own: change.is_own(),
            codes: &codes,
        };
        let mut writes = self.replacement_writes(old, new, replacement)?;
        writes.extend(self.check_own_session(change)?);
        writes.extend(self.extra_writes(old, extras, change.now)?);
        self.commit(writes).await
    }

    /// Deletes the target of a change and all items that belong to it except its sessions, which end because they need
    /// their user.
    ///
    /// Returns `Refused(Guard::Target)` if the target changed since it was read.
    ///
    /// # Errors
    /// `Unavailable` when the transaction fails.
    pub async fn remove_user(
        &self,
        change: &GuardedChange<'_>,
        result: Option<&NewStoredResult>,
    ) -> Result<Committed, Failure> {
        let mut writes = self.deletion_writes(change.target).await?;
        writes.extend(self.check_own_session(change)?);
        if let Some(result) = result {
            writes.push((Guard::IdempotencyKey, self.put_result(result)?));
        }
        self.commit(writes).await
    }

    fn extra_writes(
        &self,
        user: &User,
        extras: &UserExtras,
        now: Timestamp,
    ) -> Result<Vec<Guarded>, Failure> {
        let UserExtras { codes, spent, messages, result } = extras;
        let mut writes = Vec::new();
        for code in codes {
            writes.extend(self.put_code(code)?);
        }
        if let Some(SpentCode { purpose, proof, submission }) = spent {
            writes.push((Guard::Code, self.spend_code(user, *purpose, proof, submission, now)?));
        }
        for message in messages {
            writes.push((Guard::None, self.put_outbox(message)?));
        }
        if let Some(result) = result {
            writes.push((Guard::IdempotencyKey, self.put_result(result)?));
        }
        Ok(writes)
    }

    /// Returns the writes that create a user: the user item first, then the username, the mail item and the attempts.
    /// `imported_as` is the digest of an import record.
    pub(super) fn creation_writes(
        &self,
        user: &User,
        imported_as: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<Guarded>, Failure> {
        let epoch = first_epoch(now);
        let mut item = user_item(&User { session_epoch: epoch, proofs_epoch: epoch, ..user.clone() })?;
        item.extend(imported_as.map(|digest| (IMPORTED_AS.to_owned(), string(digest))));
        let mut writes = vec![
            (Guard::Username, self.put_write(item, Expressions::absent().return_refused())?),
            (Guard::Username, self.reserve_username(user, &user.username)?),
            // Attempts may exist from before the user was created.
            (Guard::None, self.reset_attempts(&user.tenant, &user.id, now)?),
        ];
        writes.extend(self.put_mail(user)?.map(|write| (Guard::None, write)));
        Ok(writes)
    }

    /// Returns the writes of the differences between `old` and `new`, on the condition that the user is unchanged since
    /// `old` was read.
    pub(super) fn replacement_writes(
        &self,
        old: &User,
        new: &User,
        replacement: Replacement<'_>,
    ) -> Result<Vec<Guarded>, Failure> {
        let Replacement { resets_access, lifts_lockout, is_own, codes } = replacement;
        let ends_sessions = old.must_end_sessions(new);
        let has_new_password = old.password.as_phc() != new.password.as_phc();
        let renews_proofs = resets_access || has_new_password;
        let mut update = user_replacement(old, new, ends_sessions, renews_proofs)?;
        if is_own {
            update = update.when("session_epoch = :epoch").value(":epoch", number(old.session_epoch));
        }
        let guard = if is_own { Guard::Caller } else { Guard::Target };
        let mut writes = vec![(guard, self.update_write(&Key::user(&new.tenant, &new.id), update)?)];
        if renews_proofs || lifts_lockout {
            writes.push((Guard::None, self.reset_attempts(&new.tenant, &new.id, new.changed_at)?));
        }
        for purpose in CodePurpose::iter() {
            let is_void = match purpose {
                // Its holder may have no authority over the user after a change that ends sessions.
                CodePurpose::Password => {
                    renews_proofs || ends_sessions || (&old.email, &old.phone) != (&new.email, &new.phone)
                }
                CodePurpose::Email => old.any_email() != new.any_email(),
                CodePurpose::Phone => old.any_phone() != new.any_phone(),
            };
            if is_void && !codes.contains(&purpose) {
                let write = self.void_code(&new.tenant, &new.id, purpose, new.changed_at)?;
                writes.push((Guard::None, write));
            }
        }
        writes.extend(self.move_username(old, &new.username)?);
        writes.extend(self.move_mail(old, new)?);
        Ok(writes)
    }

    /// Returns the writes that delete a user, its username, mail item, attempts, codes and queued messages.
    pub(super) async fn deletion_writes(&self, user: &User) -> Result<Vec<Guarded>, Failure> {
        let User { tenant, id, .. } = user;
        let unchanged =
            Expressions::condition("change_sequence = :sequence").value(":sequence", number(user.sequence));
        let none = Expressions::default;
        let mut writes = vec![
            (Guard::Target, self.delete_write(&Key::user(tenant, id), unchanged)?),
            (Guard::Target, self.release_username(user)?),
            (Guard::None, self.delete_write(&Key::attempts(tenant, id), none())?),
        ];
        writes.extend(self.delete_mail(user)?.map(|write| (Guard::None, write)));
        for purpose in CodePurpose::iter() {
            writes.push((Guard::None, self.delete_write(&Key::code(tenant, id, purpose), none())?));
        }
        for message in self.message_keys(tenant, id).await? {
            writes.push((Guard::None, self.delete_write(&message, none())?));
        }
        Ok(writes)
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

/// Returns the update of the user item, on the condition that it is unchanged since `old` was read.
fn user_replacement(
    old: &User,
    new: &User,
    ends_sessions: bool,
    renews_proofs: bool,
) -> Result<Expressions, Failure> {
    let (before, mut after) = (user_item(old)?, user_item(new)?);
    for counter in ["pk", "sk", "session_epoch", "proofs_epoch", "change_sequence", "sessions_revision"] {
        after.remove(counter);
    }
    let is_removed = |name: &&String| !after.contains_key(*name) && OPTIONAL.contains(&name.as_str());
    let removed: Vec<_> = before.keys().filter(is_removed).map(String::as_str).collect();
    let mut sets = vec!["change_sequence = change_sequence + :one".to_owned()];
    if ends_sessions {
        sets.push("session_epoch = session_epoch + :one".to_owned());
    }
    if renews_proofs {
        // The right-hand sides have the values from before the update.
        let next = if ends_sessions { " + :one" } else { "" };
        sets.push(format!("proofs_epoch = session_epoch{next}"));
    }
    // Equal attributes stay as they are: a login may have replaced the password hash by a stronger one of the same
    // password since `old` was read.
    after.retain(|name, value| before.get(name) != Some(value));
    // Equal attributes stay as they are: a login may have replaced the password hash by a stronger one of the same
    // password since `old` was read.
    after.retain(|name, value| before.get(name) != Some(value));
    sets.extend(after.keys().map(|name| format!("{name} = :{name}")));
    let remove = if removed.is_empty() { String::new() } else { format!(" REMOVE {}", removed.join(", ")) };
    let mut update = Expressions::update(format!("SET {}{remove}", sets.join(", ")))
        .when("change_sequence = :sequence")
        .value(":one", number(1))
        .value(":sequence", number(old.sequence));
    for (name, value) in after {
        update = update.value(format!(":{name}"), value);
    }
    Ok(update)
}

/// Returns the first session epoch of a tenant or user created at `now`.
///
/// It is the time in milliseconds. An earlier tenant or user with the same ID had a lower epoch, because it changed
/// less than once per millisecond. Its sessions therefore stay ended (docs/design/security.md#rule-15).
pub(super) fn first_epoch(now: Timestamp) -> u64 {
    u64::try_from(now.as_millisecond()).unwrap_or_default()
}
