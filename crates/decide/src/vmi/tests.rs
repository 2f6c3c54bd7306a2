//! Tables: phases, pods that are made, disks that are waited for.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "tests build their values in place"
)]

mod end;
mod status;

use serde_json::json;

use super::*;
use crate::pod::PodPhase;

/// 2026-01-01T00:00:00Z.
const NOW: i64 = 1_767_225_600;

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

pub(super) fn settings() -> Settings {
    Settings {
        use_emulation: true,
        ..Settings::new("launcher:1")
    }
}

pub(super) fn vmi(phase: &str) -> VirtualMachineInstance {
    let stamps = if phase.is_empty() {
        json!([])
    } else {
        json!([{"phase": phase, "phaseTransitionTimestamp": "2026-01-01T00:00:00Z"}])
    };
    serde_json::from_value(json!({
        "metadata": {
            "name": "web", "namespace": "ns", "uid": "vmi-uid", "resourceVersion": "5",
            "finalizers": [VMI_FINALIZER, VM_FINALIZER], "labels": {"app": "web"}
        },
        "spec": {
            "domain": {
                "cpu": {"cores": 2}, "memory": {"guest": "1Gi"},
                "devices": {"interfaces": [{"name": "default", "bridge": {}}]}
            },
            "networks": [{"name": "default", "pod": {}}]
        },
        "status": {"phase": phase, "phaseTransitionTimestamps": stamps}
    }))
    .unwrap()
}

pub(super) fn deleted(mut vmi: VirtualMachineInstance) -> VirtualMachineInstance {
    vmi.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
    vmi
}

/// A launcher pod that runs and is ready.
pub(super) fn pod() -> PodFacts {
    PodFacts {
        name: "virt-launcher-web-x".to_owned(),
        uid: "pod-uid".to_owned(),
        vmi_name: "web".to_owned(),
        vmi_uid: "vmi-uid".to_owned(),
        node: "edge1".to_owned(),
        phase: PodPhase::Running,
        containers_ready: true,
        ready: Some(crate::conditions::condition("Ready", true, "", "")),
        unpaused: Some(true),
        qos_class: Some("Burstable".to_owned()),
        image: "launcher:1".to_owned(),
        ..PodFacts::default()
    }
}

fn pending_pod() -> PodFacts {
    PodFacts {
        node: String::new(),
        phase: PodPhase::Pending,
        containers_ready: false,
        ready: None,
        ..pod()
    }
}

fn over(exit_code: i32, finished: i64) -> PodFacts {
    PodFacts {
        phase: if exit_code == 0 {
            PodPhase::Succeeded
        } else {
            PodPhase::Failed
        },
        containers_ready: false,
        exit_code: Some(exit_code),
        finished_at: Some(at(finished)),
        ..pod()
    }
}

fn run(vmi: &VirtualMachineInstance, pods: &[PodFacts]) -> Plan<Op> {
    run_with(vmi, pods, |_| {})
}

fn run_with(
    vmi: &VirtualMachineInstance,
    pods: &[PodFacts],
    change: impl Fn(&mut Observed<'_>),
) -> Plan<Op> {
    let settings = settings();
    let mut observed = Observed {
        vmi,
        pods,
        absence_confirmed: true,
        owner_exists: true,
        node_unresponsive: false,
        waits_until: None,
        failure: None,
        storage: &Storage::default(),
        settings: &settings,
    };
    change(&mut observed);
    decide(&observed, at(0))
}

fn patch(plan: &Plan<Op>) -> Value {
    let patches: Vec<&Value> = plan
        .steps
        .iter()
        .filter_map(|step| match &step.op {
            Op::Patch(patch) => Some(patch),
            _ => None,
        })
        .collect();
    assert!(patches.len() < 2, "{plan:?}");
    patches
        .first()
        .map_or(Value::Null, |patch| (*patch).clone())
}

fn condition_in(patch: &Value, type_: &str) -> Option<(String, String)> {
    let conditions = patch["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|c| c["type"] == type_)?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason")))
}

#[test]
fn phases_follow_the_pod() {
    let deleting_pod = PodFacts {
        deleting: true,
        ..pod()
    };
    let table: Vec<(&str, bool, Vec<PodFacts>, &str)> = vec![
        // phase, VMI is deleted, pods, next phase ("" for no change)
        ("", false, vec![pending_pod()], "Scheduling"),
        ("Pending", false, vec![pending_pod()], "Scheduling"),
        ("Pending", true, vec![], "Failed"),
        ("Scheduling", false, vec![pending_pod()], ""),
        ("Scheduling", false, vec![pod()], "Scheduled"),
        ("Scheduling", true, vec![pod()], ""),
        ("Scheduling", false, vec![deleting_pod.clone()], "Failed"),
        ("Scheduling", false, vec![over(1, -60)], "Failed"),
        ("Scheduling", false, vec![over(0, -60)], "Succeeded"),
        ("Scheduling", false, vec![], "Failed"),
        ("Scheduled", false, vec![pod()], ""),
        ("Scheduled", false, vec![], "Failed"),
        ("Scheduled", false, vec![over(1, -60)], "Failed"),
        ("Running", false, vec![pod()], ""),
        ("Running", false, vec![deleting_pod], ""),
        ("Running", false, vec![], "Failed"),
        ("Running", false, vec![over(0, -60)], "Succeeded"),
        ("Running", false, vec![over(137, -60)], "Failed"),
        ("Running", false, vec![over(0, -3)], ""),
        ("Unknown", false, vec![over(1, -60)], "Failed"),
        ("Succeeded", false, vec![pod()], ""),
        ("Failed", false, vec![], ""),
    ];
    for (phase, is_deleted, pods, next) in table {
        let vmi = if is_deleted {
            deleted(vmi(phase))
        } else {
            vmi(phase)
        };
        let plan = run(&vmi, &pods);
        let got = patch(&plan)["status"]["phase"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert_eq!(got, next, "{phase} deleted={is_deleted} {pods:?}");
    }
}

#[test]
fn a_pod_that_is_over_waits_for_the_handlers_word() {
    let plan = run(&vmi("Running"), &[over(0, -3)]);
    assert_eq!(plan.requeue.unwrap().as_secs(), 7);
    let silent = run_with(&vmi("Running"), &[over(0, -3)], |o| {
        o.node_unresponsive = true
    });
    let told = patch(&silent);
    assert_eq!(told["status"]["phase"], "Failed");
    assert_eq!(told["status"]["reason"], "NodeUnresponsive");
    assert_eq!(
        silent.steps.last().unwrap().done.as_ref().unwrap().reason,
        "NodeUnresponsive"
    );
}

#[test]
fn a_pod_that_failed_says_why_in_the_status_and_an_event() {
    let evicted = PodFacts {
        end_reason: "Evicted".to_owned(),
        end_message: "low on memory".to_owned(),
        ..over(1, -60)
    };
    let plan = run(&vmi("Scheduling"), &[evicted]);
    assert_eq!(patch(&plan)["status"]["reason"], "Evicted");
    let event = plan.steps.last().unwrap().done.as_ref().unwrap();
    assert!(
        event.warning && event.message.contains("low on memory"),
        "{event:?}"
    );
}

#[test]
fn a_guest_without_its_disk_fails_and_its_pod_is_ended() {
    let broken = PodFacts {
        containers_ready: false,
        broken: true,
        end_reason: "Error".to_owned(),
        ..pod()
    };
    let told = patch(&run(&vmi("Scheduling"), std::slice::from_ref(&broken)));
    assert_eq!(told["status"]["phase"], "Failed");
    // A guest that runs has its disks open.
    assert_eq!(
        patch(&run(&vmi("Running"), std::slice::from_ref(&broken)))["status"]["phase"],
        Value::Null
    );

    // Its start was told already; then virt-handler is given time to say more.
    let scheduled = |ended: i64| {
        let broken = PodFacts {
            broken_at: Some(at(ended)),
            ..broken.clone()
        };
        run(&vmi("Scheduled"), std::slice::from_ref(&broken))
    };
    let early = scheduled(-4);
    assert_eq!(early.requeue.unwrap().as_secs(), 6);
    assert_eq!(patch(&early)["status"]["phase"], Value::Null);
    let told = patch(&scheduled(-10));
    assert_eq!(told["status"]["phase"], "Failed");
    assert_eq!(told["status"]["reason"], "Error");

    let ends = |pod: &PodFacts| {
        let plan = run(&vmi("Failed"), std::slice::from_ref(pod));
        let ended = plan
            .steps
            .iter()
            .any(|step| matches!(step.op, Op::PatchPod { .. }));
        (ended, plan.requeue.is_some())
    };
    assert_eq!(ends(&broken), (true, false));
    let ended = PodFacts {
        has_deadline: true,
        ..broken
    };
    assert_eq!(ends(&ended), (false, false));
    // The helper of a containerDisk ends by itself when the launcher does.
    let lingering = |finished| PodFacts {
        phase: PodPhase::Running,
        ..over(0, finished)
    };
    assert_eq!(ends(&lingering(-3)), (false, true));
    assert_eq!(ends(&lingering(-60)), (true, false));
    assert_eq!(ends(&over(0, -60)), (false, false));
    assert_eq!(ends(&pod()), (false, false));
}

#[test]
fn a_pod_is_made_once_and_only_while_it_is_wanted() {
    let made = run(&vmi("Pending"), &[]);
    let [
        Step {
            op: Op::CreatePod(pod),
            done: Some(event),
            failed,
        },
    ] = made.steps.as_slice()
    else {
        panic!("{made:?}")
    };
    assert_eq!(pod.metadata.name, Some(pod_name(&vmi("Pending"))));
    assert_eq!(
        (event.reason, *failed),
        ("SuccessfulCreate", Some("FailedCreate"))
    );
    for (phase, gone) in [
        ("Pending", true),
        ("Scheduling", false),
        ("Running", false),
        ("Failed", false),
    ] {
        let vmi = if gone {
            deleted(vmi(phase))
        } else {
            vmi(phase)
        };
        let plan = run(&vmi, &[]);
        assert!(
            !plan.steps.iter().any(|s| matches!(s.op, Op::CreatePod(_))),
            "{phase}"
        );
    }
}

#[test]
fn a_refused_pod_is_told_and_tried_again_later() {
    let failure = Failure {
        reason: "FailedCreate".to_owned(),
        message: "exceeded quota".to_owned(),
        retry_at: at(4),
    };
    let settings = settings();
    let vmi = vmi("");
    let observed = Observed {
        vmi: &vmi,
        pods: &[],
        absence_confirmed: true,
        owner_exists: true,
        node_unresponsive: false,
        waits_until: None,
        failure: Some(&failure),
        storage: &Storage::default(),
        settings: &settings,
    };
    let plan = decide(&observed, at(0));
    let told = patch(&plan);
    assert_eq!(told["status"]["phase"], "Pending");
    assert_eq!(
        condition_in(&told, "Synchronized"),
        Some(("False".to_owned(), "FailedCreate".to_owned()))
    );
    assert_eq!(plan.requeue.unwrap().as_secs(), 4);
    assert!(matches!(
        decide(&observed, at(4)).steps[0].op,
        Op::CreatePod(_)
    ));
}

#[test]
fn a_vmi_that_no_pod_can_be_made_for_says_why() {
    let mut vmi = vmi("Pending");
    let requests = &mut vmi.spec.domain.resources.requests;
    requests.insert(
        "hugepages-2Mi".to_owned(),
        k8s_openapi::apimachinery::pkg::api::resource::Quantity("1Gi".to_owned()),
    );
    let told = patch(&run(&vmi, &[]));
    let conditions = told["status"]["conditions"].to_string();
    assert!(conditions.contains("hugepages-2Mi"), "{conditions}");
}

/// What a pending VMI on the claim `c` does with this storage.
fn on_claim(storage: &Storage) -> Plan<Op> {
    let mut vmi = vmi("Pending");
    let volume = json!({"name": "root", "dataVolume": {"name": "c"}});
    vmi.spec.volumes = vec![serde_json::from_value(volume).unwrap()];
    let settings = settings();
    let observed = Observed {
        vmi: &vmi,
        pods: &[],
        absence_confirmed: true,
        owner_exists: true,
        node_unresponsive: false,
        waits_until: None,
        failure: None,
        storage,
        settings: &settings,
    };
    decide(&observed, at(0))
}

#[test]
fn an_instance_waits_for_the_content_of_its_disks_and_says_so() {
    use crate::storage::tests::{data_volume, owned, storage};
    let missing = on_claim(&Storage::default());
    let told = patch(&missing);
    for (type_, reason) in [
        ("Synchronized", "FailedPvcNotFound"),
        ("PodScheduled", "Unschedulable"),
    ] {
        let expected = Some(("False".to_owned(), reason.to_owned()));
        assert_eq!(condition_in(&told, type_), expected);
    }
    let event = missing.steps[0].done.as_ref().unwrap();
    assert_eq!(event.reason, "FailedPvcNotFound");

    let busy = on_claim(&storage(
        Some(owned()),
        Some(data_volume("ImportInProgress")),
    ));
    let told = patch(&busy);
    let expected = Some(("False".to_owned(), "NotAllDVsReady".to_owned()));
    assert_eq!(condition_in(&told, "DataVolumesReady"), expected);
    assert_eq!(condition_in(&told, "Synchronized"), None);
    let known = &told["status"]["volumeStatus"][0];
    assert_eq!(known["persistentVolumeClaimInfo"]["claimName"], "c");

    let failed = on_claim(&storage(Some(owned()), Some(data_volume("Failed"))));
    assert_eq!(patch(&failed)["status"]["phase"], "Failed");
    assert_eq!(patch(&failed)["status"]["reason"], "FailedDataVolumeImport");

    let ready = on_claim(&storage(Some(owned()), Some(data_volume("Succeeded"))));
    assert!(matches!(ready.steps[0].op, Op::CreatePod(_)), "{ready:?}");
}
