//! Disks for Ceph, and what an earlier Ceph left.

use super::{GIB, size, some_of};
use crate::catalogue::{Check, Remedy};
use crate::facts::{BlockDevice, BlockKind, Facts, Signature, SignatureKind};
use crate::finding::Finding;
use crate::requirements::Requirements;

/// Rook takes no device smaller than this for an OSD.
const SMALLEST: u64 = 5 * GIB;

const NAME_AGAIN: &str = "the wipe is done only for a disk named again: wipe in the inventory, or --wipe with the by-id path typed back";

pub(crate) static CEPH: Check = Check {
    id: "disk.ceph",
    title: "each disk for Ceph is the right one, empty and free",
    reads: &[
        "/sys/block/ (all buses, NVMe included), holders, partitions, size, ro, removable",
        "/dev/disk/by-id/",
        "/proc/self/mountinfo, /proc/swaps",
        "both ends of the disk: MBR, GPT and its backup, LVM LABELONE, bluestore, LUKS, RAID, file systems",
    ],
    why: "Ceph passes over a disk that has anything on it without a word, and a wiped disk does not come back",
    judged: "For each disk that the inventory names: passes when exactly one disk answers, nothing uses it and nothing is written on it. Fails when none or several answer, when it is mounted, swap, held by LVM, RAID, crypt or multipath, read-only, too small (5 GiB), or when something is written on it; the last is a warning when the inventory names the disk for wiping. Skipped when no disk is asked for, and then lists the free ones.",
    remedies: &[
        Remedy {
            case: "something is written on it",
            text: "look at what is on it, then wipefs --all and sgdisk --zap-all on its by-id path; for LVM vgremove first",
        },
        Remedy {
            case: "old OSD",
            text: "if its cluster still lives, take the OSD out there first (ceph osd purge); then wipe as above",
        },
        Remedy {
            case: "in use",
            text: "name another disk, or unmount it, swapoff it, or take it out of its volume group or array",
        },
        Remedy {
            case: "not found",
            text: "correct the inventory: name disks by /dev/disk/by-id, which a reboot does not change",
        },
        Remedy {
            case: "always",
            text: NAME_AGAIN,
        },
    ],
    judge: ceph,
};

/// The partitions of `disk`, and all that is built on it.
fn above<'a>(facts: &'a Facts, disk: &'a BlockDevice) -> Vec<&'a BlockDevice> {
    let mut all: Vec<&BlockDevice> = Vec::new();
    let mut open = vec![disk.name.as_str()];
    while let Some(name) = open.pop() {
        for device in &facts.disks {
            let on_it = device.parent.as_deref() == Some(name)
                || facts
                    .disks
                    .iter()
                    .any(|below| below.name == name && below.holders.contains(&device.name));
            if on_it
                && device.name != disk.name
                && !all.iter().any(|known| known.name == device.name)
            {
                all.push(device);
                open.push(device.name.as_str());
            }
        }
    }
    all
}

/// What uses a device or something on it, in words.
fn uses(facts: &Facts, disk: &BlockDevice) -> Vec<String> {
    let mut found = Vec::new();
    let above = above(facts, disk);
    for device in std::iter::once(disk).chain(above.iter().copied()) {
        for mount in &device.mounts {
            found.push(format!("{} is mounted on {mount}", device.path()));
        }
        if device.swap {
            found.push(format!("{} is swap", device.path()));
        }
        for holder in &device.holders {
            let name = facts
                .disks
                .iter()
                .find(|known| known.name == *holder)
                .and_then(|known| known.dm_name.as_deref());
            found.push(match name {
                Some(name) => format!("{} is held by {holder} ({name})", device.path()),
                None => format!("{} is held by {holder}", device.path()),
            });
        }
    }
    if found.is_empty() && disk.exclusive == Some(false) {
        found.push(format!("{}: the kernel holds it (EBUSY)", disk.path()));
    }
    found
}

/// What is written on a device and its partitions, in words.
fn writings(facts: &Facts, disk: &BlockDevice) -> Vec<String> {
    let word = |device: &BlockDevice, signature: &Signature| {
        let detail = if signature.detail.is_empty() {
            String::new()
        } else {
            format!(" {}", signature.detail)
        };
        format!("{}: {}{detail}", device.path(), signature.kind.name())
    };
    let partitions = facts
        .disks
        .iter()
        .filter(|device| device.parent.as_deref() == Some(disk.name.as_str()));
    let mut found: Vec<String> = std::iter::once(disk)
        .chain(partitions.clone())
        .flat_map(|device| {
            device
                .signatures
                .iter()
                .map(|s| word(device, s))
                .collect::<Vec<_>>()
        })
        .collect();
    if disk.signatures.is_empty() {
        found.extend(partitions.map(|device| format!("{}: a partition", device.path())));
    }
    found
}

fn ceph(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let free: Vec<String> = facts
        .disks
        .iter()
        .filter(|disk| disk.kind == BlockKind::Disk && disk.removable != Some(true))
        .filter(|disk| disk.size >= SMALLEST && disk.inspected && disk.read_only != Some(true))
        .filter(|disk| uses(facts, disk).is_empty() && writings(facts, disk).is_empty())
        .map(|disk| format!("{} ({})", disk.stable_path(), size(disk.size)))
        .collect();
    let free = if free.is_empty() {
        "no free disk here".to_owned()
    } else {
        format!("free here: {}", some_of(&free, 6))
    };
    if requirements.ceph_disks.is_empty() {
        return Finding::skip(format!("no disk is asked for; {free}")).alone();
    }
    if facts.disks.is_empty() && facts.unread_reason("/sys/block").is_some() {
        return Finding::skip(super::not_read(facts, "/sys/block")).alone();
    }
    requirements
        .ceph_disks
        .iter()
        .map(|wanted| one(facts, requirements, wanted, &free).on(wanted))
        .collect()
}

fn one(facts: &Facts, requirements: &Requirements, wanted: &str, free: &str) -> Finding {
    let found: Vec<&BlockDevice> = facts
        .disks
        .iter()
        .filter(|disk| disk.answers_to(wanted))
        .collect();
    let disk = match found.as_slice() {
        [disk] => *disk,
        [] => {
            return Finding::fail(
                format!("/sys/block: no disk answers to {wanted}; {free}"),
                "correct the inventory: name disks by /dev/disk/by-id, which a reboot does not change",
            );
        }
        several => {
            let paths: Vec<String> = several.iter().map(|disk| disk.path()).collect();
            return Finding::fail(
                format!(
                    "/sys/block: {} disks answer to {wanted}: {}",
                    several.len(),
                    paths.join(", ")
                ),
                "name one of them by a link of /dev/disk/by-id or by-path that only it has; several paths to one disk belong under multipath",
            );
        }
    };
    let evidence = format!(
        "{}: {}{}",
        disk.path(),
        size(disk.size),
        disk.model
            .as_deref()
            .map_or(String::new(), |model| format!(", {model}"))
    );
    let used = uses(facts, disk);
    if !used.is_empty() {
        return Finding::fail(
            format!("{evidence}; {}", some_of(&used, 6)),
            "name another disk, or unmount it, swapoff it, or take it out of its volume group or array",
        );
    }
    if disk.kind == BlockKind::Other {
        return Finding::fail(
            format!("{evidence}; neither a disk nor a partition"),
            "name a disk, a partition or a logical volume",
        );
    }
    if disk.read_only == Some(true) {
        return Finding::fail(
            format!("{evidence}; /sys/block/{}/ro: 1", disk.name),
            "take off the write protection, or name another disk",
        );
    }
    if disk.size < SMALLEST {
        return Finding::fail(
            format!("{evidence}; expected {} at least", size(SMALLEST)),
            "name a larger disk",
        );
    }
    let written = writings(facts, disk);
    if !written.is_empty() {
        return occupied(requirements, wanted, disk, &evidence, &written);
    }
    if !disk.inspected {
        return Finding::warn(
            format!(
                "{evidence}; what is on it could not be read: {}",
                super::not_read(facts, &disk.path())
            ),
            "run the check as root, and look at the disk's health (smartctl -a)",
        );
    }
    let kind = match disk.rotational {
        Some(true) => ", rotating",
        Some(false) => ", solid state",
        None => "",
    };
    if disk.removable == Some(true) {
        return Finding::warn(
            format!("{evidence}{kind}; /sys/block/{}/removable: 1", disk.name),
            "name a disk that stays in the machine",
        );
    }
    Finding::pass(format!("{evidence}{kind}; nothing on it, nothing uses it"))
}

fn occupied(
    requirements: &Requirements,
    wanted: &str,
    disk: &BlockDevice,
    evidence: &str,
    written: &[String],
) -> Finding {
    let evidence = format!("{evidence}; {}", some_of(written, 6));
    let named = requirements
        .wipe
        .iter()
        .any(|name| name == wanted || disk.answers_to(name));
    if named {
        return Finding::warn(
            format!("{evidence}; the inventory names it for wiping"),
            "look at what is on it once more: the wipe does not ask again",
        );
    }
    let path = disk.stable_path();
    let has = |kind| {
        disk.signatures
            .iter()
            .any(|signature| signature.kind == kind)
    };
    let first = if has(SignatureKind::Bluestore) {
        "if its Ceph cluster still lives, take the OSD out there first (ceph osd purge); then "
    } else if has(SignatureKind::Lvm) {
        "look at what is on it (pvs, lvs) and vgremove its volume group; then "
    } else {
        "look at what is on it; then "
    };
    let wipe = if disk.kind == BlockKind::Disk {
        format!("wipefs --all {path} && sgdisk --zap-all {path}")
    } else {
        format!("wipefs --all {path}")
    };
    Finding::fail(evidence, format!("{first}{wipe}; {NAME_AGAIN}"))
}

pub(crate) static STALE: Check = Check {
    id: "ceph.stale",
    title: "no earlier Ceph cluster is left on the node",
    reads: &[
        "/var/lib/rook",
        "/var/lib/ceph",
        "/dev/mapper/ceph-*",
        "/proc/*/comm",
    ],
    why: "a monitor that finds another cluster's keys does not start, and mapped volumes keep their disks busy",
    judged: "Where Ceph is asked for: passes when nothing is there, or when Ceph runs and it is its own; fails for a filled /var/lib/rook or mapped ceph volumes without a running Ceph, warns for a filled /var/lib/ceph. Otherwise skipped.",
    remedies: &[
        Remedy {
            case: "/var/lib/rook",
            text: "if that cluster is gone for good, remove /var/lib/rook; else join the node to it again",
        },
        Remedy {
            case: "mapped volumes",
            text: "vgremove the volume group named ceph-*, or dmsetup remove what a removed disk left",
        },
    ],
    judge: stale,
};

fn stale(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let ceph = &facts.ceph;
    let rook = ceph.rook.as_deref().unwrap_or_default();
    let lib = ceph.lib.as_deref().unwrap_or_default();
    let mut left = Vec::new();
    if !rook.is_empty() {
        left.push(format!("/var/lib/rook: {}", some_of(rook, 4)));
    }
    if !ceph.mapper.is_empty() {
        left.push(format!("/dev/mapper: {}", some_of(&ceph.mapper, 4)));
    }
    if !lib.is_empty() {
        left.push(format!("/var/lib/ceph: {}", some_of(lib, 4)));
    }
    let evidence = if left.is_empty() {
        "/var/lib/rook, /dev/mapper/ceph-*: nothing".to_owned()
    } else {
        left.join("; ")
    };
    if !requirements.needs_ceph() {
        return Finding::skip(format!("{evidence}; Ceph is not asked for")).alone();
    }
    if left.is_empty() {
        return Finding::pass(evidence).alone();
    }
    if !ceph.processes.is_empty() {
        return Finding::pass(format!(
            "{evidence}; in use by {}",
            some_of(&ceph.processes, 4)
        ))
        .alone();
    }
    let remedy = "if that cluster is gone for good, remove /var/lib/rook and the volume groups named ceph-* (vgremove); else join the node to it again";
    if rook.is_empty() && ceph.mapper.is_empty() {
        return Finding::warn(
            evidence,
            "if that cluster is gone for good, remove /var/lib/ceph",
        )
        .alone();
    }
    Finding::fail(evidence, remedy).alone()
}
