//! The messages as JSON (protobuf's JSON mapping): names in camelCase or as in the .proto, `null` is
//! absent, unknown fields are ignored, a 64-bit number is a string, bytes are base64, a default is left out.
//!
//! `proto/zitadel.user.v2.json.rs` lists the fields of each message. It is generated from the .proto file.

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose},
};
use jiff::Timestamp;
use prost::Message;
use prost_types::Timestamp as ProtoTimestamp;
use serde_json::{Map, Value};

use super::{proto::user, time};
use crate::json::ObjectReader;

/// A message that has a JSON form.
pub(super) trait JsonMessage: Message + Default {
    /// Reads the members of an object. Faults are recorded in `members`.
    fn from_json(members: &mut ObjectReader) -> Self;

    /// Returns the members that differ from their defaults.
    fn to_json(&self) -> Map<String, Value>;
}

/// An enumeration of the .proto file.
pub(super) trait JsonEnum: Sized {
    /// Description of the valid values.
    const ALLOWED: &'static str;

    /// Returns the number of a name.
    fn number(name: &str) -> Option<i32>;

    /// Returns the name of a number.
    fn name(number: i32) -> Option<&'static str>;
}

/// A type of single values in messages.
trait JsonValue: Sized {
    /// Reads the value of the field `name`, or records its fault.
    fn read(value: Value, members: &mut ObjectReader, name: &str) -> Option<Self>;

    fn write(&self) -> Value;
}

/// A type of fields: a value, an optional value or a list.
trait JsonField: Sized {
    fn take(members: &mut ObjectReader, name: &'static str) -> Self;

    /// Returns the value, or `None` for the default.
    fn member(&self) -> Option<Value>;
}

/// A field that holds the number of an enumeration.
trait EnumField: Sized {
    fn of(number: Option<i32>) -> Self;

    /// Returns the number, or `None` for the default.
    fn number(&self) -> Option<i32>;
}

macro_rules! json_enums {
    ($($enumeration:ty, $allowed:literal;)*) => {$(
        impl JsonEnum for $enumeration {
            const ALLOWED: &'static str = $allowed;

            fn number(name: &str) -> Option<i32> {
                Self::from_str_name(name).map(i32::from)
            }

            fn name(number: i32) -> Option<&'static str> {
                Self::try_from(number).ok().map(|value| value.as_str_name())
            }
        }
    )*};
}

macro_rules! json_messages {
    ($($message:ty {
        $(enumeration $numbered:ident $enumeration:ty, $enum_name:literal;)*
        $(value $field:ident $name:literal;)*
        $(oneof $oneof:ident { $($variant:path, $variant_name:literal;)* })*
    })*) => {$(
        impl JsonMessage for $message {
            #[allow(unused_variables, reason = "some messages have no fields")]
            fn from_json(members: &mut ObjectReader) -> Self {
                Self {
                    $($numbered: EnumField::of(enumerated::<$enumeration>(members, $enum_name)),)*
                    $($field: JsonField::take(members, $name),)*
                    $($oneof: {
                        let found = [$(alternative(members, $variant_name, $variant)),*];
                        one_of(members, [$($variant_name),*], found)
                    },)*
                }
            }

            #[allow(unused_mut, reason = "some messages have no fields")]
            fn to_json(&self) -> Map<String, Value> {
                let mut members = Map::new();
                $(insert(&mut members, $name, self.$field.member());)*
                $({
                    let number = self.$numbered.number();
                    let name = number.and_then(<$enumeration as JsonEnum>::name).map(Value::from);
                    insert(&mut members, $enum_name, name.or(number.map(Value::from)));
                })*
                $(match &self.$oneof {
                    $(Some($variant(value)) => insert(&mut members, $variant_name, Some(value.write())),)*
                    None => {}
                })*
                members
            }
        }
    )*};
}

include!("proto/zitadel.user.v2.json.rs");

/// Reads one alternative of a oneof.
fn alternative<T: JsonValue, O>(
    members: &mut ObjectReader,
    name: &'static str,
    variant: impl FnOnce(T) -> O,
) -> Option<O> {
    let value = members.take(name)?;
    T::read(value, members, name).map(variant)
}

/// Selects one of the alternatives and rejects several together.
fn one_of<O, const N: usize>(
    members: &mut ObjectReader,
    names: [&'static str; N],
    found: [Option<O>; N],
) -> Option<O> {
    let sent: Vec<_> =
        names.into_iter().zip(found).filter_map(|(name, found)| Some((name, found?))).collect();
    if sent.len() > 1 {
        for (name, _) in sent.iter().rev() {
            members.fault(*name, "must not be sent together with its alternative");
        }
    }
    sent.into_iter().next().map(|(_, found)| found)
}

fn enumerated<E: JsonEnum>(members: &mut ObjectReader, name: &'static str) -> Option<i32> {
    let value = members.take(name)?;
    let number = match &value {
        Value::String(text) => E::number(text),
        number => number.as_i64().and_then(|number| i32::try_from(number).ok()),
    };
    let known = number.filter(|number| E::name(*number).is_some());
    if known.is_none() {
        members.fault(name, E::ALLOWED);
    }
    known
}

fn insert(members: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        members.insert(name.to_owned(), value);
    }
}

impl<T: JsonValue + Default + PartialEq> JsonField for T {
    fn take(members: &mut ObjectReader, name: &'static str) -> Self {
        <Option<T> as JsonField>::take(members, name).unwrap_or_default()
    }

    fn member(&self) -> Option<Value> {
        (*self != Self::default()).then(|| self.write())
    }
}

impl<T: JsonValue> JsonField for Option<T> {
    fn take(members: &mut ObjectReader, name: &'static str) -> Self {
        let value = members.take(name)?;
        T::read(value, members, name)
    }

    fn member(&self) -> Option<Value> {
        self.as_ref().map(JsonValue::write)
    }
}

impl<T: JsonValue> JsonField for Vec<T> {
    fn take(members: &mut ObjectReader, name: &'static str) -> Self {
        match members.take(name) {
            None => Self::new(),
            Some(Value::Array(values)) => {
                let (mut read, before) = (Self::new(), members.faults());
                for (at, value) in values.into_iter().enumerate() {
                    read.extend(T::read(value, members, &format!("{name}[{at}]")));
                    if members.faults() > before {
                        // Later members of a long list would make the response and the audit event too large.
                        break;
                    }
                }
                read
            }
            Some(_) => {
                members.fault(name, "must be a list");
                Self::new()
            }
        }
    }

    fn member(&self) -> Option<Value> {
        (!self.is_empty()).then(|| self.iter().map(JsonValue::write).collect())
    }
}

impl EnumField for i32 {
    fn of(number: Option<i32>) -> Self {
        number.unwrap_or_default()
    }

    fn number(&self) -> Option<i32> {
        (*self != 0).then_some(*self)
    }
}

impl EnumField for Option<i32> {
    fn of(number: Option<i32>) -> Self {
        number
    }

    fn number(&self) -> Option<i32> {
        *self
    }
}

/// Returns the parsed value, or records that its type is wrong.
fn typed<T>(parsed: Option<T>, members: &mut ObjectReader, name: &str, why: &'static str) -> Option<T> {
    if parsed.is_none() {
        members.fault(name.to_owned(), why);
    }
    parsed
}

impl<M: JsonMessage> JsonValue for M {
    fn read(value: Value, members: &mut ObjectReader, name: &str) -> Option<Self> {
        members.object_of(value, name, M::from_json)
    }

    fn write(&self) -> Value {
        Value::Object(self.to_json())
    }
}

impl JsonValue for String {
    fn read(value: Value, members: &mut ObjectReader, name: &str) -> Option<Self> {
        let text = if let Value::String(text) = value { Some(text) } else { None };
        typed(text, members, name, "must be a string")
    }

    fn write(&self) -> Value {
        Value::from(self.as_str())
    }
}

impl JsonValue for bool {
    fn read(value: Value, members: &mut ObjectReader, name: &str) -> Option<Self> {
        typed(value.as_bool(), members, name, "must be true or false")
    }

    fn write(&self) -> Value {
        Value::from(*self)
    }
}

/// Reads a number, or a string with a number.
fn number<T: TryFrom<u64>>(value: &Value, members: &mut ObjectReader, name: &str) -> Option<T> {
    let number = value.as_str().map_or_else(|| value.as_u64(), |text| text.parse().ok());
    typed(number.and_then(|number| T::try_from(number).ok()), members, name, "must be a whole number")
}

impl JsonValue for u64 {
    fn read(value: Value, members: &mut ObjectReader, name: &str) -> Option<Self> {
        number(&value, members, name)
    }

    fn write(&self) -> Value {
        Value::from(self.to_string())
    }
}

impl JsonValue for u32 {
    fn read(value: Value, members: &mut ObjectReader, name: &str) -> Option<Self> {
        number(&value, members, name)
    }

    fn write(&self) -> Value {
        Value::from(*self)
    }
}

/// Decoders of base64 and base64url, with or without padding.
const DECODERS: [GeneralPurpose; 2] = {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [GeneralPurpose::new(&STANDARD, config), GeneralPurpose::new(&URL_SAFE, config)]
};

impl JsonValue for Vec<u8> {
    fn read(value: Value, members: &mut ObjectReader, name: &str) -> Option<Self> {
        let decode = |text: &str| DECODERS.iter().find_map(|decoder| decoder.decode(text).ok());
        typed(value.as_str().and_then(decode), members, name, "must be base64")
    }

    fn write(&self) -> Value {
        Value::from(general_purpose::STANDARD.encode(self))
    }
}

impl JsonValue for ProtoTimestamp {
    fn read(value: Value, members: &mut ObjectReader, name: &str) -> Option<Self> {
        let at = value.as_str().and_then(|text| text.parse().ok());
        typed(at.map(to_proto_time), members, name, "must be a time (RFC 3339)")
    }

    fn write(&self) -> Value {
        Timestamp::new(self.seconds, self.nanos).map_or(Value::Null, |at| Value::from(time(at)))
    }
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
