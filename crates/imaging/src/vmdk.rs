//! VMware's sparse extent in one file: monolithicSparse and streamOptimized.
//! Source: VMware's "Virtual Disk Format 5.0".
//!
//! A directory of tables maps grains of the disk to sectors of the file. The embedded
//! descriptor may name further files; such images are refused, no path is ever opened.

use std::collections::HashSet;

use crate::disk::BATCH;
use crate::extent::{Extent, Packing, Sink};
use crate::source::{int, table};
use crate::{Error, Format, Result, Source};

const SECTOR: u64 = 512;
/// Flags: a grain table's entry 1 means zeros.
const ZERO_GRAINS: u32 = 1 << 2;
/// Flags: grains are compressed.
const COMPRESSED: u32 = 1 << 16;
/// The directory is where the footer says.
const AT_END: u64 = u64::MAX;
/// The longest directory that is read, in entries: 32 TiB of disk at the usual grains and tables.
const DIRECTORY_MAX: u64 = 1 << 20;
/// Descriptors are a few hundred bytes of text.
const DESCRIPTOR_MAX: u64 = 64 * 1024;

/// An open image.
#[derive(Debug)]
pub(crate) struct Vmdk {
    size: u64,
    grain: u64,
    per_table: u64,
    zero_grains: bool,
    compressed: bool,
    directory_offset: u64,
    directory_entries: u64,
    directory: Option<Vec<u32>>,
    next: usize,
}

fn malformed(reason: impl Into<String>) -> Error {
    Error::malformed(Format::Vmdk, reason)
}

fn refused(reason: impl Into<String>) -> Error {
    Error::refused(Format::Vmdk, reason)
}

impl Vmdk {
    pub(crate) fn open(source: &(impl Source + ?Sized)) -> Result<Self> {
        let mut header = table(
            source,
            Format::Vmdk,
            "a header",
            0,
            usize::try_from(source.length().min(SECTOR)).unwrap_or(512),
        )?;
        if header.starts_with(b"# Disk Desc") {
            return Err(refused(
                "it is a descriptor only, its data is in other files, which are never opened: make one file with `qemu-img convert`",
            ));
        }
        if header.starts_with(b"COWD") {
            return Err(refused(
                "it is an ESX server's sparse extent: export the machine as OVF or convert it with `qemu-img convert`",
            ));
        }
        if !header.starts_with(b"KDMV") || header.len() < 512 {
            return Err(malformed(
                "expected a header of 512 bytes with the magic KDMV",
            ));
        }
        let descriptor_offset = int::le64(&header, 28).saturating_mul(SECTOR);
        let descriptor_length = int::le64(&header, 36).saturating_mul(SECTOR);
        if int::le64(&header, 56) == AT_END {
            let at = source.length().saturating_sub(1024);
            header = table(source, Format::Vmdk, "a footer", at, 512)?;
            if !header.starts_with(b"KDMV") || int::le64(&header, 56) == AT_END {
                return Err(malformed(
                    "truncated: expected a footer 1024 bytes before the end, found none",
                ));
            }
        }
        if descriptor_offset != 0 && descriptor_length != 0 {
            let length = descriptor_length.min(DESCRIPTOR_MAX);
            let text = table(
                source,
                Format::Vmdk,
                "a descriptor",
                descriptor_offset,
                usize::try_from(length).unwrap_or(0),
            )?;
            descriptor(&text)?;
        }
        Self::read(&header)
    }

    fn read(header: &[u8]) -> Result<Self> {
        let version = int::le32(header, 4);
        if !(1..=3).contains(&version) {
            return Err(refused(format!(
                "expected version 1, 2 or 3, found {version}"
            )));
        }
        let flags = int::le32(header, 8);
        let capacity = int::le64(header, 12);
        let grain_sectors = int::le64(header, 20);
        let per_table = u64::from(int::le32(header, 44));
        let compression = int::le16(header, 77);
        let compressed = flags & COMPRESSED != 0;
        if compressed && compression != 1 {
            return Err(refused(format!(
                "expected compression deflate (1), found {compression}"
            )));
        }
        let size = capacity
            .checked_mul(SECTOR)
            .filter(|size| i64::try_from(*size).is_ok())
            .ok_or_else(|| malformed(format!("found a disk of {capacity} sectors")))?;
        if !grain_sectors.is_power_of_two() || !(1..=4096).contains(&grain_sectors) {
            return Err(malformed(format!(
                "expected grains of 1 to 4096 sectors, found {grain_sectors}"
            )));
        }
        if per_table == 0 || per_table > 4096 {
            return Err(malformed(format!(
                "expected tables of 1 to 4096 grains (512 as a rule), found {per_table}"
            )));
        }
        let grain = grain_sectors * SECTOR;
        let directory_offset = int::le64(header, 56)
            .checked_mul(SECTOR)
            .ok_or_else(|| malformed("the grain directory lies beyond any file"))?;
        Ok(Self {
            size,
            grain,
            per_table,
            zero_grains: flags & ZERO_GRAINS != 0,
            compressed,
            directory_offset,
            directory_entries: size.div_ceil(grain * per_table),
            directory: None,
            next: 0,
        })
    }

    pub(crate) fn virtual_size(&self) -> u64 {
        self.size
    }

    fn read_directory(&self, source: &(impl Source + ?Sized)) -> Result<Vec<u32>> {
        if self.directory_entries > DIRECTORY_MAX {
            return Err(refused(format!(
                "its grain directory has {} entries, {DIRECTORY_MAX} are the limit",
                self.directory_entries
            )));
        }
        let length = usize::try_from(self.directory_entries * 4).unwrap_or(0);
        let bytes = table(
            source,
            Format::Vmdk,
            "a grain directory",
            self.directory_offset,
            length,
        )?;
        let mut seen = HashSet::new();
        let mut directory = Vec::with_capacity(length / 4);
        for (index, bytes) in bytes.chunks_exact(4).enumerate() {
            let sector = int::le32(bytes, 0);
            if sector != 0 && !seen.insert(sector) {
                return Err(malformed(format!(
                    "overlapping: grain table {index} at sector {sector} is used twice"
                )));
            }
            directory.push(sector);
        }
        Ok(directory)
    }

    pub(crate) fn next_batch(
        &mut self,
        source: &(impl Source + ?Sized),
        extents: &mut Vec<Extent>,
    ) -> Result<bool> {
        let directory = match self.directory.take() {
            Some(directory) => directory,
            None => self.read_directory(source)?,
        };
        let result = self.walk(&directory, source, extents);
        self.directory = Some(directory);
        result
    }

    fn walk(
        &mut self,
        directory: &[u32],
        source: &(impl Source + ?Sized),
        extents: &mut Vec<Extent>,
    ) -> Result<bool> {
        if self.next >= directory.len() {
            return Ok(false);
        }
        let begun = extents.len();
        let mut sink = Sink::new(Format::Vmdk, self.size, source, extents);
        let table_bytes = self.per_table * 4;
        while self.next < directory.len() && sink.extents.len() - begun < BATCH {
            let offset = u64::from(directory[self.next]) * SECTOR;
            if offset == 0 {
                self.next += 1;
                continue;
            }
            // Tables written in one go lie behind one another.
            let mut run = 1;
            while run < 256
                && directory
                    .get(self.next + run)
                    .is_some_and(|at| u64::from(*at) * SECTOR == offset + run as u64 * table_bytes)
            {
                run += 1;
            }
            let bytes = usize::try_from(table_bytes).unwrap_or(0);
            let tables = table(source, Format::Vmdk, "a grain table", offset, run * bytes)?;
            for one in tables.chunks_exact(bytes) {
                self.grains(self.next, one, &mut sink)?;
                self.next += 1;
            }
        }
        Ok(true)
    }

    fn grains(&self, index: usize, bytes: &[u8], sink: &mut Sink<'_>) -> Result<()> {
        let first = index as u64 * self.per_table * self.grain;
        for (number, entry) in bytes.chunks_exact(4).enumerate() {
            let guest = first + number as u64 * self.grain;
            if guest >= self.size {
                break;
            }
            let sector = int::le32(entry, 0);
            if sector == 0 || (sector == 1 && self.zero_grains) {
                continue;
            }
            let offset = u64::from(sector) * SECTOR;
            if self.compressed {
                let grain = u32::try_from(self.grain).unwrap_or(u32::MAX);
                // A marker, and what deflate may add to bytes that do not shrink.
                let bound = 12 + grain + grain / 64 + 512;
                sink.packed(guest, offset, grain, bound, Packing::Grain)?;
            } else {
                sink.plain(guest, offset, self.grain)?;
            }
        }
        Ok(())
    }
}

/// The embedded descriptor may say that the disk is more than this one file.
fn descriptor(text: &[u8]) -> Result<()> {
    let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
    let text = String::from_utf8_lossy(&text[..end]);
    let mut extents = 0;
    for line in text.lines().map(str::trim) {
        if let Some((key, value)) = line.split_once('=') {
            let value = value.trim().trim_matches('"');
            match key.trim() {
                "parentCID" if !value.eq_ignore_ascii_case("ffffffff") => {
                    return Err(refused(
                        "it has a parent, and only what is in the image itself is imported: flatten it with `qemu-img convert`",
                    ));
                }
                "createType" if !matches!(value, "monolithicSparse" | "streamOptimized") => {
                    return Err(refused(format!(
                        "expected createType monolithicSparse or streamOptimized, found {value:?}: its data is in other files, which are never opened"
                    )));
                }
                _ => {}
            }
            continue;
        }
        let mut words = line.split_whitespace();
        if !matches!(words.next(), Some("RW" | "RDONLY" | "NOACCESS")) {
            continue;
        }
        extents += 1;
        let kind = words.nth(1).unwrap_or_default();
        let name = line.split('"').nth(1).unwrap_or_default();
        if kind != "SPARSE" || name.contains(['/', '\\']) || extents > 1 {
            return Err(refused(format!(
                "expected one SPARSE extent, the file itself, found {line:?}: other files are never opened"
            )));
        }
    }
    Ok(())
}
