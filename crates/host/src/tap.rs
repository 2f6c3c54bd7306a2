//! Persistent tap devices (tun(4), Documentation/networking/tuntap.rst).

use std::io;
use std::os::fd::AsRawFd;

use nix::libc;
use rustix::fs::{Mode, OFlags};

/// `_IOW('T', n, int)` of linux/if_tun.h.
const fn tun_ioctl(number: u64) -> u64 {
    (1 << 30) | (4 << 16) | ((b'T' as u64) << 8) | number
}

// SAFETY note for the generated functions: each is `unsafe` because the kernel
// reads what the argument points to; the callers below give a live `ifreq`, or
// a plain integer.
mod sys {
    #![allow(missing_docs)]
    nix::ioctl_write_ptr_bad!(tun_set_iff, super::tun_ioctl(202), nix::libc::ifreq);
    nix::ioctl_write_int_bad!(tun_set_persist, super::tun_ioctl(203));
    nix::ioctl_write_int_bad!(tun_set_owner, super::tun_ioctl(204));
    nix::ioctl_write_int_bad!(tun_set_group, super::tun_ioctl(206));
}

/// A tap to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap<'a> {
    /// Name, at most 15 bytes.
    pub name: &'a str,
    /// Who may open it without being root.
    pub uid: u32,
    /// The group that may open it.
    pub gid: u32,
    /// Several queues.
    pub multi_queue: bool,
}

/// Makes a persistent tap with virtio-net headers in the calling thread's
/// namespace. One that is there already and that nobody holds is adapted.
///
/// # Errors
/// `EBUSY` when somebody holds a single-queue tap of that name; `ENOENT` when
/// /dev/net/tun is missing; `EINVAL` for a bad name.
pub fn create(tap: &Tap<'_>) -> io::Result<()> {
    let device = rustix::fs::open(
        "/dev/net/tun",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let request = interface_request(tap)?;
    let fd = device.as_raw_fd();
    let owner = i32::try_from(tap.uid).map_err(|_| io::ErrorKind::InvalidInput)?;
    let group = i32::try_from(tap.gid).map_err(|_| io::ErrorKind::InvalidInput)?;
    #[allow(unsafe_code)]
    // SAFETY: `fd` is open for the whole block; `request` is an initialised
    // ifreq that outlives the call; the other calls pass integers.
    unsafe {
        sys::tun_set_iff(fd, &raw const request)?;
        sys::tun_set_owner(fd, owner)?;
        sys::tun_set_group(fd, group)?;
        sys::tun_set_persist(fd, 1)?;
    }
    Ok(())
}

fn interface_request(tap: &Tap<'_>) -> io::Result<libc::ifreq> {
    if tap.name.is_empty() || tap.name.len() >= libc::IFNAMSIZ || tap.name.contains('\0') {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "expected an interface name of 1 to 15 bytes, found {:?}",
                tap.name
            ),
        ));
    }
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if tap.multi_queue {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(tap.name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let flags = libc::c_short::try_from(flags).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok(libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags },
    })
}
