//! Commands that start processes, and what asks them to end.

use std::process::ExitCode;

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    problem::Problem,
    process::{self, Ending},
    run,
    ui::Ui,
};

/// Runs a command to its end, or until a signal asks to stop. Whatever it started has ended when this
/// returns.
pub async fn run_to_end(ui: &Ui, work: impl Future<Output = Result<()>>) -> ExitCode {
    process::adopt_orphans();
    match until_asked(work).await {
        Ok(code) => code,
        Err(error) => failed(ui, &error),
    }
}

/// Says why a command ends, and the exit code for it.
pub fn failed(ui: &Ui, error: &anyhow::Error) -> ExitCode {
    ui.error(error);
    ExitCode::from(error.downcast_ref::<Problem>().map_or(1, Problem::exit_code))
}

/// Does the work until it ends or a signal comes, and in both cases ends every process.
///
/// # Errors
/// The work's own, and when a process cannot be ended.
pub async fn until_asked(work: impl Future<Output = Result<()>>) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    tokio::pin!(work);
    let asked = tokio::select! {
        result = &mut work => result.map(|()| ExitCode::SUCCESS),
        code = signals.next() => Ok(code),
    };
    // While the work is still there, though not going on: what it holds (the folder of an unfinished
    // installation) is removed after the processes that write to it.
    tokio::select! {
        ended = run::end_processes(Ending::Graceful) => ended?,
        // Asked twice: at once, then.
        _ = signals.next() => run::end_processes(Ending::Now).await?,
    }
    asked
}

/// What asks us to end.
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

    /// The exit code by which shells tell that signal.
    async fn next(&mut self) -> ExitCode {
        let number = tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hangup.recv() => 1,
        };
        ExitCode::from(128 + number)
    }
}
