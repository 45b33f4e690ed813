//! `doorwardctl user import`

mod lines;

use std::{
    collections::HashSet,
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use backon::{ExponentialBuilder, Retryable};
use clap::{Args, ValueHint};
use doorward::{
    domain::{Failure, FieldError, TenantId, UserId},
    function::SystemClock,
    port::Clock,
    store::{DynamoStore, ImportOutcome, NewUser, USERS_AT_ONCE},
};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::{self, Receiver},
    task::JoinSet,
};

use self::lines::{InputLine, opened, send_lines};
use crate::Context;

/// Maximum concurrent transactions. More do not help, because an on-demand table limits capacity units.
const AT_ONCE: usize = 8;
/// Maximum lines that the reader keeps ready.
const READ_AHEAD: usize = 4 * USERS_AT_ONCE;

#[derive(Debug, Args)]
pub(crate) struct ImportUsers {
    /// Tenant ID
    #[arg(value_parser = TenantId::parse)]
    tenant: TenantId,

    /// File with one JSON object per line, or `-` for stdin
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,

    /// Report the lines that would be rejected, without writing anything
    #[arg(long)]
    dry_run: bool,
}

/// A line whose user has not been created yet.
struct PendingUser {
    line: u64,
    new: NewUser,
}

type BatchResult = (Vec<PendingUser>, Result<Vec<ImportOutcome>, Failure>);

/// A line that was rejected, with the reasons.
struct RejectedLine {
    line: u64,
    user: Option<UserId>,
    errors: Vec<FieldError>,
}

#[derive(Default)]
struct ImportSummary {
    lines: u64,
    created: u64,
    already: u64,
    refused: Vec<RejectedLine>,
    /// Failure that stopped the import before its end.
    stopped: Option<Failure>,
}

/// State of a running import.
struct ImportRun {
    store: DynamoStore,
    writes: bool,
    now: Timestamp,
    batch: Vec<PendingUser>,
    under_way: JoinSet<BatchResult>,
    /// IDs and usernames in the batch and in running transactions. A line with one of them waits, so that
    /// the first of two conflicting lines wins. In a dry run: IDs and usernames of all earlier lines.
    taken: HashSet<String>,
    summary: ImportSummary,
    bar: ProgressBar,
    json: bool,
}

impl ImportUsers {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let Self { tenant, file, dry_run } = self;
        let Some(record) = context.store.tenant(&tenant).await? else {
            bail!("tenant {tenant} does not exist; see `tenant list`");
        };
        let (source, length) = opened(&file)?;
        let begun = Instant::now();
        let (lines, read) = mpsc::channel(READ_AHEAD);
        let cost = record.policy.hash_cost;
        let reader = tokio::task::spawn_blocking({
            let tenant = tenant.clone();
            move || send_lines(source, &tenant, cost, &lines)
        });
        let run = ImportRun {
            store: context.store.clone(),
            writes: !dry_run,
            now: SystemClock.now(),
            batch: Vec::new(),
            under_way: JoinSet::new(),
            taken: HashSet::new(),
            summary: ImportSummary::default(),
            bar: progress(length),
            json: context.output.json,
        };
        let summary = run.all(read).await?;
        // A stopped import does not wait for the reader, which may be blocked on an open pipe.
        let end = if summary.stopped.is_none() { reader.await? } else { Ok(()) };
        if summary.lines == 0 && end.is_err() {
            return end.with_context(|| format!("cannot import {}", file.display()));
        }
        context
            .output
            .result(&as_json(&tenant, &summary, dry_run), || as_text(&summary, dry_run, begun.elapsed()))?;
        if let Some(failure) = summary.stopped {
            return Err(anyhow!(
                "the import stopped: {failure}. Run it again; it skips lines that are already imported"
            ));
        }
        end.with_context(|| format!("cannot read the rest of {}", file.display()))?;
        match summary.refused.len() {
            0 => Ok(()),
            count => {
                bail!("rejected lines: {count}; correct them and import again. Other lines are not affected")
            }
        }
    }
}

impl ImportRun {
    async fn all(mut self, mut lines: Receiver<InputLine>) -> Result<ImportSummary> {
        while self.summary.stopped.is_none()
            && let Some(InputLine { number, read, user, content }) = lines.recv().await
        {
            self.summary.lines += 1;
            self.bar.set_position(read);
            match content {
                Ok(new) => self.add(PendingUser { line: number, new }).await?,
                Err(Failure::Validation(errors)) => self.refuse(number, user, errors)?,
                Err(failure) => return Err(failure.into()),
            }
        }
        self.send().await?;
        self.settle_all().await?;
        self.bar.finish_and_clear();
        Ok(self.summary)
    }

    async fn add(&mut self, pending: PendingUser) -> Result<()> {
        let names = names(&pending.new);
        if names.iter().any(|name| self.taken.contains(name)) {
            if !self.writes {
                let id = pending.new.user.id;
                let why = "has the ID or the username of an earlier line";
                return self.refuse(pending.line, Some(id), vec![FieldError::new("line", why)]);
            }
            self.send().await?;
            self.settle_all().await?;
        }
        self.taken.extend(names);
        self.batch.push(pending);
        if self.batch.len() == USERS_AT_ONCE { self.send().await } else { Ok(()) }
    }

    /// Starts the transaction that creates the batch.
    async fn send(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        while self.under_way.len() >= AT_ONCE {
            self.settle().await?;
        }
        let (store, batch, now, writes) =
            (self.store.clone(), std::mem::take(&mut self.batch), self.now, self.writes);
        self.under_way.spawn(async move {
            let users: Arc<[NewUser]> = batch.iter().map(|pending| pending.new.clone()).collect();
            let ask = || async {
                if writes { store.insert_users(&users, now).await } else { store.preview_users(&users).await }
            };
            let is_passing = |failure: &Failure| matches!(failure, Failure::Unavailable(_));
            let answer = ask.retry(patience()).when(is_passing).await;
            (batch, answer)
        });
        Ok(())
    }

    async fn settle_all(&mut self) -> Result<()> {
        while !self.under_way.is_empty() {
            self.settle().await?;
        }
        Ok(())
    }

    /// Waits for one batch and counts its results.
    async fn settle(&mut self) -> Result<()> {
        let Some(answer) = self.under_way.join_next().await else {
            return Ok(());
        };
        let (batch, answer) = answer?;
        if self.writes {
            for name in batch.iter().flat_map(|pending| names(&pending.new)) {
                self.taken.remove(&name);
            }
        }
        let placed = match answer {
            Ok(placed) => placed,
            Err(failure) => {
                for PendingUser { line, new } in batch {
                    let why = "may or may not be imported, because DynamoDB did not respond; import again";
                    self.refuse(line, Some(new.user.id), vec![FieldError::new("line", why)])?;
                }
                self.summary.stopped = Some(failure);
                return Ok(());
            }
        };
        for (PendingUser { line, new }, placed) in batch.into_iter().zip(placed) {
            let error = match placed {
                ImportOutcome::Created => {
                    self.summary.created += 1;
                    continue;
                }
                ImportOutcome::Already => {
                    self.summary.already += 1;
                    continue;
                }
                ImportOutcome::IdTaken => FieldError::new(
                    "id",
                    "already exists with other content; an import never changes a user, use `user update`",
                ),
                ImportOutcome::UsernameTaken => FieldError::new("username", "belongs to another user"),
            };
            self.refuse(line, Some(new.user.id), vec![error])?;
        }
        Ok(())
    }

    /// Records a rejected line, and reports it at once without `--json`.
    fn refuse(&mut self, line: u64, user: Option<UserId>, errors: Vec<FieldError>) -> Result<()> {
        let refused = RejectedLine { line, user, errors };
        if !self.json {
            self.bar.suspend(|| writeln!(io::stderr(), "{}", refused.text()))?;
        }
        self.summary.refused.push(refused);
        Ok(())
    }
}

impl RejectedLine {
    fn text(&self) -> String {
        let user = self.user.as_ref().map_or_else(String::new, |user| format!(" (user {user})"));
        let errors: Vec<_> =
            self.errors.iter().map(|error| format!("{} {}", error.field, error.message)).collect();
        format!("line {}{user}: {}", self.line, errors.join("; "))
    }

    fn json(&self) -> Value {
        let errors =
            self.errors.iter().map(|error| json!({ "field": error.field, "message": error.message }));
        json!({ "line": self.line, "user": self.user, "errors": errors.collect::<Vec<_>>() })
    }
}

/// Returns the keys that must be unique in a tenant: the user ID and the username.
fn names(new: &NewUser) -> [String; 2] {
    [format!("U#{}", new.user.id), format!("N#{}", new.user.username.folded())]
}

/// Retry schedule of up to half a minute in all, because a new or idle table needs time to scale.
fn patience() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(8))
        .with_max_times(7)
        .with_jitter()
}

fn progress(length: Option<u64>) -> ProgressBar {
    let (bar, look) = match length {
        Some(length) => {
            (ProgressBar::new(length), "{bar:30} {percent:>3} %  elapsed {elapsed}, remaining {eta}")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} in {elapsed}"),
    };
    match ProgressStyle::with_template(look) {
        Ok(look) => bar.with_style(look),
        Err(_) => bar,
    }
}

fn as_json(tenant: &TenantId, summary: &ImportSummary, dry_run: bool) -> Value {
    json!({
        "tenant": tenant,
        "dryRun": dry_run,
        "lines": summary.lines,
        "created": summary.created,
        "already": summary.already,
        "refused": summary.refused.len(),
        "complete": summary.stopped.is_none(),
        "errors": summary.refused.iter().map(RejectedLine::json).collect::<Vec<_>>(),
    })
}

fn as_text(summary: &ImportSummary, dry_run: bool, took: Duration) -> String {
    let ImportSummary { lines, created, already, refused, .. } = summary;
    let label = if dry_run { "to create" } else { "created" };
    let seconds = took.as_secs_f64();
    format!(
        "Lines: {lines}, {label}: {created}, already imported: {already}, rejected: {}. \
         Duration: {seconds:.1} s.",
        refused.len()
    )
}
