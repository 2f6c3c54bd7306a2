//! Disks that outlive the guest: images in claims and in directories of the
//! node, and claims that are block devices.
//!
//! ```text
//!   vmi-disks/<volume>/disk.img   opened here, never through a link, and handed
//!                                 to QEMU as a descriptor; made when missing
//!   /dev/<volume>                 held for this guest alone while it runs
//! ```
//! Whoever has the claim wrote what is in it. So an image is a regular file in
//! the very directory that was mounted, its path is looked up once, and its
//! format is raw whatever its bytes look like.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use api::names;
use machine::spec::{Content, Disk};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::args::Args;

/// Bytes that an image leaves free in its file system. Source: KubeVirt,
/// `DefaultMinimumReservePVCBytes`.
const RESERVE: u64 = 128 << 10;
/// An image may be smaller than asked for by this many percent when the file
/// system has no more. Source: KubeVirt, `DefaultLessPVCSpaceToleration`.
const TOLERATED_PERCENT: u64 = 10;
/// An image that is made has whole MiB when it has any.
const MIB: u64 = 1 << 20;

/// What is behind a disk.
#[derive(Debug)]
pub(crate) enum Found {
    /// An image.
    Image {
        /// Opened as the disk needs it.
        file: OwnedFd,
        /// The file system takes O_DIRECT.
        direct: bool,
        /// Bytes.
        size: u64,
    },
    /// A block device.
    Device {
        /// Its path.
        path: PathBuf,
        /// Held open so that nobody else on the node uses it; `None` when others may.
        held: Option<OwnedFd>,
        /// Bytes.
        size: u64,
    },
}

/// Finds, and makes when it may, what is behind a claim or a disk of the node.
///
/// # Errors
/// When it is not there, is not what it should be, is in use, or finds no room.
/// The message is for the VMI's user.
pub(crate) fn open(args: &Args, disk: &Disk) -> anyhow::Result<Found> {
    let writes = disk.content != Content::Ephemeral && !disk.read_only && !disk.cdrom;
    let directory = args.private_dir.join(names::DISKS_DIR).join(&disk.name);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&directory, flags, Mode::empty());
    let directory_fd = match opened {
        Ok(fd) => fd,
        Err(Errno::NOENT) if !matches!(disk.content, Content::Host { .. }) => {
            return device(&args.dev_dir.join(&disk.name), writes && !disk.shareable);
        }
        Err(error) => return Err(error).with_context(|| format!("opening {directory:?}")),
    };
    let asked = args.image_sizes.get(&disk.name).copied();
    let (name, make) = match &disk.content {
        Content::Host { file, create } => (file.as_str(), *create),
        _ => (names::CLAIM_IMAGE, asked.filter(|_| writes)),
    };
    let path = directory.join(name);
    image(&directory_fd, name, writes, make).with_context(|| format!("image {}", path.display()))
}

/// Opens the image `name`. `make` are the bytes of one that is made when there is none.
fn image(
    directory: &OwnedFd,
    name: &str,
    writes: bool,
    make: Option<u64>,
) -> anyhow::Result<Found> {
    // Without NONBLOCK a pipe in its place would hold us up.
    let base = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let flags = base | if writes { OFlags::RDWR } else { OFlags::RDONLY };
    let file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Err(Errno::NOENT) if make.is_some() && writes => {
            let flags = flags | OFlags::CREATE | OFlags::EXCL;
            let mode = Mode::from_raw_mode(0o660);
            rustix::fs::openat(directory, name, flags, mode).context("making it")?
        }
        Err(Errno::NOENT) => bail!(
            "expected an image there, found none; it is filled by a DataVolume or made on a volume that can be written"
        ),
        Err(Errno::LOOP) => {
            bail!("expected a regular file, found a symbolic link, which is not followed")
        }
        Err(Errno::ACCESS) => bail!(
            "expected that user and group {} may {} it, found that they may not; change its owner or mode",
            names::NONROOT_UID,
            if writes { "write" } else { "read" },
        ),
        Err(Errno::ROFS) => bail!(
            "expected a volume that can be written, found one mounted read-only; set readonly on the disk"
        ),
        other => other.context("opening it")?,
    };
    let stat = rustix::fs::fstat(&file)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::RegularFile {
        bail!("expected a regular file, found {kind:?}");
    }
    let mut size = u64::try_from(stat.st_size).unwrap_or(0);
    if size == 0 {
        // Made just now, or by virt-handler, which has the rights that we lack.
        let Some(wanted) = make.filter(|wanted| writes && *wanted > 0) else {
            bail!("expected an image with some bytes, found an empty file");
        };
        size = room(&file, wanted)?;
        rustix::fs::ftruncate(&file, size)
            .with_context(|| format!("making an image of {size} bytes"))?;
    }
    // It was for pipes; QEMU waits for its requests otherwise.
    rustix::fs::fcntl_setfl(&file, rustix::fs::fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(Found::Image {
        direct: takes_direct_io(&file),
        file,
        size,
    })
}

/// Bytes that an image of `wanted` bytes gets in this file system.
fn room(file: &OwnedFd, wanted: u64) -> anyhow::Result<u64> {
    let stat = rustix::fs::fstatvfs(file)?;
    fit(wanted, stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn fit(wanted: u64, free: u64) -> anyhow::Result<u64> {
    let whole = |bytes: u64| {
        if bytes < MIB {
            bytes / 512 * 512
        } else {
            bytes / MIB * MIB
        }
    };
    let free = free.saturating_sub(RESERVE);
    if wanted <= free {
        return Ok(wanted.div_ceil(512) * 512);
    }
    let least = wanted / 100 * (100 - TOLERATED_PERCENT);
    if free < least {
        bail!(
            "expected room for an image of {wanted} bytes, or {TOLERATED_PERCENT} % less, found {free} bytes free; use a larger claim or a smaller capacity"
        );
    }
    Ok(whole(free))
}

/// Looks at a block device; `alone`: nobody else on the node may use it. The
/// locks by which QEMUs respect each other do not work there, since every
/// container has a device node of its own.
fn device(path: &Path, alone: bool) -> anyhow::Result<Found> {
    let base = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let flags = if alone { base | OFlags::EXCL } else { base };
    let told = path.display();
    let device = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => bail!("expected the claim mounted or at {told}, found neither"),
        Err(Errno::BUSY) => bail!(
            "the block device {told} is in use: by another virtual machine on this node, or mounted; stop that one, or make the disk shareable in both"
        ),
        Err(Errno::ACCESS) => bail!(
            "expected that user {} may open {told}, found that it may not; virt-handler gives it to the launcher",
            names::NONROOT_UID
        ),
        other => other.with_context(|| format!("opening {told}"))?,
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&device)?.st_mode);
    if kind != FileType::BlockDevice {
        bail!("expected a block device at {told}, found {kind:?}");
    }
    let size = File::from(device.as_fd().try_clone_to_owned()?).seek(SeekFrom::End(0))?;
    Ok(Found::Device {
        path: path.to_owned(),
        held: alone.then_some(device),
        size,
    })
}

/// Some file systems (tmpfs, for one) have no O_DIRECT.
fn takes_direct_io(file: &OwnedFd) -> bool {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    rustix::fs::open(path.as_str(), flags, Mode::empty()).is_ok()
}

/// Most bytes of a medium made from API objects, which have at most 1 MiB each.
const FILES_BYTES: usize = 4 << 20;

/// The files in a directory that the kubelet has mounted, by their paths in it.
/// Its own links and dated directories are left out.
///
/// # Errors
/// When one cannot be read, or they are more than 4 MiB.
pub(crate) fn files(directory: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    collect(directory, "", &mut found)?;
    Ok(found)
}

fn collect(directory: &Path, above: &str, found: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("..") {
            continue;
        }
        let path = directory.join(&name);
        if std::fs::metadata(&path)?.is_dir() {
            collect(&path, &format!("{above}{name}/"), found)?;
            continue;
        }
        found.push((format!("{above}{name}"), std::fs::read(&path)?));
        if found.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > FILES_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "expected at most {FILES_BYTES} bytes in {}",
                    directory.display()
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
