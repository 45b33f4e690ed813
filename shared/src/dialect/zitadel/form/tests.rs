use proptest::prelude::*;

use super::*;
use crate::{
    dialect::{
        tests::{at, request},
        zitadel::proto::user::{
            Details, PasswordResetRequest, ReturnPasswordResetCode, SendPasswordResetLink,
            SetPasswordRequest, SetPasswordResponse, password_reset_request::Medium,
            set_password_request::Verification,
        },
    },
    domain::TokenFault,
    route,
};

const FORMS: [(Framing, &str, WireFormat); 8] = [
    (Framing::Json, "application/json; charset=utf-8", WireFormat::Json),
    (Framing::Rpc, "application/json", WireFormat::ConnectJson),
    (Framing::Rpc, "application/proto", WireFormat::ConnectProto),
    (Framing::Rpc, "application/grpc-web", WireFormat::GrpcWeb),
    (Framing::Rpc, "Application/gRPC-Web+proto", WireFormat::GrpcWeb),
    (Framing::Rpc, "application/grpc-web-text", WireFormat::GrpcWebText),
    (Framing::Rpc, "application/grpc-web-text+proto", WireFormat::GrpcWebText),
    (Framing::Rpc, "application/grpc-web-text+proto; charset=utf-8", WireFormat::GrpcWebText),
];

fn read<M: messages::JsonMessage>(form: WireFormat, body: &[u8]) -> Result<M, Failure> {
    form.read(&request(&[], body))
}

fn written(form: WireFormat, message: &impl Message) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    match form {
        WireFormat::Json | WireFormat::ConnectJson => panic!("not in JSON"),
        WireFormat::ConnectProto => bytes,
        WireFormat::GrpcWeb => framed(0, &bytes),
        WireFormat::GrpcWebText => STANDARD.encode(framed(0, &bytes)).into_bytes(),
    }
}

fn fields<T>(result: Result<T, Failure>) -> Vec<String> {
    match result {
        Err(Failure::Validation(errors)) => {
            errors.into_iter().map(|error| error.field.into_owned()).collect()
        }
        Err(other) => panic!("{other}"),
        Ok(_) => Vec::new(),
    }
}

#[test]
fn content_types_choose_the_form() {
    for (framing, kind, form) in FORMS {
        assert_eq!(WireFormat::of(framing, &request(&[("content-type", kind)], b"x")), Some(form), "{kind}");
    }
    for kind in ["application/grpc", "application/grpc+proto", "application/grpc-web+json", "text/plain"] {
        assert_eq!(WireFormat::of(Framing::Rpc, &request(&[("content-type", kind)], b"")), None, "{kind}");
        assert_eq!(WireFormat::of(Framing::Json, &request(&[("content-type", kind)], b"")), None, "{kind}");
    }
    assert_eq!(WireFormat::of(Framing::Json, &request(&[], b"")), Some(WireFormat::Json));
    assert_eq!(WireFormat::of(Framing::Json, &request(&[], b"{}")), None);
    assert_eq!(WireFormat::of(Framing::Rpc, &request(&[], b"")), None);
}

#[test]
fn one_frame_is_read_and_nothing_else() {
    let message = SetPasswordRequest { user_id: "u".to_owned(), ..SetPasswordRequest::default() };
    for form in [WireFormat::ConnectProto, WireFormat::GrpcWeb, WireFormat::GrpcWebText] {
        let body = written(form, &message);
        assert!(read::<SetPasswordRequest>(form, &body).unwrap() == message, "{form:?}");
    }
    let frame = framed(0, &message.encode_to_vec());
    let mut longer = frame.clone();
    longer[4] += 1;
    let two = [frame.clone(), frame.clone()].concat();
    let huge = [&[0, 0xff, 0xff, 0xff, 0xff][..], &frame[5..]].concat();
    let trailers = framed(TRAILERS, b"");
    let short = &frame[..4];
    for bad in [&longer[..], &two, &huge, &trailers, short, b""] {
        assert_eq!(fields(read::<SetPasswordRequest>(WireFormat::GrpcWeb, bad)), ["body"], "{bad:?}");
        let text = STANDARD.encode(bad);
        assert_eq!(fields(read::<SetPasswordRequest>(WireFormat::GrpcWebText, text.as_bytes())), ["body"]);
    }
    assert_eq!(fields(read::<SetPasswordRequest>(WireFormat::GrpcWebText, b"no base64!")), ["body"]);
    assert_eq!(fields(read::<SetPasswordRequest>(WireFormat::ConnectProto, b"\x0a\xff")), ["body"]);
    assert_eq!(fields(read::<SetPasswordRequest>(WireFormat::ConnectProto, b"\x0a\x01\xff")), ["body"]);
}

#[test]
fn nothing_compressed_is_read() {
    let compressed = framed(COMPRESSED, b"\x1f\x8b");
    let refused = read::<SetPasswordRequest>(WireFormat::GrpcWeb, &compressed);
    assert!(matches!(refused, Err(Failure::UnsupportedMediaType)));
    for (_, _, form) in FORMS {
        let refused = form.read::<SetPasswordRequest>(&request(&[("content-encoding", "gzip")], b"\x1f\x8b"));
        assert!(matches!(refused, Err(Failure::UnsupportedMediaType)), "{form:?}");
    }
}

// docs/design/security.md#rule-23
#[test]
fn sizes_are_checked_first() {
    let large = vec![b' '; crate::dialect::MAX_BODY_BYTES + 1];
    for (_, _, form) in FORMS {
        let refused = read::<SetPasswordRequest>(form, &large);
        assert!(matches!(refused, Err(Failure::PayloadTooLarge)), "{form:?}");
    }
}

#[test]
fn json_is_read_as_protobuf_maps_it() {
    let reset = |body: &str| read::<PasswordResetRequest>(WireFormat::ConnectJson, body.as_bytes());
    let set = |body: &str| read::<SetPasswordRequest>(WireFormat::ConnectJson, body.as_bytes());
    let camel = r#"{"userId":"u","sendLink":{"notificationType":"NOTIFICATION_TYPE_SMS","urlTemplate":"x"}}"#;
    let proto = r#"{"user_id":"u","send_link":{"notification_type":2,"url_template":"x"},"later":[1]}"#;
    assert!(reset(camel).unwrap() == reset(proto).unwrap());
    assert!(reset(r#"{"sendLink":null,"returnCode":{}}"#).unwrap().medium.is_some());
    assert!(reset("{}").unwrap() == PasswordResetRequest::default());
    assert!(set(r#"{"newPassword":{"password":"p","changeRequired":true},"verification_code":"c"}"#).is_ok());

    let both = ["returnCode", "sendLink"];
    assert_eq!(fields(reset(r#"{"sendLink":{},"returnCode":{}}"#)), both);
    assert_eq!(fields(reset(r#"{"send_link":{},"returnCode":{}}"#)), both);
    let proofs = ["verificationCode", "currentPassword"];
    assert_eq!(fields(set(r#"{"currentPassword":"a","verificationCode":"b"}"#)), proofs);
    assert_eq!(fields(reset(r#"{"userId":"u","user_id":"u"}"#)), ["userId"]);
    for kind in [r#""EMAIL""#, "3", "-1", "1e99", "true", "{}"] {
        let body = format!(r#"{{"sendLink":{{"notificationType":{kind}}}}}"#);
        assert_eq!(fields(reset(&body)), ["sendLink.notificationType"], "{kind}");
    }
    assert_eq!(
        fields(reset(r#"{"userId":1,"sendLink":[],"returnCode":7}"#)),
        ["userId", "sendLink", "returnCode"]
    );
    assert_eq!(
        fields(set(r#"{"newPassword":{"password":{},"changeRequired":"yes"}}"#)),
        ["newPassword.password", "newPassword.changeRequired"]
    );
    for body in ["", "[]", "{", r#"{"userId":"u","userId":"u"}"#, "{} {}"] {
        assert_eq!(fields(reset(body)), ["body"], "{body}");
    }
    assert!(read::<PasswordResetRequest>(WireFormat::Json, b"").is_ok());
}

#[test]
fn of_a_oneof_given_twice_in_binary_the_last_one_counts() {
    let one = PasswordResetRequest {
        medium: Some(Medium::SendLink(SendPasswordResetLink::default())),
        ..Default::default()
    };
    let other = PasswordResetRequest {
        medium: Some(Medium::ReturnCode(ReturnPasswordResetCode {})),
        ..Default::default()
    };
    let both = [one.encode_to_vec(), other.encode_to_vec()].concat();
    assert!(read::<PasswordResetRequest>(WireFormat::ConnectProto, &both).unwrap() == other);
    let message = SetPasswordRequest {
        verification: Some(Verification::VerificationCode(String::new())),
        ..Default::default()
    };
    // Empty is not absent: a oneof remembers which of its fields was sent.
    assert!(
        read::<SetPasswordRequest>(WireFormat::ConnectProto, &message.encode_to_vec()).unwrap() == message
    );
}

#[test]
fn answers_are_framed_as_requests_are() {
    let details = Details { sequence: 7, resource_owner: "o".to_owned(), ..Details::default() };
    let message = SetPasswordResponse { details: Some(details) };
    let ReplyBody::Json(json) = WireFormat::Json.reply(&message).body else { panic!("no JSON") };
    assert_eq!(json, serde_json::json!({ "details": { "sequence": "7", "resourceOwner": "o" } }));
    let ReplyBody::Bytes(kind, bytes) = WireFormat::GrpcWeb.reply(&message).body else { panic!("no bytes") };
    let trailers = framed(TRAILERS, b"grpc-status: 0\r\n");
    assert_eq!(kind, "application/grpc-web+proto");
    assert_eq!(bytes, [framed(0, &message.encode_to_vec()), trailers].concat());
    let ReplyBody::Text(kind, text) = WireFormat::GrpcWebText.reply(&message).body else { panic!("no text") };
    assert_eq!(kind, "application/grpc-web-text+proto");
    assert_eq!(STANDARD.decode(text).unwrap(), bytes);
}

proptest! {
    // docs/design/security.md#rule-23: every input is a command or a client error.
    #[test]
    fn no_body_is_our_fault(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        wrap in any::<bool>(),
        index in 0..FORMS.len(),
    ) {
        let (_, kind, form) = FORMS[index];
        let body = match form {
            WireFormat::GrpcWeb if wrap => framed(0, &bytes),
            WireFormat::GrpcWebText if wrap => STANDARD.encode(framed(0, &bytes)).into_bytes(),
            _ => bytes,
        };
        let request = request(&[("content-type", kind), ("x-tenant-id", "t")], &body);
        let path = "/zitadel.user.v2.UserService/PasswordReset";
        let request = at(request, path, &route::RESET_LOGIN);
        let reset = form.read(&request)
            .and_then(|message| super::super::parse::password_reset(&request, message))
            .map(|_| ());
        let set = form.read(&request)
            .and_then(|message| super::super::parse::set_password(&request, message))
            .map(|_| ());
        for refusal in [reset, set] {
            match refusal {
                Ok(())
                | Err(
                    Failure::Validation(_)
                    | Failure::UnsupportedMediaType
                    | Failure::Forbidden(_)
                    | Failure::InvalidToken(TokenFault::Missing),
                ) => {}
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }
}
