//! One template made a message, at a bounded cost.
//!
//! Templates show values and choose between them: `{{ name }}`, `{% if … %}`, `elif`, `else`,
//! `endif`. Nothing that a tenant could write makes memory or time grow beyond its own length: the
//! form is judged before the engine sees it, the engine's fuel bounds the rest.

use minijinja::{AutoEscape, Environment, UndefinedBehavior};

use super::{Message, MessageKind, Values};
use crate::domain::{Medium, MessageTemplate};

/// Most bytes of a part of a template.
const MAX_BYTES: usize = 32 * 1024;
/// Most bytes between the braces of a tag.
const MAX_TAG_BYTES: usize = 120;
/// Deepest `if` within `if`, `elif` counted too.
const MAX_DEPTH: usize = 16;
/// Most steps of the engine for a part: the longest default takes about 50.
const FUEL: u64 = 2_000;
/// Most characters of a subject.
const MAX_SUBJECT_CHARS: usize = 200;

/// Why a template cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemplateFault {
    /// It is not of a language or message there is.
    #[error("is for no message, or not by a language tag")]
    UnknownName,
    /// A mail's has no subject.
    #[error("has no subject")]
    NoSubject,
    /// It is too long.
    #[error("has a part of more than 32 KiB")]
    TooLong,
    /// It does more than show values and choose between them.
    #[error("line {0}: only {{{{ value }}}} and {{% if %}}, elif, else, endif are read, 16 deep")]
    Form(usize),
    /// The engine did not take it: syntax, or a value that the message does not have.
    #[error("line {line}: {what}")]
    Engine {
        /// Where.
        line: usize,
        /// What, in the engine's words.
        what: minijinja::ErrorKind,
    },
}

/// Renders the parts of a template.
pub(super) fn render(
    kind: MessageKind,
    template: &MessageTemplate,
    locale: &str,
    values: &Values<'_>,
) -> Result<Message, TemplateFault> {
    let MessageTemplate { subject, text, html } = template;
    let named = values.named(locale);
    let part = |name: &str, source: &str| {
        judge(source)?;
        environment().render_named_str(name, source, named.clone()).map_err(|error| TemplateFault::Engine {
            line: error.line().unwrap_or_default(),
            what: error.kind(),
        })
    };
    let text = part("text", text)?;
    if kind.medium() == Medium::Text {
        return Ok(Message { subject: String::new(), text, html: None });
    }
    let subject = part("subject", subject.as_deref().ok_or(TemplateFault::NoSubject)?)?;
    let html = html.as_deref().map(|html| part(HTML, html)).transpose()?;
    Ok(Message { subject: one_line(&subject), text, html })
}

/// The part in which values are escaped.
const HTML: &str = "html";

/// An engine without filters, tests or functions.
fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(
        |name| {
            if name == HTML { AutoEscape::Html } else { AutoEscape::None }
        },
    );
    environment
}

/// Whether a source has the form of the little language above. Read more narrowly than the engine
/// does: nothing that could end a tag early or late, or begin a comment, is taken inside one.
fn judge(source: &str) -> Result<(), TemplateFault> {
    if source.len() > MAX_BYTES {
        return Err(TemplateFault::TooLong);
    }
    let mut open_ifs = Vec::new();
    let mut rest = source;
    while let Some((_, after_brace)) = rest.split_once('{') {
        let read = source.len() - after_brace.len();
        let refused = || TemplateFault::Form(source.get(..read).map_or(0, |read| read.lines().count()));
        rest = match after_brace.bytes().next() {
            Some(b'{') => tag(after_brace, "}}").ok_or_else(refused)?.1,
            Some(b'%') => {
                let (statement, after) = tag(after_brace, "%}").ok_or_else(refused)?;
                follow(statement, &mut open_ifs).ok_or_else(refused)?;
                after
            }
            Some(b'#') => return Err(refused()),
            _ => after_brace,
        };
    }
    Ok(())
}

/// What a tag holds and what comes after it, if it holds nothing but names, comparisons and texts.
fn tag<'a>(from: &'a str, close: &str) -> Option<(&'a str, &'a str)> {
    let (inner, after) = from.get(1..)?.split_once(close)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b" \n_.=!\"-".contains(&byte);
    let is_whole = inner.matches('"').count() % 2 == 0;
    (inner.len() <= MAX_TAG_BYTES && is_whole && inner.bytes().all(is_plain)).then_some((inner, after))
}

/// Follows the nesting of `if`s: of each open one, how deep its `elif`s made it.
fn follow(statement: &str, open_ifs: &mut Vec<usize>) -> Option<()> {
    let words = statement.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    match words.into_iter().find(|word| !word.is_empty())? {
        "if" => open_ifs.push(1),
        "elif" => *open_ifs.last_mut()? += 1,
        "else" => {}
        "endif" => drop(open_ifs.pop()?),
        _ => return None,
    }
    (open_ifs.iter().sum::<usize>() <= MAX_DEPTH).then_some(())
}

/// A subject as one line, at its greatest length.
fn one_line(text: &str) -> String {
    let is_space = |letter: char| letter.is_whitespace() || letter.is_control();
    let words: Vec<_> = text.split(is_space).filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(MAX_SUBJECT_CHARS).collect()
}
