//! `cargo package-functions`: packs the functions into zip files for Lambda.

use std::{fmt::Write as _, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets::NOTHING};
use local::{project::Project, signals, ui::Ui};
use package::{Architecture, Zipped};
use serde_json::json;

/// Builds every function for Lambda and packs each into a zip file.
///
/// The command installs pinned versions of cargo-lambda and zig from PyPI into target/tools and
/// checks their hashes. This requires python3 with pip.
///
/// The zip files are in target/package/arm64 and target/package/x86_64, where the CDK app in
/// infra/aws reads them. They contain neither the time of the build nor paths of this machine, so
/// that two builds of a commit produce the same files. The command prints their SHA-256 hashes.
#[derive(Debug, Parser)]
#[command(
    bin_name = "cargo package-functions",
    max_term_width = 100,
    after_help = "Examples:
  cargo package-functions                   for arm64, the default of the deployment
  cargo package-functions --arm64 --x86-64  for both processors
  cargo package-functions --profile quick-release --x86-64
                                            fast build, slow functions, for tests"
)]
struct Cli {
    /// Build for Graviton; this is the default without --x86-64
    #[arg(long)]
    arm64: bool,

    /// Build for Intel and AMD
    #[arg(long)]
    x86_64: bool,

    /// Build profile in Cargo.toml
    #[arg(long, value_name = "NAME", default_value = "release")]
    profile: String,

    /// Write machine-readable events to stdout, one JSON object per line. Everything else goes to
    /// stderr
    #[arg(long)]
    json: bool,
}

impl Cli {
    fn architectures(&self) -> Vec<Architecture> {
        let chosen = [(self.arm64 || !self.x86_64, Architecture::Arm64), (self.x86_64, Architecture::X86_64)];
        chosen.into_iter().filter_map(|(wanted, architecture)| wanted.then_some(architecture)).collect()
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let ui = Ui::new(cli.json);
    signals::run_to_end(&ui, package_all(&cli, &ui)).await
}

async fn package_all(cli: &Cli, ui: &Ui) -> Result<()> {
    let project = Project::load().await?;
    let mut zipped = Vec::new();
    for architecture in cli.architectures() {
        zipped.extend(package::package(&project, architecture, &cli.profile, ui).await?);
    }
    let folder = project.target_dir.join("package");
    let mut text = table(&zipped);
    let _ = write!(text, "\n\n{} zip files in {}\n", zipped.len(), folder.display());
    ui.result(&json!({ "event": "packaged", "profile": cli.profile, "functions": zipped }), &text);
    Ok(())
}

/// Table with one line for each zip file.
fn table(zipped: &[Zipped]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["FUNCTION", "FOR", "PROGRAM", "ZIP", "SHA-256"]);
    table.add_rows(zipped.iter().map(|it| {
        [
            it.function.clone(),
            it.architecture.name().to_owned(),
            megabytes(it.program_bytes),
            megabytes(it.zip_bytes),
            it.sha256.clone(),
        ]
    }));
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index == 2 || index == 3 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Formats a size in megabytes, rounded to one decimal place.
fn megabytes(bytes: u64) -> String {
    let tenths = bytes.saturating_add(50_000) / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn default_processor_is_graviton() {
        let chosen = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap().architectures();
        assert_eq!(chosen("package"), [Architecture::Arm64]);
        assert_eq!(chosen("package --x86-64"), [Architecture::X86_64]);
        assert_eq!(chosen("package --x86-64 --arm64"), [Architecture::Arm64, Architecture::X86_64]);
    }

    #[test]
    fn sizes_are_rounded() {
        assert_eq!(megabytes(49_999), "0.0 MB");
        assert_eq!(megabytes(21_942_640), "21.9 MB");
        assert_eq!(megabytes(21_950_000), "22.0 MB");
    }
}
