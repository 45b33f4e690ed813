//! Ending every process. This test needs its own test process, because it ends all descendants.

#![expect(clippy::unwrap_used, reason = "test code outside #[test] functions")]

use std::{
    io::{BufRead, BufReader},
    process::Command,
};

use local::process::{self, Ending, Output};

/// Starts an orphan: a shell in its own session that ignores signals and whose parent is killed.
/// Returns its process ID.
async fn start_an_orphan() -> i32 {
    let script = "setsid sh -c 'trap \"\" TERM INT HUP; echo $$; while :; do sleep 100; done' &
                  wait";
    let mut command = process::command("sh");
    command.args(["-c", script]);
    let mut child = process::spawn(&mut command, Output::StdoutToUs).unwrap();
    let output = child.stdout.take().unwrap().into_owned_fd().unwrap();
    let mut line = String::new();
    BufReader::new(std::fs::File::from(output)).read_line(&mut line).unwrap();
    // After the end of the parent, the orphan becomes a child of this process.
    child.kill().await.unwrap();
    line.trim().parse().unwrap()
}

fn runs(pid: i32) -> bool {
    Command::new("sh").args(["-c", &format!("kill -0 {pid}")]).output().unwrap().status.success()
}

#[tokio::test]
#[cfg_attr(not(target_os = "linux"), ignore = "orphans are adopted only on Linux")]
async fn orphans_that_ignore_signals_are_ended() {
    process::adopt_orphans();
    let orphan = start_an_orphan().await;
    assert!(runs(orphan));
    let left = process::end_all(Ending::Now).await.unwrap();
    assert_eq!(left, []);
    assert!(!runs(orphan));

    let orphan = start_an_orphan().await;
    let left = process::end_all(Ending::Graceful).await.unwrap();
    assert_eq!(left, []);
    assert!(!runs(orphan));
}
