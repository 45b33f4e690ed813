//! Requests with an `Idempotency-Key`: a repeated request returns the first result and changes nothing.

mod duplicates;
mod keys;
mod replays;

use std::{collections::HashSet, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use doorward::{
    domain::{Notification, SessionLimit, User, UserStatus, WhenFull},
    port::Clock,
    route::{Function, Router},
    store::SessionsOf,
};
use e2e::{Actor, Answer, Login, NORDIC, World, as_tenant, event};
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{ADMIN, CUSTOMER, MARCUS, NEW_PASSWORD, NORDIC_ADMIN, OTHER_ADMIN, SECOND_ADMIN};

const KEY: &str = "a key of the client's own";
const NOBODY: &str = "nobody-at-all";
const RPC: &str = "/zitadel.user.v2.UserService/PasswordReset";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Life of a cached secret.
const CACHE_LIFE: Duration = Duration::from_secs(5 * 60);

/// Sends an event with an idempotency key to the function that serves its route.
async fn send(world: &World, mut event: Value, key: &str) -> Result<Answer> {
    event["headers"]["idempotency-key"] = json!(key);
    let path = event["rawPath"].as_str().context("no path")?.to_owned();
    let answers = |function: &Function| {
        Router::new(function.routes()).is_ok_and(|router| router.find(&Method::POST, &path).is_some())
    };
    let function = Function::all().find(answers).context("no such route")?;
    world.send(function, &event.to_string()).await
}

fn login_event(actor: &Actor, password: &str) -> Value {
    let body = actor.credentials(password);
    event(&Method::POST, &actor.sessions(), &actor.tenant.tenant_id, None, Some(&body))
}

async fn log_in(world: &World, actor: &Actor, password: &str, key: &str) -> Result<Answer> {
    send(world, login_event(actor, password), key).await
}

/// Logs in with the user's password.
async fn own(world: &World, actor: &Actor, key: &str) -> Result<Answer> {
    log_in(world, actor, &actor.user.password, key).await
}

/// A request for a reset code by a user, or by the tenant.
fn code_event(by: Option<&Login>, user: &str, body: &Value) -> Value {
    let path = format!("/v2/users/{user}/password_reset");
    match by {
        Some(login) => event(&Method::POST, &path, NORDIC, Some(&login.token), Some(body)),
        None => as_tenant(event(&Method::POST, &path, NORDIC, None, Some(body))),
    }
}

fn reset_event(by: &Login, body: &Value) -> Value {
    let path = "/api/v2.1/admin/users/login/reset";
    event(&Method::POST, path, &by.actor.tenant.tenant_id, Some(&by.token), Some(body))
}

/// Sends `count` concurrent copies of an event.
async fn at_once(world: &Arc<World>, count: usize, event: &Value, key: &str) -> Vec<Answer> {
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (world, event, key) = (Arc::clone(world), event.clone(), key.to_owned());
        tasks.spawn(async move { send(&world, event, &key).await.unwrap() });
    }
    tasks.join_all().await
}

/// Number of repeated requests in the audit log.
fn repeated(world: &World) -> usize {
    world.audit.events().iter().filter(|event| event["reason"] == "REPEATED").count()
}

/// Number of the user's live sessions.
async fn live(world: &World, actor: &Actor) -> Result<usize> {
    let user = world.user(actor).await?;
    let tenant = world.store.tenant(&user.tenant).await?.context("the tenant does not exist")?;
    let of = SessionsOf::user(&user, tenant.session_epoch, world.clock.now());
    Ok(world.store.live_sessions(&of).await?.len())
}

/// Number of stored idempotency keys.
async fn remembered(world: &World) -> Result<usize> {
    let found = world
        .dynamodb
        .scan()
        .table_name(local::TABLE)
        .filter_expression("sk = :key")
        .expression_attribute_values(":key", AttributeValue::S("KEY".into()))
        .send()
        .await?;
    Ok(found.items().len())
}

async fn codes_sent(world: &World, user: &str) -> Result<usize> {
    let messages = world.outbox(NORDIC, user).await?;
    Ok(messages.iter().filter(|message| matches!(message, Notification::ResetCode(_))).count())
}

async fn change_user(world: &World, actor: &Actor, change: impl FnOnce(&mut User)) -> Result<()> {
    let old = world.user(actor).await?;
    let mut new = User { sequence: old.sequence + 1, ..old.clone() };
    change(&mut new);
    Ok(world.store.replace_user(&old, &new).await?)
}

fn expired(answer: &Answer) -> bool {
    answer.verdict() == (409, "IDEMPOTENCY_EXPIRED")
}

/// Replaces the tenant's secret document by one with these root key versions, of which the first keeps
/// its key, and retires the previous document.
async fn rotate_roots(world: &World, tenant: &str, versions: &[u32]) -> Result<()> {
    let mut document = world.secret_document(tenant).await?;
    let first = document["rootKeys"][0]["key"].clone();
    let roots = versions.iter().enumerate().map(|(at, version)| match at {
        0 if document["rootKeys"][0]["version"] == *version => json!({ "version": version, "key": first }),
        _ => json!({ "version": version, "key": format!("{version}{}", "A".repeat(42)) }),
    });
    document["rootKeys"] = roots.collect();
    world.rotate_secret(tenant, &document).await?;
    world.retire_previous_secret(tenant).await
}
