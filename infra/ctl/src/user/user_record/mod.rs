//! A user as one line of an import or export: a JSON object with a fixed order of members, so that equal
//! users produce equal bytes (docs/users.md).

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward::{
    domain::{
        Collection, CustomerId, Failure, Gender, HashCost, Invalid, Metadata, OrganizationId, PasswordHash,
        Profile, Role, TenantId, User, UserId, UserStatus, Username, language, mail_address, phone_number,
        profile_text,
    },
    json::{self, ObjectError, ObjectReader},
    password::{check_hash, random_hash},
    port::Entropy,
    store::NewUser,
};
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::metadata;
use crate::input::position;

/// Maximum former passwords of a user (docs/design/security.md#rule-6).
const MAX_HISTORY: usize = 24;

fn is_without_keys(metadata: &Metadata) -> bool {
    metadata.entries().is_empty()
}

/// A user without its tenant and without the counters of the table (epochs, revisions, sequence).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UserRecord {
    id: UserId,
    username: String,
    status: &'static str,
    roles: Vec<&'static str>,
    organization: OrganizationId,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer: Option<CustomerId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unverified_email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unverified_phone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    locale: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    given_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    family_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nick_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gender: Option<&'static str>,
    #[serde(skip_serializing_if = "is_without_keys", serialize_with = "metadata::serialize")]
    metadata: Metadata,
    reset_required: bool,
    change_required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "serialize_hash")]
    password: Option<PasswordHash>,
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "serialize_hashes")]
    password_history: Vec<PasswordHash>,
}

/// Serializes a hash. Only an export writes hashes.
#[expect(clippy::ref_option, reason = "as serde calls it")]
fn serialize_hash<S: Serializer>(hash: &Option<PasswordHash>, serializer: S) -> Result<S::Ok, S::Error> {
    hash.as_ref().map(PasswordHash::as_phc).serialize(serializer)
}

fn serialize_hashes<S: Serializer>(hashes: &[PasswordHash], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(hashes.iter().map(PasswordHash::as_phc))
}

impl UserRecord {
    /// Returns the record of a stored user.
    pub(crate) fn of(user: &User) -> Self {
        let User {
            tenant: _,
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
            unverified_email,
            unverified_phone,
            profile,
            metadata,
            locale,
            status,
            session_epoch: _,
            proofs_epoch: _,
            sessions_revision: _,
            reset_required,
            change_required,
            sequence: _,
            created_at,
            changed_at,
        } = user;
        Self {
            id: id.clone(),
            username: username.as_written().to_owned(),
            status: status.name(),
            roles: Role::ordered(roles).into_iter().map(Role::name).collect(),
            organization: organization.clone(),
            customer: customer.clone(),
            customer_type: customer_kind.map(Collection::user_type),
            email: email.clone(),
            phone: phone.clone(),
            unverified_email: unverified_email.clone(),
            unverified_phone: unverified_phone.clone(),
            locale: locale.clone(),
            given_name: profile.given_name.clone(),
            family_name: profile.family_name.clone(),
            nick_name: profile.nick_name.clone(),
            display_name: profile.display_name.clone(),
            gender: profile.gender.map(Gender::name),
            metadata: metadata.clone(),
            reset_required: *reset_required,
            change_required: *change_required,
            created_at: Some(created_at.to_string()),
            changed_at: Some(changed_at.to_string()),
            password: Some(password.clone()),
            password_history: password_history.clone(),
        }
    }

    /// Returns the JSON line, including its line end.
    pub(crate) fn to_line(&self) -> Result<String, Failure> {
        let text = serde_json::to_string(self).map_err(|error| Failure::Internal(Box::new(error)))?;
        Ok(text + "\n")
    }

    /// Parses a line.
    ///
    /// # Errors
    /// `Validation` with all faults of the line. The messages never quote the line, because any part of it
    /// could be a password hash.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, Failure> {
        let members = json::parse_object(line).map_err(|error| match error {
            // Reports only the column, because the parser always sees the line as line 1.
            ObjectError::Invalid(error) => Failure::field(
                "line",
                format!("is invalid JSON at column {}: {}", position(line, &error).1, kind(&error)),
            ),
            ObjectError::OtherType => Failure::field("line", error.to_string()),
        })?;
        let mut members = ObjectReader::new(members);
        let record = read(&mut members);
        for name in members.take_unread().into_iter().map(|(name, _)| name) {
            // A name with unusual characters is not quoted, because it could be a hash.
            let is_usual = name.len() <= 40 && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let name = if is_usual { name } else { "a member".to_owned() };
            members.fault(name, "is not a member of a user line; see docs/users.md");
        }
        members.finish()?;
        record.ok_or_else(|| Failure::field("line", "is incomplete"))
    }

    /// User ID.
    pub(crate) fn id(&self) -> &UserId {
        &self.id
    }

    /// Returns the user to create. A user without a password gets a random hash with the parameters `cost`,
    /// so that it cannot log in until it has set a password with a reset code.
    ///
    /// # Errors
    /// `Internal` if the operating system provides no randomness.
    pub(crate) fn into_new(
        self,
        tenant: &TenantId,
        cost: HashCost,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> Result<NewUser, Failure> {
        let imported_as = self.digest()?;
        let instant = |text: &Option<String>| text.as_deref().and_then(|text| instant(text).ok());
        let invalid = |invalid: Invalid| Failure::Internal(Box::new(invalid));
        let created_at = instant(&self.created_at).unwrap_or(now);
        let user = User {
            created_at,
            changed_at: instant(&self.changed_at).unwrap_or(created_at),
            tenant: tenant.clone(),
            id: self.id,
            username: Username::parse(&self.username).map_err(invalid)?,
            password: match self.password {
                Some(hash) => hash,
                None => random_hash(entropy, cost)?,
            },
            organization: self.organization,
            customer: self.customer,
            customer_kind: self.customer_type.and_then(Collection::from_user_type),
            roles: self.roles.into_iter().filter_map(Role::from_name).collect(),
            password_history: self.password_history,
            email: self.email,
            phone: self.phone,
            unverified_email: self.unverified_email,
            unverified_phone: self.unverified_phone,
            profile: Profile {
                given_name: self.given_name,
                family_name: self.family_name,
                nick_name: self.nick_name,
                display_name: self.display_name,
                gender: self.gender.and_then(Gender::from_name),
            },
            metadata: self.metadata,
            locale: self.locale,
            status: UserStatus::from_name(self.status).unwrap_or(UserStatus::Disabled),
            session_epoch: 0,
            proofs_epoch: 0,
            sessions_revision: 0,
            reset_required: self.reset_required,
            change_required: self.change_required,
            sequence: 0,
        };
        Ok(NewUser { user, imported_as })
    }

    /// Returns the first half of the SHA-256 digest of the line, which identifies its content.
    fn digest(&self) -> Result<String, Failure> {
        let digest = digest(&SHA256, self.to_line()?.as_bytes());
        let half = digest.as_ref().get(..16).unwrap_or_default();
        Ok(URL_SAFE_NO_PAD.encode(half))
    }
}

/// Describes a JSON error without quoting the JSON.
fn kind(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "unexpected end",
        serde_json::error::Category::Data => "duplicate name or too deep nesting",
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => "syntax error",
    }
}

/// Parses a time and truncates it to milliseconds, the precision of the table.
fn instant(text: &str) -> Result<Timestamp, &'static str> {
    let wrong = "must be a time such as 2026-01-31T12:00:00Z";
    let exact: Timestamp = text.parse().map_err(|_| wrong)?;
    Timestamp::from_millisecond(exact.as_millisecond()).map_err(|_| wrong)
}

/// Reads the members of a line. Returns `None` if a required member is missing or invalid.
fn read(members: &mut ObjectReader) -> Option<UserRecord> {
    let id = members.required("id", UserId::parse_new);
    let username = members
        .required("username", |text| Username::parse_new(text).map(|name| name.as_written().to_owned()));
    let status = members.optional("status", |text| {
        let known = UserStatus::from_name(text).map(UserStatus::name);
        known.ok_or("must be ACTIVE, DISABLED or LOCKED")
    });
    let roles = members
        .texts("roles", |text| Role::from_name(text).ok_or("must contain only USER, ADMIN and TENANT_ADMIN"));
    let organization = members.required("organization", OrganizationId::parse_new);
    let customer = members.optional("customer", CustomerId::parse_new);
    let customer_type =
        members.optional("customerType", |text| customer_type(text).map(Collection::user_type));
    let email = members.optional("email", mail_address);
    let phone = members.optional("phone", phone_number);
    let unverified_email = members.optional("unverifiedEmail", mail_address);
    let unverified_phone = members.optional("unverifiedPhone", phone_number);
    let locale = members.optional("locale", language);
    let given_name = members.optional("givenName", profile_text);
    let family_name = members.optional("familyName", profile_text);
    let nick_name = members.optional("nickName", profile_text);
    let display_name = members.optional("displayName", profile_text);
    let gender = members.optional("gender", |text| gender(text).map(Gender::name));
    let metadata = metadata::read(members);
    let reset_required = members.flag("resetRequired");
    let change_required = members.flag("changeRequired");
    let time = |text: &str| instant(text).map(|at| at.to_string());
    let created_at = members.optional("createdAt", time);
    let changed_at = members.optional("changedAt", time);
    let password = members.optional("password", hash);
    let password_history = members.texts("passwordHistory", hash).unwrap_or_default();

    if customer_type.is_some() && customer.is_none() {
        members.fault("customerType", "needs a customer; add the member customer");
    }
    for (unverified, verified, both) in [
        ("unverifiedEmail", "email", email.is_some() && unverified_email.is_some()),
        ("unverifiedPhone", "phone", phone.is_some() && unverified_phone.is_some()),
    ] {
        if both {
            members.fault(
                unverified,
                format!("must not be combined with {verified}; a user has only one of them"),
            );
        }
    }
    if password.is_none() && reset_required == Some(false) {
        members.fault("resetRequired", "must be true if there is no password");
    }
    if password_history.len() > MAX_HISTORY {
        members.fault("passwordHistory", "must contain at most 24 hashes");
    }
    let roles = Role::ordered(&roles.unwrap_or_else(|| vec![Role::User]));
    if roles.is_empty() {
        members.fault("roles", "must contain at least one role");
    }
    Some(UserRecord {
        id: id?,
        username: username?,
        status: status.unwrap_or(UserStatus::Active.name()),
        roles: roles.into_iter().map(Role::name).collect(),
        organization: organization?,
        customer,
        customer_type,
        email,
        phone,
        unverified_email,
        unverified_phone,
        locale,
        given_name,
        family_name,
        nick_name,
        display_name,
        gender,
        metadata,
        reset_required: reset_required.unwrap_or(password.is_none()),
        change_required: change_required.unwrap_or(false),
        created_at,
        changed_at,
        password,
        password_history,
    })
}

/// Parses a gender.
pub(crate) fn gender(text: &str) -> Result<Gender, &'static str> {
    Gender::from_name(text).ok_or("must be FEMALE, MALE or DIVERSE")
}

/// Parses the `userType` of a customer collection.
pub(crate) fn customer_type(text: &str) -> Result<Collection, String> {
    Collection::from_user_type(text)
        .filter(|collection| *collection != Collection::Admin)
        .ok_or_else(|| "must be CONSUMER or BUSINESS".to_owned())
}

fn hash(text: &str) -> Result<PasswordHash, String> {
    let hash = PasswordHash::from_phc(text.to_owned());
    check_hash(&hash).map(|()| hash).map_err(|invalid| format!("{invalid}; see docs/users.md"))
}

#[cfg(test)]
mod tests;
