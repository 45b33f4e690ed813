//! Runs the commands of the README and the guides, and compares their output: `cargo guides`.
//!
//! Each document gets a local stack of its own (`cargo dev --memory`), and a bash of its own in an empty
//! folder. Its `sh` blocks run in order, as if a reader pasted them.

#![allow(clippy::print_stdout, reason = "reports to the terminal")]

mod document;
mod output;

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use document::{Document, Format};
use e2e::dev::Dev;
use local::project::Project;
use output::PLACEHOLDERS;
use tempfile::TempDir;
use tokio::process::Command;

/// Limit for all commands of one document.
const RUNS_WITHIN: Duration = Duration::from_secs(5 * 60);
/// Addresses in the documents, which are those of `cargo dev` without options.
const ROUTES: &str = "127.0.0.1:9000";
const MAILBOX: &str = "127.0.0.1:9025";

/// Runs the commands of the README and the guides, and compares their output with the documented one.
///
/// Exit code 0: every command succeeded with the documented output. 1: a difference, or a failure.
#[derive(Parser)]
#[command(name = "cargo guides", bin_name = "cargo guides", after_long_help = placeholders())]
struct Arguments {
    /// Names of documents, such as `README` or `sessions` [default: all]
    documents: Vec<String>,

    /// Write the real outputs into the documents where the documented outputs differ
    #[arg(long)]
    write: bool,
}

/// Lists the placeholders for `--help`.
fn placeholders() -> String {
    let mut text = "Placeholders in documented outputs:\n".to_owned();
    for placeholder in &PLACEHOLDERS {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {:<16} {}", format!("{{{}}}", placeholder.name), placeholder.meaning);
    }
    text + "  …                any number of lines; the sign must be alone on its line"
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the selected documents, and returns the number of faults.
async fn run(arguments: &Arguments) -> Result<usize> {
    for tool in ["bash", "curl", "jq"] {
        let found = Command::new(tool).arg("--version").stdout(Stdio::null()).status().await;
        ensure!(found.is_ok_and(|status| status.success()), "`{tool}` is missing: install it");
    }
    let project = Project::load().await?;
    let documents = selected(&project.root, &arguments.documents)?;
    println!("Building doorwardctl and the functions …");
    let program = doorwardctl(&project).await?;
    let (mut commands, mut faults, mut skipped) = (0, 0, Vec::new());
    for document in documents {
        let begun = Instant::now();
        let found = check(&project, &program, &document, arguments.write).await;
        let found = found.with_context(|| document.path.clone())?;
        let run = document.blocks.iter().filter(|block| block.not_run.is_none()).count();
        println!(
            "{}: {run} blocks run, {} faults ({} s)",
            document.path,
            found.len(),
            begun.elapsed().as_secs()
        );
        for fault in &found {
            println!("\n{fault}");
        }
        commands += run;
        faults += found.len();
        skipped.extend(document.blocks.iter().filter_map(|block| {
            block.not_run.as_ref().map(|reason| format!("{}:{}: {reason}", document.path, block.line))
        }));
    }
    println!("\nNot run:");
    for line in skipped {
        println!("  {line}");
    }
    println!("\n{commands} blocks run, {faults} faults");
    Ok(faults)
}

/// Reads the README and the guides that have commands, or those of the given names.
fn selected(root: &Path, names: &[String]) -> Result<Vec<Document>> {
    let mut paths = vec![PathBuf::from("README.md")];
    let guides = fs::read_dir(root.join("docs"))?.collect::<Result<Vec<_>, _>>()?;
    paths.extend(guides.iter().map(|guide| Path::new("docs").join(guide.file_name())));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    let stem = |path: &PathBuf| path.file_stem().map(|it| it.to_string_lossy().into_owned());
    for name in names {
        let known: Vec<_> = paths.iter().filter_map(stem).collect();
        ensure!(known.contains(name), "unknown document `{name}`: the documents are {}", known.join(", "));
    }
    let mut documents = Vec::new();
    for path in paths {
        if names.is_empty() || stem(&path).is_some_and(|name| names.contains(&name)) {
            let text = fs::read_to_string(root.join(&path))?;
            documents.push(Document::parse(path.display().to_string(), &text)?);
        }
    }
    documents.retain(|document| !document.blocks.is_empty());
    Ok(documents)
}

/// Builds the operator's command, and returns its path.
async fn doorwardctl(project: &Project) -> Result<PathBuf> {
    let mut command = Command::new(&project.cargo);
    command.current_dir(&project.root).args(["build", "--quiet", "--bin", "doorwardctl"]);
    ensure!(command.status().await?.success(), "doorwardctl does not compile");
    Ok(project.target_dir.join("debug").join("doorwardctl"))
}

/// Runs one document on a new stack. Returns the faults, each with its line and a difference.
async fn check(project: &Project, program: &Path, document: &Document, write: bool) -> Result<Vec<String>> {
    if document.blocks.iter().all(|block| block.not_run.is_some()) {
        return Ok(Vec::new());
    }
    let dev = Dev::start(&["--memory", "--no-watch"]).await?;
    let folder = Folder::new(project, program)?;
    let (routes, mailbox) = (address(&dev.stack.base_url)?, address(&dev.stack.mailbox_url)?);
    let addresses = [(ROUTES, routes), (MAILBOX, mailbox)];
    let results = folder.run(document, &addresses).await;
    let fixed = document.scripts() + &serde_json::to_string(&dev.stack)?;
    dev.stop().await?;

    let (mut faults, mut written) = (Vec::new(), Vec::new());
    for (index, result) in results? {
        let Some(block) = document.blocks.get(index) else { continue };
        let at = format!("{}:{}", document.path, block.line);
        let Some(Ran { failed, output }) = result else {
            faults.push(format!("{at}: an earlier command ended the shell, or took too long"));
            break;
        };
        if let Some(failed) = failed {
            faults.push(format!("{at}: failed: {failed}\n{output}"));
        }
        let Some(expected) = &block.expected else { continue };
        let Some(difference) = output::difference(expected.format, &expected.text, &output)? else {
            continue;
        };
        if write && (expected.format == Format::Text || !output.trim().is_empty()) {
            written.push((index, output::documented(expected.format, &output, &fixed)?));
        } else {
            faults.push(format!("{at}: the output differs (- documented, + real)\n{difference}"));
        }
    }
    if !written.is_empty() {
        fs::write(project.root.join(&document.path), document.with_outputs(&written))?;
        println!("{}: {} outputs written", document.path, written.len());
    }
    Ok(faults)
}

fn address(url: &str) -> Result<&str> {
    Ok(url.strip_prefix("http://").context("not an http address")?.trim_end_matches('/'))
}

/// The result of one block.
struct Ran {
    /// Status and text of the first command that failed.
    failed: Option<String>,
    /// What stdout and stderr received, in order.
    output: String,
}

/// The temporary folder in which a document's shell runs.
struct Folder {
    root: TempDir,
}

impl Folder {
    /// Makes an empty home and an empty working folder. There, `target` is the repository's, and `cargo ctl`
    /// and `doorwardctl` run the built program.
    fn new(project: &Project, program: &Path) -> Result<Self> {
        let root = tempfile::tempdir()?;
        for name in ["home", "work", "bin", "blocks"] {
            fs::create_dir(root.path().join(name))?;
        }
        symlink(&project.target_dir, root.path().join("work/target"))?;
        symlink(program, root.path().join("bin/doorwardctl"))?;
        let cargo = format!(
            "#!/bin/sh\nif [ \"$1\" = ctl ]; then shift; exec {} \"$@\"; fi\ncd {} && PATH={} exec {} \"$@\"\n",
            quoted(program)?,
            quoted(&project.root)?,
            quoted(Path::new(&std::env::var_os("PATH").unwrap_or_default()))?,
            quoted(Path::new(&project.cargo))?,
        );
        let path = root.path().join("bin/cargo");
        fs::write(&path, cargo)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        Ok(Self { root })
    }

    /// Runs the blocks in one bash. A block that the shell did not reach has no result.
    async fn run(
        &self,
        document: &Document,
        addresses: &[(&str, &str)],
    ) -> Result<Vec<(usize, Option<Ran>)>> {
        let blocks = self.root.path().join("blocks");
        let selected = document.blocks.iter().enumerate().filter(|(_, block)| block.not_run.is_none());
        let indexes: Vec<usize> = selected.map(|(index, _)| index).collect();
        // The first command of a block that fails, outside of conditions, is recorded.
        let mut script = "set -E\ntrap '__status=$? __command=$BASH_COMMAND\n\
             [ -n \"$__failed\" ] || __failed=\"exit code $__status: $__command\"' ERR\n"
            .to_owned();
        for index in &indexes {
            let block = document.blocks.get(*index).map_or("", |block| block.script.as_str());
            let block = addresses.iter().fold(block.to_owned(), |text, (from, to)| text.replace(from, to));
            fs::write(blocks.join(format!("{index}.sh")), block)?;
            let path = quoted(&blocks)?;
            let _ = writeln!(
                script,
                "__failed=\n{{ . {path}/{index}.sh; }} > {path}/{index}.out 2>&1 < /dev/null\n\
                 printf %s \"$__failed\" > {path}/{index}.failed"
            );
        }
        self.bash(&script).await?;
        let mut results = Vec::new();
        for index in indexes {
            let read = |kind: &str| fs::read(blocks.join(format!("{index}.{kind}")));
            let ran = read("failed").ok().map(|failed| {
                let text = |bytes: &[u8]| {
                    let text = String::from_utf8_lossy(bytes).into_owned();
                    addresses.iter().fold(text, |text, (to, from)| text.replace(from, to))
                };
                let failed = Some(text(&failed)).filter(|failed| !failed.is_empty());
                Ran { failed, output: text(&read("out").unwrap_or_default()) }
            });
            results.push((index, ran));
        }
        Ok(results)
    }

    async fn bash(&self, script: &str) -> Result<()> {
        let root = self.root.path();
        let file = root.join("script.sh");
        fs::write(&file, script)?;
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc"]).arg(&file).current_dir(root.join("work"));
        command.env("HOME", root.join("home")).env("PATH", format!("{}:{path}", root.join("bin").display()));
        command.env("NO_COLOR", "1").env("TERM", "dumb").env_remove("CARGO_MANIFEST_DIR");
        if let Some(home) = std::env::home_dir() {
            for (name, folder) in [("RUSTUP_HOME", ".rustup"), ("CARGO_HOME", ".cargo")] {
                command.env(name, std::env::var_os(name).unwrap_or_else(|| home.join(folder).into()));
            }
        }
        command.kill_on_drop(true);
        if let Ok(status) = tokio::time::timeout(RUNS_WITHIN, command.status()).await
            && let Err(error) = status
        {
            bail!("bash does not start: {error}");
        }
        Ok(())
    }
}

/// Quotes a path for a shell.
fn quoted(path: &Path) -> Result<String> {
    let path = path.to_str().context("a path is not UTF-8")?;
    Ok(format!("'{}'", path.replace('\'', r"'\''")))
}
