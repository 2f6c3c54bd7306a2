//! What the API server does with an object before a validating webhook sees it: unknown fields
//! are dropped, and the definition's schema is kept.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use regex::Regex;
use serde_json::Value;

/// Schemas by kind: the newest version of each definition of ours.
fn schemas() -> &'static HashMap<String, Value> {
    static ALL: OnceLock<HashMap<String, Value>> = OnceLock::new();
    ALL.get_or_init(|| {
        let all = api::schema::crds().into_iter().chain(api::cdi::crds());
        all.filter_map(|definition| {
            let spec = &definition["spec"];
            let schema = &spec["versions"][0]["schema"]["openAPIV3Schema"];
            Some((spec["names"]["kind"].as_str()?.to_owned(), schema.clone()))
        })
        .collect()
    })
}

/// The definition's schema of an object's kind; of none of ours, one that takes all.
pub(crate) fn of(object: &Value) -> &'static Value {
    static ANY: Value = Value::Null;
    let kind = object["kind"].as_str().unwrap_or_default();
    schemas().get(kind).unwrap_or(&ANY)
}

fn fits(text: &str, pattern: &str) -> bool {
    static KNOWN: Mutex<Option<HashMap<String, Regex>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    known
        .entry(pattern.to_owned())
        .or_insert_with(|| Regex::new(pattern).expect("a pattern of ours"))
        .is_match(text)
}

/// Drops the fields that the schema does not know.
pub(crate) fn prune(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(known) = schema["properties"].as_object() {
                if schema["x-kubernetes-preserve-unknown-fields"] != true {
                    fields.retain(|name, _| known.contains_key(name));
                }
                for (name, field) in fields {
                    if let Some(schema) = known.get(name) {
                        prune(field, schema);
                    }
                }
            } else if schema["additionalProperties"].is_object() {
                for field in fields.values_mut() {
                    prune(field, &schema["additionalProperties"]);
                }
            }
        }
        Value::Array(all) => {
            for one in all {
                prune(one, &schema["items"]);
            }
        }
        _ => {}
    }
}

/// Whether a value is as the schema has it.
pub(crate) fn keeps(value: &Value, schema: &Value) -> bool {
    if value.is_null() {
        return schema["nullable"] == true;
    }
    let kind = if schema["x-kubernetes-int-or-string"] == true {
        value.is_i64() || value.is_string()
    } else {
        match schema["type"].as_str() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean(),
            Some("integer") => value.is_i64() && in_format(value, schema),
            Some("number") => value.is_number(),
            _ => true,
        }
    };
    kind && limits(value, schema) && parts(value, schema)
}

fn in_format(value: &Value, schema: &Value) -> bool {
    schema["format"] != "int32" || value.as_i64().is_some_and(|n| i32::try_from(n).is_ok())
}

fn limits(value: &Value, schema: &Value) -> bool {
    let allowed = schema["enum"].as_array();
    let number = value.as_f64();
    let bound = |name: &str| schema[name].as_f64();
    allowed.is_none_or(|all| all.contains(value))
        && number.is_none_or(|n| bound("minimum").is_none_or(|least| n >= least))
        && number.is_none_or(|n| bound("maximum").is_none_or(|most| n <= most))
        && match (value.as_str(), schema["pattern"].as_str()) {
            (Some(text), Some(pattern)) => fits(text, pattern),
            _ => true,
        }
}

fn parts(value: &Value, schema: &Value) -> bool {
    match value {
        Value::Object(fields) => {
            let needed = schema["required"].as_array().into_iter().flatten();
            let all = needed
                .filter_map(Value::as_str)
                .all(|name| fields.contains_key(name));
            all && fields.iter().all(|(name, field)| {
                let other = &schema["additionalProperties"];
                let schema = schema["properties"].get(name).unwrap_or(other);
                keeps(field, schema)
            })
        }
        Value::Array(all) => all.iter().all(|one| keeps(one, &schema["items"])),
        _ => true,
    }
}
