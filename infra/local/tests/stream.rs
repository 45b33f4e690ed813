//! Delivery of the table's stream: events, failures and restarts.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code outside #[test] functions"
)]

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_dynamodb::types::AttributeValue;
use axum::body::Bytes;
use doorward::port::Clock;
use jiff::{SignedDuration, Timestamp};
use local::{
    clients,
    delivery::Delivery,
    dynamodb::{EmbeddedDynamo, Storage},
    invoke::{InvokeError, LambdaFunction},
    mailbox::{Content, DeadLetter, Mailbox},
    stream::Poller,
    table,
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

const TABLE: &str = "doorward";
/// Time limit of each wait, generous enough for a busy machine.
const WITHIN: Duration = Duration::from_secs(30);

type Response = dyn Fn(&[String], &Value) -> Result<Value, InvokeError> + Send + Sync;

/// Function with a given response. It records its events.
#[derive(Clone)]
struct RecordingFunction {
    answer: Arc<Response>,
    events: Arc<watch::Sender<Vec<Value>>>,
}

impl RecordingFunction {
    fn new(answer: impl Fn(&[String], &Value) -> Result<Value, InvokeError> + Send + Sync + 'static) -> Self {
        Self { answer: Arc::new(answer), events: Arc::new(watch::Sender::new(Vec::new())) }
    }

    fn succeeding() -> Self {
        Self::new(|_, _| Ok(Value::Null))
    }

    /// Sort keys of the records of each invocation.
    fn batches(&self) -> Vec<Vec<String>> {
        self.events.borrow().iter().map(sort_keys).collect()
    }

    async fn until(&self, enough: impl FnMut(&Vec<Value>) -> bool) {
        let mut changes = self.events.subscribe();
        timeout(WITHIN, changes.wait_for(enough)).await.unwrap().unwrap();
    }
}

impl LambdaFunction for RecordingFunction {
    async fn invoke(&self, event: Vec<u8>) -> Result<Bytes, InvokeError> {
        let event: Value = serde_json::from_slice(&event).unwrap();
        let answer = (self.answer)(&sort_keys(&event), &event);
        self.events.send_modify(|events| events.push(event));
        answer.map(|answer| answer.to_string().into())
    }
}

/// Function that never returns, like one that is killed with its stack.
#[derive(Clone)]
struct Endless(Arc<watch::Sender<bool>>);

impl LambdaFunction for Endless {
    async fn invoke(&self, _: Vec<u8>) -> Result<Bytes, InvokeError> {
        self.0.send_replace(true);
        std::future::pending().await
    }
}

fn records(event: &Value) -> &Vec<Value> {
    event["Records"].as_array().unwrap()
}

fn sort_keys(event: &Value) -> Vec<String> {
    let key = |record: &Value| record["dynamodb"]["Keys"]["sk"]["S"].as_str().unwrap().to_owned();
    records(event).iter().map(key).collect()
}

/// Response that reports the records with these sort keys as failed.
fn failures(event: &Value, failed: &[&str]) -> Value {
    let items = records(event).iter().filter(|record| {
        failed.contains(&record["dynamodb"]["Keys"]["sk"]["S"].as_str().unwrap_or_default())
    });
    let items: Vec<_> =
        items.map(|record| json!({ "itemIdentifier": record["dynamodb"]["SequenceNumber"] })).collect();
    json!({ "batchItemFailures": items })
}

struct Stack {
    dynamodb: EmbeddedDynamo,
    client: aws_sdk_dynamodb::Client,
    mailbox: Mailbox,
}

impl Stack {
    async fn start(storage: Storage) -> Self {
        let dynamodb = EmbeddedDynamo::start(storage).await.unwrap();
        let client = clients::dynamodb(dynamodb.url());
        table::create_if_missing(&client, TABLE).await.unwrap();
        Self { dynamodb, client, mailbox: Mailbox::default() }
    }

    async fn in_memory() -> Self {
        Self::start(Storage::Memory).await
    }

    async fn put(&self, sort_keys: &[&str]) {
        for sort_key in sort_keys {
            self.client
                .put_item()
                .table_name(TABLE)
                .item("pk", AttributeValue::S("T#t#U#u".into()))
                .item("sk", AttributeValue::S((*sort_key).into()))
                .send()
                .await
                .unwrap();
        }
    }

    fn poller<F: LambdaFunction>(&self, function: F) -> Poller<F> {
        let streams = clients::dynamodb_streams(self.dynamodb.url());
        Poller::new(streams, TABLE, function, self.mailbox.clone())
            .unwrap()
            .with_pauses(Duration::from_millis(1), Duration::from_millis(2))
    }

    fn deliver<F: LambdaFunction + 'static>(&self, function: F) -> Running {
        Running::start(self.poller(function))
    }

    async fn dead_letter(&self) -> DeadLetter {
        let letter = self.mailbox.until(|message| match &message.content {
            Content::DeadLetter(letter) => Some(letter.clone()),
            _ => None,
        });
        timeout(WITHIN, letter).await.unwrap()
    }
}

/// Running poller. It ends when dropped.
struct Running(JoinHandle<()>);

impl Running {
    fn start<F: LambdaFunction + 'static>(poller: Poller<F>) -> Self {
        Self(tokio::spawn(async move {
            let Err(error) = poller.run().await;
            panic!("{error:#}");
        }))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tokio::test]
async fn queued_outbox_items_arrive_in_order() {
    let stack = Stack::in_memory().await;
    let function = RecordingFunction::succeeding();
    stack.put(&["USER", "OUT#1", "S#1", "OUT#2", "OUT#1"]).await;
    let _running = stack.deliver(function.clone());
    function.until(|events| events.len() == 1).await;
    stack.put(&["S#2", "OUT#3"]).await;
    function.until(|events| events.len() == 2).await;
    // The second write of OUT#1 queues it again.
    assert_eq!(function.batches(), [vec!["OUT#1", "OUT#2", "OUT#1"], vec!["OUT#3"]]);

    let event = function.events.borrow()[0].clone();
    let record = &records(&event)[0];
    assert_eq!(record["eventName"], "INSERT");
    assert_eq!(record["eventSource"], "aws:dynamodb");
    assert_eq!(record["eventVersion"], "1.1");
    assert!(record["eventSourceARN"].as_str().unwrap().contains("/stream/"));
    assert!(record["eventID"].is_string() && record["awsRegion"].is_string());
    let change = &record["dynamodb"];
    assert_eq!(change["Keys"], json!({ "pk": { "S": "T#t#U#u" }, "sk": { "S": "OUT#1" } }));
    assert_eq!(change["StreamViewType"], "KEYS_ONLY");
    assert!(change["SequenceNumber"].is_string() && change["SizeBytes"].is_number());
    assert!(change["ApproximateCreationDateTime"].as_i64().unwrap() > 1_700_000_000);
    assert_eq!(change.get("NewImage"), None); // the stream contains only keys
}

#[tokio::test]
async fn batch_size_is_limited() {
    let stack = Stack::in_memory().await;
    let size = Delivery::load().unwrap().batch_size;
    let keys: Vec<_> = (0..=size).map(|number| format!("OUT#{number:03}")).collect();
    stack.put(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let function = RecordingFunction::succeeding();
    let _running = stack.deliver(function.clone());
    function.until(|events| events.len() == 2).await;
    assert_eq!(function.batches(), [&keys[..size], &keys[size..]]);
}

#[tokio::test]
async fn batch_is_repeated_from_the_first_reported_failure() {
    let stack = Stack::in_memory().await;
    stack.put(&["OUT#1", "OUT#2", "OUT#3"]).await;
    let tries = Arc::new(Mutex::new(0));
    let function = RecordingFunction::new(move |_, event| {
        let mut tries = tries.lock().unwrap();
        *tries += 1;
        // First the last two fail, then only the second, then none.
        Ok(match *tries {
            1 => failures(event, &["OUT#3", "OUT#2"]),
            2 => failures(event, &["OUT#2"]),
            _ => json!({ "batchItemFailures": [] }),
        })
    });
    let _running = stack.deliver(function.clone());
    function.until(|events| events.len() == 3).await;
    stack.put(&["OUT#4"]).await;
    function.until(|events| events.len() == 4).await;
    let again = vec!["OUT#2", "OUT#3"];
    assert_eq!(function.batches(), [vec!["OUT#1", "OUT#2", "OUT#3"], again.clone(), again, vec!["OUT#4"]]);
    assert!(stack.mailbox.messages().is_empty());
}

#[tokio::test]
async fn record_that_always_fails_is_given_up_without_its_neighbours() {
    let stack = Stack::in_memory().await;
    let folder = tempfile::tempdir().unwrap();
    stack.put(&["OUT#1", "OUT#bad", "OUT#3", "OUT#4"]).await;
    let function = RecordingFunction::new(|keys, _| {
        if keys.iter().any(|key| key == "OUT#bad") {
            Err(InvokeError::Failed("boom".into()))
        } else {
            Ok(json!({}))
        }
    });
    let poller = stack.poller(function.clone()).remembering_in(Some(folder.path().to_owned()));
    let _running = Running::start(poller);
    let letter = stack.dead_letter().await;
    let retries = Delivery::load().unwrap().maximum_retry_attempts;
    assert_eq!(letter.condition, "RetryAttemptsExhausted");
    assert_eq!((letter.pk.as_str(), letter.sk.as_str()), ("T#t#U#u", "OUT#bad"));
    assert_eq!((letter.attempts, letter.reason.as_str()), (retries + 1, "boom"));
    function.until(|events| events.iter().any(|event| sort_keys(event) == ["OUT#3", "OUT#4"])).await;

    let mut alone = BTreeMap::<_, u32>::new();
    for batch in function.batches() {
        *alone.entry(batch).or_default() += 1;
    }
    assert_eq!(alone[&vec!["OUT#bad".to_owned()]], retries + 1);
    assert_eq!(alone[&vec!["OUT#1".to_owned()]], 1);
    let kept = std::fs::read_to_string(folder.path().join("dead-letters.jsonl")).unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!((&kept["sk"], &kept["condition"]), (&json!("OUT#bad"), &json!("RetryAttemptsExhausted")));
}

#[tokio::test]
async fn response_that_names_an_unknown_record_fails_the_batch() {
    for answer in [
        json!({ "batchItemFailures": [{ "itemIdentifier": "1" }] }),
        json!({ "batchItemFailures": [{ "itemIdentifier": "" }] }),
        json!({ "batchItemFailures": [{}] }),
        json!("no answer"),
    ] {
        let stack = Stack::in_memory().await;
        stack.put(&["OUT#1", "OUT#2"]).await;
        let function = RecordingFunction::new(move |keys, _| {
            Ok(if keys.len() > 1 { answer.clone() } else { Value::Null })
        });
        let _running = stack.deliver(function.clone());
        function.until(|events| events.len() == 3).await;
        assert_eq!(function.batches(), [vec!["OUT#1", "OUT#2"], vec!["OUT#1"], vec!["OUT#2"]]);
    }
}

#[tokio::test]
async fn unreachable_function_costs_no_retry() {
    let stack = Stack::in_memory().await;
    stack.put(&["OUT#1"]).await;
    let refusals = Delivery::load().unwrap().maximum_retry_attempts * 2;
    let left = Mutex::new(refusals);
    let function = RecordingFunction::new(move |_, _| {
        let mut left = left.lock().unwrap();
        if *left == 0 {
            return Ok(Value::Null);
        }
        *left -= 1;
        Err(InvokeError::Unreachable("connection refused".into()))
    });
    let _running = stack.deliver(function.clone());
    function.until(|events| events.len() > refusals as usize).await;
    assert!(stack.mailbox.messages().is_empty());
}

struct Later(SignedDuration);

impl Clock for Later {
    #[expect(clippy::disallowed_methods, reason = "the times in the stream are those of the machine")]
    fn now(&self) -> Timestamp {
        Timestamp::now() + self.0
    }
}

#[tokio::test]
async fn expired_record_is_given_up_without_an_invocation() {
    let stack = Stack::in_memory().await;
    stack.put(&["OUT#1"]).await;
    let function = RecordingFunction::succeeding();
    let age = Delivery::load().unwrap().maximum_record_age_seconds;
    let clock = Arc::new(Later(SignedDuration::from_secs(age + 2)));
    let _running = Running::start(stack.poller(function.clone()).with_clock(clock));
    let letter = stack.dead_letter().await;
    assert_eq!((letter.condition, letter.attempts), ("MaximumRecordAgeExceeded", 0));
    assert!(function.batches().is_empty());
}

async fn restarted(folder: &Path) -> Stack {
    Stack::start(Storage::File(folder.join("dynamodb.sqlite"))).await
}

#[tokio::test]
async fn restart_loses_no_record_and_repeats_no_handled_record() {
    let folder = tempfile::tempdir().unwrap();
    let remembering = Some(folder.path().to_owned());

    // OUT#1 is handled before the first stop.
    let stack = restarted(folder.path()).await;
    stack.put(&["OUT#1"]).await;
    let function = RecordingFunction::succeeding();
    let running = Running::start(stack.poller(function.clone()).remembering_in(remembering.clone()));
    function.until(|events| events.len() == 1).await;
    // OUT#2 is in progress at the second stop.
    let remembered = async {
        while !folder.path().join("delivered.json").exists() {
            tokio::task::yield_now().await;
        }
    };
    timeout(WITHIN, remembered).await.unwrap();
    drop(running);
    stack.put(&["OUT#2"]).await;
    let endless = Endless(Arc::new(watch::Sender::new(false)));
    let running = Running::start(stack.poller(endless.clone()).remembering_in(remembering.clone()));
    timeout(WITHIN, endless.0.subscribe().wait_for(|begun| *begun)).await.unwrap().unwrap();
    drop(running);
    // OUT#3 is written while no poller runs.
    stack.put(&["OUT#3"]).await;
    stack.dynamodb.stop().await;

    let stack = restarted(folder.path()).await;
    let function = RecordingFunction::succeeding();
    let _running = Running::start(stack.poller(function.clone()).remembering_in(remembering));
    function.until(|events| events.len() == 1).await;
    assert_eq!(function.batches(), [["OUT#2", "OUT#3"]]);
}

#[tokio::test]
async fn stream_of_a_new_table_is_read_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let position = json!({ "stream": "arn:of-another", "after": "999999999999999999999" });
    std::fs::write(folder.path().join("delivered.json"), position.to_string()).unwrap();
    let stack = Stack::in_memory().await;
    stack.put(&["OUT#1"]).await;
    let function = RecordingFunction::succeeding();
    let poller = stack.poller(function.clone()).remembering_in(Some(folder.path().to_owned()));
    let _running = Running::start(poller);
    function.until(|events| events.len() == 1).await;
    assert_eq!(function.batches(), [["OUT#1"]]);
}
