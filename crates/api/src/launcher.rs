//! Protocol between virt-handler and virt-launcher: one JSON document a line
//! over a unix stream socket ([`crate::names::LAUNCHER_SOCKET`]).
//!
//! The handler sends [`Request`]s, each answered by one [`Reply`] with the same
//! `id`, in order. After `Watch` the launcher also sends [`Message::State`]
//! whenever its [`DomainState`] changes, beginning with the present one. A
//! handler may connect, vanish and connect again at any time.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

use crate::vmi::VirtualMachineInstance;

/// What the handler asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the handler; comes back in the reply.
    pub id: u64,
    /// The wish.
    #[serde(flatten)]
    pub op: Op,
}

/// The wish of a [`Request`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", content = "args", rename_all = "camelCase")]
pub enum Op {
    /// Start the guest if it was never started; otherwise no effect.
    Sync(Box<Sync>),
    /// All containers of the pod were started: a containerDisk's helper that is
    /// not heard of soon never will be. Until then its image may be on its way.
    ContainersStarted,
    /// Send [`Message::State`] on this connection from now on.
    Watch,
    /// Stop the vCPUs.
    Pause,
    /// Let the vCPUs go on.
    Unpause,
    /// ACPI power button; kill after the grace period given in seconds, or the VMI's own.
    Shutdown {
        /// Seconds; the VMI's grace period when absent, 0 kills.
        grace_seconds: Option<i64>,
    },
    /// Ask the guest to reboot in the ACPI way, through the guest agent if there is one.
    SoftReboot,
    /// Pull the reset line.
    Reset,
}

/// All the launcher needs to start a guest.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sync {
    /// The VMI, defaults filled.
    pub vmi: VirtualMachineInstance,
    /// TCG instead of KVM.
    pub use_emulation: bool,
    /// The node offers /dev/vhost-net and the pod has it.
    pub vhost_net: bool,
    /// What the handler made of each interface, in the order of the spec.
    pub nics: Vec<Nic>,
    /// cloud-init data that came from secrets: volume name to data. Never sent:
    /// the launcher reads them where its pod has them mounted
    /// ([`crate::names::CLOUD_INIT_SECRETS_DIR`]), so that nobody else needs to.
    #[serde(skip)]
    pub cloud_init_secrets: std::collections::BTreeMap<String, SecretCloudInit>,
}

/// cloud-init data read from secrets; overrides what the volume says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretCloudInit {
    /// User data.
    pub user_data: Option<String>,
    /// Network data.
    pub network_data: Option<String>,
}

/// An interface whose pod side is ready.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Nic {
    /// Network name of the spec.
    pub network: String,
    /// Persistent tap device in the pod's network namespace, owned by uid 107.
    pub tap: String,
    /// MAC address of the guest.
    pub mac: String,
    /// Largest packet, bytes.
    pub mtu: u32,
    /// Queues; more than 1 means the tap was made multi-queue.
    pub queues: u32,
    /// DHCP to run for the guest on a bridge; absent when the guest has none to ask.
    pub dhcp: Option<DhcpLease>,
}

/// What the launcher's DHCP server tells the guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DhcpLease {
    /// Bridge in the pod's network namespace to serve on.
    pub bridge: String,
    /// Address of the server.
    pub server: Ipv4Addr,
    /// Address of the guest.
    pub address: Ipv4Addr,
    /// Prefix length of the guest's address.
    pub prefix_len: u8,
    /// Default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Further routes: destination, prefix length, gateway (0.0.0.0 is on-link).
    pub routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Search domains.
    pub search: Vec<String>,
    /// Host name.
    pub hostname: String,
    /// Largest packet, bytes.
    pub mtu: u32,
}

/// What the launcher sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Message {
    /// Answer to a request.
    Reply(Reply),
    /// The state changed.
    State(Box<DomainState>),
}

/// Answer to a [`Request`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reply {
    /// Of the request.
    pub id: u64,
    /// Why it was not done; absent when it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// State of the guest as the launcher knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DomainState {
    /// Where the guest is in its life.
    pub phase: DomainPhase,
    /// Sentence for people: why it failed or stopped.
    pub message: String,
    /// The guest agent answers.
    pub agent_connected: bool,
    /// What the guest agent tells, when it answers.
    pub agent: Option<AgentInfo>,
    /// Versioned machine type in force.
    pub machine_type: String,
    /// Disks: volume name, target such as `vda`, bytes.
    pub disks: Vec<(String, String, u64)>,
}

/// Where the guest is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DomainPhase {
    /// No `Sync` yet.
    #[default]
    Waiting,
    /// QEMU is being started.
    Starting,
    /// vCPUs run.
    Running,
    /// vCPUs are stopped on request.
    Paused,
    /// The power button was pressed.
    ShuttingDown,
    /// The guest shut itself down, or answered the power button.
    Shutdown,
    /// Killed on request after the grace period.
    Killed,
    /// The guest panicked or QEMU died.
    Crashed,
    /// The guest never started; `message` says why.
    StartFailed,
}

impl DomainPhase {
    /// QEMU is gone for good.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Shutdown | Self::Killed | Self::Crashed | Self::StartFailed
        )
    }
}

/// What the guest agent tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentInfo {
    /// Version of the agent.
    pub version: String,
    /// Host name.
    pub hostname: String,
    /// Fields of status.guestOSInfo: id, name, version, kernelRelease and so on.
    pub os: std::collections::BTreeMap<String, String>,
    /// Interface name, MAC, addresses.
    pub interfaces: Vec<(String, String, Vec<String>)>,
}
