//! `cargo timing`: checks that response times reveal neither whether a user exists nor why a login
//! failed (docs/design/security.md#rule-9 and #rule-19).
//!
//! The benchmark sends several classes of requests in turn, in this process, with embedded services.
//! Each sample uses its own user. The result is the difference of the medians relative to the smaller
//! one, because absolute times depend on the machine. The exit code is not 0 when a difference exceeds
//! its limit. The benchmark also checks itself: it skips the password hash of unknown users, and must then
//! find a difference.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the printed numbers are the result")]

use std::{
    io::{IsTerminal, stderr},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use doorward::{
    domain::{HashCost, User, UserId, UserStatus, Username},
    port::Clock,
    route::Function,
};
use e2e::{Actor, NORDIC, World, as_tenant, divided, event};
use http::Method;
use serde_json::{Value, json};

/// Samples of each class of failed logins (docs/design/security.md#rule-9).
const SAMPLES: usize = 1_000;
/// Samples of each class of password recovery requests.
const RECOVERY_SAMPLES: usize = 500;
/// Samples of each class in the benchmark's check of itself.
const CHECK_SAMPLES: usize = 100;
/// Maximum relative difference of the medians. The main remaining difference is that an unknown user
/// has no item to read and decode.
const BOUND: f64 = 0.10;
/// Maximum relative difference for logins, where the hash takes most of the time.
const LOGIN_BOUND: f64 = 0.05;
/// Divisor of the hash memory: a hash takes a few milliseconds in this build, which optimizes only the hashing.
/// The default cost takes about five times as long and would hide larger differences.
const DIVISOR: u32 = 5;
const HOME: &str = "admin@nordic.example";

#[tokio::main]
async fn main() -> Result<()> {
    let world = World::start_with(DIVISOR).await?;
    world
        .change_policy(NORDIC, |policy| {
            policy.wrong_codes_per_ip = u32::MAX;
            policy.failures_per_ip = u32::MAX;
            policy.failures_per_tenant = u32::MAX;
        })
        .await?;
    let mut too_large = recovery(&world).await?;

    let cost = divided(HashCost::default(), DIVISOR);
    println!(
        "Failed logins, {SAMPLES} samples each, interleaved, at {} KiB and {} passes",
        cost.memory_kib, cost.passes
    );
    too_large.extend(logins(&world, "login", SAMPLES, WAYS).await?);
    println!("Failed logins by name");
    too_large.extend(logins(&world, "named", SAMPLES, NAMED_WAYS).await?);

    println!("Self-check without a hash for unknown users, {CHECK_SAMPLES} samples each: must differ");
    world.passwords.set_skips_unknown(true);
    for (prefix, ways) in [("check", WAYS), ("named-check", NAMED_WAYS)] {
        let noticed = logins(&world, prefix, CHECK_SAMPLES, ways).await?;
        let known = ways.iter().filter(|way| way.exists).map(|way| way.name);
        let missed: Vec<_> = known.filter(|name| !noticed.contains(name)).collect();
        if !missed.is_empty() {
            bail!(
                "the benchmark does not detect a missing hash of unknown users, compared with: {}",
                missed.join(", ")
            );
        }
    }
    if too_large.is_empty() {
        return Ok(());
    }
    bail!("response times differ by more than the limit: {}", too_large.join(", "))
}

/// Compares known and unknown users in password recovery. Returns the requests above the limit.
async fn recovery(world: &World) -> Result<Vec<&'static str>> {
    let known = known_users(world).await?;
    let unknown: Vec<_> = (0..RECOVERY_SAMPLES).map(|n| format!("nobody-{n:05}")).collect();
    println!("Difference of medians, known and unknown users, {RECOVERY_SAMPLES} samples each, interleaved");
    let mut too_large = Vec::new();
    for (name, request) in [
        ("request a code", ask as Request),
        ("wrong short code", try_typed),
        ("request a code by text message", ask_text),
        ("wrong short code, a short code exists", try_typed),
        ("wrong code of a link", try_link),
    ] {
        let mut times = [Vec::new(), Vec::new()];
        for (n, users) in known.iter().zip(&unknown).enumerate() {
            progress(name, n, RECOVERY_SAMPLES);
            for (class, user) in [users.0, users.1].into_iter().enumerate() {
                let (function, event, status) = request(user);
                let taken = time(world, function, &event, status).await.context(name)?;
                times.get_mut(class).context("two classes")?.push(taken);
            }
        }
        let [known, unknown] = times.map(median);
        let share = difference(known, unknown);
        println!("  {name:<38} {known:>7.0} µs  {unknown:>7.0} µs  {:>5.1} %", share * 100.0);
        if share > BOUND {
            too_large.push(name);
        }
    }
    Ok(too_large)
}

/// Compares the causes of a failed login. Returns the causes above the limit.
async fn logins(
    world: &World,
    prefix: &str,
    samples: usize,
    ways: &'static [Way],
) -> Result<Vec<&'static str>> {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); ways.len()];
    let mut events: Vec<Vec<String>> = vec![Vec::new(); ways.len()];
    let model = world.actor(HOME)?;
    let record = world.user(&model).await?;
    for (class, (way, events)) in ways.iter().zip(&mut events).enumerate() {
        for n in 0..samples {
            progress("users", n, samples);
            let actor = copy(&model, &format!("{prefix}-{class}-{n:05}"));
            if way.exists {
                let status = if way.disabled { UserStatus::Disabled } else { UserStatus::Active };
                create(world, User { status, ..record.clone() }, &actor).await?;
            }
            events.push(way.event(actor));
        }
    }
    for n in 0..samples {
        progress("logins", n, samples);
        // Each class is equally often the first of a round.
        for class in (0..ways.len()).map(|class| (class + n) % ways.len()) {
            let event = events.get(class).and_then(|events| events.get(n)).context("an event each")?;
            let taken = time(world, Function::CreateSession, event, 401).await?;
            times.get_mut(class).context("as many as ways")?.push(taken);
        }
    }
    let medians: Vec<_> = times.into_iter().map(median).collect();
    let fastest = medians.iter().copied().fold(f64::INFINITY, f64::min);
    let mut too_large = Vec::new();
    for (way, median) in ways.iter().zip(medians) {
        let share = difference(median, fastest);
        println!("  {:<38} {median:>7.0} µs  {:>5.1} % slower than the fastest", way.name, share * 100.0);
        // If each median is within the limit of the fastest, every pair is within the limit.
        if share > LOGIN_BOUND {
            too_large.push(way.name);
        }
    }
    Ok(too_large)
}

/// Cause of a failed login.
struct Way {
    name: &'static str,
    exists: bool,
    disabled: bool,
    /// The route of a login by name. `None` for a login by ID.
    route: Option<&'static str>,
    spoil: fn(&mut Actor),
}

const BY_NAME: Option<&str> = Some("/api/v2.1/admin/sessions");

/// Causes of a failed login by ID.
const WAYS: &[Way] = &[
    UNKNOWN,
    WRONG_PASSWORD,
    Way {
        name: "wrong organization",
        spoil: |actor| actor.user.organization_id = "another organization".into(),
        ..WRONG_PASSWORD
    },
    Way {
        name: "wrong username",
        spoil: |actor| actor.user.username = "somebody.else@example.com".into(),
        ..WRONG_PASSWORD
    },
    DISABLED,
];

/// Causes of a failed login by name.
const NAMED_WAYS: &[Way] = &[
    Way { name: "unknown name", route: BY_NAME, ..UNKNOWN },
    Way { name: "wrong password, by name", route: BY_NAME, ..WRONG_PASSWORD },
    Way {
        name: "administrator on the customers' route",
        route: Some("/api/v2.1/customer/sessions"),
        spoil: |_| {},
        ..WRONG_PASSWORD
    },
    Way { name: "disabled user, by name", route: BY_NAME, ..DISABLED },
];

const UNKNOWN: Way = Way { name: "unknown user", exists: false, disabled: false, route: None, spoil: |_| {} };
const WRONG_PASSWORD: Way = Way {
    name: "wrong password",
    exists: true,
    disabled: false,
    route: None,
    spoil: |actor| actor.user.password = "not this password at all".into(),
};
const DISABLED: Way = Way { name: "disabled user", exists: true, disabled: true, ..UNKNOWN };

impl Way {
    fn event(&self, mut actor: Actor) -> String {
        (self.spoil)(&mut actor);
        let path = self.route.map_or_else(|| actor.sessions().replace(' ', "%20"), str::to_owned);
        let body = actor.credentials(&actor.user.password);
        event(&Method::POST, &path, NORDIC, None, Some(&body)).to_string()
    }
}

/// Microseconds until the response, which must have the given status.
async fn time(world: &World, function: Function, event: &str, status: i64) -> Result<f64> {
    let begun = Instant::now();
    let answer = world.send(function, event).await?;
    let taken = begun.elapsed().as_secs_f64() * 1e6;
    ensure!(answer.status == status, "{answer:?}");
    Ok(taken)
}

fn difference(one: f64, other: f64) -> f64 {
    (one - other).abs() / one.min(other)
}

/// Progress line in a terminal, overwritten with each call.
fn progress(what: &str, done: usize, of: usize) {
    if stderr().is_terminal() && done.is_multiple_of(50) {
        eprint!("\r\x1b[K  {what} {done}/{of}\r");
    }
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

/// Creates one copy of a demo user for each sample.
async fn known_users(world: &World) -> Result<Vec<String>> {
    let model = world.actor("marcus.jensen@example.com")?;
    let record = world.user(&model).await?;
    let mut users = Vec::new();
    for n in 0..RECOVERY_SAMPLES {
        progress("users", n, RECOVERY_SAMPLES);
        let actor = copy(&model, &format!("member-{n:05}"));
        create(world, record.clone(), &actor).await?;
        users.push(actor.user.user_id);
    }
    Ok(users)
}

/// Copies an actor with another ID and username.
fn copy(model: &Actor, id: &str) -> Actor {
    let mut actor = model.clone();
    id.clone_into(&mut actor.user.user_id);
    actor.user.username = format!("{id}@example.com");
    actor
}

/// Creates the user of an actor. Other attributes are those of `record`.
async fn create(world: &World, record: User, actor: &Actor) -> Result<()> {
    let (id, username) = (UserId::parse(&actor.user.user_id)?, Username::parse(&actor.user.username)?);
    let user = User { id, username, ..record };
    world.store.create_user(&user, world.clock.now()).await.map_err(anyhow::Error::msg)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}
