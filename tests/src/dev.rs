//! A `cargo dev` that a test starts and stops.

#![allow(clippy::indexing_slicing, reason = "reads JSON members that may be absent")]

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, bail, ensure};
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

use crate::api::Server;

/// Limit for a start. The first start compiles everything.
const STARTS_WITHIN: Duration = Duration::from_secs(30 * 60);
/// Limit for a stop.
const STOPS_WITHIN: Duration = Duration::from_secs(60);

/// A running `cargo dev` on a free port. The process ends when the value is dropped.
pub struct Dev {
    child: Child,
    /// Addresses and demo tenants of the running stack.
    pub stack: Stack,
    /// Client for the stack's routes.
    pub server: Server,
}

impl Dev {
    /// Starts `cargo dev` with further arguments, and waits until every function responds.
    ///
    /// # Errors
    /// When the stack does not start.
    pub async fn start(arguments: &[&str]) -> Result<Self> {
        let mut child = command(&[&["--json", "--port", "0"], arguments].concat()).spawn()?;
        let output = child.stdout.take().context("the output of cargo dev is not piped")?;
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
        // Reads the remaining output, so that the pipe does not fill up.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let server = Server::new(&stack.base_url, stack.tenants.clone());
        Ok(Self { child, stack, server })
    }

    /// Sends SIGTERM, as a service manager does, and checks that no port responds afterwards.
    ///
    /// # Errors
    /// When the process does not end in time, fails, or leaves a server running.
    pub async fn stop(mut self) -> Result<()> {
        let id = self.child.id().context("cargo dev has already ended")?;
        kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?;
        let status =
            tokio::time::timeout(STOPS_WITHIN, self.child.wait()).await.context("did not stop in time")??;
        ensure!(status.success(), "cargo dev ended with {status}");
        let Stack { base_url, dynamodb_url, secrets_manager_url, .. } = &self.stack;
        for url in [base_url, dynamodb_url, secrets_manager_url] {
            let address = url.strip_prefix("http://").context("not an http address")?;
            ensure!(tokio::net::TcpStream::connect(address).await.is_err(), "{url} still responds");
        }
        Ok(())
    }
}

/// Returns the command `cargo dev` with arguments. Its output is piped.
#[must_use]
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["run", "--quiet", "--bin", "local", "--"]).args(arguments);
    command.stdout(Stdio::piped()).kill_on_drop(true);
    command
}
