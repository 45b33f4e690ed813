//! Runs commands that start processes, and ends those processes on Ctrl-C or a signal.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    problem::Problem,
    process::{self, Ending},
    ui::Ui,
};

/// Runs a command until it ends or a signal arrives. All processes that it started have ended when
/// this function returns.
pub async fn run_to_end(ui: &Ui, work: impl Future<Output = Result<()>>) -> ExitCode {
    process::adopt_orphans();
    match until_signal(work).await {
        Ok(code) => code,
        Err(error) => report(ui, &error),
    }
}

/// Prints an error and returns its exit code.
pub fn report(ui: &Ui, error: &anyhow::Error) -> ExitCode {
    ui.error(error);
    ExitCode::from(error.downcast_ref::<Problem>().map_or(1, Problem::exit_code))
}

/// Does the work until it ends or a signal arrives, and then ends every process.
///
/// # Errors
/// The error of the work, or the failure to end a process.
pub async fn until_signal(work: impl Future<Output = Result<()>>) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    tokio::pin!(work);
    let ended = tokio::select! {
        result = &mut work => result.map(|()| ExitCode::SUCCESS),
        code = signals.next() => Ok(code),
    };
    // `work` is not dropped yet. Its temporary files (such as the folder of an unfinished
    // installation) are removed after the processes that write to them have ended.
    tokio::select! {
        done = end_processes(Ending::Graceful) => done?,
        // A second signal ends the processes at once.
        _ = signals.next() => end_processes(Ending::Now).await?,
    }
    ended
}

/// Ends every process that this process started.
async fn end_processes(ending: Ending) -> Result<()> {
    let left = process::end_all(ending).await?;
    let ids: Vec<String> = left.iter().map(ToString::to_string).collect();
    ensure!(ids.is_empty(), "some processes did not end; end them with: kill -9 {}", ids.join(" "));
    Ok(())
}

/// Signals that ask this process to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal. Returns its exit code by the convention of shells: 128 and the number.
    async fn next(&mut self) -> ExitCode {
        let number = tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hangup.recv() => 1,
        };
        ExitCode::from(128 + number)
    }
}
