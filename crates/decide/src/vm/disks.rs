//! The DataVolumes that a VM brings with it.
//!
//! They are made at once, or with the annotation
//! `kubevirt.io/immediate-data-volume-creation: "false"` at the first start; the
//! instance is made when they have their content. The owner reference lets
//! Kubernetes delete them with the VM.
//!
//! Source: KubeVirt, pkg/virt-controller/watch/vm/vm.go (`handleDataVolumes`),
//! pkg/virt-controller/watch/util and pkg/storage/types/dv.go.

use api::VirtualMachine;
use api::names::{CLAIM_ADOPTION_ANNOTATION, CREATED_BY_LABEL, IMMEDIATE_DATA_VOLUMES_ANNOTATION};
use api::vm::DataVolumeTemplate;
use serde_json::{Value, json};

use super::Op;
use super::instance::owner;
use crate::plan::{Event, Step};
use crate::storage::Templates;

/// Reason of the event and the condition of one that cannot be made.
const FAILED: &str = "FailedDataVolumeCreate";

/// The steps that make the missing ones, if it is time to.
pub(super) fn creations(
    vm: &VirtualMachine,
    templates: &Templates<'_>,
    starting: bool,
) -> Vec<Step<Op>> {
    let lazy = vm
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(IMMEDIATE_DATA_VOLUMES_ANNOTATION))
        .is_some_and(|immediate| immediate == "false");
    if lazy && !starting {
        return Vec::new();
    }
    templates
        .missing
        .iter()
        .map(|one| creation(vm, one))
        .collect()
}

fn creation(vm: &VirtualMachine, template: &DataVolumeTemplate) -> Step<Op> {
    let name = template.metadata.name.clone().unwrap_or_default();
    Step {
        op: Op::CreateDataVolume(Box::new(manifest(vm, template))),
        done: Some(Event {
            warning: false,
            reason: "SuccessfulDataVolumeCreate",
            message: format!("Created DataVolume {name}"),
        }),
        failed: Some(FAILED),
    }
}

/// The DataVolume of a template.
fn manifest(vm: &VirtualMachine, template: &DataVolumeTemplate) -> Value {
    let mut labels = template.metadata.labels.clone().unwrap_or_default();
    labels.insert(
        CREATED_BY_LABEL.to_owned(),
        vm.metadata.uid.clone().unwrap_or_default(),
    );
    let mut annotations = template.metadata.annotations.clone().unwrap_or_default();
    // A claim of that name, as a restored backup has it, becomes the DataVolume's.
    annotations.insert(CLAIM_ADOPTION_ANNOTATION.to_owned(), "true".to_owned());
    let mut spec = template.spec.clone();
    let class = vm
        .spec
        .template
        .as_ref()
        .and_then(|template| template.spec.priority_class_name.as_ref());
    if let (Some(class), Some(members)) = (class, spec.as_object_mut()) {
        members
            .entry("priorityClassName")
            .or_insert_with(|| json!(class));
    }
    json!({
        "apiVersion": "cdi.kubevirt.io/v1beta1",
        "kind": "DataVolume",
        "metadata": {
            "name": template.metadata.name,
            "namespace": vm.metadata.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner(vm)],
        },
        "spec": spec,
    })
}
