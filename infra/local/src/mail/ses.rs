//! `SendEmail` of SES v2, in the format REST JSON. Supports simple content: a subject, text and HTML.

use axum::{
    Json,
    http::{Method, request::Parts},
    response::{IntoResponse, Response},
};
use doorward::domain::Mailbox;
use serde::Deserialize;
use serde_json::json;

use super::{REFUSED_DOMAIN, Refusal, Service, UNVERIFIED_DOMAIN, message_id};
use crate::{
    links,
    mailbox::{Content, Mail},
};

const PATH: &str = "/v2/email/outbound-emails";
/// Maximum number of To, Cc and Bcc addresses together (SES quotas).
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
    simple: SimpleContent,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct SimpleContent {
    subject: MailText,
    body: MailBody,
    #[serde(default)]
    headers: Vec<MailHeader>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MailHeader {
    name: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct MailBody {
    text: Option<MailText>,
    html: Option<MailText>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MailText {
    data: String,
}

impl Service for Ses {
    const NAME: &'static str = "SES";

    fn read(head: &Parts, body: &[u8]) -> Result<Vec<Result<Content, Refusal>>, Refusal> {
        if head.method != Method::POST || head.uri.path() != PATH {
            let message =
                format!("only SendEmail is supported locally, not {} {}", head.method, head.uri.path());
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
        let SimpleContent { subject, body, headers } = content.simple;
        let recipients = || to.iter().chain(&cc).chain(&bcc);

        let fault = if from.is_empty() {
            Some("FromEmailAddress is required")
        } else if !(1..=MAX_RECIPIENTS).contains(&recipients().count()) {
            Some("the mail must have 1 to 50 recipients")
        } else if recipients().chain([&from]).any(|address| !is_address(address)) {
            Some("an address is invalid")
        } else if subject.data.contains(char::is_control) {
            Some("the subject contains a control character")
        } else if body.text.is_none() && body.html.is_none() {
            Some("the mail must have a text or an HTML body")
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
            return Err(Refusal::invalid("MessageRejected", "this domain always rejects mail locally"));
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

/// Returns whether SES accepts the text as one address, with or without a display name: it is ASCII, and a name with
/// special characters is in quotes or encoded.
fn is_address(text: &str) -> bool {
    text.is_ascii() && Mailbox::parse(text).is_ok()
}

/// Returns the address of `Name <address>`.
fn bare(address: &str) -> &str {
    let inner = address.rsplit_once('<').and_then(|(_, rest)| rest.strip_suffix('>'));
    inner.unwrap_or(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_ses_rejects_are_refused() {
        for good in
            ["a@b.example", "A <a@b.example>", "=?UTF-8?B?w7w=?= <a@b.example>", "\"A, B\" <a@b.example>"]
        {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "ü <a@b.example>",
            "ü@b.example",
            "a@bücher.example",
            "a@b.example, c@d.example",
            "A, B <a@b.example>",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
