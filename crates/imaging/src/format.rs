//! What a file is, by its first bytes and never by its name.

use std::fmt;

/// How many bytes [`detect`] wants to see: a tar's magic ends at 263, a VDI's at 68.
pub const HEAD: usize = 512;

/// A format of images, of compression or of archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// The disk's bytes as they are; also what nothing else is.
    Raw,
    /// QEMU's copy-on-write image, versions 2 and 3.
    Qcow2,
    /// VMware's sparse extent, plain or stream-optimized.
    Vmdk,
    /// VirtualBox's image.
    Vdi,
    /// Connectix' and Microsoft's image, fixed or dynamic.
    Vhd,
    /// Its successor.
    Vhdx,
    /// gzip around something.
    Gzip,
    /// xz around something.
    Xz,
    /// Zstandard around something.
    Zstd,
    /// A tar archive.
    Tar,
}

impl Format {
    /// Whether this is only a wrapping around the image.
    #[must_use]
    pub fn is_compression(self) -> bool {
        matches!(self, Self::Gzip | Self::Xz | Self::Zstd)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vdi => "vdi",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Tar => "tar",
        })
    }
}

/// Magic numbers and where they are.
const MAGICS: [(Format, usize, &[u8]); 12] = [
    (Format::Qcow2, 0, b"QFI\xfb"),
    (Format::Vmdk, 0, b"KDMV"),
    // An ESX server's sparse extent, and a descriptor without its data: known, so that they
    // are refused by name and not taken for raw disks.
    (Format::Vmdk, 0, b"COWD"),
    (Format::Vmdk, 0, b"# Disk DescriptorFile"),
    (Format::Vdi, 0x40, &[0x7f, 0x10, 0xda, 0xbe]),
    (Format::Vhd, 0, b"conectix"),
    (Format::Vhdx, 0, b"vhdxfile"),
    (Format::Gzip, 0, &[0x1f, 0x8b]),
    (Format::Xz, 0, &[0xfd, b'7', b'z', b'X', b'Z', 0]),
    (Format::Zstd, 0, &[0x28, 0xb5, 0x2f, 0xfd]),
    (Format::Zstd, 1, &[0x2a, 0x4d, 0x18]),
    (Format::Tar, 257, b"ustar"),
];

/// The format of a file that begins with `head` ([`HEAD`] bytes of it, or the whole of a
/// shorter one). A fixed VHD has its mark at its end only: [`crate::probe`] looks there.
#[must_use]
pub fn detect(head: &[u8]) -> Format {
    for (format, at, magic) in MAGICS {
        if head.get(at..at + magic.len()) != Some(magic) {
            continue;
        }
        // A skippable frame of zstd has sixteen magic numbers, 0x50 to 0x5f in the first byte.
        if at == 1 && head.first().is_none_or(|b| b & 0xf0 != 0x50) {
            continue;
        }
        return format;
    }
    Format::Raw
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_says_the_format() {
        let at = |offset: usize, magic: &[u8]| {
            let mut head = vec![0; HEAD];
            head[offset..offset + magic.len()].copy_from_slice(magic);
            head
        };
        for (head, format) in [
            (at(0, b"QFI\xfb\0\0\0\x03"), Format::Qcow2),
            (at(0, b"KDMV"), Format::Vmdk),
            (at(0, b"# Disk DescriptorFile\n"), Format::Vmdk),
            (at(0x40, &[0x7f, 0x10, 0xda, 0xbe]), Format::Vdi),
            (at(0, b"conectix"), Format::Vhd),
            (at(0, b"vhdxfile"), Format::Vhdx),
            (at(0, &[0x1f, 0x8b, 8]), Format::Gzip),
            (at(0, b"\xfd7zXZ\0"), Format::Xz),
            (at(0, &[0x28, 0xb5, 0x2f, 0xfd]), Format::Zstd),
            (at(0, &[0x53, 0x2a, 0x4d, 0x18]), Format::Zstd),
            (at(0, &[0x73, 0x2a, 0x4d, 0x18]), Format::Raw),
            (at(257, b"ustar  \0"), Format::Tar),
            (at(510, &[0x55, 0xaa]), Format::Raw),
            (b"QF".to_vec(), Format::Raw),
            (Vec::new(), Format::Raw),
        ] {
            assert_eq!(detect(&head), format, "{:?}", &head[..head.len().min(8)]);
        }
    }
}
