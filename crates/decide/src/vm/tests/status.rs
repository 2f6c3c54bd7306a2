//! What the status of a VM tells.

use super::*;

#[test]
fn the_printable_status_is_the_first_that_holds() {
    let unschedulable =
        json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]);
    let pull = json!([{"type": "Synchronized", "status": "False", "reason": "ErrImagePull"}]);
    let back_off =
        json!([{"type": "Synchronized", "status": "False", "reason": "ImagePullBackOff"}]);
    let paused = json!([{"type": "Paused", "status": "True"}]);
    let none = json!([]);
    let table = [
        ("", &none, "Stopped"),
        ("Pending", &none, "Starting"),
        ("Scheduling", &none, "Starting"),
        ("Scheduling", &unschedulable, "ErrorUnschedulable"),
        ("Scheduling", &pull, "ErrImagePull"),
        ("Scheduling", &back_off, "ImagePullBackOff"),
        ("Scheduled", &none, "Starting"),
        ("Running", &none, "Running"),
        ("Running", &paused, "Paused"),
        ("-Running", &paused, "Stopping"),
        ("Succeeded", &none, "Stopped"),
        ("Failed", &none, "Stopped"),
        ("-Succeeded", &none, "Stopping"),
        ("Unknown", &none, "Unknown"),
    ];
    let vm = vm(json!({ "runStrategy": "Manual" }), json!({}));
    for (state, conditions, expected) in table {
        let phase = state.trim_start_matches('-');
        let instance = (!phase.is_empty()).then(|| {
            let mut vmi = vmi(phase, true);
            vmi.status.as_mut().unwrap().conditions =
                serde_json::from_value(conditions.clone()).unwrap();
            if state.starts_with('-') {
                deleted(vmi)
            } else {
                vmi
            }
        });
        let status = status_after(&vm, &plan(&vm, instance.as_ref()));
        assert_eq!(status.printable_status, expected, "{state} {conditions}");
    }
}

#[test]
fn a_changed_template_asks_for_a_restart_and_an_unchanged_one_takes_the_generation() {
    let vm = vm(
        json!({ "runStrategy": "Manual" }),
        json!({ "runStrategy": "Manual" }),
    );
    let mut instance = vmi("Running", true);
    let annotations = instance.metadata.annotations.as_mut().unwrap();
    annotations.insert(GENERATION_ANNOTATION.to_owned(), "2".to_owned());
    annotations.insert(TEMPLATE_ANNOTATION.to_owned(), fingerprint(&vm).unwrap());
    let same = plan(&vm, Some(&instance));
    assert_eq!(short(&same), ["status", "instance"]);
    let status = status_after(&vm, &same);
    assert!(condition::find(&status.conditions, "RestartRequired").is_none());
    assert_eq!(
        (status.observed_generation, status.desired_generation),
        (Some(2), Some(3))
    );

    let mut changed = vm.clone();
    changed.spec.template.as_mut().unwrap().spec.hostname = Some("other".to_owned());
    let other = plan(&changed, Some(&instance));
    assert_eq!(short(&other), ["status"]);
    assert!(condition::is_true(
        &status_after(&changed, &other).conditions,
        "RestartRequired"
    ));
}

#[test]
fn conditions_are_the_instances_and_go_with_it() {
    let vm = vm(json!({ "runStrategy": "Manual" }), json!({}));
    let stopped = status_after(&vm, &plan(&vm, None));
    let ready = condition::find(&stopped.conditions, "Ready").unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "VMINotExists")
    );
    assert_eq!(stopped.volume_snapshot_statuses[0].name, "root");
    assert!(!stopped.volume_snapshot_statuses[0].enabled);

    let mut instance = vmi("Running", true);
    instance.status.as_mut().unwrap().conditions = serde_json::from_value(json!([
        {"type": "Ready", "status": "True"}, {"type": "AgentConnected", "status": "True"}
    ]))
    .unwrap();
    let running = status_after(&vm, &plan(&vm, Some(&instance)));
    assert!(running.created && running.ready);
    assert!(condition::is_true(&running.conditions, "AgentConnected"));

    let after = super::tests::vm(
        json!({ "runStrategy": "Manual" }),
        serde_json::to_value(&running).unwrap(),
    );
    let after = status_after(&after, &plan(&after, None));
    assert!(!after.created && !after.ready);
    assert!(condition::find(&after.conditions, "AgentConnected").is_none());
}

#[test]
fn a_run_strategy_that_cannot_be_followed_is_told_in_the_status() {
    for spec in [
        json!({ "runStrategy": "WaitAsReceiver" }),
        json!({ "runStrategy": "Always", "running": true }),
    ] {
        let vm = vm(spec.clone(), json!({}));
        let plan = plan(&vm, None);
        assert_eq!(short(&plan), ["status"], "{spec}");
        let status = status_after(&vm, &plan);
        let failure = condition::find(&status.conditions, "Failure").unwrap();
        assert!(failure.message.contains("spec."), "{}", failure.message);
    }
}
