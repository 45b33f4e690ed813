//! Parses FinHub requests into commands. A rejected request lists all of its faults, so that a client can fix them
//! at once.

use secrecy::SecretString;

use super::{HttpRequest, IDEMPOTENCY_KEY, incomplete, tenant_credential};
use crate::{
    dialect::{Pairs, Twice, bounded},
    domain::{
        Collection, Device, Failure, Invalid, NamedUsers, Password, SessionId, UserId, UserKey, Username,
    },
    json::{self, ObjectReader},
    store::Ending,
    token::{DeviceProof, KeyedRequest, PageCursor, RefreshToken},
    usecase::{
        UserPath, create_session, delete_session, end_sessions, list_sessions, refresh_session, reset_login,
        update_credentials,
    },
};

/// Maximum length of client metadata, in characters. Longer texts are cut.
const MAX_METADATA_CHARS: usize = 256;
/// Default page size.
const DEFAULT_PAGE: usize = 20;
/// Maximum page size.
const MAX_PAGE: usize = 100;
/// Maximum length of the reason of a login reset, in characters (docs/design/contract.md#login-reset).
const MAX_REASON_CHARS: usize = 500;

pub(super) fn create_session(request: &HttpRequest) -> Result<create_session::Command, Failure> {
    login(request, |form| {
        let owner = form.path_owner();
        let user = form.path("userId", UserId::parse);
        Some(UserKey::Id { collection: request.matched.collection, owner: owner?, user: user? })
    })
}

pub(super) fn create_session_by_name(request: &HttpRequest) -> Result<create_session::Command, Failure> {
    let users = match request.matched.collection {
        Collection::Admin => NamedUsers::Administrators,
        Collection::Individual | Collection::Organization => NamedUsers::Customers,
    };
    login(request, |_| Some(UserKey::Name(users)))
}

/// Parses a login. `key` reads the parts of the path.
fn login(
    request: &HttpRequest,
    key: impl FnOnce(&mut RequestReader<'_>) -> Option<UserKey>,
) -> Result<create_session::Command, Failure> {
    let mut form = RequestReader::read(request, BodyIs::Required)?;
    let key = key(&mut form);
    let username = form.username();
    let password = form.required("password", Password::parse);
    form.optional("credentialType", credential_type);
    let tenant_id = form.optional("tenantId", |text| Ok(text.to_owned()));
    let tenant_key = form.required("tenantKey", tenant_credential);
    let tenant_secret = form.required("tenantSecret", tenant_credential);
    let device_proof = form.body.optional("deviceProof", device_proof);
    let idempotency = form.repeatable();
    form.finish()?;
    if tenant_id.is_some_and(|named| request.header("X-Tenant-ID") != Some(named)) {
        return Err(Failure::TenantMismatch);
    }
    Ok(create_session::Command {
        tenant: request.tenant().ok_or(Failure::InvalidTenantCredentials)?,
        tenant_key: tenant_key.ok_or_else(incomplete)?,
        tenant_secret: tenant_secret.ok_or_else(incomplete)?,
        key: key.ok_or_else(incomplete)?,
        username: username.ok_or_else(incomplete)?,
        password: password.ok_or_else(incomplete)?,
        device: device(request),
        ip: request.ip.clone(),
        idempotency,
        device_proof,
    })
}

pub(super) fn refresh_session(request: &HttpRequest) -> Result<refresh_session::Command, Failure> {
    let mut form = RequestReader::read(request, BodyIs::Required)?;
    let session = form.path("sessionId", SessionId::parse);
    let path = match request.matched.collection {
        Collection::Admin => Some(refresh_session::Path::Admin),
        collection => {
            let customer = form.path_owner();
            let user = form.path("userId", UserId::parse);
            customer.zip(user).map(|(customer, user)| refresh_session::Path::Customer {
                collection,
                customer,
                user,
            })
        }
    };
    let refresh_token = form.required("refreshToken", refresh_token);
    form.finish()?;
    let (tenant, bearer) = request.bearer_and_tenant()?;
    Ok(refresh_session::Command {
        tenant,
        bearer,
        refresh_token: refresh_token.ok_or_else(incomplete)?,
        path: path.ok_or_else(incomplete)?,
        session: session.ok_or_else(incomplete)?,
        ip: request.ip.clone(),
    })
}

/// Parses a logout, or a request to read a session.
pub(super) fn one_session(request: &HttpRequest) -> Result<delete_session::Command, Failure> {
    let (at, session) = under_user(request, |form| form.path("sessionId", SessionId::parse))?;
    Ok(delete_session::Command { at, session: session.ok_or_else(incomplete)? })
}

pub(super) fn end_sessions(request: &HttpRequest) -> Result<end_sessions::Command, Failure> {
    let (at, except) = under_user(request, |form| {
        let query = form.query();
        form.parameter(query.as_ref(), "except", |text| match text {
            "current" => Ok(Ending::AllButCurrent),
            _ => Err(Invalid::new("must be current; omit it to end all sessions")),
        })
    })?;
    Ok(end_sessions::Command { at, ending: except.unwrap_or(Ending::All) })
}

pub(super) fn list_sessions(request: &HttpRequest) -> Result<list_sessions::Command, Failure> {
    let (at, (limit, cursor)) = under_user(request, |form| {
        let query = form.query();
        let limit = form.parameter(query.as_ref(), "limit", page_limit);
        (limit, form.parameter(query.as_ref(), "cursor", cursor))
    })?;
    Ok(list_sessions::Command { at, limit: limit.unwrap_or(DEFAULT_PAGE), cursor })
}

/// Parses a request without a body on a path of a user's sessions. `rest` reads the parts of the single route.
fn under_user<T>(
    request: &HttpRequest,
    rest: impl FnOnce(&mut RequestReader<'_>) -> T,
) -> Result<(UserPath, T), Failure> {
    let mut form = RequestReader::read(request, BodyIs::Ignored)?;
    let owner = form.path_owner();
    let user = form.path("userId", UserId::parse);
    let rest = rest(&mut form);
    form.finish()?;
    let (tenant, bearer) = request.bearer_and_tenant()?;
    let at = UserPath {
        tenant,
        bearer,
        collection: request.matched.collection,
        owner: owner.ok_or_else(incomplete)?,
        user: user.ok_or_else(incomplete)?,
        ip: request.ip.clone(),
    };
    Ok((at, rest))
}

pub(super) fn reset_login(request: &HttpRequest) -> Result<reset_login::Command, Failure> {
    let mut form = RequestReader::read(request, BodyIs::Required)?;
    let user = form.optional("userId", UserId::parse);
    let reason = form.optional("reason", reason);
    let idempotency = form.repeatable();
    form.finish()?;
    let (tenant, bearer) = request.bearer_and_tenant()?;
    Ok(reset_login::Command { tenant, bearer, user, reason, ip: request.ip.clone(), idempotency })
}

pub(super) fn update_credentials(request: &HttpRequest) -> Result<update_credentials::Command, Failure> {
    let mut form = RequestReader::read(request, BodyIs::Required)?;
    let user = form.path("userId", UserId::parse);
    let password = form.optional("password", Password::parse);
    let new_password = form.optional("newPassword", Password::parse);
    if let (Some(one), Some(other)) = (&password, &new_password)
        && one.as_bytes() != other.as_bytes()
    {
        form.body.fault("newPassword", "must equal password; send only one of them");
    }
    let password = password.map(|it| (it, "password")).or(new_password.map(|it| (it, "newPassword")));
    let current_password = form.optional("currentPassword", Password::parse);
    let username = form.optional("username", Username::parse_new);
    let change_required = form.body.flag("changeRequired");
    form.finish()?;
    let (tenant, bearer) = request.bearer_and_tenant()?;
    Ok(update_credentials::Command {
        tenant,
        bearer,
        user: user.ok_or_else(incomplete)?,
        changes: update_credentials::Changes { password, current_password, username, change_required },
        others_only: false,
        ip: request.ip.clone(),
    })
}

/// Whether a route reads a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BodyIs {
    Required,
    Ignored,
}

/// A request that is being parsed, with the faults found so far.
struct RequestReader<'a> {
    request: &'a HttpRequest,
    body: ObjectReader,
    is_body_invalid: bool,
}

impl<'a> RequestReader<'a> {
    fn read(request: &'a HttpRequest, body: BodyIs) -> Result<Self, Failure> {
        request.check_body()?;
        let mut form = Self { request, body: ObjectReader::default(), is_body_invalid: false };
        form.header("X-Tenant-ID");
        form.header("User-Agent");
        if body == BodyIs::Ignored {
            return Ok(form);
        }
        form.header("Content-Type");
        if request.content_type().is_some_and(|kind| kind != "application/json") {
            return Err(Failure::UnsupportedMediaType);
        }
        match json::parse_object(&request.body) {
            Ok(members) => form.body.set_members(members),
            Err(error) => {
                form.is_body_invalid = true;
                form.body.fault("body", error.to_string());
            }
        }
        Ok(form)
    }

    fn header(&mut self, name: &'static str) {
        if self.request.header(name).is_none() {
            self.body.fault(name, "this header is required");
        }
    }

    /// Reads a required, non-empty string. Records no error if the body could not be parsed.
    fn required<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Option<T> {
        if self.is_body_invalid {
            return None;
        }
        self.body.required(name, non_empty(parse))
    }

    /// Reads an optional string that must not be empty if present.
    fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Option<T> {
        self.body.optional(name, non_empty(parse))
    }

    fn path<T>(&mut self, name: &'static str, parse: impl FnOnce(&str) -> Result<T, Invalid>) -> Option<T> {
        let value = self.request.matched.parameter(name).unwrap_or_default();
        self.body.check(name, parse(value))
    }

    /// The username of a login. A client may also send it as `value`.
    fn username(&mut self) -> Option<Username> {
        if !self.body.has("value") {
            return self.required("username", Username::parse);
        }
        let value = self.required("value", Username::parse);
        let username = self.optional("username", Username::parse);
        if let (Some(one), Some(other)) = (&username, &value)
            && one != other
        {
            self.body.fault("value", "must equal username; send only one of them");
        }
        username.or(value)
    }

    /// Organization or customer in the path.
    fn path_owner(&mut self) -> Option<String> {
        let name = match self.request.matched.collection {
            Collection::Admin => "organizationId",
            Collection::Individual | Collection::Organization => "customerId",
        };
        self.path(name, UserId::parse).map(String::from)
    }

    /// Parameters of the query.
    fn query(&mut self) -> Option<Pairs> {
        let pairs = Pairs::read(&self.request.query);
        self.body.check("query", pairs.ok_or("must be percent-encoded UTF-8"))
    }

    /// An optional parameter of the query. Unknown parameters are ignored.
    fn parameter<T>(
        &mut self,
        query: Option<&Pairs>,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Option<T> {
        let value = query?.one(name).map_err(|Twice| Invalid::new("must appear exactly once"));
        let parsed = value.and_then(|value| value.map(non_empty(parse)).transpose());
        self.body.check(name, parsed).flatten()
    }

    /// Idempotency key and request fingerprint, if the client sent a key.
    fn repeatable(&mut self) -> Option<KeyedRequest> {
        let repeatable = self.request.repeatable(self.request.matched.pattern);
        self.body.check(IDEMPOTENCY_KEY, repeatable).flatten()
    }

    fn finish(self) -> Result<(), Failure> {
        self.body.finish()
    }
}

/// Wraps a parser so that it rejects the empty string.
fn non_empty<T>(parse: impl FnOnce(&str) -> Result<T, Invalid>) -> impl FnOnce(&str) -> Result<T, Invalid> {
    |text| if text.is_empty() { Err(Invalid::new("must not be empty")) } else { parse(text) }
}

/// Parses a page size. Accepts only digits: the standard parser would also accept a plus sign.
fn page_limit(text: &str) -> Result<usize, Invalid> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text);
    let limit = digits.and_then(|digits| digits.parse().ok());
    limit.filter(|limit| (1..=MAX_PAGE).contains(limit)).ok_or(Invalid::new("must be a number from 1 to 100"))
}

/// Parses the kind of the credentials of a login.
fn credential_type(text: &str) -> Result<(), Invalid> {
    if text.eq_ignore_ascii_case("PASSWORD") { Ok(()) } else { Err(Invalid::new("must be PASSWORD")) }
}

fn reason(text: &str) -> Result<String, Invalid> {
    bounded(text, MAX_REASON_CHARS, "must be at most 500 characters").map(str::to_owned)
}

/// Parses a device proof. An empty one counts as absent.
fn device_proof(text: &str) -> Result<SecretString, Invalid> {
    if text.is_empty() {
        return Ok(SecretString::from(""));
    }
    bounded(text, DeviceProof::CHARS, "must be at most 96 characters").map(SecretString::from)
}

fn refresh_token(text: &str) -> Result<SecretString, Invalid> {
    bounded(text, RefreshToken::MAX_CHARS, "must be at most 805 characters").map(SecretString::from)
}

fn cursor(text: &str) -> Result<String, Invalid> {
    bounded(text, PageCursor::MAX_CHARS, "must be at most 194 characters").map(str::to_owned)
}

fn device(request: &HttpRequest) -> Device {
    let first = |names: &[&str]| names.iter().find_map(|name| request.header(name)).map(capped);
    Device {
        platform: first(&["platform", "sec-ch-ua-platform"]).map(|text| text.trim_matches('"').to_owned()),
        device_id: first(&["deviceId", "X-Device-Id", "device-id"]),
        forwarded_from: first(&["X-Forwarded-From"]),
        user_agent: first(&["User-Agent"]),
        ip: None,
    }
}

fn capped(text: String) -> String {
    match text.char_indices().nth(MAX_METADATA_CHARS) {
        None => text,
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        dialect::{
            MAX_BODY_BYTES,
            tests::{at, request},
        },
        route,
    };

    fn parse(headers: &[(&str, &str)], body: &[u8]) -> Result<create_session::Command, Failure> {
        let path = "/api/v2.1/admin/organization/o/users/u/sessions";
        create_session(&at(request(headers, body), path, &route::CREATE_SESSION))
    }

    const HEADERS: [(&str, &str); 3] =
        [("x-tenant-id", "t"), ("user-agent", "test"), ("content-type", "Application/JSON; charset=utf-8")];
    const BODY: &[u8] = br#"{"username":"n","password":"p","tenantKey":"k","tenantSecret":"s","later":[1]}"#;

    fn fields(result: Result<create_session::Command, Failure>) -> Vec<String> {
        match result {
            Err(Failure::Validation(errors)) => {
                errors.into_iter().map(|error| error.field.into_owned()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_good_request_is_a_command() {
        let command = parse(&HEADERS, BODY).unwrap();
        let UserKey::Id { collection: Collection::Admin, owner, user } = command.key else { panic!() };
        assert_eq!((command.tenant.as_str(), owner.as_str(), user.as_str()), ("t", "o", "u"));
    }

    // docs/design/contract.md#log-in-by-name
    #[test]
    fn path_of_a_login_by_name_says_which_users_it_accepts() {
        for (path, users) in [
            ("/api/v2.1/admin/sessions", NamedUsers::Administrators),
            ("/api/v2.1/customer/sessions", NamedUsers::Customers),
        ] {
            let request = at(request(&HEADERS, BODY), path, &route::CREATE_SESSION);
            let UserKey::Name(found) = create_session_by_name(&request).unwrap().key else { panic!() };
            assert_eq!(found, users, "{path}");
        }
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        assert_eq!(fields(parse(&[], BODY)), ["X-Tenant-ID", "User-Agent", "Content-Type"]);
        assert_eq!(
            fields(parse(&HEADERS, br#"{"username":1,"password":"","tenantKey":null}"#)),
            ["username", "password", "tenantKey", "tenantSecret"]
        );
        assert_eq!(fields(parse(&HEADERS, b"[]")), ["body"]);
        assert_eq!(fields(parse(&HEADERS, br#"{"a":1,"a":2}"#)), ["body"]);
    }

    /// The valid body with these members added or replaced.
    fn with(members: &serde_json::Value) -> Vec<u8> {
        let mut body: serde_json::Value = serde_json::from_slice(BODY).unwrap();
        for (name, value) in members.as_object().unwrap() {
            body[name] = value.clone();
        }
        body.to_string().into_bytes()
    }

    // docs/design/contract.md#create-session
    #[test]
    fn username_may_be_sent_as_value_and_must_not_differ() {
        let name = |members| parse(&HEADERS, &with(&members)).unwrap().username.as_written().to_owned();
        assert_eq!(name(json!({ "username": null, "value": "v" })), "v");
        assert_eq!(name(json!({ "value": null })), "n");
        assert_eq!(name(json!({ "username": "e\u{301}", "value": "\u{e9}" })), "\u{e9}");
        for (members, field) in [
            (json!({ "value": "N" }), "value"),
            (json!({ "value": "" }), "value"),
            (json!({ "value": 1 }), "value"),
            (json!({ "username": null }), "username"),
            (json!({ "username": "", "value": "v" }), "username"),
        ] {
            assert_eq!(fields(parse(&HEADERS, &with(&members))), [field], "{members}");
        }
    }

    // docs/design/contract.md#create-session
    #[test]
    fn credential_type_is_password_in_any_case() {
        for kind in [json!("PASSWORD"), json!("Password"), json!(null)] {
            assert!(parse(&HEADERS, &with(&json!({ "credentialType": kind }))).is_ok(), "{kind}");
        }
        for kind in [json!("PASSKEY"), json!(" PASSWORD"), json!(""), json!(1)] {
            let parsed = parse(&HEADERS, &with(&json!({ "credentialType": kind })));
            assert_eq!(fields(parsed), ["credentialType"], "{kind}");
        }
    }

    // docs/design/contract.md#create-session
    #[test]
    fn tenant_in_the_body_must_be_that_of_the_header() {
        assert!(parse(&HEADERS, &with(&json!({ "tenantId": "t" }))).is_ok());
        for other in ["T", "other", "t ", "not/valid"] {
            let parsed = parse(&HEADERS, &with(&json!({ "tenantId": other })));
            assert!(matches!(parsed, Err(Failure::TenantMismatch)), "{other}");
        }
        assert_eq!(fields(parse(&HEADERS, &with(&json!({ "tenantId": 1 })))), ["tenantId"]);
        assert_eq!(fields(parse(&HEADERS[1..], &with(&json!({ "tenantId": "t" })))), ["X-Tenant-ID"]);
    }

    #[test]
    fn types_and_sizes_are_checked_first() {
        let mut headers = HEADERS;
        headers[2].1 = "text/plain";
        assert!(matches!(parse(&headers, BODY), Err(Failure::UnsupportedMediaType)));
        let large = vec![b' '; MAX_BODY_BYTES + 1];
        assert!(matches!(parse(&headers, &large), Err(Failure::PayloadTooLarge)));
    }

    #[test]
    fn metadata_has_three_names_and_an_end() {
        let long = "x".repeat(300);
        let headers =
            [("sec-ch-ua-platform", "\"Windows\""), ("device-id", "7"), ("x-forwarded-from", &long)];
        let device = device(&request(&headers, b""));
        assert_eq!(device.platform.unwrap(), "Windows");
        assert_eq!(device.device_id.unwrap(), "7");
        assert_eq!(device.forwarded_from.unwrap().len(), MAX_METADATA_CHARS);
    }

    proptest! {
        // docs/design/security.md#rule-23: every input is a command or a client error.
        #[test]
        fn no_body_is_our_fault(body in prop::collection::vec(any::<u8>(), 0..300)) {
            match parse(&HEADERS, &body) {
                Ok(_) | Err(Failure::Validation(_)) => {}
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }
}
