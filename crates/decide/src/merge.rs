//! JSON merge patches (RFC 7396) between two views of one object.

use serde_json::{Map, Value};

/// The merge patch that turns `old` into `new`; `None` when they are equal.
///
/// Fields that neither view knows are not in the patch, so they stay. Lists
/// are replaced whole, as RFC 7396 has it.
#[must_use]
pub fn diff(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return Some(new.clone());
    };
    let mut patch = Map::new();
    for (key, value) in new {
        match old.get(key) {
            None => {
                patch.insert(key.clone(), value.clone());
            }
            Some(before) => {
                if let Some(change) = diff(before, value) {
                    patch.insert(key.clone(), change);
                }
            }
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Some(Value::Object(patch))
}

/// [`diff`] of two serialisable values. Values that do not serialise count as empty.
pub fn diff_of<T: serde::Serialize>(old: &T, new: &T) -> Option<Value> {
    let value = |of: &T| serde_json::to_value(of).unwrap_or_default();
    diff(&value(old), &value(new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_changed_is_in_the_patch() {
        for (old, new, patch) in [
            (json!({"a": 1}), json!({"a": 1}), None),
            (json!({"a": 1}), json!({"a": 2}), Some(json!({"a": 2}))),
            (json!({"a": 1}), json!({}), Some(json!({"a": null}))),
            (json!({}), json!({"b": [1]}), Some(json!({"b": [1]}))),
            (
                json!({"m": {"x": 1, "y": 2}, "l": [1, 2]}),
                json!({"m": {"x": 1, "y": 3}, "l": [2]}),
                Some(json!({"m": {"y": 3}, "l": [2]})),
            ),
            (
                json!({"m": {"x": 1}}),
                json!({"m": {}}),
                Some(json!({"m": {"x": null}})),
            ),
        ] {
            assert_eq!(diff(&old, &new), patch, "{old} -> {new}");
        }
    }
}
