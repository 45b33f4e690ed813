//! Runs the `doorwardctl` binary against embedded services and checks effects, output and exit codes.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test may panic")]

mod clients;
mod clocks;
mod doctor;
mod retirement;
mod tenants;
mod user_data;
mod user_index;
mod users;

use std::{collections::HashMap, process::Stdio};

use e2e::World;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command};

pub(crate) const NORDIC_ADMIN: &str = "admin@nordic.example";
pub(crate) const MARCUS: &str = "marcus.jensen@example.com";

/// Exit code and output of a finished command.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// Parses stdout as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts that the exit code is 0.
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }
}

/// Returns the command with an empty environment, so that it cannot reach a real account.
pub(crate) fn command(arguments: &[&str], environment: &HashMap<&str, String>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorwardctl"));
    command.args(arguments).env_clear().envs(environment).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) async fn run(arguments: &[&str], environment: &HashMap<&str, String>, stdin: &str) -> Done {
    let mut child = command(arguments, environment).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let text = stdin.to_owned();
    // The write fails if the command ends without reading stdin.
    tokio::spawn(async move { drop(input.write_all(text.as_bytes()).await) });
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// A local stack with the demo tenants.
pub(crate) struct Stack {
    pub(crate) world: World,
    pub(crate) folder: tempfile::TempDir,
}

impl Stack {
    pub(crate) async fn start() -> Self {
        let world = World::start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let stack = json!({
            "dynamodbUrl": world.dynamodb_url,
            "secretsManagerUrl": world.secrets_url,
            "region": local::REGION,
            "table": local::TABLE,
            "auditFile": folder.path().join("audit.ndjson"),
        });
        std::fs::write(folder.path().join("stack.json"), stack.to_string()).unwrap();
        Self { world, folder }
    }

    /// Returns the option that selects the stack.
    pub(crate) fn local_option(&self) -> String {
        format!("--local={}", self.path("stack.json"))
    }

    /// Returns the path of a file in the stack's folder.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Done {
        self.run_with(arguments, "").await
    }

    pub(crate) async fn run_with(&self, arguments: &[&str], stdin: &str) -> Done {
        let local = self.local_option();
        let all: Vec<_> = [local.as_str()].into_iter().chain(arguments.iter().copied()).collect();
        run(&all, &HashMap::new(), stdin).await
    }
}
