//! Disks with what an earlier life left on them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::variant::Disk;

/// Bytes of the spare disk. What was never written takes no room.
const SIZE: u64 = 10 << 30;
/// How a bluestore OSD's label begins, at the disk's first byte (Ceph's bluestore_bdev_label_t).
const BLUESTORE: &[u8] = b"bluestore block device\n3d4b7a7e-0a87-4c3b-9d4c-6b7a3f1d2e55\n";
/// Where LVM2 puts a physical volume's label: the second sector (of the first four).
const LVM_LABEL: u64 = 512;

/// Makes the disk's image.
pub(super) fn make(path: &Path, holds: Disk) -> std::io::Result<()> {
    let file = File::create(path)?;
    file.set_len(SIZE)?;
    match holds {
        Disk::Empty => Ok(()),
        Disk::Bluestore => file.write_all_at(BLUESTORE, 0),
        Disk::Lvm => file.write_all_at(&lvm_label(), LVM_LABEL),
    }
}

/// A label sector as `pvcreate` writes it: magic, sector number, CRC, offset of the header, type, the volume's name.
fn lvm_label() -> Vec<u8> {
    let mut label = Vec::new();
    label.extend_from_slice(b"LABELONE");
    label.extend_from_slice(&1_u64.to_le_bytes());
    // From the field after the sum to the sector's end.
    let mut body = Vec::new();
    body.extend_from_slice(&32_u32.to_le_bytes());
    body.extend_from_slice(b"LVM2 001");
    body.extend_from_slice(b"edgevirtedgevirtedgevirtedgevir0");
    body.extend_from_slice(&SIZE.to_le_bytes());
    body.resize(512 - 20, 0);
    label.extend_from_slice(&lvm_crc(&body).to_le_bytes());
    label.extend(body);
    label
}

/// CRC-32 with LVM's own start value, 0xf597a6cf, and no inversion at the end.
fn lvm_crc(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0xf597_a6cf, |mut crc, byte| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let odd = crc & 1;
            crc >>= 1;
            if odd == 1 {
                crc ^= 0xedb8_8320;
            }
        }
        crc
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_fills_its_sector() {
        let label = lvm_label();
        assert_eq!(label.len(), 512);
        assert_eq!(&label[24..32], b"LVM2 001");
    }
}
