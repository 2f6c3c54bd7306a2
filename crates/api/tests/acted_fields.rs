//! The table of fields and the typed structs agree: what the table says is
//! acted on survives a way through the structs. A field that vanishes there is
//! either forgotten in a struct or wrongly called acted on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use api::schema::{Field, Kind, State, table};
use serde_json::{Map, Value, json};

/// Acted on by admission alone, on the raw object.
const ADMISSION_ONLY: [&str; 6] = [
    "spec.configuration.architectureConfiguration",
    "spec.configuration.emulatedMachines",
    "spec.configuration.evictionStrategy",
    "spec.configuration.vmRolloutStrategy",
    "spec.configuration.virtualMachineOptions",
    "spec.configuration.developerConfiguration.disabledFeatureGates",
];

/// An object of type `name` in which every field that is acted on is set.
fn sample(name: &str, path: &str) -> Value {
    let mut out = Map::new();
    for field in &table().get(name).unwrap().fields {
        let path = if path.is_empty() {
            field.name.to_owned()
        } else {
            format!("{path}.{}", field.name)
        };
        if field.state == State::Acted && !ADMISSION_ONLY.contains(&path.as_str()) {
            out.insert(field.name.to_owned(), value(field, &field.kind, &path));
        }
    }
    Value::Object(out)
}

fn value(field: &Field, kind: &Kind, path: &str) -> Value {
    match kind {
        Kind::String | Kind::IntOrString => match (path, field.attrs.values.first()) {
            (_, Some(word)) => json!(word),
            ("spec.runStrategy", None) => json!("Always"),
            _ => json!("text"),
        },
        Kind::Bool => json!(true),
        Kind::Int(_) | Kind::Number => json!(11),
        Kind::Quantity => json!("11Mi"),
        Kind::Time => json!("2026-01-02T03:04:05Z"),
        Kind::Object => json!({}),
        Kind::Meta | Kind::TemplateMeta => json!({"labels": {"a": "b"}}),
        Kind::Type(name) => sample(name, path),
        Kind::List(_, inner) => json!([value(field, inner, path)]),
        Kind::Map(inner) => json!({"key": value(field, inner, path)}),
    }
}

/// Paths that are in `want` and not the same in `got`.
fn lost(want: &Value, got: &Value, path: &str, out: &mut Vec<String>) {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            for (key, value) in want {
                lost(
                    value,
                    got.get(key).unwrap_or(&Value::Null),
                    &format!("{path}.{key}"),
                    out,
                );
            }
        }
        (Value::Array(want), Value::Array(got)) if want.len() == got.len() => {
            for (want, got) in want.iter().zip(got) {
                lost(want, got, &format!("{path}[]"), out);
            }
        }
        _ if want == got => {}
        _ => out.push(format!("{path}: {want} became {got}")),
    }
}

fn check<T: serde::de::DeserializeOwned + serde::Serialize>(kind: &str) {
    let want = sample(kind, "");
    let typed: T = serde_json::from_value(want.clone())
        .unwrap_or_else(|why| panic!("{kind}: {why} in {want}"));
    let mut out = Vec::new();
    lost(&want, &serde_json::to_value(typed).unwrap(), "", &mut out);
    assert!(out.is_empty(), "{kind}:\n{}", out.join("\n"));
}

#[test]
fn virtual_machines() {
    check::<api::VirtualMachine>("VirtualMachine");
}

#[test]
fn virtual_machine_instances() {
    check::<api::VirtualMachineInstance>("VirtualMachineInstance");
}

#[test]
fn kubevirts() {
    check::<api::KubeVirt>("KubeVirt");
}
