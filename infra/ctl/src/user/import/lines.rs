//! Reads the lines of an import.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use anyhow::{Context as _, Result};
use doorward::{
    domain::{Failure, HashCost, TenantId, UserId},
    function::{SystemClock, SystemEntropy},
    port::Clock,
    store::NewUser,
};
use tokio::sync::mpsc::Sender;

use crate::{input::without_mark, user::user_record::UserRecord};

/// The file name that stands for standard input.
const STDIN: &str = "-";
/// Maximum bytes of a line, equal to the maximum of a request body.
const MAX_LINE_BYTES: u64 = 64 * 1024;
/// Error for a file that is not NDJSON.
const NOT_NDJSON: &str =
    "this is not NDJSON: the first line is not a JSON object; write one object per line (docs/users.md)";

/// A line of the file.
pub(super) struct InputLine {
    pub(super) number: u64,
    /// Position of its end in the file, in bytes.
    pub(super) read: u64,
    pub(super) user: Option<UserId>,
    pub(super) content: Result<NewUser, Failure>,
}

/// Opens the file. Returns its length in bytes if it is a regular file.
pub(super) fn opened(file: &Path) -> Result<(Box<dyn BufRead + Send>, Option<u64>)> {
    if file == Path::new(STDIN) {
        return Ok((Box::new(BufReader::new(io::stdin())), None));
    }
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let length = opened.metadata().ok().filter(std::fs::Metadata::is_file).map(|known| known.len());
    Ok((Box::new(BufReader::new(opened)), length))
}

/// Sends the lines of the source until its end, or until the receiver is closed.
pub(super) fn send_lines(
    mut source: Box<dyn BufRead + Send>,
    tenant: &TenantId,
    cost: HashCost,
    lines: &Sender<InputLine>,
) -> io::Result<()> {
    let (mut number, mut read, mut text, mut is_first) = (0, 0, Vec::new(), true);
    loop {
        text.clear();
        let length = source.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut text)?;
        if length == 0 {
            return Ok(());
        }
        number += 1;
        read += u64::try_from(length).unwrap_or(u64::MAX);
        let too_long = !text.ends_with(b"\n") && byte_count(&text) > MAX_LINE_BYTES;
        let line = if number == 1 { without_mark(&text) } else { &text }.trim_ascii_end();
        if !line.trim_ascii().is_empty() && std::mem::take(&mut is_first) && !is_object(line) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, NOT_NDJSON));
        }
        let content = if too_long {
            read += skip_line(&mut source)?;
            Err(Failure::field("line", "must be at most 64 KiB"))
        } else if line.trim_ascii().is_empty() {
            continue;
        } else {
            UserRecord::parse(line)
        };
        let user = content.as_ref().ok().map(|record| record.id().clone());
        let content =
            content.and_then(|record| record.into_new(tenant, cost, &SystemEntropy, SystemClock.now()));
        if lines.blocking_send(InputLine { number, read, user, content }).is_err() {
            return Ok(());
        }
    }
}

/// Returns whether a line may be a whole JSON object. The first line of a JSON array, an indented object, a
/// CSV file, a compressed file or a UTF-16 file is not one.
fn is_object(line: &[u8]) -> bool {
    line.trim_ascii_start().starts_with(b"{") && line.trim_ascii() != b"{" && !line.contains(&0)
}

fn byte_count(text: &[u8]) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

/// Skips the rest of a line. Returns its length in bytes.
fn skip_line(source: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffered = source.fill_buf()?;
        let end = buffered.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(buffered.len(), |end| end + 1);
        source.consume(length);
        skipped += u64::try_from(length).unwrap_or(u64::MAX);
        if end.is_some() || length == 0 {
            return Ok(skipped);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn read(text: &str) -> Vec<(u64, u64, bool)> {
        let (lines, mut read) = mpsc::channel(100);
        let source = Box::new(BufReader::with_capacity(7, io::Cursor::new(text.to_owned().into_bytes())));
        send_lines(source, &TenantId::parse("t").unwrap(), HashCost::default(), &lines).unwrap();
        drop(lines);
        std::iter::from_fn(|| read.blocking_recv())
            .map(|line| (line.number, line.read, line.content.is_ok()))
            .collect()
    }

    #[test]
    fn file_that_is_not_ndjson_is_one_error_and_sends_no_line() {
        let good = r#"{"id":"u","username":"n","organization":"o"}"#;
        let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for text in [
            format!("[{good}]").into_bytes(),
            format!("\n[\n{good}\n]").into_bytes(),
            b"{\n  \"id\": \"u\"\n}\n".to_vec(),
            b"id,username\nu,n\n".to_vec(),
            vec![0x1f, 0x8b, 8, 0],
            utf16,
            "x".repeat(100_000).into_bytes(),
        ] {
            let (lines, mut read) = mpsc::channel(100);
            let source = Box::new(io::Cursor::new(text.clone()));
            let sent = send_lines(source, &TenantId::parse("t").unwrap(), HashCost::default(), &lines);
            assert!(sent.unwrap_err().to_string().starts_with("this is not NDJSON"), "{text:?}");
            drop(lines);
            assert!(read.blocking_recv().is_none(), "{text:?}");
        }
    }

    #[test]
    fn byte_order_mark_is_skipped_on_the_first_line_only() {
        let good = r#"{"id": "u6", "username": "fay@example.com", "organization": "org"}"#;
        let text = format!("\u{feff}{good}\n\u{feff}{good}\n");
        let lines: Vec<_> = read(&text).into_iter().map(|(number, _, is_good)| (number, is_good)).collect();
        assert_eq!(lines, [(1, true), (2, false)]);
    }

    #[test]
    fn blank_and_invalid_lines_do_not_shift_line_numbers() {
        let good = r#"{"id":"u","username":"n","organization":"o"}"#;
        let length = u64::try_from(good.len()).unwrap();
        let text = format!("\n{good}\r\n  \nno\n{good}");
        let total = u64::try_from(text.len()).unwrap();
        assert_eq!(read(&text), [(2, length + 3, true), (4, length + 9, false), (5, total, true)]);
        assert!(read("").is_empty());
    }

    #[test]
    fn too_long_line_is_rejected_and_the_next_line_is_read() {
        let most = usize::try_from(MAX_LINE_BYTES).unwrap();
        let good = r#"{"id":"u","username":"n","organization":"o"}"#;
        let padded = |length: usize| format!("{}{good}", " ".repeat(length - good.len()));
        let results: Vec<_> = read(&format!("{}\n{}\n{good}\n", padded(most), padded(most * 3)))
            .into_iter()
            .map(|(number, _, is_good)| (number, is_good))
            .collect();
        assert_eq!(results, [(1, true), (2, false), (3, true)]);
    }
}
