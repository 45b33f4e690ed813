//! Limits on password attempts: per device, per user, per address and per tenant. Correct passwords
//! from trusted devices always work.

mod budgets;
mod consecutive;
mod counts;
mod devices;
mod proofs;
mod retention;
mod settling;

use std::{sync::Arc, time::Duration};

use doorward::{
    domain::{
        AttemptBudget, AttemptId, Reservation, TenantId, TrustedDevice, TrustedDeviceId, User, UserId,
        Username,
    },
    port::Clock,
    store::{AttemptKey, Verdict},
};
use e2e::{Actor, Answer, Login, NORDIC, World};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{ADMIN, MARCUS, NEW_PASSWORD, NORDIC_ADMIN};

const WRONG: &str = "not the password";
const LOCKOUT: Duration = Duration::from_secs(30 * 60);
/// Address of unknown devices.
const ELSEWHERE: &str = "198.51.100.7";

/// Sends wrong passwords sequentially, with or without a device proof.
async fn fail(world: &World, actor: &Actor, proof: Option<&str>, times: usize) -> Vec<(i64, String)> {
    let mut verdicts = Vec::new();
    for _ in 0..times {
        let answer = world.try_login_from(actor, WRONG, ELSEWHERE, proof).await.unwrap();
        let (status, error) = answer.verdict();
        verdicts.push((status, error.to_owned()));
    }
    verdicts
}

async fn login_from(world: &World, actor: &Actor, proof: Option<&str>) -> Answer {
    world.try_login_from(actor, &actor.user.password, ELSEWHERE, proof).await.unwrap()
}

/// Creates users of a tenant as copies of `model` with distinct names.
async fn users(world: &World, model: &Actor, count: usize) -> Vec<Actor> {
    let record = world.user(model).await.unwrap();
    let mut actors = Vec::new();
    for n in 0..count {
        let (id, name) = (format!("guessed-{n:03}"), format!("guessed-{n:03}@example.com"));
        let user = User {
            id: UserId::parse(&id).unwrap(),
            username: Username::parse(&name).unwrap(),
            ..record.clone()
        };
        world.store.create_user(&user, world.clock.now()).await.unwrap();
        let mut actor = model.clone();
        (actor.user.user_id, actor.user.username) = (id, name);
        actors.push(actor);
    }
    actors
}

/// Attributes of a user's attempts item; empty if the item does not exist.
async fn attempts(
    world: &World,
    actor: &Actor,
) -> std::collections::HashMap<String, aws_sdk_dynamodb::types::AttributeValue> {
    use aws_sdk_dynamodb::types::AttributeValue;
    let pk = format!("T#{}#U#{}", actor.tenant.tenant_id, actor.user.user_id);
    let item = world
        .dynamodb
        .get_item()
        .table_name(local::TABLE)
        .key("pk", AttributeValue::S(pk))
        .key("sk", AttributeValue::S("ATTEMPTS".to_owned()))
        .consistent_read(true)
        .send()
        .await
        .unwrap();
    item.item.unwrap_or_default()
}

async fn number(world: &World, actor: &Actor, name: &str) -> Option<i64> {
    attempts(world, actor).await.get(name).map(|value| value.as_n().unwrap().parse().unwrap())
}

/// Sends concurrent logins, each given by user, password and device proof.
async fn together(
    world: &Arc<World>,
    count: usize,
    who: impl Fn(usize) -> (Actor, String, Option<String>),
) -> Vec<Answer> {
    let mut logins = JoinSet::new();
    for index in 0..count {
        let (world, (actor, password, proof)) = (Arc::clone(world), who(index));
        logins.spawn(async move {
            world.try_login_from(&actor, &password, ELSEWHERE, proof.as_deref()).await.unwrap()
        });
    }
    logins.join_all().await
}
