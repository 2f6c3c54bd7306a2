//! Status of a VirtualMachineInstance.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::condition::Condition;

/// Where a VMI is in its life. virt-controller leads it to `Scheduled`; virt-handler takes
/// it over when the guest runs, and says everything after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Not yet seen by virt-controller.
    #[default]
    #[serde(rename = "")]
    Unset,
    /// Seen; prerequisites are missing.
    Pending,
    /// The launcher pod exists.
    Scheduling,
    /// The launcher pod runs on a node; virt-handler's turn.
    Scheduled,
    /// The guest runs.
    Running,
    /// The guest shut itself down.
    Succeeded,
    /// The guest crashed or never started.
    Failed,
    /// Waits for the sender of a migration.
    WaitingForSync,
    /// The node does not answer.
    Unknown,
}

impl Phase {
    /// No guest will run any more.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }

    /// The word in the API, empty for [`Phase::Unset`].
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unset => "",
            Self::Pending => "Pending",
            Self::Scheduling => "Scheduling",
            Self::Scheduled => "Scheduled",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::WaitingForSync => "WaitingForSync",
            Self::Unknown => "Unknown",
        }
    }
}

/// Observed state of a VMI.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VmiStatus {
    /// Where it is in its life.
    #[serde(skip_serializing_if = "is_unset")]
    pub phase: Phase,
    /// When each phase began, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phase_transition_timestamps: Vec<PhaseTransition>,
    /// Conditions Ready, Synchronized, Paused, AgentConnected, LiveMigratable, PodScheduled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Node it runs on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_name: String,
    /// Why the phase is what it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Launcher pods that live: UID to node.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub active_pods: BTreeMap<String, String>,
    /// Network interfaces of the guest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<InterfaceStatus>,
    /// Operating system as the guest agent tells.
    #[serde(rename = "guestOSInfo", skip_serializing_if = "is_empty_value")]
    pub guest_os_info: serde_json::Value,
    /// `BlockMigration` or `LiveMigration`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration_method: Option<String>,
    /// `Burstable`, `BestEffort` or `Guaranteed`, of the launcher pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos_class: Option<String>,
    /// Image of the launcher pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launcher_container_image_version: Option<String>,
    /// Always 107 here: the launcher never runs as root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_user: Option<i64>,
    /// vCPU topology in force.
    #[serde(rename = "currentCPUTopology", skip_serializing_if = "Option::is_none")]
    pub current_cpu_topology: Option<CpuTopologyStatus>,
    /// Guest memory in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryStatus>,
    /// Machine type in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineStatus>,
    /// Firmware of EFI guests and so on; free form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selinux_context: Option<String>,
    /// Volumes and where they appear in the guest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volume_status: Vec<VolumeStatus>,
}

fn is_unset(phase: &Phase) -> bool {
    *phase == Phase::Unset
}

fn is_empty_value(value: &serde_json::Value) -> bool {
    value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty)
}

/// When a phase began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseTransition {
    /// The phase.
    pub phase: Phase,
    /// When it began.
    pub phase_transition_timestamp: Time,
}

/// A network interface as seen from outside the guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InterfaceStatus {
    /// First address; the pod's on the pod network.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ip_address: String,
    /// All addresses.
    #[serde(rename = "ipAddresses", skip_serializing_if = "Vec::is_empty")]
    pub ip_addresses: Vec<String>,
    /// MAC address the guest sees.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Network name of the spec.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Interface name in the guest, from the agent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface_name: String,
    /// Interface name in the pod.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod_interface_name: String,
    /// Where this knowledge comes from: `domain`, `guest-agent`, `multus-status`, joined by commas.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub info_source: String,
    /// Queues of a virtio interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_count: Option<i32>,
    /// `up` or `down`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_state: Option<String>,
}

/// vCPU topology in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CpuTopologyStatus {
    /// Cores in a socket.
    pub cores: u32,
    /// Sockets.
    pub sockets: u32,
    /// Threads in a core.
    pub threads: u32,
}

/// Guest memory in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemoryStatus {
    /// What the guest had at boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest_at_boot: Option<Quantity>,
    /// What it has now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest_current: Option<Quantity>,
    /// What was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest_requested: Option<Quantity>,
    /// What the pod needs beside the guest's memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_overhead: Option<Quantity>,
}

/// Machine type in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MachineStatus {
    /// Versioned machine type, for example `pc-q35-10.0`.
    #[serde(rename = "type")]
    pub type_: String,
}

/// A volume and where it appears in the guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeStatus {
    /// Volume name.
    pub name: String,
    /// Target device such as `vda`.
    pub target: String,
    /// Bytes of a containerDisk or empty disk, when known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// The claim that the content is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim_info: Option<ClaimInfo>,
}

/// What is known about a claim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimInfo {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub claim_name: String,
    /// `ReadWriteOnce` and so on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access_modes: Vec<String>,
    /// `Filesystem` or `Block`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_mode: Option<String>,
    /// What it has.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub capacity: BTreeMap<String, Quantity>,
    /// What was asked for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
}
