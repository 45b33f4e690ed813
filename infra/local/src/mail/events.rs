//! `PutEvents` of EventBridge, in the format AWS JSON 1.1.

use axum::{
    Json,
    http::{header::CONTENT_TYPE, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{REFUSED_BUS, Refusal, Service, message_id};
use crate::mailbox::{Content, Event};

/// Maximum number of entries in one request (API reference of `PutEvents`, "Entries").
const MAX_ENTRIES: usize = 10;
const JSON_1_1: &str = "application/x-amz-json-1.1";

pub(super) struct EventBridge;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PutEvents {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    event_bus_name: Option<String>,
    #[serde(default)]
    source: String,
    #[serde(default)]
    detail_type: String,
    #[serde(default)]
    detail: String,
}

impl Service for EventBridge {
    const NAME: &'static str = "EventBridge";

    fn read(head: &Parts, body: &[u8]) -> Result<Vec<Result<Content, Refusal>>, Refusal> {
        let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
        if target != Some("AWSEvents.PutEvents") {
            return Err(Refusal::invalid("UnknownOperationException", "only PutEvents is supported locally"));
        }
        let invalid = |message: String| Refusal::invalid("ValidationException", message);
        let PutEvents { entries } =
            serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))?;
        if !(1..=MAX_ENTRIES).contains(&entries.len()) {
            return Err(invalid(format!("a request must contain 1 to {MAX_ENTRIES} entries")));
        }
        Ok(entries.into_iter().map(Entry::into_content).collect())
    }

    /// Status 200 even if entries were rejected. Callers must check each entry.
    fn accepted(sent: &[Result<u64, Refusal>]) -> Response {
        let entries: Vec<_> = sent
            .iter()
            .map(|it| match it {
                Ok(id) => json!({ "EventId": message_id(*id) }),
                Err(refusal) => json!({ "ErrorCode": refusal.code, "ErrorMessage": refusal.message }),
            })
            .collect();
        let failed = sent.iter().filter(|it| it.is_err()).count();
        let body = Json(json!({ "FailedEntryCount": failed, "Entries": entries }));
        ([(CONTENT_TYPE, JSON_1_1)], body).into_response()
    }

    fn refused(refusal: &Refusal) -> Response {
        let body = Json(json!({ "__type": refusal.code, "message": refusal.message }));
        (refusal.status, [(CONTENT_TYPE, JSON_1_1)], body).into_response()
    }
}

impl Entry {
    fn into_content(self) -> Result<Content, Refusal> {
        let Self { event_bus_name, source, detail_type, detail } = self;
        let bus = event_bus_name.unwrap_or_else(|| "default".to_owned());
        if source.is_empty() || detail_type.is_empty() {
            return Err(Refusal::invalid("InvalidArgument", "Source and DetailType are required"));
        }
        if bus == REFUSED_BUS {
            return Err(Refusal::invalid("InvalidArgument", "this bus always rejects events locally"));
        }
        match serde_json::from_str(&detail) {
            Ok(detail @ Value::Object(_)) => Ok(Content::Event(Event { bus, source, detail_type, detail })),
            Ok(_) | Err(_) => Err(Refusal::invalid("MalformedDetail", "Detail must be a JSON object")),
        }
    }
}
