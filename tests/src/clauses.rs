//! Drops each clause of each condition expression in turn, and expects a failing test: `cargo clauses`.
//!
//! Each test records the conditions that it sends. For each clause, only the tests that send its condition run again.
//! Their fault proxies send the condition without the clause.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use e2e::fault_proxy::{DROP_VARIABLE, INVALID_STATUS, RECORD_VARIABLE, Weakened, weakened};
use serde_json::Value;
use tokio::process::Command;

/// Number of tests in one process. The first process with a failing test ends the search.
const CHUNK: usize = 12;
/// Time after which a process counts as failed, because a test without the clause may wait forever.
const TIME_LIMIT: Duration = Duration::from_secs(180);

/// Clauses that no test needs: part of the condition, clause, reason.
const ACCEPTED: [(&str, &str, &str); 3] = [
    ("Put T TENANT: ", "attribute_exists(pk)", "only an item without a version needs it"),
    (
        "Delete T#U USER: ",
        "change_sequence = :sequence",
        "the username of the same transaction has a condition",
    ),
    (
        "Delete T#N USERNAME: ",
        "user_id = :user",
        "the sequence of the user in the same transaction has a condition",
    ),
];

/// Drops each clause of each condition expression of the store, and expects a failing test.
#[derive(Debug, Parser)]
struct Arguments {
    /// Tests only conditions whose recorded text contains this text. The recorded text is the operation, the
    /// partition key, the sort key and the expression. IDs are left out of the keys: `T#acme#U#ada` is
    /// recorded as `T#U`. Example: `Delete T#U USER`.
    #[arg(long, default_value = "")]
    only: String,
    /// File to read the recorded conditions from. If it does not exist, the command first runs all tests and
    /// writes the file.
    #[arg(long)]
    recording: Option<PathBuf>,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the result of the command")]
async fn main() -> Result<()> {
    let Arguments { only, recording } = Arguments::parse();
    let tests = test_binary().await?;
    let folder = tempfile::tempdir()?;
    let recording = recording.unwrap_or_else(|| folder.path().join("conditions"));
    if !recording.exists() {
        println!("Running all tests to record their conditions …");
        let command = Command::new(&tests).env(RECORD_VARIABLE, &recording).stdout(Stdio::null()).status();
        ensure!(command.await?.success(), "a test failed before any clause was dropped; fix it first");
    }
    let mut survivors = Vec::new();
    let mut dropped = 0;
    for (condition, senders) in conditions(&recording)? {
        if !condition.contains(&only) {
            continue;
        }
        let expression = condition.split_once(": ").map_or("", |(_, expression)| expression);
        for (number, Weakened { clause, .. }) in weakened(expression).into_iter().enumerate() {
            dropped += 1;
            let end = run_without(&tests, &format!("{number}\t{condition}"), &senders).await?;
            let accepted = ACCEPTED.iter().find(|(part, of, _)| condition.contains(part) && *of == clause);
            let verdict = match (end, accepted) {
                (End::Failed, _) => "a test fails".to_owned(),
                (End::TimedOut, _) => format!("a test takes longer than {} s", TIME_LIMIT.as_secs()),
                (End::Invalid, _) => {
                    bail!(
                        "DynamoDB rejects the write without this clause; correct the harness:\n{condition}\n{clause}"
                    )
                }
                (End::Passed, Some((_, _, reason))) => format!("accepted: {reason}"),
                (End::Passed, None) => {
                    survivors.push(format!("{condition}\n    without: {clause}"));
                    "NO TEST FAILS".to_owned()
                }
            };
            println!("{condition}\n    without: {clause}\n    {verdict}");
        }
    }
    println!("Dropped {dropped} clauses.");
    if !survivors.is_empty() {
        bail!("no test fails without these clauses; add one for each:\n{}", survivors.join("\n"));
    }
    Ok(())
}

/// Builds the tests and returns their binary.
async fn test_binary() -> Result<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let arguments = ["test", "-p", "e2e", "--test", "e2e", "--no-run", "--message-format=json"];
    let output = Command::new(cargo).args(arguments).stderr(Stdio::inherit()).output().await?;
    ensure!(output.status.success(), "the tests do not compile");
    let lines = String::from_utf8(output.stdout)?;
    let messages = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut built =
        messages.filter(|message| message.pointer("/target/name").is_some_and(|name| name == "e2e"));
    let binary = built.find_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)));
    binary.context("cargo named no test binary")
}

/// The recorded conditions, each with the tests that send it.
fn conditions(recording: &Path) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut conditions = BTreeMap::<_, BTreeSet<_>>::new();
    for line in fs::read_to_string(recording)?.lines() {
        let (test, condition) = line.split_once('\t').context("the recording has an invalid line")?;
        // The tests of the proxy itself do not test the store. A name without `::` is no test.
        if test.contains("::") && !test.starts_with("fault_proxy::") {
            conditions.entry(condition.to_owned()).or_default().insert(test.to_owned());
        }
    }
    Ok(conditions)
}

/// How the tests end without a clause.
enum End {
    Passed,
    Failed,
    TimedOut,
    /// DynamoDB rejected a write as invalid.
    Invalid,
}

/// Runs the tests that send a condition, without one of its clauses.
async fn run_without(tests: &Path, clause: &str, senders: &BTreeSet<String>) -> Result<End> {
    for chunk in senders.iter().collect::<Vec<_>>().chunks(CHUNK) {
        let mut command = Command::new(tests);
        command.arg("--exact").args(chunk).env(DROP_VARIABLE, clause).kill_on_drop(true);
        match tokio::time::timeout(TIME_LIMIT, command.stderr(Stdio::null()).output()).await {
            Err(_) => return Ok(End::TimedOut),
            Ok(output) => {
                let output = output?;
                match output.status.code() {
                    Some(0) => {}
                    Some(INVALID_STATUS) => return Ok(End::Invalid),
                    _ => {
                        let output = String::from_utf8_lossy(&output.stdout);
                        let failed = failed_tests(&output).collect::<Vec<_>>();
                        confirm(tests, &failed).await?;
                        return Ok(End::Failed);
                    }
                }
            }
        }
    }
    Ok(End::Passed)
}

/// Names of the failed tests in the output of a test binary.
fn failed_tests(output: &str) -> impl Iterator<Item = &str> {
    output.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
}

/// Runs tests that failed without a clause again, with the complete condition. A test that fails now, too, proves
/// nothing about the clause.
///
/// # Errors
/// A test fails with the complete condition, for example because the machine is busy.
async fn confirm(tests: &Path, failed: &[&str]) -> Result<()> {
    for test in failed {
        let mut command = Command::new(tests);
        command.args(["--exact", test]).stdout(Stdio::null()).stderr(Stdio::null());
        ensure!(
            command.status().await?.success(),
            "{test} fails with the complete condition, too; fix it first"
        );
    }
    Ok(())
}
