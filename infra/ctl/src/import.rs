//! `doorwardctl user import`

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead, BufReader, Read, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use backon::{ExponentialBuilder, Retryable};
use clap::{Args, ValueHint};
use doorward::{
    domain::{Failure, FieldError, HashCost, TenantId, UserId},
    port::{Clock, Store},
    runtime::{SystemClock, SystemEntropy},
    store::{DynamoStore, NewUser, Placed, USERS_AT_ONCE},
};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    task::JoinSet,
};

use crate::{Context, record::Record};

/// How standard input is named.
const STDIN: &str = "-";
/// Transactions under way at once. More do not help an on-demand table: it is the units that it counts.
const AT_ONCE: usize = 8;
/// Most bytes of a line: what a request's body may have.
const MAX_LINE_BYTES: u64 = 64 * 1024;
/// Lines that are read before they are asked for.
const READ_AHEAD: usize = 4 * USERS_AT_ONCE;

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The tenant's id
    #[arg(value_parser = TenantId::parse)]
    tenant: TenantId,

    /// The users, one JSON object on each line; `-` for stdin
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,

    /// Write nothing, and tell what would be refused
    #[arg(long)]
    dry_run: bool,
}

/// A line that was read.
struct Line {
    number: u64,
    /// Bytes of the file up to its end.
    read: u64,
    user: Option<UserId>,
    content: Result<NewUser, Failure>,
}

/// A line whose user is being created.
struct Waiting {
    line: u64,
    new: NewUser,
}

type Answer = (Vec<Waiting>, Result<Vec<Placed>, Failure>);

/// A line that was not imported.
struct Refused {
    line: u64,
    user: Option<UserId>,
    errors: Vec<FieldError>,
}

#[derive(Default)]
struct Tally {
    lines: u64,
    created: u64,
    already: u64,
    refused: Vec<Refused>,
    /// Why it was given up before its end.
    stopped: Option<Failure>,
}

/// An import under way.
struct Run {
    store: DynamoStore,
    writes: bool,
    now: Timestamp,
    batch: Vec<Waiting>,
    under_way: JoinSet<Answer>,
    /// Ids and names of what is in the batch and under way: a line that has one of them waits for that
    /// to end, so that of two lines the first one wins. For a dry run, of all lines before.
    taken: HashSet<String>,
    tally: Tally,
    bar: ProgressBar,
    json: bool,
}

impl Import {
    pub(crate) async fn run(self, context: &Context) -> Result<()> {
        let Self { tenant, file, dry_run } = self;
        let Some(record) = context.store.tenant(&tenant).await? else {
            bail!("there is no tenant {tenant}: see `tenant list`");
        };
        let (source, length) = opened(&file)?;
        let begun = Instant::now();
        let (lines, read) = mpsc::channel(READ_AHEAD);
        let cost = record.policy.hash_cost;
        let reader = tokio::task::spawn_blocking({
            let tenant = tenant.clone();
            move || send_lines(source, &tenant, cost, &lines)
        });
        let run = Run {
            store: context.store.clone(),
            writes: !dry_run,
            now: SystemClock.now(),
            batch: Vec::new(),
            under_way: JoinSet::new(),
            taken: HashSet::new(),
            tally: Tally::default(),
            bar: progress(length),
            json: context.output.json,
        };
        let tally = run.all(read).await?;
        context
            .output
            .result(&as_json(&tenant, &tally, dry_run), || as_text(&tally, dry_run, begun.elapsed()))?;
        if let Some(failure) = tally.stopped {
            return Err(anyhow!(
                "it was given up: {failure}. Run it again: users that are there are known again by their lines"
            ));
        }
        // Not waited for where it was given up: it may stand at a pipe that says nothing.
        reader.await?.with_context(|| format!("cannot read {} any further", file.display()))?;
        match tally.refused.len() {
            0 => Ok(()),
            count => bail!("lines refused: {count}; put them right and import again: the others are left be"),
        }
    }
}

impl Run {
    async fn all(mut self, mut lines: Receiver<Line>) -> Result<Tally> {
        while self.tally.stopped.is_none()
            && let Some(Line { number, read, user, content }) = lines.recv().await
        {
            self.tally.lines += 1;
            self.bar.set_position(read);
            match content {
                Ok(new) => self.add(Waiting { line: number, new }).await?,
                Err(Failure::Validation(errors)) => self.refuse(number, user, errors)?,
                Err(failure) => return Err(failure.into()),
            }
        }
        self.send().await?;
        self.settle_all().await?;
        self.bar.finish_and_clear();
        Ok(self.tally)
    }

    async fn add(&mut self, waiting: Waiting) -> Result<()> {
        let names = names(&waiting.new);
        if names.iter().any(|name| self.taken.contains(name)) {
            if !self.writes {
                let id = waiting.new.user.id;
                let why = "an earlier line has its id or its username";
                return self.refuse(waiting.line, Some(id), vec![FieldError::new("line", why)]);
            }
            self.send().await?;
            self.settle_all().await?;
        }
        self.taken.extend(names);
        self.batch.push(waiting);
        if self.batch.len() == USERS_AT_ONCE { self.send().await } else { Ok(()) }
    }

    /// Lets the batch be created beside the others.
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
            let users: Arc<[NewUser]> = batch.iter().map(|waiting| waiting.new.clone()).collect();
            let ask = || async {
                if writes { store.insert_users(&users, now).await } else { store.foresee_users(&users).await }
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

    /// Waits for one batch.
    async fn settle(&mut self) -> Result<()> {
        let Some(answer) = self.under_way.join_next().await else {
            return Ok(());
        };
        let (batch, answer) = answer?;
        if self.writes {
            for name in batch.iter().flat_map(|waiting| names(&waiting.new)) {
                self.taken.remove(&name);
            }
        }
        let placed = match answer {
            Ok(placed) => placed,
            Err(failure) => {
                for Waiting { line, new } in batch {
                    let why = "may be there or not: storage did not answer. Import again to see";
                    self.refuse(line, Some(new.user.id), vec![FieldError::new("line", why)])?;
                }
                self.tally.stopped = Some(failure);
                return Ok(());
            }
        };
        for (Waiting { line, new }, placed) in batch.into_iter().zip(placed) {
            let error = match placed {
                Placed::Created => {
                    self.tally.created += 1;
                    continue;
                }
                Placed::Already => {
                    self.tally.already += 1;
                    continue;
                }
                Placed::IdTaken => FieldError::new(
                    "id",
                    "is another's, or of this user with other content: an import changes nobody; see \
                     `user update`",
                ),
                Placed::UsernameTaken => FieldError::new("username", "is another user's"),
            };
            self.refuse(line, Some(new.user.id), vec![error])?;
        }
        Ok(())
    }

    /// Tells of a line at once, where people read it.
    fn refuse(&mut self, line: u64, user: Option<UserId>, errors: Vec<FieldError>) -> Result<()> {
        let refused = Refused { line, user, errors };
        if !self.json {
            self.bar.suspend(|| writeln!(io::stderr(), "{}", refused.text()))?;
        }
        self.tally.refused.push(refused);
        Ok(())
    }
}

impl Refused {
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

/// What no two users may share.
fn names(new: &NewUser) -> [String; 2] {
    [format!("U#{}", new.user.id), format!("N#{}", new.user.username.folded())]
}

/// A table that is new, or was quiet, takes a while to grow: tries that wait up to half a minute in all.
fn patience() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(8))
        .with_max_times(7)
        .with_jitter()
}

/// The file, and its length where it has one.
fn opened(file: &Path) -> Result<(Box<dyn BufRead + Send>, Option<u64>)> {
    if file == Path::new(STDIN) {
        return Ok((Box::new(BufReader::new(io::stdin())), None));
    }
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let length = opened.metadata().ok().filter(std::fs::Metadata::is_file).map(|known| known.len());
    Ok((Box::new(BufReader::new(opened)), length))
}

fn progress(length: Option<u64>) -> ProgressBar {
    let (bar, look) = match length {
        Some(length) => (ProgressBar::new(length), "{bar:30} {percent:>3} %  {elapsed} gone, {eta} to go"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} in {elapsed}"),
    };
    match ProgressStyle::with_template(look) {
        Ok(look) => bar.with_style(look),
        Err(_) => bar,
    }
}

/// Reads the source to its end, or until nobody wants more of it.
fn send_lines(
    mut source: Box<dyn BufRead + Send>,
    tenant: &TenantId,
    cost: HashCost,
    lines: &Sender<Line>,
) -> io::Result<()> {
    let (mut number, mut read, mut text) = (0, 0, Vec::new());
    loop {
        text.clear();
        let length = source.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut text)?;
        if length == 0 {
            return Ok(());
        }
        number += 1;
        read += u64::try_from(length).unwrap_or(u64::MAX);
        let too_long = !text.ends_with(b"\n") && read_of(&text) > MAX_LINE_BYTES;
        let content = if too_long {
            read += skip_line(&mut source)?;
            Err(Failure::field("line", "must be at most 64 KiB"))
        } else if text.trim_ascii().is_empty() {
            continue;
        } else {
            Record::parse(&text)
        };
        let user = content.as_ref().ok().map(|record| record.id().clone());
        let content =
            content.and_then(|record| record.into_new(tenant, cost, &SystemEntropy, SystemClock.now()));
        if lines.blocking_send(Line { number, read, user, content }).is_err() {
            return Ok(());
        }
    }
}

fn read_of(text: &[u8]) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

/// Passes over the rest of a line, however long. How long it was.
fn skip_line(source: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let known = source.fill_buf()?;
        let end = known.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(known.len(), |end| end + 1);
        source.consume(length);
        skipped += u64::try_from(length).unwrap_or(u64::MAX);
        if end.is_some() || length == 0 {
            return Ok(skipped);
        }
    }
}

fn as_json(tenant: &TenantId, tally: &Tally, dry_run: bool) -> Value {
    json!({
        "tenant": tenant,
        "dryRun": dry_run,
        "lines": tally.lines,
        "created": tally.created,
        "already": tally.already,
        "refused": tally.refused.len(),
        "complete": tally.stopped.is_none(),
        "errors": tally.refused.iter().map(Refused::json).collect::<Vec<_>>(),
    })
}

fn as_text(tally: &Tally, dry_run: bool, took: Duration) -> String {
    let Tally { lines, created, already, refused, .. } = tally;
    let would = if dry_run { "would be created" } else { "created" };
    let seconds = took.as_secs_f64();
    format!(
        "Lines: {lines}, {would}: {created}, there before: {already}, refused: {}. It took {seconds:.1} s.",
        refused.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(u64, u64, bool)> {
        let (lines, mut read) = mpsc::channel(100);
        let source = Box::new(BufReader::with_capacity(7, io::Cursor::new(text.to_owned().into_bytes())));
        send_lines(source, &TenantId::parse("t").unwrap(), HashCost::default(), &lines).unwrap();
        drop(lines);
        std::iter::from_fn(|| read.blocking_recv())
            .map(|line| (line.number, line.read, line.content.is_ok()))
            .collect()
    }

    #[test]
    fn lines_keep_their_numbers_whatever_is_between_them() {
        let good = r#"{"id":"u","username":"n","organization":"o"}"#;
        let length = u64::try_from(good.len()).unwrap();
        let text = format!("\n{good}\r\n  \nno\n{good}");
        let total = u64::try_from(text.len()).unwrap();
        assert_eq!(read(&text), [(2, length + 3, true), (4, length + 9, false), (5, total, true)]);
        assert!(read("").is_empty());
    }

    #[test]
    fn a_line_that_never_ends_is_not_kept_and_the_next_one_is_read() {
        let most = usize::try_from(MAX_LINE_BYTES).unwrap();
        let good = r#"{"id":"u","username":"n","organization":"o"}"#;
        let padded = |length: usize| format!("{}{good}", " ".repeat(length - good.len()));
        let told: Vec<_> = read(&format!("{}\n{}\n{good}\n", padded(most), padded(most * 3)))
            .into_iter()
            .map(|(number, _, is_good)| (number, is_good))
            .collect();
        assert_eq!(told, [(1, true), (2, false), (3, true)]);
    }
}
