//! Ending every process: alone in its own test process, since it ends all descendants.

#![expect(clippy::unwrap_used, reason = "a test, though not every line is in a #[test]")]

use std::{
    io::{BufRead, BufReader},
    process::Command,
};

use local::process::{self, Ending, Output};

/// Starts a shell that starts a shell in a session of its own, which ignores being asked to end,
/// and leaves it an orphan. Returns the orphan's id.
async fn start_an_orphan() -> i32 {
    let script = "setsid sh -c 'trap \"\" TERM INT HUP; echo $$; while :; do sleep 100; done' &
                  wait";
    let mut command = process::command("sh");
    command.args(["-c", script]);
    let mut child = process::spawn(&mut command, Output::StdoutToUs).unwrap();
    let output = child.stdout.take().unwrap().into_owned_fd().unwrap();
    let mut line = String::new();
    BufReader::new(std::fs::File::from(output)).read_line(&mut line).unwrap();
    // The parent goes first: what it started is nobody's now, or rather ours.
    child.kill().await.unwrap();
    line.trim().parse().unwrap()
}

fn runs(pid: i32) -> bool {
    Command::new("sh").args(["-c", &format!("kill -0 {pid}")]).output().unwrap().status.success()
}

#[tokio::test]
#[cfg_attr(not(target_os = "linux"), ignore = "orphans are only adopted on Linux")]
async fn orphans_in_other_sessions_that_ignore_signals_end_too() {
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
