//! A disk that a BIOS starts: GRUB in front of one partition with ext4, written into a file.
//!
//! What `grub-install` does on a device is done here on a file, so that no device is needed: boot.img into the first
//! sector, the core image after it (GRUB manual, "BIOS installation").

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// Length of a sector.
const SECTOR: u64 = 512;
/// The partition's first sector; the core image lies before it.
const START: u64 = 2048;

/// Makes the partition's file system from a directory, in a disk of so many bytes.
pub(crate) fn file_system(top: &Path, disk: &Path, label: &str, bytes: u64) -> anyhow::Result<()> {
    let kib = (bytes - START * SECTOR) / 1024;
    let output = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-L", label, "-E"])
        .arg(format!(
            "offset={},lazy_itable_init=1,lazy_journal_init=1",
            START * SECTOR
        ))
        .arg("-d")
        .args([top, disk])
        .arg(format!("{kib}k"))
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .context("mke2fs is not there; install e2fsprogs")?;
    if !output.status.success() {
        bail!("mke2fs: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Writes boot code, the table of partitions and GRUB's core image.
pub(crate) fn write(disk: &File, boot: &[u8], core: &[u8], bytes: u64) -> anyhow::Result<()> {
    if core.len() as u64 > (START - 1) * SECTOR {
        bail!(
            "GRUB's core image has {} bytes, too many before the partition",
            core.len()
        );
    }
    let mut first = boot.to_vec();
    first.resize(512, 0);
    // There boot.img has code for floppy disks, which is no table of partitions.
    first[446..510].fill(0);
    let entry = &mut first[446..462];
    // Active; addresses by cylinder are out of range on purpose, so that only those by sector count.
    entry.copy_from_slice(&[
        0x80, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    entry[8..12].copy_from_slice(&u32::try_from(START)?.to_le_bytes());
    entry[12..].copy_from_slice(&u32::try_from(bytes / SECTOR - START)?.to_le_bytes());
    first[510..].copy_from_slice(&[0x55, 0xaa]);
    disk.write_all_at(&first, 0)?;
    Ok(disk.write_all_at(core, SECTOR)?)
}
