//! The user item, and the item that makes its name unique.

use std::{collections::HashSet, time::Duration};

use aws_sdk_dynamodb::types::{
    Delete, KeysAndAttributes, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use backon::{ExponentialBuilder, Retryable};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    DynamoStore,
    budget::to_used,
    change::{Guard, Guarded},
    code::to_code,
    conflict::{only_refused, retried},
    item::{Attributes, corrupt, decode, encode, number, string, to_instant, unavailable},
    keys::Key,
    once::to_once,
    session::to_session,
    tenant::first_epoch,
};
use crate::{
    domain::{
        Collection, CustomerId, Failure, OrganizationId, PasswordHash, Role, SessionId, TenantId, User,
        UserId, UserStatus, Username,
    },
    port::{CallerItems, CodeIs, Committed, LoginItems, LoginQuery},
};

#[derive(Serialize, Deserialize)]
struct UserItem {
    tenant_id: TenantId,
    user_id: UserId,
    username: String,
    password: String,
    organization_id: OrganizationId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    customer_id: Option<CustomerId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    customer_type: Option<String>,
    user_roles: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    password_history: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    phone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    locale: Option<String>,
    disabled: bool,
    session_epoch: u64,
    #[serde(default)]
    sessions_revision: u64,
    reset_required: bool,
    change_required: bool,
    change_sequence: u64,
    created_at: i64,
    changed_at: i64,
}

impl From<&User> for UserItem {
    fn from(user: &User) -> Self {
        let User {
            tenant,
            id,
            username,
            password,
            organization,
            customer,
            customer_kind,
            roles,
            password_history,
            email,
            phone,
            locale,
            status,
            session_epoch,
            sessions_revision,
            reset_required,
            change_required,
            sequence,
            created_at,
            changed_at,
        } = user;
        Self {
            tenant_id: tenant.clone(),
            user_id: id.clone(),
            username: username.as_written().to_owned(),
            password: password.as_phc().to_owned(),
            organization_id: organization.clone(),
            customer_id: customer.clone(),
            customer_type: customer_kind.map(|kind| kind.user_type().to_owned()),
            user_roles: roles.iter().map(|role| role.name().to_owned()).collect(),
            password_history: password_history.iter().map(|hash| hash.as_phc().to_owned()).collect(),
            email: email.clone(),
            phone: phone.clone(),
            locale: locale.clone(),
            disabled: *status == UserStatus::Disabled,
            session_epoch: *session_epoch,
            sessions_revision: *sessions_revision,
            reset_required: *reset_required,
            change_required: *change_required,
            change_sequence: *sequence,
            created_at: created_at.as_millisecond(),
            changed_at: changed_at.as_millisecond(),
        }
    }
}

impl TryFrom<UserItem> for User {
    type Error = Failure;

    fn try_from(item: UserItem) -> Result<Self, Failure> {
        let roles = item.user_roles.iter().map(|name| Role::from_name(name).ok_or_else(|| corrupt("role")));
        let customer_kind = item
            .customer_type
            .map(|name| Collection::from_user_type(&name).ok_or_else(|| corrupt("customer type")))
            .transpose()?;
        Ok(Self {
            username: Username::parse(&item.username).map_err(|_| corrupt("username"))?,
            roles: roles.collect::<Result<_, _>>()?,
            status: if item.disabled { UserStatus::Disabled } else { UserStatus::Active },
            created_at: to_instant(item.created_at)?,
            changed_at: to_instant(item.changed_at)?,
            tenant: item.tenant_id,
            id: item.user_id,
            password: PasswordHash::from_phc(item.password),
            organization: item.organization_id,
            customer: item.customer_id,
            customer_kind,
            password_history: item.password_history.into_iter().map(PasswordHash::from_phc).collect(),
            email: item.email,
            phone: item.phone,
            locale: item.locale,
            session_epoch: item.session_epoch,
            sessions_revision: item.sessions_revision,
            reset_required: item.reset_required,
            change_required: item.change_required,
            sequence: item.change_sequence,
        })
    }
}

pub(super) fn to_user(attributes: Attributes) -> Result<User, Failure> {
    decode::<UserItem>(attributes)?.try_into()
}

/// The item of a user that is created now: its epoch begins at that time.
pub(super) fn new_item(user: &User, now: Timestamp) -> impl Serialize {
    UserItem { session_epoch: first_epoch(now), ..UserItem::from(user) }
}

/// Whose a name is.
#[derive(Serialize, Deserialize)]
struct UsernameItem {
    user_id: UserId,
}

impl DynamoStore {
    pub(super) async fn read_user(&self, tenant: &TenantId, user: &UserId) -> Result<Option<User>, Failure> {
        let [user] = self.read_each([Key::user(tenant, user)]).await?;
        user.map(to_user).transpose()
    }

    pub(super) async fn read_login(&self, query: &LoginQuery<'_>) -> Result<LoginItems, Failure> {
        let LoginQuery { tenant, user, once, budgets } = *query;
        let mut keys = vec![Key::user(tenant, user)];
        keys.extend(budgets.iter().map(Key::budget));
        keys.extend(once.map(Key::once));
        let mut items = self.read_all(&keys).await?.into_iter();
        let mut next = || items.next().flatten();
        Ok(LoginItems {
            user: next().map(to_user).transpose()?,
            used: budgets.iter().map(|_| to_used(next().as_ref())).collect::<Result<_, _>>()?,
            once: next().map(to_once).transpose()?,
        })
    }

    pub(super) async fn read_caller(
        &self,
        tenant: &TenantId,
        (user, session): (&UserId, &SessionId),
        other: Option<&UserId>,
        code: CodeIs<'_>,
    ) -> Result<CallerItems, Failure> {
        let other = other.filter(|other| *other != user);
        let (code, once) = match code {
            CodeIs::Wanted(once) => (Some(Key::code(tenant, other.unwrap_or(user))), once),
            CodeIs::Unwanted => (None, None),
        };
        let mut keys = vec![Key::session(tenant, user, session), Key::user(tenant, user)];
        let mut also = |key: Option<Key>| {
            key.map(|key| {
                keys.push(key);
                keys.len() - 1
            })
        };
        let other_at = also(other.map(|other| Key::user(tenant, other)));
        let code_at = also(code);
        let once_at = also(once.map(Key::once));
        let mut items = self.read_all(&keys).await?;
        let mut take = |at: Option<usize>| at.and_then(|at| items.get_mut(at)?.take());
        Ok(CallerItems {
            session: take(Some(0)).map(to_session).transpose()?,
            user: take(Some(1)).map(to_user).transpose()?,
            other: take(other_at).map(to_user).transpose()?,
            code: take(code_at).map(to_code).transpose()?,
            once: take(once_at).map(to_once).transpose()?,
            asked: None,
        })
    }

    pub(super) async fn read_caller_and_session(
        &self,
        tenant: &TenantId,
        (user, session): (&UserId, &SessionId),
        asked: (&UserId, &SessionId),
    ) -> Result<CallerItems, Failure> {
        let mut keys = vec![Key::session(tenant, user, session), Key::user(tenant, user)];
        // A batch takes no key twice.
        let other_at = (asked.0 != user).then(|| {
            keys.push(Key::user(tenant, asked.0));
            keys.len() - 1
        });
        let asked_at = (asked != (user, session)).then(|| {
            keys.push(Key::session(tenant, asked.0, asked.1));
            keys.len() - 1
        });
        let mut items = self.read_all(&keys).await?;
        let mut take = |at: Option<usize>| at.and_then(|at| items.get_mut(at)?.take());
        let session = take(Some(0)).map(to_session).transpose()?;
        Ok(CallerItems {
            asked: match asked_at {
                Some(_) => take(asked_at).map(to_session).transpose()?,
                None => session.clone(),
            },
            session,
            user: take(Some(1)).map(to_user).transpose()?,
            other: take(other_at).map(to_user).transpose()?,
            code: None,
            once: None,
        })
    }

    /// As many items as keys, in their order.
    pub(super) async fn read_each<const N: usize>(
        &self,
        keys: [Key; N],
    ) -> Result<[Option<Attributes>; N], Failure> {
        let items = self.read_all(&keys).await?;
        items.try_into().map_err(|_| Failure::Internal("a batch of another length".into()))
    }

    /// One batch, read consistently, in the order of `keys`; what DynamoDB leaves out is asked for
    /// again.
    pub(super) async fn read_all(&self, keys: &[Key]) -> Result<Vec<Option<Attributes>>, Failure> {
        let wanted = KeysAndAttributes::builder()
            .set_keys(Some(keys.iter().map(Key::attributes).collect()))
            .consistent_read(true)
            .build()
            .map_err(|error| Failure::Internal(Box::new(error)))?;
        let read = || async {
            let answer = self
                .client
                .batch_get_item()
                .request_items(&self.table, wanted.clone())
                .send()
                .await
                .map_err(|error| BatchFault::Failed(unavailable(&error)))?;
            if answer.unprocessed_keys.is_some_and(|left| !left.is_empty()) {
                return Err(BatchFault::Incomplete);
            }
            Ok(answer.responses.and_then(|mut tables| tables.remove(&self.table)).unwrap_or_default())
        };
        let backoff =
            ExponentialBuilder::default().with_jitter().with_max_times(2).with_min_delay(READ_AGAIN_AFTER);
        let read = read.retry(backoff).when(|fault| matches!(fault, BatchFault::Incomplete));
        let mut found = read.await.map_err(|fault| match fault {
            BatchFault::Failed(failure) => failure,
            BatchFault::Incomplete => Failure::Unavailable("DynamoDB left out some of a batch".into()),
        })?;
        let mut take = |key: &Key| {
            let wanted = key.attributes();
            let is = |item: &Attributes| wanted.iter().all(|(name, value)| item.get(name) == Some(value));
            found.iter().position(is).map(|at| found.swap_remove(at))
        };
        Ok(keys.iter().map(&mut take).collect())
    }

    /// Neither the epoch nor the sequence moves: the password is the same, and whoever changes the
    /// user at that moment need not read it again.
    pub(super) async fn replace_hash(&self, user: &User, hash: &PasswordHash) -> Result<(), Failure> {
        let request = || {
            self.client
                .update_item()
                .table_name(&self.table)
                .set_key(Some(Key::user(&user.tenant, &user.id).attributes()))
                .update_expression("SET password = :new")
                .condition_expression("password = :old")
                .expression_attribute_values(":new", string(hash.as_phc()))
                .expression_attribute_values(":old", string(user.password.as_phc()))
                .send()
        };
        match retried(request).await {
            Ok(_) => Ok(()),
            Err(error) => only_refused(&error),
        }
    }

    /// Creates a user and takes its name. For operators' tools.
    ///
    /// Whatever `user` says, its epoch of sessions begins at `now` in milliseconds, as a tenant's does
    /// (`create_tenant`): sessions of an earlier user of the same id stay dead (docs/design/security.md#rule-15).
    ///
    /// # Errors
    /// `UsernameTaken` when the tenant has that user id or name already.
    pub async fn create_user(&self, user: &User, now: Timestamp) -> Result<(), Failure> {
        let item = new_item(user, now);
        let writes = vec![
            (Guard::Username, self.put_new(&Key::user(&user.tenant, &user.id), &item)?),
            (Guard::Username, self.take_username(user, &user.username)?),
            // Guesses at the id before it was anybody's, and proofs of an earlier user of it.
            (Guard::None, self.forget_attempts(&user.tenant, &user.id, now)?),
        ];
        match self.commit(writes).await? {
            Committed::Done => Ok(()),
            _ => Err(Failure::UsernameTaken),
        }
    }

    /// Makes a user what `new` says, moves its name and ends its lockout. A change of what it may do, of
    /// whose it is or of its password ends its sessions, as does `new` with a higher epoch (docs/design/security.md#rule-15). What else its item holds stays. For operators' tools.
    ///
    /// # Errors
    /// `UsernameTaken` when another user has the name; `Unavailable` when the user was changed since
    /// `old` was read.
    pub async fn replace_user(&self, old: &User, new: &User) -> Result<(), Failure> {
        match self.commit_replacement(old, new, true).await? {
            Committed::Done => Ok(()),
            Committed::UsernameTaken => Err(Failure::UsernameTaken),
            Committed::CallerGone
            | Committed::TargetChanged
            | Committed::CodeChanged
            | Committed::SessionsChanged
            | Committed::Repeated => {
                Err(Failure::Unavailable(format!("user {} was changed meanwhile", new.id).into()))
            }
        }
    }

    /// Changes a user as `change` says of what it is at that moment; `None` when there is no such user.
    /// Its sessions end with a change of what it may do, of whose it is or of its password, in the same
    /// write (docs/design/security.md#rule-15). A new password ends its lockout, and voids the code it was sent; so does a
    /// new address the code. For operators' tools.
    ///
    /// # Errors
    /// `UsernameTaken` when another user has the name; `Unavailable`, also while others keep changing
    /// it.
    pub async fn update_user(
        &self,
        tenant: &TenantId,
        user: &UserId,
        change: impl Fn(&User) -> User,
    ) -> Result<Option<User>, Failure> {
        for _ in 0..CHANGE_TRIES {
            let Some(old) = self.read_user(tenant, user).await? else {
                return Ok(None);
            };
            match self.commit_replacement(&old, &change(&old), false).await? {
                Committed::Done => return self.read_user(tenant, user).await,
                Committed::UsernameTaken => return Err(Failure::UsernameTaken),
                Committed::CallerGone
                | Committed::TargetChanged
                | Committed::CodeChanged
                | Committed::SessionsChanged
                | Committed::Repeated => {}
            }
        }
        Err(Failure::Unavailable(format!("user {user} keeps changing: try again").into()))
    }

    /// Puts what differs between `old` and `new` into a user's item, while that is as `old` was read.
    async fn commit_replacement(&self, old: &User, new: &User, unlocks: bool) -> Result<Committed, Failure> {
        let key = Key::user(&new.tenant, &new.id);
        let (was, mut is) = (encode(&key, &UserItem::from(old))?, encode(&key, &UserItem::from(new))?);
        for counted in ["pk", "sk", "session_epoch", "change_sequence", "sessions_revision"] {
            is.remove(counted);
        }
        let gone = was.keys().filter(|name| !is.contains_key(*name) && OPTIONAL.contains(&name.as_str()));
        let mut sets = vec!["change_sequence = change_sequence + :one".to_owned()];
        if ends_sessions(old, new) {
            sets.push("session_epoch = session_epoch + :one".to_owned());
        }
        sets.extend(is.keys().map(|name| format!("{name} = :{name}")));
        let gone: Vec<_> = gone.map(String::as_str).collect();
        let remove = if gone.is_empty() { String::new() } else { format!(" REMOVE {}", gone.join(", ")) };
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key.attributes()))
            .update_expression(format!("SET {}{remove}", sets.join(", ")))
            .condition_expression("change_sequence = :sequence")
            .set_expression_attribute_values(Some(
                is.into_iter().map(|(name, value)| (format!(":{name}"), value)).collect(),
            ))
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":sequence", number(old.sequence))
            .build();
        let mut writes = vec![(Guard::Target, TransactWriteItem::builder().update(built(update)?).build())];
        let has_new_password = old.password.as_phc() != new.password.as_phc();
        if unlocks || has_new_password {
            writes.push((Guard::None, self.forget_attempts(&new.tenant, &new.id, new.changed_at)?));
        }
        if unlocks || has_new_password || (&old.email, &old.phone) != (&new.email, &new.phone) {
            writes.push((Guard::None, self.void_code(&new.tenant, &new.id, new.changed_at)?));
        }
        writes.extend(self.move_username(old, &new.username)?);
        self.commit(writes).await
    }

    /// Gives up a user's old name and takes the new one, unless both are the same login.
    pub(super) fn move_username(&self, user: &User, new: &Username) -> Result<Vec<Guarded>, Failure> {
        if user.username.is_same(new) {
            return Ok(Vec::new());
        }
        let give_up = Delete::builder()
            .table_name(&self.table)
            .set_key(Some(Key::username(&user.tenant, &user.username).attributes()))
            .condition_expression("user_id = :user")
            .expression_attribute_values(":user", string(user.id.as_str()))
            .build();
        Ok(vec![
            (Guard::Target, TransactWriteItem::builder().delete(built(give_up)?).build()),
            (Guard::Username, self.take_username(user, new)?),
        ])
    }

    pub(super) fn take_username(&self, user: &User, name: &Username) -> Result<TransactWriteItem, Failure> {
        self.put_new(&Key::username(&user.tenant, name), &UsernameItem { user_id: user.id.clone() })
    }

    pub(super) fn put_new(&self, key: &Key, item: &impl Serialize) -> Result<TransactWriteItem, Failure> {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(encode(key, item)?))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::None)
            .build();
        Ok(TransactWriteItem::builder().put(built(put)?).build())
    }
}

/// How often a user may change while a change is made of it.
const CHANGE_TRIES: usize = 5;

/// Attributes of a user's item that it may do without.
const OPTIONAL: [&str; 6] = ["customer_id", "customer_type", "password_history", "email", "phone", "locale"];

/// Whether sessions of `old` must not go on as sessions of `new` (docs/design/security.md#rule-15).
fn ends_sessions(old: &User, new: &User) -> bool {
    let roles = |user: &User| user.roles.iter().copied().collect::<HashSet<_>>();
    roles(old) != roles(new)
        || old.organization != new.organization
        || (&old.customer, old.customer_kind) != (&new.customer, new.customer_kind)
        || old.password.as_phc() != new.password.as_phc()
        || new.status == UserStatus::Disabled && old.status == UserStatus::Active
        || new.reset_required && !old.reset_required
        || new.session_epoch > old.session_epoch
}

/// Why a batch was not read.
enum BatchFault {
    Incomplete,
    Failed(Failure),
}

const READ_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// A request the SDK's builder accepted.
pub(super) fn built<T>(result: Result<T, aws_sdk_dynamodb::error::BuildError>) -> Result<T, Failure> {
    result.map_err(|error| Failure::Internal(Box::new(error)))
}
