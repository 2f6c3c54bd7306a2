//! The DataVolumes that a VM brings with it.
//!
//! Source: pkg/storage/admitters/data-volume-template.go. Whether a clone of a
//! claim of another namespace is allowed is asked when virt-controller makes the DataVolume:
//! for the account `default` of the VM's namespace.

use std::collections::BTreeSet;

use serde_json::Value;

use super::json::{at, has, list_at, text_at};
use super::names;
use super::spec::{Causes, Path};
use super::verdict::{Cause, Reason};

/// What is wrong with the templates of the VM in `namespace` whose spec this is.
pub(super) fn templates(spec: &Value, namespace: &str) -> Vec<Cause> {
    let mut out = Causes::default();
    let mut seen = BTreeSet::new();
    let volumes = list_at(spec, "template.spec.volumes");
    for (index, template) in list_at(spec, "dataVolumeTemplates").iter().enumerate() {
        // The path is upstream's, without the s.
        let path = Path::new("spec.dataVolumeTemplate").index(index);
        let name = text_at(template, "metadata.name");
        if name.is_empty() {
            let field = path.child("name");
            let message =
                format!("'name' field must not be empty for DataVolumeTemplate entry {field}.");
            out.add(Reason::Required, &field, message);
            continue;
        }
        for why in names::dns_subdomain(name) {
            out.invalid(&path.child("metadata.name"), why);
        }
        if !seen.insert(name) {
            let field = path.child("metadata.name");
            let message = format!("{field} '{name}' is the name of another DataVolumeTemplate");
            out.add(Reason::Duplicate, &field, message);
        }
        let set = text_at(template, "metadata.namespace");
        if !set.is_empty() && set != namespace {
            let field = path.child("metadata.namespace");
            let message =
                format!("{field} must be {namespace}, the namespace of the virtual machine");
            out.invalid(&field, message);
        }
        source(&path, at(template, "spec"), namespace, &mut out);
        let used = volumes.iter().any(|volume| {
            text_at(volume, "dataVolume.name") == name
                || text_at(volume, "persistentVolumeClaim.claimName") == name
        });
        if !used {
            let message = format!(
                "DataVolumeTemplate entry {path} must be referenced in the VMI template's 'volumes' list"
            );
            out.add(Reason::Required, &path, message);
        }
    }
    out.into_vec()
}

fn source(path: &Path, spec: &Value, namespace: &str, out: &mut Causes) {
    let target = path.child("PVC.Storage");
    match (has(spec, "pvc"), has(spec, "storage")) {
        (false, false) => return out.invalid(&target, "Missing Data volume PVC or Storage"),
        (true, true) => {
            return out.invalid(
                &target,
                "Duplicate storage definition, both target storage and target pvc defined",
            );
        }
        _ => {}
    }
    let external = ["pvc", "storage"].iter().any(|target| {
        let target = at(spec, target);
        has(target, "dataSource") || has(target, "dataSourceRef")
    });
    let inner = has(spec, "source") || has(spec, "sourceRef");
    match (external, inner) {
        (true, true) => out.invalid(
            &path.child("source"),
            "External population is incompatible with Source and SourceRef",
        ),
        (false, false) => out.invalid(
            &path.child("source.sourceRef"),
            "Data volume should have either Source, SourceRef, or be externally populated",
        ),
        _ => {}
    }
    if let Some(source) = at(spec, "source").as_object() {
        let count = source.values().filter(|value| !value.is_null()).count();
        if count == 0 {
            out.invalid(&path.child("source"), "Missing dataVolume valid source");
        } else if count > 1 {
            out.invalid(&path.child("source"), "Multiple dataVolume sources");
        }
    }
    let other = text_at(spec, "source.snapshot.namespace");
    if !other.is_empty() && other != namespace {
        let field = path.child("spec.source.snapshot.namespace");
        let message = format!(
            "{field} {other} is not supported: snapshots are restored in their own namespace, here {namespace}; clone the claim, or export the disk"
        );
        out.add(Reason::NotSupported, &field, message);
    }
}
