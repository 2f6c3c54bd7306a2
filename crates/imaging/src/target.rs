//! Where a disk is written: a sparse file or a block device.
//!
//! What is long and lies at pages, in memory and on the disk, goes past the page cache: it is not
//! copied, pushes nobody else's pages out, and [`Target::sync`] has nothing left to wait for. All
//! else, and all of it on a file system that cannot, goes through the cache.

use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Advice, FallocateFlags, OFlags};
use rustix::io::Errno;

use crate::pages::PAGE;
use crate::{Error, Result, open_plain};

/// Zeros are found, and left out, in pieces of this many bytes.
const GRAIN: usize = PAGE;
/// Fewer bytes are better gathered in the page cache.
const DIRECT: usize = 256 << 10;
const ZEROS: [u8; GRAIN] = [0; GRAIN];
/// Zeros are written in pieces of this many bytes, where they cannot be left out.
const BLANK: usize = 1 << 20;
/// So many bytes that were written are given to the disk at once.
const BEHIND: u64 = 16 << 20;
/// The mode of a disk's file: its user and group, nobody else (upstream's).
const MODE: u32 = 0o660;

/// A disk that is being written. All of it reads as zeros at first.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    file: File,
    /// The same, past the page cache.
    direct: Option<File>,
    /// The system took no such write.
    refused: AtomicBool,
    device: bool,
    /// A device's own size.
    capacity: Option<u64>,
    /// What was written and not yet given to the disk.
    behind: Mutex<Behind>,
}

/// Bytes written, and the first and the last place of them.
#[derive(Debug)]
struct Behind {
    bytes: u64,
    from: u64,
    until: u64,
}

impl Behind {
    const NOTHING: Self = Self {
        bytes: 0,
        from: u64::MAX,
        until: 0,
    };
}

impl Target {
    /// Opens a block device, or makes the file `path` anew.
    ///
    /// # Errors
    /// As [`open_plain`].
    pub fn open(path: &Path) -> Result<Self> {
        let device = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_block_device());
        let what = || format!("cannot open {} for writing", path.display());
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if !device {
            options.create(true).truncate(true).mode(MODE);
        }
        let file = open_plain(path, &mut options)?;
        let capacity = if device {
            let end = rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0));
            Some(end.map_err(|e| Error::io(what())(e.into()))?)
        } else {
            // Also where the umask took bits away.
            file.set_permissions(std::fs::Permissions::from_mode(MODE))
                .map_err(Error::io(what()))?;
            None
        };
        Ok(Self {
            path: path.to_owned(),
            direct: past_the_cache(&file),
            file,
            refused: AtomicBool::new(false),
            device,
            capacity,
            behind: Mutex::new(Behind::NOTHING),
        })
    }

    /// The file or device.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a block device.
    #[must_use]
    pub fn is_device(&self) -> bool {
        self.device
    }

    /// How large a disk may be: a device's size, or what is asked for; nothing is no limit.
    #[must_use]
    pub fn available(&self, asked: Option<u64>) -> Option<u64> {
        self.capacity.or(asked)
    }

    /// Fails when a disk of `needed` bytes does not fit.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn fits(&self, needed: u64, asked: Option<u64>) -> Result<()> {
        match self.available(asked) {
            Some(available) if needed > available => Err(Error::TooLarge { needed, available }),
            _ => Ok(()),
        }
    }

    /// Makes it a disk of `size` bytes that all read as zeros; with `preallocate` its space is
    /// taken now.
    ///
    /// # Errors
    /// When there is no space, or the system refuses.
    pub fn prepare(&self, size: u64, preallocate: bool) -> Result<()> {
        if let Some(capacity) = self.capacity {
            return self.blank(0, capacity);
        }
        self.file
            .set_len(0)
            .and_then(|()| self.file.set_len(size))
            .map_err(|e| self.failed(0, e))?;
        if !preallocate || size == 0 {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, size) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                self.write_zeros(0, size)
            }
            Err(error) => Err(self.failed(size, error.into())),
        }
    }

    /// Makes a range read as zeros.
    pub(crate) fn blank(&self, offset: u64, length: u64) -> Result<()> {
        if length == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if rustix::fs::fallocate(&self.file, flags, offset, length).is_ok() {
            return Ok(());
        }
        self.write_zeros(offset, length)
    }

    fn write_zeros(&self, offset: u64, length: u64) -> Result<()> {
        let zeros = vec![0; BLANK];
        let mut done = 0;
        while done < length {
            let part = usize::try_from(length - done).unwrap_or(BLANK).min(BLANK);
            self.put(&zeros[..part], offset + done)?;
            done += part as u64;
        }
        Ok(())
    }

    /// Writes `bytes` at `offset` of a disk that reads as zeros there: whole zero pages are left
    /// out, all between them is written at once.
    ///
    /// # Errors
    /// When there is no space, or the system refuses.
    pub fn write_sparse(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let mut run = 0;
        let mut at = 0;
        while at < bytes.len() {
            let end = (at + GRAIN).min(bytes.len());
            if bytes[at..end] == ZEROS[..end - at] {
                if run < at {
                    self.put(&bytes[run..at], offset + run as u64)?;
                }
                run = end;
            }
            at = end;
        }
        if run < bytes.len() {
            self.put(&bytes[run..], offset + run as u64)?;
        }
        Ok(())
    }

    fn put(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let done = self.put_past_the_cache(bytes, offset)?;
        if done == bytes.len() {
            return Ok(());
        }
        self.put_into_the_cache(&bytes[done..], offset + done as u64)
    }

    /// How many bytes it wrote: none if they do not lie as that demands.
    fn put_past_the_cache(&self, bytes: &[u8], offset: u64) -> Result<usize> {
        let whole = bytes.len() - bytes.len() % PAGE;
        let lies_well =
            bytes.as_ptr().align_offset(PAGE) == 0 && offset.is_multiple_of(PAGE as u64);
        let Some(direct) = self
            .direct
            .as_ref()
            .filter(|_| whole >= DIRECT && lies_well && !self.refused.load(Ordering::Relaxed))
        else {
            return Ok(0);
        };
        match direct.write_all_at(&bytes[..whole], offset) {
            Ok(()) => Ok(whole),
            // Where blocks are longer than pages, or the file system only pretends.
            Err(error)
                if matches!(
                    Errno::from_io_error(&error),
                    Some(Errno::INVAL | Errno::OPNOTSUPP)
                ) =>
            {
                self.refused.store(true, Ordering::Relaxed);
                Ok(0)
            }
            Err(error) => Err(self.failed(offset, error)),
        }
    }

    /// One thread at a time: the system's own lock of a file would have the others spin, on
    /// processors that reading needs.
    fn put_into_the_cache(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        self.file
            .write_all_at(bytes, offset)
            .map_err(|e| self.failed(offset, e))?;
        let length = bytes.len() as u64;
        behind.bytes += length;
        behind.from = behind.from.min(offset);
        behind.until = behind.until.max(offset + length);
        if behind.bytes < BEHIND {
            return Ok(());
        }
        let full = std::mem::replace(&mut *behind, Behind::NOTHING);
        drop(behind);
        self.begin_writing(&full);
        Ok(())
    }

    /// Has the disk write while more comes, so that [`Self::sync`] waits for little only, and
    /// an import does not push everything else out of the page cache.
    fn begin_writing(&self, behind: &Behind) {
        let length = NonZeroU64::new(behind.until - behind.from);
        // Advice: nothing is lost without it.
        let _ = rustix::fs::fadvise(&self.file, behind.from, length, Advice::DontNeed);
    }

    #[cfg(test)]
    fn read(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        self.file
            .read_exact_at(bytes, offset)
            .map_err(Error::io(format!(
                "cannot read {} at {offset}",
                self.path.display()
            )))
    }

    /// Cuts or grows a file to `size`; a device stays as it is.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn resize(&self, size: u64) -> Result<()> {
        if self.device {
            return Ok(());
        }
        self.file.set_len(size).map_err(|e| self.failed(size, e))
    }

    /// Makes what was written survive a power cut.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| self.failed(0, e))
    }

    fn failed(&self, offset: u64, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full {
                path: self.path.display().to_string(),
                written: offset,
            },
            _ => Error::io(format!("cannot write {} at {offset}", self.path.display()))(error),
        }
    }
}

/// The open file once more, for writes past the page cache; none where there are none.
fn past_the_cache(file: &File) -> Option<File> {
    // By its descriptor: its name may lead elsewhere by now.
    let same = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new()
        .write(true)
        .custom_flags(OFlags::DIRECT.bits().cast_signed())
        .open(same)
        .ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::pages::Pages;

    #[test]
    fn what_goes_past_the_cache_and_what_does_not_is_all_there() {
        let dir = tempfile::tempdir().unwrap();
        let length = 3 * DIRECT + 5;
        let mut pages = Pages::default();
        let bytes = pages.first(length);
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = (at / 7) as u8 | 1;
        }
        // At a page and between pages, by a file system that takes such writes and one that does not.
        for (offset, refused) in [(0, false), (PAGE as u64, true), (100, false)] {
            let target = Target::open(&dir.path().join("disk.img")).unwrap();
            target.refused.store(refused, Ordering::Relaxed);
            target.prepare(4 << 20, false).unwrap();
            let past = target.put_past_the_cache(bytes, offset).unwrap();
            let may = target.direct.is_some() && !refused && offset == 0;
            assert_eq!(past, if may { 3 * DIRECT } else { 0 }, "at {offset}");
            target.write_sparse(bytes, offset).unwrap();
            let mut read = vec![0; length];
            target.read(&mut read, offset).unwrap();
            assert!(read == bytes, "at {offset}");
        }
    }

    #[test]
    fn zeros_are_holes_and_all_else_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::open(&dir.path().join("disk.img")).unwrap();
        target.prepare(1 << 20, false).unwrap();
        let mut bytes = vec![0; 300_000];
        bytes[0] = 1;
        bytes[200_001] = 2;
        bytes[299_999] = 3;
        target.write_sparse(&bytes, 4096).unwrap();
        let mut read = vec![9; bytes.len()];
        target.read(&mut read, 4096).unwrap();
        assert!(read == bytes);
        let meta = std::fs::metadata(target.path()).unwrap();
        assert_eq!((meta.len(), meta.mode() & 0o777), (1 << 20, 0o660));
        assert!(meta.blocks() * 512 <= 4 * 4096, "{}", meta.blocks());
    }

    #[test]
    fn preallocation_takes_the_space() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::open(&dir.path().join("disk.img")).unwrap();
        target.prepare(1 << 20, true).unwrap();
        let meta = std::fs::metadata(target.path()).unwrap();
        assert!(meta.blocks() * 512 >= 1 << 20);
    }
}
