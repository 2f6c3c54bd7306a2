//! A new ObjectTransfer: from somewhere to somewhere else, and nothing is there.

use api::cdi::names::API_VERSION;
use serde_json::Value;

use super::Context;
use crate::admission::{Cause, Reason, dns_subdomain};

/// What is wrong with a new transfer, fields that are not supported apart.
pub(super) fn judge(object: &Value, ctx: &Context) -> Vec<Cause> {
    let mut out = Vec::new();
    let (source, target) = (&object["spec"]["source"], &object["spec"]["target"]);
    let kind = text(&source["kind"]);
    let version = match kind {
        "DataVolume" => API_VERSION,
        "PersistentVolumeClaim" => "v1",
        _ => {
            out.push(invalid(
                "spec.source.kind",
                format!("Unsupported kind {kind:?}"),
            ));
            return out;
        }
    };
    let told = text(&source["apiVersion"]);
    if !told.is_empty() && told != version {
        let message = format!("expected {version}, found {told:?}");
        out.push(invalid("spec.source.apiVersion", message));
    }
    if target["namespace"].is_null() && target["name"].is_null() {
        let message = "Target namespace and/or target name must be supplied";
        out.push(invalid("spec.target", message.to_owned()));
        return out;
    }
    for (path, value) in [
        ("spec.source.namespace", &source["namespace"]),
        ("spec.source.name", &source["name"]),
        ("spec.target.namespace", &target["namespace"]),
        ("spec.target.name", &target["name"]),
    ] {
        let wrong = dns_subdomain(text(value));
        if !value.is_null() && !wrong.is_empty() {
            let message = format!("{path}: found {value}: {}", wrong.join("; "));
            out.push(invalid(path, message));
        }
    }
    let (namespace, name) = target_of(object);
    if namespace == text(&source["namespace"]) && name == text(&source["name"]) {
        let message = format!("expected another place than the source's, found {namespace}/{name}");
        out.push(invalid("spec.target", message));
    } else if ctx.transfer_target_exists {
        let message = format!("ObjectTransfer target \"{namespace}/{name}\" already exists");
        out.push(Cause::new(Reason::Duplicate, "spec.target", message));
    }
    out
}

/// Namespace and name that a new transfer goes to.
#[must_use]
pub fn target_of(object: &Value) -> (&str, &str) {
    let (source, target) = (&object["spec"]["source"], &object["spec"]["target"]);
    (
        target["namespace"]
            .as_str()
            .unwrap_or_else(|| text(&source["namespace"])),
        target["name"]
            .as_str()
            .unwrap_or_else(|| text(&source["name"])),
    )
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn invalid(path: &str, message: String) -> Cause {
    Cause::new(Reason::Invalid, path, message)
}
