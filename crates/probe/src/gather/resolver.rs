//! Does a name server answer? Asked before everything else is read, looked at
//! after it, so that the answer costs no time of its own.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use hardware::facts::Attempt;
use hardware::parse::system::name_servers;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::tree::Tree;

/// A question for the name servers of the root, which every resolver can
/// answer or refuse: id, flags with recursion desired, one question; the root's
/// name is one zero byte; type NS, class IN (RFC 1035, 4.1).
const QUESTION: [u8; 17] = [0xed, 0x9e, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];

/// Questions on their way.
pub(super) struct Question {
    servers: Vec<(SocketAddr, UdpSocket)>,
    failed: Vec<String>,
    end: Instant,
    limit: Duration,
}

/// Asks every name server of /etc/resolv.conf; `None` when it is not to be asked.
pub(super) fn ask(tree: &Tree, limit: Duration) -> Option<Question> {
    if !tree.live() || limit.is_zero() {
        return None;
    }
    let text = tree.text("/etc/resolv.conf").unwrap_or_default();
    let mut question = Question {
        servers: Vec::new(),
        failed: Vec::new(),
        end: Instant::now() + limit,
        limit,
    };
    for server in name_servers(&text) {
        let address = server.split('%').next();
        let address = address.and_then(|ip| ip.parse::<IpAddr>().ok());
        match address.map(|address| asked(SocketAddr::new(address, 53))) {
            Some(Ok(asked)) => question.servers.push(asked),
            Some(Err(error)) => question.failed.push(format!("{server}: {error}")),
            None => question.failed.push(format!("{server}: no address")),
        }
    }
    Some(question)
}

fn asked(server: SocketAddr) -> std::io::Result<(SocketAddr, UdpSocket)> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    socket.send(&QUESTION)?;
    Ok((server, socket))
}

/// Whether one of them answered in time.
pub(super) fn answer(question: Option<Question>) -> Attempt {
    let Some(mut question) = question else {
        return Attempt::NotTried;
    };
    if question.servers.is_empty() && question.failed.is_empty() {
        return Attempt::failed(None, "/etc/resolv.conf names no name server");
    }
    while !question.servers.is_empty() {
        match wait(&question) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => return Attempt::failed(error.raw_os_error(), error.to_string()),
        }
        let mut left = Vec::new();
        for (server, socket) in question.servers {
            let mut bytes = [0; 512];
            match socket.recv(&mut bytes) {
                // The same id, and the bit that marks an answer.
                Ok(length)
                    if length >= 12 && bytes[..2] == QUESTION[..2] && bytes[2] & 0x80 != 0 =>
                {
                    return Attempt::Worked;
                }
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => {
                    question.failed.push(format!("{}: {error}", server.ip()));
                }
                _ => left.push((server, socket)),
            }
        }
        question.servers = left;
    }
    let limit = question.limit.as_millis();
    let silent = question
        .servers
        .iter()
        .map(|(server, _)| format!("{}: no answer within {limit} ms", server.ip()));
    let reasons: Vec<String> = question.failed.iter().cloned().chain(silent).collect();
    Attempt::failed(None, reasons.join("; "))
}

/// Waits until something has come; `false` when time is up.
fn wait(question: &Question) -> std::io::Result<bool> {
    let left = question.end.saturating_duration_since(Instant::now());
    let time = Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    };
    let mut files: Vec<PollFd<'_>> = question
        .servers
        .iter()
        .map(|(_, socket)| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN))
        .collect();
    match poll(&mut files, Some(&time)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
