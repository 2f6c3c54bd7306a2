//! Where an image's bytes come from, when any of them can be asked for.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::{Error, Format, Result, open_plain};

/// Bytes that can be read at any place, by several threads at once.
pub trait Source: Sync {
    /// How many bytes there are.
    fn length(&self) -> u64;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// When not all of them can be read. A caller asks for nothing beyond [`Self::length`].
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()>;

    /// Tells that these bytes are not needed again, so that their space may be given back.
    fn release(&self, _offset: u64, _length: u64) {}
}

impl Source for [u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|from| self.get(from..from.checked_add(buffer.len())?))
            .ok_or_else(|| Error::Source("read beyond the end".to_owned()))?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// A local file or block device.
#[derive(Debug)]
pub struct FileSource {
    path: PathBuf,
    file: File,
    length: u64,
    consumed: bool,
}

impl FileSource {
    /// Opens `path` for reading.
    ///
    /// # Errors
    /// As [`open_plain`], and when it has no length.
    pub fn open(path: &Path) -> Result<Self> {
        Self::of(open_plain(path, OpenOptions::new().read(true))?, path)
    }

    pub(crate) fn of(file: File, path: &Path) -> Result<Self> {
        let length = rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0))
            .map_err(|e| Error::io(format!("cannot measure {}", path.display()))(e.into()))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
            consumed: false,
        })
    }

    /// Where the next bytes from `from` on are that the file system keeps: begin and end. A
    /// system that does not tell holes keeps all.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn data(&self, from: u64) -> Result<Option<(u64, u64)>> {
        use rustix::fs::{SeekFrom, seek};
        use rustix::io::Errno;
        if from >= self.length {
            return Ok(None);
        }
        let failed = |error: Errno| {
            Error::io(format!("cannot look for data in {}", self.path.display()))(error.into())
        };
        let begin = match seek(&self.file, SeekFrom::Data(from)) {
            Ok(begin) => begin,
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((from, self.length))),
            Err(error) => return Err(failed(error)),
        };
        let end = match seek(&self.file, SeekFrom::Hole(begin)) {
            Ok(end) if end > begin => end.min(self.length),
            Ok(_) | Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => self.length,
            Err(error) => return Err(failed(error)),
        };
        Ok((begin < self.length).then_some((begin, end)))
    }

    /// Gives back the space of what was read, as far as the file system can: for a file that
    /// is removed afterwards and lies on the volume that is written to.
    #[must_use]
    pub fn consumed(mut self) -> Self {
        self.consumed = true;
        self
    }
}

impl Source for FileSource {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.file
            .read_exact_at(buffer, offset)
            .map_err(Error::io(format!(
                "cannot read {} bytes at {offset} of {}",
                buffer.len(),
                self.path.display()
            )))
    }

    fn release(&self, offset: u64, length: u64) {
        // Whole pages inside the range only.
        let from = offset.next_multiple_of(4096);
        let until = (offset + length) & !4095;
        if self.consumed && from < until {
            // A file system that cannot do it needs the space until the end; nothing is lost.
            let _ = rustix::fs::fallocate(
                &self.file,
                rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE,
                from,
                until - from,
            );
        }
    }
}

/// Reads `length` bytes of a table at `offset`; a table that is not all there is a truncated image.
pub(crate) fn table(
    source: &(impl Source + ?Sized),
    format: Format,
    what: &str,
    offset: u64,
    length: usize,
) -> Result<Vec<u8>> {
    let end = offset.checked_add(length as u64);
    if end.is_none_or(|end| end > source.length()) {
        return Err(Error::malformed(
            format,
            format!(
                "truncated: expected {what} of {length} bytes at {offset}, found the end of the file at {}",
                source.length()
            ),
        ));
    }
    let mut bytes = vec![0; length];
    source.read_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Fixed-size numbers out of bytes; out of range gives zero, for callers that read whole headers.
pub(crate) mod int {
    fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
        bytes
            .get(at..at + N)
            .and_then(|part| part.try_into().ok())
            .unwrap_or([0; N])
    }
    pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
        u32::from_be_bytes(array(bytes, at))
    }
    pub(crate) fn be64(bytes: &[u8], at: usize) -> u64 {
        u64::from_be_bytes(array(bytes, at))
    }
    pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
        u16::from_be_bytes(array(bytes, at))
    }
    pub(crate) fn le16(bytes: &[u8], at: usize) -> u16 {
        u16::from_le_bytes(array(bytes, at))
    }
    pub(crate) fn le32(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(array(bytes, at))
    }
    pub(crate) fn le64(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(array(bytes, at))
    }
}
