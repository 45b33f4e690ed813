//! `cargo measure`: measures the start time of a function and the CPU time of requests.
//!
//! The release binaries run as on Lambda: one process for each function, connected to a Runtime API.
//! DynamoDB and Secrets Manager are embedded and use plain HTTP on loopback, so that the numbers
//! include neither TLS nor the network. The CPU time is that of the function's process, from /proc.
//! Compare the ratios, because absolute times depend on the machine.

#![allow(clippy::print_stdout, reason = "the printed numbers are the result")]

use std::{
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::HeaderMap,
    response::IntoResponse,
    routing::{get, post},
};
use doorward::{domain::HashCost, function::SystemClock, port::Clock};
use e2e::{Actor, Login, World, authorizer_event, event};
use http::Method;
use local::{REGION, SECRET_PREFIX, TABLE};
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    sync::{Mutex, oneshot},
};

/// Example function that returns a constant.
const HELLO: &str = "hello";
const STARTS: usize = 30;
const LOGINS: usize = 150;
const SESSIONS: usize = 1_000;

#[tokio::main]
async fn main() -> Result<()> {
    build_functions().await?;
    let world = World::start_with(1).await?;
    world.clock.set(SystemClock.now()); // the functions use the time of the machine
    let admin = world.actor("admin@nordic.example")?;

    println!("Start time, from exec to the first response: median of {STARTS} interleaved runs");
    let mut sessions = Vec::new();
    for _ in 0..STARTS {
        sessions.push(world.login(&admin).await?);
    }
    let (mut hello, mut refresh) = (Vec::new(), Vec::new());
    for login in &sessions {
        hello.push(start(&world, HELLO, refresh_event(login), false).await?);
        refresh.push(start(&world, "refresh-session", refresh_event(login), true).await?);
    }
    let (hello, refresh) = (median(hello), median(refresh));
    println!("  hello world                        {hello:>8.2} ms   1.0 ×");
    println!("  refresh-session, an ES256 refresh  {refresh:>8.2} ms   {:.1} ×", refresh / hello);

    println!("CPU time of the function's process per request");
    let hash = raw_hash()?;
    println!("  only argon2id, memory reused       {hash:>8.2} ms   1.00 ×");
    let logins = vec![login_event(&admin); LOGINS];
    let login = cpu(&world, "create-session", logins).await?;
    println!("  login                              {login:>8.2} ms   {:.2} ×", login / hash);
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(world.login(&world.actor("marcus.jensen@example.com")?).await?);
    }
    let events = sessions.iter().map(refresh_event).collect();
    println!(
        "  refresh                            {:>8.2} ms",
        cpu(&world, "refresh-session", events).await?
    );
    let events = sessions.iter().map(|login| authorizer_event(Some(&login.token)).to_string()).collect();
    println!("  session check, by the authorizer   {:>8.2} ms", cpu(&world, "authorize", events).await?);
    let events = sessions.iter().map(logout_event).collect();
    println!("  logout                             {:>8.2} ms", cpu(&world, "delete-session", events).await?);
    Ok(())
}

async fn build_functions() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["build", "--release", "--package", "functions", "--bins", "--example", HELLO];
    ensure!(
        Command::new(cargo).args(arguments).status().await?.success(),
        "the functions do not compile; correct the errors above"
    );
    Ok(())
}

fn login_event(actor: &Actor) -> String {
    let body = actor.credentials(&actor.user.password);
    event(&Method::POST, &actor.sessions(), &actor.tenant.tenant_id, None, Some(&body)).to_string()
}

fn refresh_event(login: &Login) -> String {
    let (method, path) = login.refresh_route();
    let body = json!({ "refreshToken": login.refresh });
    event(&method, &path, &login.actor.tenant.tenant_id, Some(&login.token), Some(&body)).to_string()
}

fn logout_event(login: &Login) -> String {
    let tenant = &login.actor.tenant.tenant_id;
    event(&Method::DELETE, &login.path(), tenant, Some(&login.token), None).to_string()
}

/// Milliseconds from the start of a process to its first response.
async fn start(world: &World, binary: &str, event: String, checked: bool) -> Result<f64> {
    let run = Run::begin(vec![event]).await?;
    let begun = Instant::now();
    let mut child = run.spawn(world, binary)?;
    let answered = run.all_answered(&mut child, checked).await?;
    child.kill().await?;
    Ok(milliseconds(answered.duration_since(begun)))
}

/// Average CPU milliseconds of one request, without the first request.
async fn cpu(world: &World, binary: &str, mut events: Vec<String>) -> Result<f64> {
    let rest = events.split_off(1);
    let count = rest.len();
    let run = Run::begin(events).await?;
    let mut child = run.spawn(world, binary)?;
    run.all_answered(&mut child, true).await?;
    let before = cpu_ticks(&child)?;
    let answered = run.more(rest).await;
    run.wait(answered, &mut child, true).await?;
    let ticks = cpu_ticks(&child)? - before;
    child.kill().await?;
    // Linux counts in hundredths of a second for user space (USER_HZ), on every architecture.
    Ok(f64::from(u32::try_from(ticks)?) * 10.0 / f64::from(u32::try_from(count)?))
}

/// User and system time of a process.
fn cpu_ticks(child: &Child) -> Result<u64> {
    let id = child.id().context("the function ended")?;
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |index: usize| {
        fields
            .get(index)
            .context("a field is missing in /proc/PID/stat")?
            .parse::<u64>()
            .context("a field of /proc/PID/stat is not a number")
    };
    Ok(field(11)? + field(12)?)
}

/// Milliseconds of one hash at the default cost, in reused memory.
fn raw_hash() -> Result<f64> {
    let cost = HashCost::default();
    let params =
        Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(anyhow::Error::msg)?;
    let mut memory = vec![Block::new(); params.block_count()];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut times = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        argon2
            .hash_password_into_with_memory(
                b"your_secure_password",
                b"sixteen bytes ..",
                &mut [0; 32],
                &mut memory,
            )
            .map_err(anyhow::Error::msg)?;
        times.push(milliseconds(begun.elapsed()));
    }
    Ok(median(times))
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// Runtime API that sends events to one process.
struct Run {
    url: String,
    queue: Arc<Mutex<Queue>>,
    answered: Mutex<Option<oneshot::Receiver<Answered>>>,
    served: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Queue {
    events: Vec<String>,
    left: usize,
    refused: Option<String>,
    done: Option<oneshot::Sender<Answered>>,
    waiting: Arc<tokio::sync::Notify>,
}

type Answered = (Instant, Option<String>);

impl Run {
    async fn begin(events: Vec<String>) -> Result<Self> {
        let queue = Arc::new(Mutex::new(Queue::default()));
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(respond))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(refuse))
            .with_state(Arc::clone(&queue));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = listener.local_addr()?.to_string();
        let served = tokio::spawn(async move {
            let _ = axum::serve(listener, routes).await;
        });
        let run = Self { url, queue, answered: Mutex::new(None), served };
        let answered = run.more(events).await;
        *run.answered.lock().await = Some(answered);
        Ok(run)
    }

    /// Queues events. The returned channel receives a value after the last response.
    async fn more(&self, mut events: Vec<String>) -> oneshot::Receiver<Answered> {
        let (done, answered) = oneshot::channel();
        events.reverse();
        let mut queue = self.queue.lock().await;
        queue.left = events.len();
        queue.events = events;
        queue.done = Some(done);
        queue.waiting.notify_waiters();
        answered
    }

    fn spawn(&self, world: &World, binary: &str) -> Result<Child> {
        // This program is in target/debug, what it measures in target/release.
        let target = std::env::current_exe()?
            .ancestors()
            .nth(2)
            .map(PathBuf::from)
            .context("cannot find the target folder")?;
        let folder = if binary == HELLO { "release/examples" } else { "release" };
        let environment = [
            ("AWS_LAMBDA_RUNTIME_API", self.url.as_str()),
            ("AWS_LAMBDA_FUNCTION_NAME", binary),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769"),
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", "local"),
            ("AWS_SECRET_ACCESS_KEY", "local"),
            ("AWS_ENDPOINT_URL_DYNAMODB", world.dynamodb_url.as_str()),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", world.secrets_url.as_str()),
            ("DOORWARD_TABLE", TABLE),
            ("DOORWARD_SECRET_PREFIX", SECRET_PREFIX),
        ];
        let child = Command::new(target.join(folder).join(binary))
            .env_clear()
            .envs(environment)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        Ok(child)
    }

    async fn all_answered(&self, child: &mut Child, checked: bool) -> Result<Instant> {
        let answered = self.answered.lock().await.take().context("waited for already")?;
        self.wait(answered, child, checked).await
    }

    async fn wait(
        &self,
        answered: oneshot::Receiver<Answered>,
        child: &mut Child,
        checked: bool,
    ) -> Result<Instant> {
        tokio::select! {
            ended = child.wait() => bail!("the function ended: {}", ended?),
            answered = answered => {
                let (at, refused) = answered?;
                match refused.filter(|_| checked) {
                    Some(refused) => bail!("the function answered {refused}"),
                    None => Ok(at),
                }
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.served.abort();
    }
}

async fn next(State(queue): State<Arc<Mutex<Queue>>>) -> impl IntoResponse {
    loop {
        let mut held = queue.lock().await;
        if let Some(event) = held.events.pop() {
            let headers = [
                ("lambda-runtime-aws-request-id", "measure"),
                ("lambda-runtime-deadline-ms", "4000000000000"),
                (
                    "lambda-runtime-invoked-function-arn",
                    "arn:aws:lambda:us-east-1:123456789012:function:measure",
                ),
                ("content-type", "application/json"),
            ];
            return (headers, event);
        }
        let waiting = Arc::clone(&held.waiting);
        let more = waiting.notified();
        drop(held);
        more.await;
    }
}

async fn respond(State(queue): State<Arc<Mutex<Queue>>>, body: Bytes) -> http::StatusCode {
    let at = Instant::now();
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    let status = answer.get("statusCode").and_then(Value::as_u64);
    let passes = answer.get("isAuthorized").and_then(Value::as_bool);
    let mut queue = queue.lock().await;
    if status != Some(200) && passes != Some(true) {
        queue.refused = Some(answer.to_string());
    }
    queue.left = queue.left.saturating_sub(1);
    if queue.left == 0
        && let Some(done) = queue.done.take()
    {
        let _ = done.send((at, queue.refused.take()));
    }
    http::StatusCode::ACCEPTED
}

async fn refuse(
    State(queue): State<Arc<Mutex<Queue>>>,
    _headers: HeaderMap,
    body: Bytes,
) -> http::StatusCode {
    let mut queue = queue.lock().await;
    if let Some(done) = queue.done.take() {
        let _ = done.send((Instant::now(), Some(String::from_utf8_lossy(&body).into_owned())));
    }
    http::StatusCode::ACCEPTED
}
