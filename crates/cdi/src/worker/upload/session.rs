//! One upload: the channel its bytes go through, and the thread that writes them.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::body::Bytes;
use imaging::{Error, Result, Target};
use tokio::sync::{mpsc, watch};

use super::super::Claim;
use super::super::end::Done;
use super::{CLONED, COMPLETE};

/// Pieces that wait between network and disk: 4 MiB.
const WAITING: usize = 16;

/// What goes through the channel: bytes, then that it was all.
enum Piece {
    Bytes(Vec<Bytes>),
    End,
}

/// What the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// An image in whatever format.
    Image,
    /// A tar of files, of a client or of another claim.
    Archive { clone: bool },
    /// Another claim's disk, as its worker sends it.
    Clone,
}

/// How the thread ended; errors as the text and kind that an answer needs.
pub(super) type Ended = Option<Arc<Result<Done>>>;

/// An upload that is under way.
pub(super) struct Session {
    sender: mpsc::Sender<Piece>,
    ended: watch::Receiver<Ended>,
    cancel: Arc<AtomicBool>,
    /// Bytes that arrived.
    pub(super) received: u64,
    /// Bytes there will be, where it is known.
    pub(super) total: Option<u64>,
}

impl Session {
    /// Starts the thread.
    pub(super) fn start(claim: &Claim, content: Content, total: Option<u64>) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let (tell, ended) = watch::channel(None);
        let cancel = Arc::new(AtomicBool::new(false));
        let (claim, seen) = (claim.clone(), Arc::clone(&cancel));
        std::thread::Builder::new()
            .name("upload".to_owned())
            .spawn(move || {
                let reader = Pieces {
                    receiver,
                    now: Vec::new().into_iter(),
                    piece: Bytes::new(),
                    whole: false,
                };
                let outcome = write(&claim, content, total, reader, &seen);
                tell.send_replace(Some(Arc::new(outcome)));
            })?;
        Ok(Self {
            sender,
            ended,
            cancel,
            received: 0,
            total,
        })
    }

    /// What is needed to send without holding the session.
    pub(super) fn pipe(&self) -> Pipe {
        Pipe {
            sender: self.sender.clone(),
            ended: self.ended.clone(),
        }
    }

    /// Ends the thread and waits until it has let go of the claim.
    pub(super) async fn abandon(self) {
        self.cancel.store(true, Ordering::Relaxed);
        drop(self.sender);
        let mut ended = self.ended;
        // An error says that the thread is gone.
        let _ = ended.wait_for(Option::is_some).await;
    }

    pub(super) fn cancel(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}

/// The way into a session.
pub(super) struct Pipe {
    sender: mpsc::Sender<Piece>,
    ended: watch::Receiver<Ended>,
}

impl Pipe {
    /// False when the thread wants no more: it has failed.
    pub(super) async fn send(&self, bytes: Vec<Bytes>) -> bool {
        self.sender.send(Piece::Bytes(bytes)).await.is_ok()
    }

    /// Says that this was all.
    pub(super) async fn end(&self) {
        // A thread that is gone tells why in its outcome.
        let _ = self.sender.send(Piece::End).await;
    }

    pub(super) async fn outcome(&mut self) -> Arc<Result<Done>> {
        match self.ended.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().unwrap_or_else(lost),
            Err(_) => lost(),
        }
    }
}

fn lost() -> Arc<Result<Done>> {
    Arc::new(Err(Error::SourceForNow(
        "the writing thread failed".to_owned(),
    )))
}

fn write(
    claim: &Claim,
    content: Content,
    total: Option<u64>,
    mut reader: Pieces,
    cancel: &AtomicBool,
) -> Result<Done> {
    let tell = |part| claim.progress.tell(part);
    let job = claim.job(None, cancel, &tell);
    if let Content::Archive { clone } = content {
        let bytes = imaging::archive::extract(reader, &claim.directory(), &job)?;
        let message = if clone { CLONED } else { COMPLETE };
        return Ok(Done::archive(message, bytes));
    }
    let target = Target::open(&claim.target)?;
    if content == Content::Clone {
        let outcome = imaging::sparse::receive(&mut reader, &target, &job)?;
        return Ok(Done::disk(CLONED, outcome));
    }
    let stage = claim.stage(&target);
    let outcome = imaging::import_stream(reader, total, &target, &stage, &job)?;
    Ok(Done::disk(COMPLETE, outcome))
}

/// The thread's end of the channel.
struct Pieces {
    receiver: mpsc::Receiver<Piece>,
    now: std::vec::IntoIter<Bytes>,
    piece: Bytes,
    /// The end was seen; a channel that is closed before it is an upload given up.
    whole: bool,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            if self.whole {
                return Ok(0);
            }
            if let Some(next) = self.now.next() {
                self.piece = next;
                continue;
            }
            match self.receiver.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.now = bytes.into_iter(),
                Some(Piece::End) => {
                    self.whole = true;
                    self.receiver.close();
                    return Ok(0);
                }
                None => return Err(Error::Cancelled.into()),
            }
        }
        let n = self.piece.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.piece.split_to(n));
        Ok(n)
    }
}
