//! start, stop and restart of a VirtualMachine.
//!
//! What a verb patches depends on the run strategy:
//!
//! ```text
//!                 start                      stop                    restart
//! Halted          spec -> Always (1)         queue [Stop] (2)        refused
//! Manual          queue [Start]              queue [Stop]            queue [Stop, Start]
//! RerunOnFailure  queue [Start]              queue [Stop]            queue [Stop, Start]
//! Always          refused                    spec -> Halted          queue [Stop, Start]
//! Once            refused                    spec -> Halted          refused
//! ```
//! (1) a paused start queues `[Start paused]`; (2) only to shorten the grace
//! period of an instance that is going away already.
//!
//! The queue is `status.stateChangeRequests`. virt-controller takes its first
//! entry only, so `[Stop(uid), Start]` starts once instance `uid` is gone. That
//! is how a start is honoured while the last instance is still going away.

use api::subresource::{RestartOptions, StartOptions, StopOptions};
use api::vm::RunStrategy;
use serde_json::{Value, json};

use super::object::{is_deleting, is_final, is_true, name, phase, run_strategy, uid};
use super::plan::{Patch, Plan, Target, remove, set, test};
use super::refusal::{Refusal, Subject};

/// Sentence when a volume migration left the VM half moved.
const RECOVERY: &str = "VM recovery required: Volume migration failed, leaving some volumes pointing to \
non-consistent targets; manual intervention is needed to reassign them to their original volumes.";

/// Grace period in seconds of a forced restart, the shortest that is safe.
const FORCED_RESTART_GRACE: i64 = 1;

/// Decides `PUT …/start`.
///
/// # Errors
/// See the table of upstream's refusals in the module's source; all are 409
/// but a queue that is in use (500).
pub fn start(vm: &Value, vmi: Option<&Value>, options: &StartOptions) -> Result<Plan, Refusal> {
    let strategy = run_strategy(vm).map_err(Refusal::internal)?;
    let live = vmi.filter(|vmi| !is_final(vmi) && !matches!(phase(vmi), "Unknown" | ""));
    let leaving = vmi.filter(|vmi| {
        is_deleting(vmi) || is_asked_to_stop(vm, vmi) || strategy == RunStrategy::Halted
    });
    if live.is_some() && leaving.is_none() {
        return Err(conflict(vm, "VM is already running"));
    }
    if is_true(vm, "ManualRecoveryRequired") {
        return Err(conflict(vm, RECOVERY));
    }
    let mut request = json!({ "action": "Start" });
    if options.paused {
        request["data"] = json!({ "paused": "true" });
    }
    match strategy {
        RunStrategy::Halted => match live {
            // The controller has not begun to take it down, or its removal is
            // under way: say "after that one", whatever comes first.
            Some(vmi) if !is_deleting(vmi) || options.paused => {
                queue(vm, vec![stop_request(vmi), request])
            }
            None if options.paused => queue(vm, vec![request]),
            _ => Ok(switch(vm, true)),
        },
        RunStrategy::Manual | RunStrategy::RerunOnFailure => {
            let failed = leaving.is_none() && vmi.is_some_and(|vmi| phase(vmi) == "Failed");
            if strategy == RunStrategy::RerunOnFailure && failed {
                return Err(conflict(
                    vm,
                    "RerunOnFailure does not support starting VM from failed state",
                ));
            }
            match vmi.filter(|vmi| is_final(vmi)).or(live) {
                Some(last) => queue(vm, vec![stop_request(last), request]),
                None => queue(vm, vec![request]),
            }
        }
        RunStrategy::Always | RunStrategy::Once | RunStrategy::WaitAsReceiver => Err(conflict(
            vm,
            &format!("{strategy:?} does not support manual start requests"),
        )),
    }
}

/// Decides `PUT …/stop`.
///
/// # Errors
/// 409 when there is nothing to stop, or nothing to hasten.
pub fn stop(vm: &Value, vmi: Option<&Value>, options: &StopOptions) -> Result<Plan, Refusal> {
    let strategy = run_strategy(vm).map_err(Refusal::internal)?;
    let live = vmi.filter(|vmi| !is_final(vmi));
    let hasten = match (live, options.grace_period) {
        (Some(vmi), Some(seconds)) => Some(grace_period(vmi, seconds)),
        _ => None,
    };
    let plan = match strategy {
        RunStrategy::Halted => {
            let vmi = live.ok_or_else(|| conflict(vm, "VM is not running"))?;
            let old = vmi["spec"]["terminationGracePeriodSeconds"].as_i64();
            let shorter = options
                .grace_period
                .is_some_and(|new| old.is_none_or(|old| new < old));
            if !shorter {
                return Err(conflict(
                    vm,
                    "Halted only supports manual stop requests with a shorter graceperiod",
                ));
            }
            queue(vm, vec![stop_request(vmi)])?
        }
        RunStrategy::Manual | RunStrategy::RerunOnFailure => {
            let vmi = live.ok_or_else(|| conflict(vm, "VM is not running"))?;
            queue(vm, vec![stop_request(vmi)])?
        }
        RunStrategy::Always | RunStrategy::Once | RunStrategy::WaitAsReceiver => switch(vm, false),
    };
    Ok(plan.after(hasten))
}

/// Looks at the body of `PUT …/restart` before anything is read.
///
/// # Errors
/// 400 for any grace period but 0.
pub fn restart_options(options: &RestartOptions) -> Result<(), Refusal> {
    match options.grace_period_seconds {
        Some(seconds) if seconds > 0 => Err(Refusal::bad_request(
            "For force restart, only gracePeriod=0 is supported for now",
        )),
        Some(seconds) if seconds < 0 => Err(Refusal::bad_request(
            "gracePeriod has to be greater or equal to 0",
        )),
        _ => Ok(()),
    }
}

/// Decides `PUT …/restart`.
///
/// # Errors
/// 400 as [`restart_options`], 409 when there is nothing to restart, 500 when
/// the queue is in use.
pub fn restart(vm: &Value, vmi: Option<&Value>, options: &RestartOptions) -> Result<Plan, Refusal> {
    restart_options(options)?;
    if is_true(vm, "VolumesChange") {
        return Err(conflict(vm, RECOVERY));
    }
    let strategy = run_strategy(vm).map_err(Refusal::internal)?;
    if matches!(strategy, RunStrategy::Halted | RunStrategy::Once) {
        // "RunStategy" is upstream's spelling, and clients match on it.
        let why = format!("RunStategy {strategy:?} does not support manual restart requests");
        return Err(conflict(vm, &why));
    }
    let vmi = vmi.ok_or_else(|| conflict(vm, "VM is not running: Halted"))?;
    let plan = queue(vm, vec![stop_request(vmi), json!({ "action": "Start" })])?;
    let forced = options.grace_period_seconds == Some(0);
    Ok(plan.after(forced.then(|| grace_period(vmi, FORCED_RESTART_GRACE))))
}

fn conflict(vm: &Value, why: &str) -> Refusal {
    Refusal::conflict(Subject::Machine, name(vm), why)
}

fn stop_request(vmi: &Value) -> Value {
    json!({ "action": "Stop", "uid": uid(vmi) })
}

/// A Stop of this instance is the last word in the queue.
fn is_asked_to_stop(vm: &Value, vmi: &Value) -> bool {
    requests(vm)
        .last()
        .is_some_and(|last| last["action"] == "Stop" && last["uid"] == uid(vmi))
}

fn requests(vm: &Value) -> &[Value] {
    vm["status"]["stateChangeRequests"]
        .as_array()
        .map_or(&[], Vec::as_slice)
}

/// Puts `wanted` in the queue. A Stop may replace what is queued; a Stop that
/// is queued alone may be followed by its Start; all else must wait.
fn queue(vm: &Value, wanted: Vec<Value>) -> Result<Plan, Refusal> {
    let queued = requests(vm);
    let replaces = wanted.len() == 1 && wanted[0]["action"] == "Stop";
    let continues = queued.len() == 1
        && wanted.len() == 2
        && queued[0]["action"] == "Stop"
        && queued[0]["uid"] == wanted[0]["uid"];
    if !(queued.is_empty() || replaces || continues) {
        return Err(Refusal::internal(
            "unable to complete request: stop/start already underway",
        ));
    }
    let status = &vm["status"];
    let mut ops = Vec::new();
    if status.as_object().is_none_or(serde_json::Map::is_empty) {
        ops.push(set("/status", json!({ "stateChangeRequests": wanted })));
    } else {
        ops.push(test(
            "/status/stateChangeRequests",
            &status["stateChangeRequests"],
        ));
        ops.push(set("/status/stateChangeRequests", wanted));
    }
    if !status["startFailure"].is_null() {
        ops.push(remove("/status/startFailure"));
    }
    Ok(Plan::one(Target::MachineStatus, ops))
}

/// Makes the VM run or not, in the field its owner uses.
fn switch(vm: &Value, on: bool) -> Plan {
    let (path, old, new) = if vm["spec"]["runStrategy"].is_null() {
        ("/spec/running", &vm["spec"]["running"], Value::from(on))
    } else {
        let word = if on { "Always" } else { "Halted" };
        (
            "/spec/runStrategy",
            &vm["spec"]["runStrategy"],
            Value::from(word),
        )
    };
    Plan::one(Target::Machine, vec![test(path, old), set(path, new)])
}

/// Gives the instance another grace period, with the way back.
fn grace_period(vmi: &Value, seconds: i64) -> Patch {
    const PATH: &str = "/spec/terminationGracePeriodSeconds";
    let old = &vmi["spec"]["terminationGracePeriodSeconds"];
    let back = if old.is_null() {
        remove(PATH)
    } else {
        set(PATH, old.clone())
    };
    Patch {
        target: Target::Instance,
        ops: vec![test(PATH, old), set(PATH, seconds)],
        undo: vec![test(PATH, &Value::from(seconds)), back],
    }
}

#[cfg(test)]
mod tests;
