//! Block devices, what is written at both their ends, and what Ceph left.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hardware::facts::{BlockDevice, BlockKind, Ceph, Signature, Swap};
use hardware::parse::disk::{self as parse, WINDOW};
use hardware::parse::mounts::{Mount, mountinfo};
use rustix::fs::{FileType, Mode, OFlags};

use super::process::Process;
use crate::tree::Tree;

const BLOCKS: &str = "/sys/block";
/// Folders of /dev/disk whose links matter.
const LINKS: [&str; 5] = ["by-id", "by-path", "by-uuid", "by-partuuid", "by-label"];
/// sysfs counts in these, whatever the disk's own block size is.
const SECTOR: u64 = 512;

/// Every block device with a size, and its partitions.
pub(super) fn disks(tree: &Tree, swaps: Option<&[Swap]>, limit: Duration) -> Vec<BlockDevice> {
    let links = links(tree);
    let mounts = mountinfo(&tree.expected("/proc/self/mountinfo").unwrap_or_default());
    let mut found = Vec::new();
    for name in tree.list(BLOCKS).unwrap_or_default() {
        let folder = format!("{BLOCKS}/{name}");
        let Some(disk) = device(tree, &name, &folder, None, &mounts) else {
            continue;
        };
        let entries = tree.list(&folder).unwrap_or_default();
        let partitions: Vec<BlockDevice> = entries
            .iter()
            .filter(|entry| tree.exists(&format!("{folder}/{entry}/partition")))
            .filter_map(|entry| {
                let folder = format!("{folder}/{entry}");
                device(tree, entry, &folder, Some(&name), &mounts)
            })
            .collect();
        found.push(disk);
        found.extend(partitions);
    }
    for device in &mut found {
        device.links = links.get(&device.name).cloned().unwrap_or_default();
        let mapped = mapped(device.dm_name.as_deref());
        device.swap = swaps.unwrap_or_default().iter().any(|swap| {
            swap.path == device.path()
                || mapped.as_ref() == Some(&swap.path)
                || device.links.contains(&swap.path)
        });
    }
    inspect(tree, &mut found, limit);
    found
}

fn mapped(dm_name: Option<&str>) -> Option<String> {
    dm_name.map(|name| format!("/dev/mapper/{name}"))
}

/// A device from its folder; `None` without a size: empty loops, drives without a medium.
fn device(
    tree: &Tree,
    name: &str,
    folder: &str,
    parent: Option<&str>,
    mounts: &[Mount],
) -> Option<BlockDevice> {
    let file = |entry: &str| format!("{folder}/{entry}");
    let size = tree.number(&file("size"))?.saturating_mul(SECTOR);
    if size == 0 {
        return None;
    }
    let number = tree.line(&file("dev")).unwrap_or_default();
    let first = |entries: &[&str]| {
        entries
            .iter()
            .find_map(|entry| tree.quiet_line(&file(entry)))
    };
    // A partition has no queue of its own.
    let disk = parent.map_or_else(|| folder.to_owned(), |disk| format!("{BLOCKS}/{disk}"));
    let dm_name = tree.line(&file("dm/name"));
    let mapped = mapped(dm_name.as_deref());
    Some(BlockDevice {
        kind: kind(tree, name, folder, parent),
        parent: parent.map(str::to_owned),
        model: first(&["device/model"]),
        serial: first(&["serial", "device/serial"]).or_else(|| {
            let page = tree.bytes_within(&file("device/vpd_pg80"), 4096).ok()?;
            vpd_serial(&page)
        }),
        wwn: first(&["wwid", "device/wwid"]),
        size,
        block_size: tree
            .number(&format!("{disk}/queue/logical_block_size"))
            .and_then(|size| u32::try_from(size).ok()),
        rotational: tree.flag(&format!("{disk}/queue/rotational")),
        removable: tree.flag(&format!("{disk}/removable")),
        read_only: tree.flag(&file("ro")),
        holders: tree.list(&file("holders")).unwrap_or_default(),
        dm_uuid: tree.line(&file("dm/uuid")),
        mounts: mounts
            .iter()
            .filter(|mount| {
                mount.device == number
                    || mount.source == format!("/dev/{name}")
                    || mapped.as_ref() == Some(&mount.source)
            })
            .map(|mount| mount.point.clone())
            .collect(),
        dm_name,
        name: name.to_owned(),
        ..BlockDevice::default()
    })
}

fn kind(tree: &Tree, name: &str, folder: &str, parent: Option<&str>) -> BlockKind {
    const OTHER: [&str; 8] = ["loop", "ram", "zram", "nbd", "rbd", "fd", "sr", "mtdblock"];
    let other = OTHER.iter().any(|prefix| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()))
    });
    if parent.is_some() {
        BlockKind::Partition
    } else if tree.exists(&format!("{folder}/dm")) {
        BlockKind::Mapper
    } else if tree.exists(&format!("{folder}/md")) {
        BlockKind::Raid
    } else if other {
        BlockKind::Other
    } else {
        BlockKind::Disk
    }
}

/// The serial in SCSI's page 80h: four bytes of header, then text.
fn vpd_serial(page: &[u8]) -> Option<String> {
    let serial = hardware::parse::text::padded(page.get(4..)?);
    (!serial.is_empty()).then_some(serial)
}

/// Kernel name to the links below /dev/disk that lead to it.
fn links(tree: &Tree) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for folder in LINKS {
        let folder = format!("/dev/disk/{folder}");
        for name in tree.list(&folder).unwrap_or_default() {
            let path = format!("{folder}/{name}");
            if let Some(device) = tree.link_name(&path) {
                found.entry(device).or_default().push(path);
            }
        }
    }
    found
}

/// What reading a device's two ends gave.
struct Ends {
    signatures: Vec<Signature>,
    exclusive: Option<bool>,
}

/// Reads both ends of every device that may hold data of its own. Each is read
/// by a thread of its own: a disk that answers no more blocks only that one.
fn inspect(tree: &Tree, devices: &mut [BlockDevice], limit: Duration) {
    let (send, receive) = mpsc::channel();
    let mut waiting: BTreeMap<usize, String> = BTreeMap::new();
    // In a captured tree a sparse file stands for the device.
    let expected = match tree.live() {
        true => FileType::BlockDevice,
        false => FileType::RegularFile,
    };
    for (index, device) in devices.iter().enumerate() {
        let path = device.path();
        if device.kind == BlockKind::Other || tree.kind(&path) != Some(expected) {
            continue;
        }
        let (real, size, live) = (tree.real(&path), device.size, tree.live());
        let send = send.clone();
        let spawned = std::thread::Builder::new()
            .name("disk".to_owned())
            .spawn(move || send.send((index, ends(&real, size, live))));
        match spawned {
            Ok(_) => {
                waiting.insert(index, path);
            }
            Err(error) => tree.note(&path, &error),
        }
    }
    drop(send);
    let end = Instant::now() + limit;
    while !waiting.is_empty() {
        let left = end.saturating_duration_since(Instant::now());
        let Ok((index, result)) = receive.recv_timeout(left) else {
            break;
        };
        let path = waiting.remove(&index).unwrap_or_default();
        match (devices.get_mut(index), result) {
            (Some(device), Ok(ends)) => {
                device.signatures = ends.signatures;
                device.exclusive = ends.exclusive;
                device.inspected = true;
            }
            (_, Err(error)) => tree.note(&path, &error),
            (None, Ok(_)) => {}
        }
    }
    for path in waiting.values() {
        let seconds = limit.as_secs_f32();
        tree.note(path, &format!("could not be read within {seconds:.1} s"));
    }
}

fn ends(path: &Path, size: u64, live: bool) -> io::Result<Ends> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let (head, tail) = windows(&file, size)?;
    drop(file);
    // Asked for reading only, and let go at once: no event reaches udev.
    let exclusive = live
        .then(|| rustix::fs::open(path, flags | OFlags::EXCL, Mode::empty()))
        .and_then(|opened| match opened {
            Ok(_) => Some(true),
            Err(rustix::io::Errno::BUSY) => Some(false),
            Err(_) => None,
        });
    Ok(Ends {
        signatures: parse::signatures(&head, &tail, size),
        exclusive,
    })
}

/// The first and the last [`WINDOW`] bytes, or all of a smaller device.
fn windows(file: &File, size: u64) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let length = usize::try_from(size).unwrap_or(WINDOW).min(WINDOW);
    let mut head = vec![0; length];
    file.read_exact_at(&mut head, 0)?;
    let mut tail = vec![0; length];
    file.read_exact_at(&mut tail, size.saturating_sub(length as u64))?;
    Ok((head, tail))
}

/// What an earlier Ceph cluster left.
pub(super) fn ceph(tree: &Tree, disks: &[BlockDevice], processes: &[Process]) -> Ceph {
    let lib = tree.list("/var/lib/ceph").map(|names| {
        let holds = |name: &String| {
            tree.list(&format!("/var/lib/ceph/{name}"))
                .is_none_or(|entries| !entries.is_empty())
        };
        names.into_iter().filter(holds).collect()
    });
    let mut mapper: Vec<String> = disks
        .iter()
        .filter_map(|disk| disk.dm_name.clone())
        .chain(tree.list("/dev/mapper").unwrap_or_default())
        .filter(|name| name.starts_with("ceph-"))
        .collect();
    mapper.sort();
    mapper.dedup();
    let mut running: Vec<String> = processes
        .iter()
        .filter(|process| process.name.starts_with("ceph-") || process.name == "radosgw")
        .map(|process| process.name.clone())
        .collect();
    running.sort();
    running.dedup();
    Ceph {
        rook: tree.list("/var/lib/rook"),
        lib,
        mapper,
        processes: running,
    }
}
