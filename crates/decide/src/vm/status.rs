//! The status of a VM, from its instance, its requests and the last failure.

use api::condition;
use api::vm::{RunStrategy, StartFailure, StateChangeRequest, VmStatus, VolumeSnapshotStatus};
use api::vmi_status::Phase;
use api::{VirtualMachine, VirtualMachineInstance};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Observed;
use super::instance::{GENERATION_ANNOTATION, TEMPLATE_ANNOTATION, fingerprint};
use super::printable::printable;
use super::strategy::run_strategy;
use crate::conditions::{condition as new_condition, remove, set};
use crate::plan::{Failure, whole_seconds};

/// Longest wait between two starts, seconds. Source: KubeVirt's
/// defaultMaxCrashLoopBackoffDelaySeconds.
pub const BACKOFF_CAP_SECONDS: i64 = 300;

/// Conditions of the VM itself; all others are the instance's.
const OWN_CONDITIONS: [&str; 3] = ["Ready", "Failure", "RestartRequired"];

/// What the status is made from.
pub(super) struct Inputs<'a> {
    pub(super) observed: &'a Observed<'a>,
    /// The VM's own instance.
    pub(super) vmi: Option<&'a VirtualMachineInstance>,
    /// The requests that are not done.
    pub(super) requests: Vec<StateChangeRequest>,
    /// Queue a start after the instance that failed.
    pub(super) rerun: bool,
    /// The instance is to be made, now or later.
    pub(super) starting: bool,
    /// Why the last operation failed.
    pub(super) failure: Option<&'a Failure>,
    /// The instance is about to be deleted.
    pub(super) stopping: bool,
    pub(super) now: Timestamp,
}

/// No guest will run in this instance any more.
pub(super) fn is_final(vmi: &VirtualMachineInstance) -> bool {
    vmi.status
        .as_ref()
        .is_some_and(|status| status.phase.is_final())
}

pub(super) fn next(inputs: &Inputs<'_>) -> VmStatus {
    let vm = inputs.observed.vm;
    let vmi = inputs.vmi;
    let now = whole_seconds(inputs.now);
    let mut status = vm.status.clone().unwrap_or_default();
    status.created = vmi.is_some();
    status.ready = vmi
        .and_then(|vmi| vmi.status.as_ref())
        .is_some_and(|status| condition::is_true(&status.conditions, "Ready"));
    // "Has been started under this strategy": kept back until it has.
    if status.created || (status.run_strategy.is_some() && !inputs.starting) {
        status.run_strategy = run_strategy(vm).ok();
    }
    status.state_change_requests.clone_from(&inputs.requests);
    if inputs.rerun {
        status.state_change_requests.push(StateChangeRequest {
            action: "Start".to_owned(),
            ..StateChangeRequest::default()
        });
    }
    if let Some(vmi) = vmi {
        take_generations(&mut status, vm, vmi);
    }
    status.start_failure = start_failure(vm, vmi, status.start_failure.take(), inputs);
    take_conditions(&mut status, vm, vmi, inputs.failure, now);
    status.volume_snapshot_statuses = volume_snapshot_statuses(vm);
    printable(
        vm,
        &status,
        vmi,
        inputs.observed.storage,
        (inputs.starting, inputs.stopping),
    )
    .clone_into(&mut status.printable_status);
    status
}

fn annotation<'a>(vmi: &'a VirtualMachineInstance, name: &str) -> Option<&'a str> {
    vmi.metadata
        .annotations
        .as_ref()?
        .get(name)
        .map(String::as_str)
}

/// Observed: the generation the instance was made from. Desired: the VM's own.
fn take_generations(status: &mut VmStatus, vm: &VirtualMachine, vmi: &VirtualMachineInstance) {
    let made_from = annotation(vmi, GENERATION_ANNOTATION).and_then(|text| text.parse().ok());
    if made_from.is_some() {
        status.observed_generation = made_from;
        status.desired_generation = vm.metadata.generation;
    }
}

/// Seconds to wait before start number `failures + 1`: 10 n², and up to half
/// as much again by `random` (0 to 1), at most [`BACKOFF_CAP_SECONDS`].
#[must_use]
pub fn backoff_seconds(failures: i64, random: f64) -> i64 {
    let failures = failures.clamp(1, 100);
    let base = 10 * failures * failures;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "base is at most 100000 and random is clamped to 0..=1"
    )]
    let jitter = (base as f64 / 2.0 * random.clamp(0.0, 1.0)) as i64;
    (base + jitter).min(BACKOFF_CAP_SECONDS)
}

fn start_failure(
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
    known: Option<StartFailure>,
    inputs: &Inputs<'_>,
) -> Option<StartFailure> {
    let restarts = matches!(
        run_strategy(vm),
        Ok(RunStrategy::Always | RunStrategy::RerunOnFailure | RunStrategy::Once)
    );
    let ran = vmi
        .and_then(|vmi| vmi.status.as_ref())
        .is_some_and(|status| {
            status
                .phase_transition_timestamps
                .iter()
                .any(|transition| transition.phase == Phase::Running)
        });
    if !restarts || ran {
        return None;
    }
    // One that was told to go did not fail to start: a start that is queued
    // behind it must not wait (upstream counts it).
    let ended = vmi.filter(|vmi| is_final(vmi) && vmi.metadata.deletion_timestamp.is_none());
    let Some(vmi) = ended else {
        return known;
    };
    let counted = known
        .as_ref()
        .is_some_and(|known| known.last_failed_vmi_uid == vmi.metadata.uid);
    if counted {
        return known;
    }
    let count = known
        .and_then(|known| known.consecutive_fail_count)
        .unwrap_or(0)
        + 1;
    let now = whole_seconds(inputs.now);
    let wait = SignedDuration::from_secs(backoff_seconds(count, inputs.observed.random));
    Some(StartFailure {
        consecutive_fail_count: Some(count),
        last_failed_vmi_uid: vmi.metadata.uid.clone(),
        retry_after_timestamp: now.checked_add(wait).ok().map(Time),
    })
}

fn take_conditions(
    status: &mut VmStatus,
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
    failure: Option<&Failure>,
    now: Timestamp,
) {
    let theirs = vmi
        .and_then(|vmi| vmi.status.as_ref())
        .map_or(&[][..], |status| &status.conditions);
    let conditions = &mut status.conditions;
    let ready = match (vmi, condition::find(theirs, "Ready")) {
        (None, _) => new_condition("Ready", false, "VMINotExists", "VMI does not exist"),
        (Some(_), None) => new_condition(
            "Ready",
            false,
            "VMIConditionMissing",
            "VMI is missing the Ready condition",
        ),
        (Some(_), Some(ready)) => ready.clone(),
    };
    set(conditions, ready, now);
    match failure {
        Some(failure) => set(
            conditions,
            new_condition("Failure", true, &failure.reason, &failure.message),
            now,
        ),
        None => remove(conditions, "Failure"),
    }
    if vmi.is_some_and(|vmi| is_outdated(vm, vmi)) {
        set(
            conditions,
            new_condition(
                "RestartRequired",
                true,
                "",
                "the template was changed; the change takes effect at the next start",
            ),
            now,
        );
    } else {
        remove(conditions, "RestartRequired");
    }
    conditions.retain(|c| {
        OWN_CONDITIONS.contains(&c.type_.as_str())
            || theirs.iter().any(|their| their.type_ == c.type_)
    });
    for their in theirs {
        if !OWN_CONDITIONS.contains(&their.type_.as_str()) {
            set(conditions, their.clone(), now);
        }
    }
}

/// The live instance was made from another template.
fn is_outdated(vm: &VirtualMachine, vmi: &VirtualMachineInstance) -> bool {
    let made_from = annotation(vmi, TEMPLATE_ANNOTATION);
    made_from.is_some()
        && made_from != fingerprint(vm).as_deref()
        && !is_final(vmi)
        && vmi.metadata.deletion_timestamp.is_none()
}

fn volume_snapshot_statuses(vm: &VirtualMachine) -> Vec<VolumeSnapshotStatus> {
    let volumes = vm
        .spec
        .template
        .as_ref()
        .map_or(&[][..], |template| &template.spec.volumes);
    volumes
        .iter()
        .map(|volume| VolumeSnapshotStatus {
            name: volume.name.clone(),
            enabled: false,
            reason: format!(
                "Snapshot is not supported for this volumeSource type [{}]",
                volume.name
            ),
        })
        .collect()
}
