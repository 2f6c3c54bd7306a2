//! Device nodes in another process' /dev.
//!
//! A container runtime makes them with the node's owner and mode, which an
//! unprivileged process may not open; they are then given to its user.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};

use crate::files::root_of_process;

/// Gives the block device `device` of process `pid` to a user, as [`give`] does.
///
/// # Errors
/// As [`give`], when the path is no block device.
pub fn give_block(pid: u32, device: &Path, uid: u32, gid: u32) -> io::Result<bool> {
    give_kind(pid, device, uid, gid, FileType::BlockDevice)
}

/// Gives the character device `device` (for example `dev/net/tun`), as process
/// `pid` sees it, to a user, mode 0660. `false` when the process has no such
/// device. Symbolic links are not followed: the process may have made them.
///
/// # Errors
/// When the process is gone, the path is no character device, or the owner
/// cannot be changed.
pub fn give(pid: u32, device: &Path, uid: u32, gid: u32) -> io::Result<bool> {
    give_kind(pid, device, uid, gid, FileType::CharacterDevice)
}

fn give_kind(pid: u32, device: &Path, uid: u32, gid: u32, expected: FileType) -> io::Result<bool> {
    let root = root_of_process(pid)?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = match rustix::fs::openat2(&root, device, flags, Mode::empty(), resolve) {
        Ok(node) => node,
        Err(rustix::io::Errno::NOENT) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let stat = rustix::fs::fstat(&node)?;
    let found = FileType::from_raw_mode(stat.st_mode);
    if found != expected {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "expected a {expected:?} at {}, found {found:?}",
                device.display()
            ),
        ));
    }
    if stat.st_uid != uid || stat.st_gid != gid {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(&node, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    }
    // fchmod(2) refuses descriptors that only stand for a path; their /proc entry does not.
    let path = format!("/proc/self/fd/{}", node.as_raw_fd());
    rustix::fs::chmod(path.as_str(), Mode::from_raw_mode(0o660))?;
    Ok(true)
}
