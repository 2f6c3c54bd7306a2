//! Which phase follows, from the pod alone. The diagram is in the parent module.

use api::vmi_status::Phase;
use jiff::{SignedDuration, Timestamp};

use super::Observed;
use crate::plan::Event;
use crate::pod::PodFacts;
use crate::storage::{IMPORT_FAILED, Readiness};

/// How long virt-handler has to say how the guest ended before the pod's exit
/// code is believed. It knows more (a crash from a shutdown), but may be away.
pub const HANDLER_GRACE_SECONDS: i64 = 10;

/// The phase that follows, and why.
#[derive(Debug)]
pub(super) struct Next {
    /// The phase; often the present one.
    pub(super) phase: Phase,
    /// Word for `status.reason`; empty to leave it.
    pub(super) reason: String,
    /// Ask the API server for the pod before believing that it is gone.
    pub(super) confirm: bool,
    /// Decide again at this time.
    pub(super) look_again: Option<Timestamp>,
    /// An event that belongs to the change.
    pub(super) event: Option<Event>,
}

impl Next {
    fn to(phase: Phase) -> Self {
        Self {
            phase,
            reason: String::new(),
            confirm: false,
            look_again: None,
            event: None,
        }
    }
}

/// `waits`: what of its volumes keeps a VMI without a pod from getting one.
pub(super) fn next(
    observed: &Observed<'_>,
    phase: Phase,
    waits: Option<&Readiness>,
    now: Timestamp,
) -> Next {
    let deleting = observed.vmi.metadata.deletion_timestamp.is_some();
    let pod = observed.pods.first();
    match (phase, pod) {
        (Phase::Succeeded | Phase::Failed, _) => Next::to(phase),
        (Phase::Unset | Phase::Pending, Some(_)) => Next::to(Phase::Scheduling),
        (Phase::Unset | Phase::Pending, None) if deleting => Next::to(Phase::Failed),
        (Phase::Unset | Phase::Pending, None) => {
            match waits.and_then(|waits| waits.failed.as_ref()) {
                Some(message) => Next {
                    reason: IMPORT_FAILED.to_owned(),
                    event: Some(Event {
                        warning: true,
                        reason: IMPORT_FAILED,
                        message: message.clone(),
                    }),
                    ..Next::to(Phase::Failed)
                },
                None => Next::to(Phase::Pending),
            }
        }
        (_, None) if !observed.absence_confirmed => Next {
            confirm: true,
            ..Next::to(phase)
        },
        (_, None) => ended(observed, Phase::Failed),
        (Phase::Scheduling, Some(pod)) if pod.is_over() || pod.broken => ended_with(observed, pod),
        (Phase::Scheduling, Some(pod)) if pod.deleting => ended(observed, Phase::Failed),
        (Phase::Scheduling, Some(pod))
            if pod.containers_ready && !pod.node.is_empty() && !deleting =>
        {
            Next::to(Phase::Scheduled)
        }
        (Phase::Scheduling, Some(_)) => Next::to(Phase::Scheduling),
        (_, Some(pod)) if pod.is_over() => over(observed, pod, phase, now, believed_at(pod)),
        // Its disk's container died, and virt-handler says neither that the guest
        // runs, so has its disk, nor that it failed.
        (Phase::Scheduled, Some(pod)) if pod.broken => {
            let due = pod.broken_at.and_then(after_grace);
            over(observed, pod, phase, now, due)
        }
        (_, Some(_)) => Next::to(phase),
    }
}

/// The pod is over but nobody said how the guest ended.
fn over(
    observed: &Observed<'_>,
    pod: &PodFacts,
    phase: Phase,
    now: Timestamp,
    due: Option<Timestamp>,
) -> Next {
    match due {
        Some(due) if now < due && !observed.node_unresponsive => Next {
            look_again: Some(due),
            ..Next::to(phase)
        },
        _ => ended_with(observed, pod),
    }
}

/// When the end of `compute` counts though nobody else spoke of it.
pub(super) fn believed_at(pod: &PodFacts) -> Option<Timestamp> {
    after_grace(pod.finished_at?)
}

fn after_grace(end: Timestamp) -> Option<Timestamp> {
    let grace = SignedDuration::from_secs(HANDLER_GRACE_SECONDS);
    end.checked_add(grace).ok()
}

/// The launcher exits with 0 when the guest shut down, else with another code.
fn outcome(pod: &PodFacts) -> Phase {
    if pod.exit_code == Some(0) {
        Phase::Succeeded
    } else {
        Phase::Failed
    }
}

/// The pod is over: its exit code says how, and a failure says why.
fn ended_with(observed: &Observed<'_>, pod: &PodFacts) -> Next {
    let phase = outcome(pod);
    let next = ended(observed, phase);
    if next.event.is_some() || phase == Phase::Succeeded || pod.end_reason.is_empty() {
        return next;
    }
    Next {
        reason: pod.end_reason.clone(),
        event: Some(Event {
            warning: true,
            reason: "LauncherFailed",
            message: format!(
                "The launcher pod {} failed: {}: {}",
                pod.name, pod.end_reason, pod.end_message
            ),
        }),
        ..next
    }
}

fn ended(observed: &Observed<'_>, phase: Phase) -> Next {
    if !observed.node_unresponsive {
        return Next::to(phase);
    }
    let node = observed
        .vmi
        .status
        .as_ref()
        .map_or("", |status| status.node_name.as_str());
    Next {
        reason: "NodeUnresponsive".to_owned(),
        event: Some(Event {
            warning: false,
            reason: "NodeUnresponsive",
            message: format!(
                "virt-handler on node {node} is not responsive, marking VMI as failed"
            ),
        }),
        ..Next::to(Phase::Failed)
    }
}
