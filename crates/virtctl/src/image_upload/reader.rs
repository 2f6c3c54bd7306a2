//! The file on its way out: read by a thread of its own, some pieces ahead.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::UNIX_EPOCH;

use anyhow::Context as _;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::mpsc;

use super::progress::Progress;

/// Bytes read at once.
const PIECE: usize = 256 << 10;
/// Pieces that may wait to be sent.
const AHEAD: usize = 4;
/// Bytes at either end that go into a file's print.
const END: u64 = 1 << 20;

/// The rest of a file as the body of a request.
pub(super) struct Rest {
    pieces: mpsc::Receiver<std::io::Result<Bytes>>,
    left: u64,
    progress: Arc<Mutex<Progress>>,
}

impl Rest {
    /// `file`, of `length` bytes, from `begin` on.
    ///
    /// # Errors
    /// When there is no place for another descriptor.
    pub(super) fn of(
        file: &File,
        begin: u64,
        length: u64,
        progress: Arc<Mutex<Progress>>,
    ) -> anyhow::Result<Self> {
        let file = file.try_clone()?;
        let (sender, pieces) = mpsc::channel(AHEAD);
        let left = length.saturating_sub(begin);
        tokio::task::spawn_blocking(move || read(file, begin, left, &sender));
        Ok(Self {
            pieces,
            left,
            progress,
        })
    }
}

fn read(mut file: File, begin: u64, mut left: u64, pieces: &mpsc::Sender<std::io::Result<Bytes>>) {
    if let Err(error) = file.seek(SeekFrom::Start(begin)) {
        let _ = pieces.blocking_send(Err(error));
        return;
    }
    while left > 0 {
        let wanted = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        let mut piece = vec![0; wanted];
        let read = match file.read_exact(&mut piece) {
            Ok(()) => Ok(Bytes::from(piece)),
            Err(error) => Err(error),
        };
        let failed = read.is_err();
        // Nobody takes it: the request has ended.
        if pieces.blocking_send(read).is_err() || failed {
            return;
        }
        left -= wanted as u64;
    }
}

impl Body for Rest {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        match self.pieces.poll_recv(context) {
            Poll::Ready(Some(Ok(piece))) => {
                let length = piece.len() as u64;
                self.left = self.left.saturating_sub(length);
                self.progress
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .add(length);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Poll::Ready(other) => Poll::Ready(other.map(|piece| piece.map(Frame::data))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// What tells a file from another, and from itself when it was changed: length, time
/// of its last change and a digest of both ends. Reading all of it would take as long
/// as to send it.
///
/// # Errors
/// When it cannot be read.
pub(super) fn print(file: &File) -> anyhow::Result<String> {
    let meta = file.metadata()?;
    let length = meta.len();
    let changed = meta
        .modified()?
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    let mut file = file.try_clone()?;
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    for begin in [0, length.saturating_sub(END)] {
        file.seek(SeekFrom::Start(begin))?;
        let mut end = Vec::new();
        (&mut file)
            .take(END)
            .read_to_end(&mut end)
            .context("cannot read the image")?;
        digest.update(&end);
    }
    let hex: String = digest
        .finish()
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(format!("{length}-{changed}-{hex}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http_body_util::BodyExt;
    use std::io::Write;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[tokio::test]
    async fn the_rest_of_a_file_is_sent_and_counted() {
        let bytes: Vec<u8> = (0..PIECE * 3 + 5).map(|at| at as u8).collect();
        let file = file(&bytes);
        let progress = Arc::new(Mutex::new(Progress::new(bytes.len() as u64)));
        for begin in [0, 7, bytes.len() as u64 - 1, bytes.len() as u64] {
            let rest = Rest::of(&file, begin, bytes.len() as u64, Arc::clone(&progress)).unwrap();
            assert_eq!(rest.size_hint().exact(), Some(bytes.len() as u64 - begin));
            let sent = rest.collect().await.unwrap().to_bytes();
            assert_eq!(sent, bytes[usize::try_from(begin).unwrap()..]);
        }
    }

    #[tokio::test]
    async fn a_file_that_shrank_is_an_error_and_no_short_upload() {
        let file = file(b"short");
        let progress = Arc::new(Mutex::new(Progress::new(9)));
        let rest = Rest::of(&file, 0, 9, progress).unwrap();
        assert!(rest.collect().await.is_err());
    }

    #[test]
    fn a_print_changes_with_the_file() {
        let mut one = file(b"one");
        let before = print(&one).unwrap();
        assert_eq!(print(&one).unwrap(), before);
        one.write_all(b"x").unwrap();
        assert_ne!(print(&one).unwrap(), before);
        assert_ne!(print(&file(b"two")).unwrap(), before);
    }
}
