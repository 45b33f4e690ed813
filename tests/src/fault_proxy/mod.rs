//! HTTP proxy between the AWS SDK and an embedded service, which injects the faults of AWS.
//!
//! The functions' clients send every call through a [`FaultProxy`]; the clients of the test itself do
//! not. Without instructions, the proxy forwards each call unchanged. It has three sources of faults:
//! - **Script**: a test injects a [`Fault`] for an operation, an item and the nth call, and gets a
//!   [`Gate`] to wait for the fault and to release a held call.
//! - **Random mode**: [`Random`] decides about each call from a seed. A failing test prints the seed and
//!   the injected faults.
//! - **Conflict mode**: the proxy refuses overlapping writes as DynamoDB does (`conflicts.rs`).
//!
//! A call is one HTTP request, so each repetition by the SDK counts as another call.

mod arrivals;
mod batch;
mod call;
mod condition;
mod conflicts;
mod earlier;
mod fault;
mod gate;
mod random;
mod refusal;
mod server;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Result;
use aws_sdk_dynamodb::config::retry::RetryPartition;
use doorward::aws;
use local::clients;
use tokio::task::JoinHandle;

pub use call::{ItemKey, Operation};
pub use condition::{DROP_VARIABLE, INVALID_STATUS, RECORD_VARIABLE, Weakened, weakened};
pub use fault::{Effect, Fault};
pub use gate::Gate;
pub use random::Random;

use self::{
    arrivals::Arrivals,
    call::Call,
    conflicts::Conflicts,
    earlier::EarlierAnswers,
    fault::{Injection, Script},
    server::Upstream,
};

/// Environment variable that switches conflict mode on in every test.
pub const CONFLICTS_VARIABLE: &str = "DOORWARD_TEST_CONFLICTS";

/// Running proxy on a free loopback port. It ends when dropped.
pub struct FaultProxy {
    url: String,
    shared: Arc<Shared>,
    listener: JoinHandle<()>,
}

/// State of a proxy and of its calls in progress.
struct Shared {
    upstream: Upstream,
    arrivals: Arrivals,
    conflicts: Conflicts,
    earlier: EarlierAnswers,
    plan: Mutex<Plan>,
    /// Name of the test, for the record of conditions.
    test: String,
}

/// Faults to inject, and the faults that were injected.
#[derive(Default)]
struct Plan {
    script: Script,
    random: Option<Random>,
    is_down: bool,
    trace: Vec<String>,
}

impl FaultProxy {
    /// Starts a proxy in front of the service at `upstream`, which is `http://127.0.0.1:PORT`. Conflict
    /// mode is on if [`CONFLICTS_VARIABLE`] is set to `1`.
    ///
    /// # Errors
    /// When no loopback port is free.
    pub async fn start(upstream: &str) -> Result<Self> {
        let shared = Arc::new(Shared {
            upstream: Upstream::new(upstream),
            arrivals: Arrivals::default(),
            conflicts: Conflicts::default(),
            earlier: EarlierAnswers::default(),
            plan: Mutex::default(),
            test: std::thread::current().name().unwrap_or_default().to_owned(),
        });
        shared.conflicts.set_on(std::env::var(CONFLICTS_VARIABLE).is_ok_and(|value| value == "1"));
        let (url, listener) = server::listen(Arc::clone(&shared)).await?;
        Ok(Self { url, shared, listener })
    }

    /// Endpoint: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Client of DynamoDB behind this proxy, with the retries and timeouts of a deployed function.
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let config = clients::dynamodb(&self.url).config().to_builder();
        let config = config.retry_config(aws::retries()).timeout_config(aws::timeouts());
        aws_sdk_dynamodb::Client::from_conf(config.retry_partition(self.partition()).build())
    }

    /// Client of Secrets Manager behind this proxy, with the retries and timeouts of a deployed function.
    pub fn secrets_manager(&self) -> aws_sdk_secretsmanager::Client {
        let config = clients::secrets_manager(&self.url).config().to_builder();
        let config = config.retry_config(aws::retries()).timeout_config(aws::timeouts());
        aws_sdk_secretsmanager::Client::from_conf(config.retry_partition(self.partition()).build())
    }

    /// Own budget of retries. The SDK otherwise shares one between all tests of this process.
    fn partition(&self) -> RetryPartition {
        RetryPartition::new(self.url.clone())
    }

    /// Adds a fault to the end of the script. The first due fault of the script applies to a call.
    ///
    /// # Panics
    /// When the operation cannot have the effect.
    pub fn inject(&self, fault: Fault) -> Gate {
        self.shared.plan().script.add(fault)
    }

    /// Removes all faults of the script.
    pub fn clear(&self) {
        self.shared.plan().script = Script::default();
    }

    /// Closes the connection of every call before it reaches the service, or forwards calls again.
    pub fn set_down(&self, down: bool) {
        self.shared.plan().is_down = down;
    }

    /// Starts random mode, or ends it.
    pub fn set_random(&self, random: Option<Random>) {
        self.shared.plan().random = random;
    }

    /// Switches conflict mode on or off.
    pub fn set_conflicts(&self, on: bool) {
        self.shared.conflicts.set_on(on);
    }

    /// Waits until no call is in progress, including calls whose client has gone and late writes.
    pub async fn settle(&self) {
        self.shared.arrivals.settle().await;
    }

    /// The injected faults and the refused conflicts, oldest first.
    pub fn trace(&self) -> Vec<String> {
        self.shared.plan().trace.clone()
    }
}

impl fmt::Display for FaultProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.shared.plan();
        match &plan.random {
            Some(random) => writeln!(f, "{} faults, seed {}:", plan.trace.len(), random.seed())?,
            None => writeln!(f, "{} faults:", plan.trace.len())?,
        }
        plan.trace.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl Drop for FaultProxy {
    #[expect(clippy::print_stderr, reason = "a failing test shows the seed and the faults")]
    fn drop(&mut self) {
        self.listener.abort();
        if std::thread::panicking() && !self.shared.plan().trace.is_empty() {
            eprintln!("fault proxy: {self}");
        }
    }
}

impl Shared {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the fault of a call: that of the script, otherwise that of random mode.
    fn decide(&self, call: &Call) -> Option<Injection> {
        let mut plan = self.plan();
        if plan.is_down {
            return Some(Injection::new(Effect::LoseRequest));
        }
        let scripted = plan.script.decide(call);
        let decided = scripted.or_else(|| plan.random.as_mut().and_then(|random| random.decide(call)));
        if let Some(injection) = &decided {
            plan.trace.push(format!("{call}: {:?}", injection.effect));
        }
        decided
    }

    fn record_conflict(&self, call: &Call) {
        self.plan().trace.push(format!("{call}: refused because of an overlapping call"));
    }
}
