//! What to do about a VirtualMachine: make, stop or replace its instance, and
//! tell its status.
//!
//! ```text
//!   run strategy + requests + instance ──► Wish (start, stop, switch on, wait)
//!   Wish + instance + failure          ──► status
//!   Wish                               ──► operation on the instance
//! ```
//! One pass decides one operation; the executor decides again on what came of
//! it, until the plan is empty. The instance has the VM's name, so it can never
//! be made twice. It goes only after its launcher pod, so a VM whose instance
//! still exists is `Stopping`, never `Stopped` too early, and a start that is
//! asked for meanwhile waits in `status.stateChangeRequests` (upstream reports
//! Stopped and refuses).
//!
//! Source of run strategies, statuses, reasons and the back-off: KubeVirt,
//! pkg/virt-controller/watch/vm/vm.go.

mod disks;
mod instance;
mod printable;
mod status;
mod strategy;

use api::VirtualMachine;
use api::VirtualMachineInstance;
use api::names::VM_FINALIZER;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::merge;
use crate::plan::{Event, Failure, Plan, Step};
use crate::storage::Storage;

pub use instance::{
    GENERATION_ANNOTATION, TEMPLATE_ANNOTATION, fingerprint, firmware_uuid, instance,
};
pub use status::{BACKOFF_CAP_SECONDS, backoff_seconds};
use strategy::Wish;

/// Finalizer that Kubernetes sets when a deletion is to leave the instance alone.
const ORPHAN_FINALIZER: &str = "orphan";

/// What is known about a VM.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// The VM.
    pub vm: &'a VirtualMachine,
    /// `spec.template` as it is stored, fields unknown to us included.
    pub template: &'a Value,
    /// The VMI with the VM's name, whoever controls it.
    pub vmi: Option<&'a VirtualMachineInstance>,
    /// What failed last.
    pub failure: Option<&'a Failure>,
    /// The claims and DataVolumes that it names.
    pub storage: &'a Storage,
    /// A random number from 0 to 1 that spreads restarts.
    pub random: f64,
}

/// One thing to do about a VM.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Merge patch of the VM, resource version included.
    Patch(Value),
    /// Merge patch of the VM through its status subresource; the resource
    /// version is included when the request queue changes.
    PatchStatus(Value),
    /// Create this DataVolume.
    CreateDataVolume(Box<Value>),
    /// Create this VMI.
    CreateInstance(Box<Value>),
    /// Delete the VMI with this UID.
    DeleteInstance {
        /// Its UID, as a precondition.
        uid: String,
    },
    /// Merge patch of the VMI, resource version included.
    PatchInstance(Value),
}

/// Decides what to do about a VM. An empty plan means: nothing.
#[must_use]
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Plan<Op> {
    let vm = observed.vm;
    let deleting = vm.metadata.deletion_timestamp.is_some();
    let vmi = match ownership(vm, observed.vmi) {
        Ownership::None => None,
        Ownership::Ours(vmi) => Some(vmi),
        Ownership::Free(vmi) if deleting || vmi.metadata.deletion_timestamp.is_some() => None,
        Ownership::Free(vmi) => return adopt(vm, vmi),
        Ownership::Foreign(_) if deleting => None,
        Ownership::Foreign(vmi) => {
            let message = format!(
                "virtualmachineinstance {} exists and is controlled by another object; delete or rename one of them",
                vmi.metadata.name.as_deref().unwrap_or_default()
            );
            return told(observed, &refusal("FailedCreate", message, now), now);
        }
    };
    if deleting {
        return delete(observed, vmi, now);
    }
    if !has_finalizer(&vm.metadata, VM_FINALIZER) {
        let mut finalizers = vm.metadata.finalizers.clone().unwrap_or_default();
        finalizers.push(VM_FINALIZER.to_owned());
        let mut plan = Plan::default();
        plan.push(Op::Patch(finalizers_patch(&vm.metadata, &finalizers)));
        return plan;
    }
    let requests = strategy::open_requests(vm, vmi);
    let wish = strategy::wish(vm, vmi, &requests, now);
    run(observed, vmi, requests, &wish, now)
}

/// Carries out the wish of the run strategy.
fn run(
    observed: &Observed<'_>,
    vmi: Option<&VirtualMachineInstance>,
    requests: Vec<api::vm::StateChangeRequest>,
    wish: &Wish,
    now: Timestamp,
) -> Plan<Op> {
    let vm = observed.vm;
    let mut plan = Plan::default();
    let mut failure = observed.failure.cloned();
    let held = failure.clone().filter(|failure| failure.holds(now));
    let mut act = None;
    let templates = observed.storage.templates(vm);
    let make = disks::creations(vm, &templates, matches!(wish, Wish::Start));
    let waits = !templates.missing.is_empty() || templates.unfinished;
    match wish {
        Wish::Nothing | Wish::Start | Wish::Wait(_) if !make.is_empty() => match held {
            Some(held) => plan.look_again(now, held.retry_at),
            // What comes of it decides what the status says.
            None => {
                plan.steps = make;
                return plan;
            }
        },
        // The watch tells when they have their content.
        Wish::Start if waits => failure = None,
        Wish::Nothing => failure = None,
        Wish::Wait(until) => {
            failure = None;
            plan.look_again(now, *until);
        }
        Wish::Refuse(reason) => failure = Some(refusal("FailedCreate", reason.clone(), now)),
        Wish::Start | Wish::Stop { .. } | Wish::SwitchOn => match held {
            Some(held) => plan.look_again(now, held.retry_at),
            None => act = Some(wish.clone()),
        },
    }
    // A start first: what the status says depends on what comes of it. The end
    // of an instance must be told before it goes: nobody could tell it after.
    let final_vmi = vmi.is_some_and(status::is_final);
    let tell_first = act.is_none() || final_vmi;
    if tell_first {
        let stopping = matches!(act, Some(Wish::Stop { .. }));
        push_status(
            &mut plan,
            observed,
            vmi,
            requests,
            wish,
            failure.as_ref(),
            stopping,
            now,
        );
    }
    match (act, vmi) {
        (Some(Wish::Start), _) => plan.steps.push(start(observed)),
        (Some(Wish::SwitchOn), _) => plan.push(Op::Patch(switch_on(vm))),
        (Some(Wish::Stop { .. }), Some(vmi)) => plan.steps.push(stop(vmi)),
        (_, Some(vmi)) => {
            if let Some(patch) = instance_patch(observed, vmi) {
                plan.push(Op::PatchInstance(patch));
            }
        }
        (_, None) => {}
    }
    plan
}

#[allow(clippy::too_many_arguments, reason = "the inputs of one pure function")]
fn push_status(
    plan: &mut Plan<Op>,
    observed: &Observed<'_>,
    vmi: Option<&VirtualMachineInstance>,
    requests: Vec<api::vm::StateChangeRequest>,
    wish: &Wish,
    failure: Option<&Failure>,
    stopping: bool,
    now: Timestamp,
) {
    let vm = observed.vm;
    let old = vm.status.clone().unwrap_or_default();
    let new = status::next(&status::Inputs {
        observed,
        vmi,
        requests,
        rerun: matches!(wish, Wish::Stop { rerun: true }),
        starting: matches!(wish, Wish::Start | Wish::Wait(_)),
        failure,
        stopping,
        now,
    });
    if let Some(status) = merge::diff_of(&old, &new) {
        let mut patch = json!({ "status": status });
        if old.state_change_requests != new.state_change_requests {
            patch["metadata"] = json!({ "resourceVersion": vm.metadata.resource_version });
        }
        plan.push(Op::PatchStatus(patch));
    }
}

/// Nothing can be done; says why in the status.
fn told(observed: &Observed<'_>, failure: &Failure, now: Timestamp) -> Plan<Op> {
    let mut plan = Plan::default();
    let requests = strategy::open_requests(observed.vm, None);
    push_status(
        &mut plan,
        observed,
        None,
        requests,
        &Wish::Nothing,
        Some(failure),
        false,
        now,
    );
    plan
}

fn refusal(reason: &str, message: String, now: Timestamp) -> Failure {
    Failure {
        reason: reason.to_owned(),
        message,
        retry_at: now,
    }
}

/// The VM is being deleted: the instance first, unless it is to be orphaned.
fn delete(
    observed: &Observed<'_>,
    vmi: Option<&VirtualMachineInstance>,
    now: Timestamp,
) -> Plan<Op> {
    let vm = observed.vm;
    let mut plan = Plan::default();
    let Some(vmi) = vmi.filter(|_| !has_finalizer(&vm.metadata, ORPHAN_FINALIZER)) else {
        if has_finalizer(&vm.metadata, VM_FINALIZER) {
            let mut rest = vm.metadata.finalizers.clone().unwrap_or_default();
            rest.retain(|finalizer| finalizer != VM_FINALIZER);
            plan.push(Op::Patch(finalizers_patch(&vm.metadata, &rest)));
        }
        return plan;
    };
    let held = observed.failure.filter(|failure| failure.holds(now));
    if let Some(held) = held {
        plan.look_again(now, held.retry_at);
    } else if vmi.metadata.deletion_timestamp.is_none() {
        plan.steps.push(stop(vmi));
        return plan;
    }
    let requests = strategy::open_requests(vm, Some(vmi));
    push_status(
        &mut plan,
        observed,
        Some(vmi),
        requests,
        &Wish::Nothing,
        held,
        true,
        now,
    );
    if let Some(patch) = instance_patch(observed, vmi) {
        plan.push(Op::PatchInstance(patch));
    }
    plan
}

fn start(observed: &Observed<'_>) -> Step<Op> {
    let vm = observed.vm;
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    Step {
        op: Op::CreateInstance(Box::new(instance(vm, observed.template))),
        done: Some(Event {
            warning: false,
            reason: "SuccessfulCreate",
            message: format!(
                "Started the virtual machine by creating the new virtual machine instance {name}"
            ),
        }),
        failed: Some("FailedCreate"),
    }
}

fn stop(vmi: &VirtualMachineInstance) -> Step<Op> {
    let uid = vmi.metadata.uid.clone().unwrap_or_default();
    Step {
        done: Some(Event {
            warning: false,
            reason: "SuccessfulDelete",
            message: format!(
                "Stopped the virtual machine by deleting the virtual machine instance {uid}"
            ),
        }),
        op: Op::DeleteInstance { uid },
        failed: Some("FailedDelete"),
    }
}

/// A start request on a halted VM (`start --paused`): lets it run, in the
/// field its owner uses.
fn switch_on(vm: &VirtualMachine) -> Value {
    let spec = if vm.spec.run_strategy.is_some() {
        json!({ "runStrategy": "Always" })
    } else {
        json!({ "running": true })
    };
    json!({
        "metadata": { "resourceVersion": vm.metadata.resource_version },
        "spec": spec,
    })
}

/// What is to change in the instance's metadata: our finalizer goes when its
/// end was recorded, and an unchanged template is as good as the new generation.
fn instance_patch(observed: &Observed<'_>, vmi: &VirtualMachineInstance) -> Option<Value> {
    let meta = &vmi.metadata;
    if status::is_final(vmi) && has_finalizer(meta, VM_FINALIZER) {
        let mut rest = meta.finalizers.clone().unwrap_or_default();
        rest.retain(|finalizer| finalizer != VM_FINALIZER);
        return Some(finalizers_patch(meta, &rest));
    }
    let annotation = |name: &str| meta.annotations.as_ref()?.get(name).map(String::as_str);
    let generation = observed.vm.metadata.generation?.to_string();
    let stale = annotation(GENERATION_ANNOTATION) != Some(generation.as_str());
    let same = annotation(TEMPLATE_ANNOTATION) == fingerprint(observed.vm).as_deref();
    (stale && same && meta.deletion_timestamp.is_none() && !status::is_final(vmi)).then(|| {
        json!({ "metadata": {
            "resourceVersion": meta.resource_version,
            "annotations": { GENERATION_ANNOTATION: generation },
        } })
    })
}

enum Ownership<'a> {
    None,
    Ours(&'a VirtualMachineInstance),
    Free(&'a VirtualMachineInstance),
    Foreign(&'a VirtualMachineInstance),
}

fn ownership<'a>(vm: &VirtualMachine, vmi: Option<&'a VirtualMachineInstance>) -> Ownership<'a> {
    let Some(vmi) = vmi else {
        return Ownership::None;
    };
    let controller = vmi
        .metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true));
    match controller {
        None => Ownership::Free(vmi),
        Some(owner) if Some(&owner.uid) == vm.metadata.uid.as_ref() => Ownership::Ours(vmi),
        Some(_) => Ownership::Foreign(vmi),
    }
}

/// An instance without controller, left by a VM that was deleted with
/// `--cascade=orphan`, belongs to the VM of its name.
fn adopt(vm: &VirtualMachine, vmi: &VirtualMachineInstance) -> Plan<Op> {
    let mut owners = vmi.metadata.owner_references.clone().unwrap_or_default();
    owners.push(instance::owner(vm));
    let mut plan = Plan::default();
    plan.push(Op::PatchInstance(json!({ "metadata": {
        "resourceVersion": vmi.metadata.resource_version,
        "ownerReferences": owners,
    } })));
    plan
}

fn has_finalizer(meta: &ObjectMeta, name: &str) -> bool {
    meta.finalizers
        .iter()
        .flatten()
        .any(|finalizer| finalizer == name)
}

fn finalizers_patch(meta: &ObjectMeta, finalizers: &[String]) -> Value {
    json!({ "metadata": {
        "resourceVersion": meta.resource_version,
        "finalizers": finalizers,
    } })
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
