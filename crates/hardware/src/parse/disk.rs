//! What is on a disk, from bytes of its beginning and its end.
//!
//! ```text
//!   0        1 MiB                                    size - 1 MiB      size
//!   ├─ head ──┤   never read                             ├──── tail ──────┤
//! ```
//! The offsets are those of the formats' own documents, as wipefs and blkid
//! look for them. A signature at either end is enough: a disk whose beginning
//! was zeroed still has its GPT's copy and its RAID superblock at the end.

use super::gpt;
use super::text::{array, le32, padded};
use crate::facts::{Signature, SignatureKind};

/// Bytes to read at each end: holds every signature looked for, among them the
/// ZFS labels (the first at 0, the last in the last 512 KiB).
pub const WINDOW: usize = 1 << 20;

/// Fixed bytes at a fixed place of the beginning: what it is, its type where that
/// says more, offset, bytes.
const FIXED: [(SignatureKind, &str, usize, &[u8]); 19] = [
    (SignatureKind::Bluestore, "", 0, b"bluestore block device"),
    (SignatureKind::Luks, "LUKS1", 0, b"LUKS\xba\xbe\x00\x01"),
    (SignatureKind::Luks, "LUKS2", 0, b"LUKS\xba\xbe\x00\x02"),
    (SignatureKind::Filesystem, "xfs", 0, b"XFSB"),
    (SignatureKind::Filesystem, "ext", 1080, b"\x53\xef"),
    (SignatureKind::Filesystem, "btrfs", 0x1_0040, b"_BHRfS_M"),
    (SignatureKind::Filesystem, "ntfs", 3, b"NTFS    "),
    (SignatureKind::Filesystem, "exfat", 3, b"EXFAT   "),
    (SignatureKind::Filesystem, "vfat", 82, b"FAT32   "),
    (SignatureKind::Filesystem, "vfat", 54, b"FAT1"),
    (SignatureKind::Filesystem, "iso9660", 0x8001, b"CD001"),
    (SignatureKind::Filesystem, "squashfs", 0, b"hsqs"),
    (SignatureKind::Filesystem, "f2fs", 1024, b"\x10\x20\xf5\xf2"),
    (SignatureKind::Swap, "", 4086, b"SWAPSPACE2"),
    (SignatureKind::Swap, "hibernated", 4086, b"S1SUSPEND"),
    (SignatureKind::Raid, "1.1", 0, b"\xfc\x4e\x2b\xa9"),
    (SignatureKind::Raid, "1.2", 4096, b"\xfc\x4e\x2b\xa9"),
    (
        SignatureKind::Other,
        "bcache",
        4096 + 24,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
    ),
    (SignatureKind::Other, "DRBD", 0, b"\x83\x74\x02\x6b"),
];

/// Every signature in `head`, the disk's beginning, and `tail`, its end; `size`
/// is the disk's, in bytes. A disk shorter than both windows may give them
/// overlapping.
#[must_use]
pub fn signatures(head: &[u8], tail: &[u8], size: u64) -> Vec<Signature> {
    let mut found = Vec::new();
    for (kind, name, offset, bytes) in FIXED {
        let end = offset.saturating_add(bytes.len());
        if head.get(offset..end) == Some(bytes) {
            found.push(Signature {
                kind,
                offset: offset as u64,
                detail: detail(kind, name, head),
            });
        }
    }
    found.extend(lvm(head));
    found.extend(zfs(head));
    found.extend(partitions(head, tail, size));
    found.extend(raid_at_end(tail, size));
    found
}

/// Nothing but zeros (what a disk gives that was never written, or wiped).
#[must_use]
pub fn blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn detail(kind: SignatureKind, name: &str, head: &[u8]) -> String {
    let field = |range: std::ops::Range<usize>| padded(head.get(range).unwrap_or_default());
    let label = match (kind, name) {
        // The superblock begins at 1024: s_volume_name at 0x78.
        (_, "ext") => field(1024 + 0x78..1024 + 0x88),
        (_, "xfs") => field(108..120),
        (_, "LUKS1" | "LUKS2") => field(168..208),
        // The OSD's id follows the text and a line feed.
        (SignatureKind::Bluestore, _) => field(23..59),
        (_, "btrfs") => field(0x1_0000 + 0x12b..0x1_0000 + 0x22b),
        _ => String::new(),
    };
    [name, &label]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// `LABELONE` stands in one of the first four sectors (LVM2's on-disk format).
fn lvm(head: &[u8]) -> Option<Signature> {
    (0..4).map(|sector| sector * 512).find_map(|at| {
        if head.get(at..at + 8)? != b"LABELONE" {
            return None;
        }
        // The label says where the header with the volume's id is.
        let body = at.saturating_add(usize::try_from(le32(head, at + 20)?).ok()?);
        let end = body.saturating_add(32);
        Some(Signature {
            kind: SignatureKind::Lvm,
            offset: at as u64,
            detail: padded(head.get(body..end).unwrap_or_default()),
        })
    })
}

/// An uberblock of the first label: they begin at 128 KiB, 1 KiB or more apart.
fn zfs(head: &[u8]) -> Option<Signature> {
    (128 * 1024..256 * 1024).step_by(1024).find_map(|at| {
        let magic: [u8; 8] = array(head, at)?;
        let zfs = 0x00ba_b10c_u64;
        (magic == zfs.to_le_bytes() || magic == zfs.to_be_bytes()).then(|| Signature {
            kind: SignatureKind::Zfs,
            offset: at as u64,
            detail: String::new(),
        })
    })
}

fn partitions(head: &[u8], tail: &[u8], size: u64) -> Vec<Signature> {
    let mut found = Vec::new();
    let listed = |gpt: &gpt::Gpt| {
        let names: Vec<String> = gpt.partitions.iter().map(describe).collect();
        match names.len() {
            0 => "no partitions".to_owned(),
            _ => names.join(", "),
        }
    };
    if let Some(gpt) = gpt::primary(head) {
        found.push(Signature {
            kind: SignatureKind::Gpt,
            offset: gpt.block,
            detail: listed(&gpt),
        });
    } else if let Some(kinds) = gpt::mbr(head).filter(|kinds| !kinds.is_empty()) {
        let kinds: Vec<String> = kinds.iter().map(|kind| format!("{kind:#04x}")).collect();
        found.push(Signature {
            kind: SignatureKind::Mbr,
            offset: 510,
            detail: format!("partitions of type {}", kinds.join(", ")),
        });
    }
    if let Some(gpt) = gpt::backup(tail) {
        found.push(Signature {
            kind: SignatureKind::GptBackup,
            offset: size.saturating_sub(gpt.block),
            detail: listed(&gpt),
        });
    }
    found
}

fn describe(partition: &gpt::Partition) -> String {
    let kind = gpt::ceph_use(&partition.kind).unwrap_or(&partition.kind);
    match partition.name.as_str() {
        "" => kind.to_owned(),
        name => format!("{name} ({kind})"),
    }
}

/// Superblocks 1.0 (8 KiB before the end, on a 4 KiB boundary) and 0.90 (the
/// last whole 64 KiB) of Linux RAID stand at the end.
fn raid_at_end(tail: &[u8], size: u64) -> Vec<Signature> {
    let start = size.saturating_sub(tail.len() as u64);
    let places = [
        (
            "Linux RAID 1.0",
            size.checked_sub(8192).map(|at| at & !4095),
        ),
        ("Linux RAID 0.90", (size & !0xffff).checked_sub(0x1_0000)),
    ];
    places
        .into_iter()
        .filter_map(|(version, offset)| {
            let offset = offset?;
            let at = usize::try_from(offset.checked_sub(start)?).ok()?;
            (le32(tail, at)? == 0xa92b_4efc).then(|| Signature {
                kind: SignatureKind::Raid,
                offset,
                detail: version.to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(head: &[u8], tail: &[u8], size: u64) -> Vec<SignatureKind> {
        signatures(head, tail, size)
            .into_iter()
            .map(|signature| signature.kind)
            .collect()
    }

    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut disk = vec![0; WINDOW];
        disk[at..at + bytes.len()].copy_from_slice(bytes);
        disk
    }

    #[test]
    fn each_format_is_known_by_its_bytes() {
        let mut lvm = with(512, b"LABELONE");
        lvm[512 + 20] = 32;
        lvm[512 + 24..512 + 32].copy_from_slice(b"LVM2 001");
        lvm[544..547].copy_from_slice(b"abc");
        let zfs = with(128 * 1024, &0x00ba_b10c_u64.to_le_bytes());
        for (head, expected) in [
            (
                with(0, b"bluestore block device\n1234\n"),
                SignatureKind::Bluestore,
            ),
            (with(0, b"LUKS\xba\xbe\x00\x02"), SignatureKind::Luks),
            (with(1080, b"\x53\xef"), SignatureKind::Filesystem),
            (with(0, b"XFSB"), SignatureKind::Filesystem),
            (with(4086, b"SWAPSPACE2"), SignatureKind::Swap),
            (with(4096, b"\xfc\x4e\x2b\xa9"), SignatureKind::Raid),
            (lvm, SignatureKind::Lvm),
            (zfs, SignatureKind::Zfs),
        ] {
            assert_eq!(kinds(&head, &[], 1 << 30), [expected]);
        }
        assert!(kinds(&with(0, b""), &[], 1 << 30).is_empty());
    }

    #[test]
    fn the_end_alone_tells_of_a_disk_whose_beginning_was_zeroed() {
        let size: u64 = 10 << 30;
        let mut tail = vec![0; WINDOW];
        let at = WINDOW - 8192;
        tail[at..at + 4].copy_from_slice(&0xa92b_4efc_u32.to_le_bytes());
        let found = signatures(&vec![0; WINDOW], &tail, size);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].kind, SignatureKind::Raid);
        assert_eq!(found[0].offset, size - 8192);
    }

    #[test]
    fn a_label_or_an_id_is_the_detail() {
        let head = with(0, b"bluestore block device\n0a1b-2c\n");
        assert_eq!(signatures(&head, &[], 1 << 30)[0].detail, "0a1b-2c");
    }
}
