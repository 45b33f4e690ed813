//! Batches of the table's stream: delivers the queued messages and reports the records to retry.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tracing::{Instrument, field};

use super::{Config, Error, SystemClock, catch_panic, config, run, start_logs, write_audit};
use crate::{
    audit::{self, Audit, Class},
    aws,
    context::RequestContext,
    courier::AwsCourier,
    dialect::PageOrigin,
    domain::{Mailbox, TenantId, UserId},
    route::Function,
    secrets::SecretsManager,
    store::{DynamoStore, OutboxKey, outbox_key},
    usecase::deliver_notification::{Notifier, Outcome, SenderSettings},
};

/// Maximum number of users whose messages are delivered in parallel.
const USERS_AT_ONCE: usize = 8;

/// Maximum time that one invocation waits while a service throttles.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time after which one invocation starts no delivery. A delivery without pauses takes at most the timeouts of its six
/// calls, 30 s, so that the invocation stays below the function's time limit of 60 s.
const LAST_START: Duration = Duration::from_secs(30);

/// Builds the function's clients and serves its batches.
///
/// # Errors
/// The configuration is incomplete, or the Runtime API is gone.
pub async fn serve() -> Result<(), Error> {
    start_logs();
    let config = Config::from_env()?;
    let settings = SenderSettings {
        public_url: config.required_public_url()?.to_owned(),
        mail_from: config.mail_from.ok_or("set DOORWARD_MAIL_FROM to the sender address of mails")?,
    };
    PageOrigin::of(&settings.public_url)?;
    Mailbox::parse(&settings.mail_from).map_err(|invalid| format!("DOORWARD_MAIL_FROM {invalid}"))?;
    let sdk = aws::sdk_config().await;
    let store = DynamoStore::new(aws_sdk_dynamodb::Client::new(&sdk), config.table);
    let secrets = SecretsManager::new(aws_sdk_secretsmanager::Client::new(&sdk), config.secret_prefix);
    let notifier = Notifier::new(
        Arc::new(store),
        Arc::new(secrets),
        Arc::new(AwsCourier::new(&sdk)),
        Arc::new(SystemClock),
        settings,
    );
    let deliveries = Deliveries::new(Arc::new(notifier), config::audit_to_stdout()?);
    run(deliveries, |deliveries, event, request_id| async move {
        Ok(deliveries.answer(&event, &request_id).await)
    })
    .await
}

/// The function with its clients. `main` and the tests share it.
#[derive(Clone)]
pub struct Deliveries {
    notifier: Arc<Notifier>,
    audit: Arc<Audit>,
    patience: Duration,
    last_start: Duration,
}

/// Deadlines of one invocation.
#[derive(Clone, Copy)]
struct Deadlines {
    /// End of the pauses while a service throttles.
    pauses: Instant,
    /// Last start of a delivery.
    start: Instant,
}

impl Deliveries {
    /// A function that writes its audit events to `audit`.
    pub fn new(notifier: Arc<Notifier>, audit: Arc<Audit>) -> Self {
        Self { notifier, audit, patience: PATIENCE, last_start: LAST_START }
    }

    /// Sets the maximum time that one invocation waits while a service throttles.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Sets the time after which one invocation starts no delivery.
    #[must_use]
    pub fn with_last_start(self, last_start: Duration) -> Self {
        Self { last_start, ..self }
    }

    /// Delivers the messages of a batch and returns the records to retry (a partial batch response). Records that are
    /// neither new messages nor messages that were queued again are ignored.
    pub async fn answer(&self, event: &str, request_id: &str) -> Value {
        let started = Instant::now();
        let after = |time| started.checked_add(time).unwrap_or(started);
        let deadlines = Deadlines { pauses: after(self.patience), start: after(self.last_start) };
        let undelivered = stream::iter(by_user(records(event)))
            .map(|records| self.deliver_each(records, request_id, deadlines))
            .buffered(USERS_AT_ONCE)
            .concat()
            .await;
        let failures = undelivered.into_iter().map(|sequence| json!({ "itemIdentifier": sequence }));
        json!({ "batchItemFailures": failures.collect::<Vec<_>>() })
    }

    /// Delivers the messages of one user in order; returns the sequence numbers of those that failed.
    async fn deliver_each(
        &self,
        records: Vec<Record>,
        request_id: &str,
        deadlines: Deadlines,
    ) -> Vec<String> {
        let mut undelivered = Vec::new();
        for Record { key, sequence } in records {
            if !self.deliver(&key, request_id, deadlines).await {
                undelivered.push(sequence);
            }
        }
        undelivered
    }

    /// Delivers a message, or puts it at the end of the stream again if the time of the invocation is over; returns
    /// whether the record needs no retry.
    async fn deliver(&self, key: &OutboxKey, request_id: &str, deadlines: Deadlines) -> bool {
        let started = Instant::now();
        let span = tracing::info_span!(
            "delivery",
            request_id,
            function = Function::DeliverNotification.name(),
            tenant = field::Empty,
            claimed_tenant = field::Empty,
            user = field::Empty,
            kind = field::Empty,
        );
        let context = RequestContext::new(self.notifier.now(), request_id.to_owned(), span);
        let deliver = async {
            let result = if started < deadlines.start {
                catch_panic(Box::pin(self.notifier.deliver(key, &context, deadlines.pauses))).await
            } else {
                self.notifier.postpone(key, &context).await
            };
            let outcome = match &result {
                Ok(outcome @ (Outcome::Refused(cause) | Outcome::Broken(cause))) => {
                    tracing::error!(outcome = outcome.name(), cause, "message.failed");
                    let class = match outcome {
                        Outcome::Refused(_) => Class::Refused,
                        _ => Class::Failed,
                    };
                    audit::Outcome { name: outcome.name(), class, failure: None }
                }
                Ok(Outcome::Expired) => {
                    let name = Outcome::Expired.name();
                    tracing::error!(outcome = name, "message.failed");
                    audit::Outcome { name, class: Class::Failed, failure: None }
                }
                Ok(outcome @ (Outcome::Throttled(_) | Outcome::Postponed | Outcome::CodeNotReadable)) => {
                    let cause = if let Outcome::Throttled(cause) = outcome { cause } else { "" };
                    tracing::info!(outcome = outcome.name(), cause, "message.deferred");
                    audit::Outcome { name: outcome.name(), class: Class::Deferred, failure: None }
                }
                Ok(outcome) => {
                    context.record_reason(outcome.name());
                    audit::Outcome::SUCCESS
                }
                Err(cause) => {
                    tracing::error!(outcome = cause.name(), %cause, "message.failed");
                    // The message stays in the outbox and is retried, for every failure.
                    audit::Outcome { class: Class::Failed, ..audit::Outcome::from(cause) }
                }
            };
            let action = (Function::DeliverNotification, "message.deliver");
            write_audit(&self.audit, &context, action, outcome, None, started);
            !matches!(result, Err(_) | Ok(Outcome::CodeNotReadable))
        };
        deliver.instrument(context.span().clone()).await
    }
}

/// A stream record of a message that is new or was queued again.
struct Record {
    key: OutboxKey,
    /// Sequence number. If it is empty, reporting it retries the whole batch.
    sequence: String,
}

/// The records of messages that are new or were queued again, in the order of the batch.
fn records(event: &str) -> Vec<Record> {
    let event: Value = serde_json::from_str(event).unwrap_or_default();
    let read = |record: &Value| {
        // Only queueing a message again updates an outbox item.
        if !matches!(record.get("eventName")?.as_str()?, "INSERT" | "MODIFY") {
            return None;
        }
        let change = record.get("dynamodb")?;
        let key = |name: &str| change.get("Keys")?.get(name)?.get("S")?.as_str();
        let sequence = change.get("SequenceNumber").and_then(Value::as_str).unwrap_or_default();
        Some(Record { key: outbox_key(key("pk")?, key("sk")?)?, sequence: sequence.to_owned() })
    };
    event.get("Records").and_then(Value::as_array).into_iter().flatten().filter_map(read).collect()
}

/// Groups records by user. Users are in the order of their first record.
fn by_user(records: Vec<Record>) -> Vec<Vec<Record>> {
    let mut indexes: HashMap<(TenantId, UserId), usize> = HashMap::new();
    let mut users: Vec<Vec<Record>> = Vec::new();
    for record in records {
        let user = (record.key.tenant.clone(), record.key.user.clone());
        let index = *indexes.entry(user).or_insert(users.len());
        match users.get_mut(index) {
            Some(known) => known.push(record),
            None => users.push(vec![record]),
        }
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(name: &str, pk: &str, sk: &str, sequence: &str) -> Value {
        json!({
            "eventName": name,
            "dynamodb": {
                "Keys": { "pk": { "S": pk }, "sk": { "S": sk } },
                "SequenceNumber": sequence,
                "StreamViewType": "KEYS_ONLY",
            },
        })
    }

    #[test]
    fn only_queued_messages_are_read_and_each_users_stay_in_order() {
        let id = |last: char| format!("OUT#01ARZ3NDEKTSV4RRFFQ69G5FA{last}");
        let mut records = vec![
            news("INSERT", "T#t#U#a", &id('A'), "1"),
            news("INSERT", "T#t#U#b", &id('B'), "2"),
            news("REMOVE", "T#t#U#b", &id('B'), "3"),
            news("MODIFY", "T#t#U#b", &id('B'), "4"),
            news("INSERT", "T#t#U#a", "USER", "5"),
            news("INSERT", "T#t", "TENANT", "6"),
            news("INSERT", "T#t#U#a", "OUT#no-id", "7"),
            news("INSERT", "T#t#U#a", &id('C'), "8"),
            news("INSERT", "T#u#U#a", &id('D'), "9"),
        ];
        records.extend([json!(null), json!(7), json!({ "eventName": "INSERT" })]);
        let batch = json!({ "Records": records }).to_string();
        let users = by_user(super::records(&batch));
        let order: Vec<Vec<_>> = users
            .iter()
            .map(|records| records.iter().map(|record| record.sequence.as_str()).collect())
            .collect();
        assert_eq!(order, [vec!["1", "8"], vec!["2", "4"], vec!["9"]]);
        for odd in ["", "null", "[]", "{}", r#"{"Records":{}}"#, "\u{0}"] {
            assert!(super::records(odd).is_empty(), "{odd}");
        }
    }
}
