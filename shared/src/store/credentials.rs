//! Transactions that change a user's credentials, sessions or reset code.
//!
//! A change of the caller's own account also checks that the caller's session and epoch have not changed since they
//! were read. A change of another user does not contain the caller's items, because parallel transactions of one
//! caller would conflict on them (docs/design/decisions/ended-callers.md).

use jiff::Timestamp;

use super::{
    DynamoStore,
    code::NewCode,
    item::{number, string},
    keys::Key,
    outbox::Sealed,
    table::Expressions,
    transaction::{Committed, Guard, Guarded},
    user::UserDraft,
};
use crate::domain::{CodeProof, CodePurpose, Failure, PasswordHash, Session, User, Username};

/// Sessions of a user that end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All sessions.
    All,
    /// All sessions except the caller's own session.
    AllButCurrent,
}

/// A change of a user by a caller, as both were read.
#[derive(Debug, Clone, Copy)]
pub struct GuardedChange<'a> {
    /// Session of the caller if the caller changes its own account. It must still be live. `None` if the caller is
    /// another user or an API client.
    pub own_session: Option<&'a Session>,
    /// User to change: the caller, or another user that must still belong to the same organization.
    pub target: &'a User,
    /// Current time.
    pub now: Timestamp,
}

impl GuardedChange<'_> {
    /// Returns whether the caller is also the target.
    pub fn is_own(&self) -> bool {
        self.own_session.is_some()
    }
}

/// Change of a user's credentials.
#[derive(Debug, Default)]
pub struct CredentialChange {
    /// New password. It ends all sessions of the user except the caller's own session.
    pub password: Option<PasswordHash>,
    /// Previous password hashes to keep ([`User::history_after_change`]). Ignored without a new password.
    pub history: Vec<PasswordHash>,
    /// New username.
    pub username: Option<Username>,
    /// New value of the flag that the password must be changed at the next login.
    pub change_required: Option<bool>,
    /// Notification for the user.
    pub message: Option<Sealed>,
}

/// Password reset with a code.
#[derive(Debug)]
pub struct Recovery<'a> {
    /// User, as read before.
    pub user: &'a User,
    /// Stored hash of the correct code. The code must not have been replaced, invalidated or used since it was read.
    pub proof: &'a CodeProof,
    /// Keyed hash of the submission that uses the code, or the ID of the attempt.
    pub submission: &'a str,
    /// New password.
    pub password: PasswordHash,
    /// Previous password hashes to keep.
    pub history: Vec<PasswordHash>,
    /// Notification for the user.
    pub message: Sealed,
    /// Current time.
    pub now: Timestamp,
}

impl DynamoStore {
    /// Resets a login: ends the user's sessions, blocks the password, ends the lockout and stores a code, in one
    /// transaction.
    ///
    /// # Errors
    /// `Unavailable` when the transaction fails.
    pub async fn reset_login(
        &self,
        change: &GuardedChange<'_>,
        code: &NewCode,
    ) -> Result<Committed, Failure> {
        let GuardedChange { target, now, .. } = *change;
        let mut draft = UserDraft::default();
        draft.require_reset();
        let mut writes = vec![self.change_target(change, draft)?];
        writes.extend(self.check_own_session(change)?);
        writes.extend(self.put_code(code)?);
        writes.push((Guard::None, self.reset_attempts(&target.tenant, &target.id, now)?));
        self.commit(writes).await
    }

    /// Changes a user's password, username or flags in one transaction.
    ///
    /// # Errors
    /// `Unavailable` when the transaction fails.
    pub async fn update_credentials(
        &self,
        change: &GuardedChange<'_>,
        credentials: &CredentialChange,
    ) -> Result<Committed, Failure> {
        let CredentialChange { password, history, username, change_required, message } = credentials;
        let GuardedChange { own_session, target, now } = *change;
        let mut draft = UserDraft::default();
        let mut writes = Vec::new();
        if let Some(username) = username {
            draft.set_username(username);
            writes.extend(self.move_username(target, username)?);
        }
        if let Some(required) = change_required {
            draft.set_change_required(*required);
        }
        if let Some(password) = password {
            draft.set_password(password, history);
            writes
                .push((Guard::None, self.void_code(&target.tenant, &target.id, CodePurpose::Password, now)?));
        }
        if let Some(message) = message {
            writes.push((Guard::None, self.put_outbox(message)?));
        }
        match own_session {
            Some(session) if password.is_some() => {
                writes.push((Guard::Caller, self.keep_session(session, now)?));
            }
            _ => writes.extend(self.check_own_session(change)?),
        }
        if password.is_some() {
            writes.push((Guard::None, self.reset_attempts(&target.tenant, &target.id, now)?));
        }
        writes.push(self.change_target(change, draft)?);
        self.commit(writes).await
    }

    /// Ends a user's sessions by incrementing the session epoch.
    ///
    /// # Errors
    /// `Unavailable` when the transaction fails.
    pub async fn end_sessions(
        &self,
        change: &GuardedChange<'_>,
        ending: Ending,
    ) -> Result<Committed, Failure> {
        let mut draft = UserDraft::default();
        draft.end_sessions();
        let mut writes = vec![self.change_target(change, draft)?];
        match change.own_session {
            Some(session) if ending == Ending::AllButCurrent => {
                writes.push((Guard::Caller, self.keep_session(session, change.now)?));
            }
            _ => writes.extend(self.check_own_session(change)?),
        }
        self.commit(writes).await
    }

    /// Replaces the user's code of one purpose and queues its message in one transaction. `asked_by` is the caller, or
    /// `None` for the tenant itself. A code that verifies an address needs a caller, and the address of the target must
    /// still be the one that was read.
    ///
    /// # Errors
    /// `Unavailable` when the transaction fails.
    pub async fn issue_code(
        &self,
        asked_by: Option<&GuardedChange<'_>>,
        code: &NewCode,
    ) -> Result<Committed, Failure> {
        let mut writes = self.put_code(code)?;
        if let Some(asked_by) = asked_by {
            writes.push(self.check_target(asked_by, code.purpose)?);
            writes.extend(self.check_own_session(asked_by)?);
        }
        self.commit(writes).await
    }

    /// Sets a new password and marks the code as used, in one transaction. Ends the user's sessions, the lockout
    /// and a login reset.
    ///
    /// # Errors
    /// `Unavailable` when the transaction fails.
    pub async fn recover(&self, recovery: &Recovery<'_>) -> Result<Committed, Failure> {
        let Recovery { user, proof, submission, password, history, message, now } = recovery;
        let mut draft = UserDraft::default();
        draft.set_password(password, history);
        draft.set_change_required(false);
        self.commit(vec![
            (Guard::Code, self.spend_code(user, CodePurpose::Password, proof, submission, *now)?),
            (Guard::Target, self.user_update(user, draft, *now)?),
            (Guard::None, self.reset_attempts(&user.tenant, &user.id, *now)?),
            (Guard::None, self.put_outbox(message)?),
        ])
        .await
    }

    /// Returns the update of the target.
    fn change_target(&self, change: &GuardedChange<'_>, mut draft: UserDraft) -> Result<Guarded, Failure> {
        if change.is_own() {
            draft.require_epoch(change.target);
        }
        let guard = if change.is_own() { Guard::Caller } else { Guard::Target };
        Ok((guard, self.user_update(change.target, draft, change.now)?))
    }

    /// Returns a check of the caller's session if the caller changes its own account.
    pub(super) fn check_own_session(&self, change: &GuardedChange<'_>) -> Result<Option<Guarded>, Failure> {
        let check = change.own_session.map(|session| self.check_session(session, change.now));
        Ok(check.transpose()?.map(|check| (Guard::Caller, check)))
    }

    /// Returns a check of the caller's epoch, or that another target has not changed, because the caller's authority
    /// depends on the organization and the roles of the target. It also checks the address that a code of `purpose`
    /// verifies, because a code for an earlier address must not verify a new one.
    fn check_target(&self, change: &GuardedChange<'_>, purpose: CodePurpose) -> Result<Guarded, Failure> {
        let User { tenant, id, sequence, session_epoch, unverified_email, unverified_phone, .. } =
            change.target;
        let (guard, condition) = if change.is_own() {
            let condition = Expressions::condition("session_epoch = :epoch");
            (Guard::Caller, condition.value(":epoch", number(session_epoch)))
        } else {
            let condition = Expressions::condition("change_sequence = :sequence");
            (Guard::Target, condition.value(":sequence", number(*sequence)))
        };
        let address_is = |condition: Expressions, attribute: &str, address: &Option<String>| {
            let address = address.clone().unwrap_or_default();
            condition.when(format!("{attribute} = :address")).value(":address", string(address))
        };
        let condition = match purpose {
            CodePurpose::Password => condition,
            CodePurpose::Email => address_is(condition, "unverified_email", unverified_email),
            CodePurpose::Phone => address_is(condition, "unverified_phone", unverified_phone),
        };
        Ok((guard, self.check_write(&Key::user(tenant, id), condition)?))
    }
}
