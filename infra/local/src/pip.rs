//! Pinned packages from PyPI, in folders of their own below `target/tools`.
//!
//! Nothing outside `target/` changes, and no virtual environment is needed: what counts as
//! installed appears under its final name by one rename, so an interrupted installation never
//! counts. pip refuses every file whose SHA-256 is not named.

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

/// What unfinished installations are called, to be cleared by the next.
const UNFINISHED: &str = ".unfinished-";

/// A package with everything it needs.
#[derive(Debug, Clone, Copy)]
pub struct Package {
    /// Its name on PyPI.
    pub name: &'static str,
    pub version: &'static str,
    /// Lines of a requirements file, each version with its hashes: the package and all that it
    /// imports, since pip is told to add nothing.
    pub requirements: &'static str,
}

impl Package {
    /// The folder that it is in, after installing it if need be.
    ///
    /// # Errors
    /// A [`Problem`] when there is no Python with pip, or PyPI cannot be reached.
    pub async fn ensure(&self, project: &Project, ui: &Ui) -> Result<PathBuf> {
        let Self { name, version, requirements } = self;
        let tools = project.tools_dir();
        let place = tools.join(format!("{name}-{version}"));
        if place.is_dir() {
            return Ok(place);
        }
        let _lock = lock(&tools)?;
        // Somebody else may have finished meanwhile.
        if place.is_dir() {
            return Ok(place);
        }
        clear_unfinished(&tools)?;
        let staging = staging(&tools)?;
        let step = ui.loud_step("install", &format!("Getting {name} {version} from PyPI, once"));
        install(requirements, &staging).await.map_err(|error| {
            Problem::new(
                format!("{name} {version} is needed and could not be installed: {error:#}."),
                "Is the network reachable, and is there a python3 with pip? Then start again.",
            )
        })?;
        keep(staging, &place)?;
        step.done("");
        Ok(place)
    }
}

/// A Python with pip, if there is one.
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

/// Installs these requirements, and nothing else, into the folder.
pub(crate) async fn install(requirements: &str, staging: &TempDir) -> Result<()> {
    let python = find_python().await.context("there is no Python with pip on this machine")?;
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
        // Settings of the person's own that contradict --target.
        .envs([("PIP_USER", "0"), ("PIP_REQUIRE_VIRTUALENV", "0")])
        // Its warning is about system folders, which this does not touch.
        .env("PIP_ROOT_USER_ACTION", "ignore")
        // What it leaves behind when it is interrupted goes with the staging folder.
        .env("TMPDIR", staging.path());
    let status = process::status(&mut pip).await?;
    ensure!(status.success(), "pip could not install it ({status})");
    Ok(())
}

/// One installation at a time: the second would only clear away the first one's work.
pub(crate) fn lock(tools: &Path) -> Result<File> {
    std::fs::create_dir_all(tools).with_context(|| format!("cannot make the folder {}", tools.display()))?;
    let file = File::create(tools.join(".lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Problem::new(
            "Another command is installing tools for this repository right now.",
            "Wait until it is done, and start again.",
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

/// Beside the final place, so that the rename stays on one file system.
pub(crate) fn staging(tools: &Path) -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(tools)
        .with_context(|| format!("cannot write to {}", tools.display()))
}

/// Gives what is finished its final name.
pub(crate) fn keep(staging: TempDir, place: &Path) -> Result<()> {
    if place.exists() {
        // Something that did not answer with its version.
        std::fs::remove_dir_all(place)?;
    }
    let staged = staging.keep();
    std::fs::rename(&staged, place).with_context(|| format!("cannot rename {}", staged.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_installation_is_cleared_and_the_rest_kept() {
        let tools = tempfile::tempdir().unwrap();
        let _forgotten = staging(tools.path()).unwrap().keep();
        std::fs::create_dir(tools.path().join("other")).unwrap();
        clear_unfinished(tools.path()).unwrap();
        let left: Vec<_> =
            std::fs::read_dir(tools.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["other"]);
    }

    #[test]
    fn two_installations_exclude_each_other() {
        let tools = tempfile::tempdir().unwrap();
        let _first = lock(tools.path()).unwrap();
        let error = lock(tools.path()).unwrap_err();
        assert!(error.downcast_ref::<Problem>().is_some());
    }
}
