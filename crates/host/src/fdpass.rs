//! Descriptors that travel over unix sockets (SCM_RIGHTS, unix(7)).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Longest message that may come with a descriptor, bytes.
pub const MAX_MESSAGE: usize = 16 * 1024;

/// Why no descriptor came.
#[derive(Debug, thiserror::Error)]
pub enum FdPassError {
    /// The socket failed.
    #[error("receiving a descriptor over a unix socket")]
    Io(#[from] std::io::Error),
    /// The other side closed the connection before it sent a message.
    #[error("expected a message with a descriptor, found the connection closed")]
    Closed,
    /// The other side sent a message and no descriptor; the message may tell why.
    #[error("expected one descriptor with the message, found none: {}", String::from_utf8_lossy(.message))]
    NoFd {
        /// What it sent instead.
        message: Vec<u8>,
    },
    /// The message is longer than [`MAX_MESSAGE`] or came with several descriptors.
    #[error("expected one descriptor and at most {MAX_MESSAGE} bytes, found more")]
    TooMuch,
}

/// Receives one message with exactly one descriptor. Waits for it, so on a
/// thread that may wait; the socket's own receive timeout applies. The
/// descriptor is close-on-exec.
///
/// # Errors
/// See [`FdPassError`]; descriptors that came unasked are closed.
pub fn recv_fd(stream: impl AsFd) -> Result<(Vec<u8>, OwnedFd), FdPassError> {
    let mut bytes = vec![0_u8; MAX_MESSAGE];
    // Room for two, so that a second descriptor is seen (and closed) rather than cut off.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(
            stream.as_fd(),
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })
    .map_err(std::io::Error::from)?;
    let mut fds: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            fds.extend(passed);
        }
    }
    if received
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
        || fds.len() > 1
    {
        return Err(FdPassError::TooMuch);
    }
    bytes.truncate(received.bytes);
    match fds.pop() {
        Some(fd) => Ok((bytes, fd)),
        None if bytes.is_empty() => Err(FdPassError::Closed),
        None => Err(FdPassError::NoFd { message: bytes }),
    }
}

/// Sends `message` (at least one byte) with one descriptor.
///
/// # Errors
/// When the socket fails or takes only a part of the message.
pub fn send_fd(stream: impl AsFd, message: &[u8], fd: BorrowedFd<'_>) -> std::io::Result<()> {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(std::io::Error::other("no room for one descriptor"));
    }
    let sent = rustix::io::retry_on_intr(|| {
        sendmsg(
            stream.as_fd(),
            &[IoSlice::new(message)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })?;
    if sent == message.len() {
        Ok(())
    } else {
        Err(std::io::ErrorKind::WriteZero.into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read, Seek, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_arrives_with_its_message() {
        let (left, right) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"disk").unwrap();
        send_fd(&left, b"{}", file.as_fd()).unwrap();
        let (message, fd) = recv_fd(&right).unwrap();
        assert_eq!(message, b"{}");
        let mut copy = std::fs::File::from(fd);
        copy.rewind().unwrap();
        let mut text = String::new();
        copy.read_to_string(&mut text).unwrap();
        assert_eq!(text, "disk");
    }

    #[test]
    fn a_message_alone_is_told_and_a_closed_socket_too() {
        let (mut left, right) = UnixStream::pair().unwrap();
        left.write_all(b"{\"error\":\"no disk\"}").unwrap();
        assert!(recv_fd(&right).unwrap_err().to_string().contains("no disk"));
        drop(left);
        assert!(matches!(recv_fd(&right), Err(FdPassError::Closed)));
    }

    #[test]
    fn two_descriptors_are_refused() {
        let (left, right) = UnixStream::pair().unwrap();
        let fds = [left.as_fd(), left.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(
            &left,
            &[IoSlice::new(b"x")],
            &mut control,
            SendFlags::empty(),
        )
        .unwrap();
        assert!(matches!(recv_fd(&right), Err(FdPassError::TooMuch)));
    }
}
