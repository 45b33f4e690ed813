//! The functions as the zip files that Lambda takes, with nothing in them of when and where they were built.
//!
//! cargo-lambda compiles them by zig, against the glibc of `provided.al2023` and for either
//! processor on any machine. What they are packed into is made here: cargo-lambda's own zip files
//! carry the time of their making.

mod archive;
mod build;
mod zig;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::ValueEnum;
use local::{project::Project, ui::Ui};
use serde::Serialize;

/// The processors that Lambda offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Graviton, 2 or newer.
    Arm64,
    /// Intel and AMD.
    X86_64,
}

impl Architecture {
    /// As Lambda and the folders name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Arm64 => "arm64",
            Self::X86_64 => "x86_64",
        }
    }

    /// This machine's, where Lambda offers it.
    #[must_use]
    pub fn of_this_machine() -> Option<Self> {
        match std::env::consts::ARCH {
            "aarch64" => Some(Self::Arm64),
            "x86_64" => Some(Self::X86_64),
            _ => None,
        }
    }
}

/// One function's zip file.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Zipped {
    pub function: String,
    pub architecture: Architecture,
    pub path: PathBuf,
    /// Bytes of the program.
    pub program_bytes: u64,
    /// Bytes of the zip file.
    pub zip_bytes: u64,
    /// Of the zip file, in hexadecimal.
    pub sha256: String,
}

/// Builds every function with that profile of Cargo.toml, and packs each into
/// `target/package/{architecture}/{function}.zip`. What was there before goes, once all is built.
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
    let place = project.target_dir.join("package").join(architecture.name());
    let staging = archive::Staging::beside(&place)?;
    let mut zipped = Vec::new();
    for (function, program) in programs {
        let packed = archive::pack(&program, &staging.path().join(format!("{function}.zip")))
            .with_context(|| format!("cannot pack {function}"))?;
        zipped.push(Zipped {
            path: place.join(format!("{function}.zip")),
            function,
            architecture,
            program_bytes: packed.program_bytes,
            zip_bytes: packed.zip_bytes,
            sha256: packed.sha256,
        });
    }
    staging.replace(&place)?;
    step.done("");
    Ok(zipped)
}
