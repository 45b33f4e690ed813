//! `cargo deploy-test`: deploys Doorward to an emulated AWS and tests it over HTTP.
//!
//! The test bootstraps and deploys the CDK app of `infra/aws`, deploys it again with other settings, and
//! destroys it. Between these steps it calls the routes, which the packaged functions handle. The
//! emulator does not support permissions, encryption and TTL. The tests in `infra/aws` check these in
//! the template.

#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "test code that prints its results")]

mod checks;
mod cloud;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use e2e::{
    api::{many_at_once, walk_through},
    emulator::{Emulator, no_python},
};
use local::{
    pip,
    problem::{EXIT_USAGE, Problem},
    process,
    project::Project,
    signals,
    ui::Ui,
};
use package::Architecture;

use self::{
    checks::{
        changed_stack_keeps_its_data, every_route_is_deployed, mail_with_link_is_sent,
        operator_creates_tenant_and_user, seed,
    },
    cloud::{Cloud, Settings},
};

/// Oldest Node version that the CDK supports.
const NODE: u32 = 20;

/// Tests the deployment in an emulated AWS on this machine.
///
/// The command deploys Doorward, calls its HTTP API, deploys it again with other settings, and
/// deletes the deployment. It needs no AWS account and no Docker.
///
/// It requires Rust, Node 20 or newer with npm, and Python 3.10 or newer with pip. It installs
/// everything else into the target folder. All ports are on 127.0.0.1. Before the command ends, it
/// stops all processes that it started.
#[derive(Debug, Parser)]
#[command(
    bin_name = "cargo deploy-test",
    max_term_width = 100,
    after_help = "Examples:
  cargo deploy-test                      build the functions and run the whole test
  cargo deploy-test --profile release    use the functions as built for production
  cargo deploy-test --emulator           run an empty AWS, to try docs/deploy.md"
)]
struct Cli {
    /// Build profile of the functions in Cargo.toml
    #[arg(long, value_name = "NAME", default_value = "quick-release")]
    profile: String,

    /// Use the zip files in this folder instead of building them
    #[arg(long, value_name = "DIR", conflicts_with = "profile")]
    zips: Option<PathBuf>,

    /// Only run the emulated AWS until Ctrl-C. Prints the environment variables with which other tools
    /// use it
    #[arg(long)]
    emulator: bool,

    /// Port of the emulated AWS on 127.0.0.1; 0 means any free port
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let ui = Ui::new(false);
    let work = async { if cli.emulator { emulate(&cli, &ui).await } else { test(&cli, &ui).await } };
    signals::run_to_end(&ui, Box::pin(work)).await
}

/// Runs an empty AWS until a signal.
async fn emulate(cli: &Cli, ui: &Ui) -> Result<()> {
    let project = Project::load().await?;
    let mut emulator = Emulator::start(&project, ui, cli.port).await?;
    println!("An empty AWS runs at {} until Ctrl-C. In another terminal, run:\n", emulator.url());
    for (name, value) in emulator.environment() {
        println!("export {name}={value}");
    }
    emulator.ended().await
}

async fn test(cli: &Cli, ui: &Ui) -> Result<()> {
    check_tools().await?;
    let project = Project::load().await?;
    let architecture = Architecture::of_this_machine().ok_or_else(|| {
        Problem::new(
            format!("Lambda does not support the processor of this machine ({}).", std::env::consts::ARCH),
            "Run this test on an x86-64 or arm64 machine.",
        )
    })?;
    let zips = if let Some(folder) = &cli.zips {
        folder
            .canonicalize()
            .with_context(|| format!("cannot open the folder {}; check --zips", folder.display()))?
    } else {
        package::package(&project, architecture, &cli.profile, ui).await?;
        project.target_dir.join("package").join(architecture.name())
    };
    let aws = project.root.join("infra/aws");
    let step = ui.loud_step("npm", "Installing the CDK and the packages of its app");
    let mut npm = process::command("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&aws);
    ensure!(process::status(&mut npm).await?.success(), "npm ci failed in {}", aws.display());
    step.done("");

    let step = ui.step("emulator", "Starting the emulated AWS");
    let emulator = Emulator::start(&project, ui, cli.port).await?;
    step.done(&emulator.url());

    let mut passed = 0;
    let cloud = Cloud::new(emulator, aws, zips, architecture)?;
    cloud.bootstrap(ui).await?;
    let outputs = cloud.deploy(ui, "first", &Settings::first(architecture)).await?;
    passed += 1;

    let server = seed(&cloud, &outputs).await?;
    println!("Deployed functions");
    passed += every_route_is_deployed(&cloud, &server, &outputs).await?;
    passed += mail_with_link_is_sent(&cloud, &server, &outputs).await?;
    passed += walk_through(&server).await?;
    passed += many_at_once(&server).await?;
    passed += operator_creates_tenant_and_user(&cloud, &project, &outputs, &server).await?;

    let kept = server.login(&server.actor("admin@cloudvault.example")?).await?;
    let before = cloud.configuration_of("refresh-session").await?;
    let changed = cloud.deploy(ui, "changed", &Settings::changed(architecture)).await?;
    passed += 1;
    let after = cloud.configuration_of("refresh-session").await?;
    passed += changed_stack_keeps_its_data(&server, &kept, (&outputs, &changed), (&before, &after)).await?;

    cloud.destroy(ui).await?;
    passed += cloud.nothing_remains(&outputs).await?;
    cloud.emulator.stop().await?;
    println!("  emulator: ended with every function");
    println!("{} passed, 0 failed", passed + 1);
    Ok(())
}

/// Checks that the required tools are installed, before the slow steps.
async fn check_tools() -> Result<()> {
    let version = async |program: &str| {
        let output = process::output(process::command(program).arg("--version")).await.ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let node = version("node").await;
    let major = node.as_deref().and_then(|it| it.trim_start_matches('v').split('.').next()?.parse().ok());
    if major.is_none_or(|major: u32| major < NODE) || version("npm").await.is_none() {
        let found =
            node.map_or_else(|| "Node was not found".to_owned(), |node| format!("this machine has {node}"));
        return Err(Problem::new(
            format!("The CDK needs Node {NODE} or newer with npm, but {found}."),
            "Install it (https://nodejs.org), then start again.",
        )
        .with_exit_code(EXIT_USAGE)
        .into());
    }
    if pip::find_python().await.is_none() {
        return Err(no_python().with_exit_code(EXIT_USAGE).into());
    }
    Ok(())
}
