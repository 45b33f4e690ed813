//! A user: whoever logs in, administrators and customers alike.

use jiff::Timestamp;

use super::{Collection, CustomerId, OrganizationId, PasswordHash, TenantId, UserId, Username};

/// A user as stored.
#[derive(Debug, Clone)]
pub struct User {
    /// Tenant it belongs to.
    pub tenant: TenantId,
    /// Its id, unique within the tenant.
    pub id: UserId,
    /// Its login name, unique within the tenant.
    pub username: Username,
    /// Its password's hash.
    pub password: PasswordHash,
    /// The organization that owns it.
    pub organization: OrganizationId,
    /// The customer it belongs to, where it is one's user.
    pub customer: Option<CustomerId>,
    /// Which customer collection it logs in through; unset: either one.
    pub customer_kind: Option<Collection>,
    /// What it may do.
    pub roles: Vec<Role>,
    /// Its password's predecessors, newest first, as many as the tenant's policy looks back.
    pub password_history: Vec<PasswordHash>,
    /// Verified mail address: the only place mail about it goes to.
    pub email: Option<String>,
    /// Verified telephone number (E.164): the only place text messages about it go to.
    pub phone: Option<String>,
    /// The language it reads (BCP 47); unset: its tenant's.
    pub locale: Option<String>,
    /// Whether it may log in.
    pub status: UserStatus,
    /// Counts the times that all its sessions were ended at once (docs/design/storage.md#epochs).
    pub session_epoch: u64,
    /// Counts the sessions that it was given within a limit: who reads them notices another's.
    pub sessions_revision: u64,
    /// Its login was reset and not completed: the password no longer opens a session.
    pub reset_required: bool,
    /// Its next sessions may only change its own password (docs/design/contract.md#ocariot-v1).
    pub change_required: bool,
    /// Counts the changes to this record.
    pub sequence: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub changed_at: Timestamp,
}

impl User {
    /// Whether it logs in through `collection` with `owner` in the path (docs/design/contract.md#create-session:
    /// the path must fit the user).
    pub fn fits(&self, collection: Collection, owner: &str) -> bool {
        self.is_under(collection, owner) && (collection != Collection::Admin || self.is_administrator())
    }

    /// Whether it is a user of that organization or customer: the admin collection has all of an
    /// organization's users, administrators or not.
    pub fn is_under(&self, collection: Collection, owner: &str) -> bool {
        match collection {
            Collection::Admin => self.organization.as_str() == owner,
            Collection::Individual | Collection::Organization => {
                self.customer.as_ref().is_some_and(|customer| customer.as_str() == owner)
                    && self.customer_kind.is_none_or(|kind| kind == collection)
            }
        }
    }

    /// Whether `other` is the same user with the same content, whatever this table counts of either: its
    /// epoch, its changes and its sessions.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let Self {
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
            session_epoch: _,
            sessions_revision: _,
            reset_required,
            change_required,
            sequence: _,
            created_at,
            changed_at,
        } = self;
        let hashes =
            |hashes: &[PasswordHash]| hashes.iter().map(|hash| hash.as_phc().to_owned()).collect::<Vec<_>>();
        (tenant, id, username, organization)
            == (&other.tenant, &other.id, &other.username, &other.organization)
            && (customer, customer_kind, status) == (&other.customer, &other.customer_kind, &other.status)
            && Role::ordered(roles) == Role::ordered(&other.roles)
            && (email, phone, locale) == (&other.email, &other.phone, &other.locale)
            && (reset_required, change_required) == (&other.reset_required, &other.change_required)
            && created_at.as_millisecond() == other.created_at.as_millisecond()
            && changed_at.as_millisecond() == other.changed_at.as_millisecond()
            && password.as_phc() == other.password.as_phc()
            && hashes(password_history) == hashes(&other.password_history)
    }

    /// Its last `count` passwords' hashes, the present one first.
    pub fn last_passwords(&self, count: usize) -> impl Iterator<Item = &PasswordHash> {
        std::iter::once(&self.password).chain(&self.password_history).take(count)
    }

    /// [`Self::password_history`] once the present password is replaced, where the tenant looks back
    /// at `count` passwords, the new one among them (docs/design/security.md#rule-6).
    pub fn history_after_change(&self, count: usize) -> Vec<PasswordHash> {
        self.last_passwords(count.saturating_sub(1)).cloned().collect()
    }

    /// Whether it has any administrator's role.
    pub fn is_administrator(&self) -> bool {
        self.roles.iter().any(|role| matches!(role, Role::Admin | Role::TenantAdmin))
    }

    /// Whether it is an administrator with authority over `other` (docs/design/contract.md#authorization). Nobody but a
    /// `TENANT_ADMIN` has any over another: setting its password would be taking its place.
    pub fn administers(&self, other: &Self) -> bool {
        self.tenant == other.tenant
            && self.roles.iter().any(|role| match role {
                Role::TenantAdmin => true,
                Role::Admin => {
                    self.organization == other.organization && !other.roles.contains(&Role::TenantAdmin)
                }
                Role::User => false,
            })
    }
}

/// What an answer says of a user's record (docs/design/contract.md#zitadel-v2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserDetails {
    /// Counts its changes.
    pub sequence: u64,
    /// The last of them.
    pub changed_at: Timestamp,
    /// When it was created.
    pub created_at: Timestamp,
    /// Its owning organization.
    pub organization: OrganizationId,
}

impl UserDetails {
    pub(crate) fn of(user: &User) -> Self {
        Self {
            sequence: user.sequence,
            changed_at: user.changed_at,
            created_at: user.created_at,
            organization: user.organization.clone(),
        }
    }

    /// The details of `user` once the change that was decided on it as read is done.
    pub(crate) fn after_change(user: &User, now: Timestamp) -> Self {
        Self { sequence: user.sequence + 1, changed_at: now, ..Self::of(user) }
    }
}

/// What a user may do (docs/design/contract.md#authorization).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Itself.
    User,
    /// The users of its own organization.
    Admin,
    /// The whole tenant.
    TenantAdmin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::User, Self::Admin, Self::TenantAdmin];

    /// Each of `roles` once, in the order of [`Self::ALL`].
    pub fn ordered(roles: &[Self]) -> Vec<Self> {
        Self::ALL.into_iter().filter(|role| roles.contains(role)).collect()
    }

    /// Its name in claims and storage.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "USER",
            Self::Admin => "ADMIN",
            Self::TenantAdmin => "TENANT_ADMIN",
        }
    }

    /// The role of that exact name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Whether a user may log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserStatus {
    /// It may.
    Active,
    /// It may not; told apart from a wrong password by nobody outside (docs/design/security.md#rule-9).
    Disabled,
}

impl UserStatus {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Active, Self::Disabled];

    /// Its name in what operators read and write.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Disabled => "DISABLED",
        }
    }

    /// The one of that exact name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::tests::user;

    fn with(role: Role, organization: &str) -> User {
        User { roles: vec![role], organization: OrganizationId::parse(organization).unwrap(), ..user() }
    }

    #[test]
    fn authority_ends_at_the_organization_and_never_reaches_up() {
        let (user, admin, tenant_admin) =
            (with(Role::User, "o"), with(Role::Admin, "o"), with(Role::TenantAdmin, "o"));
        assert!(admin.administers(&user) && admin.administers(&with(Role::Admin, "o")));
        assert!(!admin.administers(&with(Role::User, "p")) && !admin.administers(&tenant_admin));
        assert!(tenant_admin.administers(&with(Role::Admin, "p")) && tenant_admin.administers(&tenant_admin));
        assert!(!user.administers(&user));
        let elsewhere = User { tenant: TenantId::parse("other").unwrap(), ..with(Role::User, "o") };
        assert!(!admin.administers(&elsewhere) && !tenant_admin.administers(&elsewhere));
    }
}
