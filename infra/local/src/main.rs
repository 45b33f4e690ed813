//! `cargo dev`: the whole of Doorward on this machine, until Ctrl-C.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, ValueHint};
use local::{
    process,
    run::{self, Data, Options, Running},
    signals,
    ui::Ui,
};

/// Runs Doorward on this machine.
///
/// Starts an embedded DynamoDB and Secrets Manager, creates the table, seeds the demo tenants,
/// builds the functions and serves their routes with cargo-lambda (which it gets into target/ if
/// it is missing). When everything answers it prints the address, the demo logins and a curl
/// line to try. A page shows the API and tries calls; mails, text messages and events are caught,
/// printed as they come, and shown on a page of its own. Ctrl-C ends all of it. Everything listens on 127.0.0.1 only.
#[derive(Debug, Parser)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the comments are the help text, and the switches are switches"
)]
#[command(
    bin_name = "cargo dev",
    max_term_width = 100,
    after_help = "Examples:
  cargo dev                       the usual: data is kept in target/local/data
  cargo dev --port 9001           when port 9000 is taken
  cargo dev --memory --port 9001  a second stack beside the first
  cargo dev --release --no-watch  fast functions, several requests at once"
)]
struct Cli {
    /// Port for the routes, on 127.0.0.1; 0 takes any free one
    #[arg(long, default_value_t = 9000, value_name = "PORT")]
    port: u16,

    /// Port for the mailbox page, on 127.0.0.1; 0 takes any free one [default: 25 above --port, or
    /// any free one when that is taken]
    #[arg(long, value_name = "PORT")]
    mailbox_port: Option<u16>,

    /// Keep all data in memory: it ends with this run
    #[arg(long, conflicts_with = "data_dir")]
    memory: bool,

    /// Folder that keeps the data between runs [default: local/data in the target folder]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    data_dir: Option<PathBuf>,

    /// Build the functions optimised
    #[arg(long)]
    release: bool,

    /// Serve the functions as built now, without rebuilding them when the code changes. Each
    /// then takes several requests at once, as on Lambda
    #[arg(long)]
    no_watch: bool,

    /// Leave the demo users' passwords as the last run left them. By default each start restores
    /// them, so that a reset tried out locks nobody out
    #[arg(long)]
    keep_credentials: bool,

    /// Write machine-readable events to stdout, one JSON object per line; everything else goes
    /// to stderr
    #[arg(long)]
    json: bool,
}

impl From<Cli> for Options {
    fn from(cli: Cli) -> Self {
        Self {
            port: cli.port,
            mailbox_port: cli.mailbox_port,
            data: match cli.data_dir {
                _ if cli.memory => Data::Memory,
                Some(folder) => Data::Dir(folder),
                None => Data::Default,
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
    Box::pin(start_and_stop(&cli.into(), &ui)).await.unwrap_or_else(|error| signals::failed(&ui, &error))
}

/// Runs until something fails or a signal comes, and in both cases ends everything.
async fn start_and_stop(options: &Options, ui: &Ui) -> Result<ExitCode> {
    let mut running = Running::default();
    let up = run::up(options, ui, &mut running);
    let asked = signals::until_asked(Box::pin(async { up.await.map(|never| match never {}) })).await;
    let was_ready = running.is_ready();
    let stopped = running.stop().await;
    let code = asked?;
    stopped?;
    ui.stopped();
    Ok(if was_ready { ExitCode::SUCCESS } else { code })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn memory_and_a_folder_exclude_each_other() {
        assert!(Cli::try_parse_from(["local", "--memory", "--data-dir", "d"]).is_err());
        let cli = Cli::try_parse_from(["local"]).unwrap();
        assert_eq!(cli.port, 9000);
        assert!(matches!(Options::from(cli).data, Data::Default));
    }
}
