//! The handler's socket: requests in, replies and states out.

use std::io;
use std::path::Path;

use api::launcher::{DomainState, Message, Op, Reply, Request};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};

use crate::lines;
use crate::state::{Input, Ticket};

/// Longest request, bytes: a VMI and its cloud-init secrets, each of which etcd
/// bounds to 1.5 MiB, in JSON's escapes.
const MAX_REQUEST: usize = 16 << 20;

/// What the driver's queue carries.
#[derive(Debug)]
pub(crate) enum Happening {
    /// Something for the state machine.
    Input(Input),
    /// A line from QEMU's monitor.
    Monitor(Vec<u8>),
    /// A handler connected; replies go there.
    Connected(u64, mpsc::UnboundedSender<Outgoing>),
    /// A handler is gone.
    Disconnected(u64),
}

/// What goes out on a connection.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A reply.
    Reply(Reply),
    /// From now on, states too.
    Watch,
}

/// The driver's queue.
pub(crate) type Queue = mpsc::UnboundedSender<Happening>;

/// Listens. The socket appears under its name only once it listens, so whoever
/// sees it can connect.
///
/// # Errors
/// When the socket cannot be made.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    let fresh = path.with_extension("new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}

/// Accepts connections until the process ends. `done` is held by each writer,
/// so that the driver can wait until all has been said.
pub(crate) async fn accept(
    listener: UnixListener,
    queue: Queue,
    states: watch::Receiver<DomainState>,
    done: mpsc::Sender<()>,
) {
    let mut next = 0;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                next += 1;
                serve(next, stream, &queue, states.clone(), done.clone());
            }
            Err(error) => {
                // Out of descriptors, most likely: others may close theirs.
                tracing::warn!("a connection was not accepted: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        }
    }
}

fn serve(
    id: u64,
    stream: UnixStream,
    queue: &Queue,
    states: watch::Receiver<DomainState>,
    done: mpsc::Sender<()>,
) {
    let (reader, writer) = stream.into_split();
    let (sender, receiver) = mpsc::unbounded_channel();
    if queue.send(Happening::Connected(id, sender)).is_err() {
        return;
    }
    tokio::spawn(async move {
        // The handler may be gone; then there is nobody to tell.
        let _ = write(writer, receiver, states).await;
        drop(done);
    });
    let queue = queue.clone();
    tokio::spawn(async move {
        if let Err(error) = read(id, reader, &queue).await {
            tracing::warn!("connection {id}: {error}");
        }
        let _ = queue.send(Happening::Disconnected(id));
    });
}

async fn read(id: u64, reader: OwnedReadHalf, queue: &Queue) -> io::Result<()> {
    let mut reader = BufReader::new(reader);
    while let Some(line) = lines::next(&mut reader, MAX_REQUEST).await? {
        let request: Request = serde_json::from_slice(&line)?;
        let ticket = Ticket {
            connection: id,
            request: request.id,
        };
        tracing::info!("request {}: {}", request.id, word(&request.op));
        let input = Happening::Input(Input::Request(ticket, request.op));
        if queue.send(input).is_err() {
            break;
        }
    }
    Ok(())
}

fn word(op: &Op) -> &'static str {
    match op {
        Op::Sync(_) => "sync",
        Op::Watch => "watch",
        Op::ContainersStarted => "containersStarted",
        Op::Pause => "pause",
        Op::Unpause => "unpause",
        Op::Shutdown { .. } => "shutdown",
        Op::SoftReboot => "soft reboot",
        Op::Reset => "reset",
    }
}

/// Writes replies, and the newest state whenever it changed; ends when both
/// sources have.
async fn write(
    mut writer: OwnedWriteHalf,
    mut replies: mpsc::UnboundedReceiver<Outgoing>,
    mut states: watch::Receiver<DomainState>,
) -> io::Result<()> {
    let (mut watching, mut open, mut alive) = (false, true, true);
    while open || (watching && alive) {
        let message = tokio::select! {
            biased;
            outgoing = replies.recv(), if open => match outgoing {
                Some(Outgoing::Reply(reply)) => Message::Reply(reply),
                Some(Outgoing::Watch) => {
                    watching = true;
                    states.mark_changed();
                    continue;
                }
                None => {
                    open = false;
                    continue;
                }
            },
            changed = states.changed(), if watching && alive => {
                if changed.is_err() {
                    alive = false;
                    continue;
                }
                Message::State(Box::new(states.borrow_and_update().clone()))
            }
        };
        let mut line = serde_json::to_vec(&message)?;
        line.push(b'\n');
        writer.write_all(&line).await?;
    }
    Ok(())
}
