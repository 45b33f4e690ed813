//! Strict JSON (docs/design/security.md#rule-16 and #rule-23): one object per input, no duplicate member at
//! any level, limited nesting.

use std::{borrow::Cow, fmt};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::domain::{Failure, FieldError};

/// Maximum nesting depth. No request or document of Doorward nests deeper than 4 levels.
const MAX_DEPTH: usize = 16;

/// Error for input that is not exactly one JSON object. Contains no part of the input.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The input is a JSON value of another type.
    #[error("must be a JSON object")]
    OtherType,
    /// The input is not valid JSON, or is nested too deeply, or contains a duplicate member.
    #[error("is not valid JSON: {0}")]
    Invalid(#[from] serde_json::Error),
}

/// Parses exactly one JSON object.
///
/// # Errors
/// [`ObjectError`] with the position and kind of the first error.
pub fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, ObjectError> {
    match parse(bytes)? {
        Value::Object(members) => Ok(members),
        _ => Err(ObjectError::OtherType),
    }
}

fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth_left: MAX_DEPTH }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Reads the members of a JSON object one by one and collects the errors of all invalid members, so that a
/// client can correct them at once. A member with the value `null` counts as absent.
#[derive(Default)]
pub struct ObjectReader {
    members: Map<String, Value>,
    /// Path from the outermost object to this one, with a trailing dot; empty for the outermost object.
    path: String,
    accepts_snake_case: bool,
    errors: Vec<FieldError>,
}

impl ObjectReader {
    /// Creates a reader for an object.
    pub fn new(members: Map<String, Value>) -> Self {
        Self { members, ..Self::default() }
    }

    /// Replaces the members and keeps the errors recorded so far.
    pub fn set_members(&mut self, members: Map<String, Value>) {
        self.members = members;
    }

    /// Also accepts each member under its name in snake_case, as protobuf's JSON mapping requires.
    #[must_use]
    pub fn accepting_snake_case(self) -> Self {
        Self { accepts_snake_case: true, ..self }
    }

    /// Records an error for a member of this object.
    pub fn fault(&mut self, name: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) {
        let name = name.into();
        let field = if self.path.is_empty() { name } else { format!("{}{name}", self.path).into() };
        self.errors.push(FieldError::new(field, message));
    }

    /// Records the error of a parsed value.
    pub fn check<T, E: ToString>(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        parsed: Result<T, E>,
    ) -> Option<T> {
        parsed.map_err(|error| self.fault(name, error.to_string())).ok()
    }

    /// Returns the number of recorded errors.
    pub fn faults(&self) -> usize {
        self.errors.len()
    }

    /// Returns whether a member is present and not `null`.
    pub fn has(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|value| !value.is_null())
    }

    /// Removes and returns a member.
    pub fn take(&mut self, name: &'static str) -> Option<Value> {
        let mut remove = |name: &str| self.members.shift_remove(name).filter(|value| !value.is_null());
        let value = remove(name);
        if !self.accepts_snake_case {
            return value;
        }
        let other = remove(&snake_case(name));
        if value.is_some() && other.is_some() {
            self.fault(name, "must not be sent twice");
            return None;
        }
        value.or(other)
    }

    /// Reads a string.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            _ => self.wrong_type(name, "must be a string"),
        }
    }

    /// Reads an optional string and parses it.
    pub fn optional<T, E: ToString>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(name)?;
        self.check(name, parse(&text))
    }

    /// Reads a required string and parses it.
    pub fn required<T, E: ToString>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if !self.has(name) {
            self.members.shift_remove(name);
            return self.wrong_type(name, "is required");
        }
        self.optional(name, parse)
    }

    /// Reads a boolean.
    pub fn flag(&mut self, name: &'static str) -> Option<bool> {
        match self.take(name)? {
            Value::Bool(flag) => Some(flag),
            _ => self.wrong_type(name, "must be true or false"),
        }
    }

    /// Reads a list of strings and parses each of them. Records only the first error of the list.
    pub fn texts<T, E: ToString>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        const WRONG_TYPE: &str = "must be a list of strings";
        let Value::Array(values) = self.take(name)? else {
            return self.wrong_type(name, WRONG_TYPE);
        };
        let parse = |value: &Value| match value.as_str() {
            Some(text) => parse(text).map_err(|error| error.to_string()),
            None => Err(WRONG_TYPE.to_owned()),
        };
        let parsed: Result<_, String> = values.iter().map(parse).collect();
        self.check(name, parsed)
    }

    /// Reads an object with `read`. The errors of its members carry the path to them.
    pub fn object<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let value = self.take(name)?;
        self.object_of(value, name, read)
    }

    /// Reads the object `value` of the field `name`, as [`Self::object`].
    pub fn object_of<T>(&mut self, value: Value, name: &str, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let Value::Object(members) = value else {
            self.fault(name.to_owned(), "must be an object");
            return None;
        };
        let mut inner = Self {
            members,
            path: format!("{}{name}.", self.path),
            accepts_snake_case: self.accepts_snake_case,
            errors: std::mem::take(&mut self.errors),
        };
        let read = read(&mut inner);
        self.errors = inner.errors;
        Some(read)
    }

    /// Removes and returns all members that were not read.
    pub fn take_unread(&mut self) -> Map<String, Value> {
        std::mem::take(&mut self.members)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// `Validation` with all recorded errors.
    pub fn finish(self) -> Result<(), Failure> {
        if self.errors.is_empty() { Ok(()) } else { Err(Failure::Validation(self.errors)) }
    }

    fn wrong_type<T>(&mut self, name: &'static str, message: &'static str) -> Option<T> {
        self.fault(name, message);
        None
    }
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[derive(Clone, Copy)]
struct Strict {
    depth_left: usize,
}

impl Strict {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        match self.depth_left.checked_sub(1) {
            Some(depth_left) => Ok(Self { depth_left }),
            None => Err(E::custom("nested too deeply")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(inner)?;
            if map.insert(name, value).is_some() {
                return Err(de::Error::custom("duplicate member"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    // docs/design/security.md#rule-23
    #[test]
    fn input_that_is_not_one_plain_value_is_rejected() {
        for bad in [
            &br#"{"a":1,"a":1}"#[..],
            br#"{"x":{"a":1,"a":2}}"#,
            br#"{"a":1,"\u0061":2}"#,
            b"{} {}",
            b"{}x",
            b"",
            b"{",
            b"{\"a\":\"\xff\"}",
            b"\xef\xbb\xbf{}",
            b"{'a':1}",
            b"{\"a\":NaN}",
        ] {
            assert!(parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        let deep = |levels: usize| [b"[".repeat(levels), b"]".repeat(levels)].concat();
        assert!(parse(&deep(MAX_DEPTH)).is_ok());
        assert!(parse(&deep(MAX_DEPTH + 1)).is_err());
        assert!(parse(&deep(100_000)).is_err());
        assert!(matches!(parse_object(b"[]"), Err(ObjectError::OtherType)));
    }

    #[test]
    fn errors_contain_no_input() {
        let error = parse_object(br#"{"password":"hunter2","password":"hunter2"}"#).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    fn reader(members: Value) -> ObjectReader {
        let Value::Object(members) = members else { panic!("not an object") };
        ObjectReader::new(members)
    }

    fn errors(reader: ObjectReader) -> Vec<String> {
        match reader.finish() {
            Err(Failure::Validation(errors)) => {
                errors.iter().map(|error| format!("{} {}", error.field, error.message)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reader_collects_the_errors_of_all_members() {
        let members = json!({ "a": 1, "b": "x", "c": ["x", 1], "d": { "e": 1 }, "f": null, "g": "unread" });
        let mut reader = reader(members);
        assert_eq!(reader.text("a"), None);
        assert_eq!(reader.optional("b", |_| Err::<(), _>("is not supported")), None);
        assert_eq!(reader.texts("c", |text| Ok::<_, &str>(text.to_owned())), None);
        assert_eq!(reader.object("d", |inner| inner.flag("e")), Some(None));
        assert_eq!(reader.required("f", |text| Ok::<_, &str>(text.to_owned())), None);
        assert_eq!(reader.take_unread().keys().collect::<Vec<_>>(), ["g"]);
        let expected = [
            "a must be a string",
            "b is not supported",
            "c must be a list of strings",
            "d.e must be true or false",
            "f is required",
        ];
        assert_eq!(errors(reader), expected);
    }

    #[test]
    fn snake_case_names_are_accepted_on_request() {
        let members = json!({ "userId": null, "user_id": "u", "urlTemplate": "x", "url_template": "y" });
        let mut strict = reader(members.clone());
        assert_eq!(strict.text("userId"), None);
        let mut reader = reader(members).accepting_snake_case();
        assert_eq!(reader.text("userId").as_deref(), Some("u"));
        assert_eq!(reader.text("urlTemplate"), None);
        assert_eq!(errors(reader), ["urlTemplate must not be sent twice"]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn serialized_value_is_parsed_back(text in "\\PC{0,40}", number in any::<i64>()) {
            let value = json!({ "text": text, "list": [number, null, true] });
            prop_assert_eq!(parse(value.to_string().as_bytes()).unwrap(), value);
        }
    }
}
