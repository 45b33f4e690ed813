//! Requests over real HTTP, as a backend sends them, with printed results.

#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "tests, and their output")]

use std::collections::HashSet;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::{
    Method, Request,
    header::{CONTENT_TYPE, HOST},
};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{Actor, Answer, Login, find_actor};

/// A running Doorward and an HTTP client.
#[derive(Clone)]
pub struct Server {
    /// `http://127.0.0.1:PORT`.
    url: String,
    /// Value of the `Host` header, if it differs from the address.
    host: Option<String>,
    /// The tenants whose users send the requests.
    tenants: Vec<local::stack::Tenant>,
    http: Client<HttpConnector, Full<Bytes>>,
}

impl Server {
    /// A server at this address.
    pub fn new(url: impl Into<String>, tenants: Vec<local::stack::Tenant>) -> Self {
        let http = Client::builder(TokioExecutor::new()).build_http();
        Self { url: url.into(), host: None, tenants, http }
    }

    /// The same server with another `Host` header.
    #[must_use]
    pub fn named(self, host: impl Into<String>) -> Self {
        Self { host: Some(host.into()), ..self }
    }

    /// Finds a user by username.
    ///
    /// # Errors
    /// When the user does not exist.
    pub fn actor(&self, username: &str) -> Result<Actor> {
        find_actor(&self.tenants, username)
    }

    /// Sends one request.
    ///
    /// # Errors
    /// When the server does not respond.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        tenant: &str,
        bearer: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer> {
        let bearer = bearer.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("X-Tenant-ID", tenant)];
        headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        self.send_with(method, path, &headers, body).await
    }

    /// Sends one request with those headers.
    ///
    /// # Errors
    /// When the server does not respond.
    pub async fn send_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("User-Agent", "smoke/1.0")
            .header(CONTENT_TYPE, "application/json");
        if let Some(host) = &self.host {
            request = request.header(HOST, host);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map(ToString::to_string).unwrap_or_default();
        let response = self.http.request(request.body(Full::from(body))?).await?;
        let (mut head, body) = response.into_parts();
        let bytes = body.collect().await?.to_bytes().to_vec();
        if bytes.is_empty() {
            // API Gateway adds a JSON content type to an empty body without one.
            head.headers.remove(CONTENT_TYPE);
        }
        Answer::new(head.status.as_u16().into(), head.headers, bytes)
    }

    /// Sends a login request.
    ///
    /// # Errors
    /// When the server does not respond.
    pub async fn try_login(&self, actor: &Actor, password: &str) -> Result<Answer> {
        let tenant = &actor.tenant.tenant_id;
        self.send(Method::POST, &actor.sessions(), tenant, None, Some(&actor.credentials(password))).await
    }

    /// Logs a user in.
    ///
    /// # Errors
    /// When the login is rejected.
    pub async fn login(&self, actor: &Actor) -> Result<Login> {
        Login::from_answer(actor, &self.try_login(actor, &actor.user.password).await?)
    }

    /// Refreshes a login's tokens.
    ///
    /// # Errors
    /// When the server does not respond.
    pub async fn refresh(&self, login: &Login) -> Result<Answer> {
        let (method, path) = login.refresh_route();
        let body = json!({ "refreshToken": login.refresh });
        self.send(method, &path, &login.actor.tenant.tenant_id, Some(&login.token), Some(&body)).await
    }
}

/// Compares a response with the expected one, prints it and returns 1.
///
/// # Errors
/// When the response differs.
pub fn expect(what: &str, answer: &Answer, status: i64, error_type: &str) -> Result<u32> {
    let found = answer.body["data"]["errorType"].as_str().unwrap_or_default();
    ensure!(
        answer.status == status && (error_type.is_empty() || found == error_type),
        "{what}: {} {}",
        answer.status,
        answer.text
    );
    ensure!(!answer.header("x-request-id").is_empty(), "{what}: no X-Request-Id");
    println!("  {what}: {status} {error_type}");
    Ok(1)
}

/// Calls every function that serves requests, on the admin and on the customer path.
///
/// # Errors
/// At the first unexpected response.
pub async fn walk_through(server: &Server) -> Result<u32> {
    let mut passed = 0;
    for name in ["admin@cloudvault.example", "marcus.jensen@example.com"] {
        let actor = server.actor(name)?;
        let tenant = actor.tenant.tenant_id.as_str();
        let first = server.login(&actor).await?;
        let refreshed = server.refresh(&first).await?;
        passed += expect("refresh", &refreshed, 200, "NONE")?;
        let second = Login::from_answer(&actor, &refreshed)?;
        let replay = server.refresh(&first).await?;
        passed += expect("the same refresh again", &replay, 200, "NONE")?;
        ensure!(replay.data("refreshToken") == second.refresh, "two successors");
        let page = format!("{}?limit=1", actor.sessions());
        for path in [&page, &first.path()] {
            let answer = server.send(Method::GET, path, tenant, Some(&second.token), None).await?;
            passed += expect("a look at sessions", &answer, 200, "")?;
        }
        let others = format!("{}?except=current", actor.sessions());
        let answer = server.send(Method::DELETE, &others, tenant, Some(&second.token), None).await?;
        passed += expect("logout everywhere else", &answer, 200, "")?;
        for _ in 0..2 {
            let answer =
                server.send(Method::DELETE, &first.path(), tenant, Some(&second.token), None).await?;
            passed += expect("logout", &answer, 200, "")?;
        }
        passed += expect("refresh after logout", &server.refresh(&second).await?, 401, "SESSION_TERMINATED")?;
        passed +=
            expect("a wrong password", &server.try_login(&actor, "wrong").await?, 401, "AUTHENTICATION")?;
    }

    let admin = server.login(&server.actor("admin@nordic.example")?).await?;
    let marcus = server.actor("marcus.jensen@example.com")?;
    let tenant = marcus.tenant.tenant_id.as_str();
    let reset = json!({ "userId": marcus.user.user_id, "reason": "smoke test" });
    let path = "/api/v2.1/admin/users/login/reset";
    let answer = server.send(Method::POST, path, tenant, Some(&admin.token), Some(&reset)).await?;
    passed += expect("login reset", &answer, 200, "")?;
    let barred = server.try_login(&marcus, &marcus.user.password).await?;
    passed += expect("the old password", &barred, 401, "CREDENTIALS_RESET_REQUIRED")?;
    let path = format!("/api/v2.1/admin/users/{}/credentials", marcus.user.user_id);
    let change = json!({ "password": "a brand new passphrase", "changeRequired": false });
    let answer = server.send(Method::PUT, &path, tenant, Some(&admin.token), Some(&change)).await?;
    passed += expect("update credentials", &answer, 200, "")?;
    passed +=
        expect("the new password", &server.try_login(&marcus, "a brand new passphrase").await?, 200, "NONE")?;
    Ok(passed)
}

/// Sends concurrent requests and checks their combined result.
///
/// # Errors
/// At the first unexpected result.
pub async fn many_at_once(server: &Server) -> Result<u32> {
    let actor = server.actor("ingrid.larsen@example.com")?;
    let login = server.login(&actor).await?;
    let answers = at_once(server, 20, |server| {
        let login = login.clone();
        async move { server.refresh(&login).await }
    })
    .await?;
    let successors: HashSet<_> =
        answers.iter().map(|answer| answer.data("refreshToken").to_owned()).collect();
    ensure!(successors.len() == 1 && !successors.contains(""), "{} successors", successors.len());
    println!("  20 refreshes at once: one successor");

    let answers = at_once(server, 10, |server| {
        let actor = actor.clone();
        async move { server.try_login(&actor, &actor.user.password).await }
    })
    .await?;
    ensure!(answers.iter().all(|answer| answer.status == 200), "a right login was refused");
    println!("  10 right logins at once: all in");

    let answers = at_once(server, 30, |server| {
        let actor = actor.clone();
        async move { server.try_login(&actor, "wrong").await }
    })
    .await?;
    let wrong = answers.iter().filter(|answer| answer.verdict() == (401, "AUTHENTICATION")).count();
    ensure!(wrong == 5, "{wrong} guesses were verified");
    println!("  30 wrong logins at once: 5 verified");
    Ok(3)
}

async fn at_once<F>(server: &Server, count: usize, make: impl Fn(Server) -> F) -> Result<Vec<Answer>>
where
    F: Future<Output = Result<Answer>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        tasks.spawn(make(server.clone()));
    }
    tasks.join_all().await.into_iter().collect()
}
