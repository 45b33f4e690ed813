//! The user item and the username item, which makes usernames unique within a tenant.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::{
    primitives::Blob,
    types::{AttributeValue, TransactWriteItem},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    DynamoStore,
    item::{Attributes, corrupt, decode, encode, instant, number, size, string, to_instant},
    keys::{IndexKey, Key},
    table::Expressions,
    transaction::{Guard, Guarded},
};
use crate::domain::{
    Collection, CustomerId, Failure, Gender, Metadata, OrganizationId, PasswordHash, Profile, Role, TenantId,
    User, UserId, UserStatus, Username,
};

/// Maximum size of a user item in bytes. DynamoDB accepts 400 KB, but each login and each refresh reads the item.
const MAX_USER_BYTES: usize = 64 * 1024;

/// Attribute with the metadata of a user: a map of binary values.
pub(super) const METADATA: &str = "metadata";

#[derive(Serialize, Deserialize)]
struct UserItem {
    tenant_id: TenantId,
    user_id: UserId,
    username: String,
    password: String,
    organization_id: OrganizationId,
    customer_id: Option<CustomerId>,
    customer_type: Option<String>,
    user_roles: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    password_history: Vec<String>,
    email: Option<String>,
    phone: Option<String>,
    unverified_email: Option<String>,
    unverified_phone: Option<String>,
    given_name: Option<String>,
    family_name: Option<String>,
    nick_name: Option<String>,
    display_name: Option<String>,
    gender: Option<String>,
    locale: Option<String>,
    /// `true` for disabled and for locked users, so that earlier versions refuse both.
    disabled: bool,
    /// `true` for locked users, otherwise absent.
    locked: Option<bool>,
    session_epoch: u64,
    #[serde(default)]
    proofs_epoch: u64,
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
        Self {
            tenant_id: user.tenant.clone(),
            user_id: user.id.clone(),
            username: user.username.as_written().to_owned(),
            password: user.password.as_phc().to_owned(),
            organization_id: user.organization.clone(),
            customer_id: user.customer.clone(),
            customer_type: user.customer_kind.map(|kind| kind.user_type().to_owned()),
            user_roles: user.roles.iter().map(|role| role.name().to_owned()).collect(),
            password_history: user.password_history.iter().map(|hash| hash.as_phc().to_owned()).collect(),
            email: user.email.clone(),
            phone: user.phone.clone(),
            unverified_email: user.unverified_email.clone(),
            unverified_phone: user.unverified_phone.clone(),
            given_name: user.profile.given_name.clone(),
            family_name: user.profile.family_name.clone(),
            nick_name: user.profile.nick_name.clone(),
            display_name: user.profile.display_name.clone(),
            gender: user.profile.gender.map(|gender| gender.name().to_owned()),
            locale: user.locale.clone(),
            disabled: !user.is_active(),
            locked: (user.status == UserStatus::Locked).then_some(true),
            session_epoch: user.session_epoch,
            proofs_epoch: user.proofs_epoch,
            sessions_revision: user.sessions_revision,
            reset_required: user.reset_required,
            change_required: user.change_required,
            change_sequence: user.sequence,
            created_at: user.created_at.as_millisecond(),
            changed_at: user.changed_at.as_millisecond(),
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
        let gender = item.gender.map(|name| Gender::from_name(&name).ok_or_else(|| corrupt("gender")));
        Ok(Self {
            username: Username::parse(&item.username).map_err(|_| corrupt("username"))?,
            roles: roles.collect::<Result<_, _>>()?,
            status: match (item.disabled, item.locked) {
                (false, _) => UserStatus::Active,
                (true, Some(true)) => UserStatus::Locked,
                (true, _) => UserStatus::Disabled,
            },
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
            unverified_email: item.unverified_email,
            unverified_phone: item.unverified_phone,
            profile: Profile {
                given_name: item.given_name,
                family_name: item.family_name,
                nick_name: item.nick_name,
                display_name: item.display_name,
                gender: gender.transpose()?,
            },
            metadata: Metadata::default(),
            locale: item.locale,
            session_epoch: item.session_epoch,
            proofs_epoch: item.proofs_epoch,
            sessions_revision: item.sessions_revision,
            reset_required: item.reset_required,
            change_required: item.change_required,
            sequence: item.change_sequence,
        })
    }
}

/// Decodes a user item.
pub(super) fn to_user(mut attributes: Attributes) -> Result<User, Failure> {
    let metadata = attributes.remove(METADATA).map(to_metadata).transpose()?.unwrap_or_default();
    let user = User::try_from(decode::<UserItem>(attributes)?)?;
    Ok(User { metadata, ..user })
}

/// Encodes a user item with its key and its key in the index of users.
///
/// # Errors
/// `Validation` if the item has more than 64 KiB.
pub(super) fn user_item(user: &User) -> Result<Attributes, Failure> {
    let mut item = encode(&Key::user(&user.tenant, &user.id), &UserItem::from(user))?;
    item.extend(IndexKey::of(user).attributes());
    let entries = user.metadata.entries();
    if !entries.is_empty() {
        let encoded =
            |(key, value): (&String, &Vec<u8>)| (key.clone(), AttributeValue::B(Blob::new(value.clone())));
        item.insert(METADATA.to_owned(), AttributeValue::M(entries.iter().map(encoded).collect()));
    }
    if size(&item) > MAX_USER_BYTES {
        let message = "must have at most 64 KiB in all fields; shorten the metadata or the password history";
        return Err(Failure::field("user", message));
    }
    Ok(item)
}

fn to_metadata(stored: AttributeValue) -> Result<Metadata, Failure> {
    let AttributeValue::M(stored) = stored else { return Err(corrupt(METADATA)) };
    let decoded = |(key, value)| match value {
        AttributeValue::B(value) => Ok((key, value.into_inner())),
        _ => Err(corrupt(METADATA)),
    };
    Ok(Metadata::stored(stored.into_iter().map(decoded).collect::<Result<BTreeMap<_, _>, _>>()?))
}

/// Item that reserves a username for a user.
#[derive(Serialize, Deserialize)]
struct UsernameItem {
    user_id: UserId,
}

/// Update of a user item under construction.
#[derive(Default)]
pub(super) struct UserDraft {
    sets: Vec<&'static str>,
    expressions: Expressions,
}

impl UserDraft {
    fn set(&mut self, expression: &'static str, placeholder: &'static str, value: AttributeValue) {
        self.sets.push(expression);
        self.expressions.values.get_or_insert_default().insert(placeholder.to_owned(), value);
    }

    /// Sets the username.
    pub(super) fn set_username(&mut self, username: &Username) {
        self.set("username = :username", ":username", string(username.as_written()));
    }

    /// Sets whether the password must be changed at the next login.
    pub(super) fn set_change_required(&mut self, required: bool) {
        self.set("change_required = :required", ":required", AttributeValue::Bool(required));
    }

    /// Sets a new password. Ends the user's sessions, invalidates the device proofs and completes a login reset.
    pub(super) fn set_password(&mut self, password: &PasswordHash, history: &[PasswordHash]) {
        let history = history.iter().map(|hash| string(hash.as_phc())).collect();
        self.set("password = :password", ":password", string(password.as_phc()));
        self.set("password_history = :history", ":history", AttributeValue::L(history));
        self.set("reset_required = :reset", ":reset", AttributeValue::Bool(false));
        self.void_proofs();
    }

    /// Blocks the password until it is reset, ends the user's sessions, and invalidates the device proofs.
    pub(super) fn require_reset(&mut self) {
        self.set("reset_required = :reset", ":reset", AttributeValue::Bool(true));
        self.void_proofs();
    }

    /// Ends the user's sessions and invalidates the device proofs of earlier epochs.
    fn void_proofs(&mut self) {
        self.set("proofs_epoch = session_epoch + :step", ":step", number(1));
        self.end_sessions();
    }

    /// Ends the user's sessions.
    pub(super) fn end_sessions(&mut self) {
        self.set("session_epoch = session_epoch + :step", ":step", number(1));
    }

    /// Requires that no session of the user ended since the user was read. A login under the limit `single` ends
    /// sessions without changing `change_sequence`.
    pub(super) fn require_epoch(&mut self, user: &User) {
        let expressions = std::mem::take(&mut self.expressions);
        self.expressions =
            expressions.when("session_epoch = :epoch").value(":epoch", number(user.session_epoch));
    }
}

impl DynamoStore {
    /// Returns whether the tenant has a user with this username.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn username_taken(&self, tenant: &TenantId, username: &Username) -> Result<bool, Failure> {
        let [taken] = self.read_each([Some(Key::username(tenant, username))]).await?;
        Ok(taken.is_some())
    }

    /// Reads which user has a username. Ignores invisible characters and outer white space in the name, unless a user
    /// of an earlier version has exactly this name. The user may have been renamed or deleted since.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn owner_of(&self, tenant: &TenantId, username: &Username) -> Result<Option<UserId>, Failure> {
        let visible = username.visible();
        let other = (!visible.is_same(username)).then(|| Key::username(tenant, &visible));
        let [exact, other] = self.read_each([Some(Key::username(tenant, username)), other]).await?;
        let owner = exact.or(other).map(decode::<UsernameItem>).transpose()?;
        Ok(owner.map(|item| item.user_id))
    }

    /// Reads a user consistently.
    ///
    /// # Errors
    /// `Unavailable` when the read fails.
    pub async fn user(&self, tenant: &TenantId, user: &UserId) -> Result<Option<User>, Failure> {
        let [user] = self.read_each([Some(Key::user(tenant, user))]).await?;
        user.map(to_user).transpose()
    }

    /// Replaces the hash of an unchanged password, unless the password was changed since `user` was read. Keeps
    /// all sessions.
    ///
    /// # Errors
    /// `Unavailable` when the write fails.
    pub async fn rehash(&self, user: &User, hash: &PasswordHash) -> Result<(), Failure> {
        let update = Expressions::update("SET password = :new")
            .when("password = :old")
            .value(":new", string(hash.as_phc()))
            .value(":old", string(user.password.as_phc()));
        self.update(&Key::user(&user.tenant, &user.id), update).await.map(|_| ())
    }

    /// Returns the update of a user that must not have changed since it was read.
    pub(super) fn user_update(
        &self,
        target: &User,
        mut draft: UserDraft,
        now: Timestamp,
    ) -> Result<TransactWriteItem, Failure> {
        draft.set("change_sequence = change_sequence + :one", ":one", number(1));
        draft.set("changed_at = :now", ":now", instant(now));
        let UserDraft { sets, mut expressions } = draft;
        expressions.update = Some(format!("SET {}", sets.join(", ")));
        let expressions = expressions
            .when("organization_id = :organization AND change_sequence = :sequence")
            .value(":organization", string(target.organization.as_str()))
            .value(":sequence", number(target.sequence));
        self.update_write(&Key::user(&target.tenant, &target.id), expressions)
    }

    /// Returns writes that release a user's old username and reserve the new one. Returns none if both are equal
    /// apart from case.
    pub(super) fn move_username(&self, user: &User, new: &Username) -> Result<Vec<Guarded>, Failure> {
        if user.username.is_same(new) {
            return Ok(Vec::new());
        }
        Ok(vec![
            (Guard::Target, self.release_username(user)?),
            (Guard::Username, self.reserve_username(user, new)?),
        ])
    }

    /// Returns a write that deletes the item of the user's username.
    pub(super) fn release_username(&self, user: &User) -> Result<TransactWriteItem, Failure> {
        let own = Expressions::condition("user_id = :user").value(":user", string(user.id.as_str()));
        self.delete_write(&Key::username(&user.tenant, &user.username), own)
    }

    /// Returns a write that reserves a username for a user.
    pub(super) fn reserve_username(
        &self,
        user: &User,
        name: &Username,
    ) -> Result<TransactWriteItem, Failure> {
        let item = encode(&Key::username(&user.tenant, name), &UsernameItem { user_id: user.id.clone() })?;
        self.put_write(item, Expressions::absent())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::tests::user;

    fn full() -> User {
        let text = |text: &str| Some(text.to_owned());
        User {
            unverified_email: text("ada@example.com"),
            unverified_phone: text("+4512345678"),
            profile: Profile {
                given_name: text("Ada"),
                family_name: text("King"),
                nick_name: text("Countess"),
                display_name: text("Ada Lovelace"),
                gender: Some(Gender::Diverse),
            },
            metadata: Metadata::stored(
                [("plan".to_owned(), b"gold".to_vec()), ("raw".to_owned(), vec![0, 255])].into(),
            ),
            ..user()
        }
    }

    #[test]
    fn profile_metadata_and_status_survive_storage() {
        for status in [UserStatus::Active, UserStatus::Disabled, UserStatus::Locked] {
            let user = User { status, ..full() };
            let item = user_item(&user).unwrap();
            assert_eq!(item["disabled"], AttributeValue::Bool(!user.is_active()), "{status:?}");
            assert_eq!(to_user(item).unwrap(), user);
        }
        let plain = user_item(&user()).unwrap();
        for absent in [METADATA, "locked", "gender", "unverified_email"] {
            assert!(!plain.contains_key(absent), "{absent}");
        }
    }

    #[test]
    fn user_above_64_kib_is_rejected() {
        let hash = |length| PasswordHash::from_phc("x".repeat(length));
        let most = |length| User { password_history: vec![hash(1); length], ..full() };
        let free = MAX_USER_BYTES - size(&user_item(&most(1)).unwrap());
        assert!(user_item(&most(1 + free)).is_ok());
        assert!(matches!(user_item(&most(2 + free)), Err(Failure::Validation(_))));
    }

    #[test]
    fn invalid_stored_metadata_and_gender_are_errors_without_the_value() {
        for (name, value) in [
            ("gender", string("hunter2")),
            (METADATA, string("hunter2")),
            (METADATA, AttributeValue::M([("k".to_owned(), string("hunter2"))].into())),
        ] {
            let mut item = user_item(&full()).unwrap();
            item.insert(name.to_owned(), value);
            let failure = to_user(item).unwrap_err();
            assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
        }
    }
}
