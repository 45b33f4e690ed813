//! Pinned packages from PyPI, each in its own folder in `target/tools`.
//!
//! Nothing outside `target/` changes, and no virtual environment is needed. An installation gets its
//! final name by one rename after it is complete, so that an interrupted one is never used. pip
//! rejects every file whose SHA-256 is not listed.

use std::{
    ffi::OsString,
    fs::{File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::{
    problem::Problem,
    process::{self, command},
    project::Project,
    ui::Ui,
};

/// Name prefix of unfinished installations. The next installation removes them.
const UNFINISHED: &str = ".unfinished-";

/// A package with its dependencies.
#[derive(Debug, Clone, Copy)]
pub struct Package {
    /// Name on PyPI.
    pub name: &'static str,
    pub version: &'static str,
    /// Contents of a requirements file: the package and all its dependencies, each with its hashes.
    /// pip adds no other dependency.
    pub requirements: &'static str,
}

impl Package {
    /// Returns the folder of the package. Installs it if it is missing.
    ///
    /// # Errors
    /// A [`Problem`] when there is no Python with pip, or when PyPI cannot be reached.
    pub async fn ensure(&self, project: &Project, ui: &Ui) -> Result<PathBuf> {
        let Self { name, version, requirements } = self;
        let tools = project.tools_dir();
        let place = tools.join(format!("{name}-{version}"));
        if place.is_dir() {
            return Ok(place);
        }
        let _lock = lock(&tools)?;
        // Another process may have finished the installation before this one got the lock.
        if place.is_dir() {
            return Ok(place);
        }
        clear_unfinished(&tools)?;
        let staging = staging(&tools)?;
        let step = ui.loud_step("install", &format!("Installing {name} {version} from PyPI (once)"));
        install(requirements, &staging).await.map_err(|error| {
            Problem::new(
                format!("{name} {version} is required, but it cannot be installed: {error:#}."),
                "Check that the network works and that python3 with pip is installed, then start again.",
            )
        })?;
        keep(staging, &place)?;
        step.done("");
        Ok(place)
    }
}

/// Returns the name of a Python with pip, if there is one.
pub async fn find_python() -> Option<OsString> {
    for name in ["python3", "python"] {
        let mut pip = command(name);
        pip.args(["-m", "pip", "--version"]);
        let works = process::output(&mut pip).await.is_ok_and(|output| output.status.success());
        if works {
            return Some(name.into());
        }
    }
    None
}

/// Installs exactly these requirements into the folder.
pub(crate) async fn install(requirements: &str, staging: &TempDir) -> Result<()> {
    let python = find_python().await.context("this machine has no Python with pip")?;
    let file = staging.path().join("requirements.txt");
    std::fs::write(&file, requirements)?;
    let mut pip = command(python);
    pip.args(["-m", "pip", "install", "--no-deps", "--only-binary=:all:"])
        .args(["--require-hashes", "--no-input", "--no-cache-dir"])
        .args(["--disable-pip-version-check", "--retries", "2"])
        .arg("--target")
        .arg(staging.path())
        .arg("--requirement")
        .arg(&file)
        // These settings of the user contradict --target.
        .envs([("PIP_USER", "0"), ("PIP_REQUIRE_VIRTUALENV", "0")])
        // pip warns about system folders, which it does not change here.
        .env("PIP_ROOT_USER_ACTION", "ignore")
        // Temporary files of an interrupted pip are removed with the staging folder.
        .env("TMPDIR", staging.path());
    let status = process::status(&mut pip).await?;
    ensure!(status.success(), "pip cannot install it ({status})");
    Ok(())
}

/// Allows one installation at a time. A second one would remove the files of the first one.
pub(crate) fn lock(tools: &Path) -> Result<File> {
    std::fs::create_dir_all(tools)
        .with_context(|| format!("cannot create the folder {}", tools.display()))?;
    let file = File::create(tools.join(".lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Problem::new(
            "Another command is installing tools for this repository.",
            "Wait until it has finished, then start again.",
        )
        .into()),
        Err(TryLockError::Error(error)) => Err(error).context("cannot lock the tools folder"),
    }
}

pub(crate) fn clear_unfinished(tools: &Path) -> Result<()> {
    for entry in std::fs::read_dir(tools)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            std::fs::remove_dir_all(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Folder for a new installation. It is on the same file system as its final path, so that a rename works.
pub(crate) fn staging(tools: &Path) -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(tools)
        .with_context(|| format!("cannot write to {}", tools.display()))
}

/// Renames a finished installation to its final path.
pub(crate) fn keep(staging: TempDir, place: &Path) -> Result<()> {
    if place.exists() {
        // A damaged installation, which did not print its version.
        std::fs::remove_dir_all(place)?;
    }
    let staged = staging.keep();
    std::fs::rename(&staged, place).with_context(|| format!("cannot rename {}", staged.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unfinished_installations_are_removed() {
        let tools = tempfile::tempdir().unwrap();
        let _forgotten = staging(tools.path()).unwrap().keep();
        std::fs::create_dir(tools.path().join("other")).unwrap();
        clear_unfinished(tools.path()).unwrap();
        let left: Vec<_> =
            std::fs::read_dir(tools.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["other"]);
    }

    #[test]
    fn second_installation_is_rejected() {
        let tools = tempfile::tempdir().unwrap();
        let _first = lock(tools.path()).unwrap();
        let error = lock(tools.path()).unwrap_err();
        assert!(error.downcast_ref::<Problem>().is_some());
    }
}
