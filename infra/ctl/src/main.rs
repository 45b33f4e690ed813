//! `doorwardctl`: what an operator does to tenants and users.

mod audit;
mod output;
mod place;
mod secret;
mod tenant;
mod user;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use doorward::store::DynamoStore;

use crate::{output::Output, place::Place};

/// Operates Doorward: tenants, their policies and their users.
///
/// It works on the table itself, with the AWS credentials and the Region of the environment, or on
/// the stack that `cargo dev` runs on this machine. It ends with 0 when what was asked for is done,
/// with 1 when it was refused or failed, and with 2 when it was called wrongly.
#[derive(Debug, Parser)]
#[command(
    name = "doorwardctl",
    version,
    max_term_width = 100,
    after_help = "Examples:
  doorwardctl --table doorward tenant list
  doorwardctl --local tenant show tenant_cloudvault
  doorwardctl --local user disable tenant_cloudvault 6r1k1hw6npq
  doorwardctl --local audit verify"
)]
struct Cli {
    #[command(flatten)]
    place: Place,

    /// Write JSON to stdout, and errors as JSON to stderr
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tenants and their policies
    #[command(subcommand)]
    Tenant(tenant::Command),
    /// The audit log
    #[command(subcommand)]
    Audit(audit::Command),
    /// Users of a tenant
    #[command(subcommand)]
    User(user::Command),
}

/// What every command works with.
struct Context {
    store: DynamoStore,
    output: Output,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output { json: cli.json };
    match run(cli, output).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output.error(&error),
    }
}

async fn run(cli: Cli, output: Output) -> Result<()> {
    let context = Context { store: cli.place.store().await?, output };
    match cli.command {
        Command::Tenant(command) => command.run(&context, &cli.place).await,
        Command::Audit(command) => command.run(&context, &cli.place).await,
        Command::User(command) => command.run(&context).await,
    }
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
    fn global_options_go_anywhere() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("doorwardctl tenant suspend t --local --json").is_ok());
        assert!(parse("doorwardctl --local=elsewhere.json tenant suspend t").is_ok());
        assert!(parse("doorwardctl tenant suspend not/a/tenant").is_err());
    }
}
