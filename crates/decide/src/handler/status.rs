//! Conditions and the facts of a guest that runs.

use api::VirtualMachineInstance;
use api::condition;
use api::launcher::{DomainPhase, DomainState};
use api::names::NONROOT_UID;
use api::vmi_status::{
    CpuTopologyStatus, MachineStatus, MemoryStatus, Phase, VmiStatus, VolumeStatus,
};
use serde_json::Value;

use super::{Observed, complaint, interfaces, is_alive, is_early, is_taken_over, news};
use crate::conditions;
use crate::plan::Event;

/// Reason of virt-handler's `Synchronized=False`, as upstream writes it. By it
/// each side knows its own word: virt-controller uses the same condition
/// before `Scheduled`, and neither takes back what the other said.
pub(crate) const SYNC_FAILED: &str = "Synchronizing with the Domain failed.";

/// Sets conditions and facts; adds the events that tell of them.
pub(super) fn apply(observed: &Observed<'_>, status: &mut VmiStatus, events: &mut Vec<Event>) {
    synchronized(observed, status, events);
    let Some(domain) = observed.domain else {
        return;
    };
    if status.phase != Phase::Running {
        return;
    }
    let before = observed
        .vmi
        .status
        .as_ref()
        .map_or(Phase::Unset, |s| s.phase);
    if is_taken_over(before, status.phase) {
        take_over(observed, status);
    }
    paused(observed, domain, status, events);
    agent(observed, domain, status);
    if !is_alive(domain.phase) {
        return;
    }
    let now = observed.now;
    if condition::find(&status.conditions, "LiveMigratable").is_none() {
        conditions::set(&mut status.conditions, not_migratable(observed.vmi), now);
    }
    // Saves virt-controller the request that would follow; it decides the same,
    // so not for a pod that goes: that one is never Ready to virt-controller. When the pod
    // becomes ready later both see it, and one request is virt-controller's.
    let stays = !observed.pod.leaving && observed.pod.end.is_none();
    if observed.pod.ready && stays && before != Phase::Running {
        conditions::set(
            &mut status.conditions,
            conditions::condition("Ready", true, "", ""),
            now,
        );
    }
    facts(observed, domain, status);
}

/// What virt-controller says when it hands a VMI over, and takes back of what it said before.
fn take_over(observed: &Observed<'_>, status: &mut VmiStatus) {
    let pod = observed.pod;
    for early in ["PodScheduled", "Provisioning"] {
        conditions::remove(&mut status.conditions, early);
    }
    status.node_name.clone_from(&pod.node);
    status.qos_class = pod.qos_class.clone().or(status.qos_class.take());
    status.active_pods = [(pod.uid.clone(), pod.node.clone())].into();
}

fn synchronized(observed: &Observed<'_>, status: &mut VmiStatus, events: &mut Vec<Event>) {
    let never_started = observed
        .domain
        .filter(|domain| domain.phase == DomainPhase::StartFailed)
        .map(|domain| domain.message.as_str());
    let Some(error) = never_started.or(observed.sync_error) else {
        let early = is_early(status.phase);
        let others = condition::find(&status.conditions, "Synchronized")
            .is_some_and(|known| early && known.reason != SYNC_FAILED);
        if !others {
            conditions::remove(&mut status.conditions, "Synchronized");
        }
        return;
    };
    let known = condition::find(&status.conditions, "Synchronized");
    if known.is_none_or(|known| known.message != error) {
        events.insert(0, complaint("SyncFailed", error));
    }
    let failed = conditions::condition("Synchronized", false, SYNC_FAILED, error);
    conditions::set(&mut status.conditions, failed, observed.now);
}

fn paused(
    observed: &Observed<'_>,
    domain: &DomainState,
    status: &mut VmiStatus,
    events: &mut Vec<Event>,
) {
    let was = condition::is_true(&status.conditions, "Paused");
    let is = domain.phase == DomainPhase::Paused;
    if is {
        let by_user =
            conditions::condition("Paused", true, "PausedByUser", "VMI was paused by user");
        conditions::set(&mut status.conditions, by_user, observed.now);
    } else {
        conditions::remove(&mut status.conditions, "Paused");
    }
    // A guest that is started paused has its event already: Started.
    let just_started = events.iter().any(|event| event.reason == "Started");
    if is && !was && !just_started {
        events.push(news("Paused", "VirtualMachineInstance paused"));
    } else if was && domain.phase == DomainPhase::Running {
        events.push(news("Unpaused", "VirtualMachineInstance unpaused"));
    }
}

fn agent(observed: &Observed<'_>, domain: &DomainState, status: &mut VmiStatus) {
    if domain.agent_connected {
        conditions::set(
            &mut status.conditions,
            conditions::condition("AgentConnected", true, "", ""),
            observed.now,
        );
    } else {
        conditions::remove(&mut status.conditions, "AgentConnected");
    }
    status.guest_os_info = match domain.agent.as_ref().filter(|_| domain.agent_connected) {
        Some(agent) => agent
            .os
            .iter()
            .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
            .collect(),
        None => Value::Null,
    };
}

/// Reasons are upstream's; that nothing here migrates is the honest rest.
fn not_migratable(vmi: &VirtualMachineInstance) -> api::Condition {
    let bridged = vmi
        .spec
        .domain
        .devices
        .interfaces
        .iter()
        .any(|interface| interface.masquerade.is_none());
    if bridged {
        conditions::condition(
            "LiveMigratable",
            false,
            "InterfaceNotLiveMigratable",
            "cannot migrate a VMI that has the pod's address through a bridge",
        )
    } else {
        conditions::condition(
            "LiveMigratable",
            false,
            "NotMigratable",
            "live migration is not available in this release",
        )
    }
}

fn facts(observed: &Observed<'_>, domain: &DomainState, status: &mut VmiStatus) {
    let vmi = observed.vmi;
    status.interfaces = interfaces::statuses(observed.nics, observed.pod, domain);
    if !domain.machine_type.is_empty() {
        status.machine = Some(MachineStatus {
            type_: domain.machine_type.clone(),
        });
    }
    status.runtime_user = status.runtime_user.or(Some(i64::from(NONROOT_UID)));
    status.volume_status = vmi
        .spec
        .volumes
        .iter()
        .map(|volume| volume_status(&volume.name, domain, &status.volume_status))
        .collect();
    if status.current_cpu_topology.is_none() {
        let cpu = vmi.spec.domain.cpu.clone().unwrap_or_default();
        status.current_cpu_topology = Some(CpuTopologyStatus {
            cores: cpu.cores.unwrap_or(1),
            sockets: cpu.sockets.unwrap_or(1),
            threads: cpu.threads.unwrap_or(1),
        });
    }
    let domain_spec = &vmi.spec.domain;
    let guest = domain_spec
        .memory
        .as_ref()
        .and_then(|memory| memory.guest.clone())
        .or_else(|| domain_spec.resources.requests.get("memory").cloned());
    if let Some(guest) = guest {
        let memory = status.memory.get_or_insert_with(MemoryStatus::default);
        memory.guest_at_boot.get_or_insert_with(|| guest.clone());
        memory.guest_current.get_or_insert_with(|| guest.clone());
        memory.guest_requested.get_or_insert(guest);
    }
}

/// virt-controller's word about the claim stays.
fn volume_status(name: &str, domain: &DomainState, known: &[VolumeStatus]) -> VolumeStatus {
    let disk = domain.disks.iter().find(|(volume, ..)| volume == name);
    VolumeStatus {
        name: name.to_owned(),
        target: disk
            .map(|(_, target, _)| target.clone())
            .unwrap_or_default(),
        size: disk
            .and_then(|(_, _, bytes)| i64::try_from(*bytes).ok())
            .filter(|bytes| *bytes > 0),
        persistent_volume_claim_info: known
            .iter()
            .find(|known| known.name == name)
            .and_then(|known| known.persistent_volume_claim_info.clone()),
    }
}
