//! Disk images: which format a file has, how large its disk is, and whether it
//! may be opened at all; and the bytes of a new, empty qcow2 overlay.
//!
//! An image comes from whoever made the container image. A qcow2 header may
//! name other files (a backing file, an external data file), which QEMU would
//! open with the launcher's rights: such images are refused, not followed.
//! Source of the layout: QEMU, docs/interop/qcow2.rst.

/// Bytes of the head that [`probe`] wants, when the file has so many.
pub const PROBE_BYTES: usize = 64 << 10;
/// Largest virtual disk that is taken: 64 TiB.
pub const MAX_VIRTUAL_SIZE: u64 = 64 << 40;

const MAGIC: &[u8; 4] = b"QFI\xfb";
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Feature bits that are understood: dirty refcounts, corrupt, external data,
/// compression type, extended L2 entries.
const KNOWN_INCOMPATIBLE: u64 = 0b1_1111;
const INCOMPATIBLE_CORRUPT: u64 = 1 << 1;
const INCOMPATIBLE_EXTERNAL_DATA: u64 = 1 << 2;

/// Format of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Sector after sector.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
}

impl Format {
    /// QEMU's name of the driver.
    #[must_use]
    pub fn driver(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// What [`probe`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// The format.
    pub format: Format,
    /// Bytes of the disk the guest sees, whole sectors.
    pub virtual_size: u64,
}

/// Why an image is not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The file has no bytes.
    #[error("the image is empty; expected a qcow2 or raw disk image")]
    Empty,
    /// A format that is recognised and not supported.
    #[error("the image is {0}; expected qcow2 or raw (convert it with qemu-img)")]
    Unsupported(&'static str),
    /// The header contradicts itself or the file.
    #[error("the qcow2 header is malformed: {0}")]
    Malformed(&'static str),
    /// The image wants another file opened.
    #[error("the qcow2 image refers to {0}, which is refused; flatten it with qemu-img convert")]
    Refers(&'static str),
    /// The image is encrypted.
    #[error("the image is encrypted, which is not supported")]
    Encrypted,
    /// The virtual disk is larger than 64 TiB or has no sectors.
    #[error("the disk has {0} bytes; expected 1 to 64 TiB")]
    Size(u64),
}

/// Tells format and size from the first bytes of a file of `length` bytes.
///
/// # Errors
/// When the image is refused; the error says why.
pub fn probe(head: &[u8], length: u64) -> Result<ImageInfo, ImageError> {
    if length == 0 {
        return Err(ImageError::Empty);
    }
    if head.starts_with(MAGIC) {
        return qcow2(head, length);
    }
    for (magic, name) in [
        (&b"LUKS\xba\xbe"[..], "LUKS-encrypted"),
        (b"KDMV", "a VMDK"),
        (b"COWD", "a VMDK"),
        (b"# Disk DescriptorFile", "a VMDK descriptor"),
        (b"vhdxfile", "a VHDX"),
        (b"conectix", "a VHD"),
        (b"QED\0", "a QED"),
        (b"\x1f\x8b\x08", "compressed with gzip"),
        (b"\xfd7zXZ\0", "compressed with xz"),
        (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    ] {
        if head.starts_with(magic) {
            return Err(ImageError::Unsupported(name));
        }
    }
    if head.get(64..68) == Some(&[0x7f, 0x10, 0xda, 0xbe]) {
        return Err(ImageError::Unsupported("a VDI"));
    }
    sized(Format::Raw, length)
}

fn qcow2(head: &[u8], length: u64) -> Result<ImageInfo, ImageError> {
    let short = ImageError::Malformed("it is too short");
    let u32_at = |at: usize| {
        head.get(at..at + 4)
            .and_then(|b| b.try_into().ok())
            .map(u32::from_be_bytes)
            .ok_or_else(|| short.clone())
    };
    let u64_at = |at: usize| {
        head.get(at..at + 8)
            .and_then(|b| b.try_into().ok())
            .map(u64::from_be_bytes)
            .ok_or_else(|| short.clone())
    };
    let version = u32_at(4)?;
    if !(2..=3).contains(&version) {
        return Err(ImageError::Malformed("its version is neither 2 nor 3"));
    }
    if u64_at(8)? != 0 || u32_at(16)? != 0 {
        return Err(ImageError::Refers("a backing file"));
    }
    if !(9..=21).contains(&u32_at(20)?) {
        return Err(ImageError::Malformed("its cluster size is out of range"));
    }
    let size = u64_at(24)?;
    if u32_at(32)? != 0 {
        return Err(ImageError::Encrypted);
    }
    let (l1_entries, l1_offset) = (u64::from(u32_at(36)?), u64_at(40)?);
    // QEMU's own bound: an L1 table of 32 MiB.
    if l1_entries > (32 << 20) / 8 {
        return Err(ImageError::Malformed("its L1 table is too large"));
    }
    if l1_entries > 0 && l1_offset >= length {
        return Err(ImageError::Malformed("its L1 table lies beyond the file"));
    }
    if version == 3 {
        let incompatible = u64_at(72)?;
        if incompatible & INCOMPATIBLE_EXTERNAL_DATA != 0 {
            return Err(ImageError::Refers("an external data file"));
        }
        if incompatible & INCOMPATIBLE_CORRUPT != 0 {
            return Err(ImageError::Malformed("it is marked corrupt"));
        }
        if incompatible & !KNOWN_INCOMPATIBLE != 0 {
            return Err(ImageError::Malformed(
                "it has unknown incompatible features",
            ));
        }
    }
    sized(Format::Qcow2, size)
}

fn sized(format: Format, size: u64) -> Result<ImageInfo, ImageError> {
    if size == 0 || size > MAX_VIRTUAL_SIZE {
        return Err(ImageError::Size(size));
    }
    Ok(ImageInfo {
        format,
        virtual_size: size.div_ceil(512) * 512,
    })
}

/// The whole content of an empty qcow2 image of version 3: header, refcount
/// table, refcount block, L1 table. It names no backing file: the base is given
/// to QEMU beside it, so nothing in the file can lead elsewhere.
#[must_use]
pub fn empty_qcow2(virtual_size: u64) -> Vec<u8> {
    let l2_covers = CLUSTER / 8 * CLUSTER;
    let l1_entries = virtual_size.div_ceil(l2_covers);
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER).max(1);
    let clusters = 3 + l1_clusters;
    let mut image = vec![0; usize::try_from(clusters * CLUSTER).unwrap_or(0)];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = image.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, MAGIC);
    put(4, &3u32.to_be_bytes());
    put(20, &CLUSTER_BITS.to_be_bytes());
    put(24, &virtual_size.to_be_bytes());
    put(
        36,
        &u32::try_from(l1_entries).unwrap_or(u32::MAX).to_be_bytes(),
    );
    put(40, &(3 * CLUSTER).to_be_bytes());
    put(48, &CLUSTER.to_be_bytes());
    put(56, &1u32.to_be_bytes());
    // Compatible feature 0: refcounts may be stale after a crash, which spares writes.
    put(80, &1u64.to_be_bytes());
    // Refcounts of 2^4 bits; the header has 104 bytes.
    put(96, &4u32.to_be_bytes());
    put(100, &104u32.to_be_bytes());
    // The refcount table names one block, which counts each cluster once.
    let cluster = 1usize << CLUSTER_BITS;
    put(cluster, &(2 * CLUSTER).to_be_bytes());
    for i in 0..usize::try_from(clusters).unwrap_or(0) {
        put(2 * cluster + 2 * i, &1u16.to_be_bytes());
    }
    image
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn header() -> Vec<u8> {
        empty_qcow2(1 << 30)
    }

    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut image = header();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        image
    }

    fn verdict(image: &[u8]) -> Result<ImageInfo, ImageError> {
        probe(image, image.len() as u64)
    }

    #[test]
    fn our_own_overlay_is_recognised() {
        for size in [512, 1 << 30, 10 << 40] {
            let image = empty_qcow2(size);
            assert_eq!(
                verdict(&image),
                Ok(ImageInfo {
                    format: Format::Qcow2,
                    virtual_size: size
                })
            );
        }
    }

    #[test]
    fn raw_images_are_rounded_up_to_sectors() {
        let info = probe(&[0; 512], 1000).unwrap();
        assert_eq!((info.format, info.virtual_size), (Format::Raw, 1024));
    }

    #[test]
    fn images_that_lead_elsewhere_or_lie_are_refused() {
        let cases = [
            (
                with(8, &104u64.to_be_bytes()),
                ImageError::Refers("a backing file"),
            ),
            (
                with(16, &9u32.to_be_bytes()),
                ImageError::Refers("a backing file"),
            ),
            (
                with(72, &4u64.to_be_bytes()),
                ImageError::Refers("an external data file"),
            ),
            (with(32, &2u32.to_be_bytes()), ImageError::Encrypted),
            (
                with(24, &u64::MAX.to_be_bytes()),
                ImageError::Size(u64::MAX),
            ),
            (with(24, &0u64.to_be_bytes()), ImageError::Size(0)),
            (
                with(20, &63u32.to_be_bytes()),
                ImageError::Malformed("its cluster size is out of range"),
            ),
            (
                with(40, &u64::MAX.to_be_bytes()),
                ImageError::Malformed("its L1 table lies beyond the file"),
            ),
            (
                with(4, &9u32.to_be_bytes()),
                ImageError::Malformed("its version is neither 2 nor 3"),
            ),
        ];
        for (image, expected) in cases {
            assert_eq!(verdict(&image), Err(expected));
        }
        assert_eq!(
            verdict(&MAGIC[..]),
            Err(ImageError::Malformed("it is too short"))
        );
        assert_eq!(probe(b"", 0), Err(ImageError::Empty));
        assert!(matches!(
            probe(b"LUKS\xba\xbe\0\x01", 4096),
            Err(ImageError::Unsupported(_))
        ));
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_the_probe_panic(mut head in proptest::collection::vec(0u8.., 0..200), length in 0u64..) {
            let _ = probe(&head, length);
            for (i, byte) in MAGIC.iter().enumerate() {
                if let Some(place) = head.get_mut(i) { *place = *byte; }
            }
            let _ = probe(&head, length);
        }
    }
}
