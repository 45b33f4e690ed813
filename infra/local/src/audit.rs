//! The functions' audit log on this machine: kept in a file, and handed to the function that anchors it,
//! as CloudWatch Logs and a subscription do.
//!
//! It is read where CloudWatch reads it, from what the functions write to their standard output; every
//! line goes on to the terminal as it is.

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
use doorward::{audit::MARK, port::Clock, runtime::SystemClock};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use crate::{
    invoke::{Function, InvokeError},
    stack::make_private_dir,
};

/// Most events that are handed over at once.
const BATCH: usize = 500;
/// Pauses between tries of a batch double, from this one.
pub const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// To this one; no batch is given up.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Where audit lines go.
#[derive(Debug, Clone)]
pub struct AuditLog {
    file: Arc<Mutex<File>>,
    news: UnboundedSender<String>,
}

/// The log's file; one that is to end with its stack is removed with this value.
#[derive(Debug)]
pub struct AuditFile {
    path: PathBuf,
    ends: bool,
}

impl AuditFile {
    /// One that is kept, and gone on with.
    #[must_use]
    pub fn kept(path: PathBuf) -> Self {
        Self { path, ends: false }
    }

    /// One that begins and ends with this stack.
    #[must_use]
    pub fn passing(path: PathBuf) -> Self {
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
    /// A log in that file, and what is to be anchored of it.
    ///
    /// # Errors
    /// When the file cannot be written to.
    pub fn open(file: &AuditFile) -> Result<(Self, UnboundedReceiver<String>)> {
        let open = || -> Result<File> {
            make_private_dir(file.path.parent().context("it has no folder")?)?;
            Ok(File::options().create(true).append(true).mode(0o600).open(&file.path)?)
        };
        let opened = open().with_context(|| format!("cannot write to {}", file.path.display()))?;
        let (news, anchored) = unbounded_channel();
        Ok((Self { file: Arc::new(Mutex::new(opened)), news }, anchored))
    }

    /// Passes on everything that a function, or whoever started it, writes, to its end.
    pub fn follow(&self, output: impl AsyncRead + Unpin + Send + 'static) {
        let log = self.clone();
        // Not given up with the stack: whoever writes must not find nobody reading.
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
            crate::ui::to_stderr(&format!("an audit event could not be kept: {error}"));
        }
        drop(file);
        // Nobody listens once the stack ends.
        drop(self.news.send(event.to_owned()));
    }
}

/// Hands over what comes, until it is dropped. What fails is tried again: nothing is passed over.
///
/// # Errors
/// When an event cannot be packed.
pub async fn anchor(
    mut news: UnboundedReceiver<String>,
    function: &impl Function,
    first_pause: Duration,
) -> Result<Infallible> {
    let mut lines = Vec::new();
    loop {
        if news.recv_many(&mut lines, BATCH).await == 0 {
            // Every log is gone: nothing comes any more.
            std::future::pending::<()>().await;
        }
        let event = batch(&lines)?;
        let mut pause = first_pause;
        while let Err(InvokeError::Unreachable(reason) | InvokeError::Failed(reason)) =
            function.invoke(event.clone()).await
        {
            crate::ui::to_stderr(&format!("the audit log is not anchored yet: {reason}"));
            tokio::time::sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
        lines.clear();
    }
}

/// These lines as CloudWatch Logs sends them.
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

/// What CloudWatch Logs sends to try whether a function is there.
///
/// # Errors
/// When it cannot be packed.
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

    /// Fails once, then tells what it is given.
    struct Anchorer {
        tries: AtomicUsize,
        given: UnboundedSender<String>,
    }

    impl Function for Anchorer {
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
    async fn events_are_kept_and_handed_over_and_nothing_else() {
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
    fn a_passing_file_goes_with_its_stack_and_a_kept_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.ndjson");
        std::fs::write(&path, "of a run that was killed\n").unwrap();
        let passing = AuditFile::passing(path.clone());
        AuditLog::open(&passing).unwrap().0.take("{\"audit\":1}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"audit\":1}\n");
        drop(passing);
        assert!(!path.exists());
        let kept = AuditFile::kept(path.clone());
        AuditLog::open(&kept).unwrap().0.take("{\"audit\":1}");
        drop(kept);
        assert!(path.exists());
    }
}
