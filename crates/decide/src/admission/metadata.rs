//! Labels and annotations of a VMI, in the object itself or in a template.
//!
//! Source: `ValidateVirtualMachineInstanceMetadata` of vmi-create-admitter.go.

use serde_json::{Map, Value};

use super::context::ClusterConfig;
use super::json::{at, text};
use super::spec::{Causes, Path};
use super::verdict::Reason;

/// Labels that only the components may set: they say where a VMI runs.
const RESERVED_LABELS: [&str; 6] = [
    "kubevirt.io/created-by",
    "kubevirt.io/migrationJobUID",
    "kubevirt.io/nodeName",
    "kubevirt.io/migrationTargetNodeName",
    "kubevirt.io/schedulable",
    "kubevirt.io/install-strategy",
];

/// An annotation that asks for a feature behind a gate.
struct Gated {
    annotation: &'static str,
    gate: &'static str,
    /// How upstream's message calls the gate.
    called: &'static str,
    /// Why it is refused even with the gate on.
    reason: &'static str,
}

const GATED: [Gated; 2] = [
    Gated {
        annotation: "kubevirt.io/ignitiondata",
        gate: "ExperimentalIgnitionSupport",
        called: "ExperimentalIgnitionSupport",
        reason: "Ignition configurations are not implemented yet",
    },
    Gated {
        annotation: "hooks.kubevirt.io/hookSidecars",
        gate: "Sidecar",
        called: "sidecar",
        reason: "hook sidecars are not implemented",
    },
];

/// What is wrong with the metadata at `path`.
pub(super) fn check(
    path: &Path,
    metadata: &Value,
    config: &ClusterConfig,
    by_component: bool,
    out: &mut Causes,
) {
    if !by_component && !reserved_labels(metadata).is_empty() {
        out.add(
            Reason::NotSupported,
            &path.child("labels"),
            "creation of the following reserved kubevirt.io/ labels on a VMI object is prohibited",
        );
    }
    let field = path.child("annotations");
    for gated in &GATED {
        if text(&at(metadata, "annotations")[gated.annotation]).is_empty() {
            continue;
        }
        let entry = field.child(gated.annotation);
        let message = if config.gate(gated.gate) {
            format!("{entry} is not supported: {}", gated.reason)
        } else {
            format!(
                "{} feature gate is not enabled in kubevirt-config, invalid entry {entry}",
                gated.called
            )
        };
        out.invalid(&field, message);
    }
}

/// The reserved labels that an object carries.
pub(super) fn reserved_labels(metadata: &Value) -> Map<String, Value> {
    at(metadata, "labels")
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| RESERVED_LABELS.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
