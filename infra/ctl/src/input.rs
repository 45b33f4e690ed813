//! Text that operators supply.

/// UTF-8 byte order mark, which some editors and shells write at the start of a file.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Returns the text after a byte order mark.
pub(crate) fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// Returns the line and the column, in characters, of a JSON error. Both exist in `text`, unlike those of `serde_json` at
/// the end of a line.
pub(crate) fn position(text: &[u8], error: &serde_json::Error) -> (usize, usize) {
    let (line, column) = match error.column() {
        0 => (error.line().saturating_sub(1).max(1), usize::MAX),
        column => (error.line(), column),
    };
    let found = text.split(|byte| *byte == b'\n').nth(line - 1).unwrap_or_default().trim_ascii_end();
    let before = found.get(..column).unwrap_or(found);
    (line, String::from_utf8_lossy(before).chars().count().max(1))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn position_of_a_json_error_exists_in_the_text() {
        for (text, expected) in [
            ("{", (1, 1)),
            ("{\n", (1, 1)),
            ("{\r\n", (1, 1)),
            ("{\"a\": 1,\n\"ü\": x}", (2, 6)),
            ("{\"a\": \"b\n\"}", (1, 8)),
            ("{\n\"a\": 1\n", (2, 6)),
        ] {
            let text = text.trim_end().as_bytes();
            let error = serde_json::from_slice::<Value>(text).unwrap_err();
            assert_eq!(position(text, &error), expected, "{}", String::from_utf8_lossy(text));
        }
    }
}
