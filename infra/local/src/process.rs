//! Starting processes so that all of them can be ended.
//!
//! Every child leads its own process group: Ctrl-C in the terminal then reaches only this process,
//! which ends the others in its own order. But cargo-lambda puts what it starts into further
//! groups, and what it leaves behind would outlive us. So ending means ending every *descendant*,
//! and on Linux this process is a subreaper: an orphan becomes its child and is found, whoever
//! started it.

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

/// Time to end by themselves. cargo-lambda takes up to one second.
const GRACE: Duration = Duration::from_secs(3);
/// After that they are killed, and the kernel needs a moment for it.
const KILL_WITHIN: Duration = Duration::from_secs(5);
/// A process that is not our own child cannot be waited for, only looked at.
const LOOK_EVERY: Duration = Duration::from_millis(40);

/// Prepares this process to find everything its children leave behind. Call it once, first.
pub fn adopt_orphans() {
    // Where the kernel cannot do it we still end all whose ancestors live when the end begins.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_child_subreaper(true);
}

/// A command that knows nothing of this package or of a developer's AWS account. See
/// [`env::isolate`].
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    env::isolate(&mut command);
    command
}

/// Starts a child in a process group of its own, without stdin: a prompt that nobody can answer
/// must not hang.
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

/// Where a child's output goes: never to our stdout, which is for the person or the program that
/// called us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    ToStderr,
    /// stdout is piped, stderr is ours.
    StdoutToUs,
    Captured,
}

/// Runs a child to its end.
///
/// # Errors
/// When the program cannot be started.
pub async fn status(command: &mut Command) -> Result<ExitStatus> {
    Ok(spawn(command, Output::ToStderr)?.wait().await?)
}

/// Runs a child to its end, silently.
///
/// # Errors
/// When the program cannot be started.
pub async fn output(command: &mut Command) -> Result<std::process::Output> {
    let child = spawn(command, Output::Captured)?;
    Ok(child.wait_with_output().await?)
}

/// Inherited and not piped, so that cargo sees a terminal where there is one.
fn our_stderr() -> Result<Stdio> {
    Ok(std::io::stderr().as_fd().try_clone_to_owned()?.into())
}

/// How to end the descendants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Ask, and kill what has not ended after a while.
    Graceful,
    Now,
}

/// Ends every process that descends from this one. Nobody else may be waiting for one of them.
///
/// Returns those that are still there although they were killed: normally none.
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
        // One look is no proof: a parent may end between its child's birth and our reading.
        if alive.is_empty() && seen_none {
            return Ok(alive);
        }
        seen_none = alive.is_empty();
        let waited = begun.elapsed();
        if ending == Ending::Now || waited > GRACE {
            signal(&alive, Signal::SIGKILL);
        } else {
            // Each only once, those that were started meanwhile included.
            let new: Vec<Pid> = alive.iter().copied().filter(|pid| asked.insert(*pid)).collect();
            signal(&new, Signal::SIGTERM);
        }
        if waited > GRACE + KILL_WITHIN {
            return Ok(alive);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// By group, so that what starts this very moment is reached, and each by itself in case it has
/// changed its group since.
fn signal(pids: &[Pid], signal: Signal) {
    let ours = getpgrp();
    let groups: HashSet<Pid> =
        pids.iter().filter_map(|pid| getpgid(Some(*pid)).ok()).filter(|group| *group != ours).collect();
    let reached: HashSet<Pid> =
        groups.iter().copied().filter(|group| killpg(*group, signal).is_ok()).collect();
    for pid in pids {
        let group = getpgid(Some(*pid)).ok();
        if group.is_none_or(|group| !reached.contains(&group)) {
            // It may have ended by itself.
            let _ = kill(*pid, signal);
        }
    }
}

/// All descendants ever seen, by id and start time: an id alone may be somebody else's later.
#[derive(Default)]
struct Family(HashMap<sysinfo::Pid, u64>);

impl Family {
    /// The descendants that still run.
    fn look(&mut self) -> Result<Vec<Pid>> {
        let listed = RefreshKind::nothing().with_processes(ProcessRefreshKind::nothing().without_tasks());
        // Anew each time: an orphan's parent changes, and a kept list would not show it.
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
        // Bounded: an id that was given anew while we looked could close a circle.
        .take(processes.len())
        .any(|parent| parent == ancestor)
}

fn to_nix(pid: sysinfo::Pid) -> Option<Pid> {
    i32::try_from(pid.as_u32()).ok().map(Pid::from_raw)
}

/// Takes the exit status of a child that we adopted and nobody else waits for.
fn reap(pid: Pid) {
    while waitpid(pid, Some(WaitPidFlag::WNOHANG)) == Err(Errno::EINTR) {}
}
