//! A user as one line of an import or export: a JSON object with its members in one order, so that the
//! same user is the same bytes (docs/users.md).

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use doorward::{
    domain::{
        Collection, CustomerId, Document, Failure, FieldError, HashCost, Invalid, OrganizationId,
        PasswordHash, Role, TenantId, User, UserId, UserStatus, Username, language, mail_address,
        phone_number,
    },
    json,
    password::{is_verifiable, nobodys_hash},
    port::Entropy,
    store::NewUser,
};
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// Most of a user's former passwords that are kept (docs/design/security.md#rule-6).
const MAX_HISTORY: usize = 24;

/// A user, whatever tenant it is of. What a tenant's table counts (epochs, changes) is no part of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
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
    locale: Option<String>,
    reset_required: bool,
    change_required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "tell_one")]
    password: Option<PasswordHash>,
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "tell_all")]
    password_history: Vec<PasswordHash>,
}

/// Hashes are written out here alone: an export is there to have them.
#[expect(clippy::ref_option, reason = "as serde calls it")]
fn tell_one<S: Serializer>(hash: &Option<PasswordHash>, serializer: S) -> Result<S::Ok, S::Error> {
    hash.as_ref().map(PasswordHash::as_phc).serialize(serializer)
}

fn tell_all<S: Serializer>(hashes: &[PasswordHash], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(hashes.iter().map(PasswordHash::as_phc))
}

impl Record {
    /// A user as it is.
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
            locale,
            status,
            session_epoch: _,
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
            locale: locale.clone(),
            reset_required: *reset_required,
            change_required: *change_required,
            created_at: Some(created_at.to_string()),
            changed_at: Some(changed_at.to_string()),
            password: Some(password.clone()),
            password_history: password_history.clone(),
        }
    }

    /// Its line, with the end of it.
    pub(crate) fn to_line(&self) -> Result<String, Failure> {
        let text = serde_json::to_string(self).map_err(|error| Failure::Internal(Box::new(error)))?;
        Ok(text + "\n")
    }

    /// What a line says.
    ///
    /// # Errors
    /// `Validation` with everything that is wrong with it; never a piece of it, since any could be a
    /// password's hash.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, Failure> {
        let value = json::parse(line).map_err(|error| {
            // Where it is, but for the number of the line: it is always the first.
            Failure::field(
                "line",
                format!("is no JSON object: {} at column {}", kind(&error), error.column()),
            )
        })?;
        let Value::Object(members) = value else {
            return Err(Failure::field("line", "must be a JSON object"));
        };
        let mut members = Members { members, errors: Vec::new() };
        let record = members.read();
        let Members { members: unknown, mut errors } = members;
        errors.extend(unknown.into_iter().map(|(name, _)| {
            // A name of no known form could be anything, too.
            let known_form = name.len() <= 40 && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let name = if known_form { name } else { "a member".to_owned() };
            FieldError::new(name, "is no member of a user's line: see docs/users.md")
        }));
        match record {
            Some(record) if errors.is_empty() => Ok(record),
            _ => Err(Failure::Validation(errors)),
        }
    }

    /// Its id.
    pub(crate) fn id(&self) -> &UserId {
        &self.id
    }

    /// The user to create, for a login to which another's cost is that of `cost`. Without a password
    /// nothing opens it until it has set one by a code.
    ///
    /// # Errors
    /// `Internal` when the system gives no randomness.
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
                None => nobodys_hash(entropy, cost)?,
            },
            organization: self.organization,
            customer: self.customer,
            customer_kind: self.customer_type.and_then(Collection::from_user_type),
            roles: self.roles.into_iter().filter_map(Role::from_name).collect(),
            password_history: self.password_history,
            email: self.email,
            phone: self.phone,
            locale: self.locale,
            status: UserStatus::from_name(self.status).unwrap_or(UserStatus::Disabled),
            session_epoch: 0,
            sessions_revision: 0,
            reset_required: self.reset_required,
            change_required: self.change_required,
            sequence: 0,
        };
        Ok(NewUser { user, imported_as })
    }

    /// What tells it from any other: half of SHA-256 over its line.
    fn digest(&self) -> Result<String, Failure> {
        let digest = digest(&SHA256, self.to_line()?.as_bytes());
        let half = digest.as_ref().get(..16).unwrap_or_default();
        Ok(URL_SAFE_NO_PAD.encode(half))
    }
}

/// What is wrong with JSON, in words that hold nothing of it.
fn kind(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Data => "a name twice, or nested too deeply,",
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => "a fault",
    }
}

/// An instant as it is kept: in milliseconds.
fn instant(text: &str) -> Result<Timestamp, &'static str> {
    let wrong = "must be a time such as 2026-01-31T12:00:00Z";
    let exact: Timestamp = text.parse().map_err(|_| wrong)?;
    Timestamp::from_millisecond(exact.as_millisecond()).map_err(|_| wrong)
}

/// The members of a line, taken one by one, and what was wrong with them.
struct Members {
    members: Document,
    errors: Vec<FieldError>,
}

impl Members {
    fn read(&mut self) -> Option<Record> {
        let id = self.required("id", |text| UserId::parse(text).map_err(|error| error.to_string()));
        let username = self.required("username", |text| {
            Username::parse(text).map(|name| name.as_written().to_owned()).map_err(|error| error.to_string())
        });
        let status = self.optional("status", |text| {
            let known = UserStatus::from_name(text).map(UserStatus::name);
            known.ok_or_else(|| "must be ACTIVE or DISABLED".to_owned())
        });
        let roles = self.texts("roles", |text| {
            Role::from_name(text).ok_or_else(|| "must be of USER, ADMIN and TENANT_ADMIN".to_owned())
        });
        let organization = self
            .required("organization", |text| OrganizationId::parse(text).map_err(|error| error.to_string()));
        let customer =
            self.optional("customer", |text| CustomerId::parse(text).map_err(|error| error.to_string()));
        let customer_type =
            self.optional("customerType", |text| customer_type(text).map(Collection::user_type));
        let email = self.optional("email", |text| mail_address(text).map_err(|error| error.to_string()));
        let phone = self.optional("phone", |text| phone_number(text).map_err(|error| error.to_string()));
        let locale = self.optional("locale", |text| language(text).map_err(|error| error.to_string()));
        let reset_required = self.flag("resetRequired");
        let change_required = self.flag("changeRequired");
        let time = |text: &str| instant(text).map(|at| at.to_string()).map_err(str::to_owned);
        let created_at = self.optional("createdAt", time);
        let changed_at = self.optional("changedAt", time);
        let password = self.optional("password", hash);
        let password_history = self.texts("passwordHistory", hash).unwrap_or_default();

        if customer_type.is_some() && customer.is_none() {
            self.wrong("customerType", "is for users with a customer");
        }
        if password.is_none() && reset_required == Some(false) {
            self.wrong("resetRequired", "must be true where there is no password");
        }
        if password_history.len() > MAX_HISTORY {
            self.wrong("passwordHistory", "must have at most 24 hashes");
        }
        let roles = Role::ordered(&roles.unwrap_or_else(|| vec![Role::User]));
        if roles.is_empty() {
            self.wrong("roles", "must have one at least");
        }
        Some(Record {
            id: id?,
            username: username?,
            status: status.unwrap_or(UserStatus::Active.name()),
            roles: roles.into_iter().map(Role::name).collect(),
            organization: organization?,
            customer,
            customer_type,
            email,
            phone,
            locale,
            reset_required: reset_required.unwrap_or(password.is_none()),
            change_required: change_required.unwrap_or(false),
            created_at,
            changed_at,
            password,
            password_history,
        })
    }

    fn wrong(&mut self, name: &'static str, why: impl Into<std::borrow::Cow<'static, str>>) {
        self.errors.push(FieldError::new(name, why));
    }

    /// The text of a member; null is as good as none.
    fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match self.members.shift_remove(name)? {
            Value::Null => None,
            Value::String(text) => parse(&text).map_err(|why| self.wrong(name, why)).ok(),
            _ => {
                self.wrong(name, "must be a string");
                None
            }
        }
    }

    fn required<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.members.get(name).is_none_or(Value::is_null) {
            self.members.shift_remove(name);
            self.wrong(name, "is required");
            return None;
        }
        self.optional(name, parse)
    }

    fn flag(&mut self, name: &'static str) -> Option<bool> {
        match self.members.shift_remove(name)? {
            Value::Null => None,
            Value::Bool(flag) => Some(flag),
            _ => {
                self.wrong(name, "must be true or false");
                None
            }
        }
    }

    fn texts<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        let values = match self.members.shift_remove(name)? {
            Value::Null => return None,
            Value::Array(values) => values,
            _ => {
                self.wrong(name, "must be a list of strings");
                return None;
            }
        };
        let mut read = Vec::with_capacity(values.len());
        for value in values {
            match value.as_str().map(&parse) {
                Some(Ok(value)) => read.push(value),
                Some(Err(why)) => {
                    self.wrong(name, why);
                    return None;
                }
                None => {
                    self.wrong(name, "must be a list of strings");
                    return None;
                }
            }
        }
        Some(read)
    }
}

/// A customer collection by its `userType`.
pub(crate) fn customer_type(text: &str) -> Result<Collection, String> {
    Collection::from_user_type(text)
        .filter(|collection| *collection != Collection::Admin)
        .ok_or_else(|| "must be CONSUMER or BUSINESS".to_owned())
}

fn hash(text: &str) -> Result<PasswordHash, String> {
    let hash = PasswordHash::from_phc(text.to_owned());
    if is_verifiable(&hash) {
        Ok(hash)
    } else {
        let what = "must be an argon2id, bcrypt, scrypt or PBKDF2 hash in a form, and of a cost, that a login \
                    verifies: see docs/users.md";
        Err(what.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use doorward::runtime::SystemEntropy;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const BCRYPT: &str = "$2b$04$fPLsSvRiAOvD1UH3nTAIR.bi4TAbDvhrVMwHBtjJiXOf.q8jRiqlu";
    const SCRYPT: &str =
        "$scrypt$ln=10,r=8,p=1$AQIDBAUGBwgJCgsMDQ4PEA$Gk+sNpvwEvh3tm8hNK/7r2DSds/ahSl9czaZb+F4YGk";

    fn now() -> Timestamp {
        Timestamp::from_millisecond(1_795_000_000_123).unwrap()
    }

    fn new(record: Record) -> NewUser {
        record.into_new(&TenantId::parse("t").unwrap(), HashCost::default(), &SystemEntropy, now()).unwrap()
    }

    fn wrong(line: &str) -> Vec<String> {
        match Record::parse(line.as_bytes()) {
            Err(Failure::Validation(errors)) => {
                errors.into_iter().map(|error| format!("{} {}", error.field, error.message)).collect()
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_least_line_makes_a_user_that_has_yet_to_set_its_password() {
        let line = br#"{"id":"u1","username":"Zoe\u0308@example.com","organization":"o1"}"#;
        let new = new(Record::parse(line).unwrap());
        assert_eq!(new.user.username.as_written(), "Zo\u{eb}@example.com");
        assert!(new.user.reset_required && is_verifiable(&new.user.password));
        assert_eq!(
            (new.user.roles.as_slice(), new.user.status),
            ([Role::User].as_slice(), UserStatus::Active)
        );
        assert_eq!((new.user.created_at, new.user.changed_at), (now(), now()));
    }

    #[test]
    fn what_is_the_same_has_one_digest_and_what_differs_another() {
        let digest = |line: &str| new(Record::parse(line.as_bytes()).unwrap()).imported_as;
        let one = digest(r#"{"id":"u","username":"n","organization":"o"}"#);
        let spelled = r#" {"organization":"o", "username":"n","roles":["USER"], "id":"u","email":null} "#;
        assert_eq!(one, digest(spelled));
        for other in [
            r#"{"id":"v","username":"n","organization":"o"}"#,
            r#"{"id":"u","username":"N","organization":"o"}"#,
            r#"{"id":"u","username":"n","organization":"o","roles":["ADMIN"]}"#,
        ] {
            assert_ne!(one, digest(other), "{other}");
        }
    }

    // docs/design/security.md#rule-25: all that is wrong is told, and nothing of what was said.
    #[test]
    fn every_fault_of_a_line_is_told_without_quoting_it() {
        let line = json!({
            "id": "", "username": 7, "status": "GONE", "roles": ["ROOT"], "customerType": "ADMIN",
            "email": "A <hunter2@b>", "phone": "hunter2", "locale": "hunter2 de", "resetRequired": "no",
            "createdAt": "yesterday", "password": "hunter2", "passwordHistory": [7], "hunter2 and so on": 1,
            "passwrod": "hunter2",
        });
        let told = wrong(&line.to_string());
        let fields: Vec<_> = told.iter().map(|error| error.split(' ').next().unwrap()).collect();
        assert_eq!(
            fields,
            [
                "id",
                "username",
                "status",
                "roles",
                "organization",
                "customerType",
                "email",
                "phone",
                "locale",
                "resetRequired",
                "createdAt",
                "password",
                "passwordHistory",
                "a",
                "passwrod",
            ]
        );
        assert!(!told.concat().contains("hunter2"), "{told:?}");
        for line in [
            "",
            "[]",
            "7",
            "{",
            r#"{"password":"hunter2","password":"hunter2"}"#,
            r#"{"hunter2"}"#,
            "\u{fffe}",
        ] {
            let told = wrong(line);
            assert!(told.len() == 1 && !told[0].contains("hunter2"), "{told:?}");
        }
        let contradicting =
            r#"{"id":"u","username":"n","organization":"o","resetRequired":false,"roles":[]}"#;
        assert_eq!(wrong(contradicting).len(), 2);
        let customer = format!(
            r#"{{"id":"u","username":"n","organization":"o","customerType":"CONSUMER","password":"{BCRYPT}"}}"#
        );
        assert_eq!(wrong(&customer), ["customerType is for users with a customer"]);
    }

    // docs/design/security.md#rule-4, #rule-11: what a login would not verify is refused here.
    #[test]
    fn a_hash_is_one_that_a_login_verifies() {
        for bad in [
            "plain",
            "",
            "$2b$31$fPLsSvRiAOvD1UH3nTAIR.bi4TAbDvhrVMwHBtjJiXOf.q8jRiqlu",
            "$scrypt$ln=18,r=8,p=1$AQIDBAUGBwgJCgsMDQ4PEA$Gk+sNpvwEvh3tm8hNK/7r2DSds/ahSl9czaZb+F4YGk",
            "$argon2i$v=19$m=64,t=1,p=1$AQIDBAUGBwgJCgsMDQ4PEA$6FSV8h58QlkV9kG8axXh6pnmzYYL/U5s1qQt8NUrvoc",
        ] {
            assert!(hash(bad).is_err(), "{bad}");
        }
        assert!([BCRYPT, SCRYPT].into_iter().all(|good| hash(good).is_ok()));
    }

    prop_compose! {
        fn record()(
            id in "[a-zA-Z0-9%#/ü\"\\\\]{1,20}",
            username in "\\PC{1,40}",
            status in prop::sample::select(vec!["ACTIVE", "DISABLED"]),
            roles in prop::sample::subsequence(vec!["USER", "ADMIN", "TENANT_ADMIN"], 1..=3).prop_shuffle(),
            organization in "\\PC{1,40}",
            customer in prop::option::of("\\PC{1,40}"),
            customer_type in prop::option::of(prop::sample::select(vec!["CONSUMER", "BUSINESS"])),
            email in prop::option::of("[a-z]{1,9}@[a-z]{1,9}\\.example"),
            phone in prop::option::of("\\+[1-9][0-9]{5,10}"),
            locale in prop::option::of("[a-z]{2}(-[A-Z]{2})?"),
            flags in any::<(bool, bool)>(),
            created in prop::option::of(-1_000_000_000_000_000_i64..4_000_000_000_000_000),
            changed in prop::option::of(0_i64..4_000_000_000_000_000),
            password in prop::option::of(prop::sample::select(vec![BCRYPT, SCRYPT])),
            history in prop::collection::vec(prop::sample::select(vec![BCRYPT, SCRYPT]), 0..3),
        ) -> Value {
            // Nanoseconds may be given, and are not kept.
            let time = |micros: Option<i64>| micros.map(|at| Timestamp::from_microsecond(at).unwrap().to_string());
            json!({
                "id": id, "username": username, "status": status, "roles": roles, "organization": organization,
                "customerType": customer.as_ref().and(customer_type), "customer": customer, "email": email,
                "phone": phone, "locale": locale, "resetRequired": flags.0 || password.is_none(),
                "changeRequired": flags.1, "createdAt": time(created), "changedAt": time(changed),
                "password": password, "passwordHistory": history,
            })
        }
    }

    proptest! {
        #[test]
        fn what_is_exported_imports_as_itself_to_the_byte(line in record()) {
            let Ok(record) = Record::parse(line.to_string().as_bytes()) else { return Ok(()) };
            let once = new(record);
            let exported = Record::of(&once.user).to_line().unwrap();
            let again = new(Record::parse(exported.as_bytes()).unwrap());
            prop_assert!(again.user.says_the_same(&once.user));
            prop_assert_eq!(Record::of(&again.user).to_line().unwrap(), exported);
        }

        #[test]
        fn no_line_makes_it_panic(line in "\\PC{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = (Record::parse(line.as_bytes()), Record::parse(&bytes));
        }
    }
}
