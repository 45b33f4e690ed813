//! An emulated AWS on this machine: ministack, pinned, in a process of its own on loopback.
//!
//! It runs the functions' zip files as Lambda does: it starts `bootstrap` and serves it the Runtime
//! API. Nothing leaves this machine, and nothing of a developer's own AWS account is looked at.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use local::{REGION, pip, port, problem::Problem, process, project::Project, ui::Ui};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
};

/// What the deployment was tried with. To take a newer one: its version, and the lines of
/// `ministack.txt` as `uv pip compile --universal --python-version 3.10 --generate-hashes
/// --no-annotate --no-header` writes them.
const MINISTACK: pip::Package =
    pip::Package { name: "ministack", version: "1.5.33", requirements: include_str!("../ministack.txt") };

/// The account that everything is in.
pub const ACCOUNT: &str = "000000000000";
/// What credentials are there, since the tools sign with some.
const NOBODY: &str = "test";
const STARTS_WITHIN: Duration = Duration::from_secs(60);
const STOPS_WITHIN: Duration = Duration::from_secs(30);
/// Its last line before it answers.
const ANSWERS: &str = "Running on http://";

/// Starts the module, and ends it with its functions once our end of its stdin is closed: then we have
/// ended, however that came.
const LAUNCHER: &str = "
import os, runpy, signal, sys, threading

def end_with_parent():
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)

threading.Thread(target=end_with_parent, daemon=True).start()
sys.argv = ['ministack']
runpy.run_module('ministack', run_name='__main__')
";

/// A running emulator. It ends when dropped, and with this process.
pub struct Emulator {
    child: Child,
    _stdin: ChildStdin,
    port: u16,
    /// What it writes goes with it.
    _folder: TempDir,
}

impl Emulator {
    /// Gets ministack if need be, and starts it. 0 takes any free port.
    ///
    /// # Errors
    /// When it cannot be had or does not start.
    pub async fn start(project: &Project, ui: &Ui, port: u16) -> Result<Self> {
        let place = MINISTACK.ensure(project, ui).await?;
        let python = pip::find_python().await.ok_or_else(no_python)?;
        let port = port::check(port, "--port")?;
        let folder = tempfile::tempdir()?;
        let mut command = process::command(python);
        command
            .args(["-c", LAUNCHER])
            .current_dir(folder.path())
            .env("PYTHONPATH", place)
            .env("PYTHONNOUSERSITE", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONUNBUFFERED", "1")
            .env("TMPDIR", folder.path())
            .env("STATE_DIR", folder.path().join("state"))
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("MINISTACK_REGION", REGION)
            // Its functions call it, too.
            .env("AWS_ENDPOINT_URL", url(port))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().context("cannot start Python")?;
        let stdin = child.stdin.take().context("its input is not piped")?;
        let stderr = child.stderr.take().context("its output is not piped")?;
        let mut lines = BufReader::new(stderr).lines();
        let mut said = Vec::new();
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                if line.contains(ANSWERS) {
                    return Ok(());
                }
                said.push(line);
            }
            bail!("ministack ended before it answered:\n{}", said.join("\n"))
        };
        tokio::time::timeout(STARTS_WITHIN, ready).await.context("ministack did not start in time")??;
        // Whatever it still says must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, _stdin: stdin, port, _folder: folder })
    }

    /// Where all of AWS answers: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// What makes a tool work on it: the SDKs, the CDK and `doorwardctl` read these.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        [
            ("AWS_ENDPOINT_URL", self.url()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", NOBODY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", NOBODY.to_owned()),
            ("CDK_DEFAULT_ACCOUNT", ACCOUNT.to_owned()),
            ("CDK_DEFAULT_REGION", REGION.to_owned()),
            // No source of a person's own settings or credentials may answer instead.
            ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
        .into()
    }

    /// A command that reaches this AWS, and no other.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = process::command(program);
        command.envs(self.environment());
        command
    }

    /// Waits until it ends by itself, which it should not.
    ///
    /// # Errors
    /// Always: that it ended.
    pub async fn ended(&mut self) -> Result<()> {
        let status = self.child.wait().await?;
        bail!("the emulator ended ({status})")
    }

    /// Ends it with every function it started, and sees that nothing answers any more.
    ///
    /// # Errors
    /// When something is left.
    pub async fn stop(mut self) -> Result<()> {
        let id = self.child.id().context("it has ended already")?;
        kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?;
        tokio::time::timeout(STOPS_WITHIN, self.child.wait()).await.context("it did not end in time")??;
        // The functions that it leaves behind.
        let left = process::end_all(process::Ending::Graceful).await?;
        ensure!(left.is_empty(), "{} processes are left", left.len());
        ensure!(!port::is_answered(self.port), "port {} still answers", self.port);
        Ok(())
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// What to do where Python is missing.
pub fn no_python() -> Problem {
    Problem::new(
        "The emulated AWS needs Python 3.10 or newer with pip, and there is none.",
        "Install it (Debian, Ubuntu: apt install python3-pip), and start again.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pip_must_check_every_file() {
        let lines = MINISTACK.requirements;
        let pins = lines.lines().filter(|line| line.contains("==")).count();
        assert!(lines.contains(&format!("{}=={} ", MINISTACK.name, MINISTACK.version)));
        assert!(pins > 10, "{pins} packages");
        let unchecked = lines.lines().collect::<Vec<_>>();
        let unchecked: Vec<_> = unchecked
            .windows(2)
            .filter(|pair| pair[0].contains("==") && !pair[1].contains("--hash=sha256:"))
            .collect();
        assert!(unchecked.is_empty(), "{unchecked:?}");
    }
}
