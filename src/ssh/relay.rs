//! A jump host: a direct-tcpip channel (RFC 4254, 7.2) of its connection is the
//! socket of the next one. The bytes are moved whenever the next session waits, so no
//! further thread is needed and a dead node behind the jump host holds up only itself.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::PollFlags;
use ssh2::Channel;

use super::connection::{Connection, lost};
use super::exec::blocked;
use super::{Deadline, Failure, harmless};

/// What fails when a byte cannot go on.
const MOVING: &str = "moving bytes through the jump host";

/// Bytes that may wait in each direction.
const ROOM: usize = 64 << 10;

/// Moves bytes between a channel of the jump host and a socket of ours.
pub(super) struct Relay {
    jump: Connection,
    channel: Channel,
    far: UnixStream,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    /// The node, or the jump host, closed; what is in `incoming` is the rest.
    ended: bool,
}

impl Relay {
    /// Asks the jump host for a channel to `host:port`. The socket is for the session.
    pub(super) fn open(
        mut jump: Connection,
        name: &str,
        host: &str,
        port: u16,
        soon: &Deadline,
    ) -> Result<(Self, UnixStream), Failure> {
        let channel = jump
            .drive("asking the jump host for a channel", soon, |s| {
                s.channel_direct_tcpip(host, port, None)
            })?
            .map_err(|error| Failure::Jump {
                jump: name.to_owned(),
                address: format!("{host}:{port}"),
                reason: harmless(error.message().as_bytes(), 200),
            })?;
        let socket = |e: std::io::Error| lost("making a socket pair", &e);
        let (near, far) = UnixStream::pair().map_err(socket)?;
        near.set_nonblocking(true).map_err(socket)?;
        far.set_nonblocking(true).map_err(socket)?;
        let relay = Self {
            jump,
            channel,
            far,
            outgoing: Vec::new(),
            incoming: Vec::new(),
            ended: false,
        };
        Ok((relay, near))
    }

    /// Moves what can be moved now.
    pub(super) fn pump(&mut self) -> Result<(), Failure> {
        self.jump.pump()?;
        let mut buffer = [0u8; 16 << 10];
        loop {
            let mut moved = false;
            if self.outgoing.len() < ROOM {
                match self.far.read(&mut buffer) {
                    Ok(0) => {}
                    Ok(n) => {
                        self.outgoing.extend_from_slice(&buffer[..n]);
                        moved = true;
                    }
                    Err(error) => blocked(&error, MOVING)?,
                }
            }
            if !self.outgoing.is_empty() && !self.ended {
                match self.channel.write(&self.outgoing) {
                    Ok(n) => {
                        self.outgoing.drain(..n);
                        moved |= n > 0;
                    }
                    Err(error) => blocked(&error, MOVING)?,
                }
            }
            if self.incoming.len() < ROOM && !self.ended {
                match self.channel.read(&mut buffer) {
                    Ok(0) => self.ended = self.channel.eof(),
                    Ok(n) => {
                        self.incoming.extend_from_slice(&buffer[..n]);
                        moved = true;
                    }
                    Err(error) => blocked(&error, MOVING)?,
                }
            }
            if !self.incoming.is_empty() {
                match self.far.write(&self.incoming) {
                    Ok(n) => {
                        self.incoming.drain(..n);
                        moved |= n > 0;
                    }
                    Err(error) => blocked(&error, MOVING)?,
                }
            }
            if self.ended && self.incoming.is_empty() {
                // The session reads the end of its stream and says so.
                let _ = self.far.shutdown(std::net::Shutdown::Both);
                return Ok(());
            }
            if !moved {
                return self.jump.pump();
            }
        }
    }

    /// What to wait for.
    pub(super) fn interests<'a>(&'a self, into: &mut Vec<(BorrowedFd<'a>, PollFlags)>) {
        let mut flags = PollFlags::empty();
        if self.outgoing.len() < ROOM {
            flags |= PollFlags::IN;
        }
        if !self.incoming.is_empty() {
            flags |= PollFlags::OUT;
        }
        into.push((self.far.as_fd(), flags));
        self.jump.interests(into);
    }
}
