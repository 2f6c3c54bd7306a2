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

/// What [`give_of_process`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// The process does not see the directory.
    NoDirectory,
    /// The file is not there, and was not to be made.
    NoFile,
    /// The file belongs to the user now.
    Yes,
}

/// Gives the regular file `name` in `directory`, as process `pid` sees it, to a
/// user, mode 0660. With `make` an empty one is made when there is none.
///
/// The directory is looked up inside the process' root; the file is never
/// reached through a symbolic link, and one with several names is left alone,
/// since the other names may be somebody else's.
///
/// # Errors
/// When the process is gone, the file is no regular one, or the file system does
/// not let its owner be changed.
pub fn give_of_process(
    pid: u32,
    directory: &Path,
    name: &OsStr,
    make: bool,
    uid: u32,
    gid: u32,
) -> io::Result<Given> {
    let root = root_of_process(pid)?;
    let relative: std::path::PathBuf = directory
        .components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let directory = match rustix::fs::openat2(&root, &relative, flags, Mode::empty(), resolve) {
        Ok(directory) => directory,
        Err(rustix::io::Errno::NOENT) => return Ok(Given::NoDirectory),
        Err(error) => return Err(error.into()),
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let base = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = |flags, mode| rustix::fs::openat2(&directory, Path::new(name), flags, mode, resolve);
    let file = match open(base, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) if make => open(
            base | OFlags::CREATE | OFlags::EXCL,
            Mode::from_raw_mode(0o660),
        ),
        Err(rustix::io::Errno::NOENT) => return Ok(Given::NoFile),
        other => other,
    }
    .map_err(|error| match error {
        rustix::io::Errno::LOOP => io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "expected a regular file {name:?}, found a symbolic link, which is not followed"
            ),
        ),
        error => error.into(),
    })?;
    let stat = rustix::fs::fstat(&file)?;
    let found = FileType::from_raw_mode(stat.st_mode);
    if found != FileType::RegularFile || stat.st_nlink != 1 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "expected {name:?} to be a regular file with one name, found {found:?} with {}",
                stat.st_nlink
            ),
        ));
    }
    if stat.st_uid != uid || stat.st_gid != gid {
        let owner = rustix::fs::Uid::from_raw(uid);
        let group = rustix::fs::Gid::from_raw(gid);
        rustix::fs::fchown(&file, Some(owner), Some(group))?;
    }
    // The owner may read and write, whatever else the mode says.
    if stat.st_mode & 0o600 != 0o600 {
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o660))?;
    }
    Ok(Given::Yes)
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
    fn a_file_is_given_only_where_it_is_what_it_looks_like() {
        let root = tempfile::tempdir().unwrap();
        let me = rustix::process::getuid().as_raw();
        let group = rustix::process::getgid().as_raw();
        let give = |name: &str, make| {
            let name = OsStr::new(name);
            give_of_process(std::process::id(), root.path(), name, make, me, group)
        };
        assert_eq!(give("disk.img", false).unwrap(), Given::NoFile);
        assert_eq!(give("disk.img", true).unwrap(), Given::Yes);
        assert_eq!(give("disk.img", false).unwrap(), Given::Yes);
        std::fs::write(root.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("secret", root.path().join("link")).unwrap();
        let why = give("link", true).unwrap_err().to_string();
        assert!(why.contains("symbolic link"), "{why}");
        assert!(give("../disk.img", false).is_err());
        std::fs::hard_link(root.path().join("secret"), root.path().join("second")).unwrap();
        assert!(give("second", false).is_err());
        let none = root.path().join("none");
        let missing = give_of_process(std::process::id(), &none, OsStr::new("a"), true, me, group);
        assert_eq!(missing.unwrap(), Given::NoDirectory);
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
