//! Hands the file to whoever connects, for as long as somebody is connected.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::disk::Disk;

/// How many may be connected at once. The launcher connects once; more is somebody else's mistake.
const CONNECTIONS_MAX: usize = 8;

/// Serves until the last connection has closed, or until SIGTERM comes while nobody is connected.
///
/// The first process of a container gets no signal that it does not ask for, so without this a pod whose launcher
/// never came would take its whole grace period to end.
pub(crate) fn serve(socket: &Path, found: &Result<Disk, String>) -> Result<(), String> {
    let at = |what: &'static str| {
        move |error: std::io::Error| format!("cannot {what} {}: {error}", socket.display())
    };
    let no = |what: &'static str| move |error: nix::Error| format!("{what}: {}", error.desc());
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().map_err(no("sigprocmask"))?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).map_err(no("signalfd"))?;

    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(at("replace")(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(at("listen on"))?;
    let message = message(found);
    let mut connections: Vec<UnixStream> = Vec::new();
    let mut ending = false;
    loop {
        let room = connections.len() < CONNECTIONS_MAX;
        let mut waiting: Vec<PollFd<'_>> = connections
            .iter()
            .map(|connection| PollFd::new(connection.as_fd(), PollFlags::POLLIN))
            .collect();
        waiting.push(PollFd::new(signals.as_fd(), PollFlags::POLLIN));
        let watch = if room {
            PollFlags::POLLIN
        } else {
            PollFlags::empty()
        };
        waiting.push(PollFd::new(listener.as_fd(), watch));
        match poll(&mut waiting, PollTimeout::NONE) {
            Err(nix::Error::EINTR) => continue,
            other => other.map_err(no("poll"))?,
        };
        let ready: Vec<bool> = waiting.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        drop(waiting);
        let (signalled, asked) = (ready[connections.len()], ready[connections.len() + 1]);

        let before = connections.len();
        let mut index = 0;
        connections.retain(|connection| {
            let open = !ready[index] || !closed(connection);
            index += 1;
            open
        });
        ending |= signalled;
        if connections.is_empty() && (before > 0 && !asked || ending) {
            // Best effort: the directory goes with the pod.
            let _ = std::fs::remove_file(socket);
            return Ok(());
        }
        if signalled {
            // Read, or it would be reported again and again.
            signals.read_signal().map_err(no("signalfd"))?;
        }
        if asked {
            let (connection, _) = listener.accept().map_err(at("accept on"))?;
            // Somebody who is gone already is no reason to stop.
            if send(&connection, &message, found.as_ref().ok()).is_ok() {
                connections.push(connection);
            }
        }
    }
}

/// Whether the other side has closed; whatever it says is thrown away.
fn closed(connection: &UnixStream) -> bool {
    let mut rubbish = [0; 64];
    !matches!(nix::unistd::read(connection.as_fd(), &mut rubbish), Ok(1..))
}

/// `{"path":…,"size":…}` or `{"error":…}`, and a line's end.
fn message(found: &Result<Disk, String>) -> String {
    match found {
        Ok(disk) => format!(
            "{{\"path\":{},\"size\":{}}}\n",
            quoted(&disk.path.to_string_lossy()),
            disk.size
        ),
        Err(reason) => format!("{{\"error\":{}}}\n", quoted(reason)),
    }
}

/// A JSON string. A library for this one line would be larger than the program.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn send(connection: &UnixStream, message: &str, disk: Option<&Disk>) -> nix::Result<()> {
    let descriptors: Vec<_> = disk.iter().map(|disk| disk.file.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let control: &[ControlMessage<'_>] = if descriptors.is_empty() { &[] } else { &rights };
    let data = [IoSlice::new(message.as_bytes())];
    sendmsg::<()>(
        connection.as_raw_fd(),
        &data,
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map(|_| ())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::File;
    use std::io::{IoSliceMut, Read};
    use std::path::PathBuf;

    use nix::sys::socket::{ControlMessageOwned, recvmsg};

    use super::*;

    fn connect(socket: &Path) -> UnixStream {
        loop {
            if let Ok(connection) = UnixStream::connect(socket) {
                return connection;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    fn receive(connection: &UnixStream) -> (String, Option<i32>) {
        let mut bytes = [0; 1024];
        let mut space = nix::cmsg_space!([i32; 2]);
        let mut data = [IoSliceMut::new(&mut bytes)];
        let got = recvmsg::<()>(
            connection.as_raw_fd(),
            &mut data,
            Some(&mut space),
            MsgFlags::empty(),
        )
        .unwrap();
        let fd = got.cmsgs().unwrap().find_map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        let length = got.bytes;
        (String::from_utf8_lossy(&bytes[..length]).into_owned(), fd)
    }

    #[test]
    fn the_file_is_passed_and_the_last_close_ends_the_service() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, path) = (dir.path().join("s"), dir.path().join("x.qcow2"));
        std::fs::write(&path, "content").unwrap();
        std::fs::write(&socket, "left over").unwrap();
        let disk = Disk {
            file: File::open(&path).unwrap(),
            path: PathBuf::from("/disk/x\".qcow2"),
            size: 7,
        };
        std::fs::remove_file(&socket).unwrap();
        let server = {
            let socket = socket.clone();
            std::thread::spawn(move || serve(&socket, &Ok(disk)))
        };
        let first = connect(&socket);
        let second = connect(&socket);
        let (message, fd) = receive(&first);
        assert_eq!(message, "{\"path\":\"/disk/x\\\".qcow2\",\"size\":7}\n");
        assert!(receive(&second).1.is_some());
        drop(first);
        let mut content = String::new();
        std::fs::File::open(format!("/proc/self/fd/{}", fd.unwrap()))
            .unwrap()
            .read_to_string(&mut content)
            .unwrap();
        assert_eq!(content, "content");
        assert!(!server.is_finished());
        drop(second);
        server.join().unwrap().unwrap();
        assert!(!socket.exists());
    }

    #[test]
    fn an_error_is_told_without_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let server = {
            let socket = socket.clone();
            std::thread::spawn(move || serve(&socket, &Err("no \"disk\"\n".to_owned())))
        };
        let connection = connect(&socket);
        assert_eq!(
            receive(&connection),
            ("{\"error\":\"no \\\"disk\\\"\\u000a\"}\n".to_owned(), None)
        );
        drop(connection);
        server.join().unwrap().unwrap();
    }
}
