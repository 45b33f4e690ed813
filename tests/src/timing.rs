//! `cargo timing`: whether time tells a known user from an unknown one (security 9 and 19).
//!
//! Two classes of requests, interleaved, each sample on a user of its own, in process over the
//! embedded services. What counts is the difference of the medians, as a share of the median: absolute
//! times are this machine's. Exits non-zero when a difference is above its bound.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use doorward::{
    domain::{TenantId, User, UserId, Username},
    port::{Clock, Store},
    route::Function,
};
use e2e::{NORDIC, World, as_tenant, event};
use http::Method;
use serde_json::{Value, json};

/// Samples of each class.
const SAMPLES: usize = 1_000;
/// Largest difference of the medians, as a share of the smaller one: an unknown user's item is not
/// there to be read and decoded, which is most of what is left.
const BOUND: f64 = 0.10;

#[tokio::main]
async fn main() -> Result<()> {
    let world = World::start().await?;
    world.change_policy(NORDIC, |policy| policy.wrong_codes_per_ip = u32::MAX).await?;
    let known = known_users(&world).await?;
    let unknown: Vec<_> = (0..SAMPLES).map(|n| format!("nobody-{n:05}")).collect();

    println!("Difference of medians, known and unknown users, {SAMPLES} samples each, interleaved");
    let mut too_large = Vec::new();
    for (name, request) in [
        ("asking for a code", ask as Request),
        ("a wrong code, typed", try_typed),
        ("asking for one by text message", ask_text),
        ("a wrong code, typed, of one that lives", try_typed),
        ("a wrong code, of a link", try_link),
    ] {
        let mut times = [Vec::new(), Vec::new()];
        for users in known.iter().zip(&unknown) {
            for (class, user) in [users.0, users.1].into_iter().enumerate() {
                let (function, event, status) = request(user);
                let begun = Instant::now();
                let answer = world.send(function, &event).await?;
                let taken = begun.elapsed().as_secs_f64() * 1e6;
                ensure!(answer.status == status, "{name}: {answer:?}");
                times.get_mut(class).context("two classes")?.push(taken);
            }
        }
        let [known, unknown] = times.map(median);
        let share = (known - unknown).abs() / known.min(unknown);
        println!("  {name:<38} {known:>7.0} µs  {unknown:>7.0} µs  {:>5.1} %", share * 100.0);
        if share > BOUND {
            too_large.push(name);
        }
    }
    if too_large.is_empty() {
        return Ok(());
    }
    bail!("above the bound of {:.0} %: {}", BOUND * 100.0, too_large.join(", "))
}

type Request = fn(&str) -> (Function, String, i64);

fn ask(user: &str) -> (Function, String, i64) {
    let event = post(&format!("/v2/users/{user}/password_reset"), &json!({ "sendLink": {} }));
    (Function::ResetLogin, as_tenant(event).to_string(), 200)
}

fn ask_text(user: &str) -> (Function, String, i64) {
    let body = json!({ "sendLink": { "notificationType": "NOTIFICATION_TYPE_SMS" } });
    let event = post(&format!("/v2/users/{user}/password_reset"), &body);
    (Function::ResetLogin, as_tenant(event).to_string(), 200)
}

fn try_typed(user: &str) -> (Function, String, i64) {
    try_code(user, "AAAAAAAA")
}

fn try_link(user: &str) -> (Function, String, i64) {
    try_code(user, "AAAAAAAAAAAAAAAAAAAA")
}

fn try_code(user: &str, code: &str) -> (Function, String, i64) {
    let body = json!({ "newPassword": { "password": "a brand new passphrase" }, "verificationCode": code });
    (Function::UpdateCredentials, post(&format!("/v2/users/{user}/password"), &body).to_string(), 400)
}

fn post(path: &str, body: &Value) -> Value {
    event(&Method::POST, path, NORDIC, None, Some(body))
}

/// As many copies of a demo user as there are samples.
async fn known_users(world: &World) -> Result<Vec<String>> {
    let tenant = TenantId::parse(NORDIC)?;
    let actor = world.actor("marcus.jensen@example.com")?;
    let model =
        world.store.user(&tenant, &UserId::parse(&actor.user.user_id)?).await.map_err(anyhow::Error::msg)?;
    let model = model.context("no demo user")?;
    let mut users = Vec::new();
    for n in 0..SAMPLES {
        let (id, name) = (format!("member-{n:05}"), format!("member-{n:05}@example.com"));
        let user = User { id: UserId::parse(&id)?, username: Username::parse(&name)?, ..model.clone() };
        world.store.create_user(&user, world.clock.now()).await.map_err(anyhow::Error::msg)?;
        users.push(id);
    }
    Ok(users)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}
