//! Finds links in the text and HTML parts of a mail.

use url::Url;

/// Part of a text: either one link, or the text between links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextSpan<'a> {
    pub(crate) text: &'a str,
    pub(crate) is_link: bool,
}

/// Returns the links of a mail without duplicates: first those of the text, then those of the HTML.
pub(crate) fn of_mail(text: Option<&str>, html: Option<&str>) -> Vec<String> {
    let in_text = spans(text.unwrap_or_default())
        .into_iter()
        .filter(|span| span.is_link)
        .map(|span| span.text.to_owned());
    let mut links = Vec::new();
    for link in in_text.chain(of_html(html.unwrap_or_default())) {
        if !links.contains(&link) {
            links.push(link);
        }
    }
    links
}

/// Splits a text into links and the text between them. The spans joined are the whole text.
pub(crate) fn spans(text: &str) -> Vec<TextSpan<'_>> {
    let mut cut = Vec::new();
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end_matches(char::is_whitespace);
        let begin = ["https://", "http://"].iter().filter_map(|scheme| word.find(scheme)).min();
        let found = begin.and_then(|begin| {
            let (before, rest) = piece.split_at_checked(begin)?;
            // Punctuation at the end of a sentence and closing brackets do not belong to a link.
            let link =
                rest.trim_end().trim_end_matches(['.', ',', ';', ':', '!', '?', ')', '>', ']', '"', '\'']);
            is_web(link).then_some((before, link, rest.strip_prefix(link)?))
        });
        match found {
            Some((before, link, after)) => {
                add(&mut cut, text, before);
                cut.push(TextSpan { text: link, is_link: true });
                add(&mut cut, text, after);
            }
            None => add(&mut cut, text, piece),
        }
    }
    cut
}

/// Adds text that is not a link. Joins it with the last span, its neighbour in `whole`, if possible.
fn add<'a>(cut: &mut Vec<TextSpan<'a>>, whole: &'a str, piece: &'a str) {
    if piece.is_empty() {
        return;
    }
    let joined = cut.last().filter(|last| !last.is_link).and_then(|last| {
        let begin = last.text.as_ptr().addr() - whole.as_ptr().addr();
        whole.get(begin..begin + last.text.len() + piece.len())
    });
    match (joined, cut.last_mut()) {
        (Some(joined), Some(last)) => last.text = joined,
        _ => cut.push(TextSpan { text: piece, is_link: false }),
    }
}

/// Returns the links in `href` attributes, in the order of the document.
fn of_html(html: &str) -> Vec<String> {
    let mut links = Vec::new();
    for rest in html.split("href=").skip(1) {
        let value = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => rest.split(quote).nth(1),
            _ => rest.split([' ', '>']).next(),
        };
        let link = unescaped(value.unwrap_or_default());
        if is_web(&link) {
            links.push(link);
        }
    }
    links
}

/// Replaces the character references that templates write. Keeps unknown ones.
fn unescaped(value: &str) -> String {
    let mut pieces = value.split('&');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let referred = piece.split_once(';').and_then(|(name, rest)| Some((character(name)?, rest)));
        if let Some((character, rest)) = referred {
            plain.push(character);
            plain.push_str(rest);
        } else {
            plain.push('&');
            plain.push_str(piece);
        }
    }
    plain
}

fn character(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "lt" => Some('<'),
        "gt" => Some('>'),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

fn is_web(link: &str) -> bool {
    Url::parse(link).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_split_at_links_without_loss() {
        for text in [
            "Open https://a.example/x?code=A&b=2.\r\n\n(or <http://b.example>), soon",
            "no link at all\n\n twice  spaced ",
            "http://",
            "see:https://a.example",
            "",
        ] {
            let whole: String = spans(text).iter().map(|span| span.text).collect();
            assert_eq!(whole, text);
        }
        let cut = spans("Open https://a.example/x?code=A&b=2.\r\n\n(or <http://b.example>), soon");
        let cut: Vec<_> = cut.iter().map(|span| (span.text, span.is_link)).collect();
        assert_eq!(
            cut,
            [
                ("Open ", false),
                ("https://a.example/x?code=A&b=2", true),
                (".\r\n\n(or <", false),
                ("http://b.example", true),
                (">), soon", false),
            ]
        );
    }

    #[test]
    fn links_of_both_parts_are_listed_without_duplicates() {
        let html = r#"<a href="https://a.example/?x=1&amp;y=&#x2f;">1</a> <a href='https://b.example/'>2</a>
            <a href="javascript:alert(1)">3</a> <a href=https://c.example/>4</a>"#;
        assert_eq!(
            of_mail(Some("https://a.example/?x=1&y=/"), Some(html)),
            ["https://a.example/?x=1&y=/", "https://b.example/", "https://c.example/"]
        );
        assert!(of_mail(None, None).is_empty());
    }
}
