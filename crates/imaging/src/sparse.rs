//! A raw disk on its way from one worker to another: what is not zero, and where it belongs.
//!
//! ```text
//!   magic ─ size of the disk ─ (place ─ length ─ bytes)* ─ (end ─ 0)
//! ```
//! All numbers are big-endian. A disk that a guest wrote may begin like any format, so this is
//! never guessed: both sides know that it is this. A stream without its end is no disk.

use std::io::{Read, Write};

use crate::{Error, FileSource, Format, Job, Outcome, Result, Source, Target};

/// How a stream begins.
const MAGIC: [u8; 8] = *b"EVSPARS1";
/// The place that says that there is no more.
const END: u64 = u64::MAX;
/// Most bytes of one piece: a reader needs no more memory than that.
const PIECE: usize = 1 << 20;
/// Zeros are looked for in units of this many bytes; fewer of them cost less than a new place.
const GRAIN: usize = 64 << 10;
static ZEROS: [u8; GRAIN] = [0; GRAIN];

/// Writes the disk in `source` to `out`, holes and zeros left out.
///
/// # Errors
/// When the source cannot be read, `out` takes no more, or `job` is cancelled.
pub fn send(source: &FileSource, out: &mut impl Write, job: &Job<'_>) -> Result<u64> {
    let size = source.length();
    let gone = |error| Error::SourceForNow(format!("the other worker takes no more: {error}"));
    out.write_all(&MAGIC)
        .and_then(|()| out.write_all(&size.to_be_bytes()))
        .map_err(gone)?;
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while let Some((begin, end)) = source.data(at)? {
        at = begin;
        while at < end {
            job.go_on()?;
            let length = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
            let bytes = &mut buffer[..length];
            source.read_at(bytes, at)?;
            pieces(bytes, |from, run| {
                let place = at + from as u64;
                let length = u32::try_from(run.len()).unwrap_or_default();
                out.write_all(&place.to_be_bytes())
                    .and_then(|()| out.write_all(&length.to_be_bytes()))
                    .and_then(|()| out.write_all(run))
                    .map_err(gone)
            })?;
            at += length as u64;
            // The end is told when the other side says so.
            (job.progress)((at as f64 / size.max(1) as f64).min(0.99));
        }
    }
    out.write_all(&END.to_be_bytes())
        .and_then(|()| out.write_all(&0_u32.to_be_bytes()))
        .and_then(|()| out.flush())
        .map_err(gone)?;
    Ok(size)
}

/// The parts of `bytes` that are not zero, and where they begin.
fn pieces(bytes: &[u8], mut tell: impl FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
    let mut run = 0;
    let mut at = 0;
    while at < bytes.len() {
        let end = (at + GRAIN).min(bytes.len());
        if bytes[at..end] == ZEROS[..end - at] {
            if run < at {
                tell(run, &bytes[run..at])?;
            }
            run = end;
        }
        at = end;
    }
    if run < bytes.len() {
        tell(run, &bytes[run..])?;
    }
    Ok(())
}

/// Writes the disk that [`send`] sends to `target`, which is safely on disk afterwards.
///
/// # Errors
/// When the disk does not fit, the stream is broken or ends too early, or the target fails.
pub fn receive(reader: &mut impl Read, target: &Target, job: &Job<'_>) -> Result<Outcome> {
    let mut head = [0; 16];
    read(reader, &mut head)?;
    if head[..8] != MAGIC {
        return Err(broken(
            "expected a disk of another worker, found other bytes",
        ));
    }
    let virtual_size = number(&head[8..]);
    target.fits(virtual_size, job.size)?;
    let size = target
        .available(job.size)
        .unwrap_or(virtual_size)
        .max(virtual_size);
    target.prepare(size, job.preallocate)?;
    let mut buffer = vec![0; PIECE];
    let mut reached = 0;
    loop {
        job.go_on()?;
        let mut head = [0; 12];
        read(reader, &mut head)?;
        let (place, length) = (number(&head[..8]), number(&head[8..]));
        if place == END && length == 0 {
            break;
        }
        let end = place.checked_add(length);
        let fits = end.is_some_and(|end| place >= reached && end <= virtual_size);
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= PIECE);
        let (true, Some(length), Some(end)) = (fits, length, end) else {
            return Err(broken(&format!(
                "expected bytes between {reached} and {virtual_size}, found some at {place}"
            )));
        };
        let bytes = &mut buffer[..length];
        read(reader, bytes)?;
        target.write_sparse(bytes, place)?;
        reached = end;
        (job.progress)((reached as f64 / virtual_size.max(1) as f64).min(0.99));
    }
    target.sync()?;
    (job.progress)(1.0);
    Ok(Outcome {
        format: Format::Raw,
        virtual_size,
        size,
        checksum: None,
    })
}

fn broken(why: &str) -> Error {
    Error::SourceForNow(format!("the other worker's stream is broken: {why}"))
}

/// Fills `bytes`, or says that the stream ended before its end.
fn read(reader: &mut impl Read, bytes: &mut [u8]) -> Result<()> {
    reader.read_exact(bytes).map_err(|error| {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            broken("it ended before its end was told")
        } else {
            Error::from_read(error)
        }
    })
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{FileExt, MetadataExt};
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn job<'a>(size: Option<u64>, cancel: &'a AtomicBool) -> Job<'a> {
        Job {
            size,
            checksum: None,
            preallocate: false,
            threads: 1,
            progress: &|_| {},
            cancel,
        }
    }

    /// A disk of 8 MiB with few bytes, one of them the last, and its stream.
    fn stream() -> (Vec<u8>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("source.img");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(8 << 20).unwrap();
        // Begins like a qcow2 image, which a guest may write.
        file.write_all_at(b"QFI\xfb\0\0\0\x03", 0).unwrap();
        file.write_all_at(&[7; 100_000], 3_000_001).unwrap();
        file.write_all_at(&[9], (8 << 20) - 1).unwrap();
        let mut out = Vec::new();
        let never = AtomicBool::new(false);
        let source = FileSource::open(&path).unwrap();
        assert_eq!(
            send(&source, &mut out, &job(None, &never)).unwrap(),
            8 << 20
        );
        (std::fs::read(&path).unwrap(), out)
    }

    fn received(stream: &[u8], size: Option<u64>) -> Result<(Vec<u8>, u64)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.img");
        let target = Target::open(&path).unwrap();
        let never = AtomicBool::new(false);
        receive(&mut &*stream, &target, &job(size, &never))?;
        let kept = std::fs::metadata(&path).unwrap().blocks() * 512;
        Ok((std::fs::read(&path).unwrap(), kept))
    }

    #[test]
    fn what_is_not_zero_arrives_and_nothing_else_travels() {
        let (disk, stream) = stream();
        assert!(stream.len() < 500_000, "{}", stream.len());
        let (found, kept) = received(&stream, None).unwrap();
        assert!(found == disk);
        assert!(kept < 1 << 20, "{kept}");
        // A larger claim's disk is zero behind it.
        let (mut found, _) = received(&stream, Some(9 << 20)).unwrap();
        assert!(found.split_off(disk.len()).iter().all(|byte| *byte == 0));
        assert!(found == disk);
    }

    #[test]
    fn a_stream_that_is_not_whole_is_no_disk() {
        let (_, stream) = stream();
        for end in [0, 7, 12, 20, 40_000, stream.len() - 12, stream.len() - 1] {
            let error = received(&stream[..end], None).unwrap_err();
            assert!(!error.is_permanent(), "{end}: {error}");
        }
        let mut other = stream.clone();
        other[0] = b'X';
        assert!(received(&other, None).is_err());
        // Beyond the end, and backwards.
        for place in [8_u64 << 20, u64::MAX - 1] {
            let mut other = stream.clone();
            other[16..24].copy_from_slice(&place.to_be_bytes());
            assert!(received(&other, None).is_err());
        }
    }

    #[test]
    fn a_disk_that_does_not_fit_is_refused_for_good() {
        let (_, stream) = stream();
        let error = received(&stream, Some(4 << 20)).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }) && error.is_permanent());
    }
}
