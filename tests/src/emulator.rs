//! Emulated AWS on this machine: a pinned version of ministack in its own process on loopback.
//!
//! It runs the functions' zip files like Lambda: it starts `bootstrap` and serves the Runtime API. It
//! sends nothing to other machines and does not read a developer's AWS credentials.

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

/// Version that the deployment is tested with. To update it, change the version here and generate
/// `ministack.txt` with `uv pip compile --universal --python-version 3.10 --generate-hashes
/// --no-annotate --no-header`.
const MINISTACK: pip::Package =
    pip::Package { name: "ministack", version: "1.5.33", requirements: include_str!("../ministack.txt") };

/// AWS account ID of the emulator.
pub const ACCOUNT: &str = "000000000000";
/// Key ID and secret. The emulator ignores them, but the tools need some to sign with.
const CREDENTIAL: &str = "test";
const STARTS_WITHIN: Duration = Duration::from_secs(60);
const STOPS_WITHIN: Duration = Duration::from_secs(30);
/// Last line that the emulator prints before it accepts requests.
const ANSWERS: &str = "Running on http://";

/// Python program that starts ministack. It ends ministack and its functions when stdin closes, which
/// happens when this process ends for any reason.
const LAUNCHER: &str = "
import os, runpy, signal, sys, threading

def end_with_parent():
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)

threading.Thread(target=end_with_parent, daemon=True).start()
sys.argv = ['ministack']
runpy.run_module('ministack', run_name='__main__')
";

/// Running emulator. It ends when dropped, and when this process ends.
pub struct Emulator {
    child: Child,
    _stdin: ChildStdin,
    port: u16,
    /// Files of the emulator. They are removed with it.
    _folder: TempDir,
}

impl Emulator {
    /// Installs ministack if it is missing, and starts it. Port 0 means any free port.
    ///
    /// # Errors
    /// When the installation or the start fails.
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
            // For the functions, which call the emulator.
            .env("AWS_ENDPOINT_URL", url(port))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().context("cannot start Python")?;
        let stdin = child.stdin.take().context("stdin of the emulator is not piped")?;
        let stderr = child.stderr.take().context("stderr of the emulator is not piped")?;
        let mut lines = BufReader::new(stderr).lines();
        let mut printed = Vec::new();
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                if line.contains(ANSWERS) {
                    return Ok(());
                }
                printed.push(line);
            }
            bail!("ministack ended before it was ready:\n{}", printed.join("\n"))
        };
        tokio::time::timeout(STARTS_WITHIN, ready)
            .await
            .context("ministack did not start within 60 seconds")??;
        // Keeps reading, because a full pipe would block the emulator.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, _stdin: stdin, port, _folder: folder })
    }

    /// Endpoint of all AWS services: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// Variables that make the SDKs, the CDK and `doorwardctl` use the emulator.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        [
            ("AWS_ENDPOINT_URL", self.url()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", CREDENTIAL.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", CREDENTIAL.to_owned()),
            ("CDK_DEFAULT_ACCOUNT", ACCOUNT.to_owned()),
            ("CDK_DEFAULT_REGION", REGION.to_owned()),
            // Disables the user's own settings and credentials.
            ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
        .into()
    }

    /// Creates a command that can reach only the emulator.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = process::command(program);
        command.envs(self.environment());
        command
    }

    /// Waits until the emulator ends, which is always an error.
    ///
    /// # Errors
    /// Always.
    pub async fn ended(&mut self) -> Result<()> {
        let status = self.child.wait().await?;
        bail!("the emulator ended unexpectedly ({status})")
    }

    /// Ends the emulator and every function that it started. Checks that its port is closed.
    ///
    /// # Errors
    /// When a process or the port remains.
    pub async fn stop(mut self) -> Result<()> {
        let id = self.child.id().context("the emulator has already ended")?;
        kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?;
        tokio::time::timeout(STOPS_WITHIN, self.child.wait())
            .await
            .context("the emulator did not end within 30 seconds")??;
        // Functions that outlive the emulator.
        let left = process::end_all(process::Ending::Graceful).await?;
        ensure!(left.is_empty(), "{} processes did not end", left.len());
        ensure!(!port::is_answered(self.port), "port {} still accepts connections", self.port);
        Ok(())
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Error for a machine without Python.
pub fn no_python() -> Problem {
    Problem::new(
        "The emulated AWS needs Python 3.10 or newer with pip, but Python was not found.",
        "Install it (Debian, Ubuntu: apt install python3-pip), then start again.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_has_hashes() {
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
