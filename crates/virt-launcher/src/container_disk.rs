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
use tokio::time::{Instant, sleep, timeout};

/// How long a helper may take to appear: its image may have to be pulled first,
/// which the pod's status tells about meanwhile.
const APPEAR: Duration = Duration::from_secs(3600);
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

/// Waits for the helper's socket, connects and takes the image.
///
/// # Errors
/// When the helper does not appear within the hour, or tells an error, or
/// hands over something else than a file to read.
pub(crate) async fn fetch(socket: &Path) -> anyhow::Result<Image> {
    let helper = connect(socket).await?;
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

async fn connect(socket: &Path) -> anyhow::Result<UnixStream> {
    let begin = Instant::now();
    loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => return Ok(stream),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) && begin.elapsed() < APPEAR =>
            {
                let close = begin.elapsed() < LOOK_CLOSELY;
                sleep(if close { LOOK.0 } else { LOOK.1 }).await;
            }
            Err(error) => {
                return Err(error).with_context(|| {
                    format!(
                        "connecting to the containerDisk helper at {}",
                        socket.display()
                    )
                });
            }
        }
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
