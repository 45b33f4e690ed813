//! Parses requests of OAuth clients.

use base64::{Engine, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use secrecy::SecretString;

use super::addresses;
use crate::{
    dialect::{HttpRequest, MAX_TENANT_CREDENTIAL_BYTES, Pairs, Site, Twice},
    domain::{ClientScope, Failure, TenantId},
    token::Assertion,
    usecase::{
        introspect_token, issue_client_token, revoke_token,
        support::client_authentication::{ClientCredentials, ClientRequest},
    },
};

/// Type of a client assertion (RFC 7523, section 2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Maximum length of a token to introspect or revoke. Longer texts are never valid.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

pub(super) fn token(request: &HttpRequest, site: &Site) -> Result<issue_client_token::Command, Failure> {
    let form = form(request)?;
    let client = client(request, site, &form)?;
    match one(&form, "grant_type")? {
        None => return Err(Failure::field("grant_type", "is required")),
        Some("client_credentials") => {}
        Some(_) => return Err(Failure::UnsupportedGrantType),
    }
    let scopes = match one(&form, "scope")? {
        None => None,
        Some(text) => {
            let names = text.split(' ').filter(|name| !name.is_empty());
            let scopes: Option<Vec<_>> = names.map(ClientScope::from_name).collect();
            Some(ClientScope::ordered(&scopes.ok_or(Failure::InvalidScope)?))
        }
    };
    Ok(issue_client_token::Command { client, scopes })
}

pub(super) fn introspection(
    request: &HttpRequest,
    site: &Site,
) -> Result<introspect_token::Command, Failure> {
    let form = form(request)?;
    let client = client(request, site, &form)?;
    Ok(introspect_token::Command { client, token: presented(&form)? })
}

pub(super) fn revocation(request: &HttpRequest, site: &Site) -> Result<revoke_token::Command, Failure> {
    let form = form(request)?;
    let client = client(request, site, &form)?;
    Ok(revoke_token::Command { client, token: presented(&form)? })
}

/// The token to introspect or revoke. `token_type_hint` is ignored: the form of a token tells its type.
fn presented(form: &Pairs) -> Result<SecretString, Failure> {
    match one(form, "token")? {
        None => Err(Failure::field("token", "is required")),
        Some(token) if token.len() > MAX_TOKEN_BYTES => Ok(SecretString::from("")),
        Some(token) => Ok(SecretString::from(token)),
    }
}

/// # Errors
/// `UnsupportedMediaType`, `PayloadTooLarge`, or `Malformed` for a body that is not a form.
fn form(request: &HttpRequest) -> Result<Pairs, Failure> {
    request.check_body()?;
    if request.content_type().as_deref() != Some("application/x-www-form-urlencoded") {
        return Err(Failure::UnsupportedMediaType);
    }
    let form = std::str::from_utf8(&request.body).ok().and_then(Pairs::read);
    form.ok_or(Failure::Malformed("The body is not a UTF-8 form"))
}

/// The value of a parameter. An empty value counts as absent (RFC 6749, section 3.2).
fn one<'a>(form: &'a Pairs, name: &'static str) -> Result<Option<&'a str>, Failure> {
    let value = form.one(name).map_err(|Twice| Failure::field(name, "must appear only once"))?;
    Ok(value.filter(|value| !value.is_empty()))
}

/// The client and its credentials.
fn client(request: &HttpRequest, site: &Site, form: &Pairs) -> Result<ClientRequest, Failure> {
    let tenant = request.matched.parameter("tenantId").and_then(|id| TenantId::parse(id).ok());
    let credentials = credentials(request, form, |assertion| ClientCredentials::Assertion {
        assertion: Box::new(assertion),
        addresses: tenant.as_ref().map(|tenant| addresses(site, tenant)).unwrap_or_default(),
    })?;
    Ok(ClientRequest { tenant, credentials, ip: request.ip.clone() })
}

/// # Errors
/// `InvalidClient` without credentials, and for credentials that cannot be right; `Validation` for two methods at once.
fn credentials(
    request: &HttpRequest,
    form: &Pairs,
    asserted: impl FnOnce(Assertion) -> ClientCredentials,
) -> Result<ClientCredentials, Failure> {
    let id = one(form, "client_id")?;
    let secret = one(form, "client_secret")?;
    let kind = one(form, "client_assertion_type")?;
    let assertion = one(form, "client_assertion")?;
    let header = request.header("Authorization");
    let methods = [header.is_some(), secret.is_some(), kind.or(assertion).is_some()];
    if methods.iter().filter(|used| **used).count() > 1 {
        return Err(Failure::field("client_secret", "must not be sent with another authentication method"));
    }
    if let Some(header) = header {
        let (sent, secret) = basic(&header).ok_or(Failure::InvalidClient)?;
        if id.is_some_and(|id| id != sent) {
            return Err(Failure::field("client_id", "must equal the client in the Authorization header"));
        }
        return secret_of(&sent, &secret);
    }
    if let Some(assertion) = assertion {
        if kind != Some(ASSERTION_TYPE) {
            return Err(Failure::field("client_assertion_type", "must be the JWT bearer type of RFC 7523"));
        }
        let assertion = Assertion::parse(&SecretString::from(assertion)).ok_or(Failure::InvalidClient)?;
        if id.is_some_and(|id| id != assertion.client().as_str()) {
            return Err(Failure::field("client_id", "must equal the subject of the assertion"));
        }
        return Ok(asserted(assertion));
    }
    match (id, secret) {
        (Some(id), Some(secret)) => secret_of(id, secret),
        _ => Err(Failure::InvalidClient),
    }
}

fn secret_of(id: &str, secret: &str) -> Result<ClientCredentials, Failure> {
    if [id, secret].iter().any(|text| text.is_empty() || text.len() > MAX_TENANT_CREDENTIAL_BYTES) {
        return Err(Failure::InvalidClient);
    }
    Ok(ClientCredentials::Secret { id: SecretString::from(id), secret: SecretString::from(secret) })
}

/// Client ID and secret of a Basic header, both form-encoded (RFC 6749, section 2.3.1).
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    let decoded =
        |part: &str| percent_decode_str(&part.replace('+', " ")).decode_utf8().map(String::from).ok();
    Some((decoded(id)?, decoded(secret)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;
    use crate::{
        dialect::tests::{at, request},
        route::OAUTH,
    };

    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

    fn parsed(headers: &[(&str, &str)], body: &str) -> Result<issue_client_token::Command, Failure> {
        let site = Site::new("https://auth.example.com").unwrap();
        let headers: Vec<_> = [FORM].iter().chain(headers).copied().collect();
        token(&at(request(&headers, body.as_bytes()), "/tenants/t/oauth/token", &OAUTH), &site)
    }

    fn secret(command: &issue_client_token::Command) -> (String, String) {
        match &command.client.credentials {
            ClientCredentials::Secret { id, secret } => {
                (id.expose_secret().to_owned(), secret.expose_secret().to_owned())
            }
            ClientCredentials::Assertion { .. } => panic!("an assertion"),
        }
    }

    #[test]
    fn secrets_are_read_from_the_header_or_the_body() {
        let header = format!("Basic {}", STANDARD.encode("c%3A1:s%2F+x"));
        let command = parsed(&[("authorization", &header)], "grant_type=client_credentials").unwrap();
        assert_eq!(secret(&command), ("c:1".to_owned(), "s/ x".to_owned()));
        assert!(command.scopes.is_none());
        let body =
            "grant_type=client_credentials&client_id=c&client_secret=s%26&scope=introspect+users:read&x=1";
        let command = parsed(&[], body).unwrap();
        assert_eq!(secret(&command), ("c".to_owned(), "s&".to_owned()));
        assert_eq!(command.scopes, Some(vec![ClientScope::UsersRead, ClientScope::Introspect]));
    }

    #[test]
    fn wrong_requests_are_rejected() {
        let basic = format!("Basic {}", STANDARD.encode("c:s"));
        let own = "grant_type=client_credentials&client_id=c&client_secret=s";
        for (headers, body, expected) in [
            (vec![], "grant_type=client_credentials".to_owned(), "INVALID_CLIENT"),
            (vec![], "grant_type=client_credentials&client_id=c".to_owned(), "INVALID_CLIENT"),
            (
                vec![("authorization", "Bearer x")],
                "grant_type=client_credentials".to_owned(),
                "INVALID_CLIENT",
            ),
            (
                vec![("authorization", "Basic !")],
                "grant_type=client_credentials".to_owned(),
                "INVALID_CLIENT",
            ),
            (vec![("authorization", basic.as_str())], own.to_owned(), "VALIDATION"),
            (
                vec![("authorization", basic.as_str())],
                "grant_type=client_credentials&client_id=d".to_owned(),
                "VALIDATION",
            ),
            (vec![], "client_id=c&client_secret=s".to_owned(), "VALIDATION"),
            (vec![], own.replace("client_credentials", "password"), "UNSUPPORTED_GRANT_TYPE"),
            (vec![], format!("{own}&client_id=c"), "VALIDATION"),
            (vec![], format!("{own}&scope=everything"), "INVALID_SCOPE"),
            (vec![], format!("{own}&client_assertion=x"), "VALIDATION"),
            (vec![], format!("{own}%ff"), "MALFORMED"),
            (
                vec![],
                format!(
                    "grant_type=client_credentials&client_assertion=x&client_assertion_type={ASSERTION_TYPE}"
                ),
                "INVALID_CLIENT",
            ),
            (
                vec![],
                "grant_type=client_credentials&client_assertion=x&client_assertion_type=saml".to_owned(),
                "VALIDATION",
            ),
        ] {
            let failure = parsed(&headers, &body).unwrap_err();
            assert_eq!(failure.name(), expected, "{headers:?} {body}");
        }
    }

    proptest! {
        // docs/design/security.md#rule-23
        #[test]
        fn no_form_is_a_server_error(header in "[ -~]{0,60}", body in "\\PC{0,200}") {
            if let Err(failure) = parsed(&[("authorization", &header)], &body) {
                prop_assert!(!failure.is_server_error(), "{failure}");
            }
        }
    }
}
