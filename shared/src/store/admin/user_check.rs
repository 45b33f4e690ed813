//! The check of all users for `doorwardctl doctor`: their IDs, their keys in the index, and the items that find them.
//!
//! Requests write a user and the items that find it in one transaction. A table of an earlier version has neither keys in
//! the index nor mail items, and a change by hand or a restored item can leave the items inconsistent.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::AttributeValue;

use super::tenant::TenantSummary;
use crate::{
    domain::{Failure, OrganizationId, TenantId, User, UserId, Username},
    store::{
        DynamoStore,
        item::{Attributes, number, string, text, to_number},
        keys::{
            IndexKey, Key, MAIL_PREFIX, TENANT_SORT_KEY, USER_SORT_KEY, USERNAME_SORT_KEY, USERS_OF,
            USERS_POSITION,
        },
        table::{Expressions, unavailable},
        tenant::USERS_INDEXED,
        transaction::{Committed, Guard, Guarded},
        user::to_user,
    },
};

/// Maximum number of keys of a batch read.
const BATCH: usize = 100;
/// Reads of a user that changes while its items are read.
const TRIES: usize = 5;

/// Result of the check of the table.
#[derive(Debug, Default)]
pub struct TableCheck {
    /// All tenants, sorted by ID.
    pub tenants: Vec<TenantSummary>,
    /// IDs that a new user must not have (docs/design/contract.md#ids), sorted.
    pub unaddressable: Vec<UnaddressableId>,
    /// Faults that remain, sorted.
    pub faults: Vec<UserFault>,
    /// Number of faults that were repaired.
    pub repaired: usize,
}

/// An ID that a new user must not have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnaddressableId {
    /// Tenant of the user.
    pub tenant: String,
    /// User that has the ID.
    pub user: String,
    /// Member of a user line that contains the ID: `id`, `organization` or `customer`.
    pub member: &'static str,
    /// The ID.
    pub id: String,
}

/// A fault of a user's items.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserFault {
    /// Tenant of the user.
    pub tenant: String,
    /// Kind of the fault.
    pub kind: UserFaultKind,
    /// User.
    pub user: String,
}

/// Kind of a fault of a user's items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UserFaultKind {
    /// This version cannot decode the user item.
    Unreadable,
    /// The index does not list the user, or lists it at another position.
    NotIndexed,
    /// No username item finds the user.
    NoUsername,
    /// The username item of the user finds another user.
    OthersUsername,
    /// No mail item finds the user.
    NoMail,
    /// A username or mail item finds a user that does not exist or has another name or address.
    Stray,
}

/// Faults of one user, with the writes that repair them.
#[derive(Default)]
struct Examined {
    faults: Vec<UserFaultKind>,
    repair: Vec<Guarded>,
}

impl DynamoStore {
    /// Checks all tenants and users. Reads the whole table once, and for each user the items that find it. With `repair`,
    /// repairs the faults that can be repaired, and records for each tenant without faults that the index lists its users.
    ///
    /// # Errors
    /// `Unavailable` when a request fails. Repeat the call to continue the repair.
    pub async fn check_table(&self, repair: bool) -> Result<TableCheck, Failure> {
        let mut check = TableCheck::default();
        let mut pages = self
            .client
            .scan()
            .table_name(&self.table)
            .filter_expression("sk IN (:tenant, :user, :username) OR begins_with(sk, :mail)")
            .projection_expression(format!(
                "pk, sk, tenant_id, tenant_name, tenant_status, version, {USERS_INDEXED}, user_id, organization_id, \
                 customer_id, username, email, unverified_email, {USERS_OF}, {USERS_POSITION}"
            ))
            .expression_attribute_values(":tenant", string(TENANT_SORT_KEY))
            .expression_attribute_values(":user", string(USER_SORT_KEY))
            .expression_attribute_values(":username", string(USERNAME_SORT_KEY))
            .expression_attribute_values(":mail", string(MAIL_PREFIX))
            .consistent_read(true)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let items = page.map_err(|error| unavailable(&error))?.items.unwrap_or_default();
            let (users, others): (Vec<_>, Vec<_>) =
                items.into_iter().partition(|item| text(item, "sk") == Some(USER_SORT_KEY));
            let (tenants, finders): (Vec<_>, Vec<_>) =
                others.into_iter().partition(|item| text(item, "sk") == Some(TENANT_SORT_KEY));
            check.tenants.extend(tenants.iter().map(TenantSummary::of));
            check.unaddressable.extend(users.iter().flat_map(unaddressable));
            let mut suspects = self.suspects_among(&users).await?;
            suspects.extend(self.suspects_of(&finders).await?);
            for suspect in suspects {
                self.examine_suspect(&suspect, repair, &mut check).await?;
            }
        }
        check.tenants.sort_by(|one, other| one.id.cmp(&other.id));
        check.unaddressable.sort();
        check.faults.sort();
        if repair {
            for tenant in &mut check.tenants {
                let has_fault = check.faults.iter().any(|fault| {
                    fault.tenant == tenant.id
                        && matches!(fault.kind, UserFaultKind::NotIndexed | UserFaultKind::Unreadable)
                });
                if let (false, false, Ok(id)) = (tenant.lists_users, has_fault, TenantId::parse(&tenant.id)) {
                    let update = Expressions::update(format!("SET {USERS_INDEXED} = :yes ADD version :one"))
                        .when("attribute_exists(pk)")
                        .value(":yes", AttributeValue::Bool(true))
                        .value(":one", number(1));
                    self.update(&Key::tenant(&id), update).await?;
                    tenant.lists_users = true;
                    check.repaired += 1;
                }
            }
        }
        Ok(check)
    }

    /// Returns the users that may have a fault.
    async fn suspects_among(&self, users: &[Attributes]) -> Result<Vec<Suspect>, Failure> {
        let mut suspects = Vec::new();
        for chunk in users.chunks(BATCH / 2) {
            let known: Vec<_> = chunk.iter().map(|item| (Suspect::user(item), Partial::read(item))).collect();
            let mut keys: Vec<Key> = Vec::new();
            for partial in known.iter().filter_map(|(_, partial)| partial.as_ref()) {
                keys.push(Key::username(&partial.tenant, &partial.username));
                keys.extend(partial.mail_key());
            }
            let found: BTreeSet<_> = self
                .existing(&keys)
                .await?
                .into_iter()
                .filter_map(|item| Some((text(&item, "pk")?.to_owned(), text(&item, "user_id")?.to_owned())))
                .collect();
            for (suspect, partial) in known {
                let is_right = partial.is_some_and(|partial| {
                    let id = partial.id.as_str().to_owned();
                    let name = Key::username(&partial.tenant, &partial.username);
                    let is_found = |key: Key| found.contains(&(key.pk, id.clone()));
                    partial.is_indexed && is_found(name) && partial.mail_key().is_none_or(is_found)
                });
                if !is_right {
                    suspects.push(suspect);
                }
            }
        }
        Ok(suspects)
    }

    /// Returns the username and mail items that may find no user.
    async fn suspects_of(&self, finders: &[Attributes]) -> Result<Vec<Suspect>, Failure> {
        let mut suspects = Vec::new();
        for chunk in finders.chunks(BATCH) {
            let known: Vec<_> = chunk.iter().filter_map(Suspect::finder).collect();
            let mut keys: Vec<Key> = Vec::new();
            for key in known.iter().map(Suspect::user_key) {
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
            let users: Vec<_> =
                self.existing(&keys).await?.into_iter().filter_map(|item| to_user(item).ok()).collect();
            suspects
                .extend(known.into_iter().filter(|suspect| !users.iter().any(|user| suspect.is_of(user))));
        }
        Ok(suspects)
    }

    async fn existing(&self, keys: &[Key]) -> Result<Vec<Attributes>, Failure> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.read_all(keys).await?.into_iter().flatten().collect())
    }

    /// Reads a suspect until two reads of the user are equal, and repairs it.
    async fn examine_suspect(
        &self,
        suspect: &Suspect,
        repair: bool,
        check: &mut TableCheck,
    ) -> Result<(), Failure> {
        for _ in 0..TRIES {
            let Some(Examined { faults, repair: writes }) = self.examined(suspect).await? else {
                continue;
            };
            let is_repaired = repair && !writes.is_empty();
            if is_repaired && !matches!(self.commit(writes).await?, Committed::Done) {
                continue;
            }
            let (repaired, left): (Vec<_>, Vec<_>) =
                faults.into_iter().partition(|kind| is_repaired && kind.is_repairable());
            check.repaired += repaired.len();
            check.faults.extend(left.into_iter().map(|kind| suspect.fault(kind)));
            return Ok(());
        }
        Err(super::changed_meanwhile(format_args!("user {}", suspect.user)))
    }

    /// Returns the faults of a suspect, or `None` if the user changed while its items were read.
    async fn examined(&self, suspect: &Suspect) -> Result<Option<Examined>, Failure> {
        let key = suspect.user_key();
        let [before] = self.read_each([Some(key.clone())]).await?;
        let user = match before.clone().map(to_user) {
            Some(Ok(user)) => Some(user),
            Some(Err(_)) if suspect.finder.is_none() => {
                let faults = vec![UserFaultKind::Unreadable];
                return Ok(Some(Examined { faults, repair: Vec::new() }));
            }
            // An item that finds an unreadable user stays.
            Some(Err(_)) => return Ok(Some(Examined::default())),
            None => None,
        };
        let examined = match (&suspect.finder, user) {
            (None, None) => Examined::default(),
            (None, Some(user)) => {
                let name = Key::username(&user.tenant, &user.username);
                let mail = user.any_email().map(|address| Key::mail(&user.tenant, address, &user.id));
                let [name, mail] = self.read_each([Some(name), mail]).await?;
                let stored = before.as_ref();
                self.compared(&user, stored, name.as_ref(), mail.as_ref())?
            }
            (Some(finder), user) => {
                let [item] = self.read_each([Some(finder.clone())]).await?;
                let is_stray = item.is_some() && !user.as_ref().is_some_and(|user| suspect.is_of(user));
                if is_stray { self.stray(suspect, finder, user.as_ref())? } else { Examined::default() }
            }
        };
        let [after] = self.read_each([Some(key)]).await?;
        let sequence = |item: &Option<Attributes>| -> Result<Option<u64>, Failure> {
            item.as_ref().map_or(Ok(None), |item| to_number(item, "change_sequence"))
        };
        let is_unchanged = before.is_some() == after.is_some() && sequence(&before)? == sequence(&after)?;
        Ok(is_unchanged.then_some(examined))
    }

    /// Compares a user with the items that find it.
    fn compared(
        &self,
        user: &User,
        stored: Option<&Attributes>,
        name: Option<&Attributes>,
        mail: Option<&Attributes>,
    ) -> Result<Examined, Failure> {
        let mut examined = Examined::default();
        let index = IndexKey::of(user).attributes();
        let has =
            |name: &String, value: &AttributeValue| stored.and_then(|item| item.get(name)) == Some(value);
        let mut update =
            Expressions::condition("change_sequence = :sequence").value(":sequence", number(user.sequence));
        if index.iter().all(|(name, value)| has(name, value)) {
            examined
                .repair
                .push((Guard::Target, self.check_write(&Key::user(&user.tenant, &user.id), update)?));
        } else {
            examined.faults.push(UserFaultKind::NotIndexed);
            update.update = Some(format!("SET {USERS_OF} = :of, {USERS_POSITION} = :position"));
            let IndexKey { of, position } = IndexKey::of(user);
            let update = update.value(":of", string(of)).value(":position", string(position));
            examined
                .repair
                .push((Guard::Target, self.update_write(&Key::user(&user.tenant, &user.id), update)?));
        }
        match name.map(|item| text(item, "user_id")) {
            Some(owner) if owner == Some(user.id.as_str()) => {}
            Some(_) => examined.faults.push(UserFaultKind::OthersUsername),
            None => {
                examined.faults.push(UserFaultKind::NoUsername);
                examined.repair.push((Guard::Username, self.reserve_username(user, &user.username)?));
            }
        }
        if mail.is_none()
            && let Some(write) = self.put_mail(user)?
        {
            examined.faults.push(UserFaultKind::NoMail);
            examined.repair.push((Guard::None, write));
        }
        if !examined.faults.iter().any(|kind| kind.is_repairable()) {
            examined.repair.clear();
        }
        Ok(examined)
    }

    /// Returns the deletion of an item that finds no user.
    fn stray(&self, suspect: &Suspect, finder: &Key, user: Option<&User>) -> Result<Examined, Failure> {
        let unchanged = match user {
            None => Expressions::absent(),
            Some(user) => Expressions::condition("change_sequence = :sequence")
                .value(":sequence", number(user.sequence)),
        };
        let own = Expressions::condition("user_id = :user").value(":user", string(suspect.user.as_str()));
        Ok(Examined {
            faults: vec![UserFaultKind::Stray],
            repair: vec![
                (Guard::Target, self.check_write(&suspect.user_key(), unchanged)?),
                (Guard::Target, self.delete_write(finder, own)?),
            ],
        })
    }
}

impl UserFaultKind {
    /// Returns whether `doctor --repair` repairs the fault.
    pub fn is_repairable(self) -> bool {
        !matches!(self, Self::Unreadable | Self::OthersUsername)
    }
}

/// A user item, or an item that finds a user, that may have a fault.
struct Suspect {
    /// Partition key of the user.
    pk: String,
    tenant: String,
    user: String,
    /// The item that finds the user. `None` if the user itself is suspect.
    finder: Option<Key>,
}

impl Suspect {
    fn user(item: &Attributes) -> Self {
        let text = |name: &str| text(item, name).unwrap_or_default().to_owned();
        Self { pk: text("pk"), tenant: text("tenant_id"), user: text("user_id"), finder: None }
    }

    /// Returns the suspect for a username or mail item, or `None` for another item.
    fn finder(item: &Attributes) -> Option<Self> {
        let (pk, sk, user) = (text(item, "pk")?, text(item, "sk")?, text(item, "user_id")?);
        let (tenant, _) = pk.split_once("#N#").or_else(|| pk.split_once("#M#"))?;
        let id = UserId::parse(user).ok()?;
        let tenant = TenantId::parse(tenant.strip_prefix("T#")?).ok()?;
        Some(Self {
            pk: Key::user(&tenant, &id).pk,
            tenant: tenant.to_string(),
            user: user.to_owned(),
            finder: Some(Key { pk: pk.to_owned(), sk: sk.to_owned() }),
        })
    }

    fn user_key(&self) -> Key {
        Key { pk: self.pk.clone(), sk: USER_SORT_KEY.to_owned() }
    }

    /// Returns whether the item finds `user` by its name or address.
    fn is_of(&self, user: &User) -> bool {
        let name = Key::username(&user.tenant, &user.username);
        let mail = user.any_email().map(|address| Key::mail(&user.tenant, address, &user.id));
        self.pk == Key::user(&user.tenant, &user.id).pk
            && self.finder.as_ref().is_some_and(|finder| *finder == name || Some(finder) == mail.as_ref())
    }

    fn fault(&self, kind: UserFaultKind) -> UserFault {
        UserFault { tenant: self.tenant.clone(), kind, user: self.user.clone() }
    }
}

/// The attributes of a user item that the check needs.
struct Partial {
    tenant: TenantId,
    id: UserId,
    username: Username,
    email: Option<String>,
    is_indexed: bool,
}

impl Partial {
    /// Decodes the attributes. Returns `None` if one is invalid.
    fn read(item: &Attributes) -> Option<Self> {
        let tenant = TenantId::parse(text(item, "tenant_id")?).ok()?;
        let id = UserId::parse(text(item, "user_id")?).ok()?;
        let organization = OrganizationId::parse(text(item, "organization_id")?).ok()?;
        let position = IndexKey::position(&organization, &id);
        Some(Self {
            username: Username::parse(text(item, "username")?).ok()?,
            email: text(item, "email").or(text(item, "unverified_email")).map(str::to_owned),
            is_indexed: text(item, USERS_OF) == Some(&IndexKey::partition(&tenant))
                && text(item, USERS_POSITION) == Some(&position),
            tenant,
            id,
        })
    }

    fn mail_key(&self) -> Option<Key> {
        self.email.as_ref().map(|address| Key::mail(&self.tenant, address, &self.id))
    }
}

/// Returns the IDs of a user item that a new user must not have.
fn unaddressable(item: &Attributes) -> Vec<UnaddressableId> {
    let text = |name: &str| text(item, name).unwrap_or_default().to_owned();
    let ids = [
        ("id", text("user_id")),
        ("organization", text("organization_id")),
        ("customer", text("customer_id")),
    ];
    let broken = ids.into_iter().filter(|(_, id)| !id.is_empty() && UserId::parse_new(id).is_err());
    broken
        .map(|(member, id)| UnaddressableId { tenant: text("tenant_id"), user: text("user_id"), member, id })
        .collect()
}
