//! Parses FinHub requests into commands. A rejected request lists all of its faults, so that a client can fix them
//! at once.

use secrecy::SecretString;

use super::{HttpRequest, IDEMPOTENCY_KEY, tenant_credential};
use crate::{
    dialect::{
        MatchedPath,
        pairs::{Pairs, Twice},
    },
    domain::{Collection, Device, Failure, Invalid, Password, SessionId, TenantId, UserId, Username},
    json::{self, ObjectReader},
    store::Ending,
    token::KeyedRequest,
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

pub(super) fn create_session(
    request: &HttpRequest,
    matched: &MatchedPath,
    collection: Collection,
) -> Result<create_session::Command, Failure> {
    let mut form = RequestReader::read(request, BodyIs::Required)?;
    let owner = form.path_owner(matched, collection);
    let user = form.path(matched, "userId", UserId::parse);
    let username = form.required("username", Username::parse);
    let password = form.required("password", Password::parse);
    let tenant_key = form.required("tenantKey", tenant_credential);
    let tenant_secret = form.required("tenantSecret", tenant_credential);
    let device_proof = form.body.text("deviceProof").map(SecretString::from);
    let tenant = form.tenant();
    let idempotency = form.repeatable(matched);
    form.finish()?;
    match (owner, user, username, password, tenant_key, tenant_secret) {
        (Some(owner), Some(user), Some(username), Some(password), Some(tenant_key), Some(tenant_secret)) => {
            Ok(create_session::Command {
                tenant: tenant.ok_or(Failure::InvalidTenantCredentials)?,
                tenant_key,
                tenant_secret,
                collection,
                owner,
                user,
                username,
                password,
                device: device(request),
                ip: request.ip.clone(),
                idempotency,
                device_proof,
            })
        }
        _ => Err(incomplete()),
    }
}

pub(super) fn refresh_session(
    request: &HttpRequest,
    matched: &MatchedPath,
    customer_collection: Option<Collection>,
) -> Result<refresh_session::Command, Failure> {
    let mut form = RequestReader::read(request, BodyIs::Required)?;
    let session = form.path(matched, "sessionId", SessionId::parse);
    let path = match customer_collection {
        None => Some(refresh_session::Path::Admin),
        Some(collection) => {
            let customer = form.path_owner(matched, collection);
            let user = form.path(matched, "userId", UserId::parse);
            customer.zip(user).map(|(customer, user)| refresh_session::Path::Customer {
                collection,
                customer,
                user,
            })
        }
    };
    let refresh_token = form.required("refreshToken", |text| Ok(SecretString::from(text)));
    let tenant = form.tenant();
    form.finish()?;
    match (session, path, refresh_token) {
        (Some(session), Some(path), Some(refresh_token)) => Ok(refresh_session::Command {
            bearer: request.bearer()?,
            tenant: tenant.ok_or(Failure::TenantMismatch)?,
            refresh_token,
            path,
            session,
            ip: request.ip.clone(),
        }),
        _ => Err(incomplete()),
    }
}

/// Parses a logout, or a request to read a session.
pub(super) fn one_session(
    request: &HttpRequest,
    matched: &MatchedPath,
    collection: Collection,
) -> Result<delete_session::Command, Failure> {
    let (at, session) =
        under_user(request, matched, collection, |form| form.path(matched, "sessionId", SessionId::parse))?;
    Ok(delete_session::Command { at, session: session.ok_or_else(incomplete)? })
}

pub(super) fn end_sessions(
    request: &HttpRequest,
    matched: &MatchedPath,
    collection: Collection,
) -> Result<end_sessions::Command, Failure> {
    let (at, except) = under_user(request, matched, collection, |form| {
        let query = form.query();
        form.parameter(query.as_ref(), "except", |text| match text {
            "current" => Ok(Ending::AllButCurrent),
            _ => Err(Invalid::new("must be current; omit it to end all sessions")),
        })
    })?;
    Ok(end_sessions::Command { at, ending: except.unwrap_or(Ending::All) })
}

pub(super) fn list_sessions(
    request: &HttpRequest,
    matched: &MatchedPath,
    collection: Collection,
) -> Result<list_sessions::Command, Failure> {
    let (at, (limit, cursor)) = under_user(request, matched, collection, |form| {
        let query = form.query();
        let limit = form.parameter(query.as_ref(), "limit", page_limit);
        (limit, form.parameter(query.as_ref(), "cursor", |text| Ok(text.to_owned())))
    })?;
    Ok(list_sessions::Command { at, limit: limit.unwrap_or(DEFAULT_PAGE), cursor })
}

/// Parses a request without a body on a path of a user's sessions. `rest` reads the parts of the single route.
fn under_user<T>(
    request: &HttpRequest,
    matched: &MatchedPath,
    collection: Collection,
    rest: impl FnOnce(&mut RequestReader<'_>) -> T,
) -> Result<(UserPath, T), Failure> {
    let mut form = RequestReader::read(request, BodyIs::Ignored)?;
    let owner = form.path_owner(matched, collection);
    let user = form.path(matched, "userId", UserId::parse);
    let rest = rest(&mut form);
    let tenant = form.tenant();
    form.finish()?;
    let (owner, user) = owner.zip(user).ok_or_else(incomplete)?;
    let at = UserPath {
        bearer: request.bearer()?,
        tenant: tenant.ok_or(Failure::TenantMismatch)?,
        collection,
        owner,
        user,
        ip: request.ip.clone(),
    };
    Ok((at, rest))
}

pub(super) fn reset_login(
    request: &HttpRequest,
    matched: &MatchedPath,
) -> Result<reset_login::Command, Failure> {
    let mut form = RequestReader::read(request, BodyIs::Required)?;
    let user = form.optional("userId", UserId::parse);
    let reason = form.optional("reason", reason);
    let tenant = form.tenant();
    let idempotency = form.repeatable(matched);
    form.finish()?;
    Ok(reset_login::Command {
        bearer: request.bearer()?,
        tenant: tenant.ok_or(Failure::TenantMismatch)?,
        user,
        reason,
        ip: request.ip.clone(),
        idempotency,
    })
}

pub(super) fn update_credentials(
    request: &HttpRequest,
    matched: &MatchedPath,
) -> Result<update_credentials::Command, Failure> {
    let mut form = RequestReader::read(request, BodyIs::Required)?;
    let user = form.path(matched, "userId", UserId::parse);
    let password = form.optional("password", Password::parse);
    let new_password = form.optional("newPassword", Password::parse);
    if let (Some(one), Some(other)) = (&password, &new_password)
        && one.as_bytes() != other.as_bytes()
    {
        form.fault("newPassword", "must equal password; send only one of them");
    }
    let password = password.map(|it| (it, "password")).or(new_password.map(|it| (it, "newPassword")));
    let current_password = form.optional("currentPassword", Password::parse);
    let username = form.optional("username", Username::parse);
    let change_required = form.body.flag("changeRequired");
    let tenant = form.tenant();
    form.finish()?;
    Ok(update_credentials::Command {
        bearer: request.bearer()?,
        tenant: tenant.ok_or(Failure::TenantMismatch)?,
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
        request.checked_size()?;
        let mut form = Self { request, body: ObjectReader::default(), is_body_invalid: false };
        let mut needed = vec!["X-Tenant-ID", "User-Agent"];
        if body == BodyIs::Required {
            needed.push("Content-Type");
        }
        for name in needed {
            if request.header(name).is_none() {
                form.fault(name, "this header is required");
            }
        }
        if body == BodyIs::Required {
            if request.content_type().is_some_and(|kind| kind != "application/json") {
                return Err(Failure::UnsupportedMediaType);
            }
            match json::parse_object(&request.body) {
                Ok(members) => form.body.set_members(members),
                Err(error) => {
                    form.is_body_invalid = true;
                    form.fault("body", error.to_string());
                }
            }
        }
        Ok(form)
    }

    fn fault(&mut self, field: &'static str, message: impl Into<std::borrow::Cow<'static, str>>) {
        self.body.fault(field, message);
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

    fn path<T>(
        &mut self,
        matched: &MatchedPath,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Option<T> {
        match parse(matched.parameter(name).unwrap_or_default()) {
            Ok(parsed) => Some(parsed),
            Err(why) => {
                self.fault(name, why.to_string());
                None
            }
        }
    }

    /// Organization or customer in the path.
    fn path_owner(&mut self, matched: &MatchedPath, collection: Collection) -> Option<String> {
        let name = match collection {
            Collection::Admin => "organizationId",
            Collection::Individual | Collection::Organization => "customerId",
        };
        self.path(matched, name, UserId::parse).map(String::from)
    }

    /// Parameters of the query.
    fn query(&mut self) -> Option<Pairs> {
        let pairs = Pairs::read(&self.request.query);
        if pairs.is_none() {
            self.fault("query", "must be percent-encoded UTF-8");
        }
        pairs
    }

    /// An optional parameter of the query. Unknown parameters are ignored.
    fn parameter<T>(
        &mut self,
        query: Option<&Pairs>,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Option<T> {
        let parsed = match query?.one(name) {
            Ok(None) => return None,
            Ok(Some("")) => Err("must not be empty".to_owned()),
            Ok(Some(text)) => parse(text).map_err(|why| why.to_string()),
            Err(Twice) => Err("must appear exactly once".to_owned()),
        };
        parsed.map_err(|why| self.fault(name, why)).ok()
    }

    /// What the request is known again by, where it may be sent again.
    fn repeatable(&mut self, matched: &MatchedPath) -> Option<KeyedRequest> {
        let repeatable = self.request.repeatable(matched.pattern);
        repeatable.unwrap_or_else(|why| {
            self.fault(IDEMPOTENCY_KEY, why.to_string());
            None
        })
    }

    fn tenant(&self) -> Option<TenantId> {
        self.request.tenant()
    }

    fn finish(self) -> Result<(), Failure> {
        self.body.finish()
    }
}

/// Wraps a parser so that it rejects the empty string.
fn non_empty<T>(parse: impl FnOnce(&str) -> Result<T, Invalid>) -> impl FnOnce(&str) -> Result<T, Invalid> {
    |text| if text.is_empty() { Err(Invalid::new("must not be empty")) } else { parse(text) }
}

/// Error for a missing field that `finish` did not report. It cannot occur; an error is safer than a panic.
fn incomplete() -> Failure {
    Failure::field("body", "is incomplete")
}

/// Parses a page size. Accepts only digits: the standard parser would also accept a plus sign.
fn page_limit(text: &str) -> Result<usize, Invalid> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text);
    let limit = digits.and_then(|digits| digits.parse().ok());
    limit.filter(|limit| (1..=MAX_PAGE).contains(limit)).ok_or(Invalid::new("must be a number from 1 to 100"))
}

fn reason(text: &str) -> Result<String, Invalid> {
    if text.chars().count() > MAX_REASON_CHARS {
        return Err(Invalid::new("must be at most 500 characters"));
    }
    Ok(text.to_owned())
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

    use super::*;
    use crate::{
        dialect::{MAX_BODY_BYTES, tests::request},
        route::{self, Router},
    };

    fn parse(headers: &[(&str, &str)], body: &[u8]) -> Result<create_session::Command, Failure> {
        let request = request(headers, body);
        let router = Router::new(&route::CREATE_SESSION).unwrap();
        let (_, matched) = router.find(&request.method, &request.path).unwrap();
        create_session(&request, &matched, Collection::Admin)
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
        assert_eq!((command.tenant.as_str(), command.owner.as_str(), command.user.as_str()), ("t", "o", "u"));
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
