//! What to do about a VirtualMachineInstance: its launcher pod and its status.
//!
//! ```text
//!                 pod made           pod ready          handler: guest runs
//!   "" / Pending ─────────► Scheduling ─────► Scheduled ─────► Running
//!        │                      │                 │               │
//!        │ deleted              │ pod down        │ pod gone, or over and the
//!        ▼                      ▼                 ▼ handler silent │
//!      Failed ◄─────────────────┴─── Failed / Succeeded ◄──────────┘
//!        │ no pod is left
//!        ▼
//!   finalizer removed
//! ```
//! A guest that runs before its pod is ready goes from `Scheduling` to `Running` by
//! virt-handler's word. virt-controller owns the way to `Scheduled`, all conditions but Paused and
//! AgentConnected, and everything that comes from the pod; virt-handler owns the
//! rest. Both patch with the resource version, so neither overwrites the other.
//!
//! A launcher pod has one name in its VMI's life ([`crate::pod::pod_name`]), so a pod
//! is never made twice, and a pod is believed to be gone only after the API
//! server was asked ([`Op::ConfirmPod`]): a watch may lag.
//!
//! Source of phases, conditions and reasons: KubeVirt,
//! pkg/virt-controller/watch/vmi/lifecycle.go.

mod phase;
pub mod starts;
mod status;

use api::VirtualMachineInstance;
use api::condition;
use api::names::{UNPAUSED_CONDITION, VM_FINALIZER, VMI_FINALIZER};
use api::vmi_status::{Phase, VmiStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

use crate::merge;
use crate::plan::{Event, Failure, Plan, Step, whole_seconds};
use crate::pod::{PodFacts, Settings, pod_name, render};
use crate::storage::{CLAIM_NOT_FOUND, Storage};

pub use phase::HANDLER_GRACE_SECONDS;
pub use status::ready_condition;

/// The finalizer as KubeVirt named it up to 2025; removed where it is found.
const OLD_FINALIZER: &str = "foregroundDeleteVirtualMachine";

/// What is known about a VMI.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// The VMI.
    pub vmi: &'a VirtualMachineInstance,
    /// Its launcher pods.
    pub pods: &'a [PodFacts],
    /// The API server itself said that there is no launcher pod.
    pub absence_confirmed: bool,
    /// The VM that controls it exists.
    pub owner_exists: bool,
    /// Its node's virt-handler has not been heard of for too long.
    pub node_unresponsive: bool,
    /// Its turn to start has not come; until then at the latest. See [`starts`].
    pub waits_until: Option<Timestamp>,
    /// What failed last.
    pub failure: Option<&'a Failure>,
    /// The claims and DataVolumes that it names.
    pub storage: &'a Storage,
    /// Settings of launcher pods.
    pub settings: &'a Settings,
}

/// One thing to do about a VMI.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Create the launcher pod.
    CreatePod(Box<Pod>),
    /// Delete a launcher pod.
    DeletePod {
        /// Its name.
        name: String,
        /// Its UID, as a precondition.
        uid: String,
        /// Seconds until it is killed.
        grace_seconds: Option<i64>,
    },
    /// Ask the API server whether this pod exists.
    ConfirmPod {
        /// Its name.
        name: String,
    },
    /// Merge patch of a pod.
    PatchPod {
        /// The pod's name.
        name: String,
        /// The patch.
        patch: Value,
    },
    /// Strategic merge patch of a pod's status.
    PatchPodStatus {
        /// The pod's name.
        name: String,
        /// The patch.
        patch: Value,
    },
    /// Merge patch of the VMI, resource version included.
    Patch(Value),
}

/// Decides what to do about a VMI. An empty plan means: nothing.
#[must_use]
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Plan<Op> {
    let mut plan = Plan::default();
    let vmi = observed.vmi;
    let deleting = vmi.metadata.deletion_timestamp.is_some();
    let phase = vmi.status.as_ref().map_or(Phase::Unset, |s| s.phase);
    let mut failure = observed.failure.cloned();

    let pending = observed.pods.is_empty() && matches!(phase, Phase::Unset | Phase::Pending);
    let readiness = pending.then(|| {
        let namespace = vmi.metadata.namespace.as_deref().unwrap_or_default();
        observed.storage.readiness(namespace, &vmi.spec)
    });
    let waits = readiness.as_ref().filter(|readiness| !readiness.is_ready());
    if deleting {
        delete_pods(observed, &mut plan);
    } else if let Some(waits) = waits {
        // The watch tells when a claim or DataVolume changes.
        failure = waits.missing.as_ref().map(|message| Failure {
            reason: CLAIM_NOT_FOUND.to_owned(),
            message: message.clone(),
            retry_at: now,
        });
    } else if pending {
        let holds = failure.as_ref().filter(|failure| failure.holds(now));
        match holds
            .map(|failure| failure.retry_at)
            .or(observed.waits_until)
        {
            Some(then) => plan.look_again(now, then),
            None => match render(vmi, observed.settings, observed.storage) {
                Ok(pod) => {
                    plan.steps.push(create_pod(pod));
                    // Its outcome decides what the status says.
                    return plan;
                }
                Err(error) => {
                    failure = Some(Failure {
                        reason: "FailedCreate".to_owned(),
                        message: format!("cannot make the launcher pod: {error}"),
                        retry_at: now,
                    });
                }
            },
        }
    }
    for pod in observed
        .pods
        .iter()
        .filter(|pod| !pod.is_down_or_going_down())
    {
        if let Some(patch) = gate_patch(vmi, pod, now) {
            plan.push(Op::PatchPodStatus {
                name: pod.name.clone(),
                patch,
            });
        }
    }

    if phase.is_final() {
        finish_pods(observed, now, &mut plan);
    }
    let next = phase::next(observed, phase, waits, now);
    if next.confirm {
        plan.push(Op::ConfirmPod {
            name: pod_name(vmi),
        });
        return plan;
    }
    if let Some(at) = next.look_again {
        plan.look_again(now, at);
    }
    if next.phase == Phase::Scheduling
        && let Some(pod) = observed.pods.first()
        && let Some(late) = status::secrets_are_late_at(&vmi.spec, pod).filter(|late| now < *late)
    {
        plan.look_again(now, late);
    }
    let status = status::next(observed, &next, waits, failure.as_ref(), whole_seconds(now));
    let event = next.event.or_else(|| claim_not_found(vmi, &status));
    let metadata = metadata_patch(observed, next.phase);
    if let Some(patch) = vmi_patch(vmi, &status, metadata) {
        plan.steps.push(Step {
            op: Op::Patch(patch),
            done: event,
            failed: None,
        });
    }
    plan
}

/// The event of a claim that has just been found missing.
fn claim_not_found(vmi: &VirtualMachineInstance, new: &VmiStatus) -> Option<Event> {
    let told = |status: &VmiStatus| {
        condition::find(&status.conditions, "Synchronized")
            .filter(|known| known.reason == CLAIM_NOT_FOUND)
            .map(|known| known.message.clone())
    };
    let message = told(new)?;
    let before = vmi.status.as_ref().and_then(told);
    (before.as_ref() != Some(&message)).then_some(Event {
        warning: false,
        reason: CLAIM_NOT_FOUND,
        message,
    })
}

fn create_pod(pod: Pod) -> Step<Op> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    Step {
        op: Op::CreatePod(Box::new(pod)),
        done: Some(Event {
            warning: false,
            reason: "SuccessfulCreate",
            message: format!("Created virtual machine pod {name}"),
        }),
        failed: Some("FailedCreate"),
    }
}

fn delete_pods(observed: &Observed<'_>, plan: &mut Plan<Op>) {
    let grace = observed.vmi.spec.termination_grace_period_seconds;
    for pod in observed.pods.iter().filter(|pod| !pod.deleting) {
        plan.steps.push(Step {
            op: Op::DeletePod {
                name: pod.name.clone(),
                uid: pod.uid.clone(),
                grace_seconds: grace.map(|seconds| seconds + 30),
            },
            done: Some(Event {
                warning: false,
                reason: "SuccessfulDelete",
                message: format!("Deleted virtual machine pod {}", pod.name),
            }),
            failed: Some("FailedDelete"),
        });
    }
}

/// A pod whose guest has ended but whose containers have not keeps its memory
/// reserved. The kubelet ends it on a deadline; its logs stay, which deletion
/// would take away.
fn finish_pods(observed: &Observed<'_>, now: Timestamp, plan: &mut Plan<Op>) {
    let lingering = |pod: &&PodFacts| {
        !pod.deleting && !pod.has_deadline && !pod.is_finished() && (pod.is_over() || pod.broken)
    };
    for pod in observed.pods.iter().filter(lingering) {
        match phase::believed_at(pod).filter(|due| now < *due) {
            Some(due) => plan.look_again(now, due),
            None => plan.push(Op::PatchPod {
                name: pod.name.clone(),
                patch: json!({ "spec": { "activeDeadlineSeconds": 1 } }),
            }),
        }
    }
}

/// Sets the readiness gate: true unless the guest is paused.
fn gate_patch(vmi: &VirtualMachineInstance, pod: &PodFacts, now: Timestamp) -> Option<Value> {
    let conditions = vmi
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);
    let unpaused = !condition::is_true(conditions, "Paused");
    if pod.unpaused == Some(unpaused) {
        return None;
    }
    let (status, reason, message) = if unpaused {
        ("True", "NotPaused", "the virtual machine is not paused")
    } else {
        ("False", "Paused", "the virtual machine is paused")
    };
    Some(json!({ "status": { "conditions": [{
        "type": UNPAUSED_CONDITION,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": whole_seconds(now).to_string(),
    }] } }))
}

/// Changes of labels and finalizers, as the `metadata` of a merge patch.
fn metadata_patch(observed: &Observed<'_>, next: Phase) -> Map<String, Value> {
    let mut patch = Map::new();
    let meta = &observed.vmi.metadata;
    let old = meta.finalizers.clone().unwrap_or_default();
    let mut new = old.clone();
    new.retain(|finalizer| finalizer != OLD_FINALIZER);
    let has = |name: &str| old.iter().any(|finalizer| finalizer == name);
    if next.is_final() && observed.pods.is_empty() {
        new.retain(|finalizer| {
            finalizer != VMI_FINALIZER && (observed.owner_exists || finalizer != VM_FINALIZER)
        });
    } else if meta.deletion_timestamp.is_none() && !next.is_final() && !has(VMI_FINALIZER) {
        new.push(VMI_FINALIZER.to_owned());
    }
    if new != old {
        patch.insert("finalizers".to_owned(), json!(new));
    }
    if next == Phase::Scheduled
        && let Some(pod) = observed.pods.first()
    {
        let known = meta
            .labels
            .as_ref()
            .and_then(|labels| labels.get(api::names::NODE_NAME_LABEL));
        if known != Some(&pod.node) {
            patch.insert(
                "labels".to_owned(),
                json!({ api::names::NODE_NAME_LABEL: pod.node }),
            );
        }
    }
    patch
}

/// The whole merge patch; `None` when nothing changed.
fn vmi_patch(
    vmi: &VirtualMachineInstance,
    status: &VmiStatus,
    mut metadata: Map<String, Value>,
) -> Option<Value> {
    let old = vmi.status.clone().unwrap_or_default();
    let status = merge::diff_of(&old, status);
    if status.is_none() && metadata.is_empty() {
        return None;
    }
    metadata.insert(
        "resourceVersion".to_owned(),
        json!(vmi.metadata.resource_version),
    );
    let mut patch = json!({ "metadata": metadata });
    if let Some(status) = status {
        patch["status"] = status;
    }
    Some(patch)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
