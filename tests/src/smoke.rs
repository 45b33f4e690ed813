//! Drives the real binaries over HTTP: `cargo smoke`.
//!
//! Three rounds, each a `cargo dev` of its own on a free port: under `cargo lambda watch`; with
//! prebuilt binaries that serve several requests at once; and twice over one data folder, across a
//! restart. A command of its own, because the first run may fetch cargo-lambda.

#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "a test, and its output")]

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use e2e::api::{Server, expect, many_at_once, walk_through};
use local::stack::Stack;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
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
    passed += used_port_is_named(&dev).await?;
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
    stack: Stack,
    server: Server,
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
        let server = Server::new(&stack.base_url, stack.tenants.clone());
        Ok(Self { child, stack, server })
    }

    /// SIGTERM, as a service manager would; nothing answers afterwards.
    async fn stop(mut self) -> Result<()> {
        let id = self.child.id().context("it has ended already")?;
        kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?;
        let status =
            tokio::time::timeout(STOPS_WITHIN, self.child.wait()).await.context("did not stop in time")??;
        ensure!(status.success(), "ended with {status}");
        let Stack { base_url, dynamodb_url, secrets_manager_url, .. } = &self.stack;
        for url in [base_url, dynamodb_url, secrets_manager_url] {
            let address = url.strip_prefix("http://").context("no address")?;
            ensure!(tokio::net::TcpStream::connect(address).await.is_err(), "{url} still answers");
        }
        Ok(())
    }
}

fn dev(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["run", "--quiet", "--package", "local", "--"]).args(arguments);
    command.stdout(Stdio::piped()).kill_on_drop(true);
    command
}

async fn used_port_is_named(dev: &Dev) -> Result<u32> {
    let port = dev.stack.base_url.rsplit(':').next().context("no port")?;
    let second = self::dev(&["--memory", "--port", port]).stderr(Stdio::piped()).output().await?;
    let said = String::from_utf8_lossy(&second.stderr);
    ensure!(second.status.code() == Some(2), "ended with {}", second.status);
    ensure!(said.contains(port) && said.contains("--port"), "said {said}");
    println!("  a second start on the same port: refused, and says how to choose another");
    Ok(1)
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
