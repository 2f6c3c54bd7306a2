//! Where the NIC sits, whether it has a link, how large its frames may be.

use super::select::{interfaces, wanted};
use super::some_of;
use crate::catalogue::{Check, Remedy};
use crate::facts::{Facts, PciDevice};
use crate::finding::Finding;
use crate::requirements::Requirements;

const NO_POLICY: &str = "no policy selects a physical function here";

pub(crate) static NUMA: Check = Check {
    id: "nic.numa",
    title: "the NIC sits where the guests' memory is",
    reads: &[
        "/sys/bus/pci/devices/BDF/numa_node",
        "/sys/devices/system/node/node*/cpulist",
        "/sys/devices/system/node/node*/hugepages/",
    ],
    why: "a guest whose memory is on the other socket pays for every packet with a trip between sockets",
    judged: "For each physical function that a policy selects: passes on a machine with one NUMA node, or when the hugepages asked for or reserved include some of the NIC's node; warns when all are elsewhere, or when a machine of several nodes does not say where the NIC is. Skipped without a policy.",
    remedies: &[
        Remedy {
            case: "hugepages elsewhere",
            text: "reserve hugepages on the NIC's NUMA node: node in the inventory's hugepages",
        },
        Remedy {
            case: "numa_node -1",
            text: "update the firmware, whose tables do not say which socket the slot belongs to",
        },
    ],
    judge: numa,
};

fn numa(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    per_device(facts, requirements, |device, _| {
        Some(placement(facts, requirements, device))
    })
}

fn placement(facts: &Facts, requirements: &Requirements, device: &PciDevice) -> Finding {
    let path = format!("{}/numa_node", device.path());
    let nodes = facts.memory.nodes.len();
    let Some(number) = device.numa_node else {
        return Finding::skip(format!("{path}: not read"));
    };
    if nodes <= 1 {
        return Finding::pass(format!("{path}: {number}; the machine has one NUMA node"));
    }
    let Ok(node) = u32::try_from(number) else {
        return Finding::warn(
            format!("{path}: {number}, on a machine of {nodes} NUMA nodes"),
            "update the firmware, whose tables do not say which socket the slot belongs to",
        );
    };
    let cpus = facts
        .memory
        .nodes
        .iter()
        .find(|found| found.id == node)
        .map_or("unknown", |found| found.cpus.as_str());
    let evidence = format!("{path}: {node}; CPUs {cpus}");
    let asked: Vec<u32> = requirements
        .hugepages
        .iter()
        .filter_map(|pages| pages.node)
        .collect();
    let anywhere = requirements
        .hugepages
        .iter()
        .any(|pages| pages.node.is_none());
    let reserved: Vec<u32> = facts
        .memory
        .hugepages
        .iter()
        .filter(|pages| pages.total > 0)
        .filter_map(|pages| pages.node)
        .collect();
    let elsewhere = |found: &[u32]| !found.is_empty() && !found.contains(&node);
    if (!anywhere && elsewhere(&asked)) || (asked.is_empty() && elsewhere(&reserved)) {
        let mut other = if asked.is_empty() { reserved } else { asked };
        other.sort_unstable();
        other.dedup();
        let other: Vec<String> = other.iter().map(u32::to_string).collect();
        return Finding::warn(
            format!("{evidence}; hugepages only on node {}", other.join(", ")),
            format!(
                "reserve hugepages on NUMA node {node} (node in the inventory's hugepages), and put the guests' CPUs there"
            ),
        );
    }
    Finding::pass(evidence)
}

pub(crate) static LINK: Check = Check {
    id: "nic.link",
    title: "the NIC has a link",
    reads: &[
        "/sys/class/net/NAME/carrier",
        "/sys/class/net/NAME/operstate",
        "/sys/class/net/NAME/speed",
    ],
    why: "virtual functions have no link while their physical function has none",
    judged: "For each physical function that a policy selects: passes with a carrier, warns without one. Skipped without a policy, and while the interface is down or belongs to vfio-pci, when the state of the cable cannot be known.",
    remedies: &[Remedy {
        case: "no carrier",
        text: "plug in the cable or the transceiver, and enable the port of the switch",
    }],
    judge: link,
};

fn link(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    per_device(facts, requirements, |device, _| {
        let all = interfaces(facts, device);
        let Some(interface) = all.first() else {
            return Some(Finding::skip(format!(
                "{}/net: no interface",
                device.path()
            )));
        };
        let path = format!("/sys/class/net/{}", interface.name);
        let speed = match interface.speed {
            Some(speed) if speed > 0 => format!("; speed: {speed} Mbit/s"),
            _ => String::new(),
        };
        Some(match interface.carrier {
            Some(true) => Finding::pass(format!("{path}/carrier: 1{speed}")),
            Some(false) => Finding::warn(
                format!("{path}/carrier: 0"),
                "plug in the cable or the transceiver, and enable the port of the switch",
            ),
            None => Finding::skip(format!(
                "{path}/operstate: {}; the cable is not known while the interface is down",
                interface.operstate.as_deref().unwrap_or("not read")
            )),
        })
    })
}

pub(crate) static MTU: Check = Check {
    id: "nic.mtu",
    title: "the NIC carries frames as large as a policy asks for",
    reads: &["/sys/class/net/NAME/mtu"],
    why: "a virtual function cannot have a larger MTU than its physical function; larger frames vanish without a word",
    judged: "For each physical function of a policy with an mtu: passes when its MTU is at least that, else warns. Skipped where no mtu is asked for.",
    remedies: &[Remedy {
        case: "smaller",
        text: "ip link set NAME mtu N, and keep it in the node's network configuration; the switch must carry it too",
    }],
    judge: mtu,
};

fn mtu(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let findings = per_device(facts, requirements, |device, asked| {
        let asked = asked?;
        let all = interfaces(facts, device);
        let Some(interface) = all.first() else {
            return Some(Finding::skip(format!(
                "{}/net: no interface",
                device.path()
            )));
        };
        let path = format!("/sys/class/net/{}/mtu", interface.name);
        Some(match interface.mtu {
            Some(found) if found >= asked => {
                Finding::pass(format!("{path}: {found}; {asked} asked for"))
            }
            Some(found) => Finding::warn(
                format!("{path}: {found}; {asked} asked for"),
                format!(
                    "ip link set {} mtu {asked}, and keep it in the node's network configuration; the switch must carry it too",
                    interface.name
                ),
            ),
            None => Finding::skip(format!("{path}: not read")),
        })
    });
    if findings.is_empty() {
        return Finding::skip("no policy asks for an MTU").alone();
    }
    findings
}

/// One finding for each function that a policy selects; `say` gets the MTU asked for.
fn per_device(
    facts: &Facts,
    requirements: &Requirements,
    say: impl Fn(&PciDevice, Option<u32>) -> Option<Finding>,
) -> Vec<Finding> {
    let all = wanted(facts, requirements);
    if all.is_empty() {
        let names: Vec<String> = facts
            .pci
            .iter()
            .filter(|device| device.is_network() && device.physfn.is_none())
            .flat_map(|device| device.interfaces.clone())
            .collect();
        return Finding::skip(if names.is_empty() {
            NO_POLICY.to_owned()
        } else {
            format!("{}: {NO_POLICY}", some_of(&names, 6))
        })
        .alone();
    }
    all.iter()
        .filter_map(|wanted| {
            say(wanted.device, wanted.mtu()).map(|finding| finding.on(&wanted.device.address))
        })
        .collect()
}
