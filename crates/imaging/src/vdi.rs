//! VirtualBox's VDI. Source: VirtualBox's VDICore.h as documented in its forum's "All about VDIs".
//!
//! One map of 32-bit block numbers.

use crate::disk::BATCH;
use crate::extent::{Extent, Sink};
use crate::source::{int, table};
use crate::{Error, Format, Result, Source};

/// Block numbers from here on are holes: free, and zeros.
const HOLES: u32 = 0xffff_fffe;

/// An open image.
#[derive(Debug)]
pub(crate) struct Vdi {
    size: u64,
    block: u64,
    map: u64,
    data: u64,
    next: u64,
}

impl Vdi {
    pub(crate) fn open(source: &(impl Source + ?Sized)) -> Result<Self> {
        let malformed = |reason: String| Error::malformed(Format::Vdi, reason);
        let refused = |reason: String| Error::refused(Format::Vdi, reason);
        let header = table(source, Format::Vdi, "a header", 0, 512)?;
        if int::le32(&header, 0x40) != 0xbeda_107f {
            return Err(malformed("expected the signature 0xbeda107f".to_owned()));
        }
        let version = int::le32(&header, 0x44);
        if version != 0x0001_0001 {
            return Err(refused(format!("expected version 1.1, found {version:#x}")));
        }
        match int::le32(&header, 0x4c) {
            1 | 2 => {}
            other => {
                return Err(refused(format!(
                    "expected a dynamic (1) or fixed (2) image, found type {other}; differences need their parent, which is never opened"
                )));
            }
        }
        if header[0x1a8..0x1b8].iter().any(|b| *b != 0) {
            return Err(refused(
                "it is linked to a parent, which is never opened: clone it with VBoxManage"
                    .to_owned(),
            ));
        }
        let size = int::le64(&header, 0x170);
        let block = u64::from(int::le32(&header, 0x178));
        let extra = int::le32(&header, 0x17c);
        let blocks = u64::from(int::le32(&header, 0x180));
        if !block.is_power_of_two() || !(4096..=1 << 28).contains(&block) || extra != 0 {
            return Err(malformed(format!(
                "expected blocks of 4 KiB to 256 MiB with no extra, found {block} and {extra}"
            )));
        }
        if size > i64::MAX as u64 || blocks < size.div_ceil(block) {
            return Err(malformed(format!(
                "expected {} blocks of {block} for {size} bytes, found {blocks}",
                size.div_ceil(block)
            )));
        }
        Ok(Self {
            size,
            block,
            map: u64::from(int::le32(&header, 0x154)),
            data: u64::from(int::le32(&header, 0x158)),
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
        let blocks = self.size.div_ceil(self.block);
        if self.next >= blocks {
            return Ok(false);
        }
        let count = (blocks - self.next).min(BATCH as u64);
        let bytes = table(
            source,
            Format::Vdi,
            "a block map",
            self.map + self.next * 4,
            usize::try_from(count * 4).unwrap_or(0),
        )?;
        let mut sink = Sink::new(Format::Vdi, self.size, source, extents);
        for entry in bytes.chunks_exact(4) {
            let number = int::le32(entry, 0);
            if number < HOLES {
                let offset = self.data + u64::from(number) * self.block;
                sink.plain(self.next * self.block, offset, self.block)?;
            }
            self.next += 1;
        }
        Ok(true)
    }
}
