//! Renders the hosted page from templates. The template engine escapes tenant names and all other values.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use minijinja::{Environment, Value, context, value::Serde};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::{
    Reply, ReplyBody,
    parse::{BROWSER_COOKIE, COOKIE, DONE},
    texts::{Language, Notice, Wrong},
};
use crate::{dialect::failure::status, domain::Failure, token::BrowserId};

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = include_str!("page.css");
/// Life of the cookie, in seconds.
const COOKIE_LIFE_SECONDS: u32 = 15 * 60;
/// Relative URL of the page. It is correct under every host and stage.
const CLEAN_URL: &str = "change";

static TEMPLATES: LazyLock<Result<Environment<'static>, minijinja::Error>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    templates.set_undefined_behavior(minijinja::UndefinedBehavior::SemiStrict);
    templates.add_template("layout.html", include_str!("layout.html"))?;
    templates.add_template("form.html", include_str!("form.html"))?;
    templates.add_template("notice.html", include_str!("notice.html"))?;
    Ok(templates)
});

/// No script, no image, no frame, nothing from elsewhere: the style in the page, and its form
/// (docs/design/contract.md#public-documents).
static CONTENT_POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let style = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    );
    HeaderValue::try_from(policy).ok()
});

/// Language and tenant of a page; the tenant may be unknown.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) language: Language,
    pub(super) tenant: Option<&'a str>,
}

/// Content of the form, with the faults of the last submission.
#[derive(Debug)]
pub(super) struct FormView<'a> {
    pub(super) token: &'a SecretString,
    /// Masked username, if the code is known to be right.
    pub(super) account: Option<&'a str>,
    pub(super) asks_code: bool,
    pub(super) min_length: usize,
    /// By the field's name.
    pub(super) wrong: Vec<(&'static str, Wrong)>,
}

#[derive(Serialize)]
struct Field {
    name: &'static str,
    label: &'static str,
    kind: &'static str,
    autocomplete: &'static str,
    hint: Option<String>,
    errors: Vec<String>,
    described_by: String,
    focus: bool,
}

impl View<'_> {
    /// The form, as new or with what was wrong with it. No password is ever sent back.
    pub(super) fn form(&self, form: &FormView<'_>) -> Result<Reply, Failure> {
        let words = self.language.words();
        let mut fields = Vec::new();
        if form.asks_code {
            let hint = Some(words.code_hint.to_owned());
            fields.push(self.field(form, ("code", words.code), ("text", "one-time-code"), hint));
        }
        let secret = ("password", "new-password");
        let hint = Some(self.language.password_hint(form.min_length));
        fields.push(self.field(form, ("password", words.password), secret, hint));
        fields.push(self.field(form, ("repeated", words.repeated), secret, None));
        if let Some(first) = fields.iter_mut().find(|field| !field.errors.is_empty()) {
            first.focus = true;
        }
        let context = context! {
            title => words.title,
            words => Serde(words),
            account => form.account,
            fields => Serde(fields),
            wrong => !form.wrong.is_empty(),
            token => form.token.expose_secret(),
            ..self.context()
        };
        let status = if form.wrong.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        Ok(page(status, render("form.html", context)?))
    }

    fn field(
        &self,
        form: &FormView<'_>,
        (name, label): (&'static str, &'static str),
        (kind, autocomplete): (&'static str, &'static str),
        hint: Option<String>,
    ) -> Field {
        let own = form.wrong.iter().filter(|(field, _)| *field == name);
        let errors: Vec<_> = own.map(|(_, wrong)| self.language.wrong(wrong)).collect();
        let parts = [("hint", hint.is_some()), ("error", !errors.is_empty())];
        let parts = parts.into_iter().filter(|(_, there)| *there).map(|(part, _)| format!("{name}-{part}"));
        let described_by = parts.collect::<Vec<_>>().join(" ");
        Field { name, label, kind, autocomplete, hint, errors, described_by, focus: false }
    }

    /// That it was done. The link is forgotten here and not before: until this page is there, the
    /// button may be pressed again.
    pub(super) fn done(&self) -> Reply {
        let mut reply = self.notice(StatusCode::OK, Notice::Done);
        reply.cookies.push(forgotten());
        reply
    }

    /// What to do without a link.
    pub(super) fn no_link(&self, status: StatusCode) -> Reply {
        self.notice(status, Notice::OpenTheLink)
    }

    /// A failure.
    pub(super) fn failure(&self, failure: &Failure, now: Timestamp) -> Reply {
        let reply = self.notice(status(failure), notice_of(failure));
        let mut reply = reply.with_failure_headers(failure, now);
        if matches!(failure, Failure::InvalidCode) {
            reply.cookies.push(forgotten());
        }
        reply
    }

    fn notice(&self, status: StatusCode, notice: Notice) -> Reply {
        let (title, text) = self.language.notice(notice);
        let back = notice.leads_back().then_some(self.language.words().back);
        let html = render("notice.html", context! { title, text, back, ..self.context() });
        // Nothing in it needs escaping: it is all ours.
        page(status, html.unwrap_or_else(|_| format!("<!doctype html><title>{title}</title><p>{text}</p>")))
    }

    fn context(&self) -> Value {
        context! {
            language => self.language.tag(),
            tenant => self.tenant,
            style => Value::from_safe_string(STYLE.to_owned()),
        }
    }
}

/// To the form without code in its address, or to what it led to.
pub(super) fn to_clean_url(cookie: Option<String>) -> Reply {
    let mut reply = redirect(HeaderValue::from_static(CLEAN_URL));
    reply.cookies.push(cookie.map_or_else(forgotten, |value| set_cookie(&value, COOKIE_LIFE_SECONDS)));
    reply
}

/// To the page that says that it was done.
pub(super) fn to_done() -> Result<Reply, Failure> {
    let location = HeaderValue::try_from(format!("{CLEAN_URL}?{DONE}"));
    Ok(redirect(location.map_err(|error| Failure::Internal(error.into()))?))
}

fn redirect(location: HeaderValue) -> Reply {
    let mut reply = protected(Reply::new(StatusCode::SEE_OTHER, ReplyBody::Empty));
    reply.headers.insert(header::LOCATION, location);
    reply
}

/// Sets the cookie of the browser, until the browser closes. It stays the same for all forms, because a new one would
/// invalidate the forms in progress. `Lax`: without the cookie, a link opened in webmail would set a new one.
pub(super) fn browser_cookie(browser: &BrowserId) -> String {
    format!("{BROWSER_COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Lax", browser.expose())
}

/// `Lax`: a `Strict` cookie would not follow the redirect of a link opened in webmail.
fn set_cookie(value: &str, seconds: u32) -> String {
    format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax")
}

fn forgotten() -> String {
    set_cookie("", 0)
}

fn notice_of(failure: &Failure) -> Notice {
    match failure {
        Failure::Malformed(_)
        | Failure::Validation(_)
        | Failure::PasswordPolicy(_)
        | Failure::PayloadTooLarge
        | Failure::UnsupportedMediaType => Notice::Unreadable,
        Failure::InvalidCode => Notice::LinkDead,
        Failure::Forbidden(_) => Notice::Stale,
        Failure::TenantSuspended => Notice::Suspended,
        Failure::IpNotAllowed => Notice::WrongNetwork,
        Failure::RouteNotFound | Failure::UserNotFound | Failure::SessionNotFound => Notice::NotFound,
        Failure::RateLimited(..) => Notice::TooMany,
        Failure::Unavailable(_) => Notice::Unavailable,
        Failure::Internal(_) => Notice::Broken,
        _ => Notice::Refused,
    }
}

fn render(name: &str, context: Value) -> Result<String, Failure> {
    let templates = TEMPLATES.as_ref().map_err(|error| Failure::Internal(error.to_string().into()))?;
    let html = templates.get_template(name).and_then(|template| template.render(context));
    html.map_err(|error| Failure::Internal(error.into()))
}

fn page(status: StatusCode, html: String) -> Reply {
    protected(Reply::new(status, ReplyBody::Text(HTML, html)))
}

fn protected(mut reply: Reply) -> Reply {
    let policy = CONTENT_POLICY.clone();
    let policy = policy.unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    let fixed = HeaderValue::from_static;
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, fixed("no-referrer")),
        (header::X_FRAME_OPTIONS, fixed("DENY")),
        (HeaderName::from_static("cross-origin-opener-policy"), fixed("same-origin")),
    ] {
        reply.headers.insert(name, value);
    }
    reply
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{Denial, Limit};

    const VIEW: View<'_> = View { language: Language::English, tenant: Some("A & B") };

    fn html(reply: &Reply) -> &str {
        match &reply.body {
            ReplyBody::Text(HTML, html) => html,
            _ => panic!("no page"),
        }
    }

    fn form(wrong: Vec<(&'static str, Wrong)>) -> Reply {
        let token = SecretString::from("a token");
        VIEW.form(&FormView {
            token: &token, account: Some("<m…n>"), asks_code: true, min_length: 15, wrong
        })
        .unwrap()
    }

    #[test]
    fn the_style_is_the_one_that_the_policy_names() {
        let reply = form(Vec::new());
        let style = html(&reply).split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
        assert_eq!(style, STYLE);
        let policy = reply.headers.get(header::CONTENT_SECURITY_POLICY).unwrap().to_str().unwrap();
        let hash = STANDARD.encode(digest(&SHA256, style.as_bytes()));
        assert!(policy.contains(&format!("style-src 'sha256-{hash}'")), "{policy}");
        for rule in ["default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
        {
            assert!(policy.contains(rule), "{policy}");
        }
        // Nothing that the policy would keep out, and nothing from elsewhere.
        for text in ["<script", "style=", "<img", "<link", "onclick", "http:", "https:", "url("] {
            assert!(!html(&reply).contains(text), "{text}");
        }
    }

    #[test]
    fn every_input_has_a_label_and_every_reference_a_target() {
        for reply in [
            form(Vec::new()),
            form(vec![("code", Wrong::NoCode), ("password", Wrong::TooLong), ("repeated", Wrong::Differs)]),
        ] {
            let html = html(&reply);
            for name in ["code", "password", "repeated"] {
                assert!(html.contains(&format!("<label for=\"{name}\">")), "{html}");
                assert!(html.contains(&format!("<input id=\"{name}\" name=\"{name}\"")), "{html}");
            }
            for described in html.split("aria-describedby=\"").skip(1) {
                for id in described.split('"').next().unwrap().split(' ') {
                    assert!(html.contains(&format!(" id=\"{id}\"")), "{id}");
                }
            }
            assert!(html.contains("<html lang=\"en\">") && html.contains("A &amp; B"), "{html}");
            assert!(html.contains("<strong><bdi>&lt;m…n&gt;</bdi></strong>"), "{html}");
        }
    }

    #[test]
    fn every_protection_is_on_every_answer() {
        for reply in [form(Vec::new()), VIEW.done(), to_clean_url(None), to_done().unwrap()] {
            let header = |name: &str| reply.headers.get(name).unwrap().to_str().unwrap();
            assert_eq!(header("referrer-policy"), "no-referrer");
            assert_eq!(header("x-frame-options"), "DENY");
            assert_eq!(header("cross-origin-opener-policy"), "same-origin");
            assert!(header("content-security-policy").starts_with("default-src 'none'; style-src"));
        }
    }

    // A cause goes to the log, never to the person.
    #[test]
    fn failures_are_pages_without_causes() {
        for (failure, status, retry_after) in [
            (Failure::Unavailable("secret cause".into()), 503, Some("2")),
            (Failure::Internal("secret cause".into()), 500, None),
            (Failure::RateLimited(Limit::Address, Duration::from_secs(60)), 429, Some("60")),
            (Failure::Malformed("why"), 400, None),
            (Failure::PayloadTooLarge, 413, None),
            (Failure::UnsupportedMediaType, 415, None),
            (Failure::RouteNotFound, 404, None),
            (Failure::InvalidCode, 400, None),
            (Failure::Forbidden(Denial::FormToken), 403, None),
        ] {
            for language in [Language::English, Language::German] {
                let reply = View { language, tenant: None }.failure(&failure, Timestamp::UNIX_EPOCH);
                assert_eq!(reply.status, status, "{failure}");
                let wait = reply.headers.get(header::RETRY_AFTER).map(|value| value.to_str().unwrap());
                assert_eq!(wait, retry_after, "{failure}");
                assert!(!html(&reply).contains("secret cause"), "{failure}");
                assert!(html(&reply).contains("<h1>") && html(&reply).contains(language.tag()));
            }
        }
    }
}
