//! VHDX. Source: Microsoft's MS-VHDX.
//!
//! Two headers and two region tables of which one is good, metadata, and a table of blocks with
//! one entry for a sector bitmap after each chunk of them.

use crate::crc::crc32c;
use crate::disk::BATCH;
use crate::extent::{Extent, Sink};
use crate::source::{int, table};
use crate::{Error, Format, Result, Source};

const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
const REGIONS: [u64; 2] = [192 << 10, 256 << 10];
const REGION_BYTES: usize = 64 << 10;
/// GUIDs as they lie in the file: the first three groups little-endian.
const BAT: [u8; 16] = [
    0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08,
];
const METADATA: [u8; 16] = [
    0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e,
];
const FILE_PARAMETERS: [u8; 16] = [
    0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b,
];
const VIRTUAL_SIZE: [u8; 16] = [
    0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8,
];
const SECTOR_SIZE: [u8; 16] = [
    0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47, 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f,
];

/// An open image.
#[derive(Debug)]
pub(crate) struct Vhdx {
    size: u64,
    block: u64,
    /// Payload entries between two of sector bitmaps.
    chunk: u64,
    bat: u64,
    bat_bytes: u64,
    next: u64,
}

fn malformed(reason: impl Into<String>) -> Error {
    Error::malformed(Format::Vhdx, reason)
}

impl Vhdx {
    pub(crate) fn open(source: &(impl Source + ?Sized)) -> Result<Self> {
        log_is_empty(source)?;
        let (bat, metadata) = regions(source)?;
        let (block, size, sector) = parameters(source, metadata)?;
        let chunk = (sector << 23) / block;
        Ok(Self {
            size,
            block,
            chunk,
            bat: bat.0,
            bat_bytes: bat.1,
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
        let all = self.size.div_ceil(self.block);
        if self.next >= all {
            return Ok(false);
        }
        // One chunk, or what is left of it, at a time until the batch is full.
        let begun = extents.len();
        let mut walked = 0;
        let mut sink = Sink::new(Format::Vhdx, self.size, source, extents);
        while self.next < all && sink.extents.len() - begun < BATCH && walked < BATCH as u64 {
            let in_chunk = self.chunk - self.next % self.chunk;
            let count = in_chunk.min(all - self.next).min(BATCH as u64);
            let index = self.next + self.next / self.chunk;
            if (index + count) * 8 > self.bat_bytes {
                return Err(malformed(format!(
                    "expected a block table of {} entries or more, found {} bytes",
                    index + count,
                    self.bat_bytes
                )));
            }
            let bytes = usize::try_from(count * 8).unwrap_or(0);
            let entries = table(
                source,
                Format::Vhdx,
                "a block table",
                self.bat + index * 8,
                bytes,
            )?;
            for entry in entries.chunks_exact(8) {
                let entry = int::le64(entry, 0);
                let offset = entry & !0xf_ffff;
                match entry & 7 {
                    // Not there, undefined, zeros, unmapped.
                    0..=3 => {}
                    6 => sink.plain(self.next * self.block, offset, self.block)?,
                    state => {
                        return Err(malformed(format!(
                            "expected a block's state 0 to 3 or 6, found {state} for the disk's {}",
                            self.next * self.block
                        )));
                    }
                }
                self.next += 1;
            }
            walked += count;
        }
        Ok(true)
    }
}

/// A log with entries must be replayed before the image is read.
fn log_is_empty(source: &(impl Source + ?Sized)) -> Result<()> {
    let mut newest: Option<(u64, bool, u16)> = None;
    for at in HEADERS {
        let header = table(source, Format::Vhdx, "a header", at, 4096)?;
        if !header.starts_with(b"head") || crc32c(&header, 4) != int::le32(&header, 4) {
            continue;
        }
        let sequence = int::le64(&header, 8);
        let empty = header[48..64].iter().all(|b| *b == 0);
        if newest.is_none_or(|(known, ..)| sequence > known) {
            newest = Some((sequence, empty, int::le16(&header, 66)));
        }
    }
    match newest {
        None => Err(malformed(
            "expected a header whose checksum holds, found none",
        )),
        Some((_, _, version)) if version != 1 => Err(Error::refused(
            Format::Vhdx,
            format!("expected version 1, found {version}"),
        )),
        Some((_, false, _)) => Err(Error::refused(
            Format::Vhdx,
            "its log is not empty, it was not closed cleanly: attach and detach it once, or convert it with `qemu-img convert`",
        )),
        Some(_) => Ok(()),
    }
}

type Region = (u64, u64);

fn regions(source: &(impl Source + ?Sized)) -> Result<(Region, Region)> {
    for at in REGIONS {
        let bytes = table(source, Format::Vhdx, "a region table", at, REGION_BYTES)?;
        if !bytes.starts_with(b"regi") || crc32c(&bytes, 4) != int::le32(&bytes, 4) {
            continue;
        }
        let count = usize::try_from(int::le32(&bytes, 8)).unwrap_or(0).min(2047);
        let (mut bat, mut metadata) = (None, None);
        for entry in bytes[16..].chunks_exact(32).take(count) {
            let region = (int::le64(entry, 16), u64::from(int::le32(entry, 24)));
            if region.0 > i64::MAX as u64 {
                return Err(malformed(format!("a region lies at {}", region.0)));
            }
            if entry[..16] == BAT {
                bat = Some(region);
            } else if entry[..16] == METADATA {
                metadata = Some(region);
            } else if int::le32(entry, 28) & 1 != 0 {
                return Err(Error::refused(
                    Format::Vhdx,
                    "it needs a region that is not known",
                ));
            }
        }
        if let (Some(bat), Some(metadata)) = (bat, metadata) {
            return Ok((bat, metadata));
        }
    }
    Err(malformed(
        "expected a region table with a block table and metadata whose checksum holds, found none",
    ))
}

/// Block size, disk size and sector size.
fn parameters(source: &(impl Source + ?Sized), region: Region) -> Result<(u64, u64, u64)> {
    let bytes = table(
        source,
        Format::Vhdx,
        "a metadata table",
        region.0,
        REGION_BYTES,
    )?;
    if !bytes.starts_with(b"metadata") {
        return Err(malformed("expected a metadata table"));
    }
    let count = usize::from(int::le16(&bytes, 10)).min(2047);
    let (mut file, mut size, mut sector) = (None, None, 512);
    for entry in bytes[32..].chunks_exact(32).take(count) {
        let offset = region.0.saturating_add(u64::from(int::le32(entry, 16)));
        let item = || table(source, Format::Vhdx, "a metadata item", offset, 8);
        let guid = &entry[..16];
        if guid == FILE_PARAMETERS {
            file = Some(item()?);
        } else if guid == VIRTUAL_SIZE {
            size = Some(int::le64(&item()?, 0));
        } else if guid == SECTOR_SIZE {
            sector = u64::from(int::le32(
                &table(source, Format::Vhdx, "a metadata item", offset, 4)?,
                0,
            ));
        }
    }
    let (Some(file), Some(size)) = (file, size) else {
        return Err(malformed(
            "expected file parameters and a disk size in the metadata",
        ));
    };
    if int::le32(&file, 4) & 2 != 0 {
        return Err(Error::refused(
            Format::Vhdx,
            "it has a parent, which is never opened: merge it first",
        ));
    }
    let block = u64::from(int::le32(&file, 0));
    if !block.is_power_of_two() || !(1 << 20..=1 << 28).contains(&block) {
        return Err(malformed(format!(
            "expected blocks of 1 to 256 MiB, found {block}"
        )));
    }
    if sector != 512 && sector != 4096 {
        return Err(malformed(format!(
            "expected sectors of 512 or 4096 bytes, found {sector}"
        )));
    }
    if size > i64::MAX as u64 {
        return Err(malformed(format!("found a disk of {size} bytes")));
    }
    Ok((block, size, sector))
}
