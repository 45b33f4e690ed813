//! `SendEmail` of SES v2, REST JSON. Simple content alone: a subject, text and HTML.

use axum::{
    Json,
    http::{Method, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use super::{REFUSED_DOMAIN, Refusal, Service, UNVERIFIED_DOMAIN, message_id};
use crate::{
    links,
    mailbox::{Content, Mail},
};

const PATH: &str = "/v2/email/outbound-emails";
/// To, Cc and Bcc together (SES quotas).
const MAX_RECIPIENTS: usize = 50;

pub(super) struct Ses;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SendEmail {
    #[serde(default)]
    from_email_address: String,
    #[serde(default)]
    reply_to_addresses: Vec<String>,
    #[serde(default)]
    destination: Destination,
    content: EmailContent,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Destination {
    #[serde(rename = "ToAddresses")]
    to: Vec<String>,
    #[serde(rename = "CcAddresses")]
    cc: Vec<String>,
    #[serde(rename = "BccAddresses")]
    bcc: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct EmailContent {
    simple: Simple,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Simple {
    subject: Data,
    body: Body,
    #[serde(default)]
    headers: Vec<Header>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Header {
    name: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Body {
    text: Option<Data>,
    html: Option<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    data: String,
}

impl Service for Ses {
    const NAME: &'static str = "SES";

    fn read(head: &Parts, body: &[u8]) -> Result<Vec<Result<Content, Refusal>>, Refusal> {
        if head.method != Method::POST || head.uri.path() != PATH {
            let message = format!("only SendEmail is known here, not {} {}", head.method, head.uri.path());
            return Err(Refusal::invalid("BadRequestException", message));
        }
        let request: SendEmail = serde_json::from_slice(body)
            .map_err(|error| Refusal::invalid("BadRequestException", error.to_string()))?;
        request.into_mail().map(|mail| vec![Ok(Content::Mail(mail))])
    }

    fn accepted(sent: &[Result<u64, Refusal>]) -> Response {
        let id = sent.iter().flatten().copied().map(message_id).next();
        Json(json!({ "MessageId": id })).into_response()
    }

    fn refused(refusal: &Refusal) -> Response {
        let headers = [("x-amzn-errortype", refusal.code)];
        (refusal.status, headers, Json(json!({ "message": refusal.message }))).into_response()
    }
}

impl SendEmail {
    fn into_mail(self) -> Result<Mail, Refusal> {
        let Self { from_email_address: from, reply_to_addresses: reply_to, destination, content } = self;
        let Destination { to, cc, bcc } = destination;
        let Simple { subject, body, headers } = content.simple;
        let recipients = || to.iter().chain(&cc).chain(&bcc);

        let fault = if from.is_empty() {
            Some("FromEmailAddress is missing")
        } else if !(1..=MAX_RECIPIENTS).contains(&recipients().count()) {
            Some("there must be 1 to 50 recipients")
        } else if recipients().chain([&from]).any(|address| !is_address(address)) {
            Some("an address is none")
        } else if subject.data.contains(char::is_control) {
            Some("the subject has a control character")
        } else if body.text.is_none() && body.html.is_none() {
            Some("there is neither text nor HTML")
        } else {
            None
        };
        if let Some(fault) = fault {
            return Err(Refusal::invalid("BadRequestException", fault));
        }
        if bare(&from).ends_with(&format!("@{UNVERIFIED_DOMAIN}")) {
            let message = format!("Email address is not verified. The following identities failed: {from}");
            return Err(Refusal::invalid("MessageRejected", message));
        }
        if recipients().any(|address| bare(address).ends_with(&format!("@{REFUSED_DOMAIN}"))) {
            return Err(Refusal::invalid("MessageRejected", "that domain is always refused here"));
        }

        let (text, html) = (body.text.map(|it| it.data), body.html.map(|it| it.data));
        Ok(Mail {
            from,
            to,
            cc,
            bcc,
            reply_to,
            subject: subject.data,
            headers: headers.into_iter().map(|header| (header.name, header.value)).collect(),
            links: links::of_mail(text.as_deref(), html.as_deref()),
            text,
            html,
        })
    }
}

fn is_address(text: &str) -> bool {
    let parts = bare(text).split_once('@');
    !text.contains(char::is_control)
        && parts.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
}

/// `Name <address>` without the name.
fn bare(address: &str) -> &str {
    let inner = address.rsplit_once('<').and_then(|(_, rest)| rest.strip_suffix('>'));
    inner.unwrap_or(address)
}
