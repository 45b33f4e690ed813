//! The messages as JSON (protobuf's JSON mapping): names in camelCase or as in the .proto, `null` is
//! absent, unknown fields are ignored, a 64-bit number is a string, a default is left out.

use jiff::Timestamp;
use prost::Message;
use prost_types::Timestamp as ProtoTimestamp;
use serde_json::{Map, Value};

use super::{
    proto::user::{
        Details, NotificationType, Password, PasswordResetRequest, PasswordResetResponse,
        ReturnPasswordResetCode, SendPasswordResetLink, SetPasswordRequest, SetPasswordResponse,
        password_reset_request::Medium, set_password_request::Verification,
    },
    time,
};
use crate::json::ObjectReader;

/// A message that clients send.
pub(super) trait Request: Message + Default {
    /// Reads it; what is wrong is in the members' errors.
    fn from_json(members: &mut ObjectReader) -> Self;
}

/// A message that clients get.
pub(super) trait Response: Message {
    fn to_json(&self) -> Value;
}

fn notification_type(members: &mut ObjectReader, name: &'static str) -> i32 {
    let kind = match members.take(name) {
        None => Some(NotificationType::default()),
        Some(Value::String(text)) => NotificationType::from_str_name(&text),
        Some(number) => number
            .as_i64()
            .and_then(|number| i32::try_from(number).ok())
            .and_then(|number| NotificationType::try_from(number).ok()),
    };
    if kind.is_none() {
        members.fault(name, NOTIFICATION_TYPES);
    }
    kind.unwrap_or_default().into()
}

/// Selects one of two alternatives and rejects both together.
fn oneof<T>(
    members: &mut ObjectReader,
    names: (&'static str, &'static str),
    one: Option<T>,
    other: Option<T>,
) -> Option<T> {
    if one.is_some() && other.is_some() {
        members.fault(names.1, "must not be sent together with its alternative");
        members.fault(names.0, "must not be sent together with its alternative");
    }
    one.or(other)
}

/// What a notification type may be.
pub(super) const NOTIFICATION_TYPES: &str =
    "must be NOTIFICATION_TYPE_Unspecified, NOTIFICATION_TYPE_Email or NOTIFICATION_TYPE_SMS";

impl Request for PasswordResetRequest {
    fn from_json(members: &mut ObjectReader) -> Self {
        let user_id = members.text("userId").unwrap_or_default();
        let send_link = members.object("sendLink", |link| SendPasswordResetLink {
            notification_type: notification_type(link, "notificationType"),
            url_template: link.text("urlTemplate"),
        });
        let return_code = members.object("returnCode", |_| ReturnPasswordResetCode {});
        let medium = oneof(
            members,
            ("sendLink", "returnCode"),
            send_link.map(Medium::SendLink),
            return_code.map(Medium::ReturnCode),
        );
        Self { user_id, medium }
    }
}

impl Request for SetPasswordRequest {
    fn from_json(members: &mut ObjectReader) -> Self {
        let user_id = members.text("userId").unwrap_or_default();
        let new_password = members.object("newPassword", |password| Password {
            password: password.text("password").unwrap_or_default(),
            change_required: password.flag("changeRequired").unwrap_or_default(),
        });
        let current_password = members.text("currentPassword");
        let verification_code = members.text("verificationCode");
        let verification = oneof(
            members,
            ("currentPassword", "verificationCode"),
            current_password.map(Verification::CurrentPassword),
            verification_code.map(Verification::VerificationCode),
        );
        Self { user_id, new_password, verification }
    }
}

impl Response for PasswordResetResponse {
    fn to_json(&self) -> Value {
        let mut members = Map::new();
        insert_details(&mut members, self.details.as_ref());
        if let Some(code) = &self.verification_code {
            members.insert("verificationCode".to_owned(), Value::from(code.as_str()));
        }
        Value::Object(members)
    }
}

impl Response for SetPasswordResponse {
    fn to_json(&self) -> Value {
        let mut members = Map::new();
        insert_details(&mut members, self.details.as_ref());
        Value::Object(members)
    }
}

fn insert_details(members: &mut Map<String, Value>, details: Option<&Details>) {
    let Some(Details { sequence, change_date, resource_owner, creation_date }) = details else {
        return;
    };
    let date = |date: &Option<ProtoTimestamp>| date.as_ref().and_then(from_proto_time).map(time);
    let fields = [
        ("sequence", (*sequence != 0).then(|| sequence.to_string())),
        ("changeDate", date(change_date)),
        ("resourceOwner", (!resource_owner.is_empty()).then(|| resource_owner.clone())),
        ("creationDate", date(creation_date)),
    ];
    let fields = fields.into_iter().filter_map(|(name, text)| Some((name.to_owned(), Value::from(text?))));
    members.insert("details".to_owned(), Value::Object(fields.collect()));
}

/// In milliseconds, as in JSON.
pub(super) fn to_proto_time(at: Timestamp) -> ProtoTimestamp {
    let milliseconds = at.as_millisecond();
    let nanos = milliseconds.rem_euclid(1_000).saturating_mul(1_000_000);
    ProtoTimestamp {
        seconds: milliseconds.div_euclid(1_000),
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}

fn from_proto_time(at: &ProtoTimestamp) -> Option<Timestamp> {
    Timestamp::new(at.seconds, at.nanos).ok()
}
