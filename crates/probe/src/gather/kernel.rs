//! The system, its kernel, the ways to change its command line, control groups.

use std::collections::BTreeMap;
use std::io::Read;

use hardware::facts::{Bootloader, Cgroup, Kernel, Os, Sourced};
use hardware::parse::system::{cgroup_controllers, kernel_config};
use hardware::parse::text::assignment;

use crate::tree::Tree;

/// Options of the kernel's configuration that explain a verdict.
const OPTIONS: [&str; 20] = [
    "CONFIG_INTEL_IOMMU",
    "CONFIG_INTEL_IOMMU_DEFAULT_ON",
    "CONFIG_INTEL_IOMMU_DEFAULT_ON_INTGPU_OFF",
    "CONFIG_AMD_IOMMU",
    "CONFIG_IOMMU_DEFAULT_PASSTHROUGH",
    "CONFIG_IRQ_REMAP",
    "CONFIG_X86_X2APIC",
    "CONFIG_PCI_IOV",
    "CONFIG_VFIO",
    "CONFIG_VFIO_PCI",
    "CONFIG_VFIO_NOIOMMU",
    "CONFIG_KVM",
    "CONFIG_KVM_INTEL",
    "CONFIG_KVM_AMD",
    "CONFIG_VHOST_NET",
    "CONFIG_TUN",
    "CONFIG_BRIDGE_NETFILTER",
    "CONFIG_OVERLAY_FS",
    "CONFIG_BLK_DEV_RBD",
    "CONFIG_MODULE_SIG_FORCE",
];

/// Most bytes that the compressed configuration may unfold to.
const CONFIG_LIMIT: u64 = 4 << 20;

/// CGROUP2_SUPER_MAGIC of linux/magic.h.
const CGROUP2: i64 = 0x6367_7270;

pub(super) fn os(tree: &Tree) -> Os {
    let text = tree
        .text("/etc/os-release")
        .or_else(|| tree.text("/usr/lib/os-release"))
        .unwrap_or_default();
    let value = |key| assignment(&text, key).unwrap_or_default();
    Os {
        id: value("ID"),
        id_like: value("ID_LIKE")
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        version: value("VERSION_ID"),
        pretty: value("PRETTY_NAME"),
    }
}

pub(super) fn kernel(tree: &Tree) -> Kernel {
    let release = tree
        .expected("/proc/sys/kernel/osrelease")
        .unwrap_or_default()
        .trim()
        .to_owned();
    let machine = tree.line("/proc/sys/kernel/arch").or_else(|| {
        tree.live().then(|| {
            rustix::system::uname()
                .machine()
                .to_string_lossy()
                .into_owned()
        })
    });
    Kernel {
        version: tree.line("/proc/sys/kernel/version").unwrap_or_default(),
        machine: machine.unwrap_or_default(),
        cmdline: tree
            .expected("/proc/cmdline")
            .map(|text| text.trim().to_owned()),
        tainted: tree.number("/proc/sys/kernel/tainted"),
        config: configuration(tree, &release),
        release,
    }
}

fn configuration(tree: &Tree, release: &str) -> BTreeMap<String, String> {
    let text = [
        format!("/boot/config-{release}"),
        format!("/lib/modules/{release}/config"),
        format!("/usr/lib/modules/{release}/config"),
    ]
    .iter()
    .find_map(|path| tree.text(path))
    .or_else(|| unfolded(tree, "/proc/config.gz"))
    .unwrap_or_default();
    kernel_config(&text)
        .filter(|(name, _)| OPTIONS.contains(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn unfolded(tree: &Tree, path: &str) -> Option<String> {
    let bytes = tree.bytes(path)?;
    let mut text = Vec::new();
    let unfolding = flate2::read::GzDecoder::new(bytes.as_slice())
        .take(CONFIG_LIMIT)
        .read_to_end(&mut text);
    if let Err(error) = unfolding {
        tree.note(path, &error);
        return None;
    }
    Some(String::from_utf8_lossy(&text).into_owned())
}

pub(super) fn bootloader(tree: &Tree) -> Bootloader {
    const GRUB: &str = "/etc/default/grub";
    let grub = tree.text(GRUB);
    let of_grub = |key| {
        Some(Sourced {
            path: GRUB.to_owned(),
            value: assignment(grub.as_deref()?, key)?,
        })
    };
    let program = |name: &str| {
        ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
            .map(|directory| format!("{directory}/{name}"))
            .into_iter()
            .find(|path| tree.exists(path))
    };
    Bootloader {
        grub_cmdline: of_grub("GRUB_CMDLINE_LINUX"),
        grub_cmdline_default: of_grub("GRUB_CMDLINE_LINUX_DEFAULT"),
        kernel_install: tree.sourced("/etc/kernel/cmdline"),
        update_grub: program("update-grub"),
        grubby: program("grubby"),
        rpm_ostree: tree
            .exists("/run/ostree-booted")
            .then(|| program("rpm-ostree"))
            .flatten(),
    }
}

pub(super) fn cgroup(tree: &Tree) -> Cgroup {
    const ROOT: &str = "/sys/fs/cgroup";
    // Only the second version has this file in its root.
    let second = tree.text(&format!("{ROOT}/cgroup.controllers"));
    let mounted = tree.list(ROOT).is_some_and(|names| !names.is_empty());
    let version = if tree.live() {
        rustix::fs::statfs(ROOT)
            .map(|stat| if stat.f_type == CGROUP2 { 2 } else { 1 })
            .ok()
            .filter(|version| *version == 2 || mounted)
    } else {
        match &second {
            Some(_) => Some(2),
            None => mounted.then_some(1),
        }
    };
    let controllers = match (version, second) {
        (Some(2), Some(text)) => text.split_whitespace().map(str::to_owned).collect(),
        _ => cgroup_controllers(&tree.text("/proc/cgroups").unwrap_or_default()),
    };
    Cgroup {
        version,
        controllers,
    }
}
