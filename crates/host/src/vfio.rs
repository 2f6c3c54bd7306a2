//! VFIO groups: whether user space can really drive a device
//! (Documentation/driver-api/vfio.rst).
//!
//! A driver that took the device says little. Only a container that takes the
//! group tells of a neighbour that is still bound elsewhere ("not viable") and
//! of an IOMMU that does not remap interrupts (EPERM).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

/// `_IO(';', 100 + n)` of linux/vfio.h.
const fn vfio_ioctl(number: u64) -> u64 {
    ((b';' as u64) << 8) | (100 + number)
}

/// VFIO_GROUP_FLAGS_VIABLE.
const VIABLE: u32 = 1;
/// VFIO_TYPE1v2_IOMMU: the IOMMU of x86.
const TYPE1V2: i32 = 3;

/// `struct vfio_group_status`.
#[repr(C)]
struct GroupStatus {
    argsz: u32,
    flags: u32,
}

// SAFETY note for the generated functions: each is `unsafe` because the kernel
// follows the argument; the callers below give live structures or integers.
mod sys {
    #![allow(missing_docs)]
    nix::ioctl_write_int_bad!(set_iommu, super::vfio_ioctl(2));
    nix::ioctl_read_bad!(group_get_status, super::vfio_ioctl(3), super::GroupStatus);
    nix::ioctl_write_ptr_bad!(group_set_container, super::vfio_ioctl(4), super::RawFd);
}

/// An open group, /dev/vfio/N. Closing it lets go of everything.
#[derive(Debug)]
pub struct Group(File);

/// Opens a group.
///
/// # Errors
/// `ENOENT` when no device of the group is bound to a VFIO driver, `EBUSY` when
/// somebody holds it, `EPERM`/`EACCES` when we may not.
pub fn open_group(path: &Path) -> io::Result<Group> {
    Ok(Group(open(path)?))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC)
        .open(path)
}

impl Group {
    /// No device of the group is bound to another kind of driver.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn viable(&self) -> io::Result<bool> {
        let mut status = GroupStatus {
            argsz: u32::try_from(size_of::<GroupStatus>()).unwrap_or_default(),
            flags: 0,
        };
        #[allow(unsafe_code)]
        // SAFETY: the group is open; `status` lives and tells its own size.
        unsafe {
            sys::group_get_status(self.0.as_raw_fd(), &raw mut status)?;
        }
        Ok(status.flags & VIABLE != 0)
    }

    /// Puts the group into a new container and gives that the IOMMU, as QEMU
    /// would; lets go of both again.
    ///
    /// # Errors
    /// `EPERM` without interrupt remapping, `EPERM` for a group that is not
    /// viable, `ENODEV` without vfio_iommu_type1.
    pub fn attach(&self) -> io::Result<()> {
        let container = open(Path::new("/dev/vfio/vfio"))?;
        let descriptor: RawFd = container.as_raw_fd();
        #[allow(unsafe_code)]
        // SAFETY: both files are open for the whole block; `descriptor` lives,
        // and the other call passes an integer.
        unsafe {
            sys::group_set_container(self.0.as_raw_fd(), &raw const descriptor)?;
            sys::set_iommu(descriptor, TYPE1V2)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_group_is_refused_by_the_kernel() -> io::Result<()> {
        let error = open_group(Path::new("/dev/vfio/no-such-group")).map_err(|e| e.kind());
        assert_eq!(error.err(), Some(io::ErrorKind::NotFound));
        let null = Group(open(Path::new("/dev/null"))?);
        assert_eq!(
            null.viable().map_err(|e| e.raw_os_error()),
            Err(Some(libc::ENOTTY))
        );
        Ok(())
    }
}
