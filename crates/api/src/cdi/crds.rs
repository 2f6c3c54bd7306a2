//! The table of CDI's fields and the CustomResourceDefinitions made of it.
//!
//! Source of names, scopes, columns, categories and subresources: CDI's API types.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::names::{GROUP, VERSION};
use crate::schema::{Table, open_api};

const SOURCES: [&str; 1] = [include_str!("../../schema/cdi_kinds.tbl")];

/// The table of all fields of CDI's kinds, parsed at first use.
pub fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(|| Table::parse(&SOURCES).unwrap_or_default());
    &TABLE
}

/// A column of `kubectl get`: name, type, path, description.
type Column = (&'static str, &'static str, &'static str, &'static str);

/// What distinguishes one definition from the others.
struct Definition {
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short: &'static [&'static str],
    cluster: bool,
    /// Listed by `kubectl get all`.
    all: bool,
    status: bool,
    columns: &'static [Column],
}

const AGE: Column = ("Age", "date", ".metadata.creationTimestamp", "");

/// Kinds of which the table knows all fields.
pub const KINDS: [&str; 10] = [
    "CDI",
    "CDIConfig",
    "DataVolume",
    "StorageProfile",
    "DataSource",
    "DataImportCron",
    "VolumeImportSource",
    "VolumeUploadSource",
    "VolumeCloneSource",
    "ObjectTransfer",
];

/// A kind of a namespace without short name, column or status.
const PLAIN: Definition = Definition {
    kind: "",
    plural: "",
    singular: "",
    short: &[],
    cluster: false,
    all: false,
    status: false,
    columns: &[],
};

const DEFINITIONS: [Definition; 10] = [
    Definition {
        kind: "CDI",
        plural: "cdis",
        singular: "cdi",
        short: &["cdi", "cdis"],
        cluster: true,
        status: true,
        columns: &[AGE, ("Phase", "string", ".status.phase", "")],
        ..PLAIN
    },
    Definition {
        kind: "CDIConfig",
        plural: "cdiconfigs",
        singular: "cdiconfig",
        cluster: true,
        status: true,
        ..PLAIN
    },
    Definition {
        kind: "DataVolume",
        plural: "datavolumes",
        singular: "datavolume",
        short: &["dv", "dvs"],
        all: true,
        status: true,
        columns: &[
            (
                "Phase",
                "string",
                ".status.phase",
                "Where the data volume is on its way",
            ),
            (
                "Progress",
                "string",
                ".status.progress",
                "How much of the data is there, in percent, or N/A",
            ),
            (
                "Restarts",
                "integer",
                ".status.restartCount",
                "How often the worker was started again",
            ),
            AGE,
        ],
        ..PLAIN
    },
    Definition {
        kind: "StorageProfile",
        plural: "storageprofiles",
        singular: "storageprofile",
        cluster: true,
        status: true,
        ..PLAIN
    },
    Definition {
        kind: "DataSource",
        plural: "datasources",
        singular: "datasource",
        short: &["das"],
        all: true,
        status: true,
        ..PLAIN
    },
    Definition {
        kind: "DataImportCron",
        plural: "dataimportcrons",
        singular: "dataimportcron",
        short: &["dic", "dics"],
        all: true,
        status: true,
        columns: &[(
            "Format",
            "string",
            ".status.sourceFormat",
            "What imports are kept as",
        )],
        ..PLAIN
    },
    Definition {
        kind: "VolumeImportSource",
        plural: "volumeimportsources",
        singular: "volumeimportsource",
        ..PLAIN
    },
    Definition {
        kind: "VolumeUploadSource",
        plural: "volumeuploadsources",
        singular: "volumeuploadsource",
        ..PLAIN
    },
    Definition {
        kind: "VolumeCloneSource",
        plural: "volumeclonesources",
        singular: "volumeclonesource",
        ..PLAIN
    },
    Definition {
        kind: "ObjectTransfer",
        plural: "objecttransfers",
        singular: "objecttransfer",
        short: &["ot", "ots"],
        cluster: true,
        status: true,
        columns: &[
            AGE,
            ("Phase", "string", ".status.phase", ""),
            (
                "Complete",
                "string",
                ".status.conditions[?(@.type==\"Complete\")].status",
                "",
            ),
        ],
        ..PLAIN
    },
];

/// Definitions of all kinds, in the order of [`KINDS`].
pub fn crds() -> Vec<Value> {
    DEFINITIONS.iter().map(definition).collect()
}

fn definition(def: &Definition) -> Value {
    let columns: Vec<Value> = def
        .columns
        .iter()
        .map(|(name, ty, path, description)| {
            let mut column = json!({ "name": name, "type": ty, "jsonPath": path });
            if !description.is_empty() {
                column["description"] = json!(description);
            }
            column
        })
        .collect();
    let mut version = json!({
        "name": VERSION,
        "served": true,
        "storage": true,
        "schema": { "openAPIV3Schema": open_api(table(), def.kind) },
    });
    if !columns.is_empty() {
        version["additionalPrinterColumns"] = json!(columns);
    }
    if def.status {
        version["subresources"] = json!({ "status": {} });
    }
    let mut names = json!({
        "kind": def.kind,
        "listKind": format!("{}List", def.kind),
        "plural": def.plural,
        "singular": def.singular,
    });
    if !def.short.is_empty() {
        names["shortNames"] = json!(def.short);
    }
    if def.all {
        names["categories"] = json!(["all"]);
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{GROUP}", def.plural),
            "labels": { "operator.cdi.kubevirt.io": "" },
        },
        "spec": {
            "group": GROUP,
            "scope": if def.cluster { "Cluster" } else { "Namespaced" },
            "names": names,
            "versions": [version],
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::schema::State;
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_knows_every_kind() {
        let table = Table::parse(&SOURCES).unwrap();
        for kind in KINDS {
            assert!(table.get(kind).is_some(), "{kind}");
        }
    }

    #[test]
    fn definitions_are_definitions_of_the_kinds() {
        for (crd, kind) in crds().into_iter().zip(KINDS) {
            let crd: CustomResourceDefinition = serde_json::from_value(crd).unwrap();
            assert_eq!(crd.spec.names.kind, kind);
            assert_eq!(crd.spec.versions[0].name, "v1beta1");
        }
    }

    #[test]
    fn every_type_is_defined_and_used_and_every_field_that_can_be_reached_has_a_state() {
        let table = table();
        let mut used: BTreeSet<&str> = KINDS.into();
        let mut seen = BTreeSet::new();
        let mut queue: Vec<&str> = KINDS.to_vec();
        for ty in table.types() {
            for name in ty.fields.iter().filter_map(|field| field.kind.type_name()) {
                assert!(table.get(name).is_some(), "{}: {name}", ty.name);
                used.insert(name);
            }
        }
        while let Some(name) = queue.pop() {
            if !seen.insert(name) {
                continue;
            }
            for field in &table.get(name).unwrap().fields {
                match field.state {
                    State::Inherited => panic!("{name}.{} has no state", field.name),
                    State::Acted => queue.extend(field.kind.type_name()),
                    State::Accepted(_) | State::Refused(_) => {}
                }
            }
        }
        for ty in table.types() {
            assert!(used.contains(ty.name), "{} is not used", ty.name);
        }
    }

    #[test]
    fn a_data_volume_shows_phase_progress_restarts_and_age() {
        let columns = crds()[2]
            .pointer("/spec/versions/0/additionalPrinterColumns")
            .unwrap()
            .clone();
        let names: Vec<&str> = columns
            .as_array()
            .unwrap()
            .iter()
            .map(|column| column["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["Phase", "Progress", "Restarts", "Age"]);
    }
}
