//! SES, SNS and EventBridge inside this process. Sent messages go to a [`Mailbox`] and leave this
//! machine by no other way.
//!
//! The `winterbaume` crates (0.2 and 0.3) do not suffice: their SES drops the HTML part of a mail,
//! their SNS cannot send to a phone number, and their EventBridge drops the bus. Each handler here
//! supports one operation, and rejects every other operation with an error that names the supported
//! one.

mod events;
mod ses;
mod sns;

use anyhow::{Context, Result};
use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{Request, State},
    http::{StatusCode, header::AUTHORIZATION, request::Parts},
    response::Response,
};
use tokio::try_join;

use crate::{
    mailbox::{Content, Fault, Mailbox},
    server::Server,
};

/// Limit of a request body. SES accepts up to 40 MB because of attachments, which are rejected here.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Domain that SES always rejects as a recipient (`MessageRejected`).
pub const REFUSED_DOMAIN: &str = "refused.example";
/// Domain that SES always rejects as a sender, like an unverified one (`MessageRejected`).
pub const UNVERIFIED_DOMAIN: &str = "unverified.example";
/// Number that SNS always rejects (`InvalidParameter`).
pub const REFUSED_NUMBER: &str = "+10000000000";
/// Bus that EventBridge always rejects, in a response with status 200 (`FailedEntryCount`).
pub const REFUSED_BUS: &str = "refused";

/// Running SES, SNS and EventBridge endpoints on free loopback ports. They end when dropped.
///
/// Start them inside a tokio runtime. One process can run any number of them.
#[derive(Debug)]
pub struct EmbeddedMail {
    ses: Server,
    sns: Server,
    events: Server,
    mailbox: Mailbox,
}

impl EmbeddedMail {
    /// # Errors
    /// When no port is free.
    pub async fn start(mailbox: Mailbox) -> Result<Self> {
        let (ses, sns, events) = try_join!(
            serve::<ses::Ses>(&mailbox),
            serve::<sns::Sns>(&mailbox),
            serve::<events::EventBridge>(&mailbox)
        )?;
        Ok(Self { ses, sns, events, mailbox })
    }

    /// Value of `AWS_ENDPOINT_URL_SESV2`: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn ses_url(&self) -> &str {
        self.ses.url()
    }

    /// Value of `AWS_ENDPOINT_URL_SNS`.
    #[must_use]
    pub fn sns_url(&self) -> &str {
        self.sns.url()
    }

    /// Value of `AWS_ENDPOINT_URL_EVENTBRIDGE`.
    #[must_use]
    pub fn events_url(&self) -> &str {
        self.events.url()
    }

    /// Mailbox with the sent messages. It can also make sending fail.
    #[must_use]
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// Stops the servers after the requests in progress.
    pub async fn stop(self) {
        tokio::join!(self.ses.stop(), self.sns.stop(), self.events.stop());
    }
}

/// Request and response format of one service.
trait Service: 'static {
    /// Name in log messages.
    const NAME: &'static str;

    /// Parses a request into messages. Each message is accepted or rejected separately.
    fn read(head: &Parts, body: &[u8]) -> Result<Vec<Result<Content, Refusal>>, Refusal>;

    /// Success response. Contains the ID of each accepted message.
    fn accepted(sent: &[Result<u64, Refusal>]) -> Response;

    fn refused(refusal: &Refusal) -> Response;
}

/// Rejection in the service's format.
#[derive(Debug, Clone)]
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    /// A rejection that a retry does not change.
    fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into() }
    }
}

async fn serve<S: Service>(mailbox: &Mailbox) -> Result<Server> {
    let router = Router::new().fallback(answer::<S>).with_state(mailbox.clone());
    Server::serve(S::NAME, router).await.with_context(|| format!("cannot start the embedded {}", S::NAME))
}

async fn answer<S: Service>(State(mailbox): State<Mailbox>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let attempt = async {
        // SDKs sign their requests. A browser cannot send this header to another origin without a preflight.
        if !head.headers.contains_key(AUTHORIZATION) {
            return Err(Refusal::invalid("MissingAuthenticationToken", "the request is not signed"));
        }
        let body: Bytes = to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| {
            Refusal::invalid("RequestEntityTooLarge", "the body exceeds the local limit of 1 MiB")
        })?;
        let fault = mailbox.take_fault();
        match fault {
            Some(Fault::Unavailable) => return Err(unavailable()),
            Some(Fault::Throttled) => {
                return Err(Refusal {
                    status: StatusCode::TOO_MANY_REQUESTS,
                    code: "TooManyRequestsException",
                    message: "a test requested this failure".to_owned(),
                });
            }
            Some(Fault::AnswerLost) | None => {}
        }
        let sent: Vec<_> =
            S::read(&head, &body)?.into_iter().map(|it| it.map(|content| mailbox.add(content))).collect();
        if fault.is_some() { Err(unavailable()) } else { Ok(S::accepted(&sent)) }
    };
    attempt.await.unwrap_or_else(|refusal| S::refused(&refusal))
}

fn unavailable() -> Refusal {
    Refusal {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: "ServiceUnavailable",
        message: "a test requested this failure".to_owned(),
    }
}

/// Message ID in the response of a service.
fn message_id(id: u64) -> String {
    format!("local-{id}")
}
