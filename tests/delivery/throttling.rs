//! Sends that SES, SNS or EventBridge throttles.

use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_dynamodb::types::AttributeValue;
use doorward::port::{BusEvent, Courier, CourierError, Mail};

use super::*;

/// Attempts that the SDK makes for one send.
const SDK_ATTEMPTS: usize = 3;

/// Number of times that a message was queued again.
async fn requeued(world: &World, key: &OutboxKey) -> Result<u32> {
    let text = |text: String| AttributeValue::S(text);
    let item = world
        .dynamodb
        .get_item()
        .table_name(local::TABLE)
        .key("pk", text(format!("T#{}#U#{}", key.tenant, key.user)))
        .key("sk", text(format!("OUT#{}", key.id)))
        .consistent_read(true)
        .send()
        .await?
        .item
        .context("the message is not in the outbox")?;
    Ok(item.get("requeued").and_then(|count| count.as_n().ok()).map_or(Ok(0), |count| count.parse())?)
}

// Lambda counts a reported record as an attempt, and drops a record after 20 attempts.
#[tokio::test(flavor = "multi_thread")]
async fn throttled_message_is_queued_again_and_counts_no_attempt() -> Result<()> {
    let (world, user) = start().await?;
    let mail = EmbeddedMail::start(Mailbox::default()).await?;
    let deliveries = over_aws(&world, &mail);
    for medium in [Medium::Mail, Medium::Text] {
        let Queued { key, code } = world.queue_code(NORDIC, &user, medium, None).await?;
        let before = mail.mailbox().messages().len();
        for times in 1..=2 {
            mail.mailbox().fail_next(SDK_ATTEMPTS, Fault::Throttled);
            assert_eq!(hand_over(&deliveries, &key).await, 0, "{medium:?}");
            assert_eq!(requeued(&world, &key).await?, times);
            let event = world.audit.last();
            assert_eq!(event["outcome"], "THROTTLED", "{event}");
            assert_eq!((&event["Deferred"], &event["Failed"]), (&json!(1), &json!(null)), "{event}");
        }
        assert_eq!(mail.mailbox().messages().len(), before);
        // The stream reports the update of the item.
        let mut changed = batch(std::slice::from_ref(&key));
        changed["Records"][0]["eventName"] = json!("MODIFY");
        let answer = deliveries.answer(&changed.to_string(), "e2e-request").await;
        assert_eq!(answer, json!({ "batchItemFailures": [] }));
        let sent = mail.mailbox().messages();
        let Some(last) = sent.last() else { panic!("nothing was sent") };
        assert!(serde_json::to_string(&**last)?.contains(code.expose()), "{last:?}");
        assert!(!is_waiting(&world, &key).await?);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn throttled_send_is_repeated_in_the_same_invocation() -> Result<()> {
    let (world, user) = start().await?;
    let mail = EmbeddedMail::start(Mailbox::default()).await?;
    let deliveries = over_aws(&world, &mail).with_patience(Duration::from_secs(30));
    let queued = world.queue_code(NORDIC, &user, Medium::Mail, None).await?;
    mail.mailbox().fail_next(SDK_ATTEMPTS, Fault::Throttled);
    assert_eq!(hand_over(&deliveries, &queued.key).await, 0);
    assert_eq!(mail.mailbox().messages().len(), 1);
    assert!(!is_waiting(&world, &queued.key).await?);
    assert_eq!(world.audit.last()["reason"], "SENT");
    Ok(())
}

// docs/design/security.md#rule-19
#[tokio::test(flavor = "multi_thread")]
async fn throttled_code_is_not_sent_after_it_was_replaced_or_expired() -> Result<()> {
    let (world, user) = start().await?;
    let mail = EmbeddedMail::start(Mailbox::default()).await?;
    let deliveries = over_aws(&world, &mail);
    let throttled = async || -> Result<OutboxKey> {
        let key = world.queue_code(NORDIC, &user, Medium::Mail, None).await?.key;
        mail.mailbox().fail_next(SDK_ATTEMPTS, Fault::Throttled);
        assert_eq!(hand_over(&deliveries, &key).await, 0);
        assert!(is_waiting(&world, &key).await?);
        Ok(key)
    };
    let replaced = throttled().await?;
    world.clock.advance(Duration::from_millis(1));
    let late = throttled().await?;
    for (key, member, name) in [(replaced, "reason", "SUPERSEDED"), (late, "outcome", "EXPIRED")] {
        if name == "EXPIRED" {
            world.clock.advance(LIFE);
        }
        assert_eq!(hand_over(&deliveries, &key).await, 0);
        assert_eq!(world.audit.last()[member], name);
        assert!(!is_waiting(&world, &key).await?);
    }
    assert_eq!(mail.mailbox().messages().len(), 0);
    Ok(())
}

/// Courier that throttles its first message while the message expires, and accepts the others.
struct SlowCourier {
    clock: Arc<e2e::TestClock>,
    tries: AtomicUsize,
}

impl SlowCourier {
    fn take(&self) -> Result<(), CourierError> {
        if self.tries.fetch_add(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        self.clock.advance(LIFE);
        Err(CourierError::Throttled("the first send".to_owned()))
    }
}

#[async_trait::async_trait]
impl Courier for SlowCourier {
    async fn send_mail(&self, _mail: &Mail<'_>) -> Result<(), CourierError> {
        self.take()
    }

    async fn send_text(&self, _number: &str, _text: &str) -> Result<(), CourierError> {
        self.take()
    }

    async fn send_event(&self, _event: &BusEvent<'_>) -> Result<(), CourierError> {
        self.take()
    }
}

// docs/design/security.md#rule-19
#[tokio::test(flavor = "multi_thread")]
async fn code_that_expires_during_a_pause_is_not_sent() -> Result<()> {
    let (world, user) = start().await?;
    let courier = Arc::new(SlowCourier { clock: Arc::clone(&world.clock), tries: AtomicUsize::new(0) });
    let deliveries = world.deliveries(Arc::<SlowCourier>::clone(&courier))?;
    let deliveries = deliveries.with_patience(Duration::from_secs(30));
    let key = world.queue_code(NORDIC, &user, Medium::Mail, None).await?.key;
    assert_eq!(hand_over(&deliveries, &key).await, 0);
    assert_eq!(courier.tries.load(Ordering::SeqCst), 1);
    assert!(!is_waiting(&world, &key).await?);
    let event = world.audit.last();
    assert_eq!((&event["outcome"], &event["Failed"]), (&json!("EXPIRED"), &json!(1)), "{event}");
    Ok(())
}

// The function's time limit would end the invocation, and all records of the batch would count an attempt.
#[tokio::test(flavor = "multi_thread")]
async fn messages_after_the_last_start_are_queued_again() -> Result<()> {
    let (world, user) = start().await?;
    let mail = EmbeddedMail::start(Mailbox::default()).await?;
    let deliveries = over_aws(&world, &mail).with_last_start(Duration::ZERO);
    let mut keys = Vec::new();
    for medium in [Medium::Mail, Medium::Text] {
        keys.push(world.queue_code(NORDIC, &user, medium, None).await?.key);
    }
    let answer = deliveries.answer(&batch(&keys).to_string(), "e2e-request").await;
    assert_eq!(answer, json!({ "batchItemFailures": [] }));
    for key in &keys {
        assert_eq!(requeued(&world, key).await?, 1);
    }
    let event = world.audit.last();
    assert_eq!((&event["outcome"], &event["Deferred"]), (&json!("POSTPONED"), &json!(1)), "{event}");
    assert_eq!(mail.mailbox().messages().len(), 0);
    // A message that cannot be queued again is reported.
    world.faults.set_down(true);
    assert_eq!(hand_over(&deliveries, &keys[0]).await, 1);
    Ok(())
}
