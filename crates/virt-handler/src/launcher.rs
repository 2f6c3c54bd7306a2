//! A connection to a launcher: requests with their replies, and the guest's
//! state as it changes ([`api::launcher`]).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use api::launcher::{DomainState, Message, Op, Request};
use api::names::{LAUNCHER_SOCKET, PRIVATE_VOLUME, STATE_FILE};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;

/// Longest line a launcher may send, bytes; a state with the guest agent's
/// whole word is a few KiB. The launcher is not trusted.
const MAX_LINE: u64 = 1024 * 1024;

/// The answer to a request: done, or why not.
pub(crate) type Answer = Result<(), String>;

/// Where the launcher's sockets are, below the directory of pods.
pub(crate) fn private_dir(pod_uid: &str) -> PathBuf {
    Path::new(pod_uid)
        .join("volumes/kubernetes.io~empty-dir")
        .join(PRIVATE_VOLUME)
}

/// A connected launcher.
pub(crate) struct Link {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    line: Vec<u8>,
    next_id: u64,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    pid: u32,
}

impl Link {
    /// Connects to the launcher whose private directory is given.
    pub(crate) fn connect(directory: &Path) -> io::Result<Self> {
        let stream = host::unix::connect(directory, OsStr::new(LAUNCHER_SOCKET))?;
        let pid = host::unix::peer(&stream)?.pid;
        let (reader, writer) = UnixStream::from_std(stream)?.into_split();
        Ok(Self {
            reader: BufReader::new(reader),
            writer,
            line: Vec::new(),
            next_id: 1,
            waiting: HashMap::new(),
            pid,
        })
    }

    /// The launcher's process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a request; the answer comes through `done` while [`Link::state`] is awaited.
    pub(crate) async fn send(&mut self, op: Op, done: oneshot::Sender<Answer>) -> io::Result<()> {
        let id = self.next_id;
        self.next_id += 1;
        let mut line = serde_json::to_vec(&Request { id, op })?;
        line.push(b'\n');
        self.waiting.insert(id, done);
        self.writer.write_all(&line).await
    }

    /// The next state; `None` when the launcher has closed the connection.
    /// Replies that come before it are handed out. Cancel safe.
    pub(crate) async fn state(&mut self) -> io::Result<Option<DomainState>> {
        loop {
            // What a cancelled call had read is still in `line`.
            let room = MAX_LINE.saturating_sub(self.line.len() as u64);
            (&mut self.reader)
                .take(room)
                .read_until(b'\n', &mut self.line)
                .await?;
            if self.line.last() != Some(&b'\n') {
                if self.line.len() as u64 >= MAX_LINE {
                    return Err(invalid(format!(
                        "expected lines of at most {MAX_LINE} bytes, found a longer one"
                    )));
                }
                return Ok(None);
            }
            let message = serde_json::from_slice(&self.line);
            self.line.clear();
            match message
                .map_err(|error| invalid(format!("expected a message of the launcher: {error}")))?
            {
                Message::State(state) => return Ok(Some(*state)),
                Message::Reply(reply) => {
                    if let Some(done) = self.waiting.remove(&reply.id) {
                        // Who asked may have gone.
                        let _ = done.send(reply.error.map_or(Ok(()), Err));
                    }
                }
            }
        }
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// The state a launcher wrote before it ended; `None` when it wrote none.
pub(crate) fn last_state(directory: &Path) -> Option<DomainState> {
    match host::files::read_beneath(directory, OsStr::new(STATE_FILE), MAX_LINE) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(state) => Some(state),
            Err(error) => {
                tracing::warn!(path = %directory.join(STATE_FILE).display(), "not a state: {error}");
                None
            }
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %directory.join(STATE_FILE).display(), "cannot read: {error}");
            None
        }
    }
}
