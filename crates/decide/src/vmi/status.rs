//! The status that follows from phase, pod and failure.

use std::collections::BTreeMap;

use api::Condition;
use api::condition;
use api::names::NONROOT_UID;
use api::vmi::VmiSpec;
use api::vmi_status::{CpuTopologyStatus, MemoryStatus, Phase, PhaseTransition, VmiStatus};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Observed;
use super::phase::Next;
use crate::conditions::{condition as new_condition, remove, set};
use crate::handler::SYNC_FAILED;
use crate::plan::Failure;
use crate::pod::{PodFacts, awaited_objects, memory_overhead, quantity_text};
use crate::storage::Readiness;

/// Seconds a pod with secrets as volumes may wait before its VMI tells of it:
/// longer than a busy kubelet takes for one that lacks nothing.
const SECRETS_SECONDS: i64 = 15;

/// Why a VMI whose guest does not run yet is not ready.
const GUEST_NOT_RUNNING: &str = "GuestNotRunning";

/// The whole status. Fields that virt-handler owns are left as they are.
pub(super) fn next(
    observed: &Observed<'_>,
    next: &Next,
    waits: Option<&Readiness>,
    failure: Option<&Failure>,
    now: Timestamp,
) -> VmiStatus {
    let vmi = observed.vmi;
    let pod = observed.pods.first();
    let mut status = vmi.status.clone().unwrap_or_default();
    let ours = matches!(
        status.phase,
        Phase::Unset | Phase::Pending | Phase::Scheduling
    );
    status.phase = next.phase;
    let known = status
        .phase_transition_timestamps
        .iter()
        .any(|transition| transition.phase == next.phase);
    // Pending as well, and Running: "did it ever run?" is read from this list.
    if !known {
        status.phase_transition_timestamps.push(PhaseTransition {
            phase: next.phase,
            phase_transition_timestamp: Time(now),
        });
    }
    if !next.reason.is_empty() {
        status.reason.clone_from(&next.reason);
    }
    if ours {
        set_pod_scheduled(&mut status.conditions, pod, next.phase, waits, now);
        set_provisioning(&mut status.conditions, waits, now);
        if let Some(ready) = observed.storage.data_volumes_ready(&vmi.spec) {
            set(&mut status.conditions, ready, now);
        }
        take_claims(&mut status, observed);
        let waits = pod.and_then(|pod| waits_for_secrets(&vmi.spec, pod, now));
        let failure = failure
            .map(|failure| (failure.reason.as_str(), failure.message.as_str()))
            .or(waits
                .as_deref()
                .map(|message| ("WaitingForSecret", message)));
        set_synchronized(&mut status.conditions, pod, next.phase, failure, now);
    }
    let ready = ready_condition(next.phase, pod);
    if !is_known_before_the_kubelet(&status, pod) {
        set(&mut status.conditions, ready, now);
    }
    if condition::find(&status.conditions, "LiveMigratable").is_none() {
        set(&mut status.conditions, live_migratable(&vmi.spec), now);
    }
    status.active_pods = active_pods(observed.pods, next.phase);
    status.runtime_user.get_or_insert(i64::from(NONROOT_UID));
    match pod {
        Some(pod) => take_pod(&mut status, pod, observed, next.phase),
        None if next.phase.is_final() => status.launcher_container_image_version = None,
        None => {}
    }
    status
}

/// virt-handler says that a guest runs before the kubelet says that its pod is ready: the
/// condition waits for that, since why it is false until then is worth no request.
fn is_known_before_the_kubelet(status: &VmiStatus, pod: Option<&PodFacts>) -> bool {
    let starting =
        |pod: &PodFacts| !pod.containers_ready && !pod.broken && !pod.is_down_or_going_down();
    status.phase == Phase::Running
        && pod.is_some_and(starting)
        && condition::find(&status.conditions, "Ready")
            .is_some_and(|known| known.reason == GUEST_NOT_RUNNING)
}

/// Condition `Ready` of a VMI in `phase` with this launcher pod. virt-handler
/// may set it together with the phase, which saves a request: the result is
/// the same on both sides.
///
/// Source of the reasons: KubeVirt, pkg/virt-controller/watch/vmi/lifecycle.go.
#[must_use]
pub fn ready_condition(phase: Phase, pod: Option<&PodFacts>) -> Condition {
    let not = |reason: &str, message: &str| new_condition("Ready", false, reason, message);
    match pod {
        None => not(
            "PodNotExists",
            "virt-launcher pod has not yet been scheduled",
        ),
        Some(pod) if pod.is_down_or_going_down() => {
            not("PodTerminating", "virt-launcher pod is terminating")
        }
        Some(_) if phase != Phase::Running => {
            not(GUEST_NOT_RUNNING, "Guest VM is not reported as running")
        }
        Some(pod) => pod.ready.clone().unwrap_or_else(|| {
            not(
                "PodConditionMissing",
                "virt-launcher pod is missing the Ready condition",
            )
        }),
    }
}

fn set_pod_scheduled(
    conditions: &mut Vec<Condition>,
    pod: Option<&PodFacts>,
    next: Phase,
    waits: Option<&Readiness>,
    now: Timestamp,
) {
    if let Some(missing) = waits.and_then(|waits| waits.missing.as_ref()) {
        // Upstream's word for it, which clients wait on.
        let missing = new_condition("PodScheduled", false, "Unschedulable", missing);
        return set(conditions, missing, now);
    }
    match pod.and_then(|pod| pod.unschedulable.clone()) {
        Some(condition) if next == Phase::Scheduling => set(conditions, condition, now),
        _ => remove(conditions, "PodScheduled"),
    }
}

/// `Provisioning` is there while a DataVolume waits for a consumer.
fn set_provisioning(conditions: &mut Vec<Condition>, waits: Option<&Readiness>, now: Timestamp) {
    match waits.filter(|waits| waits.first_consumer) {
        Some(waits) => {
            let why = waits.waits.as_deref().unwrap_or_default();
            set(
                conditions,
                new_condition("Provisioning", true, "", why),
                now,
            );
        }
        None => remove(conditions, "Provisioning"),
    }
}

/// What is known about the claims; the rest of a volume's status is virt-handler's.
fn take_claims(status: &mut VmiStatus, observed: &Observed<'_>) {
    for new in observed.storage.volume_statuses(&observed.vmi.spec) {
        match status
            .volume_status
            .iter_mut()
            .find(|old| old.name == new.name)
        {
            Some(old) => old.persistent_volume_claim_info = new.persistent_volume_claim_info,
            None => status.volume_status.push(new),
        }
    }
}

/// `Synchronized` is there only while it is `False`.
fn set_synchronized(
    conditions: &mut Vec<Condition>,
    pod: Option<&PodFacts>,
    next: Phase,
    failure: Option<(&str, &str)>,
    now: Timestamp,
) {
    let known = condition::find(conditions, "Synchronized");
    if known.is_some_and(|known| known.reason == SYNC_FAILED) {
        // virt-handler's, which takes it back itself.
        return;
    }
    let image = pod
        .and_then(|pod| pod.image_error.as_ref())
        .map(|(reason, message)| (reason.as_str(), message.as_str()));
    match image.or(failure) {
        Some((reason, message)) if matches!(next, Phase::Pending | Phase::Scheduling) => {
            // The kubelet words one image error in several ways; the reason tells.
            let same =
                condition::find(conditions, "Synchronized").is_some_and(|old| old.reason == reason);
            if !same || image.is_none() {
                set(
                    conditions,
                    new_condition("Synchronized", false, reason, message),
                    now,
                );
            }
        }
        _ => remove(conditions, "Synchronized"),
    }
}

/// When a pod with secrets as volumes that the kubelet has not got together is
/// worth telling of; `None` when it is not such a pod.
pub(super) fn secrets_are_late_at(spec: &VmiSpec, pod: &PodFacts) -> Option<Timestamp> {
    let since = pod.unprepared_since?;
    awaited_objects(spec).next()?;
    since
        .checked_add(SignedDuration::from_secs(SECRETS_SECONDS))
        .ok()
}

/// The kubelet tells of a missing secret by an event of the pod alone. What we
/// can see is that the pod has been waiting, and for which secrets it may be.
fn waits_for_secrets(spec: &VmiSpec, pod: &PodFacts, now: Timestamp) -> Option<String> {
    secrets_are_late_at(spec, pod).filter(|late| *late <= now)?;
    let objects: Vec<String> = awaited_objects(spec).collect();
    Some(format!(
        "pod {} waits on node {} for its volumes, among them secrets or config maps that have to exist in its namespace: {}; the pod's events say which is missing",
        pod.name,
        pod.node,
        objects.join(", ")
    ))
}

/// Why the VMI cannot migrate: its interface forbids it, or nothing can yet.
fn live_migratable(spec: &VmiSpec) -> Condition {
    let bridged = spec.domain.devices.interfaces.iter().any(|interface| {
        interface.bridge.is_some()
            && spec
                .networks
                .iter()
                .any(|network| network.name == interface.name && network.pod.is_some())
    });
    if bridged {
        new_condition(
            "LiveMigratable",
            false,
            "InterfaceNotLiveMigratable",
            "a guest that is bridged to the pod network has its pod's address, which cannot move to another node",
        )
    } else {
        new_condition(
            "LiveMigratable",
            false,
            "MigrationNotSupported",
            "live migration is not implemented yet",
        )
    }
}

/// Nodes of the pods. Before `Scheduled` they are left out: a patch for them
/// alone would be a request that tells nothing new.
fn active_pods(pods: &[PodFacts], phase: Phase) -> BTreeMap<String, String> {
    let early = matches!(phase, Phase::Pending | Phase::Scheduling);
    pods.iter()
        .map(|pod| {
            let node = if early {
                String::new()
            } else {
                pod.node.clone()
            };
            (pod.uid.clone(), node)
        })
        .collect()
}

fn take_pod(status: &mut VmiStatus, pod: &PodFacts, observed: &Observed<'_>, phase: Phase) {
    let spec = &observed.vmi.spec;
    if !pod.image.is_empty() {
        status.launcher_container_image_version = Some(pod.image.clone());
    }
    if !matches!(phase, Phase::Pending | Phase::Scheduling) {
        status.qos_class = pod.qos_class.clone().or(status.qos_class.take());
    }
    if phase == Phase::Scheduled {
        status.node_name.clone_from(&pod.node);
    }
    if status.memory.is_none() {
        let quantity = guest_quantity(spec);
        status.memory = Some(MemoryStatus {
            guest_at_boot: quantity.clone(),
            guest_current: quantity.clone(),
            guest_requested: quantity,
            memory_overhead: Some(Quantity(quantity_text(memory_overhead(
                spec,
                observed.settings,
            )))),
        });
    }
    if status.current_cpu_topology.is_none() {
        let cpu = spec.domain.cpu.clone().unwrap_or_default();
        let or_one = |count: Option<u32>| count.unwrap_or(1).max(1);
        status.current_cpu_topology = Some(CpuTopologyStatus {
            cores: or_one(cpu.cores),
            sockets: or_one(cpu.sockets),
            threads: or_one(cpu.threads),
        });
    }
}

/// Guest memory in the user's words.
fn guest_quantity(spec: &VmiSpec) -> Option<Quantity> {
    let domain = &spec.domain;
    domain
        .memory
        .as_ref()
        .and_then(|memory| memory.guest.as_ref())
        .or_else(|| domain.resources.requests.get("memory"))
        .or_else(|| domain.resources.limits.get("memory"))
        .cloned()
}
