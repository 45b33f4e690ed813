//! Packs the functions into zip files for Lambda. The files do not depend on the time and place of the
//! build.
//!
//! cargo-lambda compiles the functions with zig, against the glibc of `provided.al2023`, for both
//! processors on any machine. The zip files are made here, because those of cargo-lambda contain the
//! time of the build.

mod archive;
mod build;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::ValueEnum;
use local::{project::Project, ui::Ui};
use serde::Serialize;

/// Processor architectures of Lambda.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Graviton2 or newer.
    Arm64,
    /// Intel and AMD.
    X86_64,
}

impl Architecture {
    /// Name that Lambda and the folders use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Arm64 => "arm64",
            Self::X86_64 => "x86_64",
        }
    }

    /// Architecture of this machine, if Lambda supports it.
    #[must_use]
    pub fn of_this_machine() -> Option<Self> {
        match std::env::consts::ARCH {
            "aarch64" => Some(Self::Arm64),
            "x86_64" => Some(Self::X86_64),
            _ => None,
        }
    }
}

/// Zip file of one function.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Zipped {
    pub function: String,
    pub architecture: Architecture,
    pub path: PathBuf,
    /// Size of the program in bytes.
    pub program_bytes: u64,
    /// Size of the zip file in bytes.
    pub zip_bytes: u64,
    /// SHA-256 of the zip file, in hexadecimal.
    pub sha256: String,
}

/// Builds every function with a profile of Cargo.toml, and packs each into
/// `target/package/{architecture}/{function}.zip`. Replaces the folder after the whole build.
///
/// # Errors
/// A [`local::problem::Problem`] when a tool is missing or the functions do not compile.
pub async fn package(
    project: &Project,
    architecture: Architecture,
    profile: &str,
    ui: &Ui,
) -> Result<Vec<Zipped>> {
    let programs = build::build(project, architecture, profile, ui).await?;
    let step = ui.step("zip", &format!("Packing {} functions for {}", programs.len(), architecture.name()));
    let folder = project.target_dir.join("package").join(architecture.name());
    let staging = archive::Staging::beside(&folder)?;
    let mut zipped = Vec::new();
    for (function, program) in programs {
        let packed = archive::pack(&program, &staging.path().join(format!("{function}.zip")))
            .with_context(|| format!("cannot pack {function}"))?;
        zipped.push(Zipped {
            path: folder.join(format!("{function}.zip")),
            function,
            architecture,
            program_bytes: packed.program_bytes,
            zip_bytes: packed.zip_bytes,
            sha256: packed.sha256,
        });
    }
    staging.replace(&folder)?;
    step.done("");
    Ok(zipped)
}
