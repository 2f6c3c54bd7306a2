//! The one word of the column STATUS. The first that holds wins.

use api::condition;
use api::vm::{RunStrategy, VmStatus};
use api::vmi_status::Phase;
use api::{VirtualMachine, VirtualMachineInstance};

use super::status::is_final;
use super::strategy::run_strategy;

/// `stopping`: the instance is about to be deleted.
pub(super) fn printable(
    vm: &VirtualMachine,
    status: &VmStatus,
    vmi: Option<&VirtualMachineInstance>,
    stopping: bool,
) -> &'static str {
    if vm.metadata.deletion_timestamp.is_some() {
        return "Terminating";
    }
    let crashing = crashes_in_a_loop(vm, status);
    let Some(vmi) = vmi else {
        return if crashing {
            "CrashLoopBackOff"
        } else {
            "Stopped"
        };
    };
    let ended = is_final(vmi);
    if ended && crashing {
        return "CrashLoopBackOff";
    }
    // Also once the guest has ended: until its pod is gone it is not stopped.
    if stopping || vmi.metadata.deletion_timestamp.is_some() {
        return "Stopping";
    }
    let vmi_status = vmi.status.clone().unwrap_or_default();
    let conditions = &vmi_status.conditions;
    let is_false = |type_: &str, reason: &str| {
        condition::find(conditions, type_)
            .is_some_and(|c| c.status == "False" && c.reason == reason)
    };
    match vmi_status.phase {
        Phase::Running if condition::is_true(conditions, "Paused") => "Paused",
        Phase::Running => "Running",
        _ if is_false("PodScheduled", "Unschedulable") => "ErrorUnschedulable",
        _ if is_false("Synchronized", "ErrImagePull") => "ErrImagePull",
        _ if is_false("Synchronized", "ImagePullBackOff") => "ImagePullBackOff",
        Phase::Unset | Phase::Pending | Phase::Scheduling | Phase::Scheduled => "Starting",
        Phase::Succeeded | Phase::Failed => "Stopped",
        Phase::WaitingForSync | Phase::Unknown => "Unknown",
    }
}

/// Starts keep failing, and the run strategy keeps trying.
fn crashes_in_a_loop(vm: &VirtualMachine, status: &VmStatus) -> bool {
    let failures = status
        .start_failure
        .as_ref()
        .and_then(|failure| failure.consecutive_fail_count)
        .unwrap_or(0);
    failures > 0
        && matches!(
            run_strategy(vm),
            Ok(RunStrategy::Always | RunStrategy::RerunOnFailure | RunStrategy::Once)
        )
}
