//! The audit log in memory, and batches of it in the format of CloudWatch Logs.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Result, anyhow};
use base64::{Engine, engine::general_purpose::STANDARD};
use doorward::{
    audit::{Audit, Sink},
    function::SystemEntropy,
    port::Clock,
};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::World;

/// A sink that stores all lines.
#[derive(Debug, Default)]
pub struct AuditLog(Mutex<Vec<String>>);

impl AuditLog {
    /// All lines, without newlines.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All events.
    pub fn events(&self) -> Vec<Value> {
        self.lines().iter().map(|line| serde_json::from_str(line).unwrap_or_default()).collect()
    }

    /// Outcome and reason of the last event, such as `INVALID_TOKEN SESSION_GONE`. The response does not disclose the
    /// reason.
    pub fn verdict(&self) -> String {
        let event = self.last();
        let words = [&event["outcome"], &event["reason"]].map(|word| word.as_str().unwrap_or_default());
        words.join(" ").trim_end().to_owned()
    }

    /// The last event, or null.
    pub fn last(&self) -> Value {
        self.events().pop().unwrap_or_default()
    }
}

impl Sink for AuditLog {
    fn write(&self, line: &str) -> io::Result<()> {
        let line = line.strip_suffix('\n').ok_or(io::ErrorKind::InvalidData)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
        Ok(())
    }
}

/// The audit log of another process, which writes to `log`.
///
/// # Errors
/// When the system has no randomness.
pub(crate) fn audit(log: &Arc<AuditLog>, clock: &dyn Clock) -> Result<Arc<Audit>> {
    let audit = Audit::new(log.clone(), clock, &SystemEntropy).map_err(|failure| anyhow!("{failure}"))?;
    Ok(Arc::new(audit))
}

/// The event in which CloudWatch Logs sends a batch to a function.
///
/// # Errors
/// When the batch cannot be compressed.
pub fn packed(batch: &Value) -> Result<Value> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    packer.write_all(batch.to_string().as_bytes())?;
    Ok(json!({ "awslogs": { "data": STANDARD.encode(packer.finish()?) } }))
}

/// A batch with these lines.
pub fn batch(lines: &[String]) -> Value {
    let events = lines.iter().enumerate().map(|(place, line)| {
        json!({ "id": format!("{place:056}"), "timestamp": 1_900_000_000_974_i64, "message": line })
    });
    json!({
        "messageType": "DATA_MESSAGE",
        "owner": "123456789012",
        "logGroup": "/aws/lambda/create-session",
        "logStream": "2030/03/17/[$LATEST]94fa867e5374431291a7fc14e2f56ae7",
        "subscriptionFilters": ["audit"],
        "logEvents": events.collect::<Vec<_>>(),
    })
}

impl World {
    /// Sends an event of CloudWatch Logs to the function that stores anchors.
    ///
    /// # Errors
    /// When the function fails; CloudWatch Logs then sends the event again.
    pub async fn anchor(&self, event: &Value) -> Result<Value> {
        self.anchoring.answer(&event.to_string(), "e2e-request").await.map_err(|error| anyhow!("{error}"))
    }

    /// Stores the anchors of these lines.
    ///
    /// # Errors
    /// As [`Self::anchor`].
    pub async fn anchor_lines(&self, lines: &[String]) -> Result<Value> {
        self.anchor(&packed(&batch(lines))?).await
    }
}
