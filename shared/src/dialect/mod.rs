//! Wire formats. Each dialect parses requests into commands and renders outcomes and failures; parts that all
//! dialects share are here.

pub(crate) mod authorizer;
pub(crate) mod cors;
mod failure;
pub(crate) mod finhub;
pub(crate) mod oauth;
pub(crate) mod ocariot;
pub(crate) mod page;
pub(crate) mod public;
pub(crate) mod zitadel;

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use serde_json::Value;

use self::failure::{challenge, retry_after};
pub use self::page::PageOrigin;
use crate::{
    context::RequestContext,
    domain::{ClientAddress, Collection, Failure, IdempotencyKey, Invalid, TenantId, TokenFault},
    token::{KeyedRequest, Unverified},
    usecase::Service,
};

/// Maximum size of a body (docs/design/contract.md#every-request).
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Maximum length of a tenant's key and secret, in bytes.
const MAX_TENANT_CREDENTIAL_BYTES: usize = 1_024;
/// Header of the idempotency key.
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// An HTTP request with a decoded body. No `Debug`, because headers and body hold secrets (docs/design/security.md#rule-25).
pub struct HttpRequest {
    /// Method.
    pub method: Method,
    /// Path, without the stage.
    pub path: String,
    /// Query string without the `?`, still encoded.
    pub query: String,
    /// Headers. API Gateway joins repeated headers with commas.
    pub headers: HeaderMap,
    /// Cookies, `name=value` each.
    pub cookies: Vec<String>,
    /// Body.
    pub body: Vec<u8>,
    /// Client address.
    pub ip: ClientAddress,
    /// The path pattern that the request matches. The router adds it.
    pub matched: MatchedPath,
}

/// A request and everything that its handler needs.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    /// The use cases.
    pub(crate) service: &'a Service,
    /// The context of the request.
    pub(crate) context: &'a RequestContext,
    /// The request.
    pub(crate) request: &'a HttpRequest,
    /// The public address, if the function knows it.
    pub(crate) site: Option<&'a Site>,
}

/// Answers a call: parses the request, calls a use case and renders its outcome. A failure is rendered by
/// [`Dialect::failure`].
pub(crate) type Handler = for<'a> fn(&'a Call<'a>) -> BoxFuture<'a, Result<Reply, Failure>>;

/// The pages of other origins that may read a response (CORS).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrossOrigin {
    /// None.
    Nobody,
    /// Pages of the origins that the tenant lists.
    Listed,
    /// All pages: the response is public.
    Anyone,
}

/// A wire format.
pub struct Dialect {
    /// The name in `infra/routes.json` and in the names of recorded events.
    pub name: &'static str,
    /// The pages of other origins that may read its responses.
    pub cross_origin: CrossOrigin,
    /// Whether its requests appear in the audit log (docs/design/security.md#rule-24). Requests for public
    /// documents do not: they need no credentials, so anyone could fill the log with them.
    pub is_audited: bool,
    /// Renders a failure.
    pub(crate) failure: fn(&Failure, &HttpRequest, Timestamp) -> Reply,
}

/// The path pattern that a request matches, with the values of its parameters.
#[derive(Debug, Default)]
pub struct MatchedPath {
    /// The pattern, parameters in braces.
    pub pattern: &'static str,
    /// Collection of users in the path; `Admin` for a path without one.
    pub collection: Collection,
    /// Decoded parameters by name, in the order of the path.
    pub parameters: Vec<(String, String)>,
}

impl MatchedPath {
    /// The value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The public address of the routes.
pub(crate) struct Site {
    /// The address, without a path.
    pub(crate) url: String,
    /// The origin that browsers send with the hosted page's forms.
    pub(crate) page_origin: PageOrigin,
}

impl Site {
    /// # Errors
    /// `url` is not an http or https URL.
    pub(crate) fn new(url: &str) -> Result<Self, Invalid> {
        Ok(Self { page_origin: PageOrigin::of(url)?, url: url.to_owned() })
    }
}

impl HttpRequest {
    /// Trimmed text of a header; `None` if the header is missing or empty.
    fn header(&self, name: &str) -> Option<String> {
        let value = self.headers.get(name)?;
        let text = String::from_utf8_lossy(value.as_bytes());
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The tenant in the path. An id that is not valid is treated like an unknown one.
    ///
    /// # Errors
    /// `RouteNotFound`
    fn path_tenant(&self) -> Result<TenantId, Failure> {
        let named = self.matched.parameter("tenantId");
        named.and_then(|id| TenantId::parse(id).ok()).ok_or(Failure::RouteNotFound)
    }

    /// Idempotency key and request fingerprint; `None` without an `Idempotency-Key`. The fingerprint covers the bytes
    /// as sent: two spellings of one JSON body are two requests.
    fn repeatable(&self, route: &'static str) -> Result<Option<KeyedRequest>, Invalid> {
        let Some(value) = self.headers.get(IDEMPOTENCY_KEY) else {
            return Ok(None);
        };
        let key = IdempotencyKey::parse(String::from_utf8_lossy(value.as_bytes()).trim_matches(' '))?;
        let kind = self.content_type().unwrap_or_default();
        let parts = [self.method.as_str(), &self.path, &self.query, &kind].map(str::as_bytes);
        Ok(Some(KeyedRequest::new(key, route, &[parts.as_slice(), &[self.body.as_slice()]].concat())))
    }

    /// Content type in lower case, without parameters.
    fn content_type(&self) -> Option<String> {
        let value = self.header("Content-Type")?;
        Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
    }

    /// Whether the body is compressed. Decompression could exceed the maximum size.
    pub(crate) fn is_compressed(&self) -> bool {
        self.header("Content-Encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case("identity"))
    }

    /// # Errors
    /// `PayloadTooLarge` for a body above the maximum size; `UnsupportedMediaType` for a compressed one.
    fn check_body(&self) -> Result<(), Failure> {
        match self.body.len() {
            0..=MAX_BODY_BYTES if self.is_compressed() => Err(Failure::UnsupportedMediaType),
            0..=MAX_BODY_BYTES => Ok(()),
            _ => Err(Failure::PayloadTooLarge),
        }
    }

    /// `X-Tenant-ID`. `None` if it is missing or not a valid tenant ID.
    fn tenant(&self) -> Option<TenantId> {
        TenantId::parse(&self.header("X-Tenant-ID")?).ok()
    }

    /// The tenant that the request names in its path, its `X-Tenant-ID` header or its bearer, in this order.
    /// Nothing of it is verified.
    pub(crate) fn claimed_tenant(&self) -> Option<TenantId> {
        if let Some(tenant) = self.matched.parameter("tenantId") {
            return TenantId::parse(tenant).ok();
        }
        if self.headers.contains_key("X-Tenant-ID") {
            return self.tenant();
        }
        self.bearer().ok().map(|token| token.tenant().clone())
    }

    /// `Authorization: Bearer …` (RFC 6750, section 2.1).
    ///
    /// # Errors
    /// `InvalidToken` for a missing or malformed token.
    fn bearer(&self) -> Result<Unverified, Failure> {
        let missing = Failure::InvalidToken(TokenFault::Missing);
        let Some(value) = self.header("Authorization") else {
            return Err(missing);
        };
        match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer") => {
                Unverified::parse(&SecretString::from(token.trim_start()))
            }
            _ => Err(missing),
        }
    }

    /// The bearer and its tenant. `X-Tenant-ID` is optional but must equal the token's tenant
    /// (docs/design/contract.md#every-request). Neither is verified yet.
    ///
    /// # Errors
    /// `InvalidToken` as [`Self::bearer`]; `TenantMismatch` for an invalid `X-Tenant-ID`.
    fn bearer_and_tenant(&self) -> Result<(TenantId, Unverified), Failure> {
        let token = self.bearer()?;
        let tenant = if self.header("X-Tenant-ID").is_some() {
            self.tenant().ok_or(Failure::TenantMismatch)?
        } else {
            token.tenant().clone()
        };
        Ok((tenant, token))
    }
}

/// Parses a tenant key or secret.
fn tenant_credential(text: &str) -> Result<SecretString, Invalid> {
    if text.len() > MAX_TENANT_CREDENTIAL_BYTES {
        return Err(Invalid::new("must be at most 1024 bytes"));
    }
    Ok(SecretString::from(text))
}

/// Error for a missing field that the parser did not report. It cannot occur; an error is safer than a panic.
fn incomplete() -> Failure {
    Failure::field("body", "is incomplete")
}

/// A text of 1 to `most` characters.
fn bounded<'a>(text: &'a str, most: usize, why: &'static str) -> Result<&'a str, Invalid> {
    // The length in bytes is checked first, because counting the characters of a long text is slow.
    let fits = !text.is_empty() && text.len() <= most.saturating_mul(4) && text.chars().count() <= most;
    if fits { Ok(text) } else { Err(Invalid::new(why)) }
}

/// Decoded names and values of a query or a form (URL, section 5.1). Unlike that section, invalid UTF-8 is an error: replacing it would
/// change a password.
struct Pairs(Vec<(String, String)>);

/// Error for a name that appears more than once.
struct Twice;

impl Pairs {
    /// Decodes a text; `None` if it is not UTF-8.
    fn read(text: &str) -> Option<Self> {
        let decoded =
            |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8().map(String::from).ok();
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decoded(name)?, decoded(value)?))
        };
        text.split('&').filter(|part| !part.is_empty()).map(pair).collect::<Option<_>>().map(Self)
    }

    /// The value of a name; `None` if the name does not appear.
    ///
    /// # Errors
    /// [`Twice`] if the name appears more than once.
    fn one(&self, name: &str) -> Result<Option<&str>, Twice> {
        let mut values = self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(Twice),
        }
    }
}

/// A response in one dialect. The entry point adds the headers of every response. No `Debug`, because the body may
/// hold tokens (docs/design/security.md#rule-25).
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers in addition to those of every response.
    pub headers: HeaderMap,
    /// `Set-Cookie` values.
    pub cookies: Vec<String>,
    /// Body.
    pub body: ReplyBody,
    /// The failure that the reply renders, for the audit log.
    pub failure: Option<Failure>,
}

/// Body of a response.
pub enum ReplyBody {
    /// No body.
    Empty,
    /// `application/json`
    Json(Value),
    /// Content type and text.
    Text(&'static str, String),
    /// Content type and bytes.
    Bytes(HeaderValue, Vec<u8>),
}

impl Reply {
    fn new(status: StatusCode, body: ReplyBody) -> Self {
        Self { status, headers: HeaderMap::new(), cookies: Vec::new(), body, failure: None }
    }

    fn json(status: StatusCode, body: Value) -> Self {
        Self::new(status, ReplyBody::Json(body))
    }

    /// Attaches the failure that the reply renders, for the audit log.
    pub(crate) fn with_failure(self, failure: Failure) -> Self {
        Self { failure: Some(failure), ..self }
    }

    /// Adds the headers of a failure: a challenge on 401 (RFC 6750, section 3), and `Retry-After`.
    fn with_failure_headers(mut self, failure: &Failure, now: Timestamp) -> Self {
        if self.status == StatusCode::UNAUTHORIZED {
            self.headers.insert(header::WWW_AUTHENTICATE, challenge(failure));
        }
        if let Some(seconds) = retry_after(failure, now) {
            self.headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        self
    }
}

/// RFC 3339 in UTC with milliseconds and `Z`, which parsers of all languages accept.
fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, Method};
    use proptest::prelude::*;

    use super::*;
    use crate::route::{Route, Router};

    pub(super) fn request(headers: &[(&str, &str)], body: &[u8]) -> HttpRequest {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        HttpRequest {
            method: Method::POST,
            path: "/api/v2.1/admin/organization/o/users/u/sessions".to_owned(),
            query: String::new(),
            headers: map,
            cookies: Vec::new(),
            body: body.to_vec(),
            ip: ClientAddress::new(Some([192, 0, 2, 1].into()), None),
            matched: MatchedPath::default(),
        }
    }

    /// Sets the path and matches it with a route of a function.
    pub(super) fn at(mut request: HttpRequest, path: &str, routes: &'static [Route]) -> HttpRequest {
        path.clone_into(&mut request.path);
        let (_, matched) = Router::new(routes).unwrap().find(&request.method, path).unwrap();
        HttpRequest { matched, ..request }
    }

    #[test]
    fn times_are_rfc_3339_with_milliseconds() {
        let at = Timestamp::from_millisecond(1_768_342_908_974).unwrap();
        assert_eq!(time(at), "2026-01-13T22:21:48.974Z");
        assert_eq!(time(Timestamp::from_second(1_768_342_908).unwrap()), "2026-01-13T22:21:48.000Z");
    }

    proptest! {
        #[test]
        fn no_authorization_is_our_fault(value in "[ -~]{0,200}") {
            match request(&[("authorization", &value)], b"").bearer() {
                Ok(_) | Err(Failure::InvalidToken(_)) => {}
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }
}
