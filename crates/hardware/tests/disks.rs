//! Hugepages and disks: what each state of a node is judged to be.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use hardware::Status::{Fail, Pass, Skip, Warn};
use hardware::facts::*;
use hardware::{Fix, HugepagesWanted};
use world::*;

#[test]
fn hugepages() {
    run(&[
        case(
            "none",
            "hugepages",
            |f, _| f.memory.hugepages[0].total = 0,
            Fail,
            "nr_hugepages: 0 (8 free); 4 asked for",
            "hugepagesz=1G hugepages=0:4",
        ),
        case(
            "in use",
            "hugepages",
            |f, _| f.memory.hugepages[0].free = 1,
            Warn,
            "8 (1 free)",
            "something uses them",
        ),
        case(
            "CPU without them",
            "hugepages",
            |f, _| f.cpu.flags.retain(|x| x != "pdpe1gb"),
            Fail,
            "no pages of 1.0 GiB",
            "2 MiB",
        ),
        case(
            "wrong node",
            "hugepages",
            |_, r| r.hugepages[0].node = Some(5),
            Fail,
            "no node 5; there are 0",
            "inventory",
        ),
        case(
            "more than there is",
            "hugepages",
            |_, r| r.hugepages[0].count = 200,
            Fail,
            "memory there: 128.0 GiB",
            "add memory",
        ),
        case(
            "small pages",
            "hugepages",
            |_, r| {
                r.hugepages[0] = HugepagesWanted {
                    size: 2 << 20,
                    count: 64,
                    node: None,
                }
            },
            Fail,
            "64 asked for",
            "echo 64 > /sys/devices",
        ),
        case(
            "nobody asks",
            "hugepages",
            |_, r| r.hugepages.clear(),
            Skip,
            "nr_hugepages: 8; no hugepages are asked for",
            "",
        ),
        case(
            "unread",
            "hugepages",
            |f, _| f.memory.hugepages.clear(),
            Skip,
            "not read",
            "",
        ),
    ]);
    let mut facts = node();
    facts.memory.hugepages[0].total = 0;
    let verdict = of(&facts, &asked(), "hugepages").remove(0);
    assert_eq!(
        verdict.fix,
        Some(Fix::Hugepages {
            size: GIB,
            count: 4,
            node: Some(0)
        })
    );
}

#[test]
fn disks_for_ceph() {
    run(&[
        case(
            "not there",
            "disk.ceph",
            |f, _| {
                f.disks.pop();
            },
            Fail,
            "no disk answers",
            "by-id",
        ),
        case(
            "two of one serial",
            "disk.ceph",
            |f, r| {
                r.ceph_disks = vec!["S1".into()];
                spare(f).serial = Some("S1".into());
                f.disks.push(BlockDevice {
                    serial: Some("S1".into()),
                    ..disk("nvme1n1", 1 << 40, &[])
                });
            },
            Fail,
            "2 disks answer to S1: /dev/nvme0n1, /dev/nvme1n1",
            "multipath",
        ),
        case(
            "by serial",
            "disk.ceph",
            |f, r| {
                r.ceph_disks = vec!["S1".into()];
                spare(f).serial = Some("S1".into());
            },
            Pass,
            "/dev/nvme0n1: 1920.0 GiB",
            "",
        ),
        case(
            "the disk of the system",
            "disk.ceph",
            |_, r| r.ceph_disks = vec!["/dev/sda".into()],
            Fail,
            "/dev/sda1 is mounted on /",
            "another disk",
        ),
        case(
            "a mounted partition",
            "disk.ceph",
            |_, r| r.ceph_disks = vec!["sda1".into()],
            Fail,
            "mounted on /",
            "another disk",
        ),
        case(
            "swap",
            "disk.ceph",
            |f, _| spare(f).swap = true,
            Fail,
            "is swap",
            "swapoff",
        ),
        case(
            "held by LVM",
            "disk.ceph",
            |f, _| {
                spare(f).holders = vec!["dm-0".into()];
                f.disks.insert(
                    0,
                    BlockDevice {
                        kind: BlockKind::Mapper,
                        dm_name: Some("vg-lv".into()),
                        ..disk("dm-0", 1, &[])
                    },
                );
            },
            Fail,
            "held by dm-0 (vg-lv)",
            "volume group",
        ),
        case(
            "the kernel holds it",
            "disk.ceph",
            |f, _| spare(f).exclusive = Some(false),
            Fail,
            "EBUSY",
            "another disk",
        ),
        case(
            "old OSD",
            "disk.ceph",
            |f, _| {
                spare(f)
                    .signatures
                    .push(signature(SignatureKind::Bluestore, "osd"))
            },
            Fail,
            "Ceph OSD (bluestore) osd",
            "ceph osd purge); then wipefs --all /dev/disk/by-id/nvme-SAMSUNG_S1 && sgdisk",
        ),
        case(
            "LVM",
            "disk.ceph",
            |f, _| spare(f).signatures.push(signature(SignatureKind::Lvm, "")),
            Fail,
            "LVM physical volume",
            "vgremove",
        ),
        case(
            "backup GPT only",
            "disk.ceph",
            |f, _| {
                spare(f)
                    .signatures
                    .push(signature(SignatureKind::GptBackup, ""))
            },
            Fail,
            "backup GPT",
            "sgdisk --zap-all",
        ),
        case(
            "a partition nobody signed",
            "disk.ceph",
            |f, _| {
                f.disks.push(BlockDevice {
                    kind: BlockKind::Partition,
                    parent: Some("nvme0n1".into()),
                    ..disk("nvme0n1p1", 1 << 30, &[])
                })
            },
            Fail,
            "/dev/nvme0n1p1: a partition",
            "wipe",
        ),
        case(
            "named for wiping",
            "disk.ceph",
            |f, r| {
                spare(f)
                    .signatures
                    .push(signature(SignatureKind::Bluestore, ""));
                r.wipe = vec![DISK.into()];
            },
            Warn,
            "names it for wiping",
            "once more",
        ),
        case(
            "named for wiping, and mounted",
            "disk.ceph",
            |f, r| {
                spare(f).mounts.push("/data".into());
                r.wipe = vec![DISK.into()];
            },
            Fail,
            "mounted on /data",
            "another",
        ),
        case(
            "read-only",
            "disk.ceph",
            |f, _| spare(f).read_only = Some(true),
            Fail,
            "ro: 1",
            "write protection",
        ),
        case(
            "small",
            "disk.ceph",
            |f, _| spare(f).size = 4 * GIB,
            Fail,
            "expected 5.0 GiB",
            "larger",
        ),
        case(
            "a loop device",
            "disk.ceph",
            |f, _| spare(f).kind = BlockKind::Other,
            Fail,
            "neither a disk",
            "name a disk",
        ),
        case(
            "removable",
            "disk.ceph",
            |f, _| spare(f).removable = Some(true),
            Warn,
            "removable: 1",
            "stays",
        ),
        case(
            "not inspected",
            "disk.ceph",
            |f, _| spare(f).inspected = false,
            Warn,
            "could not be read",
            "root",
        ),
        case(
            "nobody asks",
            "disk.ceph",
            |_, r| r.ceph_disks.clear(),
            Skip,
            "free here: /dev/disk/by-id/nvme-SAMSUNG_S1 (1920.0 GiB)",
            "",
        ),
        case(
            "unread",
            "disk.ceph",
            |f, _| {
                f.disks.clear();
                f.unread.push(Unread {
                    path: "/sys/block".into(),
                    error: "denied".into(),
                });
            },
            Skip,
            "denied",
            "",
        ),
        case(
            "old cluster",
            "ceph.stale",
            |f, _| f.ceph.rook = Some(vec!["mon-a".into()]),
            Fail,
            "/var/lib/rook: mon-a",
            "remove /var/lib/rook",
        ),
        case(
            "mapped volumes",
            "ceph.stale",
            |f, _| f.ceph.mapper = vec!["ceph-1".into()],
            Fail,
            "/dev/mapper: ceph-1",
            "vgremove",
        ),
        case(
            "its own cluster runs",
            "ceph.stale",
            |f, _| {
                f.ceph.rook = Some(vec!["mon-a".into()]);
                f.ceph.processes = vec!["ceph-mon".into()];
            },
            Pass,
            "in use by ceph-mon",
            "",
        ),
        case(
            "/var/lib/ceph only",
            "ceph.stale",
            |f, _| f.ceph.lib = Some(vec!["osd".into()]),
            Warn,
            "/var/lib/ceph: osd",
            "remove",
        ),
        case(
            "empty directory",
            "ceph.stale",
            |f, _| f.ceph.rook = Some(Vec::new()),
            Pass,
            "nothing",
            "",
        ),
        case(
            "nobody asks",
            "ceph.stale",
            |f, r| {
                f.ceph.rook = Some(vec!["x".into()]);
                r.ceph_disks.clear();
                r.roles.pop();
            },
            Skip,
            "not asked for",
            "",
        ),
    ]);
}
