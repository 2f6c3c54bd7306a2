//! Starting programs: what they inherit, and the last they say.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::process::{Child, Command, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};
use tokio::io::BufReader;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use crate::children::{Children, Ending};
use crate::lines;

/// How much of a program's standard error is kept: its end.
const TAIL: usize = 4 << 10;

/// A descriptor that the next program inherits.
///
/// # Errors
/// When the flag cannot be changed.
pub(crate) fn inheritable(fd: &OwnedFd) -> io::Result<RawFd> {
    fcntl_setfd(fd.as_fd(), FdFlags::empty())?;
    Ok(fd.as_raw_fd())
}

/// Ends with how the program ended and the last it said.
pub(crate) struct Running {
    /// Process id.
    pub(crate) pid: rustix::process::Pid,
    ended: oneshot::Receiver<Ending>,
    tail: oneshot::Receiver<String>,
}

/// Starts a program with nothing on its standard input and output. The end of
/// what it writes to its standard error is kept; with `log`, all of it is logged.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn start(command: &mut Command, children: &Children, log: bool) -> io::Result<Running> {
    let mut child: Child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let ended = children.wait(&child);
    let (sender, tail) = oneshot::channel();
    if let Some(stderr) = child.stderr.take() {
        let pipe = pipe::Receiver::from_owned_fd(OwnedFd::from(stderr))?;
        tokio::spawn(async move {
            let _ = sender.send(follow(pipe, log).await);
        });
    }
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .ok_or_else(|| io::Error::other("the program has no process id"))?;
    Ok(Running { pid, ended, tail })
}

impl Running {
    /// Waits for the end.
    pub(crate) async fn end(self) -> (Ending, String) {
        let ended = self
            .ended
            .await
            .unwrap_or_else(|_| Err("an unknown status".to_owned()));
        // A grandchild may hold the pipe open; do not wait for it.
        let tail = tokio::time::timeout(std::time::Duration::from_millis(500), self.tail).await;
        let tail = tail.ok().and_then(Result::ok).unwrap_or_default();
        (ended, tail)
    }
}

/// Keeps the end of what comes, and logs it line by line when told to.
async fn follow(pipe: pipe::Receiver, log: bool) -> String {
    let mut reader = BufReader::with_capacity(1024, pipe);
    let mut tail = String::new();
    while let Ok(Some(line)) = lines::next(&mut reader, TAIL).await {
        let line = String::from_utf8_lossy(&line);
        if log {
            tracing::warn!("{line}");
        }
        tail.push_str(&line);
        tail.push('\n');
        while tail.len() > TAIL {
            let end = tail.find('\n').map_or(tail.len(), |at| at + 1);
            tail.drain(..end);
        }
    }
    tail
}
