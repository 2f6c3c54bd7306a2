//! Tables: every run strategy against every state; what a VM starts and when.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "tests build their values in place"
)]

mod disks;
mod ownership;
mod status;

use api::condition;
use api::vm::VmStatus;
use serde_json::{Value, json};

use super::*;
use crate::plan::Failure;

/// 2026-01-01T00:00:00Z.
pub(super) const NOW: i64 = 1_767_225_600;

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

pub(super) fn template() -> Value {
    json!({
        "metadata": { "labels": { "app": "web" }, "annotations": { "note": "kept" } },
        "spec": {
            "domain": { "devices": { "disableHotplug": true } },
            "volumes": [{ "name": "root", "containerDisk": { "image": "disk" } }],
        }
    })
}

/// A VM with our finalizer; `spec` is merged beside the template.
pub(super) fn vm(spec: Value, status: Value) -> VirtualMachine {
    let mut all = json!({ "template": template() });
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    serde_json::from_value(json!({
        "metadata": {
            "name": "web", "namespace": "ns", "uid": "vm-uid", "resourceVersion": "7",
            "generation": 3, "finalizers": [VM_FINALIZER]
        },
        "spec": all,
        "status": status,
    }))
    .unwrap()
}

/// The VM's instance in `phase`; `running` is whether it ever ran.
pub(super) fn vmi(phase: &str, running: bool) -> VirtualMachineInstance {
    let stamp = json!({"phase": "Running", "phaseTransitionTimestamp": "2026-01-01T00:00:00Z"});
    serde_json::from_value(json!({
        "metadata": {
            "name": "web", "namespace": "ns", "uid": "vmi-uid", "resourceVersion": "9",
            "finalizers": [VM_FINALIZER],
            "annotations": { GENERATION_ANNOTATION: "3" },
            "ownerReferences": [{
                "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "web",
                "uid": "vm-uid", "controller": true
            }]
        },
        "status": {
            "phase": phase,
            "phaseTransitionTimestamps": if running { json!([stamp]) } else { json!([]) }
        }
    }))
    .unwrap()
}

pub(super) fn deleted(mut vmi: VirtualMachineInstance) -> VirtualMachineInstance {
    vmi.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
    vmi
}

/// Nothing is stored.
pub(super) fn no_storage() -> &'static Storage {
    static NONE: std::sync::LazyLock<Storage> = std::sync::LazyLock::new(Storage::default);
    &NONE
}

fn observed<'a>(
    vm: &'a VirtualMachine,
    template: &'a Value,
    vmi: Option<&'a VirtualMachineInstance>,
) -> Observed<'a> {
    Observed {
        vm,
        template,
        vmi,
        failure: None,
        storage: no_storage(),
        random: 0.0,
    }
}

fn plan(vm: &VirtualMachine, vmi: Option<&VirtualMachineInstance>) -> Plan<Op> {
    let template = template();
    decide(&observed(vm, &template, vmi), at(0))
}

/// The operations in short: `create`, `delete`, `spec`, `status`, `instance`.
fn short(plan: &Plan<Op>) -> Vec<&'static str> {
    plan.steps
        .iter()
        .map(|step| match &step.op {
            Op::Patch(_) => "spec",
            Op::PatchStatus(_) => "status",
            Op::CreateDataVolume(_) => "disk",
            Op::CreateInstance(_) => "create",
            Op::DeleteInstance { .. } => "delete",
            Op::PatchInstance(_) => "instance",
        })
        .collect()
}

/// Those that change what exists, without the bookkeeping.
fn acts(plan: &Plan<Op>) -> Vec<&'static str> {
    let mut acts = short(plan);
    acts.retain(|act| matches!(*act, "create" | "delete" | "spec"));
    acts
}

/// What the status would be after the plan.
fn status_after(vm: &VirtualMachine, plan: &Plan<Op>) -> VmStatus {
    let mut status = serde_json::to_value(vm.status.clone().unwrap_or_default()).unwrap();
    for step in &plan.steps {
        if let Op::PatchStatus(patch) = &step.op {
            json_patch::merge(&mut status, &patch["status"]);
        }
    }
    serde_json::from_value(status).unwrap()
}

#[test]
fn every_run_strategy_against_every_state_of_the_instance() {
    let start = json!([{"action": "Start"}]);
    let stop = json!([{"action": "Stop", "uid": "vmi-uid"}]);
    let restart = json!([{"action": "Stop", "uid": "vmi-uid"}, {"action": "Start"}]);
    let none = json!([]);
    // State of the instance: "" is none, "-" in front means it is being deleted.
    let table: &[(&str, &str, &Value, &[&str])] = &[
        ("Always", "", &none, &["create"]),
        ("Always", "", &stop, &["create"]),
        ("Always", "Pending", &none, &[]),
        ("Always", "Running", &none, &[]),
        ("Always", "Running", &restart, &["delete"]),
        ("Always", "-Running", &restart, &[]),
        ("Always", "Succeeded", &none, &["delete"]),
        ("Always", "Failed", &none, &["delete"]),
        ("Always", "-Failed", &none, &[]),
        ("Halted", "", &none, &[]),
        ("Halted", "", &start, &["spec"]),
        ("Halted", "", &restart, &["spec"]),
        ("Halted", "Running", &none, &["delete"]),
        ("Halted", "Succeeded", &none, &["delete"]),
        ("Halted", "-Running", &restart, &[]),
        ("Manual", "", &none, &[]),
        ("Manual", "", &start, &["create"]),
        ("Manual", "", &restart, &["create"]),
        ("Manual", "Running", &none, &[]),
        ("Manual", "Running", &start, &[]),
        ("Manual", "Running", &stop, &["delete"]),
        ("Manual", "Running", &restart, &["delete"]),
        ("Manual", "-Running", &start, &[]),
        ("Manual", "Succeeded", &none, &[]),
        ("Manual", "Succeeded", &start, &["delete"]),
        ("Manual", "Failed", &restart, &["delete"]),
        ("RerunOnFailure", "", &start, &["create"]),
        ("RerunOnFailure", "Running", &none, &[]),
        ("RerunOnFailure", "Running", &stop, &["delete"]),
        ("RerunOnFailure", "Failed", &none, &["delete"]),
        ("RerunOnFailure", "Succeeded", &none, &["delete"]),
        ("RerunOnFailure", "-Failed", &none, &[]),
        ("Once", "", &none, &["create"]),
        ("Once", "Running", &none, &[]),
        ("Once", "Succeeded", &none, &[]),
        ("Once", "Failed", &none, &[]),
        ("WaitAsReceiver", "", &none, &[]),
        ("WaitAsReceiver", "Running", &none, &[]),
    ];
    for (strategy, state, requests, expected) in table {
        let vm = vm(
            json!({ "runStrategy": strategy }),
            json!({ "stateChangeRequests": requests, "runStrategy": strategy }),
        );
        let phase = state.trim_start_matches('-');
        let instance = (!phase.is_empty()).then(|| {
            let vmi = vmi(phase, true);
            if state.starts_with('-') {
                deleted(vmi)
            } else {
                vmi
            }
        });
        let plan = plan(&vm, instance.as_ref());
        assert_eq!(acts(&plan), *expected, "{strategy} {state} {requests}");
    }
}

#[test]
fn running_is_the_old_form_of_the_run_strategy() {
    let on = vm(json!({ "running": true }), json!({}));
    assert_eq!(acts(&plan(&on, None)), ["create"]);
    let off = vm(json!({ "running": false }), json!({}));
    assert_eq!(acts(&plan(&off, Some(&vmi("Running", true)))), ["delete"]);
    let start = json!({ "stateChangeRequests": [{"action": "Start", "data": {"paused": "true"}}] });
    let off = vm(json!({ "running": false }), start);
    let plan = plan(&off, None);
    let Op::Patch(patch) = &plan.steps[0].op else {
        panic!("{plan:?}")
    };
    assert_eq!(patch["spec"], json!({ "running": true }));
}

#[test]
fn rerun_on_failure_starts_when_it_is_new_and_queues_a_start_after_a_failure() {
    let spec = json!({ "runStrategy": "RerunOnFailure" });
    assert_eq!(acts(&plan(&vm(spec.clone(), json!({})), None)), ["create"]);
    let settled = json!({ "runStrategy": "RerunOnFailure" });
    assert!(acts(&plan(&vm(spec.clone(), settled.clone()), None)).is_empty());

    let vm = vm(spec, settled);
    let failed = plan(&vm, Some(&vmi("Failed", true)));
    assert_eq!(short(&failed), ["status", "delete"]);
    let requests = status_after(&vm, &failed).state_change_requests;
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].action, "Start");
    let succeeded = plan(&vm, Some(&vmi("Succeeded", true)));
    assert!(
        status_after(&vm, &succeeded)
            .state_change_requests
            .is_empty()
    );
}

#[test]
fn a_refused_start_is_tried_again_even_under_rerun_on_failure() {
    let vm = vm(json!({ "runStrategy": "RerunOnFailure" }), json!({}));
    let failure = Failure {
        reason: "FailedCreate".to_owned(),
        message: "no".to_owned(),
        retry_at: at(10),
    };
    let template = template();
    let held = Observed {
        failure: Some(&failure),
        ..observed(&vm, &template, None)
    };
    let plan = decide(&held, at(0));
    assert_eq!(short(&plan), ["status"]);
    assert_eq!(plan.requeue.unwrap().as_secs(), 10);
    let status = status_after(&vm, &plan);
    assert_eq!(status.run_strategy, None);
    let told = condition::find(&status.conditions, "Failure").unwrap();
    assert_eq!(
        (told.reason.as_str(), told.message.as_str()),
        ("FailedCreate", "no")
    );
    assert_eq!(acts(&decide(&held, at(10))), ["create"]);
}

#[test]
fn starts_that_fail_are_counted_once_and_wait_longer_each_time() {
    for (failures, random, expected) in [
        (1, 0.0, 10),
        (1, 1.0, 15),
        (2, 0.0, 40),
        (3, 0.5, 112),
        (5, 0.0, 250),
        (5, 1.0, 300),
        (6, 0.0, 300),
        (10_000, 1.0, 300),
        (0, 0.0, 10),
    ] {
        assert_eq!(
            backoff_seconds(failures, random),
            expected,
            "{failures} {random}"
        );
    }

    let spec = json!({ "runStrategy": "Always" });
    let fresh = vm(spec.clone(), json!({}));
    let first = plan(&fresh, Some(&vmi("Failed", false)));
    assert_eq!(short(&first), ["status", "delete"]);
    let status = status_after(&fresh, &first);
    assert_eq!(status.printable_status, "CrashLoopBackOff");
    let failure = status.start_failure.clone().unwrap();
    assert_eq!(failure.consecutive_fail_count, Some(1));
    assert_eq!(failure.retry_after_timestamp.unwrap().0, at(10));

    let counted = vm(spec.clone(), serde_json::to_value(&status).unwrap());
    let again = status_after(&counted, &plan(&counted, Some(&vmi("Failed", false))));
    assert_eq!(again.start_failure.unwrap().consecutive_fail_count, Some(1));

    let waiting = plan(&counted, None);
    assert!(acts(&waiting).is_empty());
    assert_eq!(waiting.requeue.unwrap().as_secs(), 10);
    let template = template();
    let later = decide(&observed(&counted, &template, None), at(10));
    assert_eq!(acts(&later), ["create"]);

    let told_to_go = plan(&fresh, Some(&deleted(vmi("Failed", false))));
    assert_eq!(status_after(&fresh, &told_to_go).start_failure, None);
    let ran = status_after(&counted, &plan(&counted, Some(&vmi("Running", true))));
    assert_eq!(ran.start_failure, None);
    let manual = vm(
        json!({ "runStrategy": "Manual" }),
        serde_json::to_value(&status).unwrap(),
    );
    assert_eq!(
        status_after(&manual, &plan(&manual, None)).start_failure,
        None
    );
}

#[test]
fn a_vm_is_stopping_until_its_instance_is_gone_and_then_honours_the_queued_start() {
    let queued = json!({
        "runStrategy": "Manual", "created": true,
        "stateChangeRequests": [{"action": "Stop", "uid": "vmi-uid"}, {"action": "Start"}]
    });
    let vm = vm(json!({ "runStrategy": "Manual" }), queued);
    let going = plan(&vm, Some(&deleted(vmi("Succeeded", true))));
    let status = status_after(&vm, &going);
    assert_eq!(status.printable_status, "Stopping");
    assert_eq!(status.state_change_requests.len(), 2);
    assert_eq!(acts(&plan(&vm, None)), ["create"]);
}

#[test]
fn a_request_that_is_done_is_dropped_under_the_resource_version() {
    let vm = vm(
        json!({ "runStrategy": "Manual" }),
        json!({ "stateChangeRequests": [{"action": "Start"}] }),
    );
    let plan = plan(&vm, Some(&vmi("Running", true)));
    let Op::PatchStatus(patch) = &plan.steps[0].op else {
        panic!("{plan:?}")
    };
    assert_eq!(patch["metadata"]["resourceVersion"], "7");
    assert!(status_after(&vm, &plan).state_change_requests.is_empty());
}

#[test]
fn the_instance_is_made_from_the_template_as_it_is_stored() {
    let vm = vm(
        json!({ "runStrategy": "Manual" }),
        json!({ "stateChangeRequests": [{"action": "Start", "data": {"paused": "true"}}] }),
    );
    let made = instance(&vm, &template());
    assert_eq!(made["metadata"]["name"], "web");
    assert_eq!(made["metadata"]["labels"], json!({"app": "web"}));
    assert_eq!(made["metadata"]["annotations"]["note"], "kept");
    assert_eq!(made["metadata"]["annotations"][GENERATION_ANNOTATION], "3");
    assert_eq!(made["metadata"]["finalizers"], json!([VM_FINALIZER]));
    let owner = &made["metadata"]["ownerReferences"][0];
    assert_eq!(owner["uid"], "vm-uid");
    assert_eq!(
        (&owner["controller"], &owner["blockOwnerDeletion"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(made["spec"]["startStrategy"], "Paused");
    // A field that our types do not know.
    assert_eq!(made["spec"]["domain"]["devices"]["disableHotplug"], true);
    assert_eq!(
        made["spec"]["domain"]["firmware"]["uuid"],
        firmware_uuid("web")
    );
}

#[test]
fn the_firmware_uuid_is_upstreams_for_the_name() {
    // KubeVirt, pkg/virt-controller/watch/vm/firmware.go: SHA-1 UUID of the name
    // in the namespace 6a1a24a1-4061-4607-8bf4-a3963d0c5895.
    assert_eq!(
        firmware_uuid("testvmi"),
        "f8918e71-270a-598e-a2a4-1afac39e1394"
    );
    assert_ne!(firmware_uuid("a"), firmware_uuid("b"));
}
