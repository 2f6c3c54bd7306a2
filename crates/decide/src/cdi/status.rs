//! Status of a DataVolume, out of its claim.
//!
//! Source of phases, conditions, reasons and messages: CDI pkg/controller/datavolume.

#[cfg(test)]
mod tests;

use api::Condition;
use api::cdi::names::annotations as note;
use api::cdi::{DataVolume, DataVolumeStatus, phase};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::worker::{Job, note as of};
use crate::conditions::{beat, said};
use crate::plan::Event;

/// Why a DataVolume is where it is, when its claim does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// CamelCase word for programs.
    pub reason: String,
    /// Sentence for people.
    pub message: String,
}

/// What the status follows from.
#[derive(Debug)]
pub struct Seen<'a> {
    /// The DataVolume.
    pub dv: &'a DataVolume,
    /// Its claim.
    pub claim: Option<&'a PersistentVolumeClaim>,
    /// The claim holds the data already, or somebody else fills it.
    pub adopted: bool,
    /// Nobody uses the claim yet, and that is waited for.
    pub waits: bool,
    /// Percent of the data that is there, if the worker tells.
    pub progress: Option<f64>,
    /// What is done before there is a claim: the phase, and the event that begins it.
    pub stage: Option<(&'static str, Event)>,
    /// What stands in the way.
    pub cause: Option<Cause>,
}

/// The status, and the event that its change is worth.
#[must_use]
pub fn status(seen: &Seen<'_>, now: Timestamp) -> (DataVolumeStatus, Option<Event>) {
    let old = seen.dv.status.clone().unwrap_or_default();
    let (phase, event) = phase_of(seen, &old);
    let mut new = DataVolumeStatus {
        claim_name: seen
            .claim
            .and_then(|claim| claim.metadata.name.clone())
            .unwrap_or(old.claim_name),
        progress: progress(seen, phase, &old.progress),
        restart_count: seen
            .claim
            .and_then(|claim| of(claim, note::POD_RESTARTS)?.parse().ok())
            .unwrap_or(old.restart_count),
        phase: phase.to_owned(),
        conditions: old.conditions,
    };
    let wanted = conditions(seen, phase);
    for condition in wanted {
        beat(&mut new.conditions, condition, now);
    }
    let event = event.filter(|_| new.phase != old.phase);
    (new, event)
}

fn progress(seen: &Seen<'_>, phase: &str, old: &str) -> String {
    let upload = seen.claim.and_then(Job::of) == Some(Job::Upload);
    if phase == phase::SUCCEEDED && !upload && seen.claim.and_then(Job::of).is_some() {
        return "100.0%".to_owned();
    }
    if let Some(told) = seen
        .claim
        .and_then(|claim| of(claim, note::POPULATOR_PROGRESS))
    {
        return told.to_owned();
    }
    match seen.progress {
        Some(percent) if phase != phase::FAILED => format!("{:.2}%", percent.clamp(0.0, 100.0)),
        _ if old.is_empty() => "N/A".to_owned(),
        _ => old.to_owned(),
    }
}

fn event(warning: bool, reason: &'static str, message: String) -> Option<Event> {
    Some(Event {
        warning,
        reason,
        message,
    })
}

/// Phase by the claim and its worker.
fn phase_of(seen: &Seen<'_>, old: &DataVolumeStatus) -> (&'static str, Option<Event>) {
    let Some(claim) = seen.claim else {
        return match old.phase.as_str() {
            phase::SUCCEEDED => (phase::SUCCEEDED, None),
            _ => match &seen.stage {
                Some((phase, event)) => (phase, Some(event.clone())),
                None => (phase::PENDING, None),
            },
        };
    };
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let bound = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending");
    if bound == "Lost" {
        return (
            phase::FAILED,
            event(true, "ErrClaimLost", format!("PVC {name} lost")),
        );
    }
    if seen.adopted {
        return match bound {
            "Bound" => (phase::SUCCEEDED, None),
            _ if seen.waits => (phase::WAIT_FOR_FIRST_CONSUMER, None),
            _ => (phase::PENDING, None),
        };
    }
    if seen.waits {
        let populated = super::populator::reference(claim).is_some();
        let phase = if populated {
            phase::PENDING_POPULATION
        } else {
            phase::WAIT_FOR_FIRST_CONSUMER
        };
        return (phase, None);
    }
    let Some(job) = Job::of(claim) else {
        // A populator's worker, which works on another claim, gave up.
        if of(claim, note::FATAL_ERROR) == Some("true") {
            return (phase::FAILED, None);
        }
        return if bound == "Bound" {
            (phase::PVC_BOUND, None)
        } else {
            (phase::PENDING, None)
        };
    };
    let pod = of(claim, note::POD_PHASE);
    let hopeless = of(claim, note::FATAL_ERROR) == Some("true");
    let Some(pod) = pod else {
        if let Job::DriverClone { from } = &job {
            return by_driver(claim, from);
        }
        return if bound == "Bound" {
            (phase::PVC_BOUND, None)
        } else {
            (phase::PENDING, None)
        };
    };
    let words = Words::of(&job, claim);
    match pod {
        "Succeeded" => (
            phase::SUCCEEDED,
            event(false, words.succeeded, words.says_succeeded),
        ),
        "Failed" => (
            if hopeless {
                phase::FAILED
            } else {
                words.scheduled
            },
            event(true, words.failed, words.says_failed),
        ),
        "Running" if job != Job::Upload || of(claim, note::POD_READY) == Some("true") => (
            words.running,
            event(false, words.running, words.says_running),
        ),
        _ => (
            words.scheduled,
            event(false, words.scheduled, words.says_scheduled),
        ),
    }
}

/// A driver is at it.
fn by_driver(claim: &PersistentVolumeClaim, from: &str) -> (&'static str, Option<Event>) {
    if of(claim, note::CLONE_TYPE) == Some("csi-clone") {
        let message = format!("CSI Volume clone in progress (for pvc {from})");
        (phase::CSI_CLONE, event(false, phase::CSI_CLONE, message))
    } else {
        let message = format!("Creating PVC from snapshot source is in progress (for {from})");
        (
            phase::CLONE_FROM_SNAPSHOT,
            event(false, phase::CLONE_FROM_SNAPSHOT, message),
        )
    }
}

/// Phases and events of a job; the reasons of events are the phases' names.
struct Words {
    scheduled: &'static str,
    running: &'static str,
    failed: &'static str,
    succeeded: &'static str,
    says_scheduled: String,
    says_running: String,
    says_failed: String,
    says_succeeded: String,
}

impl Words {
    fn of(job: &Job, claim: &PersistentVolumeClaim) -> Self {
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        match job {
            Job::Import(_) => Self {
                scheduled: phase::IMPORT_SCHEDULED,
                running: phase::IMPORT_IN_PROGRESS,
                failed: "ImportFailed",
                succeeded: "ImportSucceeded",
                says_scheduled: format!("Import into {name} scheduled"),
                says_running: format!("Import into {name} in progress"),
                says_failed: format!("Failed to import into PVC {name}"),
                says_succeeded: format!("Successfully imported into PVC {name}"),
            },
            Job::Upload => Self {
                scheduled: phase::UPLOAD_SCHEDULED,
                running: phase::UPLOAD_READY,
                failed: "UploadFailed",
                succeeded: "UploadSucceeded",
                says_scheduled: format!("Upload into {name} scheduled"),
                says_running: format!("Upload into {name} ready"),
                says_failed: format!("Upload into {name} failed"),
                says_succeeded: format!("Successfully uploaded into {name}"),
            },
            Job::DriverClone { from } => {
                let way = format!("from {from} into {namespace}/{name}");
                Self {
                    scheduled: phase::PREP_CLAIM,
                    running: phase::PREP_CLAIM,
                    failed: "CloneFailed",
                    succeeded: "CloneSucceeded",
                    says_scheduled: format!(
                        "Prepping PersistentVolumeClaim for DataVolume {namespace}/{name}"
                    ),
                    says_running: format!(
                        "Prepping PersistentVolumeClaim for DataVolume {namespace}/{name}"
                    ),
                    says_failed: format!("Cloning {way} failed"),
                    says_succeeded: format!("Successfully cloned {way}"),
                }
            }
            Job::Clone {
                namespace: from,
                name: original,
            }
            | Job::Receive {
                namespace: from,
                name: original,
                ..
            } => {
                let way = format!("from {from}/{original} into {namespace}/{name}");
                Self {
                    scheduled: phase::CLONE_SCHEDULED,
                    running: phase::CLONE_IN_PROGRESS,
                    failed: "CloneFailed",
                    succeeded: "CloneSucceeded",
                    says_scheduled: format!("Cloning {way} scheduled"),
                    says_running: format!("Cloning {way} in progress"),
                    says_failed: format!("Cloning {way} failed"),
                    says_succeeded: format!("Successfully cloned {way}"),
                }
            }
        }
    }
}

/// Bound, Ready and Running; the order is upstream's.
fn conditions(seen: &Seen<'_>, phase: &str) -> [Condition; 3] {
    let cause = seen.cause.clone().unwrap_or_default();
    let bound = match seen.claim {
        None => {
            let or = |text: &str, default: &str| {
                if text.is_empty() {
                    default.to_owned()
                } else {
                    text.to_owned()
                }
            };
            said(
                "Bound",
                "False",
                &or(&cause.reason, "NotFound"),
                &or(&cause.message, "No PVC found"),
            )
        }
        Some(claim) => {
            let name = claim.metadata.name.as_deref().unwrap_or_default();
            match claim
                .status
                .as_ref()
                .and_then(|status| status.phase.as_deref())
            {
                Some("Bound") => said("Bound", "True", "Bound", &format!("PVC {name} Bound")),
                Some("Lost") => said("Bound", "False", "ClaimLost", "Claim Lost"),
                _ => said("Bound", "False", "Pending", &format!("PVC {name} Pending")),
            }
        }
    };
    let text = |name| {
        seen.claim
            .and_then(|claim| of(claim, name))
            .unwrap_or_default()
    };
    let runs = text(note::RUNNING) == "true";
    let running = if runs || seen.claim.is_none() || seen.cause.is_none() {
        let status = if runs { "True" } else { "False" };
        said(
            "Running",
            status,
            text(note::RUNNING_REASON),
            text(note::RUNNING_MESSAGE),
        )
    } else {
        said("Running", "False", &cause.reason, &cause.message)
    };
    let ready = match phase {
        phase::SUCCEEDED => said("Ready", "True", "", ""),
        phase::UNKNOWN => said("Ready", "Unknown", "", ""),
        // Ours: upstream leaves a reader to find this under Running.
        phase::FAILED => said("Ready", "False", &running.reason, &running.message),
        _ if runs => said("Ready", "False", "TransferRunning", ""),
        _ => said("Ready", "False", &cause.reason, &cause.message),
    };
    [bound, ready, running]
}
