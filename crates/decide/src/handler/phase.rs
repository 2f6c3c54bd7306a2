//! The phase, the time it began and the event that tells of it.

use api::VirtualMachineInstance;
use api::launcher::{DomainPhase, DomainState};
use api::vmi_status::{Phase, PhaseTransition, VmiStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Observed, PodEnd, complaint, grace, is_alive, is_early, is_taken_over, news};
use crate::plan::{Event, whole_seconds};

/// Sets phase, its time and its reason; adds the event of a change.
pub(super) fn apply(observed: &Observed<'_>, status: &mut VmiStatus, events: &mut Vec<Event>) {
    let (phase, reason) = next(observed, status.phase);
    if phase == status.phase {
        return;
    }
    let before = status.phase;
    status.phase = phase;
    status.reason = reason.to_owned();
    if is_taken_over(before, phase) {
        for passed in [Phase::Scheduling, Phase::Scheduled] {
            pass(status, passed, observed.now);
        }
    }
    status
        .phase_transition_timestamps
        .retain(|transition| transition.phase != phase);
    pass(status, phase, observed.now);
    match phase {
        Phase::Running => {
            if before == Phase::Scheduled || is_early(before) {
                events.push(news("Created", "VirtualMachineInstance defined."));
            }
            events.push(news("Started", "VirtualMachineInstance started."));
        }
        Phase::Succeeded => {
            events.push(news("Stopped", "The VirtualMachineInstance was shut down."))
        }
        Phase::Failed => events.push(complaint("Stopped", "The VirtualMachineInstance crashed.")),
        _ => {}
    }
}

/// Writes the time of a phase down, unless it has been.
fn pass(status: &mut VmiStatus, phase: Phase, now: Timestamp) {
    let transitions = &mut status.phase_transition_timestamps;
    if transitions.iter().all(|known| known.phase != phase) {
        transitions.push(PhaseTransition {
            phase,
            phase_transition_timestamp: Time(whole_seconds(now)),
        });
    }
}

/// The phase that follows and the CamelCase reason for it.
fn next(observed: &Observed<'_>, phase: Phase) -> (Phase, &'static str) {
    if is_early(phase) {
        // What is deleted before its guest is known to run never ran: virt-controller's word.
        let stays = observed.vmi.metadata.deletion_timestamp.is_none()
            && !observed.pod.leaving
            && observed.pod.end.is_none();
        let runs = observed.domain.is_some_and(|domain| is_alive(domain.phase));
        let phase = if runs && stays { Phase::Running } else { phase };
        return (phase, "");
    }
    // `Unknown` is said of a node that did not answer, and here it answers.
    if !matches!(phase, Phase::Scheduled | Phase::Running | Phase::Unknown) {
        return (phase, "");
    }
    if let Some(domain) = observed.domain {
        if is_alive(domain.phase) {
            return (Phase::Running, "");
        }
        if let Some(end) = ended(observed.vmi, domain) {
            return end;
        }
    }
    match observed.pod.end {
        Some(PodEnd::Succeeded) => (Phase::Succeeded, ""),
        Some(PodEnd::Failed) => (Phase::Failed, "LauncherLost"),
        None => (phase, ""),
    }
}

fn ended(vmi: &VirtualMachineInstance, domain: &DomainState) -> Option<(Phase, &'static str)> {
    match domain.phase {
        DomainPhase::Shutdown => Some((Phase::Succeeded, "")),
        DomainPhase::Crashed => Some((Phase::Failed, "GuestCrashed")),
        DomainPhase::StartFailed => Some((Phase::Failed, "StartFailed")),
        // A guest that knows the power button and had time did not obey.
        DomainPhase::Killed if has_acpi(vmi) && grace(vmi) > 0 => {
            Some((Phase::Failed, "KilledAfterGracePeriod"))
        }
        DomainPhase::Killed => Some((Phase::Succeeded, "")),
        _ => None,
    }
}

fn has_acpi(vmi: &VirtualMachineInstance) -> bool {
    let features = vmi.spec.domain.features.as_ref();
    features
        .and_then(|features| features.acpi.as_ref())
        .and_then(|acpi| acpi.enabled)
        .unwrap_or(true)
}
