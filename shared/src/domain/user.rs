//! A user, who is an administrator or a customer.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoEnumIterator, IntoStaticStr};

use super::{
    Collection, CustomerId, Metadata, OrganizationId, PasswordHash, Profile, TenantId, TrustedDevice, UserId,
    Username, id::named,
};

/// A user as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// Tenant of the user.
    pub tenant: TenantId,
    /// User ID, unique within the tenant.
    pub id: UserId,
    /// Username, unique within the tenant.
    pub username: Username,
    /// Password hash.
    pub password: PasswordHash,
    /// Organization that owns the user.
    pub organization: OrganizationId,
    /// Customer that the user belongs to. Administrators may have none.
    pub customer: Option<CustomerId>,
    /// Customer collection that the user logs in through. `None` allows both.
    pub customer_kind: Option<Collection>,
    /// Roles.
    pub roles: Vec<Role>,
    /// Hashes of previous passwords, newest first, as many as the tenant's policy requires.
    pub password_history: Vec<PasswordHash>,
    /// Verified mail address. Mails about the user go only to this address.
    pub email: Option<String>,
    /// Verified phone number (E.164). Text messages about the user go only to this number.
    pub phone: Option<String>,
    /// Mail address that is not verified. A user has either this or [`Self::email`], or none.
    pub unverified_email: Option<String>,
    /// Phone number (E.164) that is not verified. A user has either this or [`Self::phone`], or none.
    pub unverified_phone: Option<String>,
    /// Names and gender.
    pub profile: Profile,
    /// Data of clients.
    pub metadata: Metadata,
    /// Preferred language (BCP 47). `None` means the tenant's language.
    pub locale: Option<String>,
    /// Status.
    pub status: UserStatus,
    /// Number of times that all sessions of the user were ended at once (docs/design/storage.md#epochs).
    pub session_epoch: u64,
    /// Epoch of the user after its last password change or login reset. Device proofs of earlier epochs are invalid
    /// (docs/design/security.md#rule-10).
    pub proofs_epoch: u64,
    /// Number of sessions created under a session limit. A login compares it to detect concurrent logins.
    pub sessions_revision: u64,
    /// The login was reset and the reset is not complete: the password cannot open a session.
    pub reset_required: bool,
    /// The user must change the password: until then, new sessions allow only that (docs/design/contract.md#ocariot-v1).
    pub change_required: bool,
    /// Number of changes to this record.
    pub sequence: u64,
    /// Creation time.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub changed_at: Timestamp,
}

impl User {
    /// Returns whether sessions of this user must end when the user becomes `new`
    /// (docs/design/security.md#rule-15).
    pub fn must_end_sessions(&self, new: &Self) -> bool {
        Role::ordered(&self.roles) != Role::ordered(&new.roles)
            || self.organization != new.organization
            || (&self.customer, self.customer_kind) != (&new.customer, new.customer_kind)
            || self.password != new.password
            || self.is_active() && !new.is_active()
            || new.reset_required && !self.reset_required
            || new.session_epoch > self.session_epoch
    }

    /// Returns whether the user may log in, use its sessions and receive messages. A disabled or locked user may not
    /// (docs/design/security.md#rule-9).
    pub fn is_active(&self) -> bool {
        self.status.is_active()
    }

    /// Returns the mail address, verified or not.
    pub fn any_email(&self) -> Option<&str> {
        self.email.as_deref().or(self.unverified_email.as_deref())
    }

    /// Returns the phone number, verified or not.
    pub fn any_phone(&self) -> Option<&str> {
        self.phone.as_deref().or(self.unverified_phone.as_deref())
    }

    /// Returns whether the proof of a device is not older than the password.
    pub fn trusts(&self, device: TrustedDevice) -> bool {
        device.user_epoch >= self.proofs_epoch
    }

    /// Returns whether the user may log in through `collection` with `owner` in the path
    /// (docs/design/contract.md#create-session).
    pub fn fits(&self, collection: Collection, owner: &str) -> bool {
        self.is_under(collection, owner) && (collection != Collection::Admin || self.is_administrator())
    }

    /// Returns whether the user belongs to the organization or customer `owner`. The admin collection has all
    /// users of an organization, not only administrators.
    pub fn is_under(&self, collection: Collection, owner: &str) -> bool {
        match collection {
            Collection::Admin => self.organization.as_str() == owner,
            Collection::Individual | Collection::Organization => {
                self.customer.as_ref().is_some_and(|customer| customer.as_str() == owner)
                    && self.customer_kind.is_none_or(|kind| kind == collection)
            }
        }
    }

    /// Returns whether both records describe the same user with the same content. The epoch, the counters of
    /// changes and sessions, and the order of roles are ignored. Times are compared in milliseconds, as stored.
    pub fn has_same_content(&self, other: &Self) -> bool {
        let stored = |time: Timestamp| Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time);
        let content = |user: &Self| Self {
            roles: Role::ordered(&user.roles),
            session_epoch: 0,
            proofs_epoch: 0,
            sessions_revision: 0,
            sequence: 0,
            created_at: stored(user.created_at),
            changed_at: stored(user.changed_at),
            ..user.clone()
        };
        content(self) == content(other)
    }

    /// Returns the hashes of the last `count` passwords, starting with the current one.
    pub fn last_passwords(&self, count: usize) -> impl Iterator<Item = &PasswordHash> {
        std::iter::once(&self.password).chain(&self.password_history).take(count)
    }

    /// Returns the [`Self::password_history`] after the current password is replaced. `count` is the number of
    /// passwords that the policy remembers, including the new one (docs/design/security.md#rule-6).
    pub fn history_after_change(&self, count: usize) -> Vec<PasswordHash> {
        self.last_passwords(count.saturating_sub(1)).cloned().collect()
    }

    /// Returns whether the user has an administrator role.
    pub fn is_administrator(&self) -> bool {
        self.roles.iter().any(|role| matches!(role, Role::Admin | Role::TenantAdmin))
    }

    /// Returns whether the user may administer `other` (docs/design/contract.md#authorization). Only a `TENANT_ADMIN`
    /// may administer a `TENANT_ADMIN`, because an administrator who sets the password of another user can log in
    /// as that user.
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

/// The data of a user that a login and a refresh return (docs/design/contract.md#create-session).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSummary {
    /// User ID.
    pub id: UserId,
    /// Username.
    pub username: Username,
    /// Organization that owns the user.
    pub organization: OrganizationId,
    /// Customer that the user belongs to.
    pub customer: Option<CustomerId>,
    /// Verified mail address.
    pub email: Option<String>,
    /// Roles.
    pub roles: Vec<Role>,
    /// Status.
    pub status: UserStatus,
    /// Creation time.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub changed_at: Timestamp,
}

impl UserSummary {
    pub(crate) fn of(user: &User) -> Self {
        Self {
            id: user.id.clone(),
            username: user.username.clone(),
            organization: user.organization.clone(),
            customer: user.customer.clone(),
            email: user.email.clone(),
            roles: user.roles.clone(),
            status: user.status,
            created_at: user.created_at,
            changed_at: user.changed_at,
        }
    }
}

/// The details of a user record that responses contain (docs/design/contract.md#zitadel-v2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserDetails {
    /// Number of changes.
    #[serde(rename = "change_sequence")]
    pub sequence: u64,
    /// Time of the last change.
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub changed_at: Timestamp,
    /// Creation time.
    #[serde(with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub created_at: Timestamp,
    /// Organization that owns the user.
    #[serde(rename = "organization_id")]
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

    /// Returns the details of `user` after one change at `now`.
    pub(crate) fn after_change(user: &User, now: Timestamp) -> Self {
        Self { sequence: user.sequence + 1, changed_at: now, ..Self::of(user) }
    }
}

/// A role (docs/design/contract.md#authorization).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, EnumIter, EnumString)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum Role {
    /// May manage the own user.
    User,
    /// May manage the users of the own organization.
    Admin,
    /// May manage all users of the tenant.
    TenantAdmin,
}

impl Role {
    /// Returns `roles` without duplicates, in the order of declaration.
    pub fn ordered(roles: &[Self]) -> Vec<Self> {
        Self::iter().filter(|role| roles.contains(role)).collect()
    }
}

named!(Role);

/// Status of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, EnumString)]
#[strum(serialize_all = "UPPERCASE")]
pub enum UserStatus {
    /// The user can log in.
    Active,
    /// The user cannot log in. Clients get the same response as for a wrong password (docs/design/security.md#rule-9).
    Disabled,
    /// The user cannot log in, as if it were disabled. Clients can tell the two states apart.
    Locked,
}

named!(UserStatus);

impl UserStatus {
    /// Returns whether the user may log in.
    pub fn is_active(self) -> bool {
        self == Self::Active
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TrustedDeviceId;
    use crate::token::tests::user;

    fn with(role: Role, organization: &str) -> User {
        User { roles: vec![role], organization: OrganizationId::parse(organization).unwrap(), ..user() }
    }

    #[test]
    fn administrators_have_authority_over_their_organization_and_not_over_higher_roles() {
        let (user, admin, tenant_admin) =
            (with(Role::User, "o"), with(Role::Admin, "o"), with(Role::TenantAdmin, "o"));
        assert!(admin.administers(&user) && admin.administers(&with(Role::Admin, "o")));
        assert!(!admin.administers(&with(Role::User, "p")) && !admin.administers(&tenant_admin));
        assert!(tenant_admin.administers(&with(Role::Admin, "p")) && tenant_admin.administers(&tenant_admin));
        assert!(!user.administers(&user));
        let elsewhere = User { tenant: TenantId::parse("other").unwrap(), ..with(Role::User, "o") };
        assert!(!admin.administers(&elsewhere) && !tenant_admin.administers(&elsewhere));
    }

    // docs/design/security.md#rule-15
    #[test]
    fn each_change_of_authority_ends_the_sessions() {
        type Change = fn(&mut User);
        let changes: [(&str, Change, bool); 19] = [
            ("roles", |user| user.roles = vec![Role::User], true),
            ("order of roles", |user| user.roles.reverse(), false),
            ("organization", |user| user.organization = OrganizationId::parse("p").unwrap(), true),
            ("customer", |user| user.customer = Some(CustomerId::parse("d").unwrap()), true),
            ("no customer", |user| user.customer = None, true),
            ("collection", |user| user.customer_kind = Some(Collection::Organization), true),
            ("password", |user| user.password = PasswordHash::from_phc("other".into()), true),
            ("disabled", |user| user.status = UserStatus::Disabled, true),
            ("locked", |user| user.status = UserStatus::Locked, true),
            ("reset", |user| user.reset_required = true, true),
            ("higher epoch", |user| user.session_epoch += 1, true),
            ("lower epoch", |user| user.session_epoch -= 1, false),
            ("change required", |user| user.change_required = true, false),
            ("revision of sessions", |user| user.sessions_revision += 1, false),
            ("mail address", |user| user.email = Some("other@example.com".into()), false),
            ("unverified address", |user| user.unverified_email = Some("other@example.com".into()), false),
            ("profile", |user| user.profile.nick_name = Some("Ada".into()), false),
            ("metadata", |user| user.metadata = Metadata::stored([("k".into(), vec![1])].into()), false),
            ("nothing", |_| {}, false),
        ];
        let old = User {
            roles: vec![Role::User, Role::Admin],
            customer: Some(CustomerId::parse("c").unwrap()),
            customer_kind: Some(Collection::Individual),
            ..user()
        };
        for (name, change, ends) in changes {
            let mut new = old.clone();
            change(&mut new);
            assert_eq!(old.must_end_sessions(&new), ends, "{name}");
        }
    }

    // docs/design/security.md#rule-15
    #[test]
    fn sessions_end_only_when_the_user_becomes_inactive_or_reset() {
        let disabled = User { status: UserStatus::Disabled, ..user() };
        let locked = User { status: UserStatus::Locked, ..user() };
        assert!(user().is_active() && !disabled.is_active() && !locked.is_active());
        for inactive in [&disabled, &locked] {
            assert!(!inactive.must_end_sessions(&disabled) && !inactive.must_end_sessions(&locked));
            assert!(!inactive.must_end_sessions(&user()) && user().must_end_sessions(inactive));
        }
        let reset = User { reset_required: true, ..user() };
        assert!(!reset.must_end_sessions(&reset) && !reset.must_end_sessions(&user()));
    }

    // docs/design/security.md#rule-10
    #[test]
    fn device_proofs_are_valid_from_the_epoch_of_the_password() {
        let user = User { proofs_epoch: 2, ..user() };
        let id = TrustedDeviceId::from_random([5; 16]);
        for (user_epoch, is_valid) in [(1, false), (2, true), (3, true)] {
            assert_eq!(user.trusts(TrustedDevice { id, user_epoch }), is_valid, "{user_epoch}");
        }
    }

    #[test]
    fn collections_have_the_users_of_their_owner() {
        let customer = |kind| User {
            customer: Some(CustomerId::parse("c").unwrap()),
            customer_kind: kind,
            ..with(Role::User, "o")
        };
        let cases = [
            (with(Role::Admin, "o"), Collection::Admin, "o", true),
            (with(Role::Admin, "o"), Collection::Admin, "p", false),
            (with(Role::TenantAdmin, "o"), Collection::Admin, "o", true),
            (with(Role::User, "o"), Collection::Admin, "o", false),
            (customer(None), Collection::Individual, "c", true),
            (customer(None), Collection::Organization, "c", true),
            (customer(None), Collection::Individual, "o", false),
            (customer(Some(Collection::Individual)), Collection::Individual, "c", true),
            (customer(Some(Collection::Individual)), Collection::Organization, "c", false),
            (with(Role::User, "o"), Collection::Individual, "o", false),
        ];
        for (user, collection, owner, fits) in cases {
            assert_eq!(user.fits(collection, owner), fits, "{collection:?} {owner} {user:?}");
        }
    }

    #[test]
    fn content_ignores_counters_and_the_order_of_roles() {
        let old = User { roles: vec![Role::User, Role::Admin], ..user() };
        let new = User {
            roles: vec![Role::Admin, Role::User],
            session_epoch: 9,
            proofs_epoch: 9,
            sessions_revision: 9,
            sequence: 9,
            ..old.clone()
        };
        assert!(old.has_same_content(&new));
        assert!(!old.has_same_content(&User { reset_required: true, ..new }));
        let later = old.created_at + jiff::SignedDuration::from_micros(1);
        assert!(old.has_same_content(&User { created_at: later, changed_at: later, ..old.clone() }));
        let later = old.created_at + jiff::SignedDuration::from_millis(1);
        assert!(!old.has_same_content(&User { created_at: later, ..old.clone() }));
        assert!(!old.has_same_content(&User { changed_at: later, ..old.clone() }));
    }

    // docs/design/security.md#rule-6
    #[test]
    fn history_has_the_replaced_password_and_as_many_as_the_policy_remembers() {
        let hash = |text: &str| PasswordHash::from_phc(text.into());
        let user = User { password: hash("c"), password_history: vec![hash("b"), hash("a")], ..user() };
        for (count, history) in
            [(0, vec![]), (1, vec![]), (2, vec![hash("c")]), (3, vec![hash("c"), hash("b")])]
        {
            assert!(user.history_after_change(count) == history, "{count}");
        }
    }

    // docs/design/security.md#rule-15
    #[test]
    fn change_increments_the_sequence() {
        let user = User { sequence: 4, ..user() };
        let details = UserDetails::after_change(&user, user.changed_at + jiff::SignedDuration::from_secs(9));
        assert_eq!((details.sequence, details.created_at), (5, user.created_at));
        assert_eq!(details.changed_at, user.changed_at + jiff::SignedDuration::from_secs(9));
    }
}
