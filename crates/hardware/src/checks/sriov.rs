//! SR-IOV of physical functions: capability, present state, and whether the node
//! itself needs the function.

use super::select::{interfaces, management, selected, wanted};
use crate::catalogue::{Check, Remedy};
use crate::facts::{Facts, PciDevice, Sriov};
use crate::finding::Finding;
use crate::requirements::Requirements;

/// PCI vendor ids.
const MELLANOX: u16 = 0x15b3;
const BROADCOM: u16 = 0x14e4;
const INTEL: u16 = 0x8086;

const INTEL_NIC: &str = "enable SR-IOV in the NIC's own menu of the firmware setup (Device Settings, the port, Virtualization Mode: SR-IOV) and SR-IOV Global Enable of the platform";
const MELLANOX_NIC: &str = "mlxconfig -d BDF set SRIOV_EN=1 NUM_OF_VFS=N, enable SR-IOV of the platform in the firmware setup, then power the node off and on";
const BROADCOM_NIC: &str = "set the NIC's Multi-Function Mode to SR-IOV and raise Number of VFs in its menu of the firmware setup (or with niccli), enable SR-IOV of the platform, then reboot";
const OTHER_NIC: &str = "enable SR-IOV in the NIC's menu of the firmware setup and SR-IOV Global Enable of the platform; if the NIC has no such entry, use one with SR-IOV";

/// The remedy in the firmware of the NIC's vendor.
fn nic_remedy(device: &PciDevice, asked: u32) -> String {
    match device.vendor {
        INTEL => INTEL_NIC.to_owned(),
        MELLANOX => MELLANOX_NIC
            .replace("BDF", &device.address)
            .replace("NUM_OF_VFS=N", &format!("NUM_OF_VFS={asked}")),
        BROADCOM => BROADCOM_NIC.to_owned(),
        _ => OTHER_NIC.to_owned(),
    }
}

pub(crate) static CAPABILITY: Check = Check {
    id: "sriov.cap",
    title: "the NIC offers the virtual functions asked for",
    reads: &[
        "/sys/bus/pci/devices/BDF/sriov_totalvfs",
        "/sys/bus/pci/devices/BDF/config (SR-IOV capability)",
        "/sys/bus/pci/devices/BDF/{vendor,device,class,driver,net/}",
    ],
    why: "virtual functions are what pods and guests get of the NIC",
    judged: "For each physical function that a policy selects: passes when sriov_totalvfs is at least what is asked; fails when it is less, zero or absent, and when a policy selects nothing. Without a policy it is skipped and only tells what is there.",
    remedies: &[
        Remedy {
            case: "Intel NIC (8086)",
            text: INTEL_NIC,
        },
        Remedy {
            case: "NVIDIA, Mellanox NIC (15b3)",
            text: MELLANOX_NIC,
        },
        Remedy {
            case: "Broadcom NIC (14e4)",
            text: BROADCOM_NIC,
        },
        Remedy {
            case: "other NIC",
            text: OTHER_NIC,
        },
        Remedy {
            case: "the hardware has it, the driver offers none",
            text: "load the NIC's own driver; a function bound to vfio-pci or to no driver makes no virtual functions",
        },
        Remedy {
            case: "a policy selects nothing",
            text: "correct the selectors in the inventory",
        },
    ],
    judge: capability,
};

fn capability(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    if requirements.sriov.is_empty() {
        let capable: Vec<String> = facts
            .pci
            .iter()
            .filter_map(|device| {
                let sriov = device.sriov.as_ref()?;
                Some(format!("{}/sriov_totalvfs: {}", device.path(), sriov.total))
            })
            .collect();
        return Finding::skip(if capable.is_empty() {
            "no policy asks for virtual functions".to_owned()
        } else {
            format!(
                "{}; no policy asks for virtual functions",
                super::some_of(&capable, 4)
            )
        })
        .alone();
    }
    const DEVICES: &str = "/sys/bus/pci/devices";
    if facts.pci.is_empty() && facts.unread_reason(DEVICES).is_some() {
        return Finding::skip(super::not_read(facts, DEVICES)).alone();
    }
    let mut findings: Vec<Finding> = requirements
        .sriov
        .iter()
        .filter(|policy| selected(facts, policy).is_empty())
        .map(|policy| {
            let found: Vec<String> = facts
                .pci
                .iter()
                .filter(|device| device.is_network() && device.physfn.is_none())
                .map(|device| {
                    let names = device.interfaces.join(" ");
                    format!("{} {} {names}", device.address, device.id()).trim_end().to_owned()
                })
                .collect();
            let found = if found.is_empty() {
                "none".to_owned()
            } else {
                super::some_of(&found, 6)
            };
            Finding::fail(
                format!("/sys/bus/pci/devices: nothing that policy {} selects; network functions here: {found}", policy.name),
                "correct the selectors in the inventory (pf_names, root_devices, vendor, device_id)",
            )
            .on(&policy.name)
        })
        .collect();
    for wanted in wanted(facts, requirements) {
        findings.push(capacity(wanted.device, wanted.functions()).on(&wanted.device.address));
    }
    findings
}

fn capacity(device: &PciDevice, asked: u32) -> Finding {
    let path = format!("{}/sriov_totalvfs", device.path());
    match (&device.sriov, device.config_total_vfs) {
        (Some(sriov), _) if sriov.total >= asked && sriov.total > 0 => {
            Finding::pass(format!("{path}: {}; {asked} asked for", sriov.total))
        }
        (Some(sriov), hardware) => {
            let hardware = match hardware {
                Some(count) if u32::from(count) > sriov.total => {
                    format!(" (hardware: {count})")
                }
                _ => String::new(),
            };
            Finding::fail(
                format!("{path}: {}{hardware}; {asked} asked for", sriov.total),
                format!(
                    "raise the number of virtual functions, or ask for fewer: {}",
                    nic_remedy(device, asked)
                ),
            )
        }
        (None, Some(count)) if count > 0 => {
            let driver = device.driver.as_deref().unwrap_or("none");
            Finding::fail(
                format!("{path}: missing, though the hardware has {count}; driver: {driver}"),
                "load the NIC's own driver; a function bound to vfio-pci or to no driver makes no virtual functions; or the kernel lacks PCI_IOV",
            )
        }
        (None, _) => Finding::fail(
            format!("{path}: missing on {}", device.id()),
            nic_remedy(device, asked),
        ),
    }
}

const RESET: &str = "drain what uses the functions and write 0 to sriov_numvfs, or adopt them: externally_managed in the policy";

pub(crate) static STATE: Check = Check {
    id: "sriov.state",
    title: "no virtual functions of somebody else are in the way",
    reads: &[
        "/sys/bus/pci/devices/BDF/sriov_numvfs",
        "/sys/bus/pci/devices/BDF/sriov_drivers_autoprobe",
        "/sys/bus/pci/devices/BDF/virtfn*",
    ],
    why: "the kernel refuses to go from one number of functions to another (EBUSY) without destroying those that exist",
    judged: "For each physical function that a policy selects: passes when none or exactly as many as asked exist; warns when another number does. With externally_managed it fails when there are too few. Skipped without a policy or without SR-IOV.",
    remedies: &[
        Remedy {
            case: "another number exists",
            text: RESET,
        },
        Remedy {
            case: "externally managed, too few",
            text: "create the functions with the tool that manages them, or leave it to the policy",
        },
    ],
    judge: state,
};

fn state(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let findings: Vec<Finding> = wanted(facts, requirements)
        .iter()
        .filter_map(|wanted| {
            let sriov = wanted.device.sriov.as_ref()?;
            Some(
                functions(
                    facts,
                    wanted.device,
                    sriov,
                    wanted.functions(),
                    wanted.external(),
                )
                .on(&wanted.device.address),
            )
        })
        .collect();
    if findings.is_empty() {
        return Finding::skip("no physical function with SR-IOV is asked for").alone();
    }
    findings
}

fn functions(
    facts: &Facts,
    device: &PciDevice,
    sriov: &Sriov,
    asked: u32,
    external: bool,
) -> Finding {
    let evidence = format!(
        "{}/sriov_numvfs: {}; {asked} asked for",
        device.path(),
        sriov.current
    );
    if external {
        return if sriov.current >= asked {
            Finding::pass(format!("{evidence}, managed elsewhere"))
        } else {
            Finding::fail(
                format!("{evidence}, managed elsewhere"),
                "create the functions with the tool that manages them, or leave it to the policy",
            )
        };
    }
    if sriov.current == 0 || sriov.current == asked {
        return Finding::pass(evidence);
    }
    let mut drivers: Vec<&str> = sriov
        .functions
        .iter()
        .filter_map(|address| facts.pci_device(address)?.driver.as_deref())
        .collect();
    drivers.sort_unstable();
    drivers.dedup();
    let used = if drivers.is_empty() {
        String::new()
    } else {
        format!("; drivers: {}", drivers.join(", "))
    };
    Finding::warn(format!("{evidence}{used}"), RESET)
}

const ANOTHER: &str = "select another physical function, or move the node's own address to another interface; with force_management it is done all the same, and may cut you off";

pub(crate) static MANAGEMENT: Check = Check {
    id: "sriov.mgmt",
    title: "the node does not need the physical function for itself",
    reads: &[
        "/proc/net/route, /proc/net/ipv6_route",
        "SSH_CONNECTION",
        "/sys/class/net/*/{master,upper_*,lower_*}",
    ],
    why: "creating or removing virtual functions resets the NIC; on the one that carries the default route or your connection you would cut yourself off",
    judged: "For each physical function that a policy selects: fails when it carries the default route or the SSH connection, itself or below a VLAN, bridge or bond, or is a member of a bridge or bond; warns when force_management is set; passes when the functions exist already, because nothing is changed then. Fails for a device that a guest is to get whole while it carries any of these. Skipped when nothing is asked for.",
    remedies: &[Remedy {
        case: "always",
        text: ANOTHER,
    }],
    judge: mgmt,
};

fn mgmt(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let all = wanted(facts, requirements);
    let given = given_away(facts, requirements);
    if all.is_empty() && given.is_empty() {
        return Finding::skip("no policy selects a physical function here").alone();
    }
    all.iter()
        .map(|wanted| {
            let device = wanted.device;
            let reasons: Vec<String> = interfaces(facts, device)
                .iter()
                .flat_map(|interface| management(facts, &interface.name))
                .collect();
            let settled = wanted.external()
                || device
                    .sriov
                    .as_ref()
                    .is_some_and(|sriov| sriov.current > 0 && sriov.current == wanted.functions());
            let finding = if reasons.is_empty() {
                let names: Vec<String> = interfaces(facts, device)
                    .iter()
                    .map(|interface| interface.name.clone())
                    .collect();
                Finding::pass(if names.is_empty() {
                    format!("{}/net: no interface", device.path())
                } else {
                    format!(
                        "{}: no default route, no SSH connection, no bridge, no bond",
                        names.join(", ")
                    )
                })
            } else if settled {
                Finding::pass(format!(
                    "{}; its virtual functions exist already, nothing is changed",
                    reasons.join("; ")
                ))
            } else if requirements.force_management {
                Finding::warn(
                    format!("{}; force_management is set", reasons.join("; ")),
                    ANOTHER,
                )
            } else {
                Finding::fail(reasons.join("; "), ANOTHER)
            };
            finding.on(&device.address)
        })
        .chain(given)
        .collect()
}

/// Devices that guests get whole although the node needs them.
fn given_away(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    requirements
        .passthrough
        .iter()
        .filter_map(|address| {
            let device = facts.pci_device(address)?;
            let reasons: Vec<String> = interfaces(facts, device)
                .iter()
                .flat_map(|interface| management(facts, &interface.name))
                .collect();
            (!reasons.is_empty()).then(|| {
                Finding::fail(
                    format!("{}; a guest is to get it whole", reasons.join("; ")),
                    "give the guest another device, or move the node's own address to another interface",
                )
                .on(address)
            })
        })
        .collect()
}
