//! Files that others may have prepared to mislead us, and files that must
//! appear whole or not at all.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

/// Reads the regular file `name` in `directory`, never through a symbolic link.
///
/// # Errors
/// When it is not there, is no regular file, or is longer than `limit` bytes.
pub fn read_beneath(directory: &Path, name: &OsStr, limit: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let file = open_read(
        &directory,
        Path::new(name),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )?;
    read_limited(file, limit)
}

/// Reads the regular file at `path` as process `pid` sees it.
///
/// # Errors
/// As [`read_beneath`], and when the process is gone.
pub fn read_of_process(pid: u32, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let root = root_of_process(pid)?;
    let relative: std::path::PathBuf = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect();
    let file = open_read(
        &root,
        &relative,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )?;
    read_limited(file, limit)
}

/// The root directory of a process, for look-ups below it.
pub(crate) fn root_of_process(pid: u32) -> io::Result<OwnedFd> {
    let path = format!("/proc/{pid}/root");
    Ok(rustix::fs::open(
        path.as_str(),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

fn open_read(directory: &OwnedFd, path: &Path, resolve: ResolveFlags) -> io::Result<std::fs::File> {
    // Without NONBLOCK a pipe in the file's place would hold us up.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve)?;
    let found = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    if found != FileType::RegularFile {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "expected a regular file at {}, found {found:?}",
                path.display()
            ),
        ));
    }
    Ok(std::fs::File::from(file))
}

fn read_limited(file: std::fs::File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("expected at most {limit} bytes, found more"),
        ));
    }
    Ok(bytes)
}

/// Writes `path` so that it is always whole: a new file, synced, then renamed
/// over the old one, which stays intact for those that have it open.
///
/// # Errors
/// When the directory is not there or cannot be written.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new.{}", std::process::id()));
    let temporary = Path::new(&name);
    let outcome = write_new(temporary, bytes, mode).and_then(|()| std::fs::rename(temporary, path));
    if outcome.is_err() {
        // The first error tells; what is left is a file of ours that the next try replaces.
        let _ = std::fs::remove_file(temporary);
    }
    outcome
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let _ = std::fs::remove_file(path);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    // The mode of open(2) is cut by the umask.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_short_regular_files_are_read() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("file"), "12345").unwrap();
        std::os::unix::fs::symlink("file", root.path().join("link")).unwrap();
        let read = |name: &str, limit| read_beneath(root.path(), OsStr::new(name), limit);
        assert_eq!(read("file", 5).unwrap(), b"12345");
        assert!(read("file", 4).is_err());
        assert!(read("link", 5).is_err());
        assert!(read("../file", 5).is_err());
        assert!(read("none", 5).is_err());
        assert_eq!(
            read_of_process(std::process::id(), &root.path().join("file"), 5).unwrap(),
            b"12345"
        );
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("helper");
        write_atomic(&path, b"one", 0o755).unwrap();
        write_atomic(&path, b"two", 0o755).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o755
        );
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
