//! Starts processes in such a way that all of them can be ended.
//!
//! Every child leads its own process group. Ctrl-C in the terminal therefore reaches only this
//! process, which then ends the others in the right order. cargo-lambda puts its own children into
//! further groups, and those would outlive this process. Therefore [`end_all`] ends every
//! *descendant*. On Linux this process is also a subreaper: an orphan becomes its child, so that the
//! search for descendants finds it.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    os::fd::AsFd,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill, killpg},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::{Pid, getpgid, getpgrp},
};
use sysinfo::{Process, ProcessRefreshKind, ProcessStatus, RefreshKind, System};
use tokio::{
    process::{Child, Command},
    time::Instant,
};

use crate::env;

/// Time for a graceful end. cargo-lambda takes up to one second.
const GRACE: Duration = Duration::from_secs(3);
/// Time for the kernel to remove killed processes.
const KILL_WITHIN: Duration = Duration::from_secs(5);
/// Interval between searches. Only direct children could be awaited instead.
const LOOK_EVERY: Duration = Duration::from_millis(40);

/// Makes this process the new parent of its orphaned descendants. Call it once, before other functions.
pub fn adopt_orphans() {
    // Without this feature, orphans of processes that ended earlier are not found.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_child_subreaper(true);
}

/// Creates a command without the variables of this package and of a developer's AWS account. See
/// [`env::isolate`].
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    env::isolate(&mut command);
    command
}

/// Starts a child in its own process group and without stdin, because a prompt would wait forever.
///
/// # Errors
/// When the program cannot be started.
pub fn spawn(command: &mut Command, output: Output) -> Result<Child> {
    command.stdin(Stdio::null()).process_group(0);
    match output {
        Output::ToStderr => command.stdout(our_stderr()?).stderr(our_stderr()?),
        Output::StdoutToUs => command.stdout(Stdio::piped()).stderr(our_stderr()?),
        Output::Captured => command.stdout(Stdio::piped()).stderr(Stdio::piped()),
    };
    command.spawn().with_context(|| {
        let program = command.as_std().get_program();
        format!("cannot start {}", program.display())
    })
}

/// Destination of a child's output. It is never this process's stdout, which is reserved for the
/// result of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    ToStderr,
    /// stdout is piped; stderr is inherited.
    StdoutToUs,
    Captured,
}

/// Runs a child and waits for its end.
///
/// # Errors
/// When the program cannot be started.
pub async fn status(command: &mut Command) -> Result<ExitStatus> {
    Ok(spawn(command, Output::ToStderr)?.wait().await?)
}

/// Runs a child without visible output and waits for its end.
///
/// # Errors
/// When the program cannot be started.
pub async fn output(command: &mut Command) -> Result<std::process::Output> {
    let child = spawn(command, Output::Captured)?;
    Ok(child.wait_with_output().await?)
}

/// Duplicates stderr instead of piping it, so that cargo detects a terminal.
fn our_stderr() -> Result<Stdio> {
    Ok(std::io::stderr().as_fd().try_clone_to_owned()?.into())
}

/// Way of ending the descendants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Sends SIGTERM, and SIGKILL to the processes that have not ended after `GRACE`.
    Graceful,
    Now,
}

/// Ends every descendant of this process. No other code may wait for one of them.
///
/// Returns the descendants that survived SIGKILL, normally none.
///
/// # Errors
/// When the system's processes cannot be listed.
pub async fn end_all(ending: Ending) -> Result<Vec<Pid>> {
    let begun = Instant::now();
    let mut family = Family::default();
    let mut asked = HashSet::new();
    let mut seen_none = false;
    loop {
        let alive = family.look()?;
        // One search is not enough: a parent may end while the list of processes is read.
        if alive.is_empty() && seen_none {
            return Ok(alive);
        }
        seen_none = alive.is_empty();
        let waited = begun.elapsed();
        if ending == Ending::Now || waited > GRACE {
            signal(&alive, Signal::SIGKILL);
        } else {
            // SIGTERM once for each process, including processes started during the end.
            let new: Vec<Pid> = alive.iter().copied().filter(|pid| asked.insert(*pid)).collect();
            signal(&new, Signal::SIGTERM);
        }
        if waited > GRACE + KILL_WITHIN {
            return Ok(alive);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Signals groups, which includes processes that start at this moment. Also signals each process
/// separately if its group has changed.
fn signal(pids: &[Pid], signal: Signal) {
    let ours = getpgrp();
    let groups: HashSet<Pid> =
        pids.iter().filter_map(|pid| getpgid(Some(*pid)).ok()).filter(|group| *group != ours).collect();
    let reached: HashSet<Pid> =
        groups.iter().copied().filter(|group| killpg(*group, signal).is_ok()).collect();
    for pid in pids {
        let group = getpgid(Some(*pid)).ok();
        if group.is_none_or(|group| !reached.contains(&group)) {
            // Fails if the process has ended already.
            let _ = kill(*pid, signal);
        }
    }
}

/// All descendants found so far, by ID and start time, because the system can reuse an ID.
#[derive(Default)]
struct Family(HashMap<sysinfo::Pid, u64>);

impl Family {
    /// Finds the descendants that are still running.
    fn look(&mut self) -> Result<Vec<Pid>> {
        let listed = RefreshKind::nothing().with_processes(ProcessRefreshKind::nothing().without_tasks());
        // A new list each time, because an updated list would not show the new parent of an orphan.
        let system = System::new_with_specifics(listed).context("cannot list this machine's processes")?;
        let processes = system.processes();
        let this = sysinfo::Pid::from_u32(std::process::id());

        for (pid, process) in processes {
            if descends(processes, process, this) {
                self.0.insert(*pid, process.start_time());
            }
        }
        let still = self.0.iter().filter_map(|(pid, started)| {
            let process = processes.get(pid)?;
            (process.start_time() == *started).then_some((process, to_nix(*pid)?))
        });
        let mut alive = Vec::new();
        for (process, pid) in still {
            if matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead) {
                reap(pid);
            } else {
                alive.push(pid);
            }
        }
        Ok(alive)
    }
}

fn descends(processes: &HashMap<sysinfo::Pid, Process>, process: &Process, ancestor: sysinfo::Pid) -> bool {
    std::iter::successors(process.parent(), |parent| processes.get(parent)?.parent())
        // Limited, because a reused ID could close a circle.
        .take(processes.len())
        .any(|parent| parent == ancestor)
}

fn to_nix(pid: sysinfo::Pid) -> Option<Pid> {
    i32::try_from(pid.as_u32()).ok().map(Pid::from_raw)
}

/// Takes the exit status of an adopted child, for which no other code waits.
fn reap(pid: Pid) {
    while waitpid(pid, Some(WaitPidFlag::WNOHANG)) == Err(Errno::EINTR) {}
}
