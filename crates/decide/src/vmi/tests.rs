//! Tables: phases, conditions, the gate, finalizers, deletion.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "tests build their values in place"
)]

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

#[test]
fn the_first_patch_tells_all_that_the_pod_decides() {
    let told = patch(&run(&vmi("Pending"), &[pending_pod()]));
    let status = &told["status"];
    assert_eq!(told["metadata"]["resourceVersion"], "5");
    assert_eq!(status["runtimeUser"], 107);
    assert_eq!(status["activePods"], json!({"pod-uid": ""}));
    assert_eq!(
        status["currentCPUTopology"],
        json!({"cores": 2, "sockets": 1, "threads": 1})
    );
    assert_eq!(status["memory"]["guestAtBoot"], "1Gi");
    assert_eq!(status["launcherContainerImageVersion"], "launcher:1");
    assert_eq!(
        condition_in(&told, "Ready"),
        Some(("False".to_owned(), "GuestNotRunning".to_owned()))
    );
    assert_eq!(
        condition_in(&told, "LiveMigratable").unwrap().1,
        "InterfaceNotLiveMigratable"
    );
}

#[test]
fn a_vmi_is_handed_over_with_its_node() {
    let told = patch(&run(&vmi("Scheduling"), &[pod()]));
    assert_eq!(
        told["metadata"]["labels"],
        json!({"kubevirt.io/nodeName": "edge1"})
    );
    assert_eq!(told["status"]["nodeName"], "edge1");
    assert_eq!(told["status"]["activePods"], json!({"pod-uid": "edge1"}));
    assert_eq!(told["status"]["qosClass"], "Burstable");
}

#[test]
fn nothing_is_patched_when_nothing_changed() {
    // As virt-handler leaves it, with the Ready condition of the pod.
    for (phase, pods) in [
        ("Scheduling", vec![pending_pod()]),
        ("Running", vec![pod()]),
    ] {
        let mut vmi = vmi(phase);
        let mut value = serde_json::to_value(&vmi).unwrap();
        json_patch::merge(&mut value, &patch(&run(&vmi, &pods)));
        vmi = serde_json::from_value(value).unwrap();
        assert_eq!(run(&vmi, &pods), Plan::default(), "{phase}");
    }
}

#[test]
fn a_bound_pod_alone_is_worth_no_request() {
    let mut vmi = vmi("Scheduling");
    let mut value = serde_json::to_value(&vmi).unwrap();
    json_patch::merge(&mut value, &patch(&run(&vmi, &[pending_pod()])));
    vmi = serde_json::from_value(value).unwrap();
    let bound = PodFacts {
        node: "edge1".to_owned(),
        ..pending_pod()
    };
    assert_eq!(run(&vmi, &[bound]), Plan::default());
}

#[test]
fn image_errors_and_unschedulable_pods_are_told_and_taken_back() {
    let pull = PodFacts {
        image_error: Some(("ErrImagePull".to_owned(), "no such image".to_owned())),
        ..pending_pod()
    };
    let told = patch(&run(&vmi("Scheduling"), &[pull]));
    assert_eq!(
        condition_in(&told, "Synchronized").unwrap().1,
        "ErrImagePull"
    );

    let nowhere = PodFacts {
        unschedulable: Some(crate::conditions::condition(
            "PodScheduled",
            false,
            "Unschedulable",
            "0/1",
        )),
        ..pending_pod()
    };
    let mut stuck = vmi("Scheduling");
    let told = patch(&run(&stuck, &[nowhere]));
    assert_eq!(
        condition_in(&told, "PodScheduled").unwrap().1,
        "Unschedulable"
    );
    stuck.status = Some(serde_json::from_value(told["status"].clone()).unwrap());
    stuck.status.as_mut().unwrap().phase = Phase::Scheduling;
    let told = patch(&run(&stuck, &[pending_pod()]));
    assert_eq!(condition_in(&told, "PodScheduled"), None);
}

#[test]
fn a_pod_that_waits_for_secrets_is_told_of_after_a_while_and_taken_back() {
    let mut vmi = vmi("Scheduling");
    vmi.spec.volumes = serde_json::from_value(json!([
        {"name": "root", "containerDisk": {"image": "disk"}},
        {"name": "seed", "cloudInitNoCloud": {"secretRef": {"name": "login"}}}
    ]))
    .unwrap();
    let waits_since = |seconds| PodFacts {
        node: "edge1".to_owned(),
        unprepared_since: Some(at(seconds)),
        ..pending_pod()
    };
    let early = run(&vmi, &[waits_since(-5)]);
    assert_eq!(condition_in(&patch(&early), "Synchronized"), None);
    assert_eq!(early.requeue, Some(std::time::Duration::from_secs(10)));

    let late = run(&vmi, &[waits_since(-15)]);
    let told = patch(&late);
    assert_eq!(
        condition_in(&told, "Synchronized").unwrap().1,
        "WaitingForSecret"
    );
    let message = told["status"]["conditions"].to_string();
    assert!(message.contains("login (spec.volumes[1])"), "{message}");
    assert_eq!(late.requeue, None);

    let mut value = serde_json::to_value(&vmi).unwrap();
    json_patch::merge(&mut value, &told);
    vmi = serde_json::from_value(value).unwrap();
    assert_eq!(
        run(&vmi, &[waits_since(-20)]),
        Plan::default(),
        "told twice"
    );
    let told = patch(&run(&vmi, &[pending_pod()]));
    assert_eq!(condition_in(&told, "Synchronized"), None);

    vmi.spec.volumes.clear();
    let other = run(&vmi, &[waits_since(-60)]);
    assert_eq!(
        condition_in(&patch(&other), "Synchronized"),
        None,
        "no secrets"
    );
}

#[test]
fn ready_is_the_pods_word_once_the_guest_runs() {
    let table = [
        (Phase::Scheduling, None, "PodNotExists"),
        (Phase::Scheduled, Some(pod()), "GuestNotRunning"),
        (
            Phase::Running,
            Some(PodFacts {
                ready: None,
                ..pod()
            }),
            "PodConditionMissing",
        ),
        (
            Phase::Running,
            Some(PodFacts {
                deleting: true,
                ..pod()
            }),
            "PodTerminating",
        ),
        (Phase::Failed, Some(over(1, 0)), "PodTerminating"),
        (Phase::Running, Some(pod()), ""),
    ];
    for (phase, pod, reason) in table {
        let ready = ready_condition(phase, pod.as_ref());
        assert_eq!(ready.reason, reason, "{phase:?}");
        assert_eq!(ready.is_true(), reason.is_empty());
    }
}

#[test]
fn the_gate_follows_the_paused_condition() {
    let paused = json!([{"type": "Paused", "status": "True"}]);
    for (conditions, gate, expected) in [
        (json!([]), None, Some("True")),
        (json!([]), Some(true), None),
        (json!([]), Some(false), Some("True")),
        (paused.clone(), Some(true), Some("False")),
        (paused.clone(), None, Some("False")),
        (paused, Some(false), None),
    ] {
        let mut vmi = vmi("Running");
        vmi.status.as_mut().unwrap().conditions =
            serde_json::from_value(conditions.clone()).unwrap();
        let pod = PodFacts {
            unpaused: gate,
            ..pod()
        };
        let plan = run(&vmi, &[pod]);
        let got = plan.steps.iter().find_map(|step| match &step.op {
            Op::PatchPodStatus { patch, .. } => patch["status"]["conditions"][0]["status"]
                .as_str()
                .map(str::to_owned),
            _ => None,
        });
        assert_eq!(got.as_deref(), expected, "{conditions} {gate:?}");
    }
}

#[test]
fn a_missing_pod_is_asked_for_before_it_is_believed() {
    let plan = run_with(&vmi("Running"), &[], |o| o.absence_confirmed = false);
    assert!(matches!(
        plan.steps.as_slice(),
        [Step {
            op: Op::ConfirmPod { .. },
            ..
        }]
    ));
}

#[test]
fn deletion_takes_the_pod_first_and_the_finalizer_last() {
    let mut going = deleted(vmi("Running"));
    going.spec.termination_grace_period_seconds = Some(5);
    let plan = run(&going, &[pod()]);
    let Op::DeletePod {
        name,
        uid,
        grace_seconds,
    } = &plan.steps[0].op
    else {
        panic!("{plan:?}")
    };
    assert_eq!(
        (name.as_str(), uid.as_str()),
        ("virt-launcher-web-x", "pod-uid")
    );
    assert_eq!(*grace_seconds, Some(35));

    let leaving = PodFacts {
        deleting: true,
        ..pod()
    };
    let plan = run(&going, &[leaving]);
    assert!(
        !plan
            .steps
            .iter()
            .any(|s| matches!(s.op, Op::DeletePod { .. }))
    );

    // The owner still has to see how it ended; without an owner all goes at once.
    let told = patch(&run(&going, &[]));
    assert_eq!(told["status"]["phase"], "Failed");
    assert_eq!(told["metadata"]["finalizers"], json!([VM_FINALIZER]));
    let told = patch(&run_with(&going, &[], |o| o.owner_exists = false));
    assert_eq!(told["metadata"]["finalizers"], json!([]));
}

#[test]
fn finalizers_are_added_when_missing_and_the_old_name_is_dropped() {
    let mut bare = vmi("Pending");
    bare.metadata.finalizers = Some(vec![OLD_FINALIZER.to_owned()]);
    let told = patch(&run(&bare, &[pending_pod()]));
    assert_eq!(told["metadata"]["finalizers"], json!([VMI_FINALIZER]));
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

#[test]
fn a_guest_that_runs_before_its_pod_is_ready_is_worth_one_request_more() {
    let starting = PodFacts {
        containers_ready: false,
        ready: Some(crate::conditions::condition(
            "Ready",
            false,
            "ContainersNotReady",
            "",
        )),
        ..pod()
    };
    // What virt-controller said, and what virt-handler says when it takes the VMI over.
    let mut vmi = applied(vmi("Scheduling"), std::slice::from_ref(&starting));
    let taken = json!({"status": {
        "phase": "Running", "nodeName": "edge1", "qosClass": "Burstable",
        "activePods": {"pod-uid": "edge1"},
        "phaseTransitionTimestamps": [{"phase": "Running", "phaseTransitionTimestamp": "2026-01-01T00:00:00Z"}]
    }});
    let mut value = serde_json::to_value(&vmi).unwrap();
    json_patch::merge(&mut value, &taken);
    vmi = serde_json::from_value(value).unwrap();
    assert_eq!(run(&vmi, &[starting]), Plan::default());
    let told = patch(&run(&vmi, &[pod()]));
    let keys: Vec<&String> = told["status"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["conditions"], "{told}");
}

fn applied(vmi: VirtualMachineInstance, pods: &[PodFacts]) -> VirtualMachineInstance {
    let mut value = serde_json::to_value(&vmi).unwrap();
    json_patch::merge(&mut value, &patch(&run(&vmi, pods)));
    serde_json::from_value(value).unwrap()
}
