//! What virt-handler says about a VMI whose launcher runs on its node, and
//! whether the guest is to stop. A function of the VMI, the launcher's
//! [`DomainState`], the pod and the network that was set up.
//!
//! ```text
//!   Pending, Scheduling or
//!   Scheduled ──vCPUs exist──► Running ──guest shut itself down──────► Succeeded
//!       │                         ├──killed, no ACPI or no grace────► Succeeded
//!       │                         ├──killed after its grace period──► Failed
//!       │                         └──guest panicked, QEMU died──────► Failed
//!       └──the guest never started─────────────────────────────────► Failed
//! ```
//! virt-controller owns every phase before `Scheduled`, and virt-handler takes a VMI over
//! when its guest runs: all containers are up then, which the kubelet tells only at its next
//! look at them, up to a second later. What virt-controller says with `Scheduled` is said
//! with it. Source of phases, conditions, reasons and messages: KubeVirt, pkg/virt-handler.

mod interfaces;
mod phase;
mod status;

#[cfg(test)]
mod tests;

use api::VirtualMachineInstance;
use api::launcher::{DomainPhase, DomainState};
use api::vmi_status::Phase;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::plan::Event;

pub use interfaces::NicFacts;
pub(crate) use status::SYNC_FAILED;

/// How the launcher pod ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodEnd {
    /// All containers exited with 0.
    Succeeded,
    /// One did not.
    Failed,
}

/// What the decision looks at in the launcher pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodView {
    /// UID.
    pub uid: String,
    /// Node it is bound to.
    pub node: String,
    /// Quality of service class, when it is known.
    pub qos_class: Option<String>,
    /// Addresses, the first one first.
    pub ips: Vec<String>,
    /// Condition `Ready` is `True`.
    pub ready: bool,
    /// It is being deleted: its containers may be ready until the guest has ended.
    pub leaving: bool,
    /// How it ended, if it did.
    pub end: Option<PodEnd>,
}

/// Everything the decision is made from.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// The VMI, as fresh as known.
    pub vmi: &'a VirtualMachineInstance,
    /// The launcher's last word; absent before its first.
    pub domain: Option<&'a DomainState>,
    /// The launcher pod.
    pub pod: &'a PodView,
    /// What the guest's interfaces were made of, in the order of the spec.
    pub nics: &'a [NicFacts],
    /// Why the guest could not be prepared, when that is so.
    pub sync_error: Option<&'a str>,
    /// Grace period of the stop that was asked of the launcher already.
    pub stop_sent: Option<i64>,
    /// Now.
    pub now: Timestamp,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Merge patch of the VMI, with the resource version it was decided on.
    pub patch: Option<Value>,
    /// To publish once the patch is done.
    pub events: Vec<Event>,
    /// Ask the launcher to stop the guest within so many seconds; 0 kills it.
    pub stop: Option<i64>,
}

/// Grace period of a VMI that has none (upstream's default, seconds).
const DEFAULT_GRACE: i64 = 30;

/// Decides. Nothing to do is the empty plan.
#[must_use]
pub fn decide(observed: &Observed<'_>) -> Plan {
    let old = observed.vmi.status.clone().unwrap_or_default();
    if old.phase.is_final() {
        return Plan::default();
    }
    let mut new = old.clone();
    let mut events = Vec::new();
    phase::apply(observed, &mut new, &mut events);
    status::apply(observed, &mut new, &mut events);
    let patch = crate::merge::diff_of(&old, &new).map(|status| {
        let mut metadata = json!({ "resourceVersion": observed.vmi.metadata.resource_version });
        if is_taken_over(old.phase, new.phase) {
            metadata["labels"] = json!({ api::names::NODE_NAME_LABEL: observed.pod.node });
        }
        json!({ "metadata": metadata, "status": status })
    });
    let stop = stop(observed, new.phase);
    if let Some(grace) = stop {
        events.push(if grace == 0 {
            news("Deleted", "Signaled Deletion")
        } else {
            news("ShuttingDown", "Signaled Graceful Shutdown")
        });
    }
    Plan {
        patch,
        events,
        stop,
    }
}

/// The grace period to send, when the VMI is being deleted and the launcher
/// has not been told, or was told a longer one.
fn stop(observed: &Observed<'_>, phase: Phase) -> Option<i64> {
    observed.vmi.metadata.deletion_timestamp.as_ref()?;
    let domain = observed.domain?;
    if domain.phase.is_final() || phase.is_final() {
        return None;
    }
    let grace = grace(observed.vmi);
    observed
        .stop_sent
        .is_none_or(|sent| grace < sent)
        .then_some(grace)
}

/// Seconds between the power button and the kill.
fn grace(vmi: &VirtualMachineInstance) -> i64 {
    vmi.spec
        .termination_grace_period_seconds
        .unwrap_or(DEFAULT_GRACE)
        .max(0)
}

/// The phases that virt-controller leads a VMI through.
fn is_early(phase: Phase) -> bool {
    matches!(phase, Phase::Unset | Phase::Pending | Phase::Scheduling)
}

/// The step in which virt-handler takes a VMI over.
fn is_taken_over(before: Phase, after: Phase) -> bool {
    is_early(before) && after == Phase::Running
}

/// The guest has vCPUs, running or not.
fn is_alive(phase: DomainPhase) -> bool {
    matches!(
        phase,
        DomainPhase::Running | DomainPhase::Paused | DomainPhase::ShuttingDown
    )
}

fn news(reason: &'static str, message: &str) -> Event {
    Event {
        warning: false,
        reason,
        message: message.to_owned(),
    }
}

fn complaint(reason: &'static str, message: &str) -> Event {
    Event {
        warning: true,
        reason,
        message: message.to_owned(),
    }
}
