//! The hosted page where a person sets a new password (docs/design/contract.md#public-documents).
//!
//! Opening a link spends nothing: its parameters move into a cookie, so that the address holds no code. The page
//! checks the code of a link before it shows the form. The form works without scripts. A submission is accepted only
//! from the page's own origin, from the browser that opened the form, and before the form expires. The form's token
//! contains the user and the code, so that another link does not change a form in progress.

mod parse;
mod render;
mod texts;

use http::StatusCode;
use jiff::Timestamp;
use secrecy::ExposeSecret;

use self::{
    parse::{PasswordForm, Wanted},
    render::{FormView, View},
    texts::{Language, Wrong},
};
use super::{Call, CrossOrigin, Dialect, HttpRequest, Reply, ReplyBody};
use crate::{
    domain::{Code, Denial, Failure, FieldError, Password, ResetLink, matches},
    usecase::{password_page::PasswordPage, set_password},
};

pub use parse::PageOrigin;

/// The hosted page.
pub(crate) static PAGE: Dialect =
    Dialect { name: "page", cross_origin: CrossOrigin::Nobody, is_audited: true, failure: self::failure };

/// Handles `GET /tenants/{tenantId}/password/change`.
///
/// # Errors
/// `RouteNotFound` for an unknown tenant; `Unavailable`. Later failures are rendered in the tenant's name.
pub(crate) async fn show(call: &Call<'_>) -> Result<Reply, Failure> {
    let page = tenant_page(call).await?;
    let visit = Visit::new(call, &page);
    Ok(visit.show().await.unwrap_or_else(|failure| visit.failure(failure)))
}

/// Handles `POST /tenants/{tenantId}/password/change`. Without a public address, every form is rejected.
///
/// # Errors
/// As [`show`].
pub(crate) async fn submit(call: &Call<'_>) -> Result<Reply, Failure> {
    let page = tenant_page(call).await?;
    let visit = Visit::new(call, &page);
    Ok(visit.submit().await.unwrap_or_else(|failure| visit.failure(failure)))
}

/// The page of the tenant in the path.
async fn tenant_page(call: &Call<'_>) -> Result<PasswordPage, Failure> {
    call.service.password_page(&call.request.path_tenant()?, call.context).await
}

/// Renders a failure before the tenant is known.
fn failure(failure: &Failure, request: &HttpRequest, now: Timestamp) -> Reply {
    View { language: language(request, ""), tenant: None }.failure(failure, now)
}

fn language(request: &HttpRequest, locale: &str) -> Language {
    Language::choose(request.header("Accept-Language").as_deref(), locale)
}

/// One request to a tenant's page.
struct Visit<'a> {
    call: &'a Call<'a>,
    page: &'a PasswordPage,
    view: View<'a>,
}

impl<'a> Visit<'a> {
    fn new(call: &'a Call<'_>, page: &'a PasswordPage) -> Self {
        let view = View { language: language(call.request, page.locale()), tenant: Some(page.name()) };
        Self { call, page, view }
    }

    fn failure(&self, failure: Failure) -> Reply {
        self.view.failure(&failure, self.call.context.now).with_failure(failure)
    }

    async fn show(&self) -> Result<Reply, Failure> {
        let tenant = self.page.tenant();
        match parse::wanted(&self.call.request.query) {
            Wanted::Link(link) => Ok(render::to_clean_url(link.map(|link| link.to_cookie(tenant)))),
            Wanted::Done => Ok(self.view.done()),
            Wanted::Form => match ResetLink::from_cookies(&self.call.request.cookies, tenant) {
                Some(link) => self.form_of(&link, Vec::new()).await,
                None => Ok(self.view.no_link(StatusCode::OK)),
            },
        }
    }

    async fn submit(&self) -> Result<Reply, Failure> {
        let form = parse::form(self.call.request)?;
        let origin = self.call.site.map(|site| &site.page_origin);
        if !origin.is_some_and(|origin| origin.sent(self.call.request)) {
            return Err(Failure::Forbidden(Denial::Origin));
        }
        let Some(browser) = parse::browser(&self.call.request.cookies) else {
            let failure = Failure::field("cookie", "is missing");
            return Ok(self.view.no_link(StatusCode::BAD_REQUEST).with_failure(failure));
        };
        let link = self.page.open_form(&form.token, &browser, self.call.context.now)?;
        let command = match self.command(&link, form) {
            Ok(command) => command,
            Err(wrong) => {
                let errors = wrong.iter().map(|(field, _)| FieldError::new(*field, "is not valid"));
                let failure = Failure::Validation(errors.collect());
                return Ok(self.form_of(&link, wrong).await?.with_failure(failure));
            }
        };
        match self.call.service.set_password(command, self.call.context).await {
            Ok(_) => render::to_done(),
            Err(Failure::PasswordPolicy(errors)) => {
                let rules = errors.iter().map(|error| ("password", Wrong::Rule(error.message.to_string())));
                // The code was right.
                let account = self.call.service.masked_username(self.page, &link.user).await?;
                let again = self.form(&link, account.as_deref(), rules.collect())?;
                Ok(again.with_failure(Failure::PasswordPolicy(errors)))
            }
            Err(Failure::InvalidCode) if link.code.is_none() => {
                let again = self.form(&link, None, vec![("code", Wrong::Code)])?;
                Ok(again.with_failure(Failure::InvalidCode))
            }
            Err(failure) => Err(failure),
        }
    }

    /// The command of a submitted form, or all of its faults.
    fn command(
        &self,
        link: &ResetLink,
        form: PasswordForm,
    ) -> Result<set_password::Command, Vec<(&'static str, Wrong)>> {
        let mut wrong = Vec::new();
        let code = match &link.code {
            Some(code) => Some(code.clone()),
            None if form.code.trim().is_empty() => {
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
                bearer: None,
                user: link.user.clone(),
                code,
                password: (password, "password"),
                submission: Some(form.token),
                ip: self.call.request.ip.clone(),
            }),
            _ => Err(wrong),
        }
    }

    /// The form, after the check of the link.
    async fn form_of(&self, link: &ResetLink, wrong: Vec<(&'static str, Wrong)>) -> Result<Reply, Failure> {
        let Call { service, context, request, .. } = self.call;
        let account = service.check_link(self.page, link, &request.ip, context).await?;
        self.form(link, account.as_deref(), wrong)
    }

    /// The form. `account` is the masked username of a right code.
    fn form(
        &self,
        link: &ResetLink,
        account: Option<&str>,
        wrong: Vec<(&'static str, Wrong)>,
    ) -> Result<Reply, Failure> {
        let Call { service, context, request, .. } = self.call;
        let known = parse::browser(&request.cookies);
        let is_known = known.is_some();
        let browser = known.map_or_else(|| service.new_browser(), Ok)?;
        let token = service.form_token(self.page, link, &browser, context.now)?;
        let mut reply = self.view.form(&FormView {
            token: &token,
            account,
            asks_code: link.code.is_none(),
            min_length: self.page.min_length(),
            wrong,
        })?;
        if !is_known {
            reply.cookies.push(render::browser_cookie(&browser));
        }
        Ok(reply)
    }
}
