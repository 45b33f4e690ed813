//! Batch reads that span several items. Each is one consistent request.

use super::{
    DynamoStore,
    api_client::to_client,
    budget::to_used,
    code::to_code,
    idempotency::{StoredResult, to_stored_result},
    keys::{Key, OutboxKey, ResultKey},
    outbox::{Sealed, to_sealed},
    session::to_session,
    user::to_user,
};
use crate::domain::{
    ApiClient, ClientId, CodePurpose, Failure, HourBudget, ResetCode, Session, SessionId, TenantId, User,
    UserId,
};

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

/// A user, and the items that were requested with it.
#[derive(Debug, Default)]
pub struct UserItems {
    /// The user.
    pub user: Option<User>,
    /// The newest code. It may be used or expired.
    pub code: Option<ResetCode>,
    /// Stored result of the idempotency key.
    pub stored: Option<StoredResult>,
    /// Used part of each budget, in the order of the query.
    pub used: Vec<u32>,
}

/// Item to read with a caller ([`DynamoStore::caller`], [`DynamoStore::client_caller`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtraItem<'a> {
    /// No item.
    None,
    /// The newest code of this purpose of the other user or of the caller, and the stored result of the idempotency key,
    /// if any.
    Code(CodePurpose, Option<&'a ResultKey>),
    /// The stored result of the idempotency key, if any.
    Result(Option<&'a ResultKey>),
    /// A session of the other user or of the caller.
    Session(&'a SessionId),
}

/// Result of [`DynamoStore::caller`] and [`DynamoStore::client_caller`].
#[derive(Debug, Default)]
pub struct CallerItems {
    /// Session of the caller. An API client has none.
    pub session: Option<Session>,
    /// The caller, if it is a user.
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

impl DynamoStore {
    /// Reads a user, the stored result of the idempotency key, and the budgets.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn login(&self, query: &LoginQuery<'_>) -> Result<UserItems, Failure> {
        let LoginQuery { tenant, user, result_key, budgets } = *query;
        let mut keys = vec![Key::user(tenant, user)];
        keys.extend(budgets.iter().map(Key::budget));
        keys.extend(result_key.map(Key::result));
        let mut items = self.read_all(&keys).await?.into_iter();
        let mut next = || items.next().flatten();
        Ok(UserItems {
            user: next().map(to_user).transpose()?,
            used: budgets.iter().map(|_| to_used(next())).collect::<Result<_, _>>()?,
            stored: next().map(to_stored_result).transpose()?,
            code: None,
        })
    }

    /// Reads a caller's session, the caller, `other`, and one extra item.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn caller(
        &self,
        tenant: &TenantId,
        (user, session): (&UserId, &SessionId),
        other: Option<&UserId>,
        extra: ExtraItem<'_>,
    ) -> Result<CallerItems, Failure> {
        // DynamoDB rejects a batch that contains a key twice.
        let other = other.filter(|other| *other != user);
        let [code, result, asked] = extra_keys(tenant, Some(other.unwrap_or(user)), extra);
        let own = Key::session(tenant, user, session);
        let asks_own = asked.as_ref() == Some(&own);
        let keys = [
            Some(own),
            Some(Key::user(tenant, user)),
            other.map(|other| Key::user(tenant, other)),
            code,
            result,
            asked.filter(|_| !asks_own),
        ];
        let [session, user, other, code, stored, asked] = self.read_each(keys).await?;
        let session = session.map(to_session).transpose()?;
        Ok(CallerItems {
            asked: if asks_own { session.clone() } else { asked.map(to_session).transpose()? },
            session,
            user: user.map(to_user).transpose()?,
            other: other.map(to_user).transpose()?,
            code: code.map(to_code).transpose()?,
            stored: stored.map(to_stored_result).transpose()?,
        })
    }

    /// Reads the API client of a token, `target`, and one extra item of `target`. The client is `None` if the token was
    /// revoked.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn client_caller(
        &self,
        tenant: &TenantId,
        (client, token_id): (&ClientId, &str),
        target: Option<&UserId>,
        extra: ExtraItem<'_>,
    ) -> Result<(Option<ApiClient>, CallerItems), Failure> {
        let [code, result, asked] = extra_keys(tenant, target, extra);
        let keys = [
            Some(Key::client(tenant, client)),
            Some(Key::revoked_token(tenant, token_id)),
            target.map(|target| Key::user(tenant, target)),
            code,
            result,
            asked,
        ];
        let [client, revoked, other, code, stored, asked] = self.read_each(keys).await?;
        let items = CallerItems {
            session: None,
            user: None,
            other: other.map(to_user).transpose()?,
            code: code.map(to_code).transpose()?,
            asked: asked.map(to_session).transpose()?,
            stored: stored.map(to_stored_result).transpose()?,
        };
        Ok((client.filter(|_| revoked.is_none()).map(to_client).transpose()?, items))
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
    ) -> Result<UserItems, Failure> {
        let keys = [
            Some(Key::user(tenant, user)),
            Some(Key::code(tenant, user, CodePurpose::Password)),
            result_key.map(Key::result),
        ];
        let [user, code, stored] = self.read_each(keys).await?;
        Ok(UserItems {
            user: user.map(to_user).transpose()?,
            code: code.map(to_code).transpose()?,
            stored: stored.map(to_stored_result).transpose()?,
            used: Vec::new(),
        })
    }

    /// Reads a message, its recipient and the recipient's newest code.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn outbox(&self, key: &OutboxKey) -> Result<OutboxItems, Failure> {
        let OutboxKey { tenant, user, .. } = key;
        let keys =
            [Key::outbox(key), Key::user(tenant, user), Key::code(tenant, user, CodePurpose::Password)];
        let [sealed, user, code] = self.read_each(keys.map(Some)).await?;
        Ok(OutboxItems {
            sealed: sealed.map(|item| to_sealed(key, &item)).transpose()?,
            user: user.map(to_user).transpose()?,
            code: code.map(to_code).transpose()?,
        })
    }
}

/// Returns the keys of an extra item: the code of `target`, the stored result, and a session of `target`.
fn extra_keys(tenant: &TenantId, target: Option<&UserId>, extra: ExtraItem<'_>) -> [Option<Key>; 3] {
    match extra {
        ExtraItem::None => [None, None, None],
        ExtraItem::Code(purpose, result) => {
            [target.map(|target| Key::code(tenant, target, purpose)), result.map(Key::result), None]
        }
        ExtraItem::Result(result) => [None, result.map(Key::result), None],
        ExtraItem::Session(asked) => [None, None, target.map(|target| Key::session(tenant, target, asked))],
    }
}
