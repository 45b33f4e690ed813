//! Renders outcomes as messages, and failures in each wire format from one table.

mod users;

pub(super) use users::*;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use prost::Message;
use serde_json::{Value, json};
use strum::IntoStaticStr;

use super::{
    Framing, Reply, WireFormat,
    messages::to_proto_time,
    proto::{
        rpc::{BadRequest, RetryInfo, Status, bad_request::FieldViolation},
        user::{Details, PasswordResetResponse, SetPasswordResponse},
    },
};
use crate::{
    dialect::failure::{retry_after, status, text},
    domain::{Failure, FieldError, UserDetails},
    usecase::password_reset,
};

#[allow(
    clippy::needless_pass_by_value,
    reason = "each call passes its message and its outcome in the same way"
)]
pub(super) fn code_asked_for(outcome: password_reset::Outcome) -> PasswordResetResponse {
    PasswordResetResponse {
        details: Some(match &outcome.details {
            Some(known) => details(known),
            // The tenant as caller learns when it asked, and nothing of the user (docs/design/contract.md#authorization).
            None => Details { change_date: Some(to_proto_time(outcome.asked_at)), ..Details::default() },
        }),
        verification_code: outcome.code.as_ref().map(|code| code.expose().to_owned()),
    }
}

pub(super) fn password_set(user: &UserDetails) -> SetPasswordResponse {
    SetPasswordResponse { details: Some(details(user)) }
}

fn details(user: &UserDetails) -> Details {
    Details {
        // Counts the creation too, because proto3 JSON omits a sequence of 0.
        sequence: user.sequence + 1,
        change_date: Some(to_proto_time(user.changed_at)),
        resource_owner: user.organization.to_string(),
        creation_date: Some(to_proto_time(user.created_at)),
    }
}

/// A failure of a request that came in `form`, or in one that its route does not read.
pub(super) fn failure(
    failure: &Failure,
    framing: Framing,
    form: Option<WireFormat>,
    now: Timestamp,
) -> Reply {
    let ((code, status), words) = (code_and_status(failure), words(failure, framing));
    let fields = match failure {
        Failure::Validation(fields) | Failure::PasswordPolicy(fields) => fields.as_slice(),
        _ => &[],
    };
    let message = if fields.is_empty() { words.to_owned() } else { format!("{words}: {}", listed(fields)) };
    let details = details_of(fields, retry_after(failure, now));
    let reply = match (framing, form) {
        (Framing::Json, _) => {
            let details: Vec<_> = details.into_iter().map(Detail::into_json).collect();
            let body = json!({ "code": code as i32, "message": message, "details": details });
            Reply::json(status, body)
        }
        (Framing::Rpc, Some(form @ (WireFormat::GrpcWeb | WireFormat::GrpcWebText))) => {
            let mut trailers = vec![
                ("grpc-status", (code as i32).to_string()),
                ("grpc-message", utf8_percent_encode(&message, NOT_IN_MESSAGE).to_string()),
            ];
            if !details.is_empty() {
                let details = details.into_iter().map(Detail::into_any).collect();
                let whole = Status { code: code as i32, message, details };
                trailers.push(("grpc-status-details-bin", STANDARD_NO_PAD.encode(whole.encode_to_vec())));
            }
            form.trailers(&trailers)
        }
        // An unsupported content type gets a Connect response, which has a status and a text.
        (
            Framing::Rpc,
            Some(WireFormat::ConnectJson | WireFormat::ConnectProto | WireFormat::Json) | None,
        ) => {
            let details: Vec<_> = details.into_iter().map(Detail::into_connect).collect();
            let body = json!({ "code": <&str>::from(code), "message": message, "details": details });
            let mut reply = Reply::json(status, body);
            if form.is_none() {
                reply.headers.insert(ACCEPT_POST, HeaderValue::from_static(RPC_TYPES));
            }
            reply
        }
    };
    reply.with_failure_headers(failure, now)
}

/// Characters that are percent-encoded in a gRPC message (gRPC over HTTP/2, "Status-Message").
const NOT_IN_MESSAGE: &AsciiSet = &CONTROLS.add(b'%');
/// Header of a 415 response that lists the accepted types (W3C Linked Data Platform 1.0, section 7.1).
const ACCEPT_POST: header::HeaderName = header::HeaderName::from_static("accept-post");
const RPC_TYPES: &str = "application/grpc-web+proto, application/grpc-web-text+proto, application/proto, \
                         application/json";

/// The gRPC status codes in use. Their names are those of Connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
enum GrpcCode {
    InvalidArgument = 3,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// gRPC code and HTTP status of a failure (docs/design/contract.md#zitadel-v2).
fn code_and_status(failure: &Failure) -> (GrpcCode, StatusCode) {
    let status = status(failure);
    let code = match (failure, status) {
        (Failure::IdempotencyMismatch, _) | (_, StatusCode::BAD_REQUEST) => GrpcCode::InvalidArgument,
        (
            Failure::SessionLimit
            | Failure::IdempotencyExpired
            | Failure::CredentialsResetRequired
            | Failure::UserStatusConflict,
            _,
        ) => GrpcCode::FailedPrecondition,
        (_, StatusCode::UNAUTHORIZED) => GrpcCode::Unauthenticated,
        (_, StatusCode::FORBIDDEN) => GrpcCode::PermissionDenied,
        (_, StatusCode::NOT_FOUND) => GrpcCode::NotFound,
        (_, StatusCode::CONFLICT) => GrpcCode::AlreadyExists,
        (_, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS) => GrpcCode::ResourceExhausted,
        (_, StatusCode::UNSUPPORTED_MEDIA_TYPE) => GrpcCode::Unimplemented,
        (_, StatusCode::SERVICE_UNAVAILABLE) => GrpcCode::Unavailable,
        _ => GrpcCode::Internal,
    };
    match code {
        GrpcCode::InvalidArgument | GrpcCode::FailedPrecondition => (code, StatusCode::BAD_REQUEST),
        _ => (code, status),
    }
}

/// Text of a failure.
fn words(failure: &Failure, framing: Framing) -> &'static str {
    match (failure, framing) {
        (Failure::UnsupportedMediaType, Framing::Rpc) => {
            "Use gRPC-Web (application/grpc-web+proto or application/grpc-web-text) or Connect \
             (application/proto or application/json), not compressed: native gRPC needs HTTP/2 \
             trailers, which do not get here"
        }
        // A creation reserves the ID too.
        (Failure::UsernameTaken, _) => "The username or the user ID is taken",
        (Failure::PasswordDisabled(_), _) => "Too many failed attempts: the password must be reset",
        _ => text(failure),
    }
}

fn listed(fields: &[FieldError]) -> String {
    let each: Vec<_> = fields.iter().map(|error| format!("{} {}", error.field, error.message)).collect();
    each.join("; ")
}

/// A machine-readable error detail, for the wire formats that support it.
struct Detail {
    type_name: &'static str,
    json: Value,
    bytes: Vec<u8>,
}

impl Detail {
    fn new(type_name: &'static str, json: Value, message: &impl Message) -> Self {
        Self { type_name, json, bytes: message.encode_to_vec() }
    }

    fn url(&self) -> String {
        format!("type.googleapis.com/{}", self.type_name)
    }

    fn into_json(self) -> Value {
        let mut json = json!({ "@type": self.url() });
        if let (Value::Object(members), Value::Object(own)) = (&mut json, self.json) {
            members.extend(own);
        }
        json
    }

    fn into_connect(self) -> Value {
        json!({ "type": self.type_name, "value": STANDARD_NO_PAD.encode(self.bytes), "debug": self.json })
    }

    fn into_any(self) -> prost_types::Any {
        prost_types::Any { type_url: self.url(), value: self.bytes }
    }
}

/// Details of a failure: the invalid fields, and the time of a retry.
fn details_of(fields: &[FieldError], retry_after_seconds: Option<u64>) -> Vec<Detail> {
    let mut details = Vec::new();
    if !fields.is_empty() {
        let listed: Value = fields
            .iter()
            .map(|error| json!({ "field": error.field, "description": error.message }))
            .collect();
        let field_violations = fields
            .iter()
            .map(|error| FieldViolation {
                field: error.field.to_string(),
                description: error.message.to_string(),
            })
            .collect();
        details.push(Detail::new(
            "google.rpc.BadRequest",
            json!({ "fieldViolations": listed }),
            &BadRequest { field_violations },
        ));
    }
    if let Some(seconds) = retry_after_seconds {
        let delay = prost_types::Duration { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: 0 };
        details.push(Detail::new(
            "google.rpc.RetryInfo",
            json!({ "retryDelay": format!("{seconds}s") }),
            &RetryInfo { retry_delay: Some(delay) },
        ));
    }
    details
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dialect::ReplyBody,
        domain::{AttemptCount, Code as ResetCode, CodeKind, OrganizationId, TokenFault},
    };

    fn trailers(failure: &Failure) -> String {
        let reply = super::failure(failure, Framing::Rpc, Some(WireFormat::GrpcWeb), Timestamp::UNIX_EPOCH);
        assert_eq!(reply.status, 200);
        let ReplyBody::Bytes(_, bytes) = reply.body else { panic!("no bytes") };
        assert_eq!(bytes[0], 0x80);
        String::from_utf8(bytes[5..].to_vec()).unwrap()
    }

    fn json(failure: &Failure, framing: Framing, form: Option<WireFormat>) -> (u16, Value) {
        let reply = super::failure(failure, framing, form, Timestamp::UNIX_EPOCH);
        let ReplyBody::Json(body) = reply.body else { panic!("no JSON") };
        (reply.status.as_u16(), body)
    }

    #[test]
    fn one_failure_in_every_form() {
        let failure = Failure::UserNotFound;
        assert_eq!(trailers(&failure), "grpc-status: 5\r\ngrpc-message: There is no such user\r\n");
        let (status, body) = json(&failure, Framing::Rpc, Some(WireFormat::ConnectProto));
        assert_eq!((status, &body["code"]), (404, &json!("not_found")));
        let (status, body) = json(&failure, Framing::Json, Some(WireFormat::Json));
        assert_eq!((status, &body["code"]), (404, &json!(5)));
    }

    #[test]
    fn messages_are_percent_encoded_and_details_go_along() {
        let failure = Failure::Validation(vec![FieldError::new("userId", "100 %\r\ngrpc-status: 0 \u{e9}")]);
        let trailers = trailers(&failure);
        let lines: Vec<_> = trailers.split("\r\n").collect();
        assert_eq!(lines.len(), 4, "{trailers}");
        assert_eq!(
            lines[1],
            "grpc-message: The request is not valid: userId 100 %25%0D%0Agrpc-status: 0 %C3%A9"
        );
        let encoded = lines[2].strip_prefix("grpc-status-details-bin: ").unwrap();
        let status = Status::decode(&*STANDARD_NO_PAD.decode(encoded).unwrap()).unwrap();
        assert_eq!(status.details[0].type_url, "type.googleapis.com/google.rpc.BadRequest");
        let detail = BadRequest::decode(&*status.details[0].value).unwrap();
        assert_eq!(detail.field_violations[0].field, "userId");
    }

    #[test]
    fn sizes_and_types_keep_their_status_where_there_is_one() {
        let none = None;
        assert_eq!(json(&Failure::PayloadTooLarge, Framing::Json, Some(WireFormat::Json)).0, 413);
        assert_eq!(json(&Failure::PayloadTooLarge, Framing::Rpc, Some(WireFormat::ConnectJson)).0, 413);
        assert!(trailers(&Failure::PayloadTooLarge).starts_with("grpc-status: 8\r\n"));
        let (status, body) = json(&Failure::UnsupportedMediaType, Framing::Rpc, none);
        let message = body["message"].as_str().unwrap();
        assert_eq!(status, 415);
        assert!(message.contains("gRPC-Web") && message.contains("Connect"), "{message}");
        assert!(trailers(&Failure::UnsupportedMediaType).starts_with("grpc-status: 12\r\n"));
    }

    #[test]
    fn waits_and_challenges_are_headers_too() {
        let locked = Failure::AccountLocked(AttemptCount {
            failed: 5,
            max: 5,
            locked_until: Timestamp::from_second(9).ok(),
        });
        let reply = super::failure(&locked, Framing::Json, Some(WireFormat::Json), Timestamp::UNIX_EPOCH);
        assert_eq!((reply.status.as_u16(), &reply.headers["retry-after"]), (401, &HeaderValue::from(9)));
        let (_, body) = json(&locked, Framing::Json, None);
        assert_eq!(body["details"][0]["retryDelay"], "9s");
        let missing = Failure::InvalidToken(TokenFault::Missing);
        let reply =
            super::failure(&missing, Framing::Rpc, Some(WireFormat::ConnectJson), Timestamp::UNIX_EPOCH);
        assert!(reply.headers.contains_key("www-authenticate"));
    }

    // A cause goes to the log, never to the client.
    #[test]
    fn causes_stay_inside() {
        for failure in [Failure::Unavailable("secret cause".into()), Failure::Internal("secret cause".into())]
        {
            assert!(!trailers(&failure).contains("secret"));
            assert!(!json(&failure, Framing::Json, None).1.to_string().contains("secret"));
            assert!(!json(&failure, Framing::Rpc, None).1.to_string().contains("secret"));
        }
    }

    #[test]
    fn the_tenant_learns_when_it_asked_and_no_more() {
        let asked_at = Timestamp::from_millisecond(1_768_342_908_974).unwrap();
        let outcome = password_reset::Outcome { details: None, code: None, asked_at };
        let message = super::super::messages::JsonMessage::to_json(&code_asked_for(outcome));
        assert_eq!(
            Value::Object(message),
            json!({ "details": { "changeDate": "2026-01-13T22:21:48.974Z" } })
        );
        let known = UserDetails {
            sequence: 0,
            changed_at: asked_at,
            created_at: Timestamp::UNIX_EPOCH,
            organization: OrganizationId::parse("o").unwrap(),
        };
        let code = ResetCode::from_random(CodeKind::Typed, &[0; 20]);
        let outcome = password_reset::Outcome { details: Some(known), code: Some(code), asked_at };
        let message = super::super::messages::JsonMessage::to_json(&code_asked_for(outcome));
        let expected = json!({
            "details": {
                "sequence": "1",
                "changeDate": "2026-01-13T22:21:48.974Z",
                "resourceOwner": "o",
                "creationDate": "1970-01-01T00:00:00.000Z",
            },
            "verificationCode": "AAAAAAAA",
        });
        assert_eq!(Value::Object(message), expected);
    }
}
