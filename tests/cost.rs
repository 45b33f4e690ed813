//! DynamoDB calls of each operation in steady state, and their cost
//! (docs/design/storage.md#calls-per-request).

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, time::Duration};

use anyhow::{Result, ensure};
use doorward::{
    domain::{ClientScope, Medium, SessionLimit, WhenFull},
    route::Function,
};
use e2e::{Actor, Login, NORDIC, Visitor, World, as_tenant, calls::Cost, delivery::Queued, event};
use http::Method;
use serde_json::{Value, json};

use crate::{
    ADMIN, MARCUS, NEW_PASSWORD, NORDIC_ADMIN, SECOND_ADMIN,
    price::{Memory, Operation, Work, in_dollars},
};

const fn by(function: Function) -> Work {
    Work { function, hashes: 0, mails: 0 }
}

const LOGIN: Work = by(Function::CreateSession).hashing(1);
const REFRESH: Work = by(Function::RefreshSession);
const LIST: Work = by(Function::ListSessions);
const LOGOUT: Work = by(Function::DeleteSession);
const RESET: Work = by(Function::ResetLogin);
const CHANGE: Work = by(Function::UpdateCredentials);
const FIND: Work = by(Function::FindUsers);
const MANAGE: Work = by(Function::ManageUsers);
const PAGE: Work = by(Function::PasswordPage);
const PUBLISH: Work = by(Function::Discovery);
const AUTHORIZE: Work = by(Function::Authorize);
const OAUTH: Work = by(Function::Oauth);
const SEND: Work = Work { mails: 1, ..by(Function::DeliverNotification) };

/// The document that lists the calls.
const DOCUMENT: &str = "docs/cost.md";

const HEAD: &str = "\
# What a request costs

This page lists the calls, units and US dollars of each operation. `cargo test -p e2e cost` measures them and
compares this file. To regenerate it, run the test with `DOORWARD_REGENERATE=1`.

The measurements are of the steady state: the process has the tenant's record and secret in memory, and has recorded
its use of the secret within the last minute. Three calls are therefore not in the table. A process reads the tenant's
record every five seconds, and records its use of the tenant's secret once a minute. A process of `discovery` reads the
tenant's public keys once a minute.

- **In sequence** is the maximum number of calls that wait for each other; other calls run in parallel. A query or
  write that starts during a hash counts as one more call in sequence, because it can finish before the next
  calls start.
- **Units** are DynamoDB's, as the embedded DynamoDB counts them for the demo's small items. Writes in a transaction
  count twice. A consistent read of up to 4 KiB and a write of up to 1 KiB count once.
- **Rejected conditional writes** count as 0 here, but AWS bills them like successful ones. A login of a locked user
  has one, and so has a lost race.

| operation | in sequence | calls | read units | write units |
|---|---|---|---|---|
";

/// Capacity units. They are multiples of one half, so that their sums are exact.
fn row(name: &str, most_steps: usize, cost: &Cost) -> String {
    let mut calls = BTreeMap::<_, usize>::new();
    for call in cost.steps.iter().flatten() {
        *calls.entry(call).or_default() += 1;
    }
    let calls: Vec<_> = calls.iter().map(|(call, count)| format!("{count} {call}")).collect();
    format!("| {name} | {most_steps} | {} | {} | {} |\n", calls.join(", "), cost.read, cost.written)
}

/// The measured operations, each with the maximum of sequential calls that docs/design/storage.md allows.
struct Table<'a> {
    world: &'a World,
    rows: String,
    operations: Vec<Operation>,
}

impl Table<'_> {
    async fn row(
        &mut self,
        name: &str,
        most_steps: usize,
        status: i64,
        work: Work,
        request: impl Future<Output = Result<e2e::Answer>>,
    ) -> Result<e2e::Answer> {
        let answer = self.count(name, most_steps, work, request).await?;
        ensure!(answer.status == status, "{name}: {}", answer.text);
        Ok(answer)
    }

    /// The same for an operation without an HTTP status.
    async fn count<T>(
        &mut self,
        name: &str,
        most_steps: usize,
        work: Work,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let told = self.world.audit.lines().len();
        self.world.calls.take_cost();
        let answer = request.await?;
        let cost = self.world.calls.take_cost();
        ensure!(cost.steps.len() <= most_steps, "{name}: {:?}", cost.steps);
        self.rows.write_str(&row(name, most_steps, &cost))?;
        self.operations.push(Operation {
            name: name.to_owned(),
            work,
            steps: most_steps,
            read: cost.read,
            written: cost.written,
            audit: self.world.audit.events().into_iter().skip(told).map(length).collect(),
        });
        Ok(answer)
    }
}

/// Size of an audit event in bytes, with a duration of two digits, so that the duration does not change
/// the document.
fn length(mut event: Value) -> usize {
    event["milliseconds"] = json!(10);
    event["Latency"] = json!(10);
    event.to_string().len()
}

async fn log_in(world: &World, actor: &Actor, key: &str) -> Result<e2e::Answer> {
    let body = actor.credentials(&actor.user.password);
    let mut event = event(&Method::POST, &actor.sessions(), &actor.tenant.tenant_id, None, Some(&body));
    event["headers"]["idempotency-key"] = json!(key);
    world.send(Function::CreateSession, &event.to_string()).await
}

async fn ask(world: &World, user: &str, key: Option<&str>) -> Result<e2e::Answer> {
    let path = format!("/v2/users/{user}/password_reset");
    let mut event = as_tenant(event(&Method::POST, &path, NORDIC, None, Some(&json!({}))));
    if let Some(key) = key {
        event["headers"]["idempotency-key"] = json!(key);
    }
    world.send(Function::ResetLogin, &event.to_string()).await
}

async fn send(world: &World, by: &Login, method: Method, path: String) -> Result<e2e::Answer> {
    world.request(&method, &path, &by.actor.tenant.tenant_id, Some(&by.token), None).await
}

/// Rows of the logins by name.
async fn named_logins(table: &mut Table<'_>, password: &str) -> Result<()> {
    let world = table.world;
    // Another user, so that the number of sessions in the other rows does not change.
    let named = world.actor("ingrid.larsen@example.com")?;
    let mut nobody = named.clone();
    "nobody@example.com".clone_into(&mut nobody.user.username);
    for (name, actor, password, status) in [
        ("create session, by name", &named, password, 200),
        ("by name, with a wrong password", &named, "wrong", 401),
        ("by name, with an unknown name", &nobody, "wrong", 401),
    ] {
        table.row(name, 3, status, LOGIN, world.try_login_by_name(actor, password)).await?;
    }
    Ok(())
}

/// Rows of the OAuth endpoints.
async fn oauth(table: &mut Table<'_>, login: &Login) -> Result<()> {
    let world = table.world;
    let client = world.register_client(NORDIC, &[ClientScope::Introspect], |_| ()).await?;
    world.client_token(&client).await?;
    let grant = [("grant_type", "client_credentials")];
    let issued =
        table.row("get a client token", 1, 200, OAUTH, world.oauth(&client, "token", &grant)).await?;
    let token = issued.body["access_token"].as_str().unwrap_or_default();
    let form = [("token", login.token.as_str())];
    table.row("introspect a token", 2, 200, OAUTH, world.oauth(&client, "introspect", &form)).await?;
    let form = [("token", token)];
    table.row("revoke a client token", 2, 200, OAUTH, world.oauth(&client, "revoke", &form)).await?;
    Ok(())
}

/// Rows of requests with a client token. They make the calls of an administrator's requests.
async fn client_callers(table: &mut Table<'_>) -> Result<()> {
    let world = table.world;
    // Another user, so that the number of sessions in the other rows does not change.
    let actor = world.actor("ingrid.larsen@example.com")?;
    let scopes = [ClientScope::SessionsRead, ClientScope::UsersWrite];
    let client = world.register_client(NORDIC, &scopes, |_| ()).await?;
    let token = world.client_token(&client).await?;
    let path = actor.sessions();
    let listed = world.request(&Method::GET, &path, NORDIC, Some(&token), None);
    table.row("list sessions, as an API client", 2, 200, LIST, listed).await?;
    let path = format!("/api/v2.1/admin/users/{}/credentials", actor.user.user_id);
    let body = json!({ "password": NEW_PASSWORD });
    let set = world.request(&Method::PUT, &path, NORDIC, Some(&token), Some(&body));
    table.row("set a user's password, as an API client", 4, 200, CHANGE.hashing(1), set).await?;
    Ok(())
}

/// Rows of the user API.
async fn users(table: &mut Table<'_>) -> Result<()> {
    let world = table.world;
    let scopes = [ClientScope::UsersRead, ClientScope::UsersWrite];
    let client = world.register_client(NORDIC, &scopes, |_| ()).await?;
    let token = world.client_token(&client).await?;
    let ask = async |method: Method, path: &str, body: Value| {
        world.request(&method, path, NORDIC, Some(&token), Some(&body)).await
    };
    let organization = world.actor(MARCUS)?.user.organization_id;
    let body = json!({
        "organizationId": organization,
        "userId": "cost",
        "human": {
            "email": { "email": "cost@new.example" },
            "password": { "password": NEW_PASSWORD },
        },
    });
    let create = ask(Method::POST, "/v2/users/new", body);
    table.row("create a user, with a code for its address", 3, 200, MANAGE.hashing(1), create).await?;
    let read = ask(Method::GET, "/v2/users/cost", json!({}));
    table.row("read a user", 1, 200, FIND, read).await?;
    for (name, most_steps, query) in [
        ("find a user by name", 3, json!({ "userNameQuery": { "userName": "cost@new.example" } })),
        ("find users by email", 3, json!({ "emailQuery": { "emailAddress": "cost@new.example" } })),
        ("list users", 3, json!({ "organizationIdQuery": { "organizationId": organization } })),
    ] {
        let body = json!({ "query": { "limit": 1 }, "queries": [query] });
        table.row(name, most_steps, 200, FIND, ask(Method::POST, "/v2/users", body)).await?;
    }
    let body = json!({ "human": { "profile": { "nickName": "x" } } });
    let update = ask(Method::PATCH, "/v2/users/cost", body);
    table.row("change a user's profile", 2, 200, MANAGE, update).await?;
    let code = ask(Method::POST, "/v2/users/cost/email/send", json!({ "returnCode": {} })).await?;
    let body = json!({ "verificationCode": code.body["verificationCode"] });
    let verify = ask(Method::POST, "/v2/users/cost/email/verify", body);
    table.row("verify an email address", 5, 200, MANAGE, verify).await?;
    let lock = ask(Method::POST, "/v2/users/cost/lock", json!({}));
    table.row("lock a user", 2, 200, MANAGE, lock).await?;
    let delete = ask(Method::DELETE, "/v2/users/cost", json!({}));
    table.row("delete a user", 3, 200, MANAGE, delete).await?;
    Ok(())
}

/// Measures logins under session limits.
async fn limited_logins(table: &mut Table<'_>, admin: &Actor) -> Result<()> {
    let world = table.world;
    for (name, most_steps, max, when_full) in [
        ("create session, with a session limit", 3, 50, WhenFull::Reject),
        ("create session, with the limit `single`", 2, 1, WhenFull::Single),
    ] {
        let limit = SessionLimit { max, when_full };
        world.change_policy(&admin.tenant.tenant_id, |policy| policy.session_limit = Some(limit)).await?;
        // The login before the measured one refreshes the cached tenant.
        world.login(admin).await?;
        let login = world.try_login(admin, &admin.user.password);
        table.row(name, most_steps, 200, LOGIN, login).await?;
    }
    Ok(())
}

#[tokio::test]
async fn documented_costs_match_the_measured_costs() -> Result<()> {
    let world = World::start().await?;
    let (actor, admin) = (world.actor(MARCUS)?, world.actor(NORDIC_ADMIN)?);
    let password = actor.user.password.as_str();
    let mut table = Table { world: &world, rows: String::new(), operations: Vec::new() };
    let by = world.login(&admin).await?;

    let created = table.row("create session", 2, 200, LOGIN, world.try_login(&actor, password)).await?;
    let login = Login::from_answer(&actor, &created)?;
    table.row("with an idempotency key", 2, 200, LOGIN, log_in(&world, &actor, "key")).await?;
    table.row("a repetition with the same key", 2, 200, LOGIN, log_in(&world, &actor, "key")).await?;
    table.row("with a wrong password", 2, 401, LOGIN, world.try_login(&actor, "wrong")).await?;
    world.login(&actor).await?;
    named_logins(&mut table, password).await?;
    let refreshed = table.row("refresh", 1, 200, REFRESH, world.refresh(&login)).await?;
    let login = Login::from_answer(&actor, &refreshed)?;
    let listed = send(&world, &login, Method::GET, actor.sessions());
    table.row("list sessions", 2, 200, LIST, listed).await?;
    table.row("read a session", 1, 200, LIST, send(&world, &login, Method::GET, login.path())).await?;
    let health = world.request(&Method::GET, "/healthz", "", None, None);
    table.row("read /healthz, at most once in five seconds", 1, 200, PUBLISH, health).await?;
    let keys = format!("/tenants/{NORDIC}/.well-known/jwks.json");
    world.request(&Method::GET, &keys, "", None, None).await?;
    table
        .row("read a tenant's keys", 0, 200, PUBLISH, world.request(&Method::GET, &keys, "", None, None))
        .await?;
    let passes = async { Ok(world.passes(&login).await?) };
    let passes = table.count("authorize a call of your own API", 1, AUTHORIZE, passes).await?;
    ensure!(passes, "the authorizer rejected the request");
    oauth(&mut table, &login).await?;
    let other = world.login(&actor).await?;
    table.row("log out", 1, 200, LOGOUT, world.logout(&other)).await?;
    let other = world.login(&actor).await?;
    let ended = send(&world, &by, Method::DELETE, other.path());
    table.row("end another user's session", 2, 200, LOGOUT, ended).await?;
    let all = send(&world, &login, Method::DELETE, actor.sessions());
    table.row("end all sessions", 3, 200, LOGOUT, all).await?;

    let user = actor.user.user_id.as_str();
    table.row("request a code, as the tenant", 2, 200, RESET, ask(&world, user, None)).await?;
    table.row("with an idempotency key", 2, 200, RESET, ask(&world, user, Some("key"))).await?;
    table.row("a repetition with the same key", 1, 200, RESET, ask(&world, user, Some("key"))).await?;
    let Queued { key, code } = world.queue_code(NORDIC, user, Medium::Mail, None).await?;
    let mut visitor = Visitor::new(NORDIC);
    visitor.follow(&world, user, Some(code.expose())).await?;
    table.row("show the form of a link", 1, 200, PAGE, visitor.open(&world, "")).await?;
    let queued = [key];
    let sent = async { Ok(world.deliver_all(&queued).await) };
    let left = table.count("send a mail with a code", 4, SEND, sent).await?;
    ensure!(left == 0, "the mail was not sent");
    let body = json!({ "userId": user });
    table.row("reset a login", 2, 200, RESET, world.reset(&by, &body)).await?;
    let body = json!({ "password": NEW_PASSWORD });
    table
        .row("set another user's password", 4, 200, CHANGE.hashing(1), world.update(&by, user, &body))
        .await?;
    client_callers(&mut table).await?;
    let second = world.login(&world.actor(ADMIN)?).await?;
    let third = world.login(&world.actor(SECOND_ADMIN)?).await?;
    let id = third.actor.user.user_id.as_str();
    let body = json!({ "username": "another@cloudvault.example" });
    table.row("change another user's username", 2, 200, CHANGE, world.update(&second, id, &body)).await?;
    let body = json!({ "password": NEW_PASSWORD, "currentPassword": third.actor.user.password });
    table.row("change your own password", 5, 200, CHANGE.hashing(2), world.update(&third, id, &body)).await?;

    users(&mut table).await?;
    let tenant = admin.tenant.tenant_id.as_str();
    limited_logins(&mut table, &admin).await?;
    world
        .change_policy(tenant, |policy| {
            policy.session_limit = None;
            policy.hash_cost.passes += 1;
        })
        .await?;
    let warm = world.actor("second.admin@nordic.example")?;
    world.login(&warm).await?;
    table
        .row(
            "create session, with an outdated hash",
            3,
            200,
            LOGIN.hashing(2),
            world.try_login(&admin, password),
        )
        .await?;
    world.clock.advance(Duration::from_millis(1));
    for _ in 0..5 {
        world.try_login(&admin, "wrong").await?;
    }
    table
        .row("create session, locked out", 1, 401, LOGIN.hashing(0), world.try_login(&admin, password))
        .await?;

    let found = format!("{HEAD}{}{}", table.rows, in_dollars(&table.operations, &Memory::load()?)?);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(DOCUMENT);
    if std::env::var_os("DOORWARD_REGENERATE").is_some() {
        fs::write(&file, &found)?;
    }
    let told = fs::read_to_string(&file)?;
    ensure!(told == found, "{DOCUMENT} differs from the measured cost:\n{found}");
    Ok(())
}
