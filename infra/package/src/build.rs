//! Compiles the functions for Lambda. The programs contain no path of the machine that builds them.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use local::{
    cargo_lambda, pip,
    problem::Problem,
    process,
    project::{FUNCTIONS_PACKAGE, Project},
    ui::Ui,
};

use crate::Architecture;

/// zig, the C compiler and linker for Lambda on every machine. Together with the Rust compiler and
/// the pinned cargo-lambda, its version determines the bytes of a function. To update it, change the
/// version here and the hashes in `zig.txt`, which PyPI lists.
const ZIG: pip::Package =
    pip::Package { name: "ziglang", version: "0.16.0", requirements: include_str!("zig.txt") };

/// Separator of flags in `CARGO_ENCODED_RUSTFLAGS`.
const SEPARATOR: &str = "\u{1f}";

/// Rust's name of the target.
fn target(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Arm64 => "aarch64-unknown-linux-gnu",
        Architecture::X86_64 => "x86_64-unknown-linux-gnu",
    }
}

/// Compiles every function. Returns their names and programs, sorted.
///
/// # Errors
/// A [`Problem`] when a tool is missing or the functions do not compile.
pub(crate) async fn build(
    project: &Project,
    architecture: Architecture,
    profile: &str,
    ui: &Ui,
) -> Result<Vec<(String, PathBuf)>> {
    let cargo_lambda = cargo_lambda::ensure(project, ui).await?;
    let zig = ZIG.ensure(project, ui).await?.join("ziglang/zig");
    ensure_target(target(architecture), ui).await?;

    let step = ui.loud_step(
        "build",
        &format!("Building the functions for {} with the profile {profile}", architecture.name()),
    );
    // Emptied first, so that no old program is packed.
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
        // The profiles are in Cargo.toml; cargo-lambda would override settings that they omit.
        .arg("--disable-optimizations")
        .arg("--lambda-dir")
        .arg(&programs)
        .env("CARGO_ENCODED_RUSTFLAGS", rust_flags(project, architecture).await?)
        .env("CARGO_ZIGBUILD_ZIG_PATH", zig)
        // Otherwise these go to the user's cache.
        .env("CARGO_ZIGBUILD_CACHE_DIR", tools.join("zigbuild-cache"))
        .env("ZIG_GLOBAL_CACHE_DIR", tools.join("zig-cache"));
    let status = process::status(&mut command).await?;
    if !status.success() {
        return Err(Problem::new(
            format!("The functions could not be built for {} ({status}).", architecture.name()),
            "Read the messages above, correct the cause, then start again.",
        )
        .into());
    }
    let built: Vec<_> = project
        .functions
        .iter()
        .map(|function| (function.clone(), programs.join(function).join("bootstrap")))
        .collect();
    for (function, program) in &built {
        ensure!(program.is_file(), "cargo-lambda did not build {function}");
    }
    step.done("");
    Ok(built)
}

/// Installs Rust's standard library for the target with rustup if it is missing.
async fn ensure_target(target: &str, ui: &Ui) -> Result<()> {
    let folder = rustc(&["--print", "target-libdir", "--target", target]).await?;
    if Path::new(&folder).is_dir() {
        return Ok(());
    }
    let step = ui.loud_step("target", &format!("Installing Rust's standard library for {target} (once)"));
    let added = process::status(process::command("rustup").args(["target", "add", target])).await;
    if !added.is_ok_and(|status| status.success()) {
        return Err(Problem::new(
            format!("Rust's standard library for {target} is missing, and rustup cannot install it."),
            format!("Install it, then start again: rustup target add {target}"),
        )
        .into());
    }
    step.done("");
    Ok(())
}

/// Compiler flags that replace the folders of this machine in the programs and select the processor.
async fn rust_flags(project: &Project, architecture: Architecture) -> Result<OsString> {
    let version = rustc(&["-vV"]).await?;
    let commit = version.lines().find_map(|line| line.strip_prefix("commit-hash: "));
    let mut flags = OsString::new();
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let library = PathBuf::from(rustc(&["--print", "sysroot"]).await?).join("lib/rustlib/src/rust");
    let sources = commit.map_or_else(|| "/rust".to_owned(), |commit| format!("/rustc/{commit}"));
    // rustc applies the last flag that matches.
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
    // Graviton2 is the oldest arm64 processor of Lambda. It has faster atomic instructions than the baseline.
    flags.push(match architecture {
        Architecture::Arm64 => "-Ctarget-cpu=neoverse-n1",
        Architecture::X86_64 => "-Ctarget-cpu=x86-64",
    });
    Ok(flags)
}

/// Runs the Rust compiler and returns its output.
async fn rustc(arguments: &[&str]) -> Result<String> {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = process::output(process::command(program).args(arguments)).await?;
    ensure!(output.status.success(), "rustc failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wheel_of_zig_has_a_hash() {
        assert!(ZIG.requirements.starts_with(&format!("ziglang=={} ", ZIG.version)));
        let hashes = ZIG.requirements.matches("--hash=sha256:").count();
        assert!(hashes > 3, "zig.txt has only {hashes} hashes");
    }
}
