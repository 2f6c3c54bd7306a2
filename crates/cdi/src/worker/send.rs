//! `cdi-cloner send`: reads a claim and sends it to the upload server of a clone in another
//! namespace.
//!
//! ```text
//!   claim ── thread: imaging::sparse, or tar ──► channel ── mTLS ──► cdi-uploadserver --clone
//! ```
//! What breaks is sent again from the begin: the server keeps nothing of a stream that has no
//! end. It says when the claim is filled, and only then this ends well.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper_util::rt::TokioIo;
use imaging::{Error, FileSource, Job, Result, sparse};
use kube_kit::args::Args;
use kube_kit::tls::ClientTls;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::cloner::write_tree;
use super::end::{Done, Ending};
use super::progress::{self, Progress};
use super::upload::CLONE_PATH;

/// What the last word says.
const SENT: &str = "Sent";
/// Bytes that are given to the network at once, and how many such pieces wait: 2 MiB.
const PIECE: usize = 256 << 10;
const WAITING: usize = 8;
/// A server that is on its way answers soon; until then it is asked again.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection on which nothing moves for so long is dead; at the end the server's disk may
/// need that long.
const STILL: Duration = Duration::from_secs(120);
const STILL_AT_END: Duration = Duration::from_secs(600);
/// First wait before it is tried again, doubled up to the second.
const PAUSE: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];
/// An answer is a sentence.
const LONGEST: usize = 4096;

/// What is sent, and where to.
#[derive(Debug)]
struct Work {
    from: PathBuf,
    archive: bool,
    to: String,
    tls_dir: PathBuf,
    progress: Arc<Progress>,
}

/// Runs with the arguments after `send`: `--from` a disk, a device or (`--content-type archive`)
/// a directory, `--to HOST:PORT`, `--tls-dir` with tls.crt, tls.key and ca-bundle.crt.
pub(super) fn main(args: Vec<OsString>) -> ExitCode {
    kube_kit::start("cdi-cloner", |shutdown| async move {
        let mut args = Args::new(args);
        let kind: String = args.or("--content-type", "kubevirt".to_owned())?;
        let owner: String = args.or("--owner-uid", String::new())?;
        let work = Work {
            from: args.required::<String>("--from")?.into(),
            archive: kind == "archive",
            to: args.required("--to")?,
            tls_dir: args.required::<String>("--tls-dir")?.into(),
            progress: Arc::new(Progress::new(owner, args.option("--metrics")?)),
        };
        let log: String = args.or("--termination-log", "/dev/termination-log".to_owned())?;
        args.finish()?;
        anyhow::ensure!(
            work.to.contains(':'),
            "option --to: expected HOST:PORT, found {:?}",
            work.to
        );
        let metrics = tokio::spawn(progress::serve(work.progress.clone(), shutdown.clone()));
        let outcome = tokio::select! {
            outcome = work.run() => outcome,
            () = shutdown.cancelled() => Err(Error::Cancelled),
        };
        metrics.abort();
        Ending::new(log.into()).write(&outcome)
    })
}

impl Work {
    /// Sends until the server has it all, or never will.
    async fn run(&self) -> Result<Done> {
        let [mut pause, most] = PAUSE;
        loop {
            let error = match self.attempt().await {
                Ok(size) => return Ok(Done::archive(SENT, size)),
                Err(error) if error.is_permanent() => return Err(error),
                Err(error) => error,
            };
            tracing::warn!("tried again in {pause:?}: {error}");
            self.progress.retrying(Some(error.to_string()));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(most);
        }
    }

    /// Sends once.
    async fn attempt(&self) -> Result<u64> {
        let gone =
            |error: String| Error::SourceForNow(format!("the upload server {}: {error}", self.to));
        let stream = self.connect().await.map_err(|e| gone(format!("{e:#}")))?;
        let (mut requests, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| gone(error.to_string()))?;
        let connection = tokio::spawn(connection);
        let (pieces, receiver) = mpsc::channel(WAITING);
        let moved = Arc::new(AtomicU64::new(0));
        let (stop, mut read) = self.read(pieces)?;
        let body = {
            let moved = Arc::clone(&moved);
            futures::stream::unfold(receiver, |mut receiver: mpsc::Receiver<_>| async {
                let piece = receiver.recv().await?;
                Some((piece, receiver))
            })
            .map(move |piece: io::Result<Bytes>| {
                moved.fetch_add(1, Ordering::Relaxed);
                piece.map(Frame::data)
            })
        };
        let request = Request::post(CLONE_PATH)
            .header(header::HOST, &self.to)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(StreamBody::new(body))
            .map_err(|error| Error::Source(error.to_string()))?;
        let answer = async {
            let answer = requests.send_request(request).await?;
            let status = answer.status();
            let text = Limited::new(answer.into_body(), LONGEST).collect().await;
            let text = text.map(|text| text.to_bytes()).unwrap_or_default();
            Ok::<_, hyper::Error>((status, String::from_utf8_lossy(&text).into_owned()))
        };
        let answer = tokio::select! {
            answer = answer => Some(answer),
            () = stands_still(&moved, &self.progress) => None,
        };
        stop.store(true, Ordering::Relaxed);
        connection.abort();
        // What went wrong here is the better reason; a thread that is not done was not heard.
        let sent = read.try_recv().ok();
        let size = match sent {
            Some(Err(error)) if !matches!(error, Error::SourceForNow(_) | Error::Cancelled) => {
                return Err(error);
            }
            Some(Ok(size)) => Some(size),
            _ => None,
        };
        match (answer, size) {
            (Some(Ok((StatusCode::OK, _))), Some(size)) => Ok(size),
            // It was whole before, and the answer was lost.
            (Some(Ok((StatusCode::CONFLICT, _))), _) => Ok(size.unwrap_or_default()),
            (Some(Ok((StatusCode::BAD_REQUEST, why))), _) => Err(Error::Source(why)),
            (Some(Ok((status, why))), _) => Err(gone(format!("{status}: {why}"))),
            (Some(Err(error)), _) => Err(gone(format!("the connection broke: {error}"))),
            (None, _) => Err(gone("it takes no more bytes".to_owned())),
        }
    }

    async fn connect(&self) -> anyhow::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let tls = ClientTls::to_hosts(&self.tls_dir, self.tls_dir.join("ca-bundle.crt"))
            .context("the certificate of this clone")?;
        let dial = async {
            let stream = TcpStream::connect(&self.to).await?;
            stream.set_nodelay(true)?;
            let host = self.to.rsplit_once(':').map_or(&*self.to, |(host, _)| host);
            Ok::<_, anyhow::Error>(tls.connect_host(host, stream).await?)
        };
        tokio::time::timeout(CONNECT, dial)
            .await
            .context("no answer; does a network policy keep this pod from the clone's namespace?")?
    }

    /// Starts the thread that reads; gives what stops it, and how it ends.
    fn read(
        &self,
        pieces: mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<(Arc<AtomicBool>, oneshot::Receiver<Result<u64>>)> {
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, told) = oneshot::channel();
        let (from, archive) = (self.from.clone(), self.archive);
        let (seen, progress) = (Arc::clone(&stop), Arc::clone(&self.progress));
        std::thread::Builder::new()
            .name("read".to_owned())
            .spawn(move || {
                let failed = pieces.clone();
                let mut out = Pieces {
                    pieces,
                    held: Vec::with_capacity(PIECE),
                    count: 0,
                };
                let outcome = read(&from, archive, &mut out, &seen, &progress);
                let error = outcome.as_ref().err().map(ToString::to_string);
                // Told before the stream ends: whoever hears the end may ask.
                let _ = tell.send(outcome);
                if let Some(error) = error {
                    // The server must not take this for the end.
                    let _ = failed.blocking_send(Err(io::Error::other(error)));
                }
            })
            .map_err(|source| Error::Io {
                what: "cannot start a thread".to_owned(),
                source,
            })?;
        Ok((stop, told))
    }
}

fn read(
    from: &Path,
    archive: bool,
    out: &mut Pieces,
    stop: &AtomicBool,
    progress: &Progress,
) -> Result<u64> {
    if archive {
        write_tree(from, &mut *out)
            .and_then(|()| out.flush())
            .map_err(|source| Error::Io {
                what: format!("cannot send {}", from.display()),
                source,
            })?;
        return Ok(out.count);
    }
    let tell = |part| {
        progress.retrying(None);
        progress.tell(part);
    };
    let job = Job {
        size: None,
        checksum: None,
        preallocate: false,
        threads: 1,
        progress: &tell,
        cancel: stop,
    };
    // A claim's disk is raw by definition; what a guest wrote at its begin is its own affair.
    sparse::send(&FileSource::open(from)?, out, &job)
}

/// Resolves when nothing has moved for long.
async fn stands_still(moved: &AtomicU64, progress: &Progress) {
    loop {
        let before = moved.load(Ordering::Relaxed);
        tokio::time::sleep(STILL).await;
        if moved.load(Ordering::Relaxed) != before {
            continue;
        }
        progress.retrying(Some("waiting for the upload server".to_owned()));
        tokio::time::sleep(STILL_AT_END.saturating_sub(STILL)).await;
        if moved.load(Ordering::Relaxed) == before {
            return;
        }
    }
}

/// The thread's end of the channel.
struct Pieces {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    held: Vec<u8>,
    count: u64,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(PIECE - self.held.len());
        self.held.extend_from_slice(&bytes[..n]);
        self.count += n as u64;
        if self.held.len() == PIECE {
            self.flush()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.held, Vec::with_capacity(PIECE));
        self.pieces
            .blocking_send(Ok(Bytes::from(full)))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests;
