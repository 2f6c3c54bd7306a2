//! VHD, fixed and dynamic. Source: Microsoft's "Virtual Hard Disk Image Format Specification".
//!
//! A footer of 512 bytes; a dynamic image has a copy of it at its begin, a header and one table
//! of blocks. Each block begins with a bitmap of its sectors, which says nothing new where there
//! is no parent, and is skipped as QEMU does.

use crate::disk::BATCH;
use crate::extent::{Extent, Sink};
use crate::source::{int, table};
use crate::{Error, Format, Result, Source};

const SECTOR: u64 = 512;
const FOOTER: usize = 512;
const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;
const HOLE: u32 = u32::MAX;
/// Makers whose size in bytes is right; with all others the geometry is the size (QEMU's rule).
const SIZED: [&[u8; 4]; 6] = [b"win ", b"qem2", b"d2v ", b"tap\0", b"vs  ", b"wa\0\0"];
/// The largest geometry; larger disks say their size in bytes only.
const GEOMETRY_MAX: u64 = 65535 * 16 * 255;

/// An open image.
#[derive(Debug)]
pub(crate) struct Vhd {
    size: u64,
    /// None for a fixed image.
    blocks: Option<Blocks>,
    next: u64,
}

#[derive(Debug)]
struct Blocks {
    table: u64,
    length: u64,
    bitmap: u64,
}

/// Whether the sum in a footer or header, 4 bytes at `at`, is right.
fn sum_holds(bytes: &[u8], at: usize) -> bool {
    let sum = bytes
        .iter()
        .enumerate()
        .filter(|(index, _)| !(at..at + 4).contains(index))
        .fold(0u32, |sum, (_, byte)| sum.wrapping_add(u32::from(*byte)));
    !sum == int::be32(bytes, at)
}

/// The disk's size if these are the last 512 bytes of a fixed VHD of `length` bytes.
pub(crate) fn fixed_footer(footer: &[u8], length: u64) -> Option<u64> {
    let is = footer.len() == FOOTER
        && footer.starts_with(b"conectix")
        && int::be32(footer, 60) == FIXED
        && sum_holds(footer, 64);
    // All that is before the footer is the disk.
    let before = length.checked_sub(FOOTER as u64)?;
    (is && int::be64(footer, 48) == before).then_some(before)
}

/// The disk's size, if the source is a fixed VHD.
pub(crate) fn fixed_size(source: &(impl Source + ?Sized)) -> Result<Option<u64>> {
    let Some(at) = source.length().checked_sub(FOOTER as u64) else {
        return Ok(None);
    };
    let mut footer = [0; FOOTER];
    source.read_at(&mut footer, at)?;
    Ok(fixed_footer(&footer, source.length()))
}

impl Vhd {
    pub(crate) fn open(source: &(impl Source + ?Sized)) -> Result<Self> {
        let malformed = |reason: String| Error::malformed(Format::Vhd, reason);
        let refused = |reason: String| Error::refused(Format::Vhd, reason);
        if let Some(size) = fixed_size(source)? {
            return Ok(Self {
                size,
                blocks: None,
                next: 0,
            });
        }
        let footer = table(source, Format::Vhd, "a footer", 0, FOOTER)?;
        if !footer.starts_with(b"conectix") || !sum_holds(&footer, 64) {
            return Err(malformed(
                "expected a footer whose checksum holds".to_owned(),
            ));
        }
        match int::be32(&footer, 60) {
            DYNAMIC => {}
            FIXED => {
                return Err(malformed(
                    "truncated: expected the footer of a fixed image at its end".to_owned(),
                ));
            }
            other => {
                return Err(refused(format!(
                    "expected a fixed (2) or dynamic (3) image, found type {other}; differences need their parent, which is never opened"
                )));
            }
        }
        let geometry =
            u64::from(int::be16(&footer, 56)) * u64::from(footer[58]) * u64::from(footer[59]);
        let creator: [u8; 4] = [footer[28], footer[29], footer[30], footer[31]];
        let size = if SIZED.contains(&&creator) || geometry == 0 || geometry >= GEOMETRY_MAX {
            int::be64(&footer, 48)
        } else {
            geometry * SECTOR
        };
        let at = int::be64(&footer, 16);
        let header = table(source, Format::Vhd, "a dynamic header", at, 1024)?;
        if !header.starts_with(b"cxsparse") || !sum_holds(&header, 36) {
            return Err(malformed(format!(
                "expected a dynamic header whose checksum holds at {at}"
            )));
        }
        let length = u64::from(int::be32(&header, 32));
        if !length.is_power_of_two() || !(4096..=1 << 28).contains(&length) {
            return Err(malformed(format!(
                "expected blocks of 4 KiB to 256 MiB, found {length}"
            )));
        }
        let entries = u64::from(int::be32(&header, 28));
        if size > i64::MAX as u64 || entries < size.div_ceil(length) {
            return Err(malformed(format!(
                "expected a table of {} blocks for {size} bytes, found {entries}",
                size.div_ceil(length)
            )));
        }
        Ok(Self {
            size,
            blocks: Some(Blocks {
                table: int::be64(&header, 16),
                length,
                bitmap: (length / SECTOR).div_ceil(8).next_multiple_of(SECTOR),
            }),
            next: 0,
        })
    }

    pub(crate) fn virtual_size(&self) -> u64 {
        self.size
    }

    pub(crate) fn next_batch(
        &mut self,
        source: &(impl Source + ?Sized),
        extents: &mut Vec<Extent>,
    ) -> Result<bool> {
        let mut sink = Sink::new(Format::Vhd, self.size, source, extents);
        let Some(blocks) = &self.blocks else {
            let first = self.next == 0 && self.size > 0;
            if first {
                sink.plain(0, 0, self.size)?;
                self.next = 1;
            }
            return Ok(first);
        };
        let all = self.size.div_ceil(blocks.length);
        if self.next >= all {
            return Ok(false);
        }
        let count = (all - self.next).min(BATCH as u64);
        let at = blocks
            .table
            .checked_add(self.next * 4)
            .ok_or_else(|| Error::malformed(Format::Vhd, "the block table lies beyond any file"))?;
        let bytes = usize::try_from(count * 4).unwrap_or(0);
        for entry in table(source, Format::Vhd, "a block table", at, bytes)?.chunks_exact(4) {
            let sector = int::be32(entry, 0);
            if sector != HOLE {
                let offset = u64::from(sector) * SECTOR + blocks.bitmap;
                sink.plain(self.next * blocks.length, offset, blocks.length)?;
            }
            self.next += 1;
        }
        Ok(true)
    }
}
