//! Compiling the functions for Lambda, with nothing in them of the machine that does it.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use local::{
    cargo_lambda,
    problem::Problem,
    process,
    project::{FUNCTIONS_PACKAGE, Project},
    ui::Ui,
};

use crate::{Architecture, zig};

/// The Unit Separator that `CARGO_ENCODED_RUSTFLAGS` puts between flags.
const SEPARATOR: &str = "\u{1f}";

/// Rust's name for it.
fn target(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Arm64 => "aarch64-unknown-linux-gnu",
        Architecture::X86_64 => "x86_64-unknown-linux-gnu",
    }
}

/// Compiles every function; returns their names and programs, sorted.
///
/// # Errors
/// A [`Problem`] when a tool is missing or they do not compile.
pub(crate) async fn build(
    project: &Project,
    architecture: Architecture,
    profile: &str,
    ui: &Ui,
) -> Result<Vec<(String, PathBuf)>> {
    let cargo_lambda = cargo_lambda::ensure(project, ui).await?;
    let zig = zig::ensure(project, ui).await?;
    ensure_target(target(architecture), ui).await?;

    let step = ui.loud_step(
        "build",
        &format!("Building the functions for {} with the profile {profile}", architecture.name()),
    );
    // Beside the zip files' folder; emptied, so that nothing old is packed.
    let programs = project.target_dir.join("package").join(format!("programs-{}", architecture.name()));
    if programs.exists() {
        std::fs::remove_dir_all(&programs)
            .with_context(|| format!("cannot remove {}", programs.display()))?;
    }
    let tools = project.tools_dir();
    let mut command = project.command(cargo_lambda);
    command
        .args(["lambda", "build", "--locked", "--package", FUNCTIONS_PACKAGE, "--bins"])
        .args(["--target", target(architecture), "--profile", profile])
        // Cargo.toml says how release is built; cargo-lambda would change what it leaves open.
        .arg("--disable-optimizations")
        .arg("--lambda-dir")
        .arg(&programs)
        .env("CARGO_ENCODED_RUSTFLAGS", rust_flags(project, architecture).await?)
        .env("CARGO_ZIGBUILD_ZIG_PATH", zig)
        // Else in the person's own cache.
        .env("CARGO_ZIGBUILD_CACHE_DIR", tools.join("zigbuild-cache"))
        .env("ZIG_GLOBAL_CACHE_DIR", tools.join("zig-cache"));
    let status = process::status(&mut command).await?;
    if !status.success() {
        return Err(Problem::new(
            format!("The functions could not be built for {} ({status}).", architecture.name()),
            "The messages above say why. Correct it, and start again.",
        )
        .into());
    }
    let built: Vec<_> = project
        .functions
        .iter()
        .map(|function| (function.clone(), programs.join(function).join("bootstrap")))
        .collect();
    for (function, program) in &built {
        ensure!(program.is_file(), "cargo-lambda built no {function}");
    }
    step.done("");
    Ok(built)
}

/// Gets Rust's standard library for that processor, where rustup can.
async fn ensure_target(target: &str, ui: &Ui) -> Result<()> {
    let folder = rustc(&["--print", "target-libdir", "--target", target]).await?;
    if Path::new(&folder).is_dir() {
        return Ok(());
    }
    let step = ui.loud_step("target", &format!("Getting Rust's library for {target}, once"));
    let added = process::status(process::command("rustup").args(["target", "add", target])).await;
    if !added.is_ok_and(|status| status.success()) {
        return Err(Problem::new(
            format!("Rust's standard library for {target} is missing, and rustup could not get it."),
            format!("Install it, then start again: rustup target add {target}"),
        )
        .into());
    }
    step.done("");
    Ok(())
}

/// Flags under which no folder of this machine gets into a program, and the processor's.
async fn rust_flags(project: &Project, architecture: Architecture) -> Result<OsString> {
    let version = rustc(&["-vV"]).await?;
    let commit = version.lines().find_map(|line| line.strip_prefix("commit-hash: "));
    let mut flags = OsString::new();
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let library = PathBuf::from(rustc(&["--print", "sysroot"]).await?).join("lib/rustlib/src/rust");
    let sources = commit.map_or_else(|| "/rust".to_owned(), |commit| format!("/rustc/{commit}"));
    // rustc takes the last one that fits.
    let folders = [
        (Some(project.root.clone()), "/doorward"),
        (Some(project.target_dir.clone()), "/doorward/target"),
        (cargo_home, "/cargo"),
        (Some(library), sources.as_str()),
    ];
    for (folder, name) in folders {
        let Some(folder) = folder else { continue };
        flags.push("--remap-path-prefix=");
        flags.push(folder);
        flags.push("=");
        flags.push(name);
        flags.push(SEPARATOR);
    }
    // Lambda's oldest Graviton; what it has beyond the baseline are the atomics of every lock.
    flags.push(match architecture {
        Architecture::Arm64 => "-Ctarget-cpu=neoverse-n1",
        Architecture::X86_64 => "-Ctarget-cpu=x86-64",
    });
    Ok(flags)
}

/// What the Rust compiler says.
async fn rustc(arguments: &[&str]) -> Result<String> {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = process::output(process::command(program).args(arguments)).await?;
    ensure!(output.status.success(), "rustc failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}
