//! What kind of file an image is made from, told by its first bytes and never by its name.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};

/// Disks are made of sectors of this length.
const SECTOR: u64 = 512;
/// The flag of a qcow2 whose data lies in another file (QEMU, docs/interop/qcow2.rst, incompatible_features bit 2).
const QCOW2_EXTERNAL_DATA: u64 = 1 << 2;

/// The format of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DiskFormat {
    /// QEMU's own.
    Qcow2,
    /// Sector after sector.
    Raw,
}

impl fmt::Display for DiskFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        })
    }
}

/// A file an image can be made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A disk, and its file's length in bytes.
    Disk {
        /// Its format.
        format: DiskFormat,
        /// Bytes.
        length: u64,
    },
    /// A tar archive, to be read as an OCI or Docker one.
    Archive,
}

impl Source {
    /// Looks at the file.
    pub(super) fn detect(path: &Path) -> anyhow::Result<Self> {
        let mut file =
            File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let meta = file
            .metadata()
            .with_context(|| format!("cannot look at {}", path.display()))?;
        if !meta.is_file() {
            bail!("{}: expected a regular file", path.display());
        }
        let mut head = Vec::with_capacity(512);
        let read = file.by_ref().take(512).read_to_end(&mut head);
        read.with_context(|| format!("cannot read {}", path.display()))?;
        classify(&head, meta.len()).with_context(|| path.display().to_string())
    }
}

fn classify(head: &[u8], length: u64) -> anyhow::Result<Source> {
    if head.starts_with(b"QFI\xfb") {
        check_qcow2(head)?;
        return Ok(Source::Disk {
            format: DiskFormat::Qcow2,
            length,
        });
    }
    if head.get(257..262) == Some(b"ustar") {
        return Ok(Source::Archive);
    }
    let foreign: [(&[u8], &str, &str); 7] = [
        (b"\x1f\x8b", "compressed with gzip", "gunzip it first"),
        (b"\xfd7zXZ", "compressed with xz", "unxz it first"),
        (
            b"\x28\xb5\x2f\xfd",
            "compressed with zstd",
            "unzstd it first",
        ),
        (b"BZh", "compressed with bzip2", "bunzip2 it first"),
        (
            b"KDMV",
            "a VMDK",
            "convert it first: qemu-img convert -O qcow2",
        ),
        (
            b"# Disk DescriptorFile",
            "a VMDK's descriptor",
            "convert it first: qemu-img convert -O qcow2",
        ),
        (
            b"vhdxfile",
            "a VHDX",
            "convert it first: qemu-img convert -O qcow2",
        ),
    ];
    for (magic, what, remedy) in foreign {
        if head.starts_with(magic) {
            bail!(
                "expected a qcow2 or raw disk or an image archive, found a file that is {what}; {remedy}"
            );
        }
    }
    if head.get(64..68) == Some(&[0x7f, 0x10, 0xda, 0xbe]) {
        bail!(
            "expected a qcow2 or raw disk or an image archive, found a VDI; convert it first: qemu-img convert -O qcow2"
        );
    }
    if length == 0 || !length.is_multiple_of(SECTOR) {
        bail!(
            "expected a qcow2 disk, a raw disk or an image archive; found {length} bytes that are none: \
             a raw disk is a multiple of {SECTOR} bytes long"
        );
    }
    Ok(Source::Disk {
        format: DiskFormat::Raw,
        length,
    })
}

/// A disk that leans on another file would lean on a file of the node that opens it.
fn check_qcow2(head: &[u8]) -> anyhow::Result<()> {
    let number = |at: usize| {
        head.get(at..at + 8)
            .map(|b| b.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
    };
    let version = number(0).map(|n| n & 0xffff_ffff);
    match version {
        Some(2 | 3) => {}
        _ => bail!("a qcow2 of version {version:?}; expected version 2 or 3"),
    }
    if number(8) != Some(0) {
        bail!(
            "the qcow2 has a backing file, which the image would not hold; \
             make it whole first: qemu-img convert -O qcow2 OLD NEW"
        );
    }
    if version == Some(3) && number(72).is_none_or(|features| features & QCOW2_EXTERNAL_DATA != 0) {
        bail!(
            "the qcow2 keeps its data in another file, which the image would not hold; \
             make it whole first: qemu-img convert -O qcow2 OLD NEW"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn qcow2(version: u8, backing: u8, features: u8) -> Vec<u8> {
        let mut head = vec![0; 512];
        head[..8].copy_from_slice(&[b'Q', b'F', b'I', 0xfb, 0, 0, 0, version]);
        head[15] = backing;
        head[79] = features;
        head
    }

    #[test]
    fn disks_and_archives_are_told_by_their_bytes() {
        let disk = |format, length| Source::Disk { format, length };
        assert_eq!(
            classify(&qcow2(3, 0, 0), 999).unwrap(),
            disk(DiskFormat::Qcow2, 999)
        );
        assert_eq!(
            classify(&qcow2(2, 0, 0), 512).unwrap(),
            disk(DiskFormat::Qcow2, 512)
        );
        assert_eq!(
            classify(&[0; 512], 1024).unwrap(),
            disk(DiskFormat::Raw, 1024)
        );
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(classify(&tar, 10240).unwrap(), Source::Archive);
    }

    #[test]
    fn what_would_not_boot_is_refused_with_what_to_do() {
        let mut vdi = vec![0; 512];
        vdi[64..68].copy_from_slice(&[0x7f, 0x10, 0xda, 0xbe]);
        for (head, length, says) in [
            (qcow2(3, 1, 0), 512, "backing file"),
            (qcow2(3, 0, 4), 512, "another file"),
            (qcow2(1, 0, 0), 512, "version 2 or 3"),
            (qcow2(3, 0, 0)[..10].to_vec(), 10, "backing file"),
            (b"\x1f\x8b\x08".to_vec(), 512, "gunzip"),
            (b"KDMV".to_vec(), 512, "qemu-img convert"),
            (vdi, 512, "VDI"),
            (b"hello".to_vec(), 5, "multiple of 512"),
            (Vec::new(), 0, "multiple of 512"),
        ] {
            let error = classify(&head, length).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
