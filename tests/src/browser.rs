//! A browser that visits the hosted password page.

use anyhow::{Context, Result};
use doorward::route::Function;
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::{Answer, World, event};

/// Name of the cookie that holds the parameters of a link.
pub const LINK_COOKIE: &str = "__Host-doorward-reset";
/// Name of the cookie that identifies the browser.
pub const BROWSER_COOKIE: &str = "__Host-doorward-browser";

/// A browser without scripts, on the hosted page of one tenant.
#[derive(Debug, Clone, Default)]
pub struct Visitor {
    /// The page's path.
    pub path: String,
    /// Cookies, `name=value` each.
    pub cookies: Vec<String>,
    /// Further request headers. The default is what a browser sends under `no-referrer`.
    pub headers: Vec<(&'static str, String)>,
}

impl Visitor {
    /// A browser that has not visited the tenant's page yet.
    pub fn new(tenant: &str) -> Self {
        let headers = [("origin", "null"), ("sec-fetch-site", "same-origin")];
        Self {
            path: format!("/tenants/{tenant}/password/change"),
            cookies: Vec::new(),
            headers: headers.map(|(name, value)| (name, value.to_owned())).into(),
        }
    }

    /// Opens the page with this query string.
    ///
    /// # Errors
    /// As [`World::send`].
    pub async fn open(&mut self, world: &World, query: &str) -> Result<Answer> {
        self.send(world, &Method::GET, query, None).await
    }

    /// Submits the form.
    ///
    /// # Errors
    /// As [`World::send`].
    pub async fn submit(&mut self, world: &World, fields: &[(&str, &str)]) -> Result<Answer> {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let fields = fields.iter().map(|(name, value)| format!("{name}={}", encode(value)));
        self.send(world, &Method::POST, "", Some(fields.collect::<Vec<_>>().join("&"))).await
    }

    /// Follows a reset link to the form and returns the form's token.
    ///
    /// # Errors
    /// The page does not show the form.
    pub async fn follow(&mut self, world: &World, user: &str, code: Option<&str>) -> Result<String> {
        let user = utf8_percent_encode(user, NON_ALPHANUMERIC);
        let code = code.map_or_else(String::new, |code| format!("&code={code}"));
        self.open(world, &format!("userId={user}{code}")).await?;
        let form = self.open(world, "").await?;
        token_of(&form).map(str::to_owned)
    }

    async fn send(
        &mut self,
        world: &World,
        method: &Method,
        query: &str,
        body: Option<String>,
    ) -> Result<Answer> {
        let mut event = event(method, &self.path, "", None, None);
        event["rawQueryString"] = json!(query);
        event["cookies"] = json!(self.cookies);
        let mut headers = json!({ "user-agent": "e2e/1.0" });
        if body.is_some() {
            headers["content-type"] = json!("application/x-www-form-urlencoded");
        }
        for (name, value) in &self.headers {
            headers[*name] = json!(value);
        }
        event["headers"] = headers;
        event["body"] = json!(body);
        let answer = world.send(Function::PasswordPage, &event.to_string()).await?;
        for set in &answer.cookies {
            self.keep(set);
        }
        Ok(answer)
    }

    /// The cookie of this name, `name=value`.
    pub fn cookie(&self, name: &str) -> Option<&String> {
        self.cookies.iter().find(|cookie| is_named(cookie, name))
    }

    /// Stores or deletes a cookie, as its `Set-Cookie` value requires.
    fn keep(&mut self, set: &str) {
        let cookie = set.split(';').next().unwrap_or_default();
        let name = cookie.split('=').next().unwrap_or_default();
        self.cookies.retain(|known| !is_named(known, name));
        if !cookie.ends_with('=') {
            self.cookies.push(cookie.to_owned());
        }
    }
}

fn is_named(cookie: &str, name: &str) -> bool {
    cookie.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))
}

/// The token of the form on a page.
///
/// # Errors
/// The page does not show the form.
pub fn token_of(page: &Answer) -> Result<&str> {
    let token = page.text.split_once("name=\"token\" value=\"").and_then(|(_, rest)| rest.split_once('"'));
    Ok(token.with_context(|| format!("the page does not show the form: {}", page.text))?.0)
}
