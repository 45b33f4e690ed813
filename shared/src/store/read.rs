//! Batch reads that span several items. Each is one consistent request.

use super::{
    DynamoStore,
    budget::to_used,
    code::to_code,
    idempotency::{StoredResult, to_stored_result},
    item::Attributes,
    keys::{Key, OutboxKey, ResultKey},
    outbox::{Sealed, to_sealed},
    session::to_session,
    user::to_user,
};
use crate::domain::{Failure, HourBudget, ResetCode, Session, SessionId, TenantId, User, UserId};

/// Items to read for a login.
#[derive(Debug, Clone, Copy)]
pub struct LoginQuery<'a> {
    /// Tenant.
    pub tenant: &'a TenantId,
    /// User ID from the request. The user may not exist.
    pub user: &'a UserId,
    /// Idempotency key of the request.
    pub result_key: Option<&'a ResultKey>,
    /// Budgets that limit the login.
    pub budgets: &'a [HourBudget],
}

/// Result of [`DynamoStore::login`].
#[derive(Debug, Default)]
pub struct LoginItems {
    /// The user.
    pub user: Option<User>,
    /// Stored result of the idempotency key.
    pub stored: Option<StoredResult>,
    /// Used part of each budget, in the order of the query.
    pub used: Vec<u32>,
}

/// Selection of the reset code in [`DynamoStore::caller`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeIs<'a> {
    /// The code is read, with the stored result of the idempotency key, if any.
    Wanted(Option<&'a ResultKey>),
    /// The code is not read.
    Unwanted,
}

/// Result of [`DynamoStore::caller`] and [`DynamoStore::caller_and_session`].
#[derive(Debug, Default)]
pub struct CallerItems {
    /// Session of the caller.
    pub session: Option<Session>,
    /// The caller.
    pub user: Option<User>,
    /// The requested other user. `None` if the caller was requested.
    pub other: Option<User>,
    /// Newest code of the requested user.
    pub code: Option<ResetCode>,
    /// The requested session.
    pub asked: Option<Session>,
    /// Stored result of the idempotency key.
    pub stored: Option<StoredResult>,
}

/// A user and the newest reset code.
#[derive(Debug, Default)]
pub struct RecoveryItems {
    /// The user.
    pub user: Option<User>,
    /// The newest code. It may be used or expired.
    pub code: Option<ResetCode>,
    /// Stored result of the idempotency key.
    pub stored: Option<StoredResult>,
}

/// Items to read for the delivery of a message.
#[derive(Debug)]
pub struct OutboxItems {
    /// The message. `None` after it was delivered.
    pub sealed: Option<Sealed>,
    /// Recipient.
    pub user: Option<User>,
    /// Newest reset code of the recipient.
    pub code: Option<ResetCode>,
}

/// Batch read under construction.
struct Batch(Vec<Key>);

impl Batch {
    /// Adds a key and returns its position. DynamoDB rejects a batch that contains a key twice.
    fn add(&mut self, key: Option<Key>) -> Option<usize> {
        self.0.push(key?);
        Some(self.0.len() - 1)
    }
}

/// Takes the item at a position and decodes it.
fn take<T>(
    items: &mut [Option<Attributes>],
    position: Option<usize>,
    decode: impl FnOnce(Attributes) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    position.and_then(|position| items.get_mut(position)?.take()).map(decode).transpose()
}

impl DynamoStore {
    /// Reads the items that a login needs.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn login(&self, query: &LoginQuery<'_>) -> Result<LoginItems, Failure> {
        let LoginQuery { tenant, user, result_key, budgets } = *query;
        let mut keys = vec![Key::user(tenant, user)];
        keys.extend(budgets.iter().map(Key::budget));
        keys.extend(result_key.map(Key::result));
        let mut items = self.read_all(&keys).await?.into_iter();
        let mut next = || items.next().flatten();
        Ok(LoginItems {
            user: next().map(to_user).transpose()?,
            used: budgets.iter().map(|_| to_used(next().as_ref())).collect::<Result<_, _>>()?,
            stored: next().map(to_stored_result).transpose()?,
        })
    }

    /// Reads a caller's session, the caller and `other`. Reads the code of `other`, or of the caller, if wanted.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn caller(
        &self,
        tenant: &TenantId,
        (user, session): (&UserId, &SessionId),
        other: Option<&UserId>,
        code: CodeIs<'_>,
    ) -> Result<CallerItems, Failure> {
        let other = other.filter(|other| *other != user);
        let (code, result_key) = match code {
            CodeIs::Wanted(result_key) => (Some(Key::code(tenant, other.unwrap_or(user))), result_key),
            CodeIs::Unwanted => (None, None),
        };
        let mut batch = Batch(vec![Key::session(tenant, user, session), Key::user(tenant, user)]);
        let other_at = batch.add(other.map(|other| Key::user(tenant, other)));
        let code_at = batch.add(code);
        let stored_at = batch.add(result_key.map(Key::result));
        let mut items = self.read_all(&batch.0).await?;
        Ok(CallerItems {
            session: take(&mut items, Some(0), to_session)?,
            user: take(&mut items, Some(1), to_user)?,
            other: take(&mut items, other_at, to_user)?,
            code: take(&mut items, code_at, to_code)?,
            stored: take(&mut items, stored_at, to_stored_result)?,
            asked: None,
        })
    }

    /// Reads a caller's session, the caller, and another session with its user.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn caller_and_session(
        &self,
        tenant: &TenantId,
        (user, session): (&UserId, &SessionId),
        asked: (&UserId, &SessionId),
    ) -> Result<CallerItems, Failure> {
        let mut batch = Batch(vec![Key::session(tenant, user, session), Key::user(tenant, user)]);
        let other_at = batch.add((asked.0 != user).then(|| Key::user(tenant, asked.0)));
        let is_other = asked != (user, session);
        let asked_at = batch.add(is_other.then(|| Key::session(tenant, asked.0, asked.1)));
        let mut items = self.read_all(&batch.0).await?;
        let session = take(&mut items, Some(0), to_session)?;
        let asked = take(&mut items, asked_at, to_session)?;
        Ok(CallerItems {
            asked: if is_other { asked } else { session.clone() },
            session,
            user: take(&mut items, Some(1), to_user)?,
            other: take(&mut items, other_at, to_user)?,
            code: None,
            stored: None,
        })
    }

    /// Reads a user, the newest code and the stored result of the idempotency key, if any.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn recovery(
        &self,
        tenant: &TenantId,
        user: &UserId,
        result_key: Option<&ResultKey>,
    ) -> Result<RecoveryItems, Failure> {
        let mut batch = Batch(vec![Key::user(tenant, user), Key::code(tenant, user)]);
        let stored_at = batch.add(result_key.map(Key::result));
        let mut items = self.read_all(&batch.0).await?;
        Ok(RecoveryItems {
            user: take(&mut items, Some(0), to_user)?,
            code: take(&mut items, Some(1), to_code)?,
            stored: take(&mut items, stored_at, to_stored_result)?,
        })
    }

    /// Reads a message, its recipient and the recipient's newest code.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn outbox(&self, key: &OutboxKey) -> Result<OutboxItems, Failure> {
        let OutboxKey { tenant, user, .. } = key;
        let keys = [Key::outbox(key), Key::user(tenant, user), Key::code(tenant, user)];
        let [sealed, user, code] = self.read_each(keys).await?;
        Ok(OutboxItems {
            sealed: sealed.map(|item| to_sealed(key, &item)).transpose()?,
            user: user.map(to_user).transpose()?,
            code: code.map(to_code).transpose()?,
        })
    }
}
