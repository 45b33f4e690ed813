//! `Publish` of SNS, in the AWS query format. Supports phone numbers, not topics.

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

/// Maximum length of a text, even if it becomes several messages (API reference of Publish, "Message").
const MAX_TEXT_BYTES: usize = 1600;

pub(super) struct Sns;

impl Service for Sns {
    const NAME: &'static str = "SNS";

    fn read(_head: &Parts, body: &[u8]) -> Result<Vec<Result<Content, Refusal>>, Refusal> {
        let form: HashMap<_, _> = form_urlencoded::parse(body).into_owned().collect();
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let (number, text) = (field("PhoneNumber"), field("Message"));
        if field("Action") != "Publish" {
            return Err(Refusal::invalid("InvalidAction", "only Publish is supported locally"));
        }
        let fault = if !is_number(number) {
            Some("PhoneNumber must be in E.164 format, such as +4512345678")
        } else if text.is_empty() || text.len() > MAX_TEXT_BYTES {
            Some("Message must have 1 to 1600 bytes")
        } else if number == REFUSED_NUMBER {
            Some("this number always rejects messages locally")
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

    /// The texts contain no character that XML would escape, because all of them are written here.
    fn refused(refusal: &Refusal) -> Response {
        let body = format!(
            "<ErrorResponse><Error><Code>{}</Code><Message>{}</Message></Error></ErrorResponse>",
            refusal.code, refusal.message
        );
        (refusal.status, [(CONTENT_TYPE, "text/xml")], body).into_response()
    }
}

/// Checks the E.164 format: a plus sign and up to 15 digits.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or_default();
    (1..=15).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit())
}
