//! Metadata of a user in JSON and in arguments.
//!
//! A value of printable text is a JSON string. Any other value is an object with the member `base64`.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use doorward::{
    domain::{Invalid, Metadata},
    json::ObjectReader,
};
use serde::{Serialize as _, Serializer};
use serde_json::{Map, Value, json};

/// Error for a value of another type.
const WRONG_VALUE: &str = "must have values that are strings, or objects with the single member base64";

/// Returns the metadata as a JSON object.
pub(super) fn to_json(metadata: &Metadata) -> Value {
    let value = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => json!(text),
        _ => json!({ "base64": STANDARD.encode(bytes) }),
    };
    metadata.entries().iter().map(|(key, bytes)| (key.clone(), value(bytes))).collect::<Map<_, _>>().into()
}

/// Serializes the metadata as [`to_json`] returns it.
pub(super) fn serialize<S: Serializer>(metadata: &Metadata, serializer: S) -> Result<S::Ok, S::Error> {
    to_json(metadata).serialize(serializer)
}

/// Reads the member `metadata`. Records a fault if it is invalid.
pub(super) fn read(members: &mut ObjectReader) -> Metadata {
    let parsed = match members.take("metadata") {
        None => return Metadata::default(),
        Some(Value::Object(entries)) => parse(entries),
        Some(_) => Err("must be an object".to_owned()),
    };
    members.check("metadata", parsed).unwrap_or_default()
}

fn parse(entries: Map<String, Value>) -> Result<Metadata, String> {
    let entries = entries.into_iter().map(|(key, value)| Ok((key, bytes(value)?)));
    let entries = entries.collect::<Result<BTreeMap<_, _>, String>>()?;
    Metadata::parse(entries).map_err(|invalid| invalid.to_string())
}

fn bytes(value: Value) -> Result<Vec<u8>, String> {
    match value {
        Value::String(text) => Ok(text.into_bytes()),
        Value::Object(members) if members.len() == 1 => match members.get("base64") {
            Some(Value::String(text)) => {
                STANDARD.decode(text).map_err(|_| "must have padded base64 in each member base64".to_owned())
            }
            _ => Err(WRONG_VALUE.to_owned()),
        },
        _ => Err(WRONG_VALUE.to_owned()),
    }
}

/// Parses `KEY=VALUE`.
pub(super) fn entry(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Returns the metadata after `set` replaced or added values and `unset` removed keys.
///
/// # Errors
/// [`Invalid`] if the result breaks a limit.
pub(super) fn changed(
    old: &Metadata,
    set: &[(String, String)],
    unset: &[String],
) -> Result<Metadata, Invalid> {
    let mut entries = old.entries().clone();
    entries.retain(|key, _| !unset.contains(key));
    entries.extend(set.iter().map(|(key, value)| (key.clone(), value.clone().into_bytes())));
    Metadata::parse(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_from(metadata: &Value) -> Result<Metadata, String> {
        let Value::Object(members) = json!({ "metadata": metadata }) else { unreachable!() };
        let mut reader = ObjectReader::new(members);
        let metadata = read(&mut reader);
        reader.finish().map(|()| metadata).map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn text_and_binary_values_survive_json() {
        let entries: [(&str, &[u8]); 4] = [
            ("text", b"gold"),
            ("unicode", "gr\u{fc}n".as_bytes()),
            ("control", b"a\n"),
            ("binary", &[0xff, 0]),
        ];
        let entries = entries.into_iter().map(|(key, value)| (key.to_owned(), value.to_vec())).collect();
        let metadata = Metadata::parse(entries).unwrap();
        let written = to_json(&metadata);
        let expected = json!({
            "text": "gold", "unicode": "gr\u{fc}n", "control": { "base64": "YQo=" }, "binary": { "base64": "/wA=" },
        });
        assert_eq!(written, expected);
        assert_eq!(read_from(&written).unwrap(), metadata);
    }

    #[test]
    fn invalid_metadata_is_rejected_without_its_values() {
        for bad in [
            json!("hunter2"),
            json!({ "k": 7 }),
            json!({ "k": { "base64": "hunter2" } }),
            json!({ "k": { "base64": "aHVudGVyMg==", "x": 1 } }),
            json!({ "k": { "hunter2": "aHVudGVyMg==" } }),
            json!({ "k": "" }),
            json!({ "doorward:roles": "hunter2" }),
        ] {
            let fault = read_from(&bad).unwrap_err();
            assert!(fault.contains("metadata") && !fault.contains("hunter2"), "{bad}: {fault}");
        }
    }

    #[test]
    fn arguments_replace_add_and_remove_keys() {
        let old =
            changed(&Metadata::default(), &[entry("a=1").unwrap(), entry("b=x=y").unwrap()], &[]).unwrap();
        let new = changed(&old, &[entry("b=2").unwrap(), entry("c=3").unwrap()], &["a".to_owned()]).unwrap();
        assert_eq!(to_json(&new), json!({ "b": "2", "c": "3" }));
        assert!(entry("a").is_err() && changed(&old, &[entry("doorward:x=1").unwrap()], &[]).is_err());
    }
}
