//! Whole manifests: those that must work, and those that are refused for a
//! named reason until the part they need exists.

use serde_json::{Value, json};

use super::{create, vm, vmi, with};

fn manifest(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

#[test]
fn the_stateless_vm_is_accepted_as_written() {
    let vm = manifest(include_str!("../../../../examples/statelessVM.yaml"));
    let (stored, verdict) = create(&vm);
    assert!(verdict.allowed, "{}", verdict.message);
    assert_eq!(
        verdict.warnings,
        ["spec.running is deprecated, please use spec.runStrategy instead."]
    );
    let spec = &stored["spec"]["template"]["spec"];
    assert_eq!(spec["architecture"], "amd64");
    assert_eq!(spec["domain"]["machine"]["type"], "q35");
    for id in ["uuid", "serial"] {
        assert_eq!(spec["domain"]["firmware"][id].as_str().unwrap().len(), 36);
    }
    assert_ne!(
        spec["domain"]["firmware"]["uuid"],
        spec["domain"]["firmware"]["serial"]
    );
}

#[test]
fn its_instance_is_accepted_with_defaults_and_a_first_status() {
    let vm = manifest(include_str!("../../../../examples/statelessVM.yaml"));
    let vmi = json!({
        "apiVersion": "kubevirt.io/v1alpha3",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "cirros", "namespace": "default"},
        "spec": vm["spec"]["template"]["spec"],
    });
    let (stored, verdict) = create(&vmi);
    assert!(verdict.allowed, "{}", verdict.message);
    assert_eq!(
        stored["metadata"]["finalizers"],
        json!(["kubevirt.io/foregroundDeleteVirtualMachine"])
    );
    assert_eq!(
        stored["status"],
        json!({
            "phase": "Pending",
            "phaseTransitionTimestamps": [
                {"phase": "Pending", "phaseTransitionTimestamp": "2026-01-02T03:04:05Z"}],
            "runtimeUser": 107,
            "memory": {"guestAtBoot": "2056M", "guestCurrent": "2056M", "guestRequested": "2056M"},
            "currentCPUTopology": {"cores": 2, "sockets": 1, "threads": 1},
        })
    );
    assert_eq!(stored["spec"]["domain"]["memory"]["guest"], "2056M");
    assert_eq!(
        stored["spec"]["volumes"][0]["containerDisk"]["imagePullPolicy"],
        "Always"
    );
}

#[test]
fn the_kubevirt_object_is_accepted_as_written() {
    let kubevirt = manifest(include_str!("../../../../examples/kubevirt-cr.yaml"));
    let (_, verdict) = create(&kubevirt);
    assert!(verdict.allowed, "{}", verdict.message);
    assert_eq!(verdict.warnings, Vec::<String>::new());
}

#[test]
fn a_vm_on_a_claim_is_accepted_as_written() {
    let (_, verdict) = create(&manifest(include_str!("../manifests/centos-vm.yaml")));
    assert!(verdict.allowed, "{}", verdict.message);
}

#[test]
fn a_vm_with_sriov_is_refused_by_its_two_fields() {
    let (_, verdict) = create(&manifest(include_str!("../manifests/sriov-vm.yaml")));
    assert_eq!(verdict.code, 422);
    let fields: Vec<&str> = verdict
        .causes
        .iter()
        .map(|cause| cause.field.as_str())
        .collect();
    assert_eq!(
        fields,
        [
            "spec.template.spec.domain.devices.interfaces[1].sriov",
            "spec.template.spec.networks[1].multus"
        ]
    );
}

#[test]
fn mutation_is_idempotent() {
    for object in [vm(), vmi()] {
        let (once, verdict) = create(&object);
        assert!(verdict.allowed, "{}", verdict.message);
        let (twice, _) = create(&once);
        assert_eq!(once, twice);
    }
}

#[test]
fn unknown_members_survive_mutation() {
    let object = with(vmi(), "/metadata/annotations", json!({"x/y": "z"}));
    let (stored, _) = create(&object);
    assert_eq!(stored["metadata"]["annotations"], json!({"x/y": "z"}));
    assert_eq!(stored["metadata"]["labels"], object["metadata"]["labels"]);
}

#[test]
fn a_forged_status_of_a_new_instance_is_replaced() {
    let (stored, verdict) = create(&with(
        vmi(),
        "/status",
        json!({"phase": "Running", "nodeName": "edge1"}),
    ));
    assert!(verdict.allowed);
    assert_eq!(stored["status"]["phase"], "Pending");
    assert_eq!(stored["status"]["nodeName"], Value::Null);
}
