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

/// Text at a dotted path, empty when there is none.
pub(super) fn text_at<'a>(value: &'a Value, path: &str) -> &'a str {
    text(at(value, path))
}

/// Elements of an array, none when it is not one.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Elements of the array at a dotted path.
pub(super) fn list_at<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    list(at(value, path))
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

/// Whether a field is missing, null or an empty text: Go's unset string.
pub(super) fn is_blank(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

/// Place at a dotted path for writing; missing steps become objects.
/// `None` when a step is something else: such an object is malformed, and the
/// schema will say so better than a default can.
pub(super) fn slot<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(value, |here, key| {
        if here.is_null() {
            *here = Value::Object(Map::new());
        }
        here.as_object_mut()
            .map(|map| map.entry(key).or_insert(Value::Null))
    })
}

/// Sets the field at a dotted path when it is [`is_blank`].
pub(super) fn default_at(value: &mut Value, path: &str, default: impl Into<Value>) {
    if is_blank(at(value, path))
        && let Some(slot) = slot(value, path)
    {
        *slot = default.into();
    }
}

/// Sets the field at a dotted path.
pub(super) fn set_at(value: &mut Value, path: &str, new: impl Into<Value>) {
    if let Some(slot) = slot(value, path) {
        *slot = new.into();
    }
}

/// Elements of the array at a dotted path, for writing; none when it is not there.
pub(super) fn list_mut<'a>(value: &'a mut Value, path: &str) -> &'a mut [Value] {
    path.split('.')
        .try_fold(value, |here, key| here.get_mut(key))
        .and_then(Value::as_array_mut)
        .map_or(&mut [], Vec::as_mut_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_fill_blanks_and_make_the_way_there() {
        let mut value = json!({"a": {"b": ""}, "text": "x"});
        default_at(&mut value, "a.b", "c");
        default_at(&mut value, "d.e.f", 1);
        default_at(&mut value, "a.b", "again");
        default_at(&mut value, "text.below", "impossible");
        assert_eq!(
            value,
            json!({"a": {"b": "c"}, "d": {"e": {"f": 1}}, "text": "x"})
        );
    }
}
