//! `doorwardctl`: the operator's command for tenants, users, sessions, API clients, secrets and the audit log.

mod audit;
mod client;
mod clock;
mod doctor;
mod input;
mod manual;
mod output;
mod prompt;
mod session;
mod target;
mod tenant;
mod user;

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand, error::ErrorKind};
use doorward::store::DynamoStore;

use crate::{
    output::{Output, UsageError},
    target::Target,
};

/// Manages Doorward tenants, users, sessions, API clients and secrets
///
/// Reads and writes the DynamoDB table and the tenants' secrets directly. Uses the AWS credentials and the
/// Region of the environment, like the AWS CLI. With --local it uses the stack that `cargo dev` runs on
/// this machine.
#[derive(Debug, Parser)]
#[command(
    name = "doorwardctl",
    version,
    max_term_width = 80,
    after_help = "Exit codes:
  0  The command succeeded, or there was nothing to do.
  1  The command was refused or failed. The error says what to do.
  2  The arguments are invalid, or a confirmation is missing.

Examples:
  doorwardctl --table doorward tenant list
  doorwardctl --local tenant show tenant_cloudvault
  doorwardctl --local user disable tenant_cloudvault 6r1k1hw6npq
  doorwardctl --table doorward user import TENANT users.ndjson
  doorwardctl --table doorward doctor
  doorwardctl --local audit verify"
)]
struct Cli {
    #[command(flatten)]
    target: Target,

    /// Write results as JSON to stdout and errors as JSON to stderr
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Manage tenants, their policies and their secrets
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Verify the audit log
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Manage the users of a tenant
    #[command(subcommand)]
    User(user::UserCommand),
    /// Manage the API clients of a tenant and their secrets
    #[command(subcommand)]
    Client(client::ClientCommand),
    /// List and end the sessions of a user
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// Check a deployment and show how to fix each fault
    ///
    /// Checks the Region, the credentials, the clock, the table, and the record and secret of every tenant.
    /// Also checks that the credentials permit every table operation of `doorwardctl`. Changes nothing. The
    /// exit code is 1 if there is a fault, and 0 if there are only warnings.
    #[command(after_help = "Example:
  doorwardctl --table doorward doctor")]
    Doctor(doctor::Doctor),
    /// Write a shell completion script to stdout
    #[command(after_help = "Example:
  doorwardctl completions bash > doorwardctl.bash")]
    Completions(manual::Completions),
    /// Write the manual pages
    #[command(after_help = "Example:
  doorwardctl man --out man")]
    Man(manual::ManPages),
}

/// The store and the output that every command uses.
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

/// Returns whether the arguments contain `--json`, for arguments that clap cannot parse.
fn wants_json(arguments: impl Iterator<Item = OsString>) -> bool {
    arguments.take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

/// Reduces a clap error to its first paragraph, without the usage and the hints that follow.
fn wrong_call(error: &clap::Error) -> UsageError {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return UsageError("a command is required; see --help".to_owned());
    }
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let lines: Vec<_> = first.trim_start_matches("error: ").lines().map(str::trim).collect();
    UsageError(lines.join(" "))
}

async fn run(cli: Cli, output: Output) -> Result<()> {
    let context = async || Ok::<_, anyhow::Error>(Context { store: cli.target.store().await?, output });
    match cli.command {
        Command::Tenant(command) => command.run(&context().await?, &cli.target).await,
        Command::Audit(command) => command.run(&context().await?, &cli.target).await,
        Command::User(command) => command.run(&context().await?).await,
        Command::Client(command) => command.run(&context().await?, &cli.target).await,
        Command::Session(command) => command.run(&context().await?).await,
        Command::Doctor(doctor) => doctor.run(output, &cli.target).await,
        Command::Completions(completions) => completions.run(),
        Command::Man(pages) => pages.run(output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn clap_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_are_accepted_before_and_after_the_command() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("doorwardctl tenant suspend t --local --json").is_ok());
        assert!(parse("doorwardctl --local=elsewhere.json tenant suspend t").is_ok());
        assert!(parse("doorwardctl tenant suspend not/a/tenant").is_err());
    }

    #[test]
    fn set_option_takes_one_field_and_not_the_tenant_after_it() {
        let cli = Cli::try_parse_from("doorwardctl tenant update --set a=1 --set b=2 --unset c t".split(' '));
        let Command::Tenant(command) = cli.unwrap().command else { panic!("not a tenant command") };
        let parsed = format!("{command:?}");
        assert!(
            parsed.contains(r#"set: ["a=1", "b=2"], unset: ["c"]"#) && parsed.contains("\"t\""),
            "{parsed}"
        );
        assert!(Cli::try_parse_from("doorwardctl tenant update t --set a=1 b=2".split(' ')).is_err());
    }

    #[test]
    fn invalid_arguments_are_reported_as_json_with_the_json_option() {
        let arguments = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>().into_iter();
        assert!(wants_json(arguments("doorwardctl tenant --json list")));
        assert!(!wants_json(arguments("doorwardctl tenant show -- --json")));
        for (line, expected) in [
            ("doorwardctl --json tenant", "a command is required; see --help"),
            ("doorwardctl --json tenant lost", "unrecognized subcommand 'lost'"),
            (
                "doorwardctl --json user unlock t",
                "the following required arguments were not provided: <NAME_OR_ID>",
            ),
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert!(error.use_stderr());
            assert_eq!(wrong_call(&error).0, expected);
        }
        assert!(!Cli::try_parse_from(["doorwardctl", "--help"]).unwrap_err().use_stderr());
    }
}
