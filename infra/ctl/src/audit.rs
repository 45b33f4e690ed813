//! `doorwardctl audit …`

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand, ValueHint};
use doorward::{
    audit::{Fault, Report, Scope},
    domain::TenantId,
    function::SystemClock,
    port::Clock,
    usecase::verify_audit::{VerifyError, verify},
};
use jiff::civil::Date;
use serde_json::{Value, json};

use crate::{
    Context,
    output::{UsageError, table},
    target::Target,
};

/// The file name that stands for standard input.
const STDIN: &str = "-";

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Verify that no audit event was changed, removed, added or repeated
    ///
    /// Reads the log lines of the functions and compares them with the chain heads in the table. The lines
    /// can be in any order. A line can start with a prefix that the log service added, such as a time.
    /// Changes nothing. The exit code is 0 if the log is complete, and 1 otherwise.
    #[command(after_help = "Examples:
  doorwardctl --local audit verify
  doorwardctl --table doorward audit verify \\
    --from 2026-11-21 --to 2026-11-21 day.ndjson")]
    Verify(VerifyAudit),
}

#[derive(Debug, Args)]
pub(crate) struct VerifyAudit {
    /// Verify only the events of this tenant
    #[arg(long, value_name = "ID", value_parser = TenantId::parse)]
    tenant: Option<TenantId>,

    /// First day in UTC, such as 2026-01-31 [default: the first day in the log]
    #[arg(long, value_name = "DAY", value_parser = day)]
    from: Option<Date>,

    /// Last day in UTC [default: the last day in the log]
    #[arg(long, value_name = "DAY", value_parser = day)]
    to: Option<Date>,

    /// Log files, or `-` for stdin [default with --local: the log of the local stack]
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    files: Vec<PathBuf>,
}

impl AuditCommand {
    pub(crate) async fn run(self, context: &Context, target: &Target) -> Result<()> {
        match self {
            Self::Verify(wanted) => wanted.run(context, target).await,
        }
    }
}

impl VerifyAudit {
    async fn run(mut self, context: &Context, target: &Target) -> Result<()> {
        if self.from.zip(self.to).is_some_and(|(from, to)| from > to) {
            bail!(UsageError("--from is after --to; swap the two days".to_owned()));
        }
        if self.files.is_empty() {
            self.files.extend(target.audit_file()?);
        }
        let log = opened(&self.files)?;
        let scope = Scope { tenant: self.tenant, from: self.from, to: self.to };
        let report = match verify(log, &context.store, scope, SystemClock.now()).await {
            Ok(report) => report,
            Err(VerifyError::Anchors(failure)) => return Err(failure.into()),
            Err(nothing @ VerifyError::Nothing) => bail!(UsageError(format!("{nothing} (--from, --to)"))),
            Err(other) => return Err(other.into()),
        };
        context.output.result(&as_json(&report), || as_text(&report))?;
        if report.is_whole() {
            Ok(())
        } else {
            bail!("the log is not complete; faults: {}", report.fault_count)
        }
    }
}

/// Opens the files as one stream. Adds a line end to the last line of each file.
fn opened(files: &[PathBuf]) -> Result<Box<dyn BufRead>> {
    if files.is_empty() {
        bail!(UsageError("no log file; pass FILE, or `-` for stdin".to_owned()));
    }
    let mut all: Box<dyn BufRead> = Box::new(io::empty());
    for file in files {
        let next: Box<dyn BufRead> = if file == Path::new(STDIN) {
            Box::new(BufReader::new(io::stdin()))
        } else {
            let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
            Box::new(BufReader::new(opened))
        };
        all = Box::new(all.chain(next).chain(b"\n".as_slice()));
    }
    Ok(all)
}

fn as_json(report: &Report) -> Value {
    let faults = report.faults.iter().map(|fault| {
        let partition = fault.partition.as_ref();
        json!({
            "kind": fault.kind.name(),
            "tenant": partition.and_then(|it| it.tenant.as_ref()),
            "day": partition.map(|it| it.day.to_string()),
            "chain": fault.chain.map(|chain| chain.to_string()),
            "message": fault.kind.to_string(),
        })
    });
    json!({
        "whole": report.is_whole(),
        "events": report.events,
        "chains": report.chains,
        "notYetAnchored": report.not_yet_anchored,
        "passedOver": report.passed_over,
        "faultCount": report.fault_count,
        "faults": faults.collect::<Vec<_>>(),
    })
}

fn day(text: &str) -> Result<Date, &'static str> {
    text.parse().map_err(|_| "use the format YYYY-MM-DD")
}

fn as_text(report: &Report) -> String {
    let Report { events, chains, passed_over, not_yet_anchored, faults, fault_count } = report;
    let others = if *passed_over > 0 { format!(", ignored lines: {passed_over}") } else { String::new() };
    let counts = format!("events: {events}, chains: {chains}, not anchored yet: {not_yet_anchored}{others}");
    if report.is_whole() {
        return format!("{counts}\nThe log is complete.");
    }
    let shown = table(&["TENANT", "DAY", "CHAIN", "FAULT"], faults.iter().map(row));
    let hidden = fault_count.saturating_sub(u64::try_from(faults.len()).unwrap_or(u64::MAX));
    let more = if hidden > 0 { format!("\nand {hidden} more") } else { String::new() };
    format!("{counts}\n\n{shown}{more}")
}

fn row(fault: &Fault) -> Vec<String> {
    let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let partition = fault.partition.as_ref();
    vec![
        known(partition.and_then(|it| it.tenant.as_ref()).map(ToString::to_string)),
        known(partition.map(|it| it.day.to_string())),
        known(fault.chain.map(|chain| chain.to_string())),
        fault.kind.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_one_stream_including_unterminated_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["a", "b"].map(|name| folder.path().join(name));
        std::fs::write(&files[0], "one\ntwo").unwrap();
        std::fs::write(&files[1], "three\n").unwrap();
        let lines: Vec<_> = opened(&files).unwrap().lines().map(Result::unwrap).collect();
        assert_eq!(lines, ["one", "two", "three", ""]);
        assert!(opened(&[]).err().unwrap().is::<UsageError>());
        assert!(opened(&[folder.path().join("c")]).is_err());
    }
}
