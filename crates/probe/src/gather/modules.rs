//! Kernel modules that matter: loaded, built in, on disk, kept out.

use std::collections::{BTreeMap, BTreeSet};

use hardware::facts::{Module, Modules};
use hardware::parse::modules as parse;

use crate::tree::Tree;

/// The modules that some check asks about, besides the drivers in use.
const KNOWN: [&str; 23] = [
    "br_netfilter",
    "ceph",
    "dm_crypt",
    "dm_mod",
    "iommufd",
    "ip_vs",
    "irqbypass",
    "kvm",
    "kvm_amd",
    "kvm_intel",
    "nbd",
    "nf_conntrack",
    "nf_tables",
    "overlay",
    "rbd",
    "tun",
    "vfio",
    "vfio_iommu_type1",
    "vfio_pci",
    "vfio_pci_core",
    "vhost_net",
    "vhost_vsock",
    "vxlan",
];

/// Where the kernel's configuration says what modules.builtin would.
const OPTIONS: [(&str, &str); 10] = [
    ("br_netfilter", "CONFIG_BRIDGE_NETFILTER"),
    ("kvm", "CONFIG_KVM"),
    ("kvm_amd", "CONFIG_KVM_AMD"),
    ("kvm_intel", "CONFIG_KVM_INTEL"),
    ("overlay", "CONFIG_OVERLAY_FS"),
    ("rbd", "CONFIG_BLK_DEV_RBD"),
    ("tun", "CONFIG_TUN"),
    ("vfio", "CONFIG_VFIO"),
    ("vfio_pci", "CONFIG_VFIO_PCI"),
    ("vhost_net", "CONFIG_VHOST_NET"),
];

pub(super) fn modules(
    tree: &Tree,
    drivers: &[String],
    config: &BTreeMap<String, String>,
) -> Modules {
    // A kernel that cannot load modules has no such file.
    let live = tree.text("/proc/modules");
    let loaded = parse::loaded(live.as_deref().unwrap_or_default());
    let release = tree.line("/proc/sys/kernel/osrelease").unwrap_or_default();
    let directory = ["/lib/modules", "/usr/lib/modules"]
        .map(|above| format!("{above}/{release}"))
        .into_iter()
        .find(|directory| tree.exists(&format!("{directory}/modules.dep")));
    let of_kernel = |file: &str| {
        let directory = directory.as_ref()?;
        tree.text(&format!("{directory}/{file}"))
    };
    let builtin = parse::builtin(&of_kernel("modules.builtin").unwrap_or_default());
    let on_disk = parse::on_disk(&of_kernel("modules.dep").unwrap_or_default());
    let configured = |name: &str| {
        OPTIONS
            .iter()
            .filter(|(module, _)| *module == name)
            .any(|(_, option)| config.get(*option).is_some_and(|value| value == "y"))
    };
    let names: BTreeSet<String> = KNOWN
        .iter()
        .map(|name| (*name).to_owned())
        .chain(drivers.iter().map(|driver| parse::name(driver)))
        .collect();
    let known: BTreeMap<String, Module> = names
        .into_iter()
        .map(|name| {
            // Code built in has a folder too, if it has parameters.
            let folder = tree.exists(&format!("/sys/module/{name}"));
            let module = Module {
                loaded: folder || loaded.contains(&name),
                builtin: builtin.contains(&name) || configured(&name),
                file: on_disk.get(&name).cloned(),
            };
            (name, module)
        })
        .collect();
    Modules {
        loaded_read: live.is_some(),
        blacklisted: blacklisted(tree, &known),
        known,
        pci_drivers: tree.list("/sys/bus/pci/drivers").unwrap_or_default(),
        disabled: tree.flag("/proc/sys/kernel/modules_disabled"),
        at_boot: at_boot(tree),
        directory,
    }
}

/// Module to the file that asks for it at boot.
fn at_boot(tree: &Tree) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let directories = [
        "/usr/lib/modules-load.d",
        "/run/modules-load.d",
        "/etc/modules-load.d",
    ];
    let files = configuration(tree, &directories);
    for path in files.into_iter().chain(["/etc/modules".to_owned()]) {
        for name in parse::load_list(&tree.text(&path).unwrap_or_default()) {
            found.insert(name, path.clone());
        }
    }
    found
}

/// Of the modules that matter: module to the file that keeps it out.
fn blacklisted(tree: &Tree, known: &BTreeMap<String, Module>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let directories = [
        "/usr/lib/modprobe.d",
        "/lib/modprobe.d",
        "/run/modprobe.d",
        "/etc/modprobe.d",
    ];
    for path in configuration(tree, &directories) {
        for name in parse::kept_out(&tree.text(&path).unwrap_or_default()) {
            if known.contains_key(&name) {
                found.insert(name, path.clone());
            }
        }
    }
    found
}

/// Files `*.conf` of the directories; of two with one name the last directory's.
fn configuration(tree: &Tree, directories: &[&str]) -> Vec<String> {
    let mut files = BTreeMap::new();
    for directory in directories {
        for name in tree.list(directory).unwrap_or_default() {
            if name.ends_with(".conf") {
                files.insert(name.clone(), format!("{directory}/{name}"));
            }
        }
    }
    files.into_values().collect()
}
