//! console: the keyboard and screen of a guest's serial port.
//!
//! ```text
//!   wait (400: again in 1 s) --> connected --> attach --+-- Ctrl+] or Ctrl+5, end of input: leave
//!                                                       +-- signal: leave
//!                                                       +-- closed by the server: leave, say why
//! ```

use std::io::{Read, Write};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Bytes;

use crate::cli::{Connection, ConsoleArgs};
use crate::cluster::{Cluster, Refusal, subresource};
use crate::output::{err_raw, out};
use crate::stream::{self, Broken, Receiver, Sender};
use crate::target::Kind;
use crate::terminal::Raw;

/// Ctrl+] and Ctrl+5 both send this byte.
const ESCAPE: u8 = 29;
/// Bytes read from the keyboard at once.
const BUFFER: usize = 1024;
/// How long the screen may take to show what is left at the end.
const DRAIN: Duration = Duration::from_millis(500);
/// Between attempts while the instance does not run.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) async fn run(connection: &Connection, args: &ConsoleArgs) -> anyhow::Result<()> {
    let cluster = Cluster::connect(connection)
        .await
        .map_err(|error| anyhow::anyhow!("cannot obtain KubeVirt client: {error:#}"))?;
    let mut signals = Signals::new()?;
    let (sender, receiver) = tokio::select! {
        connected = connect(&cluster, args) => connected?,
        () = signals.any() => {
            out("");
            return Ok(());
        }
    };
    let outcome = attach(&args.name, sender, receiver, &mut signals).await;
    // 1005: the guest's end of the serial port closed.
    if let Err(Broken::Abnormal | Broken::Closed { code: 1005, .. }) = &outcome {
        err_raw(
            "\nYou were disconnected from the console. This could be caused by one of the following:\n \
             - the target VM was powered off\n \
             - another user connected to the console of the target VM\n \
             - network issues\n",
        );
    }
    Ok(outcome?)
}

/// Opens the console, waiting for the instance to run.
async fn connect(cluster: &Cluster, args: &ConsoleArgs) -> anyhow::Result<(Sender, Receiver)> {
    let path = subresource(
        &cluster.namespace,
        Kind::Instance.plural(),
        &args.name,
        "console",
    );
    let attempts = async {
        loop {
            match stream::open(cluster, &path).await {
                Err(error)
                    if error
                        .downcast_ref::<Refusal>()
                        .is_some_and(|refusal| refusal.code == 400) =>
                {
                    tokio::time::sleep(RETRY).await;
                }
                outcome => return outcome,
            }
        }
    };
    if args.timeout == 0 {
        return stream::open(cluster, &path).await;
    }
    match tokio::time::timeout(Duration::from_secs(args.timeout * 60), attempts).await {
        Ok(outcome) => outcome,
        Err(_) => anyhow::bail!("Timeout trying to connect to the virtual machine instance"),
    }
}

async fn attach(
    name: &str,
    mut sender: Sender,
    mut receiver: Receiver,
    signals: &mut Signals,
) -> Result<(), Broken> {
    let raw = match Raw::enter() {
        Ok(raw) => raw,
        Err(error) => {
            return Err(Broken::Failed(
                std::io::Error::other(error.to_string()).into(),
            ));
        }
    };
    err_raw(format!(
        "Successfully connected to {name} console. Press Ctrl+] or Ctrl+5 to exit console.\n"
    ));
    let mut keys = keyboard();
    let screen = Screen::new();
    let outcome = loop {
        tokio::select! {
            bytes = receiver.next() => match bytes {
                Ok(Some(bytes)) => {
                    if !screen.show(bytes).await {
                        break Ok(());
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            },
            chunk = keys.recv() => match chunk.as_deref().map(until_escape) {
                Some((bytes, escaped)) => {
                    if !bytes.is_empty() {
                        sender.send(bytes.to_vec()).await?;
                    }
                    if escaped {
                        sender.close().await;
                        break Ok(());
                    }
                }
                None => {
                    sender.close().await;
                    break Ok(());
                }
            },
            () = signals.any() => {
                sender.close().await;
                break Ok(());
            }
        }
    };
    // What the guest said last is still to be shown.
    screen.finish().await;
    drop(raw);
    outcome
}

/// The bytes before the escape, and whether it was there.
fn until_escape(chunk: &[u8]) -> (&[u8], bool) {
    match chunk.iter().position(|byte| *byte == ESCAPE) {
        Some(at) => (&chunk[..at], true),
        None => (chunk, false),
    }
}

/// Reads stdin in a thread of its own: a terminal cannot be waited for in any
/// other way that works for files and pipes too.
pub(crate) fn keyboard() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(8);
    std::thread::spawn(move || {
        let mut buffer = [0; BUFFER];
        let mut stdin = std::io::stdin().lock();
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    if sender.blocking_send(buffer[..length].to_vec()).is_err() {
                        break;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    });
    receiver
}

/// Stdout, written in a thread of its own, so that a stopped terminal does not
/// stop the escape.
pub(crate) struct Screen {
    bytes: mpsc::Sender<Bytes>,
    done: oneshot::Receiver<()>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let (bytes, mut receiver) = mpsc::channel::<Bytes>(64);
        let (finished, done) = oneshot::channel();
        std::thread::spawn(move || {
            let mut stdout = std::io::stdout().lock();
            while let Some(bytes) = receiver.blocking_recv() {
                if stdout
                    .write_all(&bytes)
                    .and_then(|()| stdout.flush())
                    .is_err()
                {
                    break;
                }
            }
            // Nobody waits when the console was left in a hurry.
            let _ = finished.send(());
        });
        Self { bytes, done }
    }

    /// Shows bytes; false when whoever reads our stdout is gone.
    pub(crate) async fn show(&self, bytes: Bytes) -> bool {
        self.bytes.send(bytes).await.is_ok()
    }

    /// Waits until all is shown, but not for a stopped terminal.
    pub(crate) async fn finish(self) {
        drop(self.bytes);
        // Either way there is nothing more to do for it.
        let _ = tokio::time::timeout(DRAIN, self.done).await;
    }
}

/// What ends a console from outside.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub(crate) async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_console_waits_as_long_as_the_answer_is_400() {
        let (cluster, asked) = crate::stream::tests::cluster(&[400]).await;
        let args = |timeout| ConsoleArgs {
            name: "x".to_owned(),
            timeout,
        };
        assert!(connect(&cluster, &args(1)).await.is_ok());
        let path =
            "/apis/subresources.kubevirt.io/v1/namespaces/ns/virtualmachineinstances/x/console";
        assert_eq!(*asked.lock().unwrap(), [path, path]);
        for (refusal, timeout) in [(409, 1), (404, 1), (500, 1), (400, 0)] {
            let (cluster, asked) = crate::stream::tests::cluster(&[refusal]).await;
            assert!(
                connect(&cluster, &args(timeout)).await.is_err(),
                "{refusal}"
            );
            assert_eq!(asked.lock().unwrap().len(), 1);
        }
    }

    #[test]
    fn the_escape_ends_the_console_and_what_was_typed_before_is_sent() {
        assert_eq!(until_escape(b"ls\r"), (&b"ls\r"[..], false));
        assert_eq!(until_escape(b"ab\x1dcd"), (&b"ab"[..], true));
        assert_eq!(until_escape(b"\x1d"), (&b""[..], true));
    }
}
