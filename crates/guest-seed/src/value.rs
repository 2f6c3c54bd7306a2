//! Looks into YAML whose shape is a matter of habit: cloud-init takes a string, a number or a list in many places.

use serde_yaml::Value;

/// A scalar as text: a password may be written `1234`, a mode `0644`.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// A member of a mapping as text.
pub(crate) fn member(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(text)
}

/// A list of texts, or one text as a list of one; nothing is an empty list.
pub(crate) fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Sequence(items)) => items.iter().filter_map(text).collect(),
        Some(one) => text(one).into_iter().collect(),
        None => Vec::new(),
    }
}

/// A sequence's items; nothing is an empty list.
pub(crate) fn items(value: Option<&Value>) -> &[Value] {
    match value {
        Some(Value::Sequence(items)) => items,
        _ => &[],
    }
}

/// A truth value, as YAML 1.1 and cloud-init's users write it.
pub(crate) fn truth(value: Option<&Value>) -> Option<bool> {
    match text(value?)?.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}
