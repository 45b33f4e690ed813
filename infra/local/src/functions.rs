//! Builds the functions. Runs the built programs when cargo-lambda does not run them.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::Instant,
};

use crate::{
    audit::AuditLog,
    env::Variables,
    problem::Problem,
    process::{self, Output},
    project::{FUNCTIONS_PACKAGE, Project},
    ui::Ui,
};

/// Requests that one function process handles at the same time.
const CONCURRENCY: &str = "8";
/// Memory of a function in the deployment, in MB.
const MEMORY_MB: &str = "1024";

/// Maximum number of consecutive restarts of one function.
const RESTARTS: u32 = 5;
/// A function that ran longer than this has recovered: its count of restarts begins again.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Built functions: name and program.
pub type Binaries = BTreeMap<String, PathBuf>;

/// Builds the functions with the same selection as `cargo lambda watch`
/// (`packages = ["functions"]`), so that it does not build them again.
///
/// # Errors
/// A [`Problem`] when they do not compile.
pub async fn build(project: &Project, release: bool) -> Result<Binaries> {
    let mut command = project.command(&project.cargo);
    command
        .args(["build", "--package", FUNCTIONS_PACKAGE, "--bins"])
        // cargo prints the path of each program, which depends on the profile and the target.
        .arg("--message-format=json-render-diagnostics");
    if release {
        command.arg("--release");
    }
    let mut child = process::spawn(&mut command, Output::StdoutToUs)?;
    let output = child.stdout.take().context("cargo's output is not piped")?;
    let mut lines = BufReader::new(output).lines();
    let mut binaries = Binaries::new();
    while let Some(line) = lines.next_line().await? {
        if let Some((name, program)) = executable(&line) {
            binaries.insert(name, program);
        }
    }
    if child.wait().await?.success() {
        Ok(binaries)
    } else {
        Err(Problem::new(
            "The functions do not compile.",
            "Correct the errors that the compiler printed above, then start again.",
        )
        .into())
    }
}

/// Parses one line of cargo's JSON output. Returns the name and path of a built program.
fn executable(line: &str) -> Option<(String, PathBuf)> {
    #[derive(Deserialize)]
    struct CargoMessage {
        target: CargoTarget,
        executable: PathBuf,
    }
    #[derive(Deserialize)]
    struct CargoTarget {
        name: String,
    }
    let message: CargoMessage = serde_json::from_str(line).ok()?;
    Some((message.target.name, message.executable))
}

/// Runs each function against the Runtime API on `port`, and restarts functions that end.
///
/// # Errors
/// A [`Problem`] when a function ends more than `RESTARTS` times in succession.
pub async fn serve(
    project: &Project,
    binaries: &Binaries,
    env: &Variables,
    port: u16,
    (ui, audit): (&Ui, &AuditLog),
) -> Result<Infallible> {
    let served =
        binaries.iter().map(|(name, program)| keep_running(project, name, program, env, port, (ui, audit)));
    let never = try_join_all(served).await?;
    match never.into_iter().next() {
        Some(never) => match never {},
        None => Err(Problem::new(
            format!("The package {FUNCTIONS_PACKAGE} has no binaries to run."),
            "Start this command inside the Doorward repository.",
        )
        .into()),
    }
}

async fn keep_running(
    project: &Project,
    name: &str,
    program: &Path,
    env: &Variables,
    port: u16,
    (ui, audit): (&Ui, &AuditLog),
) -> Result<Infallible> {
    let mut deaths = 0;
    loop {
        let begun = Instant::now();
        let mut command = project.command(program);
        command.envs(env).envs(lambda_environment(name, port));
        let mut child = process::spawn(&mut command, Output::StdoutToUs)?;
        audit.follow(child.stdout.take().context("a function's output is not piped")?);
        let status = child.wait().await?;
        if begun.elapsed() > HEALTHY_AFTER {
            deaths = 0;
        }
        deaths += 1;
        if deaths > RESTARTS {
            return Err(Problem::new(
                format!("The function {name} ended {deaths} times in succession ({status})."),
                "Read its messages above, correct the cause, then start again.",
            )
            .into());
        }
        ui.warn(&format!(
            "The function {name} ended ({status}). Restarting it (restart {deaths} of at most {RESTARTS} \
             in succession)."
        ));
        tokio::time::sleep(pause(deaths)).await;
    }
}

/// Doubles with each restart: 0.2 s, 0.4 s, …
fn pause(deaths: u32) -> Duration {
    FIRST_PAUSE * 2_u32.saturating_pow(deaths.saturating_sub(1))
}

/// Variables that the Lambda service sets for a function.
fn lambda_environment(name: &str, port: u16) -> [(&'static str, String); 8] {
    [
        ("AWS_LAMBDA_RUNTIME_API", format!("http://127.0.0.1:{port}/.rt/{name}")),
        ("AWS_LAMBDA_FUNCTION_NAME", name.to_owned()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "1".to_owned()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", MEMORY_MB.to_owned()),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{name}")),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "local".to_owned()),
        ("AWS_LAMBDA_MAX_CONCURRENCY", CONCURRENCY.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_read_from_cargos_output() {
        let line =
            r#"{"reason":"compiler-artifact","target":{"name":"a","kind":["bin"]},"executable":"/t/a"}"#;
        assert_eq!(executable(line), Some(("a".into(), "/t/a".into())));
        let library = r#"{"reason":"compiler-artifact","target":{"name":"l"},"executable":null}"#;
        assert_eq!(executable(library), None);
        assert_eq!(executable(r#"{"reason":"build-finished","success":true}"#), None);
    }

    #[test]
    fn pause_doubles_with_each_restart() {
        assert_eq!(pause(1), Duration::from_millis(200));
        assert_eq!(pause(3), Duration::from_millis(800));
    }
}
