//! What the status of a VMI tells, and the gate of its pod.

use super::*;

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
        let vmi = applied(&vmi(phase), &pods);
        assert_eq!(run(&vmi, &pods), Plan::default(), "{phase}");
    }
}

#[test]
fn a_bound_pod_alone_is_worth_no_request() {
    let vmi = applied(&vmi("Scheduling"), &[pending_pod()]);
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

    vmi = merged(&vmi, &told);
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
    let vmi = applied(&vmi("Scheduling"), std::slice::from_ref(&starting));
    let taken = json!({"status": {
        "phase": "Running", "nodeName": "edge1", "qosClass": "Burstable",
        "activePods": {"pod-uid": "edge1"},
        "phaseTransitionTimestamps": [{"phase": "Running", "phaseTransitionTimestamp": "2026-01-01T00:00:00Z"}]
    }});
    let vmi = merged(&vmi, &taken);
    assert_eq!(run(&vmi, &[starting]), Plan::default());
    let told = patch(&run(&vmi, &[pod()]));
    let keys: Vec<&String> = told["status"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["conditions"], "{told}");
}

/// `vmi` after the patch that is decided on with `pods`.
fn applied(vmi: &VirtualMachineInstance, pods: &[PodFacts]) -> VirtualMachineInstance {
    merged(vmi, &patch(&run(vmi, pods)))
}

fn merged(vmi: &VirtualMachineInstance, patch: &Value) -> VirtualMachineInstance {
    let mut value = serde_json::to_value(vmi).unwrap();
    json_patch::merge(&mut value, patch);
    serde_json::from_value(value).unwrap()
}
