//! OpenAPI v3 schemas out of the table, structural in the sense of
//! CustomResourceDefinitions: every type written out where it is used.

use serde_json::{Map, Value, json};

use super::table::{Attrs, Field, Kind, ListKind, State, Table, Type};

/// Regular expression of a quantity.
/// Source: k8s.io/apimachinery/pkg/api/resource, as controller-gen writes it.
const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// Schema of the object of kind `name`; null when the table does not know it.
pub fn open_api(table: &Table, name: &str) -> Value {
    table
        .get(name)
        .map_or(Value::Null, |ty| object_schema(table, ty))
}

fn object_schema(table: &Table, ty: &Type) -> Value {
    let mut out = json!({ "type": "object" });
    let mut properties = Map::new();
    for field in &ty.fields {
        properties.insert(field.name.to_owned(), field_schema(table, field));
    }
    if !properties.is_empty() {
        out["properties"] = Value::Object(properties);
    }
    let required: Vec<&str> = ty
        .fields
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    if !required.is_empty() {
        out["required"] = json!(required);
    }
    if ty.atomic {
        out["x-kubernetes-map-type"] = json!("atomic");
    }
    if ty.nullable {
        out["nullable"] = json!(true);
    }
    if ty.preserve {
        out["x-kubernetes-preserve-unknown-fields"] = json!(true);
    }
    out
}

fn field_schema(table: &Table, field: &Field) -> Value {
    let mut out = kind_schema(table, &field.kind);
    limit(&mut out, &field.attrs);
    match field.state {
        State::Refused(why) => out["description"] = json!(format!("Refused: {why}.")),
        State::Accepted(why) => out["description"] = json!(format!("No effect: {why}.")),
        State::Acted | State::Inherited => {}
    }
    out
}

fn kind_schema(table: &Table, kind: &Kind) -> Value {
    match kind {
        Kind::String => json!({ "type": "string" }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Int(None) => json!({ "type": "integer" }),
        Kind::Int(Some(format)) => json!({ "type": "integer", "format": format }),
        Kind::Number => json!({ "type": "number" }),
        Kind::Quantity => {
            let mut out = int_or_string();
            out["pattern"] = json!(QUANTITY);
            out
        }
        Kind::IntOrString => int_or_string(),
        Kind::Time => json!({ "type": "string", "format": "date-time" }),
        Kind::Object | Kind::Meta => json!({ "type": "object" }),
        Kind::TemplateMeta => json!({
            "type": "object",
            "nullable": true,
            "x-kubernetes-preserve-unknown-fields": true,
        }),
        Kind::Type(name) => open_api(table, name),
        Kind::List(list, inner) => {
            let mut out = json!({ "type": "array", "items": kind_schema(table, inner) });
            match list {
                ListKind::Atomic => out["x-kubernetes-list-type"] = json!("atomic"),
                ListKind::Set => out["x-kubernetes-list-type"] = json!("set"),
                ListKind::Map(keys) => {
                    out["x-kubernetes-list-type"] = json!("map");
                    out["x-kubernetes-list-map-keys"] = json!(keys);
                }
                ListKind::Unstated => {}
            }
            out
        }
        Kind::Map(inner) => json!({
            "type": "object",
            "additionalProperties": kind_schema(table, inner),
        }),
    }
}

fn int_or_string() -> Value {
    json!({
        "anyOf": [{ "type": "integer" }, { "type": "string" }],
        "x-kubernetes-int-or-string": true,
    })
}

fn limit(out: &mut Value, attrs: &Attrs) {
    if !attrs.values.is_empty() {
        out["enum"] = json!(attrs.values);
    }
    for (key, limit) in [
        ("minimum", attrs.min),
        ("maximum", attrs.max),
        ("minLength", attrs.min_length),
        ("maxLength", attrs.max_length),
        ("maxItems", attrs.max_items),
    ] {
        if let Some(limit) = limit {
            out[key] = json!(limit);
        }
    }
    if let Some(pattern) = attrs.pattern {
        out["pattern"] = json!(pattern);
    }
    if let Some(default) = &attrs.default {
        out["default"] = default.clone();
    }
    if attrs.nullable {
        out["nullable"] = json!(true);
    }
}
