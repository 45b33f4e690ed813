//! The hosted page where a person sets a new password (docs/design/contract.md#public-documents).
//!
//! A link's GET consumes nothing: what it says moves into a cookie, and the address is clean. The
//! form works without scripts; what it sends is taken only from this origin and with a token that
//! came with a form for the same link.

mod parse;
mod render;
mod texts;

use http::StatusCode;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use self::{
    parse::{Form, Link, Wanted},
    render::{FormView, View},
    texts::{Language, Wrong},
};
use super::{Call, HttpRequest, Reply, ReplyBody};
use crate::{
    domain::{Code, Failure, FieldError, Password, TenantId, matches},
    route::Page,
    telemetry,
    usecase::{Service, password_page::PasswordPage, set_password},
};

pub use parse::Origin;

/// Answers a call of one of this dialect's endpoints. `origin` is where people reach the page; without
/// it no form is taken.
///
/// # Errors
/// What ends before the tenant is known; after that, failures are told in its name.
pub async fn answer(call: &Call<'_>, endpoint: Page, origin: Option<&Origin>) -> Result<Reply, Failure> {
    let Call { service, matched, request, now } = *call;
    let named = matched.parameters.iter().find(|(name, _)| name == "tenantId");
    let tenant = named.and_then(|(_, id)| TenantId::parse(id).ok()).ok_or(Failure::RouteNotFound)?;
    telemetry::tenant(&tenant);
    let page = service.password_page(&tenant, now).await?;
    let view = View { language: language(request, page.locale()), tenant: Some(page.name()) };
    let asked = Asked { service, page: &page, view, request, now };
    let answered = match endpoint {
        Page::Show => asked.show(),
        Page::Submit => asked.submit(origin).await,
    };
    Ok(answered.unwrap_or_else(|failure| told(view.failure(&failure, now), failure)))
}

/// A failure in this dialect's words, where no tenant is known to tell it.
pub fn failure(failure: &Failure, request: &HttpRequest, now: Timestamp) -> Reply {
    View { language: language(request, ""), tenant: None }.failure(failure, now)
}

fn language(request: &HttpRequest, locale: &str) -> Language {
    Language::choose(request.header("Accept-Language").as_deref(), locale)
}

fn told(reply: Reply, failure: Failure) -> Reply {
    Reply { failure: Some(failure), ..reply }
}

/// One request to a tenant's page.
struct Asked<'a> {
    service: &'a Service,
    page: &'a PasswordPage,
    view: View<'a>,
    request: &'a HttpRequest,
    now: Timestamp,
}

impl Asked<'_> {
    fn show(&self) -> Result<Reply, Failure> {
        let tenant = self.page.tenant();
        match parse::wanted(&self.request.query) {
            Wanted::Link(link) => Ok(render::to_clean_url(link.map(|link| link.to_cookie(tenant)))),
            Wanted::Done => Ok(self.view.done()),
            Wanted::Form => match Link::from_cookies(&self.request.cookies, tenant) {
                Some(link) => self.form(&link, Vec::new()),
                None => Ok(self.view.no_link(StatusCode::OK)),
            },
        }
    }

    async fn submit(&self, origin: Option<&Origin>) -> Result<Reply, Failure> {
        let form = parse::form(self.request)?;
        if !origin.is_some_and(|origin| origin.sent(self.request)) {
            return Err(Failure::Forbidden);
        }
        let Some(link) = Link::from_cookies(&self.request.cookies, self.page.tenant()) else {
            let failure = Failure::field("cookie", "is missing");
            return Ok(told(self.view.no_link(StatusCode::BAD_REQUEST), failure));
        };
        let bound_to = (&link.user, link.code.as_ref());
        self.service.check_form(self.page, &form.token, bound_to, self.now).await?;
        let command = match self.command(&link, form) {
            Ok(command) => command,
            Err(wrong) => {
                let errors = wrong.iter().map(|(field, _)| FieldError::new(*field, "is not valid"));
                let failure = Failure::Validation(errors.collect());
                return Ok(told(self.form(&link, wrong)?, failure));
            }
        };
        match self.service.set_password(command, self.now).await {
            Ok(_) => render::to_done(),
            Err(Failure::PasswordPolicy(errors)) => {
                let rules = errors.iter().map(|error| ("password", Wrong::Rule(error.message.to_string())));
                let again = self.form(&link, rules.collect())?;
                Ok(told(again, Failure::PasswordPolicy(errors)))
            }
            Err(Failure::InvalidCode) if link.code.is_none() => {
                let again = self.form(&link, vec![("code", Wrong::Code)])?;
                Ok(told(again, Failure::InvalidCode))
            }
            Err(failure) => Err(failure),
        }
    }

    /// What the form asks for, or everything that is wrong with it.
    fn command(&self, link: &Link, form: Form) -> Result<set_password::Command, Vec<(&'static str, Wrong)>> {
        let mut wrong = Vec::new();
        let code = match &link.code {
            Some(code) => Some(code.clone()),
            None if form.code.is_empty() => {
                wrong.push(("code", Wrong::NoCode));
                None
            }
            None => Code::parse(&form.code).map_err(|_| wrong.push(("code", Wrong::Code))).ok(),
        };
        let password = Password::parse(form.password.expose_secret()).ok();
        if form.password.expose_secret().is_empty() {
            wrong.push(("password", Wrong::NoPassword));
        } else if password.is_none() {
            wrong.push(("password", Wrong::TooLong));
        } else if !matches(&form.password, &form.repeated) {
            wrong.push(("repeated", Wrong::Differs));
        }
        match (code, password) {
            (Some(code), Some(password)) if wrong.is_empty() => Ok(set_password::Command {
                tenant: Some(self.page.tenant().clone()),
                user: link.user.clone(),
                code,
                password: (password, "password"),
                submission: Some(form.token),
                ip: self.request.ip.clone(),
            }),
            _ => Err(wrong),
        }
    }

    fn form(&self, link: &Link, wrong: Vec<(&'static str, Wrong)>) -> Result<Reply, Failure> {
        let token: SecretString = self.service.form_token(self.page, &link.user, link.code.as_ref())?;
        self.view.form(&FormView {
            token: &token,
            asks_code: link.code.is_none(),
            min_length: self.page.min_length(),
            wrong,
        })
    }
}
