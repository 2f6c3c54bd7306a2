//! The CustomResourceDefinitions of our kinds.
//!
//! Source of names, columns, categories, labels, subresources and the warning:
//! KubeVirt's pkg/virt-operator/resource/generate/components/crds.go and
//! kubevirt.io/api/core/v1/register.go.

use serde_json::{Value, json};

use super::{open_api, table};
use crate::names::{GROUP, VERSION};

/// What distinguishes one definition from the others.
struct Definition {
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short: &'static [&'static str],
    label: &'static str,
    /// VirtualMachineInstance has no status subresource: its status is written
    /// on the object itself, and the webhooks police who does.
    status: bool,
    columns: &'static [Column],
}

/// A column of `kubectl get`: name, type, path, priority, description.
type Column = (&'static str, &'static str, &'static str, i64, &'static str);

const AGE: Column = ("Age", "date", ".metadata.creationTimestamp", 0, "");
const PHASE: Column = ("Phase", "string", ".status.phase", 0, "");
const READY: Column = (
    "Ready",
    "string",
    ".status.conditions[?(@.type=='Ready')].status",
    0,
    "",
);

const DEFINITIONS: [Definition; 3] = [
    Definition {
        kind: "KubeVirt",
        plural: "kubevirts",
        singular: "kubevirt",
        short: &["kv", "kvs"],
        label: "operator.kubevirt.io",
        status: true,
        columns: &[AGE, PHASE],
    },
    Definition {
        kind: "VirtualMachine",
        plural: "virtualmachines",
        singular: "virtualmachine",
        short: &["vm", "vms"],
        label: "kubevirt.io",
        status: true,
        columns: &[
            AGE,
            (
                "Status",
                "string",
                ".status.printableStatus",
                0,
                "Human Readable Status",
            ),
            READY,
        ],
    },
    Definition {
        kind: "VirtualMachineInstance",
        plural: "virtualmachineinstances",
        singular: "virtualmachineinstance",
        short: &["vmi", "vmis"],
        label: "kubevirt.io",
        status: false,
        columns: &[
            AGE,
            PHASE,
            ("IP", "string", ".status.interfaces[0].ipAddress", 0, ""),
            ("NodeName", "string", ".status.nodeName", 0, ""),
            READY,
            (
                "Live-Migratable",
                "string",
                ".status.conditions[?(@.type=='LiveMigratable')].status",
                1,
                "",
            ),
            (
                "Paused",
                "string",
                ".status.conditions[?(@.type=='Paused')].status",
                1,
                "",
            ),
        ],
    },
];

/// Definitions of KubeVirt, VirtualMachine and VirtualMachineInstance, in v1
/// (stored) and v1alpha3 (served with a warning).
pub fn crds() -> Vec<Value> {
    DEFINITIONS.iter().map(definition).collect()
}

fn definition(def: &Definition) -> Value {
    let schema = open_api(table(), def.kind);
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{GROUP}", def.plural),
            "labels": { def.label: "" },
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": def.kind,
                "listKind": format!("{}List", def.kind),
                "plural": def.plural,
                "singular": def.singular,
                "shortNames": def.short,
                "categories": ["all"],
            },
            "versions": [
                version(def, &schema, VERSION, None),
                version(
                    def,
                    &schema,
                    "v1alpha3",
                    Some("kubevirt.io/v1alpha3 is now deprecated and will be removed in a future release."),
                ),
            ],
        },
    })
}

fn version(def: &Definition, schema: &Value, name: &str, warning: Option<&str>) -> Value {
    let columns: Vec<Value> = def
        .columns
        .iter()
        .map(|(name, ty, path, priority, description)| {
            let mut column = json!({ "name": name, "type": ty, "jsonPath": path });
            if *priority > 0 {
                column["priority"] = json!(priority);
            }
            if !description.is_empty() {
                column["description"] = json!(description);
            }
            column
        })
        .collect();
    let mut out = json!({
        "name": name,
        "served": true,
        "storage": name == VERSION,
        "schema": { "openAPIV3Schema": schema },
        "additionalPrinterColumns": columns,
    });
    if let Some(warning) = warning {
        out["deprecated"] = json!(true);
        out["deprecationWarning"] = json!(warning);
    }
    if def.status {
        out["subresources"] = json!({ "status": {} });
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

    fn typed() -> Vec<CustomResourceDefinition> {
        crds()
            .into_iter()
            .map(|crd| serde_json::from_value(crd).unwrap())
            .collect()
    }

    #[test]
    fn definitions_are_definitions() {
        let names: Vec<String> = typed()
            .into_iter()
            .map(|crd| crd.metadata.name.unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "kubevirts.kubevirt.io",
                "virtualmachines.kubevirt.io",
                "virtualmachineinstances.kubevirt.io"
            ]
        );
    }

    #[test]
    fn v1_is_stored_and_v1alpha3_warns() {
        for crd in typed() {
            let [v1, old] = &crd.spec.versions[..] else {
                unreachable!("two versions")
            };
            assert!(v1.storage && v1.served && v1.deprecated.is_none());
            assert!(!old.storage && old.served && old.deprecated == Some(true));
            assert_eq!(v1.schema, old.schema);
        }
    }

    #[test]
    fn only_instances_have_no_status_subresource() {
        let with: Vec<bool> = typed()
            .iter()
            .map(|crd| crd.spec.versions[0].subresources.is_some())
            .collect();
        assert_eq!(with, [true, true, false]);
    }

    #[test]
    fn template_metadata_is_kept() {
        let vm = &crds()[1];
        let metadata = vm
            .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/template/properties/metadata")
            .unwrap();
        assert_eq!(metadata["x-kubernetes-preserve-unknown-fields"], true);
    }

    #[test]
    fn quantities_are_numbers_or_text() {
        let vmi = &crds()[2];
        let requests = vmi
            .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/domain/properties/resources/properties/requests/additionalProperties")
            .unwrap();
        assert_eq!(requests["x-kubernetes-int-or-string"], true);
        assert!(requests["pattern"].as_str().unwrap().starts_with('^'));
    }
}
