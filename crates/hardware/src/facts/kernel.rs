//! The kernel, its command line, how to change it, modules, control groups.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Sourced;

/// /etc/os-release.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Os {
    /// ID: `debian`, `ubuntu`, `rhel`, `rocky`, `fedora`.
    pub id: String,
    /// ID_LIKE, words.
    pub id_like: Vec<String>,
    /// VERSION_ID.
    pub version: String,
    /// PRETTY_NAME.
    pub pretty: String,
}

/// The running kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kernel {
    /// /proc/sys/kernel/osrelease, as `uname -r` prints it.
    pub release: String,
    /// /proc/sys/kernel/version: build number and date.
    pub version: String,
    /// Machine, as `uname -m` prints it.
    pub machine: String,
    /// /proc/cmdline.
    pub cmdline: Option<String>,
    /// /proc/sys/kernel/tainted, the bit mask.
    pub tainted: Option<u64>,
    /// Values of the built configuration (/boot/config-RELEASE or /proc/config.gz), where it was
    /// readable: CONFIG_INTEL_IOMMU_DEFAULT_ON, CONFIG_VFIO_NOIOMMU and the like, `y`, `m` or a value.
    pub config: BTreeMap<String, String>,
}

/// How the kernel's command line can be changed on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bootloader {
    /// /etc/default/grub: the value of GRUB_CMDLINE_LINUX, quotes removed.
    pub grub_cmdline: Option<Sourced>,
    /// /etc/default/grub: the value of GRUB_CMDLINE_LINUX_DEFAULT, quotes removed.
    pub grub_cmdline_default: Option<Sourced>,
    /// /etc/kernel/cmdline (systemd-boot, kernel-install).
    pub kernel_install: Option<Sourced>,
    /// Path of update-grub (Debian, Ubuntu), if the node has it.
    pub update_grub: Option<String>,
    /// Path of grubby (RHEL, Rocky, Fedora), if the node has it.
    pub grubby: Option<String>,
    /// Path of rpm-ostree, if the node booted from an ostree.
    pub rpm_ostree: Option<String>,
}

/// Kernel modules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Modules {
    /// /proc/modules was read, so `loaded` can be trusted.
    pub loaded_read: bool,
    /// The folder of the running kernel's modules, if modules.dep was read there.
    pub directory: Option<String>,
    /// The modules that matter, by name with underscores: kvm, kvm_intel, kvm_amd, vfio, vfio_pci,
    /// vfio_iommu_type1, vhost_net, tun, br_netfilter, overlay, nf_tables, rbd and the drivers of the network functions.
    pub known: BTreeMap<String, Module>,
    /// Drivers registered on the PCI bus: entries of /sys/bus/pci/drivers.
    pub pci_drivers: Vec<String>,
    /// /proc/sys/kernel/modules_disabled is 1: nothing more can be loaded.
    pub disabled: Option<bool>,
    /// Lines of /etc/modules and /etc/modules-load.d/*.conf: module to the file that asks for it.
    pub at_boot: BTreeMap<String, String>,
    /// Modules that modprobe.d blacklists or replaces by `install … /bin/false`: module to file.
    pub blacklisted: BTreeMap<String, String>,
}

/// A kernel module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Module {
    /// In /proc/modules, or /sys/module has its folder.
    pub loaded: bool,
    /// In modules.builtin.
    pub builtin: bool,
    /// In modules.dep: its file.
    pub file: Option<String>,
}

/// Control groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cgroup {
    /// 2 if statfs of /sys/fs/cgroup says cgroup2fs, else 1. `None`: nothing is mounted or not asked.
    pub version: Option<u8>,
    /// cgroup.controllers of the root, or the enabled lines of /proc/cgroups for version 1.
    pub controllers: Vec<String>,
}

impl Modules {
    /// The module's code is in the running kernel: loaded or built in.
    #[must_use]
    pub fn present(&self, name: &str) -> bool {
        self.known
            .get(name)
            .is_some_and(|module| module.loaded || module.builtin)
    }

    /// The module could be loaded: its file is installed for the running kernel.
    #[must_use]
    pub fn loadable(&self, name: &str) -> bool {
        self.disabled != Some(true)
            && self
                .known
                .get(name)
                .is_some_and(|module| module.file.is_some())
    }
}
