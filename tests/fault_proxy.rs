//! The fault proxy itself: the real SDK sees each fault as AWS would cause it.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    Client,
    error::ProvideErrorMetadata,
    operation::transact_write_items::TransactWriteItemsError,
    types::{
        AttributeValue, CancellationReason, ConditionCheck, Get, KeysAndAttributes, Put, TransactGetItem,
        TransactWriteItem, Update,
    },
};
use e2e::fault_proxy::{Effect, Fault, FaultProxy, Operation, Random};
use local::{
    REGION, TABLE, clients,
    dynamodb::{EmbeddedDynamo, Storage},
    secrets::EmbeddedSecrets,
    table,
};
use tokio::task::JoinSet;

type Attributes = HashMap<String, AttributeValue>;

/// A table behind a proxy.
struct Bench {
    proxy: FaultProxy,
    /// Client behind the proxy.
    client: Client,
    /// Client without the proxy.
    direct: Client,
    _dynamodb: EmbeddedDynamo,
}

impl Bench {
    async fn start() -> Self {
        let dynamodb = EmbeddedDynamo::start(Storage::Memory).await.unwrap();
        let direct = clients::dynamodb(dynamodb.url());
        table::create_if_missing(&direct, TABLE).await.unwrap();
        let proxy = FaultProxy::start(dynamodb.url()).await.unwrap();
        proxy.set_conflicts(false);
        let client = proxy.dynamodb();
        Self { proxy, client, direct, _dynamodb: dynamodb }
    }

    /// The item's number, without the proxy.
    async fn number(&self, pk: &str) -> Option<u64> {
        let request = self.direct.get_item().table_name(TABLE).set_key(Some(key(pk)));
        number(&request.send().await.unwrap().item?)
    }
}

fn key(pk: &str) -> Attributes {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    HashMap::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text("X"))])
}

fn item(pk: &str, number: u64) -> Attributes {
    let mut item = key(pk);
    item.insert("number".to_owned(), AttributeValue::N(number.to_string()));
    item
}

fn number(item: &Attributes) -> Option<u64> {
    item.get("number")?.as_n().ok()?.parse().ok()
}

/// Error code of a call; empty if it succeeded.
fn code<T, E: ProvideErrorMetadata>(result: Result<T, E>) -> String {
    result.err().map(|error| error.code().unwrap_or("none").to_owned()).unwrap_or_default()
}

async fn put(client: &Client, pk: &str, number: u64) -> String {
    code(client.put_item().table_name(TABLE).set_item(Some(item(pk, number))).send().await)
}

/// Adds one to the item's number. A repetition adds one again.
async fn increment(client: &Client, pk: &str) -> String {
    let request = client.update_item().table_name(TABLE).set_key(Some(key(pk)));
    let request = request
        .update_expression("ADD #number :one")
        .expression_attribute_names("#number", "number")
        .expression_attribute_values(":one", AttributeValue::N("1".to_owned()));
    code(request.send().await)
}

async fn get(client: &Client, pk: &str) -> String {
    code(client.get_item().table_name(TABLE).set_key(Some(key(pk))).send().await)
}

fn incrementing(pk: &str) -> TransactWriteItem {
    let update = Update::builder()
        .table_name(TABLE)
        .set_key(Some(key(pk)))
        .update_expression("ADD #number :one")
        .expression_attribute_names("#number", "number")
        .expression_attribute_values(":one", AttributeValue::N("1".to_owned()));
    TransactWriteItem::builder().update(update.build().unwrap()).build()
}

fn putting(pk: &str) -> TransactWriteItem {
    let put = Put::builder().table_name(TABLE).set_item(Some(item(pk, 0)));
    TransactWriteItem::builder().put(put.build().unwrap()).build()
}

fn checking(pk: &str) -> TransactWriteItem {
    let check = ConditionCheck::builder().table_name(TABLE).set_key(Some(key(pk)));
    let check = check.condition_expression("attribute_not_exists(absent)");
    TransactWriteItem::builder().condition_check(check.build().unwrap()).build()
}

async fn transact(client: &Client, items: Vec<TransactWriteItem>) -> Result<(), TransactWriteItemsError> {
    let request = client.transact_write_items().set_transact_items(Some(items));
    request.send().await.map(|_| ()).map_err(aws_sdk_dynamodb::error::SdkError::into_service_error)
}

/// Codes of the reasons of a cancelled transaction.
fn reasons(result: Result<(), TransactWriteItemsError>) -> Vec<String> {
    let error = result.unwrap_err();
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = error else {
        unreachable!("{error:?}");
    };
    let reasons = cancelled.cancellation_reasons().iter().filter_map(CancellationReason::code);
    reasons.map(str::to_owned).collect()
}

async fn transact_get(client: &Client, pk: &str) -> String {
    let get = Get::builder().table_name(TABLE).set_key(Some(key(pk))).build().unwrap();
    let request = client.transact_get_items();
    code(request.transact_items(TransactGetItem::builder().get(get).build()).send().await)
}

/// Numbers and unprocessed keys of a batch read.
async fn batch(client: &Client, pks: &[&str]) -> (HashMap<String, u64>, usize) {
    let wanted = KeysAndAttributes::builder().set_keys(Some(pks.iter().map(|pk| key(pk)).collect()));
    let request = client.batch_get_item().request_items(TABLE, wanted.build().unwrap());
    let output = request.send().await.unwrap();
    let items = output.responses.unwrap_or_default().remove(TABLE).unwrap_or_default();
    let numbers = items.iter().map(|item| (item["pk"].as_s().unwrap().clone(), number(item).unwrap()));
    let unprocessed = output.unprocessed_keys.unwrap_or_default().remove(TABLE);
    (numbers.collect(), unprocessed.map_or(0, |left| left.keys.len()))
}

#[tokio::test]
async fn conflict_cancels_a_transaction_with_one_reason_per_item() {
    let bench = Bench::start().await;
    let gate = bench.proxy.inject(Fault::on(Operation::TransactWriteItems, Effect::Conflict).pk("b"));
    let items = vec![putting("a"), incrementing("b"), checking("c")];
    let refused = transact(&bench.client, items.clone()).await;
    assert_eq!(reasons(refused), ["None", "TransactionConflict", "None"]);
    assert_eq!((gate.applied(), bench.number("a").await), (1, None), "the SDK does not repeat it");
    transact(&bench.client, items).await.unwrap();
    assert_eq!(bench.number("b").await, Some(1));
}

#[tokio::test]
async fn conflict_refuses_a_plain_write() {
    let bench = Bench::start().await;
    let gate = bench.proxy.inject(Fault::on(Operation::PutItem, Effect::Conflict));
    assert_eq!(put(&bench.client, "a", 1).await, "TransactionConflictException");
    assert_eq!((gate.applied(), bench.number("a").await), (1, None), "the SDK does not repeat it");
    assert_eq!(put(&bench.client, "a", 1).await, "");
}

#[tokio::test]
async fn sdk_repeats_throttled_and_failed_calls_twice() {
    for (effect, expected) in [
        (Effect::Throttle, "ThrottlingException"),
        (Effect::ExceedThroughput, "ProvisionedThroughputExceededException"),
        (Effect::FailInternally, "InternalServerError"),
    ] {
        let bench = Bench::start().await;
        bench.proxy.inject(Fault::on(Operation::UpdateItem, effect).times(2));
        assert_eq!(increment(&bench.client, "a").await, "", "{effect:?}");
        assert_eq!(bench.number("a").await, Some(1), "{effect:?}");
        let gate = bench.proxy.inject(Fault::on(Operation::GetItem, effect).always());
        assert_eq!(get(&bench.client, "a").await, expected);
        assert_eq!(gate.applied(), 3, "{effect:?}");
    }
}

#[tokio::test]
async fn unprocessed_keys_are_those_of_the_item_or_all() {
    let bench = Bench::start().await;
    for pk in ["a", "b"] {
        put(&bench.client, pk, 1).await;
    }
    let fault = Fault::on(Operation::BatchGetItem, Effect::LeaveUnprocessed);
    bench.proxy.inject(fault.clone().pk("b"));
    bench.proxy.inject(fault);
    let read = |pks: &[&str]| pks.iter().map(|pk| ((*pk).to_owned(), 1)).collect::<HashMap<_, _>>();
    assert_eq!(batch(&bench.client, &["a", "b"]).await, (read(&["a"]), 1));
    assert_eq!(batch(&bench.client, &["a", "b"]).await, (read(&[]), 2));
    assert_eq!(batch(&bench.client, &["a", "b"]).await, (read(&["a", "b"]), 0));
}

#[tokio::test]
async fn held_call_is_executed_before_or_after_the_release() {
    for (effect, while_held) in
        [(Effect::HoldRequest, None), (Effect::HoldBefore, None), (Effect::HoldAfter, Some(1))]
    {
        let bench = Bench::start().await;
        let gate = bench.proxy.inject(Fault::on(Operation::UpdateItem, effect).pk("a"));
        let client = bench.client.clone();
        let held = tokio::spawn(async move { increment(&client, "a").await });
        gate.reached().await;
        assert_eq!(bench.number("a").await, while_held, "{effect:?}");
        assert_eq!(increment(&bench.client, "b").await, "", "another item is not held");
        assert!(!held.is_finished(), "{effect:?}");
        gate.release();
        assert_eq!(held.await.unwrap(), "");
        assert_eq!(bench.number("a").await, Some(1), "{effect:?}");
    }
}

#[tokio::test]
async fn sdk_repeats_a_write_whose_answer_is_lost() {
    let bench = Bench::start().await;
    bench.proxy.inject(Fault::on(Operation::UpdateItem, Effect::LoseAnswer));
    assert_eq!(increment(&bench.client, "a").await, "");
    assert_eq!(bench.number("a").await, Some(2), "a plain write is executed twice");
    bench.proxy.inject(Fault::on(Operation::TransactWriteItems, Effect::LoseAnswer));
    transact(&bench.client, vec![incrementing("b")]).await.unwrap();
    assert_eq!(bench.number("b").await, Some(1), "a transaction has a client request token");
}

#[tokio::test]
async fn lost_request_is_never_executed() {
    let bench = Bench::start().await;
    let gate = bench.proxy.inject(Fault::on(Operation::UpdateItem, Effect::LoseRequest));
    assert_eq!(increment(&bench.client, "a").await, "");
    assert_eq!((gate.applied(), bench.number("a").await), (1, Some(1)));
}

#[tokio::test]
async fn late_write_is_executed_after_its_successors() {
    let bench = Bench::start().await;
    let gate = bench.proxy.inject(Fault::on(Operation::PutItem, Effect::DeliverLate));
    assert_eq!(put(&bench.client, "a", 1).await, "", "the SDK repeats the write");
    assert_eq!(put(&bench.client, "a", 2).await, "");
    assert_eq!(bench.number("a").await, Some(2));
    gate.release();
    gate.executed().await;
    assert_eq!(bench.number("a").await, Some(1));
}

#[tokio::test]
async fn torn_batch_read_returns_items_of_two_moments() {
    let bench = Bench::start().await;
    for (later, expected) in [(None, [1, 2]), (Some("a"), [2, 1])] {
        for pk in ["a", "b"] {
            put(&bench.direct, pk, 1).await;
        }
        let fault = Fault::on(Operation::BatchGetItem, Effect::Tear);
        let gate = bench.proxy.inject(match later {
            Some(pk) => fault.pk(pk),
            None => fault,
        });
        let client = bench.client.clone();
        let torn = tokio::spawn(async move { batch(&client, &["a", "b"]).await });
        gate.reached().await;
        for pk in ["a", "b"] {
            put(&bench.direct, pk, 2).await;
        }
        gate.release();
        let (read, unprocessed) = torn.await.unwrap();
        assert_eq!((read["a"], read["b"], unprocessed), (expected[0], expected[1], 0));
    }
}

#[tokio::test]
async fn fault_applies_to_the_nth_call_of_its_item() {
    let bench = Bench::start().await;
    let fault = Fault::on(Operation::PutItem, Effect::Conflict).pk_prefix("a").sk_prefix("X").nth(2);
    let gate = bench.proxy.inject(fault);
    let mut codes = Vec::new();
    for pk in ["a1", "b", "b", "a2", "a3"] {
        codes.push(put(&bench.client, pk, 1).await);
    }
    assert_eq!(codes, ["", "", "", "TransactionConflictException", ""]);
    assert_eq!(gate.applied(), 1);
    assert_eq!(bench.proxy.trace(), ["PutItem [a2 X]: Conflict"]);
}

#[tokio::test]
async fn faults_of_a_script_apply_in_their_order() {
    let bench = Bench::start().await;
    bench.proxy.inject(Fault::on(Operation::PutItem, Effect::Conflict));
    let second = bench.proxy.inject(Fault::on(Operation::PutItem, Effect::LoseRequest));
    assert_eq!(put(&bench.client, "a", 1).await, "TransactionConflictException");
    assert_eq!(second.applied(), 0);
    assert_eq!(put(&bench.client, "a", 1).await, "");
    assert_eq!(second.applied(), 1);
}

#[tokio::test]
#[should_panic(expected = "GetItem cannot have the effect Conflict")]
async fn fault_that_the_operation_cannot_have_is_rejected() {
    Bench::start().await.proxy.inject(Fault::on(Operation::GetItem, Effect::Conflict));
}

#[tokio::test]
async fn no_call_succeeds_while_the_service_is_down() {
    let bench = Bench::start().await;
    bench.proxy.set_down(true);
    let error = bench.client.get_item().table_name(TABLE).set_key(Some(key("a"))).send().await.unwrap_err();
    assert!(error.as_service_error().is_none(), "{error:?}");
    bench.proxy.set_down(false);
    assert_eq!(get(&bench.client, "a").await, "");
}

/// Sends the same calls in sequence, and returns the faults.
async fn faults_of(seed: u64) -> Vec<String> {
    let bench = Bench::start().await;
    bench.proxy.set_random(Some(Random::new(seed).every_chance(0.05)));
    for round in 0..12 {
        // A write without an answer may be executed or not, so that only the faults are compared.
        put(&bench.client, "T#tenant#U#user", round).await;
        increment(&bench.client, "T#tenant#U#user").await;
        let _ = transact(&bench.client, vec![incrementing("T#tenant#U#user"), checking("T#tenant")]).await;
        get(&bench.client, "T#tenant").await;
    }
    bench.proxy.settle().await;
    assert!(bench.proxy.to_string().contains(&format!("seed {seed}:")));
    bench.proxy.trace()
}

#[tokio::test]
async fn seed_determines_the_random_faults() {
    let first = faults_of(1).await;
    assert!(first.len() > 5, "{first:#?}");
    assert_eq!(first, faults_of(1).await);
    assert_ne!(first, faults_of(2).await);
}

#[tokio::test]
async fn random_mode_has_every_effect_and_leaves_no_call_behind() {
    let bench = Bench::start().await;
    for pk in ["a", "b"] {
        put(&bench.client, pk, 1).await;
    }
    let effects = [
        Effect::Conflict,
        Effect::Throttle,
        Effect::ExceedThroughput,
        Effect::FailInternally,
        Effect::HoldRequest,
        Effect::HoldBefore,
        Effect::HoldAfter,
        Effect::LoseRequest,
        Effect::LoseAnswer,
        Effect::DeliverLate,
    ];
    for effect in effects {
        bench.proxy.set_random(Some(Random::new(1).every_chance(0.0).chance(effect, 1.0)));
        increment(&bench.client, "a").await;
        bench.proxy.settle().await;
        assert!(bench.proxy.trace().last().unwrap().ends_with(&format!("{effect:?}")), "{effect:?}");
    }
    for effect in [Effect::LeaveUnprocessed, Effect::Tear] {
        bench.proxy.set_random(Some(Random::new(1).every_chance(0.0).chance(effect, 1.0)));
        let (read, unprocessed) = batch(&bench.client, &["a", "b"]).await;
        assert_eq!(read.len() + unprocessed, 2);
        assert_eq!(unprocessed, usize::from(effect == Effect::LeaveUnprocessed));
    }
    bench.proxy.set_random(None);
    assert_eq!(increment(&bench.client, "a").await, "");
}

#[tokio::test]
async fn conflict_mode_refuses_what_overlaps_a_transaction() {
    let bench = Bench::start().await;
    bench.proxy.set_conflicts(true);
    for effect in [Effect::HoldBefore, Effect::HoldAfter] {
        let gate = bench.proxy.inject(Fault::on(Operation::TransactWriteItems, effect).pk("a"));
        let client = bench.client.clone();
        let held =
            tokio::spawn(async move { transact(&client, vec![checking("a"), incrementing("b")]).await });
        gate.reached().await;
        // Also two checks of one item overlap.
        let refused = transact(&bench.client, vec![incrementing("c"), checking("a")]).await;
        assert_eq!(reasons(refused), ["None", "TransactionConflict"]);
        assert_eq!(increment(&bench.client, "a").await, "TransactionConflictException");
        assert_eq!(transact_get(&bench.client, "b").await, "TransactionCanceledException");
        // Plain reads and other items do not overlap.
        assert_eq!(get(&bench.client, "a").await, "");
        assert_eq!(increment(&bench.client, "c").await, "");
        gate.release();
        held.await.unwrap().unwrap();
        assert_eq!(increment(&bench.client, "a").await, "");
        transact(&bench.client, vec![checking("a"), incrementing("b")]).await.unwrap();
    }
}

#[tokio::test]
async fn conflict_mode_allows_writes_while_a_request_is_on_its_way() {
    let bench = Bench::start().await;
    bench.proxy.set_conflicts(true);
    let gate = bench.proxy.inject(Fault::on(Operation::TransactWriteItems, Effect::HoldRequest));
    let client = bench.client.clone();
    let held = tokio::spawn(async move { transact(&client, vec![incrementing("a")]).await });
    gate.reached().await;
    assert_eq!(increment(&bench.client, "a").await, "");
    transact(&bench.client, vec![incrementing("a")]).await.unwrap();
    gate.release();
    held.await.unwrap().unwrap();
    assert_eq!(bench.number("a").await, Some(3));
}

#[tokio::test]
async fn conflict_mode_lets_plain_writes_overlap_each_other_but_no_transaction() {
    let bench = Bench::start().await;
    bench.proxy.set_conflicts(true);
    let gate = bench.proxy.inject(Fault::on(Operation::UpdateItem, Effect::HoldBefore));
    let client = bench.client.clone();
    let held = tokio::spawn(async move { increment(&client, "a").await });
    gate.reached().await;
    assert_eq!(increment(&bench.client, "a").await, "");
    assert_eq!(reasons(transact(&bench.client, vec![checking("a")]).await), ["TransactionConflict"]);
    assert_eq!(transact_get(&bench.client, "a").await, "TransactionCanceledException");
    gate.release();
    assert_eq!(held.await.unwrap(), "");
    assert_eq!(transact_get(&bench.client, "a").await, "");
}

#[tokio::test]
async fn conflict_mode_reports_a_repetition_of_a_running_transaction() {
    let bench = Bench::start().await;
    bench.proxy.set_conflicts(true);
    let gate = bench.proxy.inject(Fault::on(Operation::TransactWriteItems, Effect::HoldAfter));
    let request = bench.client.transact_write_items().transact_items(incrementing("a"));
    let request = request.client_request_token("token");
    let held = tokio::spawn(request.clone().send());
    gate.reached().await;
    assert_eq!(code(request.clone().send().await), "TransactionInProgressException");
    gate.release();
    held.await.unwrap().unwrap();
    request.send().await.unwrap();
    assert_eq!(bench.number("a").await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn conflict_mode_makes_concurrent_transactions_overlap() {
    let bench = Bench::start().await;
    bench.proxy.set_conflicts(true);
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let client = bench.client.clone();
        tasks.spawn(async move { transact(&client, vec![incrementing("a")]).await.is_ok() });
    }
    let done = tasks.join_all().await.iter().filter(|done| **done).count();
    assert!((1..20).contains(&done), "{done} of 20 concurrent transactions succeeded");
    assert_eq!(bench.number("a").await, u64::try_from(done).ok());
    assert_eq!(bench.proxy.trace().len(), 20 - done);
}

#[tokio::test]
async fn faults_apply_to_secrets_manager_too() {
    let secrets = EmbeddedSecrets::start(None, REGION).await.unwrap();
    let direct = clients::secrets_manager(secrets.url());
    direct.create_secret().name("one").secret_string("value").send().await.unwrap();
    let proxy = FaultProxy::start(secrets.url()).await.unwrap();
    let client = proxy.secrets_manager();
    let fault = Fault::on(Operation::GetSecretValue, Effect::Throttle).pk("one");
    let gate = proxy.inject(fault.times(2));
    let value = client.get_secret_value().secret_id("one").send().await.unwrap();
    assert_eq!((value.secret_string(), gate.applied()), (Some("value"), 2));
    proxy.inject(Fault::on(Operation::GetSecretValue, Effect::FailInternally).always());
    let failed = client.get_secret_value().secret_id("one").send().await.unwrap_err();
    assert_eq!(failed.code(), Some("InternalServerError"));
}

#[tokio::test]
async fn earlier_answer_is_returned_after_the_secret_has_changed() {
    let secrets = EmbeddedSecrets::start(None, REGION).await.unwrap();
    let direct = clients::secrets_manager(secrets.url());
    direct.create_secret().name("one").secret_string("old").send().await.unwrap();
    let proxy = FaultProxy::start(secrets.url()).await.unwrap();
    let client = proxy.secrets_manager();
    let value = async || {
        let read = client.get_secret_value().secret_id("one").send().await.unwrap();
        read.secret_string.unwrap()
    };
    assert_eq!(value().await, "old");
    direct.put_secret_value().secret_id("one").secret_string("new").send().await.unwrap();
    let gate = proxy.inject(Fault::on(Operation::GetSecretValue, Effect::AnswerEarlier));
    assert_eq!((value().await, gate.applied()), ("old".to_owned(), 1));
    assert_eq!(value().await, "new");
}
