//! Wire formats of a message: JSON, gRPC-Web and Connect.
//!
//! No RPC library is used: each format needs only a few lines for unary calls, and a library would render failures
//! inside its own service, before they are logged.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, StatusCode};
use prost::Message;
use serde_json::Value;

use super::{Framing, HttpRequest, Reply, messages};
use crate::{
    dialect::ReplyBody,
    domain::Failure,
    json::{self, ObjectReader},
};

/// A frame's flags and length (gRPC over HTTP/2, "Length-Prefixed-Message").
const FRAME_HEAD_BYTES: usize = 5;
/// A frame that holds a compressed message.
const COMPRESSED: u8 = 1;
/// A frame that holds trailers (gRPC-Web, "Protocol differences").
const TRAILERS: u8 = 0x80;

/// Wire format of a request, from its route and content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireFormat {
    /// The JSON routes.
    Json,
    /// Connect unary, JSON.
    ConnectJson,
    /// Connect unary, protobuf.
    ConnectProto,
    /// gRPC-Web, binary.
    GrpcWeb,
    /// gRPC-Web, base64.
    GrpcWebText,
}

impl WireFormat {
    /// Wire format of a request; `None` for a content type that its route does not accept.
    pub(super) fn of(framing: Framing, request: &HttpRequest) -> Option<Self> {
        let content_type = request.content_type();
        match (framing, content_type.as_deref()) {
            (Framing::Json, Some("application/json")) => Some(Self::Json),
            (Framing::Json, None) if request.body.is_empty() => Some(Self::Json),
            (Framing::Rpc, Some("application/json")) => Some(Self::ConnectJson),
            (Framing::Rpc, Some("application/proto")) => Some(Self::ConnectProto),
            (Framing::Rpc, Some("application/grpc-web" | "application/grpc-web+proto")) => {
                Some(Self::GrpcWeb)
            }
            (Framing::Rpc, Some("application/grpc-web-text" | "application/grpc-web-text+proto")) => {
                Some(Self::GrpcWebText)
            }
            (Framing::Json | Framing::Rpc, _) => None,
        }
    }

    /// Reads the message of a request.
    ///
    /// # Errors
    /// `PayloadTooLarge`; `UnsupportedMediaType` for a compressed body; `Validation` for an invalid message.
    pub(super) fn read<M: messages::JsonMessage>(self, request: &HttpRequest) -> Result<M, Failure> {
        request.check_body()?;
        let body = &request.body;
        match self {
            Self::Json if body.is_empty() => from_json(ObjectReader::default()),
            Self::Json | Self::ConnectJson => match json::parse_object(body) {
                Ok(members) => from_json(ObjectReader::new(members)),
                Err(error) => Err(Failure::field("body", error.to_string())),
            },
            Self::ConnectProto => from_proto(body),
            Self::GrpcWeb => from_proto(unframed(body)?),
            Self::GrpcWebText => from_proto(unframed(
                &decoded(body).ok_or_else(|| Failure::field("body", "is not valid base64"))?,
            )?),
        }
    }

    /// Renders a successful response.
    pub(super) fn reply<M: messages::JsonMessage>(self, message: &M) -> Reply {
        match self {
            Self::Json | Self::ConnectJson => Reply::json(StatusCode::OK, Value::Object(message.to_json())),
            Self::ConnectProto => {
                let kind = HeaderValue::from_static("application/proto");
                Reply::new(StatusCode::OK, ReplyBody::Bytes(kind, message.encode_to_vec()))
            }
            Self::GrpcWeb | Self::GrpcWebText => {
                let mut frames = framed(0, &message.encode_to_vec());
                frames.extend(framed(TRAILERS, b"grpc-status: 0\r\n"));
                self.grpc_web(frames)
            }
        }
    }

    /// A failed gRPC-Web response. It consists of trailers only.
    pub(super) fn trailers(self, trailers: &[(&str, String)]) -> Reply {
        let lines: Vec<_> = trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        self.grpc_web(framed(TRAILERS, lines.concat().as_bytes()))
    }

    fn grpc_web(self, frames: Vec<u8>) -> Reply {
        let body = match self {
            Self::GrpcWebText => ReplyBody::Text("application/grpc-web-text+proto", STANDARD.encode(frames)),
            Self::GrpcWeb | Self::Json | Self::ConnectJson | Self::ConnectProto => {
                ReplyBody::Bytes(HeaderValue::from_static("application/grpc-web+proto"), frames)
            }
        };
        Reply::new(StatusCode::OK, body)
    }
}

/// Decodes base64 in the text form: consecutive runs, each with its own padding (PROTOCOL-WEB of gRPC, "HTTP wire
/// protocols").
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    for quantum in text.chunks(4) {
        STANDARD.decode_vec(quantum, &mut bytes).ok()?;
    }
    Some(bytes)
}

fn from_json<M: messages::JsonMessage>(members: ObjectReader) -> Result<M, Failure> {
    let mut members = members.accepting_snake_case();
    let message = M::from_json(&mut members);
    members.finish().map(|()| message)
}

/// Decodes protobuf. If a oneof appears twice, the last one counts, as the binary format requires.
fn from_proto<M: Message + Default>(bytes: &[u8]) -> Result<M, Failure> {
    // The position of the fault would not help the author of a request.
    M::decode(bytes).map_err(|_| Failure::field("body", "is not a valid protobuf message of this call"))
}

/// Returns the single message of a unary request.
fn unframed(body: &[u8]) -> Result<&[u8], Failure> {
    let invalid = || Failure::field("body", "must be exactly one gRPC-Web message frame");
    let ([flags, length @ ..], message) = body.split_first_chunk::<FRAME_HEAD_BYTES>().ok_or_else(invalid)?;
    let whole = usize::try_from(u32::from_be_bytes(*length)) == Ok(message.len());
    match *flags {
        0 if whole => Ok(message),
        COMPRESSED if whole => Err(Failure::UnsupportedMediaType),
        _ => Err(invalid()),
    }
}

fn framed(flags: u8, content: &[u8]) -> Vec<u8> {
    // Responses have a few hundred bytes.
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    [&[flags][..], &length.to_be_bytes(), content].concat()
}

#[cfg(test)]
mod tests;
