//! Refusal of every field that is set and that edgevirt does not act on.
//!
//! The walk follows the table of fields: below a field that is acted on it goes
//! on, at an accepted one it stops, at a refused one it asks whether the field
//! says anything at all. A field the table does not know is refused too: the
//! API server drops those, except where the schema preserves them.

use api::schema::{Field, Kind, State, Table, Type, table};
use serde_json::Value;

use super::verdict::{Cause, Reason};

/// Causes for all fields of `object`, of kind `kind`, that edgevirt neither acts
/// on nor can safely ignore.
pub fn unsupported(kind: &str, object: &Value) -> Vec<Cause> {
    unsupported_in(table(), kind, object)
}

/// As [`unsupported`], for a kind of another `table`.
pub fn unsupported_in(table: &Table, kind: &str, object: &Value) -> Vec<Cause> {
    let mut out = Vec::new();
    match table.get(kind) {
        Some(ty) => walk_object(table, ty, object, "", &mut out),
        None => out.push(Cause::new(
            Reason::NotSupported,
            "kind",
            format!("kind {kind} is not one edgevirt serves"),
        )),
    }
    out
}

fn walk_object(table: &Table, ty: &Type, value: &Value, path: &str, out: &mut Vec<Cause>) {
    let Some(members) = value.as_object() else {
        return;
    };
    for (name, member) in members {
        let here = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        match ty.field(name) {
            _ if member.is_null() => {}
            Some(field) => walk_field(table, field, member, &here, out),
            None => out.push(Cause::new(
                Reason::NotSupported,
                here.clone(),
                format!("{here} is not supported: no such field"),
            )),
        }
    }
}

fn walk_field(table: &Table, field: &Field, value: &Value, path: &str, out: &mut Vec<Cause>) {
    match field.state {
        State::Acted => walk_kind(table, &field.kind, value, path, out),
        State::Refused(why) if says_something(field, value) => {
            let at = first_element(value, path);
            let message = format!("{at} is not supported: {why}");
            out.push(Cause::new(Reason::NotSupported, at, message));
        }
        State::Refused(_) | State::Accepted(_) | State::Inherited => {}
    }
}

fn walk_kind(table: &Table, kind: &Kind, value: &Value, path: &str, out: &mut Vec<Cause>) {
    match kind {
        Kind::Type(name) => {
            if let Some(ty) = table.get(name) {
                walk_object(table, ty, value, path, out);
            }
        }
        Kind::List(_, inner) => {
            for (index, element) in value.as_array().into_iter().flatten().enumerate() {
                walk_kind(table, inner, element, &format!("{path}[{index}]"), out);
            }
        }
        Kind::Map(inner) => {
            for (key, member) in value.as_object().into_iter().flatten() {
                walk_kind(table, inner, member, &format!("{path}.{key}"), out);
            }
        }
        _ => {}
    }
}

/// Path of what is refused: of a list, its first element.
fn first_element(value: &Value, path: &str) -> String {
    if value.is_array() {
        format!("{path}[0]")
    } else {
        path.to_owned()
    }
}

/// Whether a refused field asks for anything. Zero values do not; an empty
/// object does unless the table says it is void (`sriov: {}` is a wish).
fn says_something(field: &Field, value: &Value) -> bool {
    match value {
        Value::Object(_) if field.attrs.void => !is_zero(value),
        Value::Object(_) => true,
        Value::String(text) if Some(text.as_str()) == field.attrs.harmless => false,
        _ => !is_zero(value),
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Object(members) => members.values().all(is_zero),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(kind: &str, object: &Value) -> Vec<String> {
        unsupported(kind, object)
            .into_iter()
            .map(|cause| cause.field)
            .collect()
    }

    #[test]
    fn refused_fields_are_named_by_path_and_reason() {
        let causes = unsupported(
            "VirtualMachine",
            &json!({"spec": {"template": {"spec": {"domain": {"devices": {
                "hostDevices": [{"name": "a", "deviceName": "b"}],
                "interfaces": [{"name": "x", "bridge": {}}, {"name": "y", "sriov": {}}],
            }}}}}}),
        );
        let fields: Vec<&str> = causes.iter().map(|cause| cause.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "spec.template.spec.domain.devices.hostDevices[0]",
                "spec.template.spec.domain.devices.interfaces[1].sriov"
            ]
        );
        assert!(
            causes[1]
                .message
                .ends_with("SR-IOV interfaces are not implemented yet")
        );
        assert_eq!(causes[0].reason, Reason::NotSupported);
    }

    #[test]
    fn zero_values_ask_for_nothing() {
        let vmi = json!({"spec": {
            "accessCredentials": [],
            "serviceAccountName": "",
            "livenessProbe": null,
            "domain": {
                "cpu": {"dedicatedCpuPlacement": false, "maxSockets": 0},
                "clock": {"timer": {}},
                "rebootPolicy": "Reboot",
                "devices": {"autoattachInputDevice": false, "disableHotplug": true},
            },
        }});
        assert_eq!(fields("VirtualMachineInstance", &vmi), Vec::<String>::new());
        let kubevirt = json!({"spec": {
            "workloadUpdateStrategy": {}, "customizeComponents": {},
            "configuration": {"virtTemplateDeployment": {"enabled": false}},
        }});
        assert_eq!(fields("KubeVirt", &kubevirt), Vec::<String>::new());
    }

    #[test]
    fn empty_objects_may_be_a_wish() {
        let vmi =
            json!({"spec": {"domain": {"devices": {"tpm": {}}, "launchSecurity": {"snp": {}}}}});
        assert_eq!(
            fields("VirtualMachineInstance", &vmi),
            ["spec.domain.devices.tpm", "spec.domain.launchSecurity"]
        );
    }

    #[test]
    fn unknown_fields_and_kinds_are_refused() {
        let vmi = json!({"spec": {"domain": {"clock": {"offset": "utc"}}}});
        assert_eq!(
            fields("VirtualMachineInstance", &vmi),
            ["spec.domain.clock.offset"]
        );
        assert_eq!(fields("VirtualMachinePool", &json!({})), ["kind"]);
    }

    #[test]
    fn status_is_the_components_business() {
        let vmi = json!({"status": {"migrationState": {"completed": true}}});
        assert_eq!(fields("VirtualMachineInstance", &vmi), Vec::<String>::new());
    }
}
