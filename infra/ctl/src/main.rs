//! `doorwardctl`: what an operator does to tenants and users.

mod audit;
mod output;
mod place;
mod secret;
mod session;
mod tenant;
mod user;

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand, error::ErrorKind};
use doorward::store::DynamoStore;

use crate::{
    output::{Output, Usage},
    place::Place,
};

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
    /// Sessions of a user
    #[command(subcommand)]
    Session(session::Command),
}

/// What every command works with.
struct Context {
    store: DynamoStore,
    output: Output,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && wants_json(std::env::args_os()) => {
            return Output { json: true }.error(&wrong_call(&error).into());
        }
        Err(error) => error.exit(),
    };
    let output = Output { json: cli.json };
    match run(cli, output).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output.error(&error),
    }
}

/// Whether a call that cannot be read asks for JSON.
fn wants_json(arguments: impl Iterator<Item = OsString>) -> bool {
    arguments.take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

/// What is wrong with a call, without the help that people are shown below it.
fn wrong_call(error: &clap::Error) -> Usage {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Usage("name a command: see --help".to_owned());
    }
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let lines: Vec<_> = first.trim_start_matches("error: ").lines().map(str::trim).collect();
    Usage(lines.join(" "))
}

async fn run(cli: Cli, output: Output) -> Result<()> {
    let context = Context { store: cli.place.store().await?, output };
    match cli.command {
        Command::Tenant(command) => command.run(&context, &cli.place).await,
        Command::Audit(command) => command.run(&context, &cli.place).await,
        Command::User(command) => command.run(&context).await,
        Command::Session(command) => command.run(&context).await,
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

    #[test]
    fn an_option_takes_one_field_and_not_the_tenant_behind_it() {
        let cli = Cli::try_parse_from("doorwardctl tenant update --set a=1 --set b=2 --unset c t".split(' '));
        let Command::Tenant(command) = cli.unwrap().command else { panic!("another command") };
        let told = format!("{command:?}");
        assert!(told.contains(r#"set: ["a=1", "b=2"], unset: ["c"]"#) && told.contains("\"t\""), "{told}");
        assert!(Cli::try_parse_from("doorwardctl tenant update t --set a=1 b=2".split(' ')).is_err());
    }

    #[test]
    fn wrong_calls_are_told_as_json_where_that_is_asked_for() {
        let arguments = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>().into_iter();
        assert!(wants_json(arguments("doorwardctl tenant --json list")));
        assert!(!wants_json(arguments("doorwardctl tenant show -- --json")));
        for (line, expected) in [
            ("doorwardctl --json tenant", "name a command: see --help"),
            ("doorwardctl --json tenant lost", "unrecognized subcommand 'lost'"),
            (
                "doorwardctl --json user unlock t",
                "the following required arguments were not provided: <USER>",
            ),
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert!(error.use_stderr());
            assert_eq!(wrong_call(&error).0, expected);
        }
        assert!(!Cli::try_parse_from(["doorwardctl", "--help"]).unwrap_err().use_stderr());
    }
}
