//! Templates of reset links. A link leads only to hosts that the tenant allows
//! (docs/design/contract.md#zitadel-v2; docs/design/security.md#rule-19). The `Host` header of a request is never used.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    Code, OrganizationId, TenantId, UserId,
    id::{Invalid, text_conversions},
};

/// A host that links may lead to, with its port unless the port is 443.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkHost(String);

impl LinkHost {
    /// Parses `host` or `host:port`.
    ///
    /// # Errors
    /// [`Invalid`] for any other text.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let invalid = Invalid::new("must be a host or host:port");
        let url = Url::parse(&format!("https://{text}/")).map_err(|_| invalid)?;
        let host = Self::of(&url).ok_or(invalid)?;
        // A path, a user name and other spellings of the host are rejected.
        if host.0 == text || format!("{}:443", host.0) == text { Ok(host) } else { Err(invalid) }
    }

    fn of(url: &Url) -> Option<Self> {
        let host = url.host_str()?;
        Some(Self(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))))
    }
}

text_conversions!(LinkHost);

/// The template of a link, with the placeholders `{{.UserID}}`, `{{.OrgID}}` and `{{.Code}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkTemplate {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    UserId,
    OrgId,
    Code,
}

/// Stand-in for a value while a template is checked. None of its characters has a meaning in a URL.
const STAND_IN: &str = "doorwardvalue";

impl LinkTemplate {
    /// Maximum length in characters (docs/design/contract.md#zitadel-v2).
    pub const MAX_CHARS: usize = 200;

    /// Parses a template whose links lead to one of `hosts` over https, for all values of the placeholders.
    ///
    /// # Errors
    /// [`Invalid`] with the rule that the text breaks.
    pub fn parse(text: &str, hosts: &[LinkHost]) -> Result<Self, Invalid> {
        if text.is_empty() || text.chars().count() > Self::MAX_CHARS {
            return Err(Invalid::new("must be 1 to 200 characters"));
        }
        // Browsers and URL parsers interpret other characters differently.
        if !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
            || text.contains(['\\', '<', '>', '"', '`', '^', '|'])
        {
            return Err(Invalid::new("must be a URL of plain ASCII characters"));
        }
        let template = Self { text: text.to_owned(), pieces: pieces(text)? };
        // The checks below find placeholders by the stand-in.
        if text.to_ascii_lowercase().contains(STAND_IN) {
            return Err(Invalid::new("must not contain doorwardvalue"));
        }
        // The URL parser accepts `https:host` and an empty user name, so that both are checked in the text.
        let scheme = text.get(..8).filter(|scheme| scheme.eq_ignore_ascii_case("https://"));
        let authority = scheme.and(text.get(8..)).and_then(|rest| rest.split(['/', '?', '#']).next());
        match authority {
            None | Some("") => return Err(Invalid::new("must be an https URL")),
            Some(authority) if authority.contains('@') => {
                return Err(Invalid::new("must not contain a user name"));
            }
            Some(_) => {}
        }
        let url = Url::parse(&template.filled_with(|_| STAND_IN.to_owned()))
            .map_err(|_| Invalid::new("must be an absolute URL"))?;
        check_target(&url, hosts)?;
        let placeholders = template.pieces.iter().filter(|piece| !matches!(piece, Piece::Text(_))).count();
        let in_path = url.path().matches(STAND_IN).count();
        // In the text as written: a decoded value could imitate the stand-in of another placeholder.
        let values = url.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let in_values: usize = values.map(|(_, value)| value.matches(STAND_IN).count()).sum();
        if in_path + in_values != placeholders {
            return Err(Invalid::new("must have placeholders only in path segments and query values"));
        }
        Ok(template)
    }

    /// Returns the template for the tenant's hosted page, with the code in the link.
    pub fn hosted(public_url: &str, tenant: &TenantId) -> Self {
        let Self { mut text, mut pieces } = Self::hosted_for_typing(public_url, tenant);
        text.push_str("&code={{.Code}}");
        pieces.extend([Piece::Text("&code=".to_owned()), Piece::Code]);
        Self { text, pieces }
    }

    /// Returns the template for the tenant's hosted page without a code. The page asks the user for the code.
    pub fn hosted_for_typing(public_url: &str, tenant: &TenantId) -> Self {
        let page = format!("{}/password/change", tenant_url(public_url, tenant));
        let pieces = vec![Piece::Text(format!("{page}?userId=")), Piece::UserId];
        Self { text: format!("{page}?userId={{{{.UserID}}}}"), pieces }
    }

    /// Returns whether the link contains the code. A mail shows the code only in the link.
    pub fn has_code(&self) -> bool {
        self.pieces.contains(&Piece::Code)
    }

    /// Returns the text of the template.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the link, with percent-encoded values.
    ///
    /// Returns `None` if the link does not lead to one of `hosts`, for example because the tenant removed the
    /// host, or if an ID is `.` or `..`, which would change the path. `hosts` is `None` for the hosted page.
    pub fn fill(
        &self,
        user: &UserId,
        organization: &OrganizationId,
        code: &Code,
        hosts: Option<&[LinkHost]>,
    ) -> Option<String> {
        let link = self.filled_with(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::UserId => encode(user.as_str()),
            Piece::OrgId => encode(organization.as_str()),
            Piece::Code => encode(code.expose()),
        });
        let is_dots = |id: &str| matches!(id, "." | "..");
        match hosts {
            None => Some(link),
            Some(_) if is_dots(user.as_str()) || is_dots(organization.as_str()) => None,
            Some(hosts) => {
                Url::parse(&link).ok().filter(|url| check_target(url, hosts).is_ok()).map(|_| link)
            }
        }
    }

    fn filled_with(&self, value: impl Fn(&Piece) -> String) -> String {
        let filled = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            placeholder => value(placeholder),
        });
        filled.collect()
    }
}

impl fmt::Display for LinkTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Checks that a URL uses https and leads to one of `hosts`.
fn check_target(url: &Url, hosts: &[LinkHost]) -> Result<(), Invalid> {
    if url.scheme() != "https" {
        return Err(Invalid::new("must be an https URL"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Invalid::new("must not contain a user name"));
    }
    match LinkHost::of(url) {
        Some(host) if hosts.contains(&host) => Ok(()),
        _ => Err(Invalid::new("must lead to a host that the tenant allows")),
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>, Invalid> {
    let unknown = Invalid::new("must have no placeholders except {{.UserID}}, {{.OrgID}} and {{.Code}}");
    let mut pieces = Vec::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once("{{").map_or((rest, None), |(one, two)| (one, Some(two)));
        if before.contains(['{', '}', ' ']) {
            return Err(unknown);
        }
        pieces.push(Piece::Text(before.to_owned()));
        let Some(after) = after else {
            return Ok(pieces);
        };
        let (name, after) = after.split_once("}}").ok_or(unknown)?;
        pieces.push(match name.trim() {
            ".UserID" => Piece::UserId,
            ".OrgID" => Piece::OrgId,
            ".Code" => Piece::Code,
            _ => return Err(unknown),
        });
        rest = after;
    }
}

/// All characters except those that need no encoding in any part of a URL (RFC 3986, section 2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn encode(value: &str) -> String {
    utf8_percent_encode(value, ENCODED).to_string()
}

/// Returns the base URL of a tenant's own routes. A tenant can use it as the issuer of its tokens.
pub fn tenant_url(public_url: &str, tenant: &TenantId) -> String {
    format!("{}/tenants/{tenant}", public_url.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::CodeKind;

    fn hosts() -> Vec<LinkHost> {
        ["app.example.com", "app.example.com:8443"].map(|host| LinkHost::parse(host).unwrap()).into()
    }

    fn fill(template: &LinkTemplate, user: &str) -> Option<String> {
        let code = Code::from_random(CodeKind::Typed, &[0; 20]);
        let organization = OrganizationId::parse("o&o").unwrap();
        template.fill(&UserId::parse(user).unwrap(), &organization, &code, Some(&hosts()))
    }

    // docs/design/contract.md#zitadel-v2; docs/design/security.md#rule-19
    #[test]
    fn template_must_lead_to_an_allowed_host() {
        for good in [
            "https://app.example.com/reset?user={{.UserID}}&code={{.Code}}&org={{.OrgID}}",
            "https://app.example.com:8443/{{ .UserID }}/{{.Code}}#form",
            "https://APP.example.com:443/x?c={{.Code}}",
            "https://app.example.com",
        ] {
            assert!(LinkTemplate::parse(good, &hosts()).is_ok(), "{good}");
        }
        let long = format!("https://app.example.com/{}", "x".repeat(200));
        for bad in [
            "",
            &long,
            "http://app.example.com/{{.Code}}",
            "javascript:alert(1)",
            "//app.example.com/{{.Code}}",
            "/reset?code={{.Code}}",
            "https://app.example.com:8444/{{.Code}}",
            "https://example.com/{{.Code}}",
            "https://app.example.com.evil.example/{{.Code}}",
            "https://app.example.com@evil.example/{{.Code}}",
            "https://user@app.example.com/{{.Code}}",
            "https://:pw@app.example.com/{{.Code}}",
            "https://@app.example.com/{{.Code}}",
            "https:app.example.com/{{.Code}}",
            "https:///app.example.com/{{.Code}}",
            "https://{{.UserID}}@app.example.com/",
            "https://{{.UserID}}.example.com/",
            "https://app.example.com:{{.Code}}/",
            "https://evil.example\\@app.example.com/{{.Code}}",
            "https://app.example.com/\t{{.Code}}",
            "https://app.example.com/#{{.Code}}",
            "https://app.example.com/?{{.Code}}=x",
            "https://app.example.com/?{{.Code}}",
            "https://app.example.com/{{.Code}}/../x",
            "https://app.example.com/doorwardvalue#{{.Code}}",
            "https://app.example.com/?x=DoorwardValue&{{.Code}}=y",
            "https://app.example.com/?x=%64oorwardvalue#{{.Code}}",
            "https://app.example.com/?x=%64oorwardvalue&{{.Code}}=y",
            "https://app.example.com/{{.code}}",
            "https://app.example.com/{{.Password}}",
            "https://app.example.com/{{if .Code}}",
            "https://app.example.com/{{.Code",
            "https://app.example.com/.Code}}",
            "https://app.example.com/{Code}",
            "https://app.example.com/{{{{.Code}}}}",
            "https://app.exämple.com/{{.Code}}",
        ] {
            assert!(LinkTemplate::parse(bad, &hosts()).is_err(), "{bad}");
        }
        assert!(LinkTemplate::parse("https://app.example.com/{{.Code}}", &[]).is_err());
    }

    #[test]
    fn values_are_percent_encoded() {
        let template = "https://app.example.com/{{.UserID}}?o={{.OrgID}}&c={{.Code}}";
        let template = LinkTemplate::parse(template, &hosts()).unwrap();
        assert_eq!(
            fill(&template, "a/b?c#d&e=f é").unwrap(),
            "https://app.example.com/a%2Fb%3Fc%23d%26e%3Df%20%C3%A9?o=o%26o&c=AAAAAAAA"
        );
        assert_eq!(fill(&template, ".."), None);
        let code = Code::from_random(CodeKind::Link, &[0; 20]);
        let (user, organization) = (UserId::parse("u").unwrap(), OrganizationId::parse("o").unwrap());
        assert_eq!(
            template.fill(&user, &organization, &code, Some(&[])),
            None,
            "the tenant no longer allows the host"
        );
        let hosted = LinkTemplate::hosted("http://127.0.0.1:9000/", &TenantId::parse("t").unwrap());
        assert_eq!(
            hosted.fill(&user, &organization, &code, None).unwrap(),
            "http://127.0.0.1:9000/tenants/t/password/change?userId=u&code=AAAAAAAAAAAAAAAAAAAA"
        );
        let typing = LinkTemplate::hosted_for_typing("http://127.0.0.1:9000", &TenantId::parse("t").unwrap());
        assert_eq!(
            typing.fill(&user, &organization, &code, None).unwrap(),
            "http://127.0.0.1:9000/tenants/t/password/change?userId=u"
        );
        assert_eq!(hosted.as_str().strip_prefix(typing.as_str()), Some("&code={{.Code}}"));
    }

    #[test]
    fn link_host_rejects_paths_users_and_schemes() {
        assert_eq!(LinkHost::parse("a.example:443").unwrap(), LinkHost::parse("a.example").unwrap());
        for bad in
            ["", "a.example/x", "u@a.example", "A.example", "a.example:99999", "a b", "https://a.example"]
        {
            assert!(LinkHost::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        // docs/design/security.md#rule-19: every link leads to an allowed host.
        #[test]
        fn no_value_changes_the_host(
            before in "[a-z@:/?#.\\\\{}%]{0,12}",
            after in "[a-z@:/?#.\\\\{}%=&]{0,12}",
            user in "[^\\p{Cc}]{1,12}",
        ) {
            let text = format!("https://{before}app.example.com{after}{{{{.UserID}}}}");
            let Ok(template) = LinkTemplate::parse(&text, &hosts()) else { return Ok(()) };
            if let Some(link) = fill(&template, &user) {
                let url = Url::parse(&link).unwrap();
                prop_assert_eq!(url.host_str(), Some("app.example.com"));
                prop_assert!(url.username().is_empty());
            }
        }
    }
}
