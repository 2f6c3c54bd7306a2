//! Short ways into raw JSON objects. A missing field is null, as Go's zero value.

use serde_json::{Map, Value};

/// Null, to point at.
static NULL: Value = Value::Null;

/// Value at a dotted path of object keys; null when any step is missing.
pub(super) fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.')
        .try_fold(value, |here, key| here.get(key))
        .unwrap_or(&NULL)
}

/// Text, empty when it is not a string.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Boolean, when it is one.
pub(super) fn flag(value: &Value) -> Option<bool> {
    value.as_bool()
}

/// Elements of an array, none when it is not one.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Strings of an array.
pub(super) fn strings(value: &Value) -> Vec<String> {
    list(value)
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// Whether a field is there and not null.
pub(super) fn has(value: &Value, path: &str) -> bool {
    !at(value, path).is_null()
}

/// The object at a dotted path for writing; missing and null steps become objects.
pub(super) fn object_mut<'a>(value: &'a mut Value, path: &str) -> &'a mut Map<String, Value> {
    let mut here = value;
    for key in path.split('.').filter(|key| !key.is_empty()) {
        if !here.is_object() {
            *here = Value::Object(Map::new());
        }
        here = &mut here[key];
    }
    if !here.is_object() {
        *here = Value::Object(Map::new());
    }
    match here {
        Value::Object(map) => map,
        // Made an object two lines above.
        _ => unreachable!("not an object"),
    }
}

/// Sets `key` of the object at `path` when it is missing, null or an empty string.
pub(super) fn default_at(value: &mut Value, path: &str, key: &str, default: impl Into<Value>) {
    let slot = object_mut(value, path).entry(key).or_insert(Value::Null);
    if slot.is_null() || slot.as_str() == Some("") {
        *slot = default.into();
    }
}
