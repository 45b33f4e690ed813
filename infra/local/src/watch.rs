//! Starts `cargo lambda watch`, which serves the HTTP API and the Runtime API, and by default runs the
//! functions.

use std::{ffi::OsString, io::Write, path::Path};

use anyhow::{Context, Result};
use tokio::process::Child;

use crate::{
    env::Variables,
    process::{self, Output},
    project::Project,
};

/// Settings of `cargo lambda watch`.
#[derive(Debug)]
pub struct CargoLambdaWatch<'a> {
    pub program: &'a Path,
    pub port: u16,
    pub release: bool,
    /// Serves only the HTTP API and the Runtime API. The functions are started separately.
    pub only_apis: bool,
    /// Environment of the functions that it starts.
    pub env: &'a Variables,
    /// Folders whose changes do not restart functions.
    pub unwatched: &'a [&'a Path],
}

impl CargoLambdaWatch<'_> {
    /// Starts cargo-lambda. Its standard output, which includes that of the functions, is piped.
    ///
    /// # Errors
    /// When cargo-lambda cannot be started.
    pub fn start(&self, project: &Project) -> Result<Child> {
        let ignore = project.local_dir().join("unwatched");
        write_ignore_file(&ignore, &project.root, self.unwatched)?;
        let mut command = project.command(self.program);
        command.args(self.arguments()).envs(self.env).env("CARGO_LAMBDA_IGNORE_FILE", ignore);
        if std::env::var_os("RUST_LOG").is_none() {
            // Hides cargo-lambda's messages about each start. The functions use DOORWARD_LOG.
            command.env("RUST_LOG", "cargo_lambda=warn");
        }
        process::spawn(&mut command, Output::StdoutToUs)
    }

    fn arguments(&self) -> Vec<OsString> {
        let port = self.port.to_string();
        // cargo-lambda writes to a pipe and would disable colors, but `cargo dev` shows its output in the terminal.
        let color = if console::colors_enabled_stderr() { "always" } else { "never" };
        // By default cargo-lambda listens on all interfaces, and adds its own CORS headers.
        let mut arguments = vec!["lambda", "--color", color, "watch"];
        arguments.extend(["--invoke-address", "127.0.0.1", "--invoke-port", &port]);
        arguments.push("--disable-cors");
        // No --timeout, because it also limits the time that a function waits for its next event. An
        // idle function would end with status 408.
        if self.only_apis {
            arguments.push("--only-lambda-apis");
        }
        if self.release {
            arguments.push("--release");
        }
        arguments.into_iter().map(OsString::from).collect()
    }
}

/// Writes the list of unwatched folders. cargo-lambda watches the whole workspace except `target`.
/// Changes of a data folder or of git's folder would restart the functions.
fn write_ignore_file(path: &Path, root: &Path, folders: &[&Path]) -> Result<()> {
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

fn ignored(root: &Path, folders: &[&Path]) -> Vec<String> {
    // cargo-lambda also resolves symbolic links. Paths that do not exist stay unchanged.
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
        CargoLambdaWatch {
            program: Path::new("p"),
            port: 9001,
            release,
            only_apis,
            env: &Variables::new(),
            unwatched: &[],
        }
        .arguments()
    }

    #[test]
    fn listener_is_always_on_loopback() {
        for arguments in [arguments(false, false), arguments(true, true)] {
            let at = arguments.iter().position(|it| it == "--invoke-address").unwrap();
            assert_eq!(arguments[at + 1], "127.0.0.1");
        }
    }

    #[test]
    fn idle_functions_have_no_timeout() {
        for arguments in [arguments(false, false), arguments(true, false)] {
            assert!(!arguments.contains(&"--timeout".into()));
        }
    }

    #[test]
    fn settings_become_arguments() {
        assert!(arguments(true, false).contains(&"--only-lambda-apis".into()));
        assert!(!arguments(false, false).contains(&"--only-lambda-apis".into()));
        assert!(arguments(false, true).contains(&"--release".into()));
    }

    #[test]
    fn only_folders_inside_the_workspace_are_listed() {
        let folders = ["/w/build/data", "/elsewhere"].map(Path::new);
        assert_eq!(ignored(Path::new("/w"), &folders), ["/.git/", "/build/data/"]);
    }
}
