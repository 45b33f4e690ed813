//! What this stack has sent: mails, text messages and events, and what could not be delivered.
//!
//! Everything is in memory, the newest [`KEPT`] of it, and gone when the stack stops: mails hold live
//! codes, and no file should.

use std::{collections::VecDeque, fmt, sync::Arc};

use doorward::{port::Clock, runtime::SystemClock};
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use tokio::sync::watch;

/// How many messages are kept. More than a person reads, and some MB at most.
pub const KEPT: usize = 200;

/// Everything sent, newest last. Clones are the same mailbox.
#[derive(Clone)]
pub struct Mailbox {
    state: Arc<watch::Sender<State>>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct State {
    messages: VecDeque<Arc<Message>>,
    /// How many there ever were; the newest one's id.
    count: u64,
    faults: VecDeque<Fault>,
}

/// One thing that was sent, or given up.
#[derive(Debug, Serialize)]
pub struct Message {
    /// Counts from 1 in the order of arrival.
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

/// What SES was given.
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
    /// The web addresses in both parts, those of the text first.
    pub links: Vec<String>,
}

/// What SNS was given.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TextMessage {
    pub phone_number: String,
    pub text: String,
    pub links: Vec<String>,
}

/// What EventBridge was given.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub bus: String,
    pub source: String,
    pub detail_type: String,
    pub detail: serde_json::Value,
}

/// A record of the table's stream that the delivery function could not handle.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// `RetryAttemptsExhausted` or `MaximumRecordAgeExceeded`, as Lambda says it.
    pub condition: &'static str,
    pub sequence_number: String,
    pub pk: String,
    pub sk: String,
    /// How often the function was invoked with it at the end.
    pub attempts: u32,
    /// What the function, or whoever runs it, said last.
    pub reason: String,
}

/// How the next request to one of the services fails. The SDK tries three times by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is sent: a 5xx.
    Unavailable,
    /// Nothing is sent: too many requests.
    Throttled,
    /// It is sent, but the answer is a 5xx: whoever sent it will do so again.
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

    /// What is kept, oldest first.
    #[must_use]
    pub fn messages(&self) -> Vec<Arc<Message>> {
        self.state.borrow().messages.iter().cloned().collect()
    }

    /// The mails that are kept, oldest first.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        self.messages().iter().filter_map(|message| message.mail().cloned()).collect()
    }

    /// One of those that are kept.
    #[must_use]
    pub fn message(&self, id: u64) -> Option<Arc<Message>> {
        self.state.borrow().messages.iter().find(|message| message.id == id).cloned()
    }

    /// Waits until there is a message in which `find` finds something: the oldest such. The caller
    /// bounds the time.
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

    /// Waits for the oldest kept message with an id above `id`.
    pub async fn after(&self, id: u64) -> Arc<Message> {
        let mut changes = self.state.subscribe();
        loop {
            let newer = changes.borrow_and_update().messages.iter().find(|it| it.id > id).cloned();
            if let Some(message) = newer {
                return message;
            }
            if changes.changed().await.is_err() {
                // Never: the other half is in `self`.
                return std::future::pending().await;
            }
        }
    }

    /// Makes the next `times` requests to the embedded services fail, after those asked for before.
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

/// To the millisecond: nobody reads more.
fn in_words<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

// What is sent holds codes, which belong in no log.

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
    fn the_newest_are_kept() {
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
    async fn one_can_wait_for_what_has_not_come_yet() {
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
    fn debugging_shows_no_code() {
        let mailbox = Mailbox::default();
        mailbox.add(text_message(1)); // docs/design/security.md#rule-24
        let shown = format!("{mailbox:?} {:?}", mailbox.messages());
        assert!(shown.contains("+451") && !shown.contains("K7QW"), "{shown}");
    }

    #[test]
    fn the_json_form_names_the_kind() {
        let mailbox = Mailbox::default();
        mailbox.add(text_message(1));
        let value = serde_json::to_value(&*mailbox.message(1).unwrap()).unwrap();
        assert_eq!(value["kind"], "textMessage");
        assert_eq!(value["phoneNumber"], "+451");
        assert_eq!(value["id"], 1);
        assert!(value["time"].as_str().unwrap().ends_with('Z'));
    }
}
