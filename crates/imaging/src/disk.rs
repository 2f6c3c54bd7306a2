//! The one interface of all formats' readers.

use crate::extent::{Extent, Sink};
use crate::{Error, Format, HEAD, Result, Source, detect, qcow2, vdi, vhd, vhdx, vmdk};

/// About how many extents a batch has: 4 MiB of them.
pub(crate) const BATCH: usize = 128 * 1024;

/// A disk in an image.
pub trait Disk {
    /// The disk's size in bytes.
    fn virtual_size(&self) -> u64;

    /// Appends the extents of the next part of the disk, in the disk's order. False when there
    /// are no more. A batch's number of extents is bounded.
    ///
    /// # Errors
    /// When the image's tables are broken, or the source is.
    fn next_batch(
        &mut self,
        source: &(impl Source + ?Sized),
        extents: &mut Vec<Extent>,
    ) -> Result<bool>
    where
        Self: Sized;
}

/// Any image's reader.
#[derive(Debug)]
pub struct AnyDisk(Kind);

#[derive(Debug)]
enum Kind {
    Raw { size: u64, given: bool },
    Qcow2(qcow2::Qcow2),
    Vmdk(vmdk::Vmdk),
    Vdi(vdi::Vdi),
    Vhd(vhd::Vhd),
    Vhdx(vhdx::Vhdx),
}

impl Disk for AnyDisk {
    fn virtual_size(&self) -> u64 {
        match &self.0 {
            Kind::Raw { size, .. } => *size,
            Kind::Qcow2(disk) => disk.virtual_size(),
            Kind::Vmdk(disk) => disk.virtual_size(),
            Kind::Vdi(disk) => disk.virtual_size(),
            Kind::Vhd(disk) => disk.virtual_size(),
            Kind::Vhdx(disk) => disk.virtual_size(),
        }
    }

    fn next_batch(
        &mut self,
        source: &(impl Source + ?Sized),
        extents: &mut Vec<Extent>,
    ) -> Result<bool> {
        match &mut self.0 {
            Kind::Raw { given: true, .. } => Ok(false),
            Kind::Raw { size, given } => {
                *given = true;
                Sink::new(Format::Raw, *size, source, extents).plain(0, 0, *size)?;
                Ok(true)
            }
            Kind::Qcow2(disk) => disk.next_batch(source, extents),
            Kind::Vmdk(disk) => disk.next_batch(source, extents),
            Kind::Vdi(disk) => disk.next_batch(source, extents),
            Kind::Vhd(disk) => disk.next_batch(source, extents),
            Kind::Vhdx(disk) => disk.next_batch(source, extents),
        }
    }
}

/// What the source is, by its first bytes and, for a fixed VHD, its last.
///
/// # Errors
/// When the source cannot be read.
pub fn probe(source: &(impl Source + ?Sized)) -> Result<Format> {
    let mut head = vec![0; HEAD.min(usize::try_from(source.length()).unwrap_or(HEAD))];
    source.read_at(&mut head, 0)?;
    let format = detect(&head);
    if format == Format::Raw && vhd::fixed_size(source)?.is_some() {
        return Ok(Format::Vhd);
    }
    Ok(format)
}

/// Reads the header of an image of `format`.
///
/// # Errors
/// When the header is broken, or asks for what is refused: another file, encryption, features
/// that are not known.
pub fn open(source: &(impl Source + ?Sized), format: Format) -> Result<AnyDisk> {
    Ok(AnyDisk(match format {
        Format::Raw => Kind::Raw {
            size: source.length(),
            given: false,
        },
        Format::Qcow2 => Kind::Qcow2(qcow2::Qcow2::open(source)?),
        Format::Vmdk => Kind::Vmdk(vmdk::Vmdk::open(source)?),
        Format::Vdi => Kind::Vdi(vdi::Vdi::open(source)?),
        Format::Vhd => Kind::Vhd(vhd::Vhd::open(source)?),
        Format::Vhdx => Kind::Vhdx(vhdx::Vhdx::open(source)?),
        Format::Gzip | Format::Xz | Format::Zstd | Format::Tar => {
            return Err(Error::refused(
                format,
                "expected a disk image, found a compressed file or an archive where none can be",
            ));
        }
    }))
}
