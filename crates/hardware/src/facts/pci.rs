//! PCI devices, virtual functions and the trial of them.

use serde::{Deserialize, Serialize};

use super::Attempt;

/// A device of /sys/bus/pci/devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PciDevice {
    /// Its address: `0000:01:00.0`.
    pub address: String,
    /// `vendor`.
    pub vendor: u16,
    /// `device`.
    pub device: u16,
    /// `class`, 24 bits: 0x020000 is an Ethernet controller, 0x0604xx a bridge.
    pub class: u32,
    /// The driver it is bound to: name of the link `driver`.
    pub driver: Option<String>,
    /// Its IOMMU group: name of the link `iommu_group`.
    pub iommu_group: Option<u32>,
    /// `numa_node`; -1 means that the platform does not say.
    pub numa_node: Option<i32>,
    /// The file driver_override exists.
    pub driver_override: Option<bool>,
    /// The bridge above it: the PCI address one folder up.
    pub parent: Option<String>,
    /// The physical function, if this is a virtual one: name of the link `physfn`.
    pub physfn: Option<String>,
    /// Network interfaces of this function: entries of `net`.
    pub interfaces: Vec<String>,
    /// SR-IOV of a physical function. `None`: no sriov_totalvfs.
    pub sriov: Option<Sriov>,
    /// TotalVFs of the SR-IOV capability (id 0x10) in config space, driver or not.
    /// `None`: there is no such capability or it was not readable.
    pub config_total_vfs: Option<u16>,
    /// Access Control Services, from config space (capability 0x0d).
    pub acs: Option<Acs>,
    /// `reset_method`, or `reset` if only that exists.
    pub reset: Option<String>,
}

/// The sriov_* files of a physical function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sriov {
    /// sriov_totalvfs: what the driver allows.
    pub total: u32,
    /// sriov_numvfs: what exists.
    pub current: u32,
    /// sriov_drivers_autoprobe.
    pub autoprobe: Option<bool>,
    /// sriov_vf_device, hexadecimal: device id of its virtual functions.
    pub vf_device: Option<String>,
    /// Addresses of the virtual functions: targets of virtfnN, in order of N.
    pub functions: Vec<String>,
}

/// Access Control Services of a bridge or function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Acs {
    /// Capability register.
    pub capability: u16,
    /// Control register: what is switched on.
    pub control: u16,
}

/// What came of the trial on one physical function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SriovTrial {
    /// Address of the physical function.
    pub address: String,
    /// Virtual functions asked for.
    pub functions: u32,
    /// Why the trial was not begun, in words; `None` if it was.
    pub refused: Option<String>,
    /// Steps in the order taken; the first that failed ends the trial.
    pub steps: Vec<TrialStep>,
    /// Everything was put back as it was.
    pub restored: Attempt,
}

/// A step of a trial. Steps by name, in order: `create` (write sriov_numvfs),
/// `appear` (virtfn links exist), `bind` (vfio-pci took the function), `open`
/// (/dev/vfio/GROUP opened and viable), `attach` (a container took the group).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrialStep {
    /// Its name.
    pub name: String,
    /// The file written or opened.
    pub path: String,
    /// What was written, if anything.
    pub value: String,
    /// How it ended.
    pub outcome: Attempt,
}

impl PciDevice {
    /// Its folder in sysfs.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/sys/bus/pci/devices/{}", self.address)
    }

    /// A network controller: class 0x02.
    #[must_use]
    pub fn is_network(&self) -> bool {
        self.class >> 16 == 0x02
    }

    /// A bridge: class 0x06. Bridges share a group with what is behind them
    /// without making it unusable.
    #[must_use]
    pub fn is_bridge(&self) -> bool {
        self.class >> 16 == 0x06
    }

    /// `vendor:device` in hexadecimal, as lspci -n prints it.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{:04x}:{:04x}", self.vendor, self.device)
    }
}
