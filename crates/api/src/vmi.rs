//! VirtualMachineInstance: one running guest.
//!
//! Optional fields are `Option`; defaults are filled at admission
//! (`decide::admission`), so later layers see them set.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, PodDNSConfig, Toleration, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::resource::kubevirt_kind;
use crate::vmi_status::VmiStatus;

mod volume;

pub use volume::{
    ClaimSource, CloudInit, ConfigMapSource, ContainerDisk, DataVolumeSource, DownwardApiSource,
    EmptyDisk, Ephemeral, HostDisk, SecretSource, ServiceAccountSource, Volume,
};

/// One guest: made by a user or by a VirtualMachine, gone when the guest ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachineInstance {
    /// `kubevirt.io/v1` or `kubevirt.io/v1alpha3`.
    pub api_version: String,
    /// `VirtualMachineInstance`.
    pub kind: String,
    /// Standard metadata.
    pub metadata: ObjectMeta,
    /// What the user wants; immutable.
    pub spec: VmiSpec,
    /// What is; the kind has no status subresource.
    pub status: Option<VmiStatus>,
}
kubevirt_kind!(
    VirtualMachineInstance,
    "VirtualMachineInstance",
    "virtualmachineinstances"
);

/// Wish of a [`VirtualMachineInstance`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VmiSpec {
    /// The virtual hardware.
    pub domain: Domain,
    /// Sources of the disks' content.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Networks the interfaces attach to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Network>,
    /// Seconds between the ACPI power button and the kill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<i64>,
    /// Host name of the guest; the VMI's name when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Subdomain of the guest's fully qualified name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subdomain: Option<String>,
    /// DNS policy of the pod, and so of what DHCP tells the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_policy: Option<String>,
    /// DNS settings of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_config: Option<PodDNSConfig>,
    /// Labels a node must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Affinity rules of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Taints the pod tolerates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerations: Option<Vec<Toleration>>,
    /// How pods spread over nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    /// Scheduler of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler_name: Option<String>,
    /// Priority class of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// `None` or absent; the others belong to migration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eviction_strategy: Option<String>,
    /// `Paused`: the guest waits for unpause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_strategy: Option<String>,
    /// `amd64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
}

/// The virtual hardware.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Domain {
    /// Requests and limits of the pod.
    pub resources: Resources,
    /// vCPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Guest memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Machine type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// BIOS or EFI, UUID and serial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Firmware>,
    /// Clock and timers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<Clock>,
    /// ACPI and other switches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<Features>,
    /// SMBIOS chassis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chassis: Option<Chassis>,
    /// Disks, interfaces and the rest.
    pub devices: Devices,
}

/// Requests and limits of the pod; `memory` is also the guest's when `memory.guest` is unset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// At least this much.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, Quantity>,
    /// At most this much.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Quantity>,
    /// Leave the memory overhead out of the request.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub overcommit_guest_overhead: bool,
}

/// vCPUs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cpu {
    /// Cores in a socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    /// Sockets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sockets: Option<u32>,
    /// Threads in a core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// `host-model`, `host-passthrough` or a QEMU model name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// CPU flags to require, disable and so on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<CpuFeature>,
}

/// One CPU flag.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CpuFeature {
    /// Flag name as QEMU knows it.
    pub name: String,
    /// `force`, `require` (default), `optional`, `disable` or `forbid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// Guest memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// What the guest sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<Quantity>,
}

/// Machine type.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Machine {
    /// `q35` or a versioned `pc-q35-…`.
    #[serde(rename = "type")]
    pub type_: String,
}

/// BIOS or EFI, UUID and serial.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Firmware {
    /// SMBIOS system UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// SMBIOS system serial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// BIOS (default) or EFI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootloader: Option<Bootloader>,
}

/// BIOS or EFI; at most one is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bootloader {
    /// SeaBIOS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bios: Option<Bios>,
    /// OVMF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub efi: Option<Efi>,
}

/// Settings of SeaBIOS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bios {
    /// BIOS output on the serial port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_serial: Option<bool>,
}

/// Settings of OVMF.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Efi {
    /// Secure Boot; on when unset, as upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<bool>,
}

/// Clock of the guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Clock {
    /// Real-time clock in UTC, with an offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utc: Option<ClockUtc>,
    /// Real-time clock in this time zone; refused unless `UTC`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
}

/// Real-time clock in UTC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClockUtc {
    /// Seconds added to UTC at boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset_seconds: Option<i64>,
}

/// A switch that is on when its object is there and `enabled` is not false.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FeatureState {
    /// On when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// Switches of the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Features {
    /// ACPI; on when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acpi: Option<FeatureState>,
    /// Local APIC; on when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apic: Option<FeatureState>,
    /// System management mode; follows EFI Secure Boot when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smm: Option<FeatureState>,
}

/// SMBIOS chassis.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Chassis {
    /// Manufacturer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// Version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Serial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Asset tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asset: Option<String>,
    /// SKU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
}

/// Disks, interfaces and the rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Devices {
    /// Disks, each naming a volume.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// Interfaces, each naming a network.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Entropy device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rng: Option<Rng>,
    /// Tablets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// Watchdog.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<Watchdog>,
    /// An interface on the pod network when none is given; on when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoattach_pod_interface: Option<bool>,
    /// A VGA adapter and VNC; on when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoattach_graphics_device: Option<bool>,
    /// A serial port with a console; on when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoattach_serial_console: Option<bool>,
    /// A memory balloon; on when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoattach_mem_balloon: Option<bool>,
    /// A queue for each vCPU on virtio disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_multi_queue: Option<bool>,
    /// A queue for each vCPU on virtio interfaces.
    #[serde(
        rename = "networkInterfaceMultiqueue",
        skip_serializing_if = "Option::is_none"
    )]
    pub network_interface_multi_queue: Option<bool>,
}

/// Entropy device (virtio-rng fed from /dev/urandom).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rng {}

/// An input device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Input {
    /// `usb` or `virtio`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
    /// `tablet` or `keyboard`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Unique name.
    pub name: String,
}

/// A watchdog.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Watchdog {
    /// Unique name.
    pub name: String,
    /// Intel 6300ESB.
    #[serde(rename = "i6300esb", skip_serializing_if = "Option::is_none")]
    pub i6300esb: Option<I6300Esb>,
}

/// Intel 6300ESB watchdog.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct I6300Esb {
    /// `reset` (default), `poweroff` or `shutdown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
}

/// A disk; exactly one of `disk`, `cdrom`, `lun` is set, `disk` when none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Disk {
    /// Name of the volume with its content.
    pub name: String,
    /// A hard disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskTarget>,
    /// A CD-ROM drive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cdrom: Option<CdromTarget>,
    /// A SCSI device of the node's, whose commands the guest gives itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lun: Option<LunTarget>,
    /// Place in the boot order, from 1; unset disks come after, in the order of the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_order: Option<u32>,
    /// Serial number the guest sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// `none`, `writethrough` or `writeback`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// `native` or `threads`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io: Option<String>,
    /// Several guests may have it at once.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shareable: bool,
}

/// A SCSI device of the node's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LunTarget {
    /// `scsi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
    /// The guest cannot write.
    #[serde(rename = "readonly", skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// A hard disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DiskTarget {
    /// `virtio`, `sata`, `scsi` or `usb`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
    /// The guest cannot write.
    #[serde(rename = "readonly", skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Place on the PCI bus, `0000:81:01.0`; virtio only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pci_address: Option<String>,
}

/// A CD-ROM drive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CdromTarget {
    /// `sata` or `scsi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
    /// True when unset.
    #[serde(rename = "readonly", skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// `open` or `closed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tray: Option<String>,
}

/// An interface; exactly one binding is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Interface {
    /// Name of the network it attaches to.
    pub name: String,
    /// `virtio` (default), `e1000`, `e1000e`, `ne2k_pci`, `pcnet` or `rtl8139`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The guest takes over the pod's address on a bridge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<Binding>,
    /// The guest is behind the pod's address, translated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masquerade: Option<Binding>,
    /// Ports that masquerade lets in; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// MAC address the guest sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// Place in the boot order, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_order: Option<u32>,
    /// Place on the PCI bus, `0000:81:01.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pci_address: Option<String>,
    /// Extra DHCP options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dhcp_options: Option<DhcpOptions>,
    /// ACPI index, which names the interface in the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acpi_index: Option<u32>,
    /// `up` (default) or `down`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// Settings of a binding: none yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Binding {}

/// A port that masquerade lets in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    /// Unique name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `TCP` (default) or `UDP`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// 1 to 65535.
    pub port: i32,
}

/// Extra DHCP options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DhcpOptions {
    /// Option 67.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_file_name: Option<String>,
    /// Option 66.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tftp_server_name: Option<String>,
    /// Option 42.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ntp_servers: Option<Vec<String>>,
    /// Options 224 to 254.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_options: Option<Vec<DhcpPrivateOption>>,
}

/// A DHCP option of the private range.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DhcpPrivateOption {
    /// 224 to 254.
    pub option: u8,
    /// Text.
    pub value: String,
}

/// A network; exactly one kind is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Network {
    /// Unique name.
    pub name: String,
    /// The pod's own network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodNetwork>,
}

/// The pod's own network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodNetwork {
    /// Guest-side subnet of masquerade; 10.0.2.0/24 when unset.
    #[serde(rename = "vmNetworkCIDR", skip_serializing_if = "Option::is_none")]
    pub vm_network_cidr: Option<String>,
}
