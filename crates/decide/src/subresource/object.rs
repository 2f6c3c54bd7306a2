//! Short ways into raw VirtualMachine and VirtualMachineInstance objects.

use api::vm::RunStrategy;
use serde_json::Value;

/// The object's name; empty when it has none.
pub(super) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// The object's UID; empty when it has none.
pub(super) fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

/// The object was asked to go away.
pub(super) fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// Phase of a VMI; empty before virt-controller saw it.
pub(super) fn phase(vmi: &Value) -> &str {
    vmi["status"]["phase"].as_str().unwrap_or_default()
}

/// The guest runs.
pub(super) fn is_running(vmi: &Value) -> bool {
    phase(vmi) == "Running"
}

/// No guest will run any more.
pub(super) fn is_final(vmi: &Value) -> bool {
    matches!(phase(vmi), "Succeeded" | "Failed")
}

/// The object has the condition with status `True`.
pub(super) fn is_true(object: &Value, condition: &str) -> bool {
    object["status"]["conditions"]
        .as_array()
        .is_some_and(|conditions| {
            conditions
                .iter()
                .any(|c| c["type"] == condition && c["status"] == "True")
        })
}

/// The run strategy in force, from `running` or `runStrategy`; Halted when
/// neither is set.
///
/// # Errors
/// The sentence for the user when both are set or the word is unknown.
pub(super) fn run_strategy(vm: &Value) -> Result<RunStrategy, String> {
    let (running, strategy) = (&vm["spec"]["running"], &vm["spec"]["runStrategy"]);
    match (running.as_bool(), strategy.is_null()) {
        (Some(_), false) => Err("running and runstrategy are mutually exclusive".to_owned()),
        (Some(true), true) => Ok(RunStrategy::Always),
        (Some(false), true) | (None, true) => Ok(RunStrategy::Halted),
        (None, false) => serde_json::from_value(strategy.clone()).map_err(|_| {
            format!(
                "expected spec.runStrategy to be one of Always, Halted, Manual, RerunOnFailure, Once, \
                 WaitAsReceiver; found {strategy}"
            )
        }),
    }
}
