//! Unix sockets that belong to others: long paths, hostile names, credentials.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Who is at the other end, as of when it began to listen or to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Process, in our process namespace.
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Connects to the socket `name` in `directory`, however long the path is
/// (sun_path holds 108 bytes) and never through a symbolic link that the
/// directory's owner may have put there. The stream does not block.
///
/// # Errors
/// `NotFound` when it is not there, `ConnectionRefused` when nobody listens,
/// `WouldBlock` when too many wait to be accepted, `InvalidInput` when it is no socket.
pub fn connect(directory: &Path, name: &OsStr) -> io::Result<UnixStream> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let socket_file = rustix::fs::openat2(
        &directory,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )?;
    let found = FileType::from_raw_mode(rustix::fs::fstat(&socket_file)?.st_mode);
    if found != FileType::Socket {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "expected a socket at {}, found {found:?}",
                name.to_string_lossy()
            ),
        ));
    }
    // The descriptor stands for the inode that was just looked at.
    let address =
        SocketAddrUnix::new(format!("/proc/self/fd/{}", socket_file.as_raw_fd()).as_str())?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    rustix::net::connect(&socket, &address)?;
    Ok(UnixStream::from(socket))
}

/// Credentials of the other end (SO_PEERCRED).
///
/// # Errors
/// When it is no unix socket.
pub fn peer(stream: impl AsFd) -> io::Result<Peer> {
    let credentials = rustix::net::sockopt::socket_peercred(stream)?;
    let pid = u32::try_from(credentials.pid.as_raw_nonzero().get()).map_err(|_| {
        io::Error::other("the other end is in a process namespace that we cannot see")
    })?;
    Ok(Peer {
        pid,
        uid: credentials.uid.as_raw(),
        gid: credentials.gid.as_raw(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_socket_behind_a_long_path_is_reached() {
        let root = tempfile::tempdir().unwrap();
        let long = root.path().join("d".repeat(120));
        std::fs::create_dir(&long).unwrap();
        let listener = UnixListener::bind(root.path().join("s")).unwrap();
        std::fs::rename(root.path().join("s"), long.join("s")).unwrap();
        let stream = connect(&long, OsStr::new("s")).unwrap();
        listener.accept().unwrap();
        assert_eq!(peer(&stream).unwrap().pid, std::process::id());
    }

    #[test]
    fn links_files_and_absent_names_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let _listener = UnixListener::bind(root.path().join("real")).unwrap();
        std::os::unix::fs::symlink(root.path().join("real"), root.path().join("link")).unwrap();
        std::fs::write(root.path().join("file"), "").unwrap();
        assert!(connect(root.path(), OsStr::new("real")).is_ok());
        assert!(connect(root.path(), OsStr::new("link")).is_err());
        assert!(connect(root.path(), OsStr::new("../etc")).is_err());
        let kind = |name: &str| connect(root.path(), OsStr::new(name)).unwrap_err().kind();
        assert_eq!(kind("file"), io::ErrorKind::InvalidInput);
        assert_eq!(kind("none"), io::ErrorKind::NotFound);
    }
}
