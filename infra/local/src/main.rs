//! `cargo dev`: runs Doorward on this machine until Ctrl-C.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, ValueHint};
use local::{
    process,
    run::{self, DataLocation, Options},
    services::Running,
    signals,
    ui::Ui,
};

/// Runs Doorward on this machine.
///
/// The command starts an embedded DynamoDB and Secrets Manager, creates the table and the demo
/// tenants, builds the functions, and serves the HTTP API with cargo-lambda. It installs
/// cargo-lambda into target/ if it is missing.
///
/// When all functions respond, the command prints the address, the demo logins and a curl command.
/// It also prints the addresses of two pages. The API page shows the routes and can send requests.
/// The mailbox page shows the mails, text messages and events that the functions sent.
///
/// Press Ctrl-C to stop everything. All ports are on 127.0.0.1.
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each switch of the command line is one bool")]
#[command(
    bin_name = "cargo dev",
    max_term_width = 100,
    after_help = "Examples:
  cargo dev                       normal use; data is kept in target/local/data
  cargo dev --port 9001           port 9000 is taken
  cargo dev --memory --port 9001  a second stack at the same time
  cargo dev --release --no-watch  fast functions with parallel requests"
)]
struct Cli {
    /// Port of the HTTP API on 127.0.0.1; 0 means any free port
    #[arg(long, default_value_t = 9000, value_name = "PORT")]
    port: u16,

    /// Port of the mailbox page on 127.0.0.1; 0 means any free port [default: --port plus 25, or
    /// any free port if that one is taken]
    #[arg(long, value_name = "PORT")]
    mailbox_port: Option<u16>,

    /// Keep all data in memory; it is lost when the command stops
    #[arg(long, conflicts_with = "data_dir")]
    memory: bool,

    /// Folder that keeps the data between runs [default: local/data in the target folder]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    data_dir: Option<PathBuf>,

    /// Build the functions with optimizations
    #[arg(long)]
    release: bool,

    /// Do not rebuild the functions when the code changes. Each function then handles up to 8 requests
    /// in parallel. By default, it handles one request at a time
    #[arg(long)]
    no_watch: bool,

    /// Do not restore the demo users' passwords. By default each start restores them, so that the
    /// printed logins work
    #[arg(long)]
    keep_credentials: bool,

    /// Write machine-readable events to stdout, one JSON object per line. Everything else goes to
    /// stderr
    #[arg(long)]
    json: bool,
}

impl From<Cli> for Options {
    fn from(cli: Cli) -> Self {
        Self {
            port: cli.port,
            mailbox_port: cli.mailbox_port,
            data: match cli.data_dir {
                _ if cli.memory => DataLocation::Memory,
                Some(folder) => DataLocation::Dir(folder),
                None => DataLocation::Default,
            },
            release: cli.release,
            watch: !cli.no_watch,
            keep_credentials: cli.keep_credentials,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let ui = Ui::new(cli.json);
    process::adopt_orphans();
    Box::pin(start_and_stop(&cli.into(), &ui)).await.unwrap_or_else(|error| signals::report(&ui, &error))
}

/// Runs until a failure or a signal, and then ends everything.
async fn start_and_stop(options: &Options, ui: &Ui) -> Result<ExitCode> {
    let mut running = Running::default();
    let up = run::up(options, ui, &mut running);
    let ended = signals::until_signal(Box::pin(async { up.await.map(|never| match never {}) })).await;
    let was_ready = running.is_ready();
    let stopped = running.stop().await;
    let code = ended?;
    stopped?;
    ui.stopped();
    Ok(if was_ready { ExitCode::SUCCESS } else { code })
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
    fn memory_and_data_dir_exclude_each_other() {
        assert!(Cli::try_parse_from(["local", "--memory", "--data-dir", "d"]).is_err());
        let cli = Cli::try_parse_from(["local"]).unwrap();
        assert_eq!(cli.port, 9000);
        assert!(matches!(Options::from(cli).data, DataLocation::Default));
    }
}
