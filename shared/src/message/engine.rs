//! Renders a template with limited memory and time.
//!
//! Templates can contain `{{ name }}`, `{% if … %}`, `elif`, `else` and `endif`. Tenants write templates, so that
//! their cost must be limited: [`check_form`] rejects other constructs before the engine parses the template, and
//! the engine's fuel limits the number of steps.

use minijinja::{AutoEscape, Environment, UndefinedBehavior};

use super::{Message, MessageKind, Values};
use crate::domain::{Medium, MessageTemplate};

/// Maximum length of a template part in bytes.
const MAX_BYTES: usize = 32 * 1024;
/// Maximum length of a tag in bytes, without the braces.
const MAX_TAG_BYTES: usize = 120;
/// Maximum nesting depth of `if` and `elif`.
const MAX_DEPTH: usize = 16;
/// Maximum number of engine steps for a part. The longest default template takes about 50.
const FUEL: u64 = 2_000;
/// Maximum length of a subject in characters.
const MAX_SUBJECT_CHARS: usize = 200;

/// The reason why a template is unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemplateFault {
    /// The language tag is invalid, or the message does not exist.
    #[error("unknown message name, or invalid language tag")]
    UnknownName,
    /// A mail template has no subject.
    #[error("the subject is missing")]
    NoSubject,
    /// A part is too long.
    #[error("a part exceeds 32 KiB")]
    TooLong,
    /// The template contains a construct that is not supported.
    #[error(
        "line {0}: only {{{{ value }}}}, {{% if %}}, elif, else and endif are supported, up to 16 levels deep"
    )]
    Form(usize),
    /// The engine rejected the template: wrong syntax, or a value that the message does not have.
    #[error("line {line}: {what}")]
    Engine {
        /// Line number.
        line: usize,
        /// Error of the engine.
        what: minijinja::ErrorKind,
    },
}

/// Renders all parts of a template.
pub(super) fn render(
    kind: MessageKind,
    template: &MessageTemplate,
    locale: &str,
    values: &Values<'_>,
) -> Result<Message, TemplateFault> {
    let MessageTemplate { subject, text, html } = template;
    let named = values.named(locale);
    let part = |name: &str, source: &str| {
        check_form(source)?;
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

/// Name of the part in which values are escaped.
const HTML: &str = "html";

/// Creates an engine without filters, tests and functions.
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

/// Checks that a source uses only the supported constructs. The check is stricter than the engine: tags cannot
/// contain characters that could end a tag or start a comment.
fn check_form(source: &str) -> Result<(), TemplateFault> {
    if source.len() > MAX_BYTES {
        return Err(TemplateFault::TooLong);
    }
    let mut open_ifs = Vec::new();
    let mut rest = source;
    while let Some((_, after_brace)) = rest.split_once('{') {
        let read = source.len() - after_brace.len();
        let unsupported = || TemplateFault::Form(source.get(..read).map_or(0, |read| read.lines().count()));
        rest = match after_brace.bytes().next() {
            Some(b'{') => tag(after_brace, "}}").ok_or_else(unsupported)?.1,
            Some(b'%') => {
                let (statement, after) = tag(after_brace, "%}").ok_or_else(unsupported)?;
                follow(statement, &mut open_ifs).ok_or_else(unsupported)?;
                after
            }
            Some(b'#') => return Err(unsupported()),
            _ => after_brace,
        };
    }
    Ok(())
}

/// Returns the content of a tag and the text after it, if the tag contains only names, comparisons and strings.
fn tag<'a>(from: &'a str, close: &str) -> Option<(&'a str, &'a str)> {
    let (inner, after) = from.get(1..)?.split_once(close)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b" \n_.=!\"-".contains(&byte);
    let is_whole = inner.matches('"').count() % 2 == 0;
    (inner.len() <= MAX_TAG_BYTES && is_whole && inner.bytes().all(is_plain)).then_some((inner, after))
}

/// Tracks nested `if` statements. `open_ifs` has one element per open `if`: its number of branches so far.
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

/// Joins a subject to one line and truncates it to the maximum length.
fn one_line(text: &str) -> String {
    let is_space = |letter: char| letter.is_whitespace() || letter.is_control();
    let words: Vec<_> = text.split(is_space).filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(MAX_SUBJECT_CHARS).collect()
}
