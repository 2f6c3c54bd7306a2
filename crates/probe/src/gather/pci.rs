//! PCI devices: whatever may be given to a guest, what shares a group with
//! these, and the bridges above.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;

use hardware::facts::{PciDevice, Sriov};
use hardware::parse::pci;

use crate::tree::Tree;

const DEVICES: &str = "/sys/bus/pci/devices";
/// Configuration space of a PCI Express function, bytes.
const SPACE: usize = 4096;
/// Its standard header.
const HEADER: usize = 64;

/// Base classes of which a server has hundreds and of which none is given to a
/// guest: memory controllers, bridges, system peripherals, performance
/// counters (PCI Code and ID Assignment specification).
const DULL: [u32; 4] = [0x05, 0x06, 0x08, 0x11];

pub(super) fn devices(tree: &Tree) -> Vec<PciDevice> {
    let all: Vec<PciDevice> = tree
        .list(DEVICES)
        .unwrap_or_default()
        .into_iter()
        .filter(|address| pci::address(address).is_some())
        .filter_map(|address| outline(tree, address))
        .collect();
    let mut kept: BTreeSet<String> = all
        .iter()
        .filter(|device| !DULL.contains(&(device.class >> 16)))
        .map(|device| device.address.clone())
        .collect();
    let groups: BTreeSet<u32> = all
        .iter()
        .filter(|device| kept.contains(&device.address))
        .filter_map(|device| device.iommu_group)
        .collect();
    for device in &all {
        if device
            .iommu_group
            .is_some_and(|group| groups.contains(&group))
        {
            kept.insert(device.address.clone());
        }
    }
    for device in all.iter().filter(|device| !device.is_bridge()) {
        let mut above = device.parent.clone();
        if !kept.contains(&device.address) {
            above = None;
        }
        // Each bridge on the way up, until one that is kept already.
        while let Some(bridge) = above {
            let parent = all
                .iter()
                .find(|device| device.address == bridge)
                .and_then(|device| device.parent.clone());
            above = if kept.insert(bridge) { parent } else { None };
        }
    }
    all.into_iter()
        .filter(|device| kept.contains(&device.address))
        .map(|device| completed(tree, device))
        .collect()
}

/// What decides whether a device is kept.
fn outline(tree: &Tree, address: String) -> Option<PciDevice> {
    let folder = format!("{DEVICES}/{address}");
    let number = |name: &str| tree.number(&format!("{folder}/{name}"));
    let id = |name: &str| {
        number(name)
            .and_then(|id| u16::try_from(id).ok())
            .unwrap_or_default()
    };
    // A device that vanished meanwhile has no class.
    let class = u32::try_from(number("class")?).ok()?;
    Some(PciDevice {
        vendor: id("vendor"),
        device: id("device"),
        class,
        iommu_group: tree
            .link_name(&format!("{folder}/iommu_group"))
            .and_then(|name| name.parse().ok()),
        parent: parent(tree, &folder, &address),
        physfn: tree.link_name(&format!("{folder}/physfn")),
        driver: tree.link_name(&format!("{folder}/driver")),
        address,
        ..PciDevice::default()
    })
}

/// The bridge above: the link leads to /sys/devices/pci0000:00/…/BRIDGE/DEVICE.
fn parent(tree: &Tree, folder: &str, address: &str) -> Option<String> {
    let target = tree.link(folder)?;
    let above = target.strip_suffix(address)?.trim_end_matches('/');
    let above = above.rsplit('/').next()?;
    pci::address(above).map(|_| above.to_owned())
}

fn completed(tree: &Tree, device: PciDevice) -> PciDevice {
    let folder = format!("{DEVICES}/{}", device.address);
    let file = |name: &str| format!("{folder}/{name}");
    let config = config(tree, &file("config"));
    PciDevice {
        numa_node: tree
            .signed(&file("numa_node"))
            .and_then(|node| i32::try_from(node).ok()),
        driver_override: Some(tree.exists(&file("driver_override"))),
        interfaces: tree.list(&file("net")).unwrap_or_default(),
        sriov: sriov(tree, &folder),
        config_total_vfs: config.as_ref().and_then(|config| config.total_vfs),
        acs: config.as_ref().and_then(|config| config.acs),
        reset: tree
            .line(&file("reset_method"))
            .or_else(|| tree.exists(&file("reset")).then(|| "reset".to_owned())),
        ..device
    }
}

/// Of configuration space the extended capabilities, each as far as it is read: every four
/// bytes are a question to the device, which in a virtual machine takes microseconds.
fn config(tree: &Tree, path: &str) -> Option<pci::Config> {
    let (file, length) = tree.file(path)?;
    // Conventional PCI has none.
    if length <= pci::EXTENDED as u64 {
        return None;
    }
    let mut bytes = vec![0; SPACE];
    let fill = |bytes: &mut [u8], at: usize, count: usize| {
        let room = bytes.get_mut(at..at + count)?;
        file.read_exact_at(room, at as u64).ok()
    };
    fill(&mut bytes, 0, HEADER)?;
    let mut at = pci::EXTENDED;
    // As many as there is room for; a circle ends here.
    for _ in 0..SPACE / pci::CAPABILITY {
        if fill(&mut bytes, at, pci::CAPABILITY).is_none() {
            break;
        }
        match pci::capability(&bytes, at) {
            Some((_, Some(next))) => at = next,
            _ => break,
        }
    }
    pci::config(&bytes)
}

/// The sriov_* files; `None` without sriov_totalvfs.
fn sriov(tree: &Tree, folder: &str) -> Option<Sriov> {
    let number = |name: &str| {
        let number = tree.number(&format!("{folder}/{name}"))?;
        u32::try_from(number).ok()
    };
    let total = number("sriov_totalvfs")?;
    let mut functions: Vec<(u32, String)> = tree
        .list(folder)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|name| {
            let index = name.strip_prefix("virtfn")?.parse().ok()?;
            Some((index, tree.link_name(&format!("{folder}/{name}"))?))
        })
        .collect();
    functions.sort();
    Some(Sriov {
        total,
        current: number("sriov_numvfs").unwrap_or_default(),
        autoprobe: tree.flag(&format!("{folder}/sriov_drivers_autoprobe")),
        vf_device: tree.line(&format!("{folder}/sriov_vf_device")),
        functions: functions.into_iter().map(|(_, address)| address).collect(),
    })
}
