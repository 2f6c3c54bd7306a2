//! IOMMU groups of the devices that guests are to get.

use super::select::wanted;
use crate::catalogue::{Check, Remedy};
use crate::facts::{Facts, PciDevice};
use crate::finding::Finding;
use crate::requirements::Requirements;

/// Source validation, request and completion redirection, upstream forwarding: the bits
/// of the ACS control register that Linux wants to tell functions apart
/// (REQ_ACS_FLAGS in drivers/iommu/iommu.c).
const ACS_ISOLATION: u16 = 0x1d;

const MOVE: &str = "move the card to a slot of its own (one behind another root port), or enable ACS (Access Control Services) in the firmware setup";
const TOGETHER: &str =
    "give all devices of the group to the same guest, or keep none of them for the node";

pub(crate) static GROUP: Check = Check {
    id: "iommu.group",
    title: "each device for a guest is alone in its IOMMU group",
    reads: &[
        "/sys/bus/pci/devices/BDF/iommu_group/devices",
        "/sys/bus/pci/devices/BDF/config (ACS capability)",
    ],
    why: "a group is given away whole: vfio calls it not viable while the node keeps another device of it, and says so only when the guest starts",
    judged: "For each device that guests are to get, and each virtual function of a policy (its physical function while none exist): passes when nothing but bridges shares its group; fails when another device does; warns when all that share it are to go to guests. Skipped when nothing asks for it or no IOMMU is in use.",
    remedies: &[
        Remedy {
            case: "group shared",
            text: MOVE,
        },
        Remedy {
            case: "all of the group for guests",
            text: TOGETHER,
        },
        Remedy {
            case: "kernel patches that pretend isolation",
            text: "do not: pcie_acs_override makes groups look separate while devices can still write to each other",
        },
    ],
    judge: group,
};

/// The devices whose groups matter: addresses named, and functions of policies.
fn candidates(facts: &Facts, requirements: &Requirements) -> Vec<String> {
    let mut addresses = requirements.passthrough.clone();
    for wanted in wanted(facts, requirements)
        .iter()
        .filter(|wanted| wanted.vfio())
    {
        let functions = wanted
            .device
            .sriov
            .as_ref()
            .map(|sriov| sriov.functions.clone())
            .unwrap_or_default();
        if functions.is_empty() {
            addresses.push(wanted.device.address.clone());
        } else {
            addresses.extend(functions);
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    addresses.retain(|address| seen.insert(address.clone()));
    addresses
}

fn group(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let addresses = candidates(facts, requirements);
    if addresses.is_empty() {
        return Finding::skip("no device is to be given to guests").alone();
    }
    let (alone, shared): (Vec<_>, Vec<_>) = addresses
        .iter()
        .map(|address| {
            let (finding, well) = one(facts, address, &addresses);
            (finding.on(address), well)
        })
        .partition(|(_, well)| *well);
    let mut findings: Vec<Finding> = alone.into_iter().map(|(finding, _)| finding).collect();
    // 64 functions that are all alone are one line.
    if let (true, Some(first), Some(last)) = (findings.len() > 4, findings.first(), findings.last())
    {
        findings = Finding::pass(format!(
            "{} devices, each alone in its group: {} to {}",
            findings.len(),
            first.evidence,
            last.evidence
        ))
        .alone();
    }
    findings.extend(shared.into_iter().map(|(finding, _)| finding));
    findings
}

/// The finding on one device, and whether it is well.
fn one(facts: &Facts, address: &str, all: &[String]) -> (Finding, bool) {
    let path = format!("/sys/bus/pci/devices/{address}");
    let groups = facts.iommu.groups.as_deref().unwrap_or_default();
    let Some(group) = groups
        .iter()
        .find(|group| group.devices.iter().any(|device| device == address))
    else {
        return (ungrouped(facts, address, &path), false);
    };
    let evidence = format!("{path}/iommu_group: {}", group.id);
    // The function's own siblings count; bridges do not.
    let others: Vec<&String> = group
        .devices
        .iter()
        .filter(|device| *device != address)
        .filter(|device| !facts.pci_device(device).is_some_and(PciDevice::is_bridge))
        .collect();
    if others.is_empty() {
        return (Finding::pass(evidence), true);
    }
    let named: Vec<String> = others
        .iter()
        .take(6)
        .map(|other| match facts.pci_device(other) {
            Some(device) => match &device.driver {
                Some(driver) => format!("{other} ({}, driver {driver})", device.id()),
                None => format!("{other} ({})", device.id()),
            },
            None => (*other).clone(),
        })
        .collect();
    let more = match others.len().saturating_sub(6) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let evidence = format!(
        "{evidence}, shared with {}{more}{}",
        named.join(", "),
        unisolated(facts, address)
    );
    if others.iter().all(|other| all.contains(other)) {
        (Finding::warn(evidence, TOGETHER), false)
    } else {
        (
            Finding::fail(
                evidence,
                format!(
                    "{MOVE}; the node cannot keep one device of the group while a guest has another"
                ),
            ),
            false,
        )
    }
}

fn ungrouped(facts: &Facts, address: &str, path: &str) -> Finding {
    if facts.iommu.active() == Some(false) {
        return Finding::skip(format!("{path}/iommu_group: none; no IOMMU is in use"));
    }
    if facts.iommu.groups.is_none() {
        return Finding::skip("/sys/kernel/iommu_groups: not read");
    }
    if facts.pci_device(address).is_none() {
        let network: Vec<String> = facts
            .pci
            .iter()
            .filter(|device| device.is_network())
            .map(|device| device.address.clone())
            .collect();
        return Finding::fail(
            format!("{path}: no such device"),
            format!(
                "correct the address in the inventory; network functions here: {}",
                super::some_of(&network, 8)
            ),
        );
    }
    Finding::fail(
        format!("{path}/iommu_group: none, though an IOMMU is in use"),
        "move the card to a slot that is behind the IOMMU, or update the firmware, whose table leaves the device out",
    )
}

/// The first bridge above the device that does not isolate, in words.
fn unisolated(facts: &Facts, address: &str) -> String {
    let mut current = facts.pci_device(address);
    // A chain of bridges is a few long; a loop in garbage must end.
    for _ in 0..16 {
        let Some(device) = current else {
            return String::new();
        };
        if device.acs.is_some() || device.is_bridge() {
            match device.acs {
                Some(acs) if acs.control & ACS_ISOLATION != ACS_ISOLATION & acs.capability => {
                    return format!(
                        "; {}: ACS there but not on (control {:#06x} of {:#06x})",
                        device.path(),
                        acs.control,
                        acs.capability
                    );
                }
                None => return format!("; {}: a bridge without ACS", device.path()),
                Some(_) => {}
            }
        }
        current = device
            .parent
            .as_deref()
            .and_then(|parent| facts.pci_device(parent));
    }
    String::new()
}
