//! Upstream's table of answers, line by line, and our one difference.
#![allow(clippy::unwrap_used)]

use super::*;

fn vm(strategy: &str) -> Value {
    json!({"metadata": {"name": "x"}, "spec": {"runStrategy": strategy}, "status": {"printableStatus": "?"}})
}

fn vmi(phase: &str) -> Value {
    json!({"metadata": {"name": "x", "uid": "u1"}, "spec": {"terminationGracePeriodSeconds": 30},
           "status": {"phase": phase}})
}

fn leaving(phase: &str) -> Value {
    let mut vmi = vmi(phase);
    vmi["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    vmi
}

fn queued(mut vm: Value, requests: Value) -> Value {
    vm["status"]["stateChangeRequests"] = requests;
    vm
}

fn wrapped(why: &str) -> String {
    format!("Operation cannot be fulfilled on virtualmachine.kubevirt.io \"x\": {why}")
}

/// The value the plan's last patch sets, with its target.
fn outcome(plan: &Plan) -> (Target, Value) {
    let last = plan.patches.last().unwrap();
    let op = last.ops.iter().find(|op| op["op"] == "add").unwrap();
    (last.target, op["value"].clone())
}

fn start_of(vm: &Value, vmi: Option<&Value>) -> Result<(Target, Value), (u16, String)> {
    start(vm, vmi, &StartOptions::default())
        .map(|plan| outcome(&plan))
        .map_err(|r| (r.code, r.message))
}

fn stop_of(
    vm: &Value,
    vmi: Option<&Value>,
    grace: Option<i64>,
) -> Result<(Target, Value), (u16, String)> {
    let options = StopOptions {
        grace_period: grace,
        ..StopOptions::default()
    };
    stop(vm, vmi, &options)
        .map(|plan| outcome(&plan))
        .map_err(|r| (r.code, r.message))
}

fn restart_of(
    vm: &Value,
    vmi: Option<&Value>,
    grace: Option<i64>,
) -> Result<(Target, Value), (u16, String)> {
    let options = RestartOptions {
        grace_period_seconds: grace,
        ..RestartOptions::default()
    };
    restart(vm, vmi, &options)
        .map(|plan| outcome(&plan))
        .map_err(|r| (r.code, r.message))
}

#[test]
fn starting_a_running_machine_is_refused_whatever_its_strategy() {
    for strategy in ["Always", "Manual", "RerunOnFailure", "Once"] {
        for phase in ["Pending", "Scheduling", "Scheduled", "Running"] {
            let answer = start_of(&vm(strategy), Some(&vmi(phase)));
            assert_eq!(
                answer,
                Err((409, wrapped("VM is already running"))),
                "{strategy} {phase}"
            );
        }
    }
}

#[test]
fn always_and_once_cannot_be_started_by_hand() {
    for strategy in ["Always", "Once"] {
        let why = wrapped(&format!(
            "{strategy} does not support manual start requests"
        ));
        assert_eq!(start_of(&vm(strategy), None), Err((409, why.clone())));
        assert_eq!(
            start_of(&vm(strategy), Some(&vmi("Failed"))),
            Err((409, why))
        );
    }
}

#[test]
fn a_halted_machine_is_switched_on_in_the_field_it_uses() {
    let plan = start(&vm("Halted"), None, &StartOptions::default()).unwrap();
    assert_eq!(
        plan.patches[0].ops,
        [
            json!({"op": "test", "path": "/spec/runStrategy", "value": "Halted"}),
            json!({"op": "add", "path": "/spec/runStrategy", "value": "Always"}),
        ]
    );
    assert_eq!(plan.patches[0].target, Target::Machine);
    let old = json!({"metadata": {"name": "x"}, "spec": {"running": false}});
    let plan = start(&old, None, &StartOptions::default()).unwrap();
    assert_eq!(
        plan.patches[0].ops,
        [
            json!({"op": "test", "path": "/spec/running", "value": false}),
            json!({"op": "add", "path": "/spec/running", "value": true}),
        ]
    );
}

#[test]
fn a_paused_start_of_a_halted_machine_is_queued() {
    let options = StartOptions {
        paused: true,
        ..StartOptions::default()
    };
    let fresh = json!({"metadata": {"name": "x"}, "spec": {"running": false}});
    let plan = start(&fresh, None, &options).unwrap();
    assert_eq!(plan.patches[0].target, Target::MachineStatus);
    assert_eq!(
        plan.patches[0].ops,
        [json!({"op": "add", "path": "/status", "value":
            {"stateChangeRequests": [{"action": "Start", "data": {"paused": "true"}}]}})]
    );
}

#[test]
fn manual_and_rerun_queue_a_start_and_forget_the_failures() {
    for strategy in ["Manual", "RerunOnFailure"] {
        let mut machine = vm(strategy);
        machine["status"]["startFailure"] = json!({"consecutiveFailCount": 2});
        let plan = start(&machine, None, &StartOptions::default()).unwrap();
        assert_eq!(
            plan.patches[0].ops,
            [
                json!({"op": "test", "path": "/status/stateChangeRequests", "value": null}),
                json!({"op": "add", "path": "/status/stateChangeRequests", "value": [{"action": "Start"}]}),
                json!({"op": "remove", "path": "/status/startFailure"}),
            ]
        );
    }
}

#[test]
fn a_finished_instance_is_replaced() {
    let replaced = Ok((
        Target::MachineStatus,
        json!([{"action": "Stop", "uid": "u1"}, {"action": "Start"}]),
    ));
    assert_eq!(start_of(&vm("Manual"), Some(&vmi("Failed"))), replaced);
    assert_eq!(start_of(&vm("Manual"), Some(&vmi("Succeeded"))), replaced);
    assert_eq!(
        start_of(&vm("RerunOnFailure"), Some(&vmi("Succeeded"))),
        replaced
    );
    let why = wrapped("RerunOnFailure does not support starting VM from failed state");
    assert_eq!(
        start_of(&vm("RerunOnFailure"), Some(&vmi("Failed"))),
        Err((409, why))
    );
}

#[test]
fn a_start_while_the_last_instance_goes_away_is_honoured() {
    let both = json!([{"action": "Stop", "uid": "u1"}, {"action": "Start"}]);
    // Stopped a moment ago, its removal has not begun.
    assert_eq!(
        start_of(&vm("Halted"), Some(&vmi("Running"))),
        Ok((Target::MachineStatus, both.clone()))
    );
    // Its removal is under way.
    assert_eq!(
        start_of(&vm("Halted"), Some(&leaving("Running"))),
        Ok((Target::Machine, json!("Always")))
    );
    assert_eq!(
        start_of(&vm("Manual"), Some(&leaving("Running"))),
        Ok((Target::MachineStatus, both.clone()))
    );
    // Killed after its grace period, which makes it Failed.
    assert_eq!(
        start_of(&vm("RerunOnFailure"), Some(&leaving("Failed"))),
        Ok((Target::MachineStatus, both.clone()))
    );
    let stopping = queued(vm("Manual"), json!([{"action": "Stop", "uid": "u1"}]));
    assert_eq!(
        start_of(&stopping, Some(&vmi("Running"))),
        Ok((Target::MachineStatus, both))
    );
}

#[test]
fn a_second_start_or_restart_while_one_is_queued_is_an_internal_error() {
    let busy = Err((
        500,
        "Internal error occurred: unable to complete request: stop/start already underway"
            .to_owned(),
    ));
    let starting = queued(vm("Manual"), json!([{"action": "Start"}]));
    assert_eq!(start_of(&starting, None), busy);
    let restarting = queued(
        vm("Always"),
        json!([{"action": "Stop", "uid": "u1"}, {"action": "Start"}]),
    );
    assert_eq!(restart_of(&restarting, Some(&vmi("Running")), None), busy);
    let other = queued(vm("Manual"), json!([{"action": "Stop", "uid": "u0"}]));
    assert_eq!(restart_of(&other, Some(&vmi("Running")), None), busy);
}

#[test]
fn stopping_what_does_not_run_is_refused() {
    let why = Err((409, wrapped("VM is not running")));
    for strategy in ["Manual", "RerunOnFailure", "Halted"] {
        assert_eq!(stop_of(&vm(strategy), None, None), why);
        assert_eq!(stop_of(&vm(strategy), Some(&vmi("Succeeded")), None), why);
    }
}

#[test]
fn a_halted_machine_that_still_stops_can_only_be_hastened() {
    let why = wrapped("Halted only supports manual stop requests with a shorter graceperiod");
    for grace in [None, Some(30), Some(60)] {
        assert_eq!(
            stop_of(&vm("Halted"), Some(&vmi("Running")), grace),
            Err((409, why.clone()))
        );
    }
    let options = StopOptions {
        grace_period: Some(0),
        ..StopOptions::default()
    };
    let plan = stop(&vm("Halted"), Some(&vmi("Running")), &options).unwrap();
    assert_eq!(plan.patches[0].target, Target::Instance);
    assert_eq!(
        plan.patches[0].ops,
        [
            json!({"op": "test", "path": "/spec/terminationGracePeriodSeconds", "value": 30}),
            json!({"op": "add", "path": "/spec/terminationGracePeriodSeconds", "value": 0}),
        ]
    );
    assert_eq!(
        outcome(&plan),
        (
            Target::MachineStatus,
            json!([{"action": "Stop", "uid": "u1"}])
        )
    );
}

#[test]
fn stop_switches_off_or_queues_by_strategy() {
    assert_eq!(
        stop_of(&vm("Always"), Some(&vmi("Running")), None),
        Ok((Target::Machine, json!("Halted")))
    );
    assert_eq!(
        stop_of(&vm("Always"), None, None),
        Ok((Target::Machine, json!("Halted")))
    );
    assert_eq!(
        stop_of(&vm("Once"), Some(&vmi("Running")), None),
        Ok((Target::Machine, json!("Halted")))
    );
    let one = Ok((
        Target::MachineStatus,
        json!([{"action": "Stop", "uid": "u1"}]),
    ));
    assert_eq!(stop_of(&vm("Manual"), Some(&vmi("Running")), None), one);
    // A stop overrides what was queued before it.
    let restarting = queued(
        vm("Manual"),
        json!([{"action": "Stop", "uid": "u1"}, {"action": "Start"}]),
    );
    assert_eq!(stop_of(&restarting, Some(&vmi("Running")), None), one);
}

#[test]
fn restart_queues_stop_and_start_of_the_instance() {
    let both = Ok((
        Target::MachineStatus,
        json!([{"action": "Stop", "uid": "u1"}, {"action": "Start"}]),
    ));
    for strategy in ["Always", "Manual", "RerunOnFailure"] {
        assert_eq!(restart_of(&vm(strategy), Some(&vmi("Running")), None), both);
    }
}

#[test]
fn restart_is_refused_with_upstreams_words() {
    for strategy in ["Halted", "Once"] {
        let why = wrapped(&format!(
            "RunStategy {strategy} does not support manual restart requests"
        ));
        assert_eq!(
            restart_of(&vm(strategy), Some(&vmi("Running")), None),
            Err((409, why))
        );
    }
    assert_eq!(
        restart_of(&vm("Always"), None, None),
        Err((409, wrapped("VM is not running: Halted")))
    );
    let why = "For force restart, only gracePeriod=0 is supported for now".to_owned();
    assert_eq!(restart_of(&vm("Always"), None, Some(5)), Err((400, why)));
    let why = "gracePeriod has to be greater or equal to 0".to_owned();
    assert_eq!(restart_of(&vm("Always"), None, Some(-1)), Err((400, why)));
}

#[test]
fn a_forced_restart_shortens_the_grace_period_first_and_knows_the_way_back() {
    let options = RestartOptions {
        grace_period_seconds: Some(0),
        ..RestartOptions::default()
    };
    let plan = restart(&vm("Always"), Some(&vmi("Running")), &options).unwrap();
    assert_eq!(plan.patches.len(), 2);
    assert_eq!(plan.patches[0].ops[1]["value"], 1);
    assert_eq!(
        plan.patches[0].undo,
        [
            json!({"op": "test", "path": "/spec/terminationGracePeriodSeconds", "value": 1}),
            json!({"op": "add", "path": "/spec/terminationGracePeriodSeconds", "value": 30}),
        ]
    );
}

#[test]
fn both_ways_of_saying_the_strategy_at_once_are_an_internal_error() {
    let mut both = vm("Always");
    both["spec"]["running"] = json!(true);
    assert_eq!(
        start_of(&both, None),
        Err((
            500,
            "Internal error occurred: running and runstrategy are mutually exclusive".to_owned()
        ))
    );
}
