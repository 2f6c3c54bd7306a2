//! What a trial needs of Linux, so that a test can be Linux.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Longest value of sysfs, bytes: a page.
const PAGE: u64 = 4096;

/// Linux, or a test's idea of it.
pub(super) trait System {
    /// A file of /proc or /sys without the white space around it.
    fn read(&self, path: &str) -> io::Result<String>;
    /// Writes a value to a file of sysfs in one call; its errno is the answer.
    fn write(&self, path: &str, value: &str) -> io::Result<()>;
    /// Something is there.
    fn exists(&self, path: &str) -> bool;
    /// The last part of what a link holds.
    fn link_name(&self, path: &str) -> Option<String>;
    /// Loads a module and what it needs.
    fn load(&self, module: &str) -> io::Result<()>;
    /// Takes a module out of the kernel.
    fn unload(&self, module: &str) -> io::Result<()>;
    /// Opens a VFIO group; `Ok(false)` when it is not viable.
    fn open_group(&self, path: &str) -> io::Result<bool>;
    /// Gives the group to a container with an IOMMU, and takes it back.
    fn attach_group(&self, path: &str) -> io::Result<()>;
    /// Waits.
    fn pause(&self, time: Duration);
}

/// This machine.
pub(super) struct Linux;

impl System for Linux {
    fn read(&self, path: &str) -> io::Result<String> {
        let mut text = String::new();
        std::fs::File::open(path)?
            .take(PAGE)
            .read_to_string(&mut text)?;
        Ok(text.trim().to_owned())
    }

    fn write(&self, path: &str, value: &str) -> io::Result<()> {
        // Never created: a file of sysfs is there or it is not.
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.write_all(value.as_bytes())
    }

    fn exists(&self, path: &str) -> bool {
        Path::new(path).exists()
    }

    fn link_name(&self, path: &str) -> Option<String> {
        let target = std::fs::read_link(path).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    fn load(&self, module: &str) -> io::Result<()> {
        let output = modprobe(module)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(io::Error::other(format!("modprobe {module}: {said}")))
    }

    fn unload(&self, module: &str) -> io::Result<()> {
        let name = std::ffi::CString::new(module)?;
        // O_NONBLOCK: a module in use is refused at once (delete_module(2)).
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        Ok(rustix::system::delete_module(&name, flags)?)
    }

    fn open_group(&self, path: &str) -> io::Result<bool> {
        host::vfio::open_group(Path::new(path))?.viable()
    }

    fn attach_group(&self, path: &str) -> io::Result<()> {
        host::vfio::open_group(Path::new(path))?.attach()
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// modprobe from PATH or, where sshd gives a short PATH, from where systems keep it.
fn modprobe(module: &str) -> io::Result<std::process::Output> {
    for program in ["modprobe", "/usr/sbin/modprobe", "/sbin/modprobe"] {
        let run = Command::new(program)
            .arg(module)
            .stdin(Stdio::null())
            .output();
        match run {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        "there is no modprobe",
    ))
}
