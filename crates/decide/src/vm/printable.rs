//! The one word of the column STATUS. The first that holds wins.

use api::condition;
use api::vm::{RunStrategy, VmStatus};
use api::vmi_status::Phase;
use api::{VirtualMachine, VirtualMachineInstance};

use crate::storage::{CLAIM_NOT_FOUND, Storage};

use super::status::is_final;
use super::strategy::run_strategy;

/// `stopping`: the instance is about to be deleted; `starting`: it is to be made;
/// `storage`: what is behind its disks.
pub(super) fn printable(
    vm: &VirtualMachine,
    status: &VmStatus,
    vmi: Option<&VirtualMachineInstance>,
    storage: &Storage,
    (starting, stopping): (bool, bool),
) -> &'static str {
    if vm.metadata.deletion_timestamp.is_some() {
        return "Terminating";
    }
    let crashing = crashes_in_a_loop(vm, status);
    let ended = vmi.is_some_and(is_final);
    let trouble = storage.trouble(vm, starting || (vmi.is_some() && !ended));
    let Some(vmi) = vmi else {
        return trouble.unwrap_or(match (crashing, starting) {
            (true, _) => "CrashLoopBackOff",
            // Its DataVolumes are about to be made.
            (false, true) if !vm.spec.data_volume_templates.is_empty() => "Starting",
            (false, _) => "Stopped",
        });
    };
    if ended && crashing {
        return trouble
            .filter(|trouble| *trouble == "DataVolumeError")
            .unwrap_or("CrashLoopBackOff");
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
        _ if is_false("Synchronized", CLAIM_NOT_FOUND) => "ErrorPvcNotFound",
        _ if trouble == Some("DataVolumeError") => "DataVolumeError",
        _ if is_false("PodScheduled", "Unschedulable") => "ErrorUnschedulable",
        Phase::Unset | Phase::Pending | Phase::Scheduling | Phase::Scheduled
            if trouble.is_some() =>
        {
            trouble.unwrap_or("Provisioning")
        }
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
