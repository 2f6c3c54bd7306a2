//! Disk images in, sparse raw disks out.
//!
//! ```text
//!   seekable (file, HTTP ranges)          forward only (an upload, a gzip stream)
//!        Source                                   Read
//!          │ detect by content                      │ unwrap gz, xz, zst; detect
//!          ▼                                        ├─ raw ────────────► Target
//!        Disk: batches of Extents                   └─ other ─► stage beside the target
//!          │ sorted by place in the source                        │ (a Source again)
//!          ▼                                                      ▼
//!        convert: several threads read large ranges, unpack, skip zeros ──► Target
//! ```
//! A format's reader only says which bytes of the source lie where on the disk. Everything
//! that costs time is done once, for all of them, in [`convert()`].
//!
//! Why own readers: of the libraries that read such images over a storage trait, the best kept
//! one knows three of the six formats, is built for writing guests (caches, allocation, I/O
//! buffers in unsafe code) and opens further files by the paths that an image names. Here the
//! opposite is wanted: safe code over hostile bytes that can name no path, every table read in
//! windows of bounded size, in the order of the source so that ranges are long.

pub mod archive;
mod checksum;
mod convert;
mod crc;
mod disk;
mod error;
mod extent;
mod format;
mod pages;
mod plain;
mod qcow2;
mod source;
pub mod sparse;
mod stream;
mod target;
mod unpack;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;

pub use checksum::{Algorithm, Checksum, Hasher};
pub use convert::{Job, Outcome, convert, fill_blank};
pub use disk::{Disk, open, probe};
pub use error::{Error, Result};
pub use extent::{Extent, Packing};
pub use format::{Format, HEAD, detect};
pub use plain::open_plain;
pub use source::{FileSource, Source};
pub use stream::{Stage, import_stream};
pub use target::Target;
pub use unpack::decompress;

/// Reads any bytes as an image of every format and walks all their tables; for fuzzing.
/// Says how many extents there are, and never panics.
#[must_use]
pub fn any_image(bytes: &[u8]) -> usize {
    let formats = [
        Format::Qcow2,
        Format::Vmdk,
        Format::Vdi,
        Format::Vhd,
        Format::Vhdx,
    ];
    let mut seen = 0;
    for format in formats {
        let Ok(mut disk) = open(bytes, format) else {
            continue;
        };
        let mut extents = Vec::new();
        // Any disk that is larger would have been refused before its tables are read.
        if disk.virtual_size() > 1 << 40 {
            continue;
        }
        while let Ok(true) = disk.next_batch(bytes, &mut extents) {
            seen += extents.len();
            extents.clear();
        }
    }
    seen
}
