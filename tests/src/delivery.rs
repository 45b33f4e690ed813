//! What is sent to people, in tests: a courier that keeps what it is given, and batches as the
//! table's stream sends them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use doorward::{
    domain::{
        AttemptId, Code, CodeKind, CodeMessage, CodeProof, CodePurpose, Failure, Medium, Notification,
        ResetCode, TenantId, UserId,
    },
    function::SystemEntropy,
    function::stream::Deliveries,
    port::{BusEvent, Clock, Courier, CourierError, Mail},
    secrets::SecretsManager,
    store::DynamoStore,
    store::{Committed, NewCode, OutboxKey},
    usecase::deliver_notification::{Notifier, SenderSettings},
};
use local::{SECRET_PREFIX, TABLE};
use serde_json::{Value, json};

use crate::{
    PUBLIC_URL, TestClock, World,
    audit::{self, AuditLog},
};

/// Sender of mails.
pub const MAIL_FROM: &str = "Doorward <no-reply@login.example.com>";

/// Something that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// A mail.
    Mail {
        /// Sender.
        from: String,
        /// Recipient.
        to: String,
        /// Subject.
        subject: String,
        /// Plain text.
        text: String,
        /// HTML.
        html: Option<String>,
    },
    /// A text message.
    Text {
        /// Telephone number.
        number: String,
        /// Text.
        text: String,
    },
    /// An event.
    Event {
        /// Name of the bus.
        bus: String,
        /// Detail type.
        detail_type: String,
        /// Detail.
        detail: Value,
    },
}

impl Sent {
    /// The text of the message, or the detail of the event.
    pub fn text(&self) -> String {
        match self {
            Self::Mail { text, .. } | Self::Text { text, .. } => text.clone(),
            Self::Event { detail, .. } => detail.to_string(),
        }
    }
}

/// Result of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The carrier accepts the message.
    Taken,
    /// The carrier accepts the message, but the response is lost.
    Unanswered,
    /// The carrier fails temporarily.
    Failed,
    /// The carrier rejects the message permanently.
    Refused,
    /// The carrier limits the rate of messages.
    Throttled,
}

/// A courier that stores all messages.
pub struct RecordingCourier {
    sent: Mutex<Vec<Sent>>,
    fate: Mutex<Fate>,
    given: tokio::sync::Notify,
    tries: AtomicUsize,
}

impl Default for RecordingCourier {
    fn default() -> Self {
        Self {
            sent: Mutex::default(),
            fate: Mutex::new(Fate::Taken),
            given: tokio::sync::Notify::new(),
            tries: AtomicUsize::new(0),
        }
    }
}

impl RecordingCourier {
    /// What was taken since the last question.
    pub fn take(&self) -> Vec<Sent> {
        std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What becomes of everything from now on.
    pub fn set_fate(&self, fate: Fate) {
        *self.fate.lock().unwrap_or_else(PoisonError::into_inner) = fate;
    }

    /// How often it was given something.
    pub fn tries(&self) -> usize {
        self.tries.load(Ordering::SeqCst)
    }

    /// Waits until it is given something.
    pub async fn is_given(&self) {
        self.given.notified().await;
    }

    async fn keep(&self, sent: Sent) -> Result<(), CourierError> {
        self.tries.fetch_add(1, Ordering::SeqCst);
        let fate = *self.fate.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(fate, Fate::Taken | Fate::Unanswered) {
            self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(sent);
        }
        self.given.notify_one();
        match fate {
            Fate::Taken => Ok(()),
            Fate::Unanswered => std::future::pending().await,
            Fate::Failed => Err(CourierError::Failed(Failure::Unavailable("told to fail".into()))),
            Fate::Throttled => Err(CourierError::Throttled("told to throttle".to_owned())),
            Fate::Refused => Err(CourierError::Refused("told to refuse".to_owned())),
        }
    }
}

#[async_trait]
impl Courier for RecordingCourier {
    async fn send_mail(&self, mail: &Mail<'_>) -> Result<(), CourierError> {
        let Mail { from, to, subject, text, html } = *mail;
        self.keep(Sent::Mail {
            from: from.to_owned(),
            to: to.to_owned(),
            subject: subject.to_owned(),
            text: text.to_owned(),
            html: html.map(str::to_owned),
        })
        .await
    }

    async fn send_text(&self, number: &str, text: &str) -> Result<(), CourierError> {
        self.keep(Sent::Text { number: number.to_owned(), text: text.to_owned() }).await
    }

    async fn send_event(&self, event: &BusEvent<'_>) -> Result<(), CourierError> {
        let detail = serde_json::from_str(event.detail).unwrap_or_default();
        let (bus, detail_type) = (event.bus.to_owned(), event.detail_type.to_owned());
        self.keep(Sent::Event { bus, detail_type, detail }).await
    }
}

/// A message in the outbox, and its code.
#[derive(Debug, Clone)]
pub struct Queued {
    /// Where it is.
    pub key: OutboxKey,
    /// The code it carries, if it does.
    pub code: Code,
}

impl World {
    /// The function that delivers, over another courier.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn deliveries(&self, courier: Arc<dyn Courier>) -> Result<Deliveries> {
        deliveries(&self.store, &self.secrets, courier, &self.clock, &self.audit)
    }

    /// Hands a batch of the stream to the function that delivers.
    pub async fn deliver(&self, batch: &Value) -> Value {
        self.delivery.answer(&batch.to_string(), "e2e-request").await
    }

    /// Delivers these messages; gives back how many stay.
    pub async fn deliver_all(&self, keys: &[OutboxKey]) -> usize {
        self.deliver(&batch(keys)).await["batchItemFailures"].as_array().map_or(usize::MAX, Vec::len)
    }

    /// What waits in a user's outbox, oldest first.
    ///
    /// # Errors
    /// When the table does not answer.
    pub async fn outbox_keys(&self, tenant: &str, user: &str) -> Result<Vec<OutboxKey>> {
        let found = self
            .dynamodb
            .query()
            .table_name(TABLE)
            .key_condition_expression("pk = :pk AND begins_with(sk, :out)")
            .expression_attribute_values(":pk", AttributeValue::S(format!("T#{tenant}#U#{user}")))
            .expression_attribute_values(":out", AttributeValue::S("OUT#".to_owned()))
            .consistent_read(true)
            .send()
            .await?;
        let text = |item: &HashMap<String, AttributeValue>, name: &str| {
            item.get(name).and_then(|value| value.as_s().ok()).cloned().unwrap_or_default()
        };
        let key = |item| doorward::store::outbox_key(&text(item, "pk"), &text(item, "sk"));
        found.items().iter().map(|item| key(item).context("not an outbox key")).collect()
    }

    /// Issues a code to a user in the place of the one before, and queues it.
    ///
    /// # Errors
    /// When it is not kept.
    pub async fn queue_code(
        &self,
        tenant: &str,
        user: &str,
        medium: Medium,
        link: Option<&str>,
    ) -> Result<Queued> {
        let kind = match medium {
            Medium::Mail => CodeKind::Link,
            Medium::Text => CodeKind::Typed,
        };
        let link = link.map(str::to_owned);
        let say = |code: &Code, id| {
            let code = code.clone();
            Notification::ResetCode(CodeMessage { code, id, medium, link, verifies: None })
        };
        self.queue(tenant, user, kind, say).await
    }

    /// Issues a code, and queues what is said of it.
    ///
    /// # Errors
    /// When it is not kept.
    pub async fn queue(
        &self,
        tenant: &str,
        user: &str,
        kind: CodeKind,
        say: impl FnOnce(&Code, AttemptId) -> Notification,
    ) -> Result<Queued> {
        let now = self.clock.now();
        let ends_at = now.checked_add(LIFE)?;
        let keys = self.keys(tenant).await?;
        let (tenant, user) = (TenantId::parse(tenant)?, UserId::parse(user)?);
        let code = Code::from_random(kind, &random()?);
        let before = self.store.recovery(&tenant, &user, None).await?.code;
        let id = AttemptId::new(ResetCode::id_time(before.as_ref(), now), random()?);
        let key =
            OutboxKey { tenant: tenant.clone(), user: user.clone(), id: AttemptId::new(now, random()?) };
        let message = keys.seal_notification(key.clone(), &say(&code, id), ends_at, &SystemEntropy)?;
        let proof = CodeProof::of(&code, CodePurpose::Password, (&tenant, &user), &keys)?;
        let new = NewCode {
            tenant,
            user,
            purpose: CodePurpose::Password,
            replaces: before.map(|before| before.id),
            code: ResetCode { id, proof: Some(proof), ends_at, sent: vec![now], spent: None },
            message: Some(message),
            result: None,
        };
        ensure!(self.store.issue_code(None, &new).await? == Committed::Done, "another code came first");
        Ok(Queued { key, code })
    }
}

/// Life of the codes that are queued.
pub const LIFE: Duration = Duration::from_secs(60 * 60);

fn random<const N: usize>() -> Result<[u8; N]> {
    Ok(doorward::port::random(&SystemEntropy)?)
}

/// The function that delivers, over a courier.
pub(crate) fn deliveries(
    store: &Arc<DynamoStore>,
    secrets: &aws_sdk_secretsmanager::Client,
    courier: Arc<dyn Courier>,
    clock: &Arc<TestClock>,
    log: &Arc<AuditLog>,
) -> Result<Deliveries> {
    let secrets = SecretsManager::new(secrets.clone(), SECRET_PREFIX.to_owned());
    let settings = SenderSettings { public_url: PUBLIC_URL.to_owned(), mail_from: MAIL_FROM.to_owned() };
    let notifier = Notifier::new(store.clone(), Arc::new(secrets), courier, clock.clone(), settings);
    Ok(Deliveries::new(Arc::new(notifier), audit::audit(log, &**clock)?).with_patience(Duration::ZERO))
}

/// A batch of the table's stream with a record for each message.
pub fn batch(keys: &[OutboxKey]) -> Value {
    let records = keys.iter().enumerate().map(|(place, key)| {
        json!({
            "eventID": format!("{place:032x}"),
            "eventName": "INSERT",
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": local::REGION,
            "dynamodb": {
                "Keys": {
                    "pk": { "S": format!("T#{}#U#{}", key.tenant, key.user) },
                    "sk": { "S": format!("OUT#{}", key.id) },
                },
                "SequenceNumber": format!("{}", 100 + place),
                "StreamViewType": "KEYS_ONLY",
            },
        })
    });
    json!({ "Records": records.collect::<Vec<_>>() })
}
