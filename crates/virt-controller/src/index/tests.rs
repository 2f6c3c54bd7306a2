//! The index under events and answers in any order.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "tests build their values in place"
)]

use decide::{vm, vmi};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;

fn key() -> ObjectKey {
    ObjectKey {
        namespace: "ns".to_owned(),
        name: "web".to_owned(),
    }
}

fn vm(version: u32, running: Value) -> RawVm {
    serde_json::from_value(json!({
        "metadata": {
            "name": "web", "namespace": "ns", "uid": "vm-uid", "generation": 1,
            "resourceVersion": version.to_string(),
            "finalizers": ["kubevirt.io/virtualMachineControllerFinalize"],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
        },
        "spec": {"running": running, "template": {"spec": {"domain": {}, "unknown": 1}}}
    }))
    .unwrap()
}

fn vmi(version: u32, uid: &str, phase: &str) -> RawVmi {
    serde_json::from_value(json!({
        "metadata": {
            "name": "web", "namespace": "ns", "uid": uid, "resourceVersion": version.to_string(),
            "labels": {"kubevirt.io/nodeName": "edge1"},
            "finalizers": ["kubevirt.io/foregroundDeleteVirtualMachine"],
            "ownerReferences": [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
                "name": "web", "uid": "vm-uid", "controller": true}]
        },
        "spec": {"domain": {}},
        "status": {"phase": phase}
    }))
    .unwrap()
}

fn pod(version: u32, ready: bool) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": "virt-launcher-web-x", "namespace": "ns", "uid": "pod-uid",
            "resourceVersion": version.to_string(),
            "ownerReferences": [{"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
                "name": "web", "uid": "vmi-uid", "controller": true}]
        },
        "spec": {"nodeName": "edge1", "containers": []},
        "status": {"phase": "Running", "conditions": [
            {"type": "ContainersReady", "status": if ready { "True" } else { "False" }}
        ]}
    }))
    .unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).unwrap()
}

fn vm_ops(index: &Index) -> Vec<vm::Op> {
    let plan = index.decide_vm(&key(), 0.0, at(0));
    plan.steps.into_iter().map(|step| step.op).collect()
}

fn vmi_ops(index: &mut Index) -> Vec<vmi::Op> {
    let plan = index.decide_vmi(&key(), at(0));
    plan.steps.into_iter().map(|step| step.op).collect()
}

#[test]
fn a_vm_and_its_instance_wake_each_other() {
    let mut index = Index::new("launcher:1");
    assert_eq!(index.put_vm(vm(1, json!(true))), [Key::Vm(key())]);
    let ops = vm_ops(&index);
    let [vm::Op::CreateInstance(made)] = ops.as_slice() else {
        panic!("{ops:?}")
    };
    // Fields that the types do not know reach the instance.
    assert_eq!(made["spec"]["unknown"], 1);
    assert_eq!(
        index.put_vmi(vmi(2, "vmi-uid", "Pending")),
        [Key::Vm(key()), Key::Vmi(key())]
    );
    assert!(
        !vm_ops(&index)
            .iter()
            .any(|op| matches!(op, vm::Op::CreateInstance(_)))
    );
    assert_eq!(
        index.remove_vm(&vm(3, json!(true)).metadata),
        [Key::Vmi(key())]
    );
}

#[test]
fn an_older_state_does_not_replace_a_newer_one() {
    let mut index = Index::new("launcher:1");
    index.put_vmi(vmi(9, "vmi-uid", "Scheduled"));
    assert!(index.put_vmi(vmi(8, "vmi-uid", "Scheduling")).is_empty());
    assert_eq!(
        index.vmis[&key()]
            .vmi
            .status
            .as_ref()
            .unwrap()
            .phase
            .as_str(),
        "Scheduled"
    );
    // The end of an earlier instance says nothing about this one.
    assert!(index.remove_vmi(&vmi(10, "other", "").metadata).is_empty());
    assert_eq!(index.vmi_uid(&key()).as_deref(), Some("vmi-uid"));
    // A new instance may have any version.
    assert!(!index.put_vmi(vmi(1, "new", "")).is_empty());

    index.put_pod(&pod(5, true));
    assert!(index.put_pod(&pod(4, false)).is_empty());
    assert!(index.pods["vmi-uid"][0].facts.containers_ready);
}

#[test]
fn a_pod_that_changed_nothing_for_us_wakes_nobody() {
    let mut index = Index::new("launcher:1");
    assert_eq!(index.put_pod(&pod(1, false)), [Key::Vmi(key())]);
    assert!(index.put_pod(&pod(2, false)).is_empty());
    assert_eq!(index.put_pod(&pod(3, true)), [Key::Vmi(key())]);
    assert_eq!(index.remove_pod(&pod(4, true)), [Key::Vmi(key())]);
    assert!(index.pods.is_empty());
}

#[test]
fn a_pod_is_gone_only_when_the_api_server_said_so() {
    let mut index = Index::new("launcher:1");
    index.put_vmi(vmi(1, "vmi-uid", "Running"));
    assert!(matches!(
        vmi_ops(&mut index).as_slice(),
        [vmi::Op::ConfirmPod { .. }]
    ));
    index.pod_is_absent(&key(), "vmi-uid");
    let ops = vmi_ops(&mut index);
    let [vmi::Op::Patch(patch)] = ops.as_slice() else {
        panic!("{ops:?}")
    };
    assert_eq!(patch["status"]["phase"], "Failed");
    // A late pod takes the word back.
    index.put_pod(&pod(2, true));
    index.forget_pod("vmi-uid", "pod-uid");
    assert!(matches!(
        vmi_ops(&mut index).as_slice(),
        [vmi::Op::ConfirmPod { .. }]
    ));
}

#[test]
fn a_list_after_a_gap_removes_what_is_gone() {
    let mut index = Index::new("launcher:1");
    index.put_vm(vm(1, json!(false)));
    index.put_vmi(vmi(1, "vmi-uid", "Running"));
    index.put_pod(&pod(1, true));
    assert_eq!(index.reset_pods(&[]), [Key::Vmi(key())]);
    assert_eq!(
        index.reset_vmis(Vec::new()),
        [Key::Vm(key()), Key::Vmi(key())]
    );
    assert_eq!(index.reset_vms(Vec::new()), [Key::Vmi(key())]);
    assert!(index.vms.is_empty() && index.vmis.is_empty() && index.pods.is_empty());
}

#[test]
fn a_failure_holds_longer_each_time_and_ends_with_success_or_a_new_spec() {
    let mut index = Index::new("launcher:1");
    index.put_vm(vm(1, json!(true)));
    let key = Key::Vm(key());
    let retry_at = |index: &Index| {
        let failing = index.vms.values().next().unwrap().failing.as_ref();
        failing.map(|failing| failing.failure.retry_at)
    };
    index.fail(&key, "FailedCreate", "no", at(0));
    let first = retry_at(&index).unwrap();
    index.fail(&key, "FailedCreate", "no", at(0));
    assert!(retry_at(&index).unwrap() > first);
    assert!(
        !vm_ops(&index)
            .iter()
            .any(|op| matches!(op, vm::Op::CreateInstance(_)))
    );
    index.put_vm(vm(2, json!(true)));
    assert!(retry_at(&index).is_some());
    let mut changed = vm(3, json!(true));
    changed.metadata.generation = Some(2);
    index.put_vm(changed);
    assert_eq!(retry_at(&index), None);
    index.fail(&key, "FailedCreate", "no", at(0));
    index.succeed(&key);
    assert_eq!(retry_at(&index), None);
}

#[test]
fn an_object_that_does_not_fit_its_type_stops_nothing() {
    let mut index = Index::new("launcher:1");
    let mut odd = vm(1, json!(true));
    odd.spec["running"] = json!("yes");
    assert!(index.put_vm(odd).is_empty());
    assert_eq!(index.put_vm(vm(2, json!(true))), [Key::Vm(key())]);
}

#[test]
fn a_node_wakes_its_vmis_when_it_goes() {
    let mut index = Index::new("launcher:1");
    let node: ObjectMeta = serde_json::from_value(json!({
        "name": "edge1", "labels": {"kubevirt.io/schedulable": "true"},
        "annotations": {"kubevirt.io/heartbeat": "2026-01-01T00:00:00Z"}
    }))
    .unwrap();
    assert_eq!(index.put_node(&node), [Key::Node("edge1".to_owned())]);
    assert!(index.put_node(&node).is_empty());
    assert_eq!(
        index.decide_node("edge1", at(0)).requeue.unwrap().as_secs(),
        300
    );
    assert_eq!(index.decide_node("edge1", at(300)).steps.len(), 1);
    index.put_vmi(vmi(1, "vmi-uid", "Running"));
    assert_eq!(index.remove_node("edge1"), [Key::Vmi(key())]);
}

#[test]
fn settings_follow_the_kubevirt_object() {
    let mut index = Index::new("launcher:1");
    let kubevirt: KubeVirt = serde_json::from_value(json!({
        "spec": {"configuration": {"developerConfiguration": {"useEmulation": true}}}
    }))
    .unwrap();
    index.set_kubevirt(Some(&kubevirt));
    assert!(index.settings.use_emulation);
    index.set_kubevirt(None);
    assert!(!index.settings.use_emulation);
}

#[test]
fn a_third_start_waits_until_one_of_two_is_ready() {
    let mut index = Index::new("launcher:1");
    let named = |name: &str| -> RawVmi {
        let uid = format!("{name}-uid");
        let mut vmi = vmi(1, &uid, "Pending");
        vmi.metadata.name = Some(name.to_owned());
        vmi
    };
    let key = |name: &str| ObjectKey {
        name: name.to_owned(),
        ..key()
    };
    for name in ["a", "b", "c"] {
        index.put_vmi(named(name));
    }
    let makes_pod = |index: &mut Index, name: &str| {
        let plan = index.decide_vmi(&key(name), at(0));
        plan.steps
            .iter()
            .any(|step| matches!(step.op, vmi::Op::CreatePod(_)))
    };
    assert!(makes_pod(&mut index, "a"));
    assert!(makes_pod(&mut index, "b"));
    assert!(!makes_pod(&mut index, "c"));
    let mut ready = pod(2, true);
    let owner = &mut ready.metadata.owner_references.as_mut().unwrap()[0];
    owner.name = "a".to_owned();
    owner.uid = "a-uid".to_owned();
    assert_eq!(index.put_pod(&ready), [Key::Vmi(key("a"))]);
    assert_eq!(index.next_starts(&key("a"), at(1)), [Key::Vmi(key("c"))]);
    assert!(makes_pod(&mut index, "c"));
}

fn claim(phase: &str) -> k8s_openapi::api::core::v1::PersistentVolumeClaim {
    serde_json::from_value(json!({
        "metadata": {"name": "disk", "namespace": "ns", "uid": "c"},
        "status": {"phase": phase}
    }))
    .unwrap()
}

fn on_claim() -> RawVmi {
    let mut raw = vmi(2, "vmi-uid", "Pending");
    raw.spec = json!({"domain": {}, "volumes": [
        {"name": "root", "persistentVolumeClaim": {"claimName": "disk"}}]});
    raw
}

#[test]
fn a_claim_wakes_those_that_name_it_and_only_when_it_tells_something() {
    let mut index = Index::new("launcher:1");
    index.put_vmi(on_claim());
    assert_eq!(index.put_claim(&claim("Pending")), [Key::Vmi(key())]);
    assert_eq!(index.put_claim(&claim("Pending")), []);
    assert_eq!(index.put_claim(&claim("Bound")), [Key::Vmi(key())]);
    let mut other = claim("Bound");
    other.metadata.namespace = Some("other".to_owned());
    assert_eq!(index.put_claim(&other), []);
    assert_eq!(index.reset_claims(&[]), [Key::Vmi(key())]);
}

#[test]
fn an_instance_waits_for_its_claim_and_takes_nobodys_turn() {
    let mut index = Index::new("launcher:1");
    index.put_vmi(on_claim());
    let ops = vmi_ops(&mut index);
    let [vmi::Op::Patch(patch)] = ops.as_slice() else {
        panic!("{ops:?}")
    };
    assert!(patch.to_string().contains("FailedPvcNotFound"), "{patch}");
    index.put_claim(&claim("Pending"));
    let ops = vmi_ops(&mut index);
    assert!(matches!(ops.as_slice(), [vmi::Op::CreatePod(_)]), "{ops:?}");
}

#[test]
fn a_data_volume_wakes_the_vm_whose_template_it_is_but_its_progress_does_not() {
    let mut index = Index::new("launcher:1");
    let mut raw = vm(1, json!(true));
    raw.spec["dataVolumeTemplates"] = json!([{"metadata": {"name": "disk"}, "spec": {}}]);
    index.put_vm(raw);
    let known = |version: u32, phase: &str, progress: &str| -> crate::raw::RawDataVolume {
        serde_json::from_value(json!({
            "metadata": {"name": "disk", "namespace": "ns", "uid": "d",
                "resourceVersion": version.to_string()},
            "status": {"phase": phase, "progress": progress}
        }))
        .unwrap()
    };
    let ops = vm_ops(&index);
    let [vm::Op::CreateDataVolume(made)] = ops.as_slice() else {
        panic!("{ops:?}")
    };
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "vm-uid");
    let wakes = [Key::Vm(key())];
    assert_eq!(
        index.put_data_volume(&known(5, "ImportInProgress", "1%")),
        wakes
    );
    assert_eq!(
        index.put_data_volume(&known(6, "ImportInProgress", "2%")),
        []
    );
    assert!(
        !vm_ops(&index)
            .iter()
            .any(|op| matches!(op, vm::Op::CreateInstance(_)))
    );
    assert_eq!(index.put_data_volume(&known(7, "Succeeded", "100%")), wakes);
    assert_eq!(
        index.put_data_volume(&known(6, "ImportInProgress", "2%")),
        []
    );
    assert!(matches!(
        vm_ops(&index).as_slice(),
        [vm::Op::CreateInstance(_)]
    ));
}
