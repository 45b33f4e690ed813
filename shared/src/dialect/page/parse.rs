//! Parses queries, cookies and forms of the hosted page.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;
use url::Url;

use super::HttpRequest;
use crate::{
    dialect::{Pairs, Twice},
    domain::{Code, Failure, Invalid, ResetLink, TenantId, UserId},
    token::BrowserId,
};

/// Name of the cookie that holds the parameters of a link until the form is sent. The prefix binds the cookie to the
/// host (RFC 6265bis, section 4.1.3.2).
pub(super) const COOKIE: &str = "__Host-doorward-reset";
/// Name of the cookie that identifies the browser, so that a form works only where it was opened.
pub(super) const BROWSER_COOKIE: &str = "__Host-doorward-browser";
/// Query of the page after a success.
pub(super) const DONE: &str = "done=1";

/// The origin of the hosted page, as browsers send it in the `Origin` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageOrigin(String);

impl PageOrigin {
    /// The origin of `public_url`.
    ///
    /// # Errors
    /// [`Invalid`] when it is no http or https URL.
    pub fn of(public_url: &str) -> Result<Self, Invalid> {
        match Url::parse(public_url) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => {
                Ok(Self(url.origin().ascii_serialization()))
            }
            _ => Err(Invalid::new("the public URL must be an http or https URL")),
        }
    }

    /// Whether a browser sent `request` from a page of this origin. Under `Referrer-Policy:
    /// no-referrer` it calls the origin of a form `null` (Fetch, "append a request Origin header"),
    /// and says only in `Sec-Fetch-Site` that it is our own.
    pub(super) fn sent(&self, request: &HttpRequest) -> bool {
        match request.header("Origin").as_deref() {
            Some("null") => request.header("Sec-Fetch-Site").as_deref() == Some("same-origin"),
            Some(origin) => origin == self.0,
            None => false,
        }
    }
}

/// The browser that sent the cookies, if the page has given it an ID.
pub(super) fn browser(cookies: &[String]) -> Option<BrowserId> {
    BrowserId::parse(cookie(cookies, BROWSER_COOKIE)?).ok()
}

fn cookie<'a>(cookies: &'a [String], name: &str) -> Option<&'a str> {
    let value = |cookie: &'a String| {
        let (own, value) = cookie.split_once('=')?;
        (own.trim() == name).then(|| value.trim())
    };
    cookies.iter().find_map(value)
}

impl ResetLink {
    /// Cookie value `{tenant}.{user}.{code}`, user and code in base64url. It names the tenant, because all tenants
    /// share the host and its cookie.
    pub(super) fn to_cookie(&self, tenant: &TenantId) -> String {
        let user = URL_SAFE_NO_PAD.encode(self.user.as_str());
        let code = URL_SAFE_NO_PAD.encode(self.code.as_ref().map_or("", Code::expose));
        format!("{tenant}.{user}.{code}")
    }

    /// The link that this browser followed to the tenant's page.
    pub(super) fn from_cookies(cookies: &[String], tenant: &TenantId) -> Option<Self> {
        let value = cookie(cookies, COOKIE)?;
        let (user, code) = value.strip_prefix(tenant.as_str())?.strip_prefix('.')?.split_once('.')?;
        let text = |part: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        let code = text(code)?;
        Some(Self {
            user: UserId::parse(&text(user)?).ok()?,
            code: if code.is_empty() { None } else { Some(Code::parse(&code).ok()?) },
        })
    }
}

/// The page that a GET request asks for.
#[derive(Debug)]
pub(super) enum Wanted {
    /// The form of a link; `None` when that is incomplete.
    Link(Option<ResetLink>),
    /// The confirmation of a success.
    Done,
    /// The form of the link that the cookie holds.
    Form,
}

pub(super) fn wanted(query: &str) -> Wanted {
    if query == DONE {
        return Wanted::Done;
    }
    let Some(pairs) = Pairs::read(query) else {
        return Wanted::Link(None);
    };
    match (pairs.one("userId"), pairs.one("code")) {
        (Ok(None), Ok(None)) => Wanted::Form,
        (Ok(Some(user)), Ok(code)) => Wanted::Link(link(user, code)),
        _ => Wanted::Link(None),
    }
}

fn link(user: &str, code: Option<&str>) -> Option<ResetLink> {
    Some(ResetLink { user: UserId::parse(user).ok()?, code: code.map(Code::parse).transpose().ok()? })
}

/// Fields of the form; a missing field is empty.
pub(super) struct PasswordForm {
    pub(super) token: SecretString,
    pub(super) code: String,
    pub(super) password: SecretString,
    pub(super) repeated: SecretString,
}

/// # Errors
/// `UnsupportedMediaType`, `PayloadTooLarge`, or `Malformed` for a body that no browser sends.
pub(super) fn form(request: &HttpRequest) -> Result<PasswordForm, Failure> {
    request.check_body()?;
    if request.content_type().as_deref() != Some("application/x-www-form-urlencoded") {
        return Err(Failure::UnsupportedMediaType);
    }
    let malformed = || Failure::Malformed("The body is not a UTF-8 form");
    let pairs = std::str::from_utf8(&request.body).ok().and_then(Pairs::read).ok_or_else(malformed)?;
    let twice = |Twice| Failure::Malformed("The form has a field more than once");
    let text = |name| pairs.one(name).map(Option::unwrap_or_default).map_err(twice);
    Ok(PasswordForm {
        token: text("token")?.into(),
        code: text("code")?.to_owned(),
        password: text("password")?.into(),
        repeated: text("repeated")?.into(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;
    use crate::dialect::tests::request;

    fn tenant(id: &str) -> TenantId {
        TenantId::parse(id).unwrap()
    }

    fn posted(body: &[u8]) -> Result<PasswordForm, Failure> {
        form(&request(&[("content-type", "application/x-www-form-urlencoded; charset=UTF-8")], body))
    }

    fn followed(query: &str) -> Option<ResetLink> {
        match wanted(query) {
            Wanted::Link(link) => link,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn links_are_read() {
        let link = followed("userId=a%2Fb%26c+%C3%A9&code=ABCDEFGHJKLMNPQRSTUV&x=%zz").unwrap();
        assert_eq!(link.user.as_str(), "a/b&c é");
        assert_eq!(link.code.unwrap().expose(), "ABCDEFGHJKLMNPQRSTUV");
        assert!(followed("userId=u").unwrap().code.is_none());
        for incomplete in
            ["code=A", "userId=&code=A", "userId=u&userId=v&code=A", "userId=%ff&code=A", "userId=u&code="]
        {
            assert!(followed(incomplete).is_none(), "{incomplete}");
        }
        assert!(matches!(wanted(""), Wanted::Form) && matches!(wanted("utm=1"), Wanted::Form));
        assert!(matches!(wanted("done=1"), Wanted::Done));
    }

    // docs/design/security.md#rule-20
    #[test]
    fn a_cookie_opens_its_own_tenants_form_alone() {
        let link = followed("userId=u.v%3B&code=ABCDEFGH").unwrap();
        let cookie = format!("{COOKIE}={}", link.to_cookie(&tenant("t")));
        let cookies = ["other=1".to_owned(), cookie];
        let read = ResetLink::from_cookies(&cookies, &tenant("t")).unwrap();
        assert_eq!((read.user.as_str(), read.code.unwrap().expose()), ("u.v;", "ABCDEFGH"));
        for other in ["T", "t2", "tt"] {
            assert!(ResetLink::from_cookies(&cookies, &tenant(other)).is_none(), "{other}");
        }
        assert!(ResetLink::from_cookies(&[], &tenant("t")).is_none());
    }

    #[test]
    fn forms_are_read_strictly() {
        let form = posted(b"token=t&code=+ab-cd+ef%20gh&password=a%2Bb+c%C3%A9&repeated=").unwrap();
        assert_eq!(form.code, " ab-cd ef gh");
        assert_eq!((form.token.expose_secret(), form.password.expose_secret()), ("t", "a+b cé"));
        assert_eq!(posted(b"").unwrap().password.expose_secret(), "");
        for bad in [&b"password=%ff"[..], b"password=\xff", b"password=a&password=b"] {
            assert!(matches!(posted(bad), Err(Failure::Malformed(_))), "{bad:?}");
        }
        assert!(matches!(form_of_type("application/json"), Err(Failure::UnsupportedMediaType)));
        let large = vec![b'a'; crate::dialect::MAX_BODY_BYTES + 1];
        assert!(matches!(posted(&large), Err(Failure::PayloadTooLarge)));
    }

    fn form_of_type(kind: &str) -> Result<PasswordForm, Failure> {
        form(&request(&[("content-type", kind)], b"{}"))
    }

    #[test]
    fn only_our_own_pages_send_forms() {
        let own = PageOrigin::of("https://login.example.com/").unwrap();
        let sent = |headers: &[(&str, &str)]| own.sent(&request(headers, b""));
        assert!(sent(&[("origin", "https://login.example.com")]));
        assert!(sent(&[("origin", "null"), ("sec-fetch-site", "same-origin")]));
        for foreign in [
            "http://login.example.com",
            "https://login.example.com:8443",
            "https://example.com",
            "https://login.example.com, https://evil.example",
            "null",
            "",
        ] {
            assert!(!sent(&[("origin", foreign)]), "{foreign}");
        }
        for site in ["same-site", "cross-site", "none"] {
            assert!(!sent(&[("origin", "null"), ("sec-fetch-site", site)]), "{site}");
        }
        assert!(!sent(&[]) && !sent(&[("sec-fetch-site", "same-origin")]));
        assert_eq!(PageOrigin::of("http://127.0.0.1:9000/").unwrap().0, "http://127.0.0.1:9000");
        for bad in ["", "login.example.com", "data:text/html,x", "ftp://example.com"] {
            assert!(PageOrigin::of(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        // docs/design/security.md#rule-23: every input is read or rejected.
        #[test]
        fn no_query_cookie_or_form_is_our_fault(
            text in "(userId=|code=|password=|&|%|[A-Za-z0-9._=+-]|\\PC){0,60}",
            body in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = wanted(&text);
            let cookies = [text.clone(), format!("{COOKIE}={text}"), format!("{BROWSER_COOKIE}={text}")];
            let _ = (ResetLink::from_cookies(&cookies, &tenant("t")), browser(&cookies));
            for body in [text.as_bytes(), &body] {
                match posted(body) {
                    Ok(_) | Err(Failure::Malformed(_)) => {}
                    Err(other) => prop_assert!(false, "{other}"),
                }
            }
        }

        #[test]
        fn what_a_link_said_survives_the_cookie(user in "[^\\p{Cc}]{1,200}", code in "[^\\p{Cc}\\s-]{1,20}") {
            prop_assume!(user.len() <= 512);
            let encode = |text: &str| {
                percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
            };
            let link = followed(&format!("userId={}&code={}", encode(&user), encode(&code))).unwrap();
            let value = link.to_cookie(&tenant("t-1_"));
            prop_assert!(value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)));
            prop_assert!(value.len() < 2_000);
            let read = ResetLink::from_cookies(&[format!("{COOKIE}={value}")], &tenant("t-1_")).unwrap();
            prop_assert_eq!(read.user.as_str(), user.as_str());
            let code_read = read.code.unwrap();
            prop_assert_eq!(code_read.expose(), code.to_ascii_uppercase());
        }
    }
}
