//! `cargo lambda watch`: the routes, the Runtime API, and by default the functions themselves.

use std::{collections::BTreeMap, ffi::OsString, io::Write, path::Path, path::PathBuf};

use anyhow::{Context, Result};
use tokio::process::Child;

use crate::{
    process::{self, Output},
    project::Project,
};

/// What `cargo lambda watch` is to do.
#[derive(Debug)]
pub struct Watch<'a> {
    pub program: &'a Path,
    pub port: u16,
    pub release: bool,
    /// Only route and offer the Runtime API: somebody else runs the functions.
    pub only_apis: bool,
    /// For the functions that it starts.
    pub env: &'a BTreeMap<&'static str, String>,
    /// Folders whose changes are no reason to restart a function.
    pub unwatched: &'a [PathBuf],
}

impl Watch<'_> {
    /// Starts it; what it and the functions write to standard output is piped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, project: &Project) -> Result<Child> {
        let ignore = project.local_dir().join("unwatched");
        write_ignore_file(&ignore, &project.root, self.unwatched)?;
        let mut command = project.command(self.program);
        command.args(self.arguments()).envs(self.env).env("CARGO_LAMBDA_IGNORE_FILE", ignore);
        if std::env::var_os("RUST_LOG").is_none() {
            // Its own account of each function's start is noise here; the functions have
            // DOORWARD_LOG.
            command.env("RUST_LOG", "cargo_lambda=warn");
        }
        process::spawn(&mut command, Output::StdoutToUs)
    }

    fn arguments(&self) -> Vec<OsString> {
        let port = self.port.to_string();
        // What it writes ends at our stderr, though it sees a pipe.
        let color = if console::colors_enabled_stderr() { "always" } else { "never" };
        // Its default is to listen on all interfaces. CORS is the functions' own business.
        let mut arguments = vec!["lambda", "--color", color, "watch"];
        arguments.extend(["--invoke-address", "127.0.0.1", "--invoke-port", &port]);
        arguments.push("--disable-cors");
        // No --timeout: it also ends the functions' own waiting for their next event (408), and
        // with it every function that had nothing to do for so long.
        if self.only_apis {
            arguments.push("--only-lambda-apis");
        }
        if self.release {
            arguments.push("--release");
        }
        arguments.into_iter().map(OsString::from).collect()
    }
}

/// cargo-lambda watches the whole workspace. It leaves out `target`, but not a data folder
/// elsewhere, whose every write would restart the functions, and not git's own.
fn write_ignore_file(path: &Path, root: &Path, folders: &[PathBuf]) -> Result<()> {
    let write = || -> Result<()> {
        if let Some(folder) = path.parent() {
            crate::stack::make_private_dir(folder)?;
        }
        let mut file = std::fs::File::create(path)?;
        for line in ignored(root, folders) {
            writeln!(file, "{line}")?;
        }
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn ignored(root: &Path, folders: &[PathBuf]) -> Vec<String> {
    // As cargo-lambda does; what does not exist stays as it is.
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let root = real(root);
    let inside = folders
        .iter()
        .map(|folder| real(folder))
        .filter_map(|folder| Some(folder.strip_prefix(&root).ok()?.to_str()?.to_owned()))
        .map(|folder| format!("/{folder}/"));
    std::iter::once("/.git/".to_owned()).chain(inside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(only_apis: bool, release: bool) -> Vec<OsString> {
        Watch {
            program: Path::new("p"),
            port: 9001,
            release,
            only_apis,
            env: &BTreeMap::new(),
            unwatched: &[],
        }
        .arguments()
    }

    #[test]
    fn it_always_binds_to_loopback() {
        for arguments in [arguments(false, false), arguments(true, true)] {
            let at = arguments.iter().position(|it| it == "--invoke-address").unwrap();
            assert_eq!(arguments[at + 1], "127.0.0.1");
        }
    }

    #[test]
    fn idle_functions_are_left_alone() {
        for arguments in [arguments(false, false), arguments(true, false)] {
            assert!(!arguments.contains(&"--timeout".into()));
        }
    }

    #[test]
    fn modes_are_passed_on() {
        assert!(arguments(true, false).contains(&"--only-lambda-apis".into()));
        assert!(!arguments(false, false).contains(&"--only-lambda-apis".into()));
        assert!(arguments(false, true).contains(&"--release".into()));
    }

    #[test]
    fn only_folders_of_the_workspace_are_left_out() {
        let folders = ["/w/build/data", "/elsewhere"].map(PathBuf::from);
        assert_eq!(ignored(Path::new("/w"), &folders), ["/.git/", "/build/data/"]);
    }
}
