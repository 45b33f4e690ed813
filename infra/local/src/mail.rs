//! SES, SNS and EventBridge inside this process, as far as sending needs them: what is sent is
//! caught in a [`Mailbox`] and goes nowhere.
//!
//! The handlers are our own: of the `winterbaume` crates (0.2 and 0.3), the one for SES drops a
//! mail's HTML part, the one for SNS refuses to send to a phone number, and the one for EventBridge
//! drops the bus. Each answers one operation and refuses every other by name.

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

/// More than any of the three takes: SES 40 MB are for attachments, which are refused here.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// A mail with an address in this domain is refused for good, as SES refuses (`MessageRejected`).
pub const REFUSED_DOMAIN: &str = "refused.example";
/// A mail from an address in this domain is rejected as SES rejects a sender that nobody verified.
pub const UNVERIFIED_DOMAIN: &str = "unverified.example";
/// A text message to this number is refused for good, as SNS refuses (`InvalidParameter`).
pub const REFUSED_NUMBER: &str = "+10000000000";
/// An event for this bus is refused for good, within an answer of 200 (`FailedEntryCount`).
pub const REFUSED_BUS: &str = "refused";

/// Running SES, SNS and EventBridge endpoints on ephemeral loopback ports. They end when dropped.
///
/// Must be started inside a tokio runtime; as many as you like may run in one process.
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

    /// For `AWS_ENDPOINT_URL_SESV2`: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn ses_url(&self) -> &str {
        self.ses.url()
    }

    /// For `AWS_ENDPOINT_URL_SNS`.
    #[must_use]
    pub fn sns_url(&self) -> &str {
        self.sns.url()
    }

    /// For `AWS_ENDPOINT_URL_EVENTBRIDGE`.
    #[must_use]
    pub fn events_url(&self) -> &str {
        self.events.url()
    }

    /// What was sent, and how to make sending fail.
    #[must_use]
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// Ends the servers after the requests they are serving.
    pub async fn stop(self) {
        tokio::join!(self.ses.stop(), self.sns.stop(), self.events.stop());
    }
}

/// What one of the services makes of its requests.
trait Service: 'static {
    /// For our own messages.
    const NAME: &'static str;

    /// What is to be sent, each for itself.
    fn read(head: &Parts, body: &[u8]) -> Result<Vec<Result<Content, Refusal>>, Refusal>;

    /// The answer: for each the id it was caught under.
    fn accepted(sent: &[Result<u64, Refusal>]) -> Response;

    fn refused(refusal: &Refusal) -> Response;
}

/// Why nothing is sent, in the service's own words.
#[derive(Debug, Clone)]
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    /// The caller's fault: trying again would not help.
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
        // SDKs sign; no page in a browser can without asking first.
        if !head.headers.contains_key(AUTHORIZATION) {
            return Err(Refusal::invalid("MissingAuthenticationToken", "the request is not signed"));
        }
        let body: Bytes = to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| {
            Refusal::invalid("RequestEntityTooLarge", "the body is larger than the local services take")
        })?;
        let fault = mailbox.take_fault();
        match fault {
            Some(Fault::Unavailable) => return Err(unavailable()),
            Some(Fault::Throttled) => {
                return Err(Refusal {
                    status: StatusCode::TOO_MANY_REQUESTS,
                    code: "TooManyRequestsException",
                    message: "a test asked for this".to_owned(),
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
        message: "a test asked for this".to_owned(),
    }
}

/// The id that a service gives what it sent.
fn message_id(id: u64) -> String {
    format!("local-{id}")
}
