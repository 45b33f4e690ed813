//! What each operation asks of the table in steady state, and what that costs (storage, "Cost of one
//! request").

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, time::Duration};

use anyhow::{Result, ensure};
use doorward::domain::SessionLimit;
use e2e::{Actor, Login, NORDIC, World, as_tenant, calls::Cost, event};
use http::Method;
use serde_json::json;

use crate::{ADMIN, MARCUS, NEW_PASSWORD, NORDIC_ADMIN, SECOND_ADMIN};

/// The document that tells of it.
const DOCUMENT: &str = "docs/cost.md";

const HEAD: &str = "\
# What a request costs

Measured by `cargo test -p e2e cost`, which compares this file with what it measures; with
`DOORWARD_REGENERATE=1` it writes it anew. Steady state: the tenant's record and secret are in memory, the use
of its secret was noted within the minute. (Every five seconds a request reads the tenant's record too, once
a minute one writes the use of its secret beside what it does anyway.)

In sequence: how many calls at most wait for one another; the others are under way beside them. A query or a
write beside a hash counts as one more, because it may be done before that. Units are DynamoDB's,
as the embedded one counts them for the demo's small items: a transaction's writes count twice, consistent
reads of up to 4 KiB and writes of up to 1 KiB once. A conditional write that is refused counts nothing here;
AWS bills it like one that was done: a login at a locked user costs one, a lost race as much as a won one.

| operation | in sequence | calls | read units | write units |
|---|---|---|---|---|
";

/// Sums of halves and wholes: exact.
fn row(name: &str, most_steps: usize, cost: &Cost) -> String {
    let mut calls = BTreeMap::<_, usize>::new();
    for call in cost.steps.iter().flatten() {
        *calls.entry(call).or_default() += 1;
    }
    let calls: Vec<_> = calls.iter().map(|(call, count)| format!("{count} {call}")).collect();
    format!("| {name} | {most_steps} | {} | {} | {} |\n", calls.join(", "), cost.read, cost.written)
}

/// What is measured, and the most calls in sequence that the storage document allows it.
struct Table<'a> {
    world: &'a World,
    rows: String,
}

impl Table<'_> {
    async fn row(
        &mut self,
        name: &str,
        most_steps: usize,
        status: i64,
        request: impl Future<Output = Result<e2e::Answer>>,
    ) -> Result<e2e::Answer> {
        self.world.calls.take_cost();
        let answer = request.await?;
        let cost = self.world.calls.take_cost();
        ensure!(answer.status == status, "{name}: {}", answer.text);
        ensure!(cost.steps.len() <= most_steps, "{name}: {:?}", cost.steps);
        self.rows.write_str(&row(name, most_steps, &cost))?;
        Ok(answer)
    }
}

async fn log_in(world: &World, actor: &Actor, key: &str) -> Result<e2e::Answer> {
    let body = actor.credentials(&actor.user.password);
    let mut event = event(&Method::POST, &actor.sessions(), &actor.tenant.tenant_id, None, Some(&body));
    event["headers"]["idempotency-key"] = json!(key);
    world.send(doorward::route::Function::CreateSession, &event.to_string()).await
}

async fn ask(world: &World, user: &str, key: Option<&str>) -> Result<e2e::Answer> {
    let path = format!("/v2/users/{user}/password_reset");
    let mut event = as_tenant(event(&Method::POST, &path, NORDIC, None, Some(&json!({}))));
    if let Some(key) = key {
        event["headers"]["idempotency-key"] = json!(key);
    }
    world.send(doorward::route::Function::ResetLogin, &event.to_string()).await
}

async fn send(world: &World, by: &Login, method: Method, path: String) -> Result<e2e::Answer> {
    world.request(&method, &path, &by.actor.tenant.tenant_id, Some(&by.token), None).await
}

#[tokio::test]
async fn every_operation_costs_what_is_documented() -> Result<()> {
    let world = World::start().await?;
    let (actor, admin) = (world.actor(MARCUS)?, world.actor(NORDIC_ADMIN)?);
    let password = actor.user.password.as_str();
    let mut table = Table { world: &world, rows: String::new() };
    let by = world.login(&admin).await?;

    let created = table.row("create session", 2, 200, world.try_login(&actor, password)).await?;
    let login = Login::from_answer(&actor, &created)?;
    table.row("with an idempotency key", 2, 200, log_in(&world, &actor, "key")).await?;
    table.row("the same again", 2, 200, log_in(&world, &actor, "key")).await?;
    table.row("with a wrong password", 2, 401, world.try_login(&actor, "wrong")).await?;
    world.login(&actor).await?;
    let refreshed = table.row("refresh", 1, 200, world.refresh(&login)).await?;
    let login = Login::from_answer(&actor, &refreshed)?;
    let listed = send(&world, &login, Method::GET, actor.sessions());
    table.row("list sessions", 2, 200, listed).await?;
    table.row("read a session", 1, 200, send(&world, &login, Method::GET, login.path())).await?;
    let health = world.request(&Method::GET, "/healthz", "", None, None);
    table.row("healthz, once in five seconds", 1, 200, health).await?;
    let keys = format!("/tenants/{NORDIC}/.well-known/jwks.json");
    table.row("a tenant's keys", 0, 200, world.request(&Method::GET, &keys, "", None, None)).await?;
    world.calls.take_cost();
    ensure!(world.passes(&login).await?, "it did not pass");
    let cost = world.calls.take_cost();
    ensure!(cost.steps.len() == 1, "authorize: {:?}", cost.steps);
    table.rows.write_str(&row("authorize a call of somebody's API", 1, &cost))?;
    let other = world.login(&actor).await?;
    table.row("log out", 1, 200, world.logout(&other)).await?;
    let other = world.login(&actor).await?;
    let ended = send(&world, &by, Method::DELETE, other.path());
    table.row("end somebody else's session", 2, 200, ended).await?;
    let all = send(&world, &login, Method::DELETE, actor.sessions());
    table.row("end all sessions", 3, 200, all).await?;

    let user = actor.user.user_id.as_str();
    table.row("ask for a code, as the tenant", 2, 200, ask(&world, user, None)).await?;
    table.row("with an idempotency key", 2, 200, ask(&world, user, Some("key"))).await?;
    table.row("the same again", 1, 200, ask(&world, user, Some("key"))).await?;
    let body = json!({ "userId": user });
    table.row("reset a login", 2, 200, world.reset(&by, &body)).await?;
    let body = json!({ "password": NEW_PASSWORD });
    table.row("set somebody else's password", 3, 200, world.update(&by, user, &body)).await?;
    let second = world.login(&world.actor(ADMIN)?).await?;
    let third = world.login(&world.actor(SECOND_ADMIN)?).await?;
    let id = third.actor.user.user_id.as_str();
    let body = json!({ "username": "another@cloudvault.example" });
    table.row("rename somebody else", 2, 200, world.update(&second, id, &body)).await?;
    let body = json!({ "password": NEW_PASSWORD, "currentPassword": third.actor.user.password });
    table.row("change one's own password", 5, 200, world.update(&third, id, &body)).await?;

    // The tenant's record is read again by the login before the one that counts.
    let tenant = admin.tenant.tenant_id.as_str();
    let limit = SessionLimit { max: 50, when_full: doorward::domain::WhenFull::Reject };
    world.change_policy(tenant, |policy| policy.session_limit = Some(limit)).await?;
    world.login(&admin).await?;
    table
        .row("create session, where sessions are limited", 3, 200, world.try_login(&admin, password))
        .await?;
    world
        .change_policy(tenant, |policy| {
            policy.session_limit = None;
            policy.hash_cost.passes += 1;
        })
        .await?;
    let warm = world.actor("second.admin@nordic.example")?;
    world.login(&warm).await?;
    table.row("create session, with a hash to renew", 3, 200, world.try_login(&admin, password)).await?;
    world.clock.advance(Duration::from_millis(1));
    for _ in 0..5 {
        world.try_login(&admin, "wrong").await?;
    }
    table.row("create session, locked out", 1, 401, world.try_login(&admin, password)).await?;

    let found = format!("{HEAD}{}", table.rows);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(DOCUMENT);
    if std::env::var_os("DOORWARD_REGENERATE").is_some() {
        fs::write(&file, &found)?;
    }
    let told = fs::read_to_string(&file)?;
    ensure!(told == found, "{DOCUMENT} says otherwise:\n{found}");
    Ok(())
}
