//! Which bytes of a source lie where on the disk.

use crate::{Error, Format, Result, Source};

/// How an extent's bytes are packed in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As they are.
    Plain,
    /// A raw deflate stream, a qcow2 cluster.
    Deflate,
    /// A Zstandard frame, a qcow2 cluster.
    Zstd,
    /// A marker (sector and length) and a zlib stream, a grain of a stream-optimized VMDK.
    Grain,
}

/// A piece of the disk that is not all holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins on the disk, in bytes.
    pub guest: u64,
    /// Where it begins in the source, in bytes.
    pub source: u64,
    /// Bytes on the disk.
    pub length: u32,
    /// Bytes in the source; for packed ones an upper bound.
    pub source_length: u32,
    /// How it is packed.
    pub packing: Packing,
}

/// Extents that touch are joined up to this length.
const JOIN: u32 = 1 << 30;

/// Where a format's reader puts what it finds.
pub(crate) struct Sink<'a> {
    pub(crate) format: Format,
    pub(crate) virtual_size: u64,
    pub(crate) source_length: u64,
    pub(crate) extents: &'a mut Vec<Extent>,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(
        format: Format,
        virtual_size: u64,
        source: &(impl Source + ?Sized),
        extents: &'a mut Vec<Extent>,
    ) -> Self {
        Self {
            format,
            virtual_size,
            source_length: source.length(),
            extents,
        }
    }

    /// `length` bytes of the disk at `guest` are at `source`. What lies beyond the disk's end is
    /// cut; what lies beyond the source's end is a truncated image.
    pub(crate) fn plain(&mut self, guest: u64, source: u64, length: u64) -> Result<()> {
        let length = length.min(self.virtual_size.saturating_sub(guest));
        if length == 0 {
            return Ok(());
        }
        let end = source.checked_add(length);
        if end.is_none_or(|end| end > self.source_length) {
            return Err(Error::malformed(
                self.format,
                format!(
                    "truncated: the disk's bytes from {guest} on are expected at {source} of the file, found its end at {}",
                    self.source_length
                ),
            ));
        }
        let mut done = 0;
        while done < length {
            let part = u32::try_from((length - done).min(u64::from(JOIN))).unwrap_or(JOIN);
            self.join(guest + done, source + done, part);
            done += u64::from(part);
        }
        Ok(())
    }

    fn join(&mut self, guest: u64, source: u64, length: u32) {
        if let Some(last) = self.extents.last_mut()
            && last.packing == Packing::Plain
            && last.guest + u64::from(last.length) == guest
            && last.source + u64::from(last.length) == source
            && last.length.checked_add(length).is_some_and(|l| l <= JOIN)
        {
            last.length += length;
            last.source_length += length;
            return;
        }
        self.extents.push(Extent {
            guest,
            source,
            length,
            source_length: length,
            packing: Packing::Plain,
        });
    }

    /// `length` bytes of the disk at `guest` are packed in at most `bound` bytes at `source`.
    pub(crate) fn packed(
        &mut self,
        guest: u64,
        source: u64,
        length: u32,
        bound: u32,
        packing: Packing,
    ) -> Result<()> {
        // The last cluster may reach beyond the disk's end.
        let inside = self.virtual_size.saturating_sub(guest);
        let length = u32::try_from(inside).unwrap_or(u32::MAX).min(length);
        let left = self.source_length.saturating_sub(source);
        if left == 0 {
            return Err(Error::malformed(
                self.format,
                format!(
                    "truncated: the compressed bytes of the disk from {guest} on are expected at {source} of the file, found its end at {}",
                    self.source_length
                ),
            ));
        }
        self.extents.push(Extent {
            guest,
            source,
            length,
            source_length: u32::try_from(left).unwrap_or(u32::MAX).min(bound),
            packing,
        });
        Ok(())
    }
}
