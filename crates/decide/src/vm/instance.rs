//! The VMI that a VM makes from its template.

use api::VirtualMachine;
use api::names::{API_VERSION, VM_FINALIZER};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Annotation on a VMI: generation of the VM it was made from. Source: KubeVirt.
pub const GENERATION_ANNOTATION: &str = "kubevirt.io/vm-generation";
/// Annotation on a VMI: [`fingerprint`] of the template it was made from.
/// Upstream keeps the whole template in a ControllerRevision for this.
pub const TEMPLATE_ANNOTATION: &str = "edgevirt.io/vm-template";

/// Namespace of firmware UUIDs. Source: KubeVirt,
/// pkg/virt-controller/watch/vm/firmware.go; a VM moved from there keeps its
/// UUID, to which guests bind licences.
const FIRMWARE_NAMESPACE: Uuid = Uuid::from_u128(0x6a1a_24a1_4061_4607_8bf4_a396_3d0c_5895);
/// Namespace of fingerprints; drawn once, at random.
const TEMPLATE_NAMESPACE: Uuid = Uuid::from_u128(0x93c1_5b0e_8d0a_4f5e_b0c7_1f9a_2b64_7e31);

/// SMBIOS UUID of a VM that names none: the same at every start, from its name.
#[must_use]
pub fn firmware_uuid(name: &str) -> String {
    Uuid::new_v5(&FIRMWARE_NAMESPACE, name.as_bytes()).to_string()
}

/// Changes when anything in the template's spec changes that we act on.
#[must_use]
pub fn fingerprint(vm: &VirtualMachine) -> Option<String> {
    let spec = &vm.spec.template.as_ref()?.spec;
    let text = serde_json::to_vec(spec).ok()?;
    Some(Uuid::new_v5(&TEMPLATE_NAMESPACE, &text).to_string())
}

/// The VM as controller of its VMI.
pub(super) fn owner(vm: &VirtualMachine) -> OwnerReference {
    OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: "VirtualMachine".to_owned(),
        name: vm.metadata.name.clone().unwrap_or_default(),
        uid: vm.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The VMI of `vm`. `template` is its `spec.template` as stored, so that fields
/// we do not model reach the VMI too.
#[must_use]
pub fn instance(vm: &VirtualMachine, template: &Value) -> Value {
    let name = vm.metadata.name.clone().unwrap_or_default();
    let meta = &template["metadata"];
    let mut annotations = meta["annotations"].as_object().cloned().unwrap_or_default();
    if let Some(generation) = vm.metadata.generation {
        annotations.insert(
            GENERATION_ANNOTATION.to_owned(),
            json!(generation.to_string()),
        );
    }
    if let Some(fingerprint) = fingerprint(vm) {
        annotations.insert(TEMPLATE_ANNOTATION.to_owned(), json!(fingerprint));
    }
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), json!(name));
    metadata.insert("namespace".to_owned(), json!(vm.metadata.namespace));
    metadata.insert("annotations".to_owned(), Value::Object(annotations));
    if meta["labels"].is_object() {
        metadata.insert("labels".to_owned(), meta["labels"].clone());
    }
    metadata.insert("ownerReferences".to_owned(), json!([owner(vm)]));
    // So that nothing is lost: it goes when we have seen how the VMI ended.
    metadata.insert("finalizers".to_owned(), json!([VM_FINALIZER]));

    let mut spec = template["spec"].clone();
    if !spec.is_object() {
        spec = json!({});
    }
    if paused_start(vm) {
        spec["startStrategy"] = json!("Paused");
    }
    set_firmware_uuid(&mut spec, &name);
    json!({
        "apiVersion": API_VERSION,
        "kind": "VirtualMachineInstance",
        "metadata": metadata,
        "spec": spec,
    })
}

/// The start that is being honoured asks for a paused guest.
fn paused_start(vm: &VirtualMachine) -> bool {
    let requests = vm
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.state_change_requests);
    requests
        .iter()
        .find(|request| request.action == "Start")
        .and_then(|request| request.data.as_ref()?.get("paused"))
        .is_some_and(|paused| paused == "true")
}

fn set_firmware_uuid(spec: &mut Value, name: &str) {
    let mut at = spec;
    for key in ["domain", "firmware"] {
        if !at[key].is_object() {
            at[key] = json!({});
        }
        at = &mut at[key];
    }
    if at["uuid"].as_str().is_none_or(str::is_empty) {
        at["uuid"] = json!(firmware_uuid(name));
    }
}
