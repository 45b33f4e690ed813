//! Drives the real binaries over HTTP: `cargo smoke`.
//!
//! Three rounds, each a `cargo dev` of its own on a free port: under `cargo lambda watch`; with
//! prebuilt binaries that serve several requests at once; and twice over one data folder, across a
//! restart. A command of its own, because the first run may fetch cargo-lambda.

#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test, and its output")]

use std::{collections::HashSet, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use e2e::{Actor, Answer, Login};
use http::{Method, Request, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use local::stack::Stack;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    task::JoinSet,
};

/// A first start compiles everything.
const STARTS_WITHIN: Duration = Duration::from_secs(30 * 60);
const STOPS_WITHIN: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<()> {
    let mut passed = 0;
    println!("cargo lambda watch, in memory");
    let dev = Dev::start(&["--memory"]).await?;
    passed += walk_through(&dev.server).await?;
    passed += used_port_is_named(&dev.server).await?;
    dev.stop().await?;

    println!("prebuilt binaries, several requests at once");
    let dev = Dev::start(&["--memory", "--no-watch"]).await?;
    passed += walk_through(&dev.server).await?;
    passed += many_at_once(&dev.server).await?;
    dev.stop().await?;

    println!("a restart over the same data");
    let folder = tempfile::tempdir()?;
    let folder = folder.path().to_str().context("the temporary folder's name is not UTF-8")?;
    passed += a_restart_keeps_sessions(folder).await?;
    println!("{passed} passed, 0 failed");
    Ok(())
}

/// A running `cargo dev`.
struct Dev {
    child: Child,
    server: Server,
}

/// Its address, and what talks to it.
#[derive(Clone)]
struct Server {
    stack: Stack,
    http: Client<HttpConnector, Full<Bytes>>,
}

impl Dev {
    async fn start(arguments: &[&str]) -> Result<Self> {
        let mut child = dev(&[&["--json", "--port", "0"], arguments].concat()).spawn()?;
        let output = child.stdout.take().context("no output")?;
        let mut lines = BufReader::new(output).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                let event: Value =
                    serde_json::from_str(&line).with_context(|| format!("not an event: {line}"))?;
                match event["event"].as_str() {
                    Some("ready") => return Ok(serde_json::from_value(event)?),
                    Some("error") => bail!("{line}"),
                    _ => {}
                }
            }
            bail!("cargo dev ended before it was ready")
        };
        let stack: Stack =
            tokio::time::timeout(STARTS_WITHIN, ready).await.context("not ready in time")??;
        // Whatever it still says must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let server = Server { stack, http: Client::builder(TokioExecutor::new()).build_http() };
        Ok(Self { child, server })
    }

    /// SIGTERM, as a service manager would; nothing answers afterwards.
    async fn stop(mut self) -> Result<()> {
        let id = self.child.id().context("it has ended already")?;
        kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?;
        let status =
            tokio::time::timeout(STOPS_WITHIN, self.child.wait()).await.context("did not stop in time")??;
        ensure!(status.success(), "ended with {status}");
        let Stack { base_url, dynamodb_url, secrets_manager_url, .. } = &self.server.stack;
        for url in [base_url, dynamodb_url, secrets_manager_url] {
            let address = url.strip_prefix("http://").context("no address")?;
            ensure!(tokio::net::TcpStream::connect(address).await.is_err(), "{url} still answers");
        }
        Ok(())
    }
}

impl Server {
    fn actor(&self, username: &str) -> Result<Actor> {
        e2e::find_actor(&self.stack.tenants, username)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        tenant: &str,
        bearer: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.stack.base_url))
            .header("X-Tenant-ID", tenant)
            .header("User-Agent", "smoke/1.0")
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = bearer {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let body = body.map(ToString::to_string).unwrap_or_default();
        let response = self.http.request(request.body(Full::from(body))?).await?;
        let (head, body) = response.into_parts();
        let bytes = body.collect().await?.to_bytes().to_vec();
        Answer::new(head.status.as_u16().into(), head.headers, bytes)
    }

    async fn try_login(&self, actor: &Actor, password: &str) -> Result<Answer> {
        let tenant = &actor.tenant.tenant_id;
        self.send(Method::POST, &actor.sessions(), tenant, None, Some(&actor.credentials(password))).await
    }

    async fn login(&self, actor: &Actor) -> Result<Login> {
        Login::from_answer(actor, &self.try_login(actor, &actor.user.password).await?)
    }

    async fn refresh(&self, login: &Login) -> Result<Answer> {
        let (method, path) = login.refresh_route();
        let body = json!({ "refreshToken": login.refresh });
        self.send(method, &path, &login.actor.tenant.tenant_id, Some(&login.token), Some(&body)).await
    }
}

fn dev(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["run", "--quiet", "--package", "local", "--"]).args(arguments);
    command.stdout(Stdio::piped()).kill_on_drop(true);
    command
}

fn expect(what: &str, answer: &Answer, status: i64, error_type: &str) -> Result<u32> {
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

/// Every function once, as a backend uses them, for both dialect paths.
async fn walk_through(dev: &Server) -> Result<u32> {
    let mut passed = 0;
    for name in ["admin@cloudvault.example", "marcus.jensen@example.com"] {
        let actor = dev.actor(name)?;
        let tenant = actor.tenant.tenant_id.as_str();
        let first = dev.login(&actor).await?;
        let refreshed = dev.refresh(&first).await?;
        passed += expect("refresh", &refreshed, 200, "NONE")?;
        let second = Login::from_answer(&actor, &refreshed)?;
        let replay = dev.refresh(&first).await?;
        passed += expect("the same refresh again", &replay, 200, "NONE")?;
        ensure!(replay.data("refreshToken") == second.refresh, "two successors");
        let page = format!("{}?limit=1", actor.sessions());
        for path in [&page, &first.path()] {
            let answer = dev.send(Method::GET, path, tenant, Some(&second.token), None).await?;
            passed += expect("a look at sessions", &answer, 200, "")?;
        }
        let others = format!("{}?except=current", actor.sessions());
        let answer = dev.send(Method::DELETE, &others, tenant, Some(&second.token), None).await?;
        passed += expect("logout everywhere else", &answer, 200, "")?;
        for _ in 0..2 {
            let answer = dev.send(Method::DELETE, &first.path(), tenant, Some(&second.token), None).await?;
            passed += expect("logout", &answer, 200, "")?;
        }
        passed += expect("refresh after logout", &dev.refresh(&second).await?, 401, "SESSION_TERMINATED")?;
        passed += expect("a wrong password", &dev.try_login(&actor, "wrong").await?, 401, "AUTHENTICATION")?;
    }

    let admin = dev.login(&dev.actor("admin@nordic.example")?).await?;
    let marcus = dev.actor("marcus.jensen@example.com")?;
    let tenant = marcus.tenant.tenant_id.as_str();
    let reset = json!({ "userId": marcus.user.user_id, "reason": "smoke test" });
    let path = "/api/v2.1/admin/users/login/reset";
    let answer = dev.send(Method::POST, path, tenant, Some(&admin.token), Some(&reset)).await?;
    passed += expect("login reset", &answer, 200, "")?;
    let barred = dev.try_login(&marcus, &marcus.user.password).await?;
    passed += expect("the old password", &barred, 401, "CREDENTIALS_RESET_REQUIRED")?;
    let path = format!("/api/v2.1/admin/users/{}/credentials", marcus.user.user_id);
    let change = json!({ "password": "a brand new passphrase", "changeRequired": false });
    let answer = dev.send(Method::PUT, &path, tenant, Some(&admin.token), Some(&change)).await?;
    passed += expect("update credentials", &answer, 200, "")?;
    passed +=
        expect("the new password", &dev.try_login(&marcus, "a brand new passphrase").await?, 200, "NONE")?;
    Ok(passed)
}

async fn used_port_is_named(dev: &Server) -> Result<u32> {
    let port = dev.stack.base_url.rsplit(':').next().context("no port")?;
    let second = self::dev(&["--memory", "--port", port]).stderr(Stdio::piped()).output().await?;
    let said = String::from_utf8_lossy(&second.stderr);
    ensure!(second.status.code() == Some(2), "ended with {}", second.status);
    ensure!(said.contains(port) && said.contains("--port"), "said {said}");
    println!("  a second start on the same port: refused, and says how to choose another");
    Ok(1)
}

/// What one process per function does under parallel calls.
async fn many_at_once(dev: &Server) -> Result<u32> {
    let actor = dev.actor("ingrid.larsen@example.com")?;
    let login = dev.login(&actor).await?;
    let answers = at_once(dev, 20, |dev| {
        let login = login.clone();
        async move { dev.refresh(&login).await }
    })
    .await?;
    let successors: HashSet<_> =
        answers.iter().map(|answer| answer.data("refreshToken").to_owned()).collect();
    ensure!(successors.len() == 1 && !successors.contains(""), "{} successors", successors.len());
    println!("  20 refreshes at once: one successor");

    let answers = at_once(dev, 10, |dev| {
        let actor = actor.clone();
        async move { dev.try_login(&actor, &actor.user.password).await }
    })
    .await?;
    ensure!(answers.iter().all(|answer| answer.status == 200), "a right login was refused");
    println!("  10 right logins at once: all in");

    let answers = at_once(dev, 30, |dev| {
        let actor = actor.clone();
        async move { dev.try_login(&actor, "wrong").await }
    })
    .await?;
    let wrong = answers.iter().filter(|answer| answer.verdict() == (401, "AUTHENTICATION")).count();
    ensure!(wrong == 5, "{wrong} guesses were verified");
    println!("  30 wrong logins at once: 5 verified");
    Ok(3)
}

async fn at_once<F>(dev: &Server, count: usize, make: impl Fn(Server) -> F) -> Result<Vec<Answer>>
where
    F: Future<Output = Result<Answer>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        tasks.spawn(make(dev.clone()));
    }
    tasks.join_all().await.into_iter().collect()
}

async fn a_restart_keeps_sessions(folder: &str) -> Result<u32> {
    let arguments = ["--no-watch", "--data-dir", folder];
    let dev = Dev::start(&arguments).await?;
    let login = dev.server.login(&dev.server.actor("admin@cloudvault.example")?).await?;
    dev.stop().await?;
    let dev = Dev::start(&arguments).await?;
    let passed = expect("refresh after a restart", &dev.server.refresh(&login).await?, 200, "NONE")?;
    dev.stop().await?;
    Ok(passed)
}
