//! zig: the C compiler and linker that cargo-lambda builds for Lambda with, whatever this machine is.

use std::path::PathBuf;

use anyhow::Result;
use local::{pip, project::Project, ui::Ui};

/// With cargo-lambda's pinned version this is what decides a function's bytes, next to the Rust
/// compiler. To take a newer one: its version, and its files' hashes as PyPI lists them.
const ZIG: pip::Package =
    pip::Package { name: "ziglang", version: "0.16.0", requirements: include_str!("zig.txt") };

/// zig's path, after installing it if need be.
///
/// # Errors
/// A [`local::problem::Problem`] when it cannot be had.
pub(crate) async fn ensure(project: &Project, ui: &Ui) -> Result<PathBuf> {
    Ok(ZIG.ensure(project, ui).await?.join("ziglang/zig"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pip_must_check_the_file() {
        assert!(ZIG.requirements.starts_with(&format!("ziglang=={} ", ZIG.version)));
        let hashes = ZIG.requirements.matches("--hash=sha256:").count();
        assert!(hashes > 3, "{hashes} platforms");
    }
}
