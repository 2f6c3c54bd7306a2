//! What was read from a node, before any judgement.
//!
//! Every field is optional or has a default: a fact that could not be read is
//! `None` (or an empty list where the kernel has nothing to list) and has an
//! entry in [`Facts::unread`]. `None` therefore means "not known", never "no".
//!
//! Paths are those of the node, also when the facts come from a captured tree.

mod cpu;
mod disk;
mod firmware;
mod iommu;
mod kernel;
mod kvm;
mod memory;
mod net;
mod pci;
mod system;

use serde::{Deserialize, Serialize};

pub use cpu::{Cpu, CpuVendor};
pub use disk::{BlockDevice, BlockKind, Ceph, Signature, SignatureKind};
pub use firmware::{Dmi, Firmware};
pub use iommu::{AcpiTable, Iommu, IommuGroup, IommuUnit};
pub use kernel::{Bootloader, Cgroup, Kernel, Module, Modules, Os};
pub use kvm::{Kvm, KvmDevice};
pub use memory::{Hugepages, Memory, NumaNode, Space, Swap};
pub use net::{DefaultRoute, Interface, Listener, Network, SshPath};
pub use pci::{Acs, PciDevice, Sriov, SriovTrial, TrialStep};
pub use system::{Clock, DeviceNode, Names, Proxy};

/// Version of the document, raised when a field changes its meaning.
pub const SCHEMA: u32 = 1;

/// Facts of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// [`SCHEMA`] of the program that wrote the document; 0 if it did not say.
    pub schema: u32,
    /// Version of the program that gathered the facts.
    pub gatherer: String,
    /// Where they come from: `/` for a live node, else the root of a captured tree.
    pub root: String,
    /// Effective user id of the gatherer; much is unreadable unless it is 0.
    pub uid: Option<u32>,
    /// Time it took to gather, milliseconds.
    pub elapsed_ms: u64,
    /// The operating system's own name, from /etc/os-release.
    pub os: Os,
    /// The running kernel and its command line.
    pub kernel: Kernel,
    /// How the kernel's command line can be changed.
    pub bootloader: Bootloader,
    /// Kernel modules that matter, and whether they are there.
    pub modules: Modules,
    /// Control groups.
    pub cgroup: Cgroup,
    /// The processors.
    pub cpu: Cpu,
    /// What /dev/kvm can do, by trying.
    pub kvm: Kvm,
    /// UEFI, Secure Boot, lockdown, DMI.
    pub firmware: Firmware,
    /// The IOMMU: what firmware announces and what the kernel made of it.
    pub iommu: Iommu,
    /// PCI devices: every network function, its virtual functions, every device that
    /// shares an IOMMU group with one of these, and the bridges above them.
    pub pci: Vec<PciDevice>,
    /// Trials of virtual functions; empty unless asked for.
    pub sriov_trials: Vec<SriovTrial>,
    /// Network interfaces, routes, listening sockets.
    pub network: Network,
    /// Memory, hugepages, NUMA nodes.
    pub memory: Memory,
    /// Free space of the directories that must have room.
    pub space: Vec<Space>,
    /// Swap areas, from /proc/swaps. `None`: not read.
    pub swaps: Option<Vec<Swap>>,
    /// Block devices with what is written on them.
    pub disks: Vec<BlockDevice>,
    /// What an earlier Ceph cluster left.
    pub ceph: Ceph,
    /// Device nodes: /dev/net/tun, /dev/vhost-net, /dev/vfio/vfio.
    pub devices: Vec<DeviceNode>,
    /// The clock.
    pub clock: Clock,
    /// The node's names and how it resolves others.
    pub names: Names,
    /// Proxy settings that programs on the node inherit.
    pub proxy: Proxy,
    /// What could not be read, and why.
    pub unread: Vec<Unread>,
}

/// Something that could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unread {
    /// The file, device or system call.
    pub path: String,
    /// The error, as the system put it.
    pub error: String,
}

/// A value together with where it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sourced {
    /// The file, or `environment NAME`.
    pub path: String,
    /// Its value, surrounding white space removed.
    pub value: String,
}

/// How something that was tried ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum Attempt {
    /// Nobody tried.
    #[default]
    NotTried,
    /// It worked.
    Worked,
    /// It did not.
    Failed {
        /// errno, when the kernel gave one.
        #[serde(default)]
        errno: Option<i32>,
        /// What was done and what came back, in words.
        #[serde(default)]
        error: String,
    },
}

impl Attempt {
    /// A failure described by `error`.
    #[must_use]
    pub fn failed(errno: Option<i32>, error: impl Into<String>) -> Self {
        Self::Failed {
            errno,
            error: error.into(),
        }
    }

    /// It was tried and worked.
    #[must_use]
    pub fn worked(&self) -> bool {
        *self == Self::Worked
    }

    /// The error, if it was tried and failed.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Failed { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl Facts {
    /// Why `path` could not be read, if it could not.
    #[must_use]
    pub fn unread_reason(&self, path: &str) -> Option<&str> {
        self.unread
            .iter()
            .find(|unread| unread.path == path)
            .map(|unread| unread.error.as_str())
    }

    /// The PCI device at `address`, written as sysfs does (`0000:01:00.0`).
    #[must_use]
    pub fn pci_device(&self, address: &str) -> Option<&PciDevice> {
        self.pci.iter().find(|device| device.address == address)
    }

    /// The device node `path`.
    #[must_use]
    pub fn device(&self, path: &str) -> Option<&DeviceNode> {
        self.devices.iter().find(|device| device.path == path)
    }

    /// The node is itself a virtual machine: its CPU has the flag `hypervisor`.
    #[must_use]
    pub fn is_virtual(&self) -> bool {
        self.cpu.has_flag("hypervisor")
    }
}
