//! Batch reads in two parts.

use serde_json::{Map, Value, json};

use super::{
    call::{Call, ItemKey},
    fault::Injection,
};

/// `RequestItems` of the two parts of a batch read. A part without keys is `None`.
pub(super) struct Parts {
    pub(super) first: Option<Value>,
    pub(super) second: Option<Value>,
}

/// Splits a batch read at the item of a fault: the matching keys are in the second part.
pub(super) fn split_at_item(call: &Call, injection: &Injection) -> Parts {
    split(call, |_, key| injection.item.matches(key))
}

/// Splits a batch read in two halves.
pub(super) fn split_in_halves(call: &Call) -> Parts {
    let half = call.keys.len().div_ceil(2);
    split(call, |index, _| index >= half)
}

fn split(call: &Call, is_second: impl Fn(usize, &ItemKey) -> bool) -> Parts {
    let mut parts = [Map::new(), Map::new()];
    let mut index = 0;
    for (table, wanted) in call.json["RequestItems"].as_object().into_iter().flatten() {
        for key in wanted["Keys"].as_array().into_iter().flatten() {
            let part = &mut parts[usize::from(is_second(index, &ItemKey::of(key)))];
            index += 1;
            let entry = part.entry(table).or_insert_with(|| {
                let mut wanted = wanted.clone();
                wanted["Keys"] = json!([]);
                wanted
            });
            if let Some(keys) = entry["Keys"].as_array_mut() {
                keys.push(key.clone());
            }
        }
    }
    let [first, second] = parts.map(|part| (!part.is_empty()).then_some(Value::Object(part)));
    Parts { first, second }
}

/// Returns the body of a request for one part.
pub(super) fn request(call: &Call, part: Value) -> Value {
    let mut request = call.json.clone();
    request["RequestItems"] = part;
    request
}

/// Response to a batch read that read nothing.
pub(super) fn empty() -> Value {
    json!({ "Responses": {}, "UnprocessedKeys": {} })
}

/// Adds the response to the second part to the response to the first.
pub(super) fn merge(first: &mut Value, second: &Value) {
    for member in ["Responses", "UnprocessedKeys"] {
        let Some(added) = second[member].as_object() else { continue };
        for (table, more) in added {
            let known = &mut first[member][table];
            match (known.as_array_mut(), more.as_array()) {
                (Some(known), Some(more)) => known.extend(more.iter().cloned()),
                _ => *known = more.clone(),
            }
        }
    }
    if let Some(more) = second["ConsumedCapacity"].as_array() {
        match first["ConsumedCapacity"].as_array_mut() {
            Some(known) => known.extend(more.iter().cloned()),
            None => first["ConsumedCapacity"] = json!(more),
        }
    }
}
