//! `Publish` of SNS, the AWS query protocol. To phone numbers alone.

use std::collections::HashMap;

use axum::{
    http::{header::CONTENT_TYPE, request::Parts},
    response::{IntoResponse, Response},
};
use url::form_urlencoded;

use super::{REFUSED_NUMBER, Refusal, Service, message_id};
use crate::{
    links,
    mailbox::{Content, TextMessage},
};

/// What SNS takes, however many messages it becomes (Publish, "Message").
const MAX_TEXT_BYTES: usize = 1600;

pub(super) struct Sns;

impl Service for Sns {
    const NAME: &'static str = "SNS";

    fn read(_head: &Parts, body: &[u8]) -> Result<Vec<Result<Content, Refusal>>, Refusal> {
        let form: HashMap<_, _> = form_urlencoded::parse(body).into_owned().collect();
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let (number, text) = (field("PhoneNumber"), field("Message"));
        if field("Action") != "Publish" {
            return Err(Refusal::invalid("InvalidAction", "only Publish is known here"));
        }
        let fault = if !is_number(number) {
            Some("only E.164 phone numbers are sent to here")
        } else if text.is_empty() || text.len() > MAX_TEXT_BYTES {
            Some("the message must be of 1 to 1600 bytes")
        } else if number == REFUSED_NUMBER {
            Some("that number is always refused here")
        } else {
            None
        };
        if let Some(fault) = fault {
            return Err(Refusal::invalid("InvalidParameter", fault));
        }
        let (phone_number, text) = (number.to_owned(), text.to_owned());
        let links = links::of_mail(Some(&text), None);
        Ok(vec![Ok(Content::TextMessage(TextMessage { phone_number, text, links }))])
    }

    fn accepted(sent: &[Result<u64, Refusal>]) -> Response {
        let id = sent.iter().flatten().copied().map(message_id).next().unwrap_or_default();
        let body = format!(
            "<PublishResponse><PublishResult><MessageId>{id}</MessageId></PublishResult></PublishResponse>"
        );
        ([(CONTENT_TYPE, "text/xml")], body).into_response()
    }

    /// The words are ours and hold nothing that XML would want escaped.
    fn refused(refusal: &Refusal) -> Response {
        let body = format!(
            "<ErrorResponse><Error><Code>{}</Code><Message>{}</Message></Error></ErrorResponse>",
            refusal.code, refusal.message
        );
        (refusal.status, [(CONTENT_TYPE, "text/xml")], body).into_response()
    }
}

/// E.164: a plus and up to 15 digits.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or_default();
    (1..=15).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit())
}
