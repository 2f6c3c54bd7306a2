//! Partition tables: GPT (UEFI specification 2.10, chapter 5) and the MBR.

use super::text::{array, le32, le64};

/// Entries read at most: the 128 that every tool writes.
const ENTRIES: u32 = 128;

/// A partition that a GPT lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// GUID of its type, lower case.
    pub kind: String,
    /// Name in the table; often empty.
    pub name: String,
    /// First block.
    pub first: u64,
    /// Last block, itself in the partition.
    pub last: u64,
}

/// A GPT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpt {
    /// Bytes of a block, as its place on the disk shows: 512 or 4096.
    pub block: u64,
    /// GUID of the disk.
    pub disk: String,
    /// Partitions whose entries are among the bytes read.
    pub partitions: Vec<Partition>,
}

/// The GPT at the beginning of a disk: its header is block 1, its entries where
/// the header says, which is block 2 by custom.
#[must_use]
pub fn primary(head: &[u8]) -> Option<Gpt> {
    [512_usize, 4096].into_iter().find_map(|block| {
        let header = head.get(block..)?;
        let entries = usize::try_from(le64(header, 72)?).ok()?;
        let at = entries.checked_mul(block)?;
        table(header, head.get(at..).unwrap_or_default(), block)
    })
}

/// The copy at the end of a disk: its header is the last block, its entries
/// stand before it. `tail` is the end of the disk.
#[must_use]
pub fn backup(tail: &[u8]) -> Option<Gpt> {
    [512_usize, 4096].into_iter().find_map(|block| {
        let at = tail.len().checked_sub(block)?;
        let header = tail.get(at..)?;
        let (mine, entries) = (le64(header, 24)?, le64(header, 72)?);
        let back = usize::try_from(mine.checked_sub(entries)?).ok()?;
        let start = back
            .checked_mul(block)
            .and_then(|back| at.checked_sub(back));
        let entries = start.and_then(|start| tail.get(start..at));
        table(header, entries.unwrap_or_default(), block)
    })
}

fn table(header: &[u8], entries: &[u8], block: usize) -> Option<Gpt> {
    if header.get(..8)? != b"EFI PART" {
        return None;
    }
    let count = le32(header, 80)?.min(ENTRIES);
    let size = usize::try_from(le32(header, 84)?).ok()?;
    let partitions = if size < 128 {
        Vec::new()
    } else {
        entries
            .chunks_exact(size)
            .take(usize::try_from(count).ok()?)
            .filter_map(partition)
            .collect()
    };
    Some(Gpt {
        block: block as u64,
        disk: guid(&array(header, 56)?),
        partitions,
    })
}

fn partition(entry: &[u8]) -> Option<Partition> {
    let kind: [u8; 16] = array(entry, 0)?;
    if kind == [0; 16] {
        return None;
    }
    let name: Vec<u16> = entry
        .get(56..128)?
        .chunks_exact(2)
        .filter_map(|pair| Some(u16::from_le_bytes(pair.try_into().ok()?)))
        .take_while(|unit| *unit != 0)
        .collect();
    Some(Partition {
        kind: guid(&kind),
        name: String::from_utf16_lossy(&name),
        first: le64(entry, 32)?,
        last: le64(entry, 40)?,
    })
}

/// Text of a GUID: its first three fields are little-endian.
fn guid(bytes: &[u8; 16]) -> String {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::with_capacity(36);
    for (position, from) in order.into_iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let byte = bytes.get(from).copied().unwrap_or_default();
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(digit), 16));
        }
    }
    text
}

/// What Ceph used a partition for, from its type (ceph-disk's GUIDs, before
/// Nautilus; ceph-volume uses LVM or the whole disk).
#[must_use]
pub fn ceph_use(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "4fbd7e29-9d25-41b8-afd0-062c0ceff05d" => "Ceph OSD",
        "45b0969e-9b03-4f30-b4c6-b4b80ceff106" => "Ceph journal",
        "cafecafe-9b03-4f30-b4c6-b4b80ceff106" => "Ceph block",
        "30cd0809-c2b2-499c-8879-2d6b78529876" => "Ceph block.db",
        "5ce17fce-4087-4169-b7ff-056cc58473f9" => "Ceph block.wal",
        "fb3aabf9-d25f-47cc-bf5e-721d1816496b" => "Ceph lockbox",
        _ => return None,
    })
}

/// Types of the MBR's partitions that are in use; `None` without its signature.
/// A lone 0xee protects a GPT.
#[must_use]
pub fn mbr(head: &[u8]) -> Option<Vec<u8>> {
    if array(head, 510)? != [0x55, 0xaa] {
        return None;
    }
    let mut kinds = Vec::new();
    for at in (446..510).step_by(16) {
        let entry: [u8; 16] = array(head, at)?;
        // Only 0 (not bootable) and 0x80 are legal: file systems' boot sectors
        // end with the same signature and have code here.
        if !matches!(entry[0], 0 | 0x80) {
            return None;
        }
        let length = le32(&entry, 12)?;
        if entry[4] != 0 && length != 0 {
            kinds.push(entry[4]);
        }
    }
    Some(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk of 64 KiB with one partition, in a GPT at both ends.
    fn disk(block: usize) -> Vec<u8> {
        let mut bytes = vec![0; 128 * 1024];
        let blocks = bytes.len() / block;
        let entries = 128 * 128 / block;
        let mut entry = vec![0; 128];
        // 4fbd7e29-9d25-41b8-afd0-062c0ceff05d as it is stored.
        entry[..16].copy_from_slice(&[
            0x29, 0x7e, 0xbd, 0x4f, 0x25, 0x9d, 0xb8, 0x41, 0xaf, 0xd0, 0x06, 0x2c, 0x0c, 0xef,
            0xf0, 0x5d,
        ]);
        entry[32] = 34;
        entry[40] = 90;
        entry[56] = b'c';
        for (header, table) in [(1, 2), (blocks - 1, blocks - 1 - entries)] {
            let at = header * block;
            bytes[at..at + 8].copy_from_slice(b"EFI PART");
            bytes[at + 24..at + 32].copy_from_slice(&(header as u64).to_le_bytes());
            bytes[at + 72..at + 80].copy_from_slice(&(table as u64).to_le_bytes());
            bytes[at + 80..at + 84].copy_from_slice(&128_u32.to_le_bytes());
            bytes[at + 84..at + 88].copy_from_slice(&128_u32.to_le_bytes());
            bytes[table * block..table * block + 128].copy_from_slice(&entry);
        }
        bytes
    }

    #[test]
    fn partitions_are_found_at_both_ends_and_with_both_block_sizes() {
        for block in [512, 4096] {
            let bytes = disk(block);
            let end = &bytes[bytes.len() - 40 * 1024..];
            for gpt in [primary(&bytes), backup(end)] {
                let gpt = gpt.unwrap_or_default();
                assert_eq!(gpt.block, block as u64);
                assert_eq!(gpt.partitions.len(), 1);
                assert_eq!(gpt.partitions[0].name, "c");
                assert_eq!(ceph_use(&gpt.partitions[0].kind), Some("Ceph OSD"));
            }
        }
    }

    #[test]
    fn entries_outside_of_what_was_read_are_left_out() {
        let mut bytes = disk(512);
        bytes[512 + 72..512 + 80].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(primary(&bytes), None);
        bytes[512 + 72..512 + 80].copy_from_slice(&4000_u64.to_le_bytes());
        assert_eq!(primary(&bytes).map(|g| g.partitions.len()), Some(0));
    }

    #[test]
    fn an_mbr_lists_the_types_in_use_and_a_boot_sector_is_none() {
        let mut bytes = vec![0; 512];
        assert_eq!(mbr(&bytes), None);
        bytes[510..].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(mbr(&bytes), Some(vec![]));
        bytes[446 + 4] = 0x8e;
        bytes[446 + 12] = 1;
        assert_eq!(mbr(&bytes), Some(vec![0x8e]));
        bytes[446] = 0x33;
        assert_eq!(mbr(&bytes), None);
    }
}
