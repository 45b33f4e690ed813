//! The functions' audit log on this machine.
//!
//! Reads the functions' standard output, as CloudWatch Logs does. Every line goes to the terminal.
//! Audit events also go to a file and to the function that anchors them, as a subscription of
//! CloudWatch Logs would send them.

use std::{
    convert::Infallible,
    fs::File,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use doorward::{audit::MARK, function::SystemClock, port::Clock};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use crate::{
    invoke::{InvokeError, LambdaFunction},
    stack::make_private_dir,
};

/// Name of the audit log in the data folder.
pub(crate) const FILE: &str = "audit.ndjson";
/// Maximum number of events in one invocation.
const BATCH: usize = 500;
/// First pause after a failed invocation. Pauses double up to `LONGEST_PAUSE`.
pub const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause after a failed invocation. Retries have no limit.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Destination of audit events.
#[derive(Debug, Clone)]
pub struct AuditLog {
    file: Arc<Mutex<File>>,
    news: UnboundedSender<String>,
}

/// File of the audit log.
#[derive(Debug)]
pub struct AuditFile {
    path: PathBuf,
    ends: bool,
}

impl AuditFile {
    /// A file that is kept. New events are appended.
    #[must_use]
    pub fn kept(path: PathBuf) -> Self {
        Self { path, ends: false }
    }

    /// A file that is emptied now and removed when this value is dropped.
    #[must_use]
    pub fn temporary(path: PathBuf) -> Self {
        drop(std::fs::remove_file(&path));
        Self { path, ends: true }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for AuditFile {
    fn drop(&mut self) {
        if self.ends {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

impl AuditLog {
    /// Opens a log. Also returns the receiver of its events, for [`anchor`].
    ///
    /// # Errors
    /// When the file cannot be written to.
    pub fn open(file: &AuditFile) -> Result<(Self, UnboundedReceiver<String>)> {
        let open = || -> Result<File> {
            make_private_dir(file.path.parent().context("the path has no folder")?)?;
            Ok(File::options().create(true).append(true).mode(0o600).open(&file.path)?)
        };
        let opened = open().with_context(|| format!("cannot write to {}", file.path.display()))?;
        let (news, anchored) = unbounded_channel();
        Ok((Self { file: Arc::new(Mutex::new(opened)), news }, anchored))
    }

    /// Copies `output` to the terminal, and its audit events to the log, until `output` ends.
    pub fn follow(&self, output: impl AsyncRead + Unpin + Send + 'static) {
        let log = self.clone();
        // A separate task, because a process blocks when no reader empties its pipe.
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).split(b'\n');
            while let Ok(Some(line)) = lines.next_segment().await {
                let line = String::from_utf8_lossy(&line);
                crate::ui::to_stderr(&line);
                log.take(&line);
            }
        });
    }

    fn take(&self, line: &str) {
        let Some(at) = line.find(MARK) else {
            return;
        };
        let event = line.get(at..).unwrap_or_default();
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(format!("{event}\n").as_bytes()) {
            crate::ui::to_stderr(&format!("cannot write an audit event to the log file: {error}"));
        }
        drop(file);
        // Sending fails only when the stack is stopping.
        drop(self.news.send(event.to_owned()));
    }
}

/// Sends events to the function until this future is dropped. Failed invocations are repeated, so
/// that no event is lost.
///
/// # Errors
/// When an event cannot be compressed.
pub async fn anchor(
    mut news: UnboundedReceiver<String>,
    function: &impl LambdaFunction,
    first_pause: Duration,
) -> Result<Infallible> {
    let mut lines = Vec::new();
    loop {
        if news.recv_many(&mut lines, BATCH).await == 0 {
            // All senders are gone, so no event can arrive.
            std::future::pending::<()>().await;
        }
        let event = batch(&lines)?;
        let mut pause = first_pause;
        while let Err(InvokeError::Unreachable(reason) | InvokeError::Failed(reason)) =
            function.invoke(event.clone()).await
        {
            crate::ui::to_stderr(&format!("cannot anchor the audit log, will retry: {reason}"));
            tokio::time::sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
        lines.clear();
    }
}

/// Formats lines as an event of CloudWatch Logs.
fn batch(lines: &[String]) -> Result<Vec<u8>> {
    let now = SystemClock.now().as_millisecond();
    let events = lines.iter().map(|line| json!({ "id": "", "timestamp": now, "message": line }));
    packed(&json!({
        "messageType": "DATA_MESSAGE",
        "owner": "000000000000",
        "logGroup": "local",
        "logStream": "local",
        "subscriptionFilters": ["audit"],
        "logEvents": events.collect::<Vec<_>>(),
    }))
}

/// Event that CloudWatch Logs sends to check that a function exists.
///
/// # Errors
/// When the event cannot be compressed.
pub fn control_message() -> Result<Vec<u8>> {
    packed(&json!({ "messageType": "CONTROL_MESSAGE", "logEvents": [] }))
}

fn packed(batch: &Value) -> Result<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(batch.to_string().as_bytes())?;
    let event = json!({ "awslogs": { "data": STANDARD.encode(packer.finish()?) } });
    Ok(event.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Bytes;
    use flate2::read::GzDecoder;
    use std::{
        io::Read,
        sync::atomic::{AtomicUsize, Ordering},
    };
    use tokio::io::AsyncWriteExt;

    /// Fails once, then sends each received line to a channel.
    struct Anchorer {
        tries: AtomicUsize,
        given: UnboundedSender<String>,
    }

    impl LambdaFunction for Anchorer {
        async fn invoke(&self, event: Vec<u8>) -> Result<Bytes, InvokeError> {
            if self.tries.fetch_add(1, Ordering::SeqCst) == 0 {
                return Err(InvokeError::Failed("not now".into()));
            }
            let event: Value = serde_json::from_slice(&event).unwrap();
            let packed = STANDARD.decode(event["awslogs"]["data"].as_str().unwrap()).unwrap();
            let mut text = String::new();
            GzDecoder::new(packed.as_slice()).read_to_string(&mut text).unwrap();
            let batch: Value = serde_json::from_str(&text).unwrap();
            for event in batch["logEvents"].as_array().unwrap() {
                self.given.send(event["message"].as_str().unwrap().to_owned()).unwrap();
            }
            Ok(Bytes::new())
        }
    }

    #[tokio::test]
    async fn only_audit_events_are_stored_and_anchored() {
        let folder = tempfile::tempdir().unwrap();
        let file = AuditFile::kept(folder.path().join("deep/audit.ndjson"));
        let (log, news) = AuditLog::open(&file).unwrap();
        let (mut writer, reader) = tokio::io::duplex(64);
        log.follow(reader);
        let text = "compiling\n{\"audit\":1,\"a\":1}\nfn | {\"audit\":1,\"b\":2}\n{\"level\":\"INFO\"}\n";
        writer.write_all(text.as_bytes()).await.unwrap();
        drop(writer);
        let (given, mut taken) = unbounded_channel();
        let function = Anchorer { tries: AtomicUsize::new(0), given };
        let both = async { [taken.recv().await.unwrap(), taken.recv().await.unwrap()] };
        let both = tokio::select! {
            failed = anchor(news, &function, Duration::from_millis(1)) => panic!("{failed:?}"),
            both = both => both,
        };
        assert_eq!(both, ["{\"audit\":1,\"a\":1}", "{\"audit\":1,\"b\":2}"]);
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), both.join("\n") + "\n");
    }

    #[test]
    fn temporary_file_is_removed_and_kept_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.ndjson");
        std::fs::write(&path, "left by a killed run\n").unwrap();
        let temporary = AuditFile::temporary(path.clone());
        AuditLog::open(&temporary).unwrap().0.take("{\"audit\":1}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"audit\":1}\n");
        drop(temporary);
        assert!(!path.exists());
        let kept = AuditFile::kept(path.clone());
        AuditLog::open(&kept).unwrap().0.take("{\"audit\":1}");
        drop(kept);
        assert!(path.exists());
    }
}
