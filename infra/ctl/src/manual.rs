//! `doorwardctl completions …` and `doorwardctl man …`, both generated from the clap definitions.

use std::{io, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;
use serde_json::json;

use crate::{
    Cli,
    output::{Output, unless_closed},
};

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Shell to generate the script for
    shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManPages {
    /// Folder to write one page per command into [default: only the main page, to stdout]
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
}

impl Completions {
    pub(crate) fn run(&self) -> Result<()> {
        let mut script = Vec::new();
        let mut command = Cli::command();
        let name = command.get_name().to_owned();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        Ok(unless_closed(io::Write::write_all(&mut io::stdout(), &script))?)
    }
}

impl ManPages {
    pub(crate) fn run(&self, output: Output) -> Result<()> {
        let Some(folder) = &self.out else {
            let mut page = Vec::new();
            Man::new(Cli::command()).render(&mut page)?;
            return Ok(unless_closed(io::Write::write_all(&mut io::stdout(), &page))?);
        };
        let write = || -> io::Result<usize> {
            std::fs::create_dir_all(folder)?;
            clap_mangen::generate_to(Cli::command(), folder)?;
            Ok(std::fs::read_dir(folder)?.count())
        };
        let pages = write().with_context(|| format!("cannot write to {}", folder.display()))?;
        output.result(&json!({ "folder": folder, "files": pages }), || {
            format!(
                "Files in {}: {pages}. To read the main page: man {}/doorwardctl.1",
                folder.display(),
                folder.display()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Collects the full name of every command, such as `doorwardctl-user-create`.
    fn every(command: &clap::Command, above: &str, found: &mut Vec<String>) {
        let name = if above.is_empty() {
            command.get_name().to_owned()
        } else {
            format!("{above}-{}", command.get_name())
        };
        for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
            every(below, &name, found);
        }
        found.push(name);
    }

    #[test]
    fn every_command_has_a_manual_page_and_shell_completions() {
        let mut command = Cli::command();
        let mut names = Vec::new();
        every(&command, "", &mut names);
        assert!(names.len() > 20 && names.contains(&"doorwardctl-user-import".to_owned()), "{names:?}");
        let folder = tempfile::tempdir().unwrap();
        ManPages { out: Some(folder.path().to_owned()) }.run(Output { json: true }).unwrap();
        for name in &names {
            let page = std::fs::read_to_string(folder.path().join(format!("{name}.1"))).unwrap_or_default();
            assert!(page.contains(".SH SYNOPSIS"), "{name}");
        }
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "doorwardctl", &mut script);
            let script = String::from_utf8(script).unwrap();
            for name in names.iter().filter_map(|name| name.rsplit('-').next()) {
                assert!(script.contains(name), "{shell} {name}");
            }
        }
    }
}
