//! Batches of audit log lines from a CloudWatch Logs subscription.
//!
//! This function writes no audit events, because they would trigger it again without end.

use std::{io::Read, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::Instrument;

use super::{Config, Error, SystemClock, catch_panic, run, start_logs};
use crate::{
    aws,
    domain::Failure,
    route::Function,
    store::DynamoStore,
    usecase::anchor_audit::{Anchorer, Outcome},
};

/// Maximum size of an unpacked batch. CloudWatch Logs sends at most 1 MiB of compressed data, about 10 to 20 MB of
/// audit lines. The limit rejects data that was compressed to expand a thousandfold.
const MAX_UNPACKED_BYTES: u64 = 32 * 1024 * 1024;

/// Builds the function's client and serves its batches.
///
/// # Errors
/// The configuration is incomplete, or the Runtime API is gone.
pub async fn serve() -> Result<(), Error> {
    start_logs();
    let config = Config::from_env()?;
    let sdk = aws::sdk_config().await;
    let store = DynamoStore::new(aws_sdk_dynamodb::Client::new(&sdk), config.table);
    let anchoring = Anchoring::new(Arc::new(Anchorer::new(Arc::new(store), Arc::new(SystemClock))));
    run(anchoring, |anchoring, event, request_id| async move { anchoring.answer(&event, &request_id).await })
        .await
}

/// The function with its clients. `main` and the tests share it.
#[derive(Clone)]
pub struct Anchoring(Arc<Anchorer>);

impl Anchoring {
    /// A function that stores chain heads with `anchorer`.
    pub fn new(anchorer: Arc<Anchorer>) -> Self {
        Self(anchorer)
    }

    /// Stores the chain heads of a batch.
    ///
    /// # Errors
    /// The batch cannot be read, or not all of its heads could be stored. Lambda then retries the whole batch, and at
    /// last moves it to the failure destination. No batch is skipped.
    pub async fn answer(&self, event: &str, request_id: &str) -> Result<Value, Error> {
        let anchored = catch_panic(async {
            let lines = unpack(event)?;
            self.0.anchor(lines.iter().map(|event| event.message.as_str())).await
        });
        let anchored = async {
            anchored.await.inspect_err(|cause| {
                tracing::error!(outcome = cause.name(), %cause, "audit.not_anchored");
            })
        };
        let span = tracing::info_span!("anchoring", request_id, function = Function::AnchorAudit.name());
        let Outcome { events, chains, faulty } = anchored.instrument(span).await?;
        Ok(json!({ "events": events, "chains": chains, "faulty": faulty }))
    }
}

#[derive(Deserialize)]
struct Envelope {
    awslogs: Packed,
}

#[derive(Deserialize)]
struct Packed {
    data: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogBatch {
    message_type: String,
    #[serde(default)]
    log_events: Vec<LogEvent>,
}

#[derive(Deserialize)]
struct LogEvent {
    message: String,
}

/// Unpacks the lines of a batch: JSON, compressed with gzip (RFC 1952), in base64, in JSON. A control message has no
/// lines.
fn unpack(event: &str) -> Result<Vec<LogEvent>, Failure> {
    let unreadable = |what: &'static str| Failure::Internal(what.into());
    let envelope: Envelope =
        serde_json::from_str(event).map_err(|_| unreadable("the batch is not a CloudWatch Logs event"))?;
    let packed = STANDARD.decode(envelope.awslogs.data).map_err(|_| unreadable("the batch is not base64"))?;
    let mut unpacked = Vec::new();
    let mut reader = GzDecoder::new(packed.as_slice()).take(MAX_UNPACKED_BYTES + 1);
    reader.read_to_end(&mut unpacked).map_err(|_| unreadable("the batch is not gzip"))?;
    if u64::try_from(unpacked.len()).unwrap_or(u64::MAX) > MAX_UNPACKED_BYTES {
        return Err(unreadable("the unpacked batch is larger than 32 MiB"));
    }
    let batch: LogBatch =
        serde_json::from_slice(&unpacked).map_err(|_| unreadable("the batch holds no log events"))?;
    match batch.message_type.as_str() {
        "DATA_MESSAGE" => Ok(batch.log_events),
        "CONTROL_MESSAGE" => Ok(Vec::new()),
        _ => Err(unreadable("the batch is of an unknown type")),
    }
}
