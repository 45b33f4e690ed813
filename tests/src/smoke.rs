//! `cargo smoke`: tests the real binaries over HTTP.
//!
//! The test has three parts, each with its own `cargo dev` on a free port:
//! 1. The functions run under `cargo lambda watch`.
//! 2. The prebuilt functions handle parallel requests.
//! 3. A second start uses the data folder of the first.
//!
//! It is not part of `cargo test`, because the first run may download cargo-lambda.

#![allow(clippy::indexing_slicing, clippy::print_stdout, reason = "test code that prints its results")]

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use e2e::{
    api::{expect, many_at_once, walk_through},
    dev::{Dev, command},
};

#[tokio::main]
async fn main() -> Result<()> {
    let mut passed = 0;
    println!("Functions under cargo lambda watch, data in memory");
    let dev = Dev::start(&["--memory"]).await?;
    passed += walk_through(&dev.server).await?;
    passed += taken_port_is_rejected(&dev).await?;
    dev.stop().await?;

    println!("Prebuilt functions, parallel requests");
    let dev = Dev::start(&["--memory", "--no-watch"]).await?;
    passed += walk_through(&dev.server).await?;
    passed += many_at_once(&dev.server).await?;
    dev.stop().await?;

    println!("Restart with the same data folder");
    let folder = tempfile::tempdir()?;
    let folder = folder.path().to_str().context("the temporary folder's name is not UTF-8")?;
    passed += restart_keeps_sessions(folder).await?;
    println!("{passed} passed, 0 failed");
    Ok(())
}

async fn taken_port_is_rejected(dev: &Dev) -> Result<u32> {
    let port = dev.stack.base_url.rsplit(':').next().context("the address has no port")?;
    let second = command(&["--memory", "--port", port]).stderr(Stdio::piped()).output().await?;
    let printed = String::from_utf8_lossy(&second.stderr);
    ensure!(second.status.code() == Some(2), "cargo dev ended with {}", second.status);
    ensure!(printed.contains(port) && printed.contains("--port"), "cargo dev printed {printed}");
    println!("  second start on the same port: rejected with a hint to choose another port");
    Ok(1)
}

async fn restart_keeps_sessions(folder: &str) -> Result<u32> {
    let arguments = ["--no-watch", "--data-dir", folder];
    let dev = Dev::start(&arguments).await?;
    let login = dev.server.login(&dev.server.actor("admin@cloudvault.example")?).await?;
    dev.stop().await?;
    let dev = Dev::start(&arguments).await?;
    let passed = expect("refresh after a restart", &dev.server.refresh(&login).await?, 200, "NONE")?;
    dev.stop().await?;
    Ok(passed)
}
