//! Follows the embedded table's stream and invokes the delivery function with what it brings, as a
//! Lambda event source mapping does by `infra/delivery.json`.
//!
//! Nothing is lost: how far the function got is remembered beside the table, so that a stack that
//! is started again goes on from there. Something may come twice, as it may from Lambda.

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
    primitives::DateTime,
    types::{AttributeValue, OperationType, Record, ShardIteratorType, StreamRecord, StreamViewType},
};
use backon::{BackoffBuilder, ExponentialBuilder};
use base64::{Engine, engine::general_purpose::STANDARD};
use doorward::{port::Clock, runtime::SystemClock};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    delivery::Delivery,
    invoke::{Function, InvokeError},
    mailbox::{Content, DeadLetter, Mailbox},
    stack::write_private,
};

/// As often as Lambda looks into a DynamoDB stream.
const POLL_EVERY: Duration = Duration::from_millis(250);
/// Lambda's pauses are not documented; these double from one second.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// What a dead letter keeps of a failure's words.
const REASON_CHARS: usize = 300;

/// Where the table's folder remembers how far the stream was delivered.
const POSITION_FILE: &str = "delivered.json";
/// Where it keeps what was given up, one JSON object per line.
pub(crate) const DEAD_LETTERS_FILE: &str = "dead-letters.jsonl";

/// Feeds the delivery function. Dropping it, or its run, ends it at once.
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

impl<F: Function> Poller<F> {
    /// `mailbox` gets what is given up.
    ///
    /// # Errors
    /// When `infra/delivery.json` is not in its own form.
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

    /// Remembers in that folder how far it got, and what was given up.
    #[must_use]
    pub fn remembering_in(self, folder: Option<PathBuf>) -> Self {
        Self { folder, ..self }
    }

    /// With other pauses between attempts, or another time: for tests.
    #[must_use]
    pub fn with_pauses(self, first: Duration, longest: Duration) -> Self {
        Self { pauses: self.pauses.with_min_delay(first).with_max_delay(longest), ..self }
    }

    /// By another clock: for tests.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Goes on until it is dropped.
    ///
    /// # Errors
    /// When the table has no stream, or how far it got cannot be read or written.
    pub async fn run(self) -> Result<Infallible> {
        let stream = self.stream().await?;
        let mut position = self.remembered(&stream)?;
        loop {
            // A broken connection, or an iterator that has grown too old: both are new at the next try.
            let Err(error) = self.follow(&stream, &mut position).await;
            crate::ui::to_stderr(&format!("the table's stream cannot be followed: {error:#}"));
            tokio::time::sleep(FIRST_PAUSE).await;
        }
    }

    async fn stream(&self) -> Result<Stream> {
        let listed = self.streams.list_streams().table_name(&self.table).send().await?;
        let arn = listed.streams().last().and_then(|stream| stream.stream_arn());
        let arn = arn.with_context(|| format!("the table {} has no stream", self.table))?.to_owned();
        let described = self.streams.describe_stream().stream_arn(&arn).send().await?;
        let description = described.stream_description.context("the stream has no description")?;
        // The embedded stream has one shard for good, though it says where that ends.
        let shard = description.shards().first().and_then(|shard| shard.shard_id());
        let shard = shard.context("the stream has no shard")?.to_owned();
        Ok(Stream { arn, shard })
    }

    /// Reads and delivers until that fails.
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
        // Also past what nobody wants, or it would be read again.
        match last {
            Some(last) => self.remember(position, last),
            None => Ok(()),
        }
    }

    /// Until each has been handled or given up, in the stream's order.
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
                // It does not count: nothing was tried.
                Err(Failed::Nobody(reason)) => {
                    if batch.reason != reason {
                        crate::ui::to_stderr(&format!("{} is not there: {reason}", self.delivery.function));
                        batch.reason = reason;
                    }
                    self.pause(1).await;
                }
                // Nor does this: a smaller batch may well pass.
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
                        // Another record is the first to fail now.
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

    /// The batch's first record has failed once more: it is given up, or there is a pause.
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
            InvokeError::Unreachable(reason) => Failed::Nobody(reason),
            InvokeError::Failed(reason) => Failed::All(reason),
        })?;
        if !self.delivery.report_batch_item_failures {
            return Ok(());
        }
        let failed = failed_items(&answer).map_err(|error| Failed::All(format!("its answer: {error}")))?;
        let places = failed.iter().map(|number| {
            let place = batch.items.iter().position(|item| item.sequence_number == *number);
            // As Lambda does: whoever names what is not there cannot be believed.
            place.ok_or_else(|| Failed::All("its answer names no record of the batch".to_owned()))
        });
        let places: Vec<usize> = places.collect::<Result<_, Failed>>()?;
        places.into_iter().min().map_or(Ok(()), |first| Err(Failed::From(first)))
    }

    fn give_up_old(&self, batch: &mut Batch, position: &mut Position) -> Result<()> {
        let oldest = self.clock.now().as_second() - self.delivery.maximum_record_age_seconds;
        while batch.items.front().is_some_and(|item| item.created < oldest) {
            self.give_up(batch, position, "MaximumRecordAgeExceeded")?;
        }
        Ok(())
    }

    /// The batch's first record goes to the dead letters; the others begin anew.
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
            format!("cannot read {}; move that file away to deliver from the beginning", path.display())
        })?;
        // A table that was made anew has another stream.
        Ok(known.filter(|known| known.stream == stream.arn).unwrap_or(fresh))
    }

    /// On this thread: once this is dropped nothing may be written any more.
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

/// All up to there is handled.
#[derive(Serialize, Deserialize)]
struct Position {
    stream: String,
    /// A sequence number; none before the first.
    after: Option<String>,
}

#[derive(Default)]
struct Batch {
    items: VecDeque<Item>,
    /// How often the first of them failed.
    failures: u32,
    /// Why it did, the last time.
    reason: String,
}

impl Batch {
    fn new(items: VecDeque<Item>) -> Self {
        Self { items, ..Self::default() }
    }
}

/// What a failed invocation leaves to be done.
enum Failed {
    /// There was none.
    Nobody(String),
    All(String),
    /// Those before this place are handled.
    From(usize),
}

/// One record, as Lambda would hand it over.
struct Item {
    event: Value,
    sequence_number: String,
    /// Epoch seconds.
    created: i64,
}

impl Item {
    /// Nothing for a record without a number, of which there are none.
    fn new(record: Record, stream: &Stream) -> Option<Self> {
        let Record { event_id, event_name, event_version, event_source, aws_region, dynamodb, .. } = record;
        let StreamRecord {
            approximate_creation_date_time: created,
            keys,
            sequence_number,
            size_bytes,
            stream_view_type,
            ..
        } = dynamodb?;
        let sequence_number = sequence_number?;
        let keys = keys.unwrap_or_default();
        let keys: serde_json::Map<_, _> =
            keys.into_iter().filter_map(|(name, value)| Some((name, key_value(&value)?))).collect();
        let created = created.as_ref().map_or(0, DateTime::secs);
        let event = json!({
            "eventID": event_id,
            "eventName": event_name.as_ref().map(OperationType::as_str),
            "eventVersion": event_version,
            "eventSource": event_source,
            "eventSourceARN": stream.arn,
            "awsRegion": aws_region,
            "dynamodb": {
                "ApproximateCreationDateTime": created,
                "Keys": keys,
                "SequenceNumber": sequence_number,
                "SizeBytes": size_bytes,
                "StreamViewType": stream_view_type.as_ref().map(StreamViewType::as_str),
            },
        });
        Some(Self { event, sequence_number, created })
    }

    fn key(&self, name: &str) -> String {
        let key = self.event.pointer(&format!("/dynamodb/Keys/{name}/S"));
        key.and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

/// A key's value: a key is of no other type.
fn key_value(value: &AttributeValue) -> Option<Value> {
    match value {
        AttributeValue::S(text) => Some(json!({ "S": text })),
        AttributeValue::N(number) => Some(json!({ "N": number })),
        AttributeValue::B(bytes) => Some(json!({ "B": STANDARD.encode(bytes) })),
        _ => None,
    }
}

/// The sequence numbers that an answer reports, by Lambda's rules: nothing, `null`, or an empty list
/// mean that all is well; an item without its number makes the whole answer invalid.
fn failed_items(answer: &[u8]) -> serde_json::Result<Vec<String>> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        batch_item_failures: Option<Vec<Failure>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Failure {
        item_identifier: String,
    }
    if answer.is_empty() {
        return Ok(Vec::new());
    }
    let answer: Option<Answer> = serde_json::from_slice(answer)?;
    let failures = answer.and_then(|answer| answer.batch_item_failures).unwrap_or_default();
    Ok(failures.into_iter().map(|failure| failure.item_identifier).collect())
}
