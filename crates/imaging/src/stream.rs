//! From a source that only goes forward: an upload, or anything compressed.
//!
//! Raw data goes straight to the disk. All other formats have tables that may be anywhere, so
//! they are first staged in a file beside the disk; while that is converted its space is given
//! back piece by piece, so that both together need little more than the larger one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};

use crate::pages::Pages;
use crate::target::Target;
use crate::{
    Error, FileSource, Format, HEAD, Hasher, Job, Outcome, Result, convert, detect, unpack, vhd,
};

/// Raw data is written in pieces of this many bytes.
const PIECE: usize = 2 << 20;
/// One piece is being filled, one is being written, and one waits.
const PIECES: usize = 3;
/// A fixed VHD's footer.
const FOOTER: usize = 512;
/// Compression around compression; more is a trick.
const LAYERS: usize = 2;

/// Where an image is kept until it is converted.
#[derive(Debug, Clone)]
pub enum Stage {
    /// In this file, which must not exist and is removed again.
    File(PathBuf),
    /// Nowhere; the reason is told when it is needed.
    Nowhere(String),
}

/// Writes the disk in the image that `reader` gives to `target`. The target is safely on disk
/// afterwards. `length` is how many bytes `reader` has, where it is known.
///
/// # Errors
/// As [`convert()`], and when an image must be staged and cannot be.
pub fn import_stream(
    reader: impl Read,
    length: Option<u64>,
    target: &Target,
    stage: &Stage,
    job: &Job<'_>,
) -> Result<Outcome> {
    let hasher = job.checksum.as_ref().map(|c| Hasher::new(c.algorithm));
    let mut read = Counted {
        inner: reader,
        hasher,
        count: 0,
        length,
        job,
        failed: None,
    };
    // A decoder may have wrapped the source's own reason into its words.
    let arrived = match arrive(&mut read, target, stage, job) {
        Ok(arrived) => arrived,
        Err(error) => return Err(read.failed.take().unwrap_or(error)),
    };
    // What compression leaves unread belongs to the source, and to its checksum.
    drain(&mut read)?;
    let checksum = match (read.hasher.take(), &job.checksum) {
        (Some(hasher), Some(expected)) => Some(hasher.verify(expected)?),
        _ => None,
    };
    let outcome = match arrived {
        Arrived::Written(outcome) => {
            target.sync()?;
            outcome
        }
        Arrived::Staged(format, staged) => {
            let source = FileSource::of(staged.file()?, &staged.path)?.consumed();
            let rest = Job {
                checksum: None,
                ..*job
            };
            convert(&source, format, target, &rest)?
        }
    };
    (job.progress)(1.0);
    Ok(Outcome {
        checksum,
        ..outcome
    })
}

/// Where the image is when its last byte was read.
enum Arrived {
    Written(Outcome),
    Staged(Format, Staged),
}

fn arrive<R: Read>(
    read: &mut Counted<'_, R>,
    target: &Target,
    stage: &Stage,
    job: &Job<'_>,
) -> Result<Arrived> {
    let known = read.length;
    let mut packed = false;
    let mut reader: Box<dyn Read + '_> = Box::new(read);
    let mut head = first(&mut reader, HEAD)?;
    let mut format = detect(&head);
    for _ in 0..LAYERS {
        if !format.is_compression() {
            break;
        }
        packed = true;
        reader = unpack::stream(format, io::Cursor::new(head).chain(reader));
        head = first(&mut reader, HEAD)?;
        format = detect(&head);
    }
    if let (Format::Raw, false, Some(length)) = (format, packed, known) {
        // A fixed VHD has its footer behind the disk.
        target
            .fits(length.saturating_sub(FOOTER as u64), job.size)
            .map_err(|error| match error {
                Error::TooLarge { available, .. } => Error::TooLarge {
                    needed: length,
                    available,
                },
                other => other,
            })?;
    }
    let mut reader = io::Cursor::new(head).chain(reader);
    match format {
        Format::Gzip | Format::Xz | Format::Zstd => Err(Error::refused(
            format,
            "it is compressed more than twice: unpack it first",
        )),
        Format::Tar => Err(Error::refused(
            format,
            "expected a disk image, found an archive: ask for content type archive to unpack it into the volume",
        )),
        Format::Raw => raw(&mut reader, target, job).map(Arrived::Written),
        other => {
            let path = match stage {
                Stage::File(path) => path,
                Stage::Nowhere(reason) => return Err(Error::refused(other, reason.clone())),
            };
            let staged = Staged::fill(path, &mut reader, stage_limit(target, job))?;
            Ok(Arrived::Staged(other, staged))
        }
    }
}

/// How long a staged image may be: a disk that fits, all of it written, and generous tables.
fn stage_limit(target: &Target, job: &Job<'_>) -> u64 {
    target.available(job.size).map_or(u64::MAX, |size| {
        size.saturating_add(size / 8).saturating_add(64 << 20)
    })
}

/// The first bytes, as many as there are.
fn first(reader: &mut impl Read, most: usize) -> Result<Vec<u8>> {
    let mut head = vec![0; most];
    let n = fill(reader, &mut head)?;
    head.truncate(n);
    Ok(head)
}

/// Fills `buffer` as far as the reader goes.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match reader.read(&mut buffer[n..]) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::from_read(error)),
        }
    }
    Ok(n)
}

fn drain(reader: &mut impl Read) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    while fill(reader, &mut buffer)? > 0 {}
    Ok(())
}

/// Raw data, in whose last 512 bytes a fixed VHD has its footer.
fn raw(reader: &mut impl Read, target: &Target, job: &Job<'_>) -> Result<Outcome> {
    let asked = target.available(job.size);
    target.prepare(asked.unwrap_or(0), job.preallocate)?;
    let (length, tail) = std::thread::scope(|scope| {
        let (filled, pieces) = mpsc::sync_channel(PIECES);
        let (written, spares) = mpsc::channel();
        for _ in 0..PIECES {
            let _ = written.send(Pages::default());
        }
        let writer = scope.spawn(move || write(&pieces, &written, target));
        let copied = copy(reader, asked, job, &spares, &filled);
        // The writer ends when nobody can give it more.
        drop(filled);
        // If both failed, there was no more to read into because nothing could be written.
        match writer.join() {
            Ok(Ok(())) => copied,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::SourceForNow("a thread failed".to_owned())),
        }
    })?;
    let fixed = vhd::fixed_footer(&tail, length);
    let virtual_size = fixed.unwrap_or(length);
    target.fits(virtual_size, job.size)?;
    if fixed.is_some() {
        let end = asked.map_or(length, |available| length.min(available));
        target.blank(virtual_size, end.saturating_sub(virtual_size))?;
    }
    let size = asked.unwrap_or(virtual_size);
    target.resize(size)?;
    Ok(Outcome {
        format: if fixed.is_some() {
            Format::Vhd
        } else {
            Format::Raw
        },
        virtual_size,
        size,
        checksum: None,
    })
}

/// Bytes of the disk, how many, and where they begin.
type Piece = (Pages, usize, u64);

/// Writes pieces until there are no more, and gives their memory back.
fn write(pieces: &Receiver<Piece>, written: &Sender<Pages>, target: &Target) -> Result<()> {
    for (mut pages, length, at) in pieces {
        target.write_sparse(pages.first(length), at)?;
        // Nobody reads any more.
        let _ = written.send(pages);
    }
    Ok(())
}

/// Hands on what is read, as far as there is room for it; gives the length of all, and the last
/// bytes.
fn copy(
    reader: &mut impl Read,
    asked: Option<u64>,
    job: &Job<'_>,
    spares: &Receiver<Pages>,
    filled: &SyncSender<Piece>,
) -> Result<(u64, Vec<u8>)> {
    let mut tail = Vec::new();
    let mut length = 0u64;
    loop {
        job.go_on()?;
        let Ok(mut pages) = spares.recv() else {
            // The writer failed, and tells why.
            return Ok((length, tail));
        };
        let buffer = pages.first(PIECE);
        let n = fill(reader, buffer)?;
        let piece = &buffer[..n];
        let end = length + n as u64;
        if let Some(available) = asked
            && end > available + FOOTER as u64
        {
            return Err(Error::TooLarge {
                needed: end,
                available,
            });
        }
        let room = asked.map_or(n, |available| {
            usize::try_from(available.saturating_sub(length)).map_or(n, |room| room.min(n))
        });
        tail.extend_from_slice(&piece[n.saturating_sub(FOOTER)..]);
        tail.drain(..tail.len().saturating_sub(FOOTER));
        let sent = filled.send((pages, room, length)).is_ok();
        length = end;
        if n < PIECE || !sent {
            return Ok((length, tail));
        }
    }
}

/// A staged image; its file goes with it.
struct Staged {
    path: PathBuf,
}

impl Drop for Staged {
    fn drop(&mut self) {
        // A file that stays behind is found and removed by the next attempt.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Staged {
    fn fill(path: &std::path::Path, reader: &mut impl Read, limit: u64) -> Result<Self> {
        // What an attempt that was killed left.
        let _ = std::fs::remove_file(path);
        let what = || format!("cannot stage the image in {}", path.display());
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(Error::io(what()))?;
        let staged = Self {
            path: path.to_owned(),
        };
        let mut buffer = vec![0; PIECE];
        let mut length = 0u64;
        loop {
            let n = fill(reader, &mut buffer)?;
            length += n as u64;
            if length > limit {
                return Err(Error::Source(format!(
                    "the image is longer than {limit} bytes, more than a disk that fits can need"
                )));
            }
            file.write_all(&buffer[..n]).map_err(|error| {
                if error.kind() == io::ErrorKind::StorageFull {
                    return Error::Full {
                        path: path.display().to_string(),
                        written: length,
                    };
                }
                Error::io(what())(error)
            })?;
            if n < PIECE {
                return Ok(staged);
            }
        }
    }

    fn file(&self) -> Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.path)
            .map_err(Error::io(format!("cannot open {}", self.path.display())))
    }
}

/// Hashes and counts what is read, and stops when asked.
struct Counted<'a, R> {
    inner: R,
    hasher: Option<Hasher>,
    count: u64,
    length: Option<u64>,
    job: &'a Job<'a>,
    /// Why the source failed, for it must not be lost in a decoder.
    failed: Option<Error>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Err(error) = self.job.go_on() {
            self.failed = Some(error);
            return Err(io::Error::other("stopped"));
        }
        let n = match self.inner.read(buffer) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                let text = error.to_string();
                self.failed = Some(Error::from_read(error));
                return Err(io::Error::other(text));
            }
        };
        self.count += n as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..n]);
        }
        if let Some(length) = self.length {
            // The end is told when the disk is safe.
            (self.job.progress)((self.count as f64 / length.max(1) as f64).min(0.99));
        }
        Ok(n)
    }
}
