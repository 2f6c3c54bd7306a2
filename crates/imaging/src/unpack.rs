//! Unpacking: single clusters of images, and whole streams.
//!
//! Nothing here believes a length that an image states: what comes out of a cluster is at most
//! a cluster, and a stream's window is bounded before it is allocated.

use std::io::{self, BufRead, BufReader, Read};

use flate2::{Decompress, FlushDecompress, Status};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder, StreamingDecoder};

use crate::source::int;
use crate::{Error, Format, Packing, Result};

/// The largest window of a Zstandard stream: level 19 has 8 MiB, `--ultra -22` 128 MiB.
const ZSTD_WINDOW: u64 = 32 << 20;
/// Memory for an xz stream in KiB: `-9` has a dictionary of 64 MiB, the default 8 MiB.
const XZ_MEMORY: u32 = 66 << 10;

/// Unpacks one extent from `bytes` into `out`, which it must fill.
pub(crate) fn extent(packing: Packing, bytes: &[u8], out: &mut [u8], guest: u64) -> Result<()> {
    match packing {
        Packing::Plain => match bytes.get(..out.len()) {
            Some(bytes) => {
                out.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(broken(Format::Raw, guest, "too short")),
        },
        Packing::Deflate => {
            inflate(bytes, out, false).map_err(|reason| broken(Format::Qcow2, guest, &reason))
        }
        Packing::Zstd => zstd(bytes, out).map_err(|reason| broken(Format::Qcow2, guest, &reason)),
        Packing::Grain => grain(bytes, out, guest),
    }
}

fn broken(format: Format, guest: u64, reason: &str) -> Error {
    Error::malformed(
        format,
        format!("the compressed bytes of the disk from {guest} on cannot be unpacked: {reason}"),
    )
}

fn inflate(bytes: &[u8], out: &mut [u8], zlib: bool) -> std::result::Result<(), String> {
    let mut state = Decompress::new(zlib);
    let status = state
        .decompress(bytes, out, FlushDecompress::Finish)
        .map_err(|error| error.to_string())?;
    let got = state.total_out();
    // A cluster may hold more than asked, the rest is never wanted; less is a broken one.
    if got == out.len() as u64 {
        return Ok(());
    }
    Err(match status {
        Status::StreamEnd => format!("expected {} bytes, found {got}", out.len()),
        _ => format!("it ends after {got} of {} bytes", out.len()),
    })
}

fn zstd(bytes: &[u8], out: &mut [u8]) -> std::result::Result<(), String> {
    let mut decoder = FrameDecoder::new();
    // A cluster has at most 2 MiB; no window need be longer than what it looks back on.
    decoder.set_max_window_size(8 << 20);
    let mut reader =
        StreamingDecoder::new_with_decoder(bytes, decoder).map_err(|error| error.to_string())?;
    reader
        .read_exact(out)
        .map_err(|error| format!("expected {} bytes: {error}", out.len()))
}

fn grain(bytes: &[u8], out: &mut [u8], guest: u64) -> Result<()> {
    let sector = int::le64(bytes, 0);
    if sector.checked_mul(512) != Some(guest) {
        return Err(broken(
            Format::Vmdk,
            guest,
            &format!(
                "expected the marker of sector {}, found {sector}",
                guest / 512
            ),
        ));
    }
    let length = int::le32(bytes, 8) as usize;
    let packed = 12usize
        .checked_add(length)
        .and_then(|end| bytes.get(12..end))
        .ok_or_else(|| {
            broken(
                Format::Vmdk,
                guest,
                &format!(
                    "expected {length} bytes, found {}",
                    bytes.len().saturating_sub(12)
                ),
            )
        })?;
    // The last grain may be cut at the disk's end.
    inflate(packed, out, true).map_err(|reason| broken(Format::Vmdk, guest, &reason))
}

/// A stream without its compression.
pub(crate) fn stream<'a>(format: Format, inner: impl Read + 'a) -> Box<dyn Read + 'a> {
    match format {
        Format::Gzip => Box::new(Named {
            format,
            inner: flate2::read::MultiGzDecoder::new(inner),
        }),
        Format::Xz => Box::new(Named {
            format,
            inner: lzma_rust2::XzReader::new_mem_limit(BufReader::new(inner), true, XZ_MEMORY),
        }),
        Format::Zstd => Box::new(Named {
            format,
            inner: Frames {
                inner: BufReader::new(inner),
                frame: None,
            },
        }),
        _ => Box::new(inner),
    }
}

/// Says which decoder an error is of. Errors of the source itself stay as they are.
struct Named<R> {
    format: Format,
    inner: R,
}

impl<R: Read> Read for Named<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let format = self.format;
        self.inner.read(buffer).map_err(|error| {
            if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
                return error;
            }
            let reason = match error.kind() {
                io::ErrorKind::UnexpectedEof => "truncated: it ends in the middle".to_owned(),
                io::ErrorKind::OutOfMemory => format!(
                    "its dictionary needs more than {} MiB of memory: compress it with a lower level",
                    XZ_MEMORY >> 10
                ),
                _ => error.to_string(),
            };
            Error::malformed(format, reason).into()
        })
    }
}

/// Zstandard frames behind one another, as `zstd` reads them; skippable ones are skipped.
struct Frames<R: Read> {
    inner: BufReader<R>,
    frame: Option<Box<FrameDecoder>>,
}

impl<R: Read> Frames<R> {
    /// Opens the next frame; none at the end.
    fn next(&mut self) -> io::Result<Option<Box<FrameDecoder>>> {
        loop {
            if self.inner.fill_buf()?.is_empty() {
                return Ok(None);
            }
            let mut decoder = Box::new(FrameDecoder::new());
            decoder.set_max_window_size(ZSTD_WINDOW);
            match decoder.init(&mut self.inner) {
                Ok(()) => return Ok(Some(decoder)),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = (&mut self.inner).take(u64::from(length));
                    io::copy(&mut skipped, &mut io::sink())?;
                }
                Err(FrameDecoderError::WindowSizeTooBig { requested, .. }) => {
                    return Err(io::Error::other(format!(
                        "its window needs {requested} bytes of memory, {ZSTD_WINDOW} are the limit: compress it without --long and --ultra"
                    )));
                }
                Err(error) => return Err(io::Error::other(error.to_string())),
            }
        }
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(frame) = &mut self.frame else {
                self.frame = self.next()?;
                if self.frame.is_none() {
                    return Ok(0);
                }
                continue;
            };
            while frame.can_collect() == 0 && !frame.is_finished() {
                // One block is at most 128 KiB.
                let decoded =
                    frame.decode_blocks(&mut self.inner, BlockDecodingStrategy::UptoBlocks(1));
                if let Err(error) = decoded {
                    return Err(io::Error::other(error.to_string()));
                }
            }
            let n = frame.read(buffer)?;
            if n > 0 {
                return Ok(n);
            }
            let stated = frame.get_checksum_from_data();
            if stated.is_some() && stated != frame.get_calculated_checksum() {
                return Err(io::Error::other("a frame's checksum does not hold"));
            }
            self.frame = None;
        }
    }
}

/// A stream of whatever it holds, without its compression if it has one.
///
/// # Errors
/// When its first bytes cannot be read.
pub fn decompress<'a>(mut inner: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    let mut head = Vec::new();
    (&mut inner)
        .take(crate::HEAD as u64)
        .read_to_end(&mut head)
        .map_err(Error::from_read)?;
    let format = crate::detect(&head);
    Ok(stream(format, io::Cursor::new(head).chain(inner)))
}
