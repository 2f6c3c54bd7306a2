//! Fetches a containerDisk's image as a read-only descriptor from the helper
//! that runs in the image's own container.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use host::fdpass::{FdPassError, recv_fd};
use rustix::fs::{OFlags, fcntl_getfl};
use serde::Deserialize;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// How long a helper may take to appear while its container was not started:
/// its image may have to be pulled first, which the pod's status tells about
/// meanwhile, and virt-controller gives the pod up when it cannot be. This is
/// for the day when nobody tells us anything any more.
const APPEAR: Duration = Duration::from_secs(3600);
/// How long a helper may take to listen once its container was started, and how
/// long its socket may be there without anybody behind it. It takes milliseconds.
const LISTEN: Duration = Duration::from_secs(30);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Between looks while it is about to appear, and later while an image is pulled.
const LOOK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// When the first kind of looks ends.
const LOOK_CLOSELY: Duration = Duration::from_secs(5);

/// An image that a helper handed over.
#[derive(Debug)]
pub(crate) struct Image {
    /// The image, opened for reading only.
    pub(crate) file: File,
    /// Its path in its own container, for messages.
    pub(crate) path: String,
    /// Keeps the helper running: it ends when this closes.
    pub(crate) _helper: UnixStream,
}

/// What the helper says with or instead of a descriptor.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    path: String,
    error: Option<String>,
}

/// Waits for the helper's socket, connects and takes the image. `started` turns
/// true when all containers of the pod were started.
///
/// # Errors
/// When the helper does not appear in time, or tells an error, or hands over
/// something else than a file to read.
pub(crate) async fn fetch(socket: &Path, started: watch::Receiver<bool>) -> anyhow::Result<Image> {
    let helper = connect(socket, started).await?;
    let answer = timeout(ANSWER, receive(&helper)).await.with_context(|| {
        format!(
            "the containerDisk helper at {} does not answer",
            socket.display()
        )
    })?;
    let (message, fd) = match answer {
        Ok(both) => both,
        Err(FdPassError::NoFd { message }) => {
            let answer: Answer = serde_json::from_slice(&message).unwrap_or_default();
            let why = answer
                .error
                .unwrap_or_else(|| String::from_utf8_lossy(&message).into_owned());
            bail!("the containerDisk has no usable image: {why}");
        }
        Err(error) => return Err(error).context("the containerDisk helper failed"),
    };
    let answer: Answer = serde_json::from_slice(&message).unwrap_or_default();
    let file = File::from(fd);
    if !file.metadata()?.is_file() {
        bail!(
            "expected a regular file as disk image, found {} to be none",
            answer.path
        );
    }
    let flags = fcntl_getfl(&file)?;
    if flags.intersection(OFlags::RWMODE) != OFlags::RDONLY {
        bail!("expected a read-only descriptor of {}", answer.path);
    }
    Ok(Image {
        file,
        path: answer.path,
        _helper: helper,
    })
}

async fn connect(socket: &Path, mut started: watch::Receiver<bool>) -> anyhow::Result<UnixStream> {
    let begin = Instant::now();
    let mut deadline = begin + APPEAR;
    let mut deserted = false;
    let mut told = false;
    loop {
        let error = match UnixStream::connect(socket).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        match error.kind() {
            io::ErrorKind::NotFound => {}
            io::ErrorKind::ConnectionRefused if !deserted => {
                deserted = true;
                deadline = deadline.min(Instant::now() + LISTEN);
            }
            io::ErrorKind::ConnectionRefused => {}
            _ => {
                return Err(error).with_context(|| {
                    format!(
                        "connecting to the containerDisk helper at {}",
                        socket.display()
                    )
                });
            }
        }
        if !told && *started.borrow_and_update() {
            told = true;
            deadline = deadline.min(Instant::now() + LISTEN);
        }
        if Instant::now() >= deadline {
            bail!(
                "expected the containerDisk's helper to listen on {} within {} s {}, found {error}; the log of its container may tell why",
                socket.display(),
                if told || deserted { LISTEN } else { APPEAR }.as_secs(),
                match (told, deserted) {
                    (true, _) => "after its container was started",
                    (false, true) => "after it made that socket",
                    (false, false) => "",
                }
            );
        }
        let close = begin.elapsed() < LOOK_CLOSELY;
        sleep(if close { LOOK.0 } else { LOOK.1 }).await;
    }
}

async fn receive(helper: &UnixStream) -> Result<(Vec<u8>, OwnedFd), FdPassError> {
    loop {
        helper.readable().await?;
        let result = helper.try_io(Interest::READABLE, || match recv_fd(helper) {
            Err(FdPassError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            other => Ok(other),
        });
        match result {
            Ok(answer) => return answer,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Seconds that pass, in the clock's mind, until the helper is given up.
    async fn given_up(socket: &Path, started_after: Option<u64>) -> (u64, String) {
        let (sender, started) = watch::channel(false);
        tokio::spawn(async move {
            if let Some(seconds) = started_after {
                sleep(Duration::from_secs(seconds)).await;
                sender.send_replace(true);
            }
            std::future::pending::<()>().await;
        });
        let begin = Instant::now();
        let error = fetch(socket, started).await.unwrap_err();
        (begin.elapsed().as_secs(), error.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn a_helper_that_never_listens_is_given_up_soon_after_the_containers_started() {
        let dir = tempfile::tempdir().unwrap();
        let (seconds, why) = given_up(&dir.path().join("s"), Some(600)).await;
        assert!((630..632).contains(&seconds), "{seconds}");
        assert!(why.contains("after its container was started"), "{why}");
        assert!(why.contains("No such file"), "{why}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_helper_that_died_with_its_socket_left_is_given_up_soon() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let (seconds, why) = given_up(&socket, None).await;
        assert!((30..32).contains(&seconds), "{seconds}");
        assert!(why.contains("Connection refused"), "{why}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_may_take_long_to_come() {
        let dir = tempfile::tempdir().unwrap();
        let (seconds, _) = given_up(&dir.path().join("s"), None).await;
        assert!((3600..3602).contains(&seconds), "{seconds}");
    }
}
