//! Messages that the stack has sent: mails, text messages and events. Also lists messages that could
//! not be delivered.
//!
//! The newest [`KEPT`] messages are in memory until the stack stops. They are written to no file,
//! because mails contain valid codes.

use std::{collections::VecDeque, fmt, sync::Arc};

use doorward::{function::SystemClock, port::Clock};
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use tokio::sync::watch;

/// Number of kept messages. They take a few MB at most.
pub const KEPT: usize = 200;

/// Sent messages, newest last. Clones share the same messages.
#[derive(Clone)]
pub struct Mailbox {
    state: Arc<watch::Sender<State>>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct State {
    messages: VecDeque<Arc<Message>>,
    /// Number of all messages so far, which is also the ID of the newest one.
    count: u64,
    faults: VecDeque<Fault>,
}

/// A sent or undeliverable message.
#[derive(Debug, Serialize)]
pub struct Message {
    /// Number in the order of arrival, from 1.
    pub id: u64,
    #[serde(serialize_with = "in_words")]
    pub time: Timestamp,
    #[serde(flatten)]
    pub content: Content,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Content {
    Mail(Mail),
    TextMessage(TextMessage),
    Event(Event),
    DeadLetter(DeadLetter),
}

/// Mail that SES received.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mail {
    pub from: String,
    pub to: Vec<String>,
    pub cc: Vec<String>,
    pub bcc: Vec<String>,
    pub reply_to: Vec<String>,
    pub subject: String,
    pub headers: Vec<(String, String)>,
    pub text: Option<String>,
    pub html: Option<String>,
    /// Links of both parts, those of the text first.
    pub links: Vec<String>,
}

/// Text message that SNS received.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TextMessage {
    pub phone_number: String,
    pub text: String,
    pub links: Vec<String>,
}

/// Event that EventBridge received.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub bus: String,
    pub source: String,
    pub detail_type: String,
    pub detail: serde_json::Value,
}

/// Record of the table's stream that the delivery function could not handle.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// `RetryAttemptsExhausted` or `MaximumRecordAgeExceeded`, the names of Lambda.
    pub condition: &'static str,
    pub sequence_number: String,
    pub pk: String,
    pub sk: String,
    /// Number of failed invocations with this record as the first of its batch.
    pub attempts: u32,
    /// Error of the last invocation.
    pub reason: String,
}

/// Failure of the next request to one of the services. The SDK makes three attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The message is not sent. The response has a 5xx status.
    Unavailable,
    /// The message is not sent. The response reports too many requests.
    Throttled,
    /// The message is sent, but the response has a 5xx status, so that the sender sends it again.
    AnswerLost,
}

impl Default for Mailbox {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock))
    }
}

impl Mailbox {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { state: Arc::new(watch::Sender::new(State::default())), clock }
    }

    /// Adds a message and returns its id.
    pub fn add(&self, content: Content) -> u64 {
        let time = self.clock.now();
        let mut id = 0;
        self.state.send_modify(|state| {
            state.count += 1;
            id = state.count;
            if state.messages.len() == KEPT {
                state.messages.pop_front();
            }
            state.messages.push_back(Arc::new(Message { id, time, content }));
        });
        id
    }

    /// Kept messages, oldest first.
    #[must_use]
    pub fn messages(&self) -> Vec<Arc<Message>> {
        self.state.borrow().messages.iter().cloned().collect()
    }

    /// Kept mails, oldest first.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        self.messages().iter().filter_map(|message| message.mail().cloned()).collect()
    }

    /// Finds a kept message by its ID.
    #[must_use]
    pub fn message(&self, id: u64) -> Option<Arc<Message>> {
        self.state.borrow().messages.iter().find(|message| message.id == id).cloned()
    }

    /// Waits for the oldest message for which `find` returns a value. The caller limits the time.
    pub async fn until<T>(&self, mut find: impl FnMut(&Message) -> Option<T>) -> T {
        let mut seen = 0;
        loop {
            let message = self.after(seen).await;
            if let Some(found) = find(&message) {
                return found;
            }
            seen = message.id;
        }
    }

    /// Waits for the oldest kept message with an ID above `id`.
    pub async fn after(&self, id: u64) -> Arc<Message> {
        let mut changes = self.state.subscribe();
        loop {
            let newer = changes.borrow_and_update().messages.iter().find(|it| it.id > id).cloned();
            if let Some(message) = newer {
                return message;
            }
            if changes.changed().await.is_err() {
                // Unreachable: `self` keeps the sender of the channel.
                return std::future::pending().await;
            }
        }
    }

    /// Makes the next `times` requests to the services fail, after the failures requested earlier.
    pub fn fail_next(&self, times: usize, fault: Fault) {
        self.state.send_modify(|state| state.faults.extend(std::iter::repeat_n(fault, times)));
    }

    pub(crate) fn take_fault(&self) -> Option<Fault> {
        let mut fault = None;
        self.state.send_if_modified(|state| {
            fault = state.faults.pop_front();
            false
        });
        fault
    }
}

impl Message {
    #[must_use]
    pub fn mail(&self) -> Option<&Mail> {
        match &self.content {
            Content::Mail(mail) => Some(mail),
            Content::TextMessage(_) | Content::Event(_) | Content::DeadLetter(_) => None,
        }
    }
}

/// Serializes a time with milliseconds.
fn in_words<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

// `Debug` shows no message text, because texts contain codes, which must not appear in a log.

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("count", &self.state.borrow().count).finish_non_exhaustive()
    }
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail").field("to", &self.to).field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl fmt::Debug for TextMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextMessage").field("phone_number", &self.phone_number).finish_non_exhaustive()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("detail_type", &self.detail_type).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_message(number: usize) -> Content {
        Content::TextMessage(TextMessage {
            phone_number: format!("+45{number}"),
            text: "K7QW-93XD".into(),
            links: Vec::new(),
        })
    }

    #[test]
    fn only_the_newest_messages_are_kept() {
        let mailbox = Mailbox::default();
        for number in 0..KEPT + 3 {
            mailbox.add(text_message(number));
        }
        let kept = mailbox.messages();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept.first().unwrap().id, 4);
        assert!(mailbox.message(3).is_none());
        assert_eq!(mailbox.message(4).unwrap().id, 4);
    }

    #[tokio::test]
    async fn until_waits_for_a_message_that_arrives_later() {
        let mailbox = Mailbox::default();
        mailbox.add(text_message(1));
        let other = mailbox.clone();
        let waiting = tokio::spawn(async move {
            other
                .until(|message| match &message.content {
                    Content::TextMessage(it) if it.phone_number == "+452" => Some(message.id),
                    _ => None,
                })
                .await
        });
        tokio::task::yield_now().await;
        mailbox.add(text_message(2));
        assert_eq!(waiting.await.unwrap(), 2);
    }

    #[test]
    fn debug_output_contains_no_code() {
        let mailbox = Mailbox::default();
        mailbox.add(text_message(1)); // docs/design/security.md#rule-24
        let shown = format!("{mailbox:?} {:?}", mailbox.messages());
        assert!(shown.contains("+451") && !shown.contains("K7QW"), "{shown}");
    }

    #[test]
    fn json_form_contains_the_kind() {
        let mailbox = Mailbox::default();
        mailbox.add(text_message(1));
        let value = serde_json::to_value(&*mailbox.message(1).unwrap()).unwrap();
        assert_eq!(value["kind"], "textMessage");
        assert_eq!(value["phoneNumber"], "+451");
        assert_eq!(value["id"], 1);
        assert!(value["time"].as_str().unwrap().ends_with('Z'));
    }
}
