//! QEMU's qcow2, versions 2 and 3. Source: docs/interop/qcow2.rst of QEMU.
//!
//! Two levels of tables map clusters of the disk to clusters of the file. Refcounts and
//! snapshots matter to writers only and are not read.

use std::collections::HashSet;

use crate::disk::BATCH;
use crate::extent::{Extent, Packing, Sink};
use crate::source::{int, table};
use crate::{Error, Format, Result, Source};

/// Host offsets in L1 and L2 entries.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// L2: the cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// L2 (version 3): the cluster reads as zeros.
const ZERO: u64 = 1;
/// Incompatible features: refcounts may be wrong, which a reader need not care about.
const DIRTY: u64 = 1;
/// The image was marked corrupt.
const CORRUPT: u64 = 1 << 1;
/// The data is in another file.
const DATA_FILE: u64 = 1 << 2;
/// The header says how clusters are compressed.
const COMPRESSION_TYPE: u64 = 1 << 3;
/// L2 entries have 128 bits, with 32 subclusters a cluster.
const EXTENDED_L2: u64 = 1 << 4;
/// The longest L1 table that is read, in entries: 8 MiB of it, 512 TiB of disk at the default
/// cluster size.
const L1_MAX: u64 = 1 << 20;
/// L2 tables that lie behind one another are read at once, up to this many bytes.
const L2_RUN: u64 = 1 << 20;

/// An open image.
#[derive(Debug)]
pub(crate) struct Qcow2 {
    size: u64,
    cluster_bits: u32,
    version: u32,
    extended: bool,
    packing: Packing,
    l1_offset: u64,
    l1_entries: u64,
    l1: Option<Vec<u64>>,
    next: usize,
}

fn malformed(reason: impl Into<String>) -> Error {
    Error::malformed(Format::Qcow2, reason)
}

fn refused(reason: impl Into<String>) -> Error {
    Error::refused(Format::Qcow2, reason)
}

impl Qcow2 {
    pub(crate) fn open(source: &(impl Source + ?Sized)) -> Result<Self> {
        let mut header = table(source, Format::Qcow2, "a header", 0, 72)?;
        if &header[..4] != b"QFI\xfb" {
            return Err(malformed("expected the magic QFI\\xfb"));
        }
        let version = int::be32(&header, 4);
        if version != 2 && version != 3 {
            return Err(refused(format!("expected version 2 or 3, found {version}")));
        }
        let mut incompatible = 0;
        let mut packing = Packing::Deflate;
        if version == 3 {
            header = table(source, Format::Qcow2, "a header", 0, 104)?;
            incompatible = int::be64(&header, 72);
            let length = int::be32(&header, 100);
            if length < 104 {
                return Err(malformed(format!(
                    "expected a header of 104 bytes or more, found {length}"
                )));
            }
            let kind = if length > 104 {
                table(source, Format::Qcow2, "a header", 104, 1)?[0]
            } else {
                0
            };
            match (incompatible & COMPRESSION_TYPE != 0, kind) {
                (_, 0) => {}
                (true, 1) => packing = Packing::Zstd,
                (_, other) => {
                    return Err(refused(format!(
                        "expected compression zlib (0) or zstd (1), found type {other}"
                    )));
                }
            }
        }
        Self::refuse(&header, incompatible)?;
        let cluster_bits = int::be32(&header, 20);
        let extended = incompatible & EXTENDED_L2 != 0;
        let least = if extended { 14 } else { 9 };
        if !(least..=21).contains(&cluster_bits) {
            return Err(malformed(format!(
                "expected clusters of 2^{least} to 2^21 bytes, found 2^{cluster_bits}"
            )));
        }
        let size = int::be64(&header, 24);
        if size > i64::MAX as u64 {
            return Err(malformed(format!("found a disk of {size} bytes")));
        }
        let entry_bits = if extended { 4 } else { 3 };
        let per_l1 = 1u64 << (cluster_bits + cluster_bits - entry_bits);
        let l1_entries = size.div_ceil(per_l1);
        let l1_size = u64::from(int::be32(&header, 36));
        if l1_size < l1_entries {
            return Err(malformed(format!(
                "expected an L1 table of {l1_entries} entries for {size} bytes, found {l1_size}"
            )));
        }
        let l1_offset = int::be64(&header, 40);
        if !l1_offset.is_multiple_of(1 << cluster_bits) {
            return Err(malformed(format!(
                "expected the L1 table at a cluster's begin, found it at {l1_offset}"
            )));
        }
        Ok(Self {
            size,
            cluster_bits,
            version,
            extended,
            packing,
            l1_offset,
            l1_entries,
            l1: None,
            next: 0,
        })
    }

    /// What would read another file, or what we cannot read.
    fn refuse(header: &[u8], incompatible: u64) -> Result<()> {
        if int::be64(header, 8) != 0 || int::be32(header, 16) != 0 {
            return Err(refused(
                "it has a backing file, and only what is in the image itself is imported: flatten it with `qemu-img convert`",
            ));
        }
        if incompatible & DATA_FILE != 0 {
            return Err(refused(
                "its data is in an external data file, and only what is in the image itself is imported: flatten it with `qemu-img convert`",
            ));
        }
        if int::be32(header, 32) != 0 {
            return Err(refused(
                "it is encrypted: decrypt it with `qemu-img convert`",
            ));
        }
        if incompatible & CORRUPT != 0 {
            return Err(refused(
                "it is marked corrupt: repair it with `qemu-img check -r all`",
            ));
        }
        let unknown = incompatible & !(DIRTY | COMPRESSION_TYPE | EXTENDED_L2);
        if unknown != 0 {
            return Err(refused(format!(
                "it needs features that are not known (bits {unknown:#x})"
            )));
        }
        Ok(())
    }

    pub(crate) fn virtual_size(&self) -> u64 {
        self.size
    }

    fn l2_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Reads the L1 table. Not done on opening: the caller first looks whether the disk fits.
    fn read_l1(&self, source: &(impl Source + ?Sized)) -> Result<Vec<u64>> {
        if self.l1_entries > L1_MAX {
            return Err(refused(format!(
                "its L1 table has {} entries, {L1_MAX} are the limit: make it with larger clusters",
                self.l1_entries
            )));
        }
        let length = usize::try_from(self.l1_entries * 8).unwrap_or(0);
        let bytes = table(source, Format::Qcow2, "an L1 table", self.l1_offset, length)?;
        let mut seen = HashSet::new();
        let mut l1 = Vec::with_capacity(length / 8);
        for (index, bytes) in bytes.chunks_exact(8).enumerate() {
            let offset = int::be64(bytes, 0) & OFFSET;
            if !offset.is_multiple_of(self.l2_bytes()) {
                return Err(malformed(format!(
                    "expected L2 table {index} at a cluster's begin, found it at {offset}"
                )));
            }
            let inside_l1 = offset != 0
                && offset < self.l1_offset + length as u64
                && offset + self.l2_bytes() > self.l1_offset;
            if inside_l1 {
                return Err(malformed(format!(
                    "cyclic: L2 table {index} at {offset} lies in the L1 table"
                )));
            }
            if offset != 0 && !seen.insert(offset) {
                return Err(malformed(format!(
                    "overlapping: L2 table {index} at {offset} is used twice"
                )));
            }
            l1.push(offset);
        }
        Ok(l1)
    }

    pub(crate) fn next_batch(
        &mut self,
        source: &(impl Source + ?Sized),
        extents: &mut Vec<Extent>,
    ) -> Result<bool> {
        let l1 = match self.l1.take() {
            Some(l1) => l1,
            None => self.read_l1(source)?,
        };
        let result = self.walk(&l1, source, extents);
        self.l1 = Some(l1);
        result
    }

    fn walk(
        &mut self,
        l1: &[u64],
        source: &(impl Source + ?Sized),
        extents: &mut Vec<Extent>,
    ) -> Result<bool> {
        if self.next >= l1.len() {
            return Ok(false);
        }
        let begun = extents.len();
        let mut sink = Sink::new(Format::Qcow2, self.size, source, extents);
        while self.next < l1.len() && sink.extents.len() - begun < BATCH {
            let offset = l1[self.next];
            if offset == 0 {
                self.next += 1;
                continue;
            }
            let mut run = 1;
            while (run + 1) as u64 * self.l2_bytes() <= L2_RUN
                && l1.get(self.next + run) == Some(&(offset + run as u64 * self.l2_bytes()))
            {
                run += 1;
            }
            let bytes = usize::try_from(self.l2_bytes()).unwrap_or(0);
            let tables = table(source, Format::Qcow2, "an L2 table", offset, run * bytes)?;
            for one in tables.chunks_exact(bytes) {
                self.l2(self.next, one, &mut sink)?;
                self.next += 1;
            }
        }
        Ok(true)
    }

    fn l2(&self, index: usize, bytes: &[u8], sink: &mut Sink<'_>) -> Result<()> {
        let cluster = self.l2_bytes();
        let entry_bytes = if self.extended { 16 } else { 8 };
        let first = index as u64 * (cluster / entry_bytes) * cluster;
        let entries = bytes.chunks_exact(usize::try_from(entry_bytes).unwrap_or(8));
        for (number, entry) in entries.enumerate() {
            let guest = first + number as u64 * cluster;
            if guest >= self.size {
                break;
            }
            let word = int::be64(entry, 0);
            if word & COMPRESSED != 0 {
                self.compressed(guest, word, sink)?;
                continue;
            }
            let offset = word & OFFSET;
            if self.extended {
                self.subclusters(guest, offset, int::be64(entry, 8), sink)?;
                continue;
            }
            if offset == 0 || (self.version == 3 && word & ZERO != 0) {
                continue;
            }
            self.aligned(guest, offset)?;
            sink.plain(guest, offset, cluster)?;
        }
        Ok(())
    }

    fn aligned(&self, guest: u64, offset: u64) -> Result<()> {
        if offset.is_multiple_of(self.l2_bytes()) {
            return Ok(());
        }
        Err(malformed(format!(
            "expected the cluster of the disk's {guest} at a cluster's begin, found it at {offset}"
        )))
    }

    /// Bits 0 to 31 say which subclusters have data, 32 to 63 which are zeros.
    fn subclusters(&self, guest: u64, offset: u64, bitmap: u64, sink: &mut Sink<'_>) -> Result<()> {
        let length = self.l2_bytes() / 32;
        for index in 0..32 {
            if bitmap >> index & 1 == 0 {
                continue;
            }
            if bitmap >> (32 + index) & 1 != 0 || offset == 0 {
                return Err(malformed(format!(
                    "subcluster {index} of the cluster of the disk's {guest} has data and has none"
                )));
            }
            self.aligned(guest, offset)?;
            sink.plain(guest + index * length, offset + index * length, length)?;
        }
        Ok(())
    }

    fn compressed(&self, guest: u64, word: u64, sink: &mut Sink<'_>) -> Result<()> {
        let bits = 62 - (self.cluster_bits - 8);
        let offset = word & ((1 << bits) - 1);
        let sectors = (word & (COMPRESSED - 1)) >> bits;
        let bound = (sectors + 1) * 512 - (offset & 511);
        let cluster = u32::try_from(self.l2_bytes()).unwrap_or(u32::MAX);
        sink.packed(
            guest,
            offset,
            cluster,
            u32::try_from(bound).unwrap_or(u32::MAX),
            self.packing,
        )
    }
}
