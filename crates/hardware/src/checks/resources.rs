//! Memory, disk space, CPUs, locked memory, swap.

use super::{GIB, not_read, size};
use crate::catalogue::{Check, Remedy};
use crate::facts::Facts;
use crate::finding::Finding;
use crate::requirements::Requirements;
use crate::verdict::Fix;

/// What Rook gives an OSD by default.
const OSD: u64 = 4 * GIB;
/// QEMU may lock this much beside the guest's memory for a device given to it.
const VFIO_OVERHEAD: u64 = GIB;

pub(crate) static RESOURCES: Check = Check {
    id: "resources",
    title: "memory, disk space, CPUs and locked memory suffice",
    reads: &["/proc/meminfo", "/proc/cpuinfo", "statfs", "RLIMIT_MEMLOCK"],
    why: "the cluster, the guests and Ceph share the node; images, build outputs and the guests' disks are kept on its disk",
    judged: "Memory fails below what is asked for (4 GiB, and 4 GiB for each Ceph disk) and warns when less than half of it is available. Disk fails below what is asked for, or when mounted read-only. CPUs warn. Locked memory warns when devices go to guests and the limit is under 1 GiB.",
    remedies: &[
        Remedy {
            case: "memory",
            text: "add memory, or stop what uses it",
        },
        Remedy {
            case: "disk",
            text: "free space, or mount a larger disk there",
        },
        Remedy {
            case: "cpus",
            text: "use a node with more CPUs, or give the virtual machine more",
        },
        Remedy {
            case: "memlock",
            text: "LimitMEMLOCK=infinity in the unit of the container runtime",
        },
    ],
    judge: resources,
};

fn resources(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let mut findings = vec![memory(facts, requirements).on("memory")];
    findings.extend(space(facts, requirements));
    findings.push(cpus(facts, requirements).on("cpus"));
    if let (true, Some(limit)) = (requirements.needs_vfio(), facts.memory.memlock) {
        let shown = if limit == u64::MAX {
            "unlimited".to_owned()
        } else {
            size(limit)
        };
        let evidence = format!("RLIMIT_MEMLOCK: {shown}");
        findings.push(
            if limit < VFIO_OVERHEAD {
                Finding::warn(
                    evidence,
                    "LimitMEMLOCK=infinity in the unit of the container runtime",
                )
            } else {
                Finding::pass(evidence)
            }
            .on("memlock"),
        );
    }
    findings
}

fn memory(facts: &Facts, requirements: &Requirements) -> Finding {
    let Some(total) = facts.memory.total else {
        return Finding::skip(not_read(facts, "/proc/meminfo"));
    };
    let disks = u64::try_from(requirements.ceph_disks.len()).unwrap_or(u64::MAX);
    let wanted = requirements
        .memory
        .saturating_add(OSD.saturating_mul(disks));
    // A machine of 4 GiB shows less: the kernel and the firmware keep some for themselves.
    let tolerated = wanted / 16 * 15;
    let available = facts.memory.available.unwrap_or(total);
    let evidence = format!(
        "/proc/meminfo: {} in all, {} available; {} wanted",
        size(total),
        size(available),
        size(wanted)
    );
    let remedy = "add memory, or stop what uses it";
    if total < tolerated {
        Finding::fail(evidence, remedy)
    } else if available < wanted / 2 {
        Finding::warn(evidence, remedy)
    } else {
        Finding::pass(evidence)
    }
}

fn space(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    if facts.space.is_empty() {
        return vec![Finding::skip("statfs: not asked").on("disk")];
    }
    let single = facts.space.len() == 1;
    facts
        .space
        .iter()
        .map(|space| {
            let evidence = format!(
                "{}: {} free; {} wanted",
                space.path,
                size(space.available),
                size(requirements.disk)
            );
            let finding = if space.read_only {
                Finding::fail(
                    format!("{evidence}; mounted read-only"),
                    "mount it for writing; if the kernel made it read-only after an error (dmesg), repair the file system",
                )
            } else if space.available < requirements.disk {
                Finding::fail(evidence, "free space, or mount a larger disk there")
            } else {
                Finding::pass(evidence)
            };
            finding.on(if single {
                "disk".to_owned()
            } else {
                format!("disk {}", space.path)
            })
        })
        .collect()
}

fn cpus(facts: &Facts, requirements: &Requirements) -> Finding {
    let cpu = &facts.cpu;
    if cpu.logical == 0 {
        return Finding::skip(not_read(facts, "/proc/cpuinfo"));
    }
    let mut evidence = format!(
        "/proc/cpuinfo: {} CPUs; {} wanted",
        cpu.logical, requirements.cpus
    );
    if cpu.sockets > 1 {
        evidence.push_str(&format!("; {} sockets", cpu.sockets));
    }
    if cpu.logical < requirements.cpus {
        Finding::warn(
            evidence,
            "use a node with more CPUs, or give the virtual machine more",
        )
    } else {
        Finding::pass(evidence)
    }
}

pub(crate) static SWAP: Check = Check {
    id: "swap",
    title: "no swap is in use",
    reads: &["/proc/swaps"],
    why: "the kubelet refuses to start with swap unless told otherwise, and a guest whose memory is swapped out stands still",
    judged: "Passes without swap areas, or when the inventory allows swap; warns otherwise.",
    remedies: &[Remedy {
        case: "always",
        text: "swapoff -a, and take the swap lines out of /etc/fstab and systemd's swap units (zram: remove zram-generator)",
    }],
    judge: swap,
};

fn swap(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let Some(swaps) = &facts.swaps else {
        return Finding::skip(not_read(facts, "/proc/swaps")).alone();
    };
    if swaps.is_empty() {
        return Finding::pass("/proc/swaps: none").alone();
    }
    let areas: Vec<String> = swaps.iter().map(|swap| swap.path.clone()).collect();
    let shown: Vec<String> = swaps
        .iter()
        .map(|swap| {
            format!(
                "{} {} ({} used)",
                swap.path,
                size(swap.size),
                size(swap.used)
            )
        })
        .collect();
    let evidence = format!("/proc/swaps: {}", super::some_of(&shown, 4));
    if requirements.allow_swap {
        return Finding::pass(format!("{evidence}; the inventory allows it")).alone();
    }
    Finding::warn(
        evidence,
        "swapoff -a, and take the swap lines out of /etc/fstab and systemd's swap units (zram: remove zram-generator)",
    )
    .fixed_by(Fix::SwapOff { areas })
    .alone()
}
