//! Reads the embedded table's stream and invokes the delivery function, like a Lambda event source
//! mapping with the settings of `infra/delivery.json`.
//!
//! No record is lost: the position in the stream is stored beside the table, and a restarted stack
//! continues from there. As with Lambda, a record can be delivered twice.

mod batch;

use std::{
    collections::VecDeque,
    convert::Infallible,
    fs::File,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use aws_sdk_dynamodbstreams::{
    Client,
    types::{Record, ShardIteratorType},
};
use backon::{BackoffBuilder, ExponentialBuilder};
use doorward::{function::SystemClock, port::Clock};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::batch::{Batch, Failed, Item, failed_items};
use crate::{
    delivery::Delivery,
    invoke::{InvokeError, LambdaFunction},
    mailbox::{Content, DeadLetter, Mailbox},
    stack::write_private,
};

/// Interval of reads. Lambda uses the same interval for DynamoDB streams.
const POLL_EVERY: Duration = Duration::from_millis(250);
/// First pause after a failure. Pauses double. AWS does not document the pauses of Lambda.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Maximum length of the error message in a dead letter, in characters.
const REASON_CHARS: usize = 300;

/// File in the data folder with the position in the stream.
const POSITION_FILE: &str = "delivered.json";
/// File in the data folder with the records that were given up, one JSON object per line.
pub(crate) const DEAD_LETTERS_FILE: &str = "dead-letters.jsonl";

/// Reads the stream and invokes the delivery function. Ends at once when it or its future is dropped.
pub struct Poller<F> {
    streams: Client,
    table: String,
    delivery: Delivery,
    function: F,
    mailbox: Mailbox,
    folder: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    pauses: ExponentialBuilder,
}

impl<F: LambdaFunction> Poller<F> {
    /// Creates a poller. `mailbox` receives the records that are given up.
    ///
    /// # Errors
    /// When `infra/delivery.json` has an unexpected format.
    pub fn new(streams: Client, table: &str, function: F, mailbox: Mailbox) -> Result<Self> {
        Ok(Self {
            streams,
            table: table.to_owned(),
            delivery: Delivery::load()?,
            function,
            mailbox,
            folder: None,
            clock: Arc::new(SystemClock),
            pauses: ExponentialBuilder::new()
                .with_min_delay(FIRST_PAUSE)
                .with_max_delay(LONGEST_PAUSE)
                .without_max_times()
                .with_jitter(),
        })
    }

    /// Stores the position and the records that are given up in `folder`.
    #[must_use]
    pub fn remembering_in(self, folder: Option<PathBuf>) -> Self {
        Self { folder, ..self }
    }

    /// Changes the pauses between attempts, for tests.
    #[must_use]
    pub fn with_pauses(self, first: Duration, longest: Duration) -> Self {
        Self { pauses: self.pauses.with_min_delay(first).with_max_delay(longest), ..self }
    }

    /// Changes the clock, for tests.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Runs until the future is dropped.
    ///
    /// # Errors
    /// When the table has no stream, or when the position cannot be read or written.
    pub async fn run(self) -> Result<Infallible> {
        let stream = self.stream().await?;
        let mut position = self.remembered(&stream)?;
        loop {
            // The connection may be broken or the iterator expired. The next attempt renews both.
            let Err(error) = self.follow(&stream, &mut position).await;
            crate::ui::to_stderr(&format!("cannot read the table's stream, will retry: {error:#}"));
            tokio::time::sleep(FIRST_PAUSE).await;
        }
    }

    async fn stream(&self) -> Result<Stream> {
        let listed = self.streams.list_streams().table_name(&self.table).send().await?;
        let arn = listed.streams().last().and_then(|stream| stream.stream_arn());
        let arn = arn.with_context(|| format!("the table {} has no stream", self.table))?.to_owned();
        let described = self.streams.describe_stream().stream_arn(&arn).send().await?;
        let description = described.stream_description.context("the stream has no description")?;
        // The embedded stream has one shard that never closes, although its description contains an end.
        let shard = description.shards().first().and_then(|shard| shard.shard_id());
        let shard = shard.context("the stream has no shard")?.to_owned();
        Ok(Stream { arn, shard })
    }

    /// Reads and delivers records until a call fails.
    async fn follow(&self, stream: &Stream, position: &mut Position) -> Result<Infallible> {
        let mut iterator = self.iterator(stream, position).await?;
        loop {
            let output = self.streams.get_records().shard_iterator(iterator).send().await?;
            let records = output.records.unwrap_or_default();
            let is_idle = records.is_empty();
            self.deliver_all(stream, records, position).await?;
            if is_idle {
                tokio::time::sleep(POLL_EVERY).await;
            }
            iterator = output.next_shard_iterator.context("the shard has ended")?;
        }
    }

    async fn iterator(&self, stream: &Stream, position: &Position) -> Result<String> {
        let request = self.streams.get_shard_iterator().stream_arn(&stream.arn).shard_id(&stream.shard);
        let request = match &position.after {
            Some(number) => request
                .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
                .sequence_number(number.as_str()),
            None => {
                request.shard_iterator_type(ShardIteratorType::from(self.delivery.starting_position.as_str()))
            }
        };
        request.send().await?.shard_iterator.context("the shard has no iterator")
    }

    async fn deliver_all(
        &self,
        stream: &Stream,
        records: Vec<Record>,
        position: &mut Position,
    ) -> Result<()> {
        let last = records.last().and_then(|it| it.dynamodb()?.sequence_number().map(str::to_owned));
        let items = records.into_iter().filter_map(|record| Item::new(record, stream));
        let mut wanted: VecDeque<Item> =
            items.filter(|item| self.delivery.filter.matches(&item.event)).collect();
        while !wanted.is_empty() {
            let rest = wanted.split_off(self.delivery.batch_size.min(wanted.len()));
            self.deliver(Batch::new(wanted), position).await?;
            wanted = rest;
        }
        // Also skips the records that the filter rejects. Otherwise they would be read again.
        match last {
            Some(last) => self.remember(position, last),
            None => Ok(()),
        }
    }

    /// Delivers a batch in the stream's order, until each record is handled or given up.
    async fn deliver(&self, batch: Batch, position: &mut Position) -> Result<()> {
        let mut work = VecDeque::from([batch]);
        while let Some(mut batch) = work.pop_front() {
            self.give_up_old(&mut batch, position)?;
            let Some(last) = batch.items.back() else {
                continue;
            };
            let last = last.sequence_number.clone();
            match self.invoke(&batch).await {
                Ok(()) => {
                    self.remember(position, last)?;
                    continue;
                }
                // Not counted as a failure, because the function did not receive the event.
                Err(Failed::Unreachable(reason)) => {
                    if batch.reason != reason {
                        crate::ui::to_stderr(&format!(
                            "cannot reach the function {}, will retry: {reason}",
                            self.delivery.function
                        ));
                        batch.reason = reason;
                    }
                    self.pause(1).await;
                }
                // Not counted as a failure either, because half of the batch may succeed.
                Err(Failed::All(_))
                    if self.delivery.bisect_batch_on_function_error && batch.items.len() > 1 =>
                {
                    let second = batch.items.split_off(batch.items.len() / 2);
                    work.push_front(Batch::new(second));
                }
                Err(Failed::All(reason)) => self.failed(&mut batch, reason, position).await?,
                Err(Failed::From(index)) => {
                    let handled: VecDeque<Item> = batch.items.drain(..index).collect();
                    if let Some(item) = handled.back() {
                        self.remember(position, item.sequence_number.clone())?;
                        // The failures counted so far belong to another record.
                        batch.failures = 0;
                    }
                    let reason = "the function reported that it failed".to_owned();
                    self.failed(&mut batch, reason, position).await?;
                }
            }
            work.push_front(batch);
        }
        Ok(())
    }

    /// Counts a failure of the batch's first record. Gives the record up, or pauses.
    async fn failed(&self, batch: &mut Batch, reason: String, position: &mut Position) -> Result<()> {
        batch.failures += 1;
        batch.reason = reason;
        if batch.failures > self.delivery.maximum_retry_attempts {
            return self.give_up(batch, position, "RetryAttemptsExhausted");
        }
        self.pause(batch.failures).await;
        Ok(())
    }

    async fn pause(&self, failures: u32) {
        let nth = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
        tokio::time::sleep(self.pauses.build().nth(nth).unwrap_or(LONGEST_PAUSE)).await;
    }

    async fn invoke(&self, batch: &Batch) -> Result<(), Failed> {
        let records: Vec<&Value> = batch.items.iter().map(|item| &item.event).collect();
        let event = json!({ "Records": records }).to_string().into_bytes();
        let answer = self.function.invoke(event).await.map_err(|error| match error {
            InvokeError::Unreachable(reason) => Failed::Unreachable(reason),
            InvokeError::Failed(reason) => Failed::All(reason),
        })?;
        if !self.delivery.report_batch_item_failures {
            return Ok(());
        }
        let failed = failed_items(&answer)
            .map_err(|error| Failed::All(format!("the function's response is invalid: {error}")))?;
        let positions = failed.iter().map(|number| {
            let position = batch.items.iter().position(|item| item.sequence_number == *number);
            // As in Lambda, a response that names an unknown record fails the whole batch.
            position.ok_or_else(|| Failed::All("the function's response names an unknown record".to_owned()))
        });
        let positions: Vec<usize> = positions.collect::<Result<_, Failed>>()?;
        positions.into_iter().min().map_or(Ok(()), |first| Err(Failed::From(first)))
    }

    fn give_up_old(&self, batch: &mut Batch, position: &mut Position) -> Result<()> {
        let oldest = self.clock.now().as_second() - self.delivery.maximum_record_age_seconds;
        while batch.items.front().is_some_and(|item| item.created < oldest) {
            self.give_up(batch, position, "MaximumRecordAgeExceeded")?;
        }
        Ok(())
    }

    /// Moves the batch's first record to the dead letters. Resets the counter for the next record.
    fn give_up(&self, batch: &mut Batch, position: &mut Position, condition: &'static str) -> Result<()> {
        let Some(item) = batch.items.pop_front() else {
            return Ok(());
        };
        let letter = DeadLetter {
            condition,
            sequence_number: item.sequence_number.clone(),
            pk: item.key("pk"),
            sk: item.key("sk"),
            attempts: std::mem::take(&mut batch.failures),
            reason: std::mem::take(&mut batch.reason).chars().take(REASON_CHARS).collect(),
        };
        self.keep(&letter)?;
        self.mailbox.add(Content::DeadLetter(letter));
        self.remember(position, item.sequence_number)
    }

    fn keep(&self, letter: &DeadLetter) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let path = folder.join(DEAD_LETTERS_FILE);
        let write = || -> Result<()> {
            let mut line = json!({ "time": self.clock.now().to_string() });
            if let (Value::Object(line), Value::Object(letter)) = (&mut line, serde_json::to_value(letter)?) {
                line.extend(letter);
            }
            let mut file = File::options().create(true).append(true).mode(0o600).open(&path)?;
            Ok(writeln!(file, "{line}")?)
        };
        write().with_context(|| format!("cannot write to {}", path.display()))
    }

    fn remembered(&self, stream: &Stream) -> Result<Position> {
        let fresh = Position { stream: stream.arn.clone(), after: None };
        let Some(folder) = &self.folder else {
            return Ok(fresh);
        };
        let path = folder.join(POSITION_FILE);
        let read = || -> Result<Option<Position>> {
            match std::fs::read(&path) {
                Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        let known = read().with_context(|| {
            format!(
                "cannot read {}; move this file away to deliver the stream from its beginning",
                path.display()
            )
        })?;
        // A table that was created again has another stream.
        Ok(known.filter(|known| known.stream == stream.arn).unwrap_or(fresh))
    }

    /// Stores the position. Blocks this thread, so that nothing is written after the poller is dropped.
    fn remember(&self, position: &mut Position, after: String) -> Result<()> {
        position.after = Some(after);
        match &self.folder {
            Some(folder) => write_private(&folder.join(POSITION_FILE), &serde_json::to_vec(position)?),
            None => Ok(()),
        }
    }
}

struct Stream {
    arn: String,
    shard: String,
}

/// Position in the stream. All records up to it are handled.
#[derive(Serialize, Deserialize)]
struct Position {
    stream: String,
    /// Last handled sequence number; `None` before the first record.
    after: Option<String>,
}
