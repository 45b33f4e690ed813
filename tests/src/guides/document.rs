//! The commands and the documented outputs of a Markdown file.
//!
//! - A fenced block `sh` is run.
//! - A fenced block `text` or `json` directly after it, with only blank lines between, is its expected output.
//! - The comment `<!-- not run: REASON -->` on the line before an `sh` block excludes that block and its output.
//!
//! Other blocks are not commands and are ignored.

use anyhow::{Context, Result, bail, ensure};

/// A Markdown file, split into lines.
pub(crate) struct Document {
    /// Path relative to the repository.
    pub(crate) path: String,
    lines: Vec<String>,
    pub(crate) blocks: Vec<Block>,
}

/// One `sh` block.
#[derive(Debug)]
pub(crate) struct Block {
    /// Line number of the opening fence, from 1.
    pub(crate) line: usize,
    pub(crate) script: String,
    pub(crate) expected: Option<Expected>,
    /// Reason of a block that is not run.
    pub(crate) not_run: Option<String>,
}

/// The documented output of a block.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) format: Format,
    pub(crate) text: String,
    /// Index of the first line of the text, from 0.
    first: usize,
}

/// How an output is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Line by line.
    Text,
    /// As a sequence of JSON values. Line breaks and the order of members are ignored.
    Json,
}

/// A fenced block.
struct Fence {
    info: String,
    text: String,
    /// Index of the opening fence.
    open: usize,
    /// Index of the closing fence.
    close: usize,
}

const FENCE: &str = "```";
const NOT_RUN: &str = "<!-- not run:";

impl Document {
    /// Parses a file.
    pub(crate) fn parse(path: String, text: &str) -> Result<Self> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let fences = fences(&lines).with_context(|| path.clone())?;
        let mut blocks = Vec::new();
        for (index, fence) in fences.iter().enumerate() {
            let line = fence.open + 1;
            ensure!(
                fence.info != "bash" && fence.info != "console",
                "{path}:{line}: mark commands with `sh`"
            );
            if fence.info != "sh" {
                continue;
            }
            let next = fences.get(index + 1).filter(|next| {
                let between = lines.get(fence.close + 1..next.open).unwrap_or_default();
                between.iter().all(|line| line.trim().is_empty())
            });
            let format = next.and_then(|next| match next.info.as_str() {
                "text" => Some(Format::Text),
                "json" => Some(Format::Json),
                _ => None,
            });
            let expected = next.zip(format).map(|(next, format)| Expected {
                format,
                text: next.text.clone(),
                first: next.open + 1,
            });
            let before = fence.open.checked_sub(1).and_then(|before| lines.get(before));
            let not_run = before.and_then(|before| before.strip_prefix(NOT_RUN));
            let not_run = not_run.and_then(|rest| rest.strip_suffix("-->")).map(|it| it.trim().to_owned());
            ensure!(not_run.as_deref() != Some(""), "{path}:{line}: `not run` needs a reason");
            blocks.push(Block { line, script: fence.text.clone(), expected, not_run });
        }
        Ok(Self { path, lines, blocks })
    }

    /// Returns the Markdown with new outputs: pairs of the index of a block and its output.
    pub(crate) fn with_outputs(&self, outputs: &[(usize, String)]) -> String {
        let mut lines = self.lines.clone();
        for (index, output) in outputs.iter().rev() {
            let expected = self.blocks.get(*index).and_then(|block| block.expected.as_ref());
            if let Some(Expected { text, first, .. }) = expected {
                let end = first + text.lines().count();
                lines.splice(*first..end, output.lines().map(str::to_owned));
            }
        }
        lines.join("\n") + "\n"
    }

    /// Returns everything except documented outputs, to find out which values are fixed.
    pub(crate) fn scripts(&self) -> String {
        self.blocks.iter().map(|block| block.script.as_str()).collect()
    }
}

fn fences(lines: &[String]) -> Result<Vec<Fence>> {
    let mut fences = Vec::new();
    let mut open: Option<(usize, &str)> = None;
    for (index, line) in lines.iter().enumerate() {
        match (open, line.strip_prefix(FENCE)) {
            (None, Some(info)) => open = Some((index, info.trim())),
            (Some((begun, info)), Some("")) => {
                let text: String =
                    lines.iter().take(index).skip(begun + 1).flat_map(|it| [it, "\n"]).collect();
                fences.push(Fence { info: info.to_owned(), text, open: begun, close: index });
                open = None;
            }
            _ => {}
        }
    }
    if let Some((begun, _)) = open {
        bail!("the block in line {} is not closed", begun + 1);
    }
    Ok(fences)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# Guide
```sh
echo a
```

```text
a
```
Prose.
<!-- not run: needs AWS -->
```sh
aws
```
```json
{}
```
";

    #[test]
    fn commands_and_their_outputs_are_found() {
        let document = Document::parse("guide.md".to_owned(), TEXT).unwrap();
        let [first, second] = document.blocks.as_slice() else { panic!("{:?}", document.blocks) };
        assert_eq!((first.line, first.script.as_str()), (2, "echo a\n"));
        assert_eq!(first.expected.as_ref().unwrap().text, "a\n");
        assert_eq!(first.not_run, None);
        assert_eq!(second.not_run.as_deref(), Some("needs AWS"));
        assert_eq!(second.expected.as_ref().unwrap().format, Format::Json);
    }

    #[test]
    fn new_outputs_replace_only_the_outputs() {
        let document = Document::parse("guide.md".to_owned(), TEXT).unwrap();
        let written = document.with_outputs(&[(0, "b\nc\n".to_owned()), (1, "[]\n".to_owned())]);
        assert_eq!(written, TEXT.replace("\na\n", "\nb\nc\n").replace("{}", "[]"));
    }

    #[test]
    fn unclosed_block_and_missing_reason_are_rejected() {
        for text in ["```sh\necho\n", "<!-- not run: -->\n```sh\n```\n", "```console\n```\n"] {
            assert!(Document::parse("guide.md".to_owned(), text).is_err(), "{text}");
        }
    }
}
