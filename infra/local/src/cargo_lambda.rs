//! Finds cargo-lambda, or installs the pinned version into the target folder.
//!
//! An installation changes nothing outside `target/`, except cargo's download cache if cargo builds the
//! program. pip or cargo installs the program into a temporary folder. After the program has printed the
//! expected version, one rename moves this folder to its final path.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use tempfile::TempDir;

use crate::{
    pip,
    problem::Problem,
    process::{self, command},
    project::Project,
    ui::Ui,
};

/// Pinned version, tested with the local routes.
pub const VERSION: &str = "1.9.2";

/// SHA-256 of that version's wheels on PyPI: macOS x86-64 and arm64, Linux arm64 and x86-64. pip
/// rejects any other file. If pip cannot install a wheel, cargo builds the program. cargo then checks
/// the downloaded source code with the checksum in the registry's index.
const WHEEL_HASHES: [&str; 4] = [
    "05efdab4db99fd976f5718b67bb4e72089335d1aab209168f2dfe20907b0e341",
    "28e2f698b4e0e367097cd30a8ded8ddc6851dba6f4d53b907b4659a635ae3665",
    "3350315e8b4e88f7134967f51546bf51aa5db37a6d39a17380545362ae27e289",
    "db2c0b1d53d7ed0055198fd045f641addc91b180b20d794fcf78cc9a9efacb38",
];

const PROGRAM: &str = "cargo-lambda";

/// Returns the path of the program. Installs it if it is missing.
///
/// # Errors
/// A [`Problem`] when both ways of installing it fail.
pub async fn ensure(project: &Project, ui: &Ui) -> Result<PathBuf> {
    let installed = installed_path(&project.tools_dir());
    let candidates = on_path().into_iter().chain([installed]);
    for candidate in candidates {
        if candidate.is_file() && version_of(&candidate).await.as_deref() == Some(VERSION) {
            return Ok(candidate);
        }
    }
    install(project, ui).await
}

fn installed_path(tools: &Path) -> PathBuf {
    tools.join(format!("{PROGRAM}-{VERSION}")).join("bin").join(PROGRAM)
}

/// Returns the path of the program in each folder where cargo searches: those of `PATH`, and the folder of
/// `cargo install`.
fn on_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    std::env::split_paths(&path)
        .chain(cargo_home.map(|home| home.join("bin")))
        .filter(|folder| !folder.as_os_str().is_empty())
        .map(|folder| folder.join(PROGRAM))
        .collect()
}

async fn version_of(program: &Path) -> Option<String> {
    let mut command = command(program);
    command.args(["lambda", "--version"]);
    let output = process::output(&mut command).await.ok()?;
    parse_version(std::str::from_utf8(&output.stdout).ok()?)
}

/// Parses a line like `cargo-lambda 1.9.2 (67129fc 2026-08-21Z)`.
fn parse_version(text: &str) -> Option<String> {
    let mut words = text.split_whitespace();
    words.find(|word| *word == PROGRAM)?;
    words.next().map(str::to_owned)
}

async fn install(project: &Project, ui: &Ui) -> Result<PathBuf> {
    let tools = project.tools_dir();
    let _lock = pip::lock(&tools)?;
    let program = installed_path(&tools);
    // Another process may have finished the installation before this one got the lock.
    if version_of(&program).await.as_deref() == Some(VERSION) {
        return Ok(program);
    }
    pip::clear_unfinished(&tools)?;

    let wheel = from_wheel(&tools, ui).await;
    let Err(no_wheel) = wheel else {
        return Ok(program);
    };
    ui.warn(&format!(
        "Cannot install the wheel of cargo-lambda: {no_wheel:#}. Building it with cargo instead, which \
         takes some minutes."
    ));
    let Err(no_build) = from_source(project, &tools, ui).await else {
        return Ok(program);
    };
    Err(Problem::new(
        format!(
            "cargo-lambda {VERSION} is required, but it cannot be installed: {no_wheel:#}; {no_build:#}."
        ),
        format!(
            "Check the network connection, or install it yourself with one of these commands. Then start \
             again.\n    python3 -m pip install cargo-lambda=={VERSION}\n    \
             cargo install --locked --version {VERSION} cargo-lambda"
        ),
    )
    .into())
}

async fn from_wheel(tools: &Path, ui: &Ui) -> Result<()> {
    let step =
        ui.loud_step("install-cargo-lambda", &format!("Installing cargo-lambda {VERSION} from PyPI (once)"));
    let staging = pip::staging(tools)?;
    pip::install(&requirement(), &staging).await?;
    finish(staging, tools).await?;
    step.done("");
    Ok(())
}

/// Line of a requirements file.
fn requirement() -> String {
    let pin = format!("{PROGRAM}=={VERSION}");
    let hashes = WHEEL_HASHES.map(|hash| format!(" --hash=sha256:{hash}"));
    pin + &hashes.concat() + "\n"
}

async fn from_source(project: &Project, tools: &Path, ui: &Ui) -> Result<()> {
    let step = ui.loud_step("install-cargo-lambda", &format!("Building cargo-lambda {VERSION} (once)"));
    let staging = pip::staging(tools)?;
    // Kept after an interruption, so that the next attempt continues the build.
    let build = tools.join(format!("{PROGRAM}-{VERSION}-build"));
    let mut install = command(&project.cargo);
    install
        .args(["install", "--locked", "--version", VERSION, PROGRAM])
        .arg("--root")
        .arg(staging.path())
        .arg("--target-dir")
        .arg(&build)
        .current_dir(staging.path())
        .env_remove("CARGO_TARGET_DIR");
    let status = process::status(&mut install).await?;
    ensure!(status.success(), "cargo cannot build it ({status})");
    finish(staging, tools).await?;
    if let Err(error) = std::fs::remove_dir_all(&build) {
        ui.warn(&format!("cannot remove {}: {error}", build.display()));
    }
    step.done("");
    Ok(())
}

/// Renames an installation to its final name if it runs and has the pinned version.
async fn finish(staging: TempDir, tools: &Path) -> Result<()> {
    let program = staging.path().join("bin").join(PROGRAM);
    match version_of(&program).await {
        Some(version) if version == VERSION => {}
        Some(version) => bail!("the installed version is {version}, but {VERSION} is required"),
        None => bail!("the installed program does not run on this machine"),
    }
    pip::keep(staging, &tools.join(format!("{PROGRAM}-{VERSION}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn fake(folder: &Path, version: &str) {
        std::fs::create_dir_all(folder.join("bin")).unwrap();
        let program = folder.join("bin").join(PROGRAM);
        std::fs::write(&program, format!("#!/bin/sh\necho cargo-lambda {version} x\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn version_is_the_word_after_the_name() {
        let text = "cargo-lambda 1.9.2 (67129fc 2026-08-21Z)\n";
        assert_eq!(parse_version(text).as_deref(), Some("1.9.2"));
        assert_eq!(parse_version("error: no such command"), None);
        assert_eq!(parse_version("cargo-lambda"), None);
    }

    #[test]
    fn every_wheel_has_a_hash() {
        let line = requirement();
        assert!(line.starts_with("cargo-lambda==1.9.2 --hash=sha256:"));
        assert_eq!(line.matches("--hash=sha256:").count(), WHEEL_HASHES.len());
        assert!(WHEEL_HASHES.iter().all(|hash| hash.len() == 64));
    }

    #[tokio::test]
    async fn only_a_running_program_of_the_pinned_version_is_installed() {
        let tools = tempfile::tempdir().unwrap();
        let staging = pip::staging(tools.path()).unwrap();
        finish(staging, tools.path()).await.unwrap_err();
        assert!(!installed_path(tools.path()).exists());

        let other = pip::staging(tools.path()).unwrap();
        fake(other.path(), "1.0.0");
        let error = finish(other, tools.path()).await.unwrap_err();
        assert!(error.to_string().contains("1.0.0"), "{error}");
        assert!(!installed_path(tools.path()).exists());

        let right = pip::staging(tools.path()).unwrap();
        fake(right.path(), VERSION);
        finish(right, tools.path()).await.unwrap();
        let program = installed_path(tools.path());
        assert_eq!(version_of(&program).await.as_deref(), Some(VERSION));
    }
}
