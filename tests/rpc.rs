//! Decoder of gRPC-Web and Connect bodies into JSON, based on the .proto files and independent of the
//! tested code.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::STANDARD_NO_PAD};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::{Map, Value, json};

/// The services of the .proto files.
pub(crate) struct Services(DescriptorPool);

impl Services {
    pub(crate) fn load() -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/proto");
        let files = ["zitadel/user/v2/user_service.proto", "google/rpc/status.proto"];
        Ok(Self(DescriptorPool::from_file_descriptor_set(protox::compile(files, [folder])?)?))
    }

    /// Decodes a request body of this content type.
    pub(crate) fn request(&self, path: &str, content_type: &str, body: &[u8]) -> Result<Value> {
        self.decoded(&self.method(path)?.input(), content_type, body)
    }

    /// Decodes a response body of this content type.
    pub(crate) fn answer(&self, path: &str, content_type: &str, body: &[u8]) -> Result<Value> {
        self.decoded(&self.method(path)?.output(), content_type, body)
    }

    fn method(&self, path: &str) -> Result<prost_reflect::MethodDescriptor> {
        let (service, method) =
            path.trim_start_matches('/').split_once('/').context("the path is not one of a call")?;
        let service = self.0.get_service_by_name(service).context("the service does not exist")?;
        service.methods().find(|known| known.name() == method).context("the call does not exist")
    }

    fn decoded(&self, message: &MessageDescriptor, content_type: &str, body: &[u8]) -> Result<Value> {
        match content_type {
            "application/proto" => Ok(json!({ "message": to_json(message.clone(), body)? })),
            "application/grpc-web" | "application/grpc-web+proto" => self.frames(message, body),
            "application/grpc-web-text" | "application/grpc-web-text+proto" => {
                self.frames(message, &STANDARD.decode(body)?)
            }
            other => bail!("{other} is no type that this decodes"),
        }
    }

    fn frames(&self, message: &MessageDescriptor, mut body: &[u8]) -> Result<Value> {
        let mut found = Map::new();
        while let Some(([flags, length @ ..], rest)) = body.split_first_chunk::<5>() {
            let length = usize::try_from(u32::from_be_bytes(*length))?;
            let (content, rest) = rest.split_at_checked(length).context("a frame is cut short")?;
            body = rest;
            let (name, content) = match flags {
                0 => ("message", to_json(message.clone(), content)?),
                0x80 => ("trailers", self.trailers(std::str::from_utf8(content)?)?),
                other => bail!("a frame has flags {other}"),
            };
            ensure!(found.insert(name.to_owned(), content).is_none(), "two frames of {name}");
        }
        ensure!(body.is_empty(), "bytes follow the last frame");
        Ok(Value::Object(found))
    }

    fn trailers(&self, lines: &str) -> Result<Value> {
        let mut trailers = Map::new();
        for line in lines.split_terminator("\r\n") {
            let (name, value) = line.split_once(": ").with_context(|| format!("{line} is no trailer"))?;
            let value = if name == "grpc-status-details-bin" {
                let status = self
                    .0
                    .get_message_by_name("google.rpc.Status")
                    .context("the message type does not exist")?;
                to_json(status, &STANDARD_NO_PAD.decode(value)?)?
            } else {
                json!(value)
            };
            trailers.insert(name.to_owned(), value);
        }
        Ok(Value::Object(trailers))
    }
}

fn to_json(message: MessageDescriptor, bytes: &[u8]) -> Result<Value> {
    Ok(serde_json::to_value(DynamicMessage::decode(message, bytes)?)?)
}
