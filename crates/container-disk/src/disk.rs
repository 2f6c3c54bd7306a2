//! Finds the disk file.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

/// The one disk file of an image.
#[derive(Debug)]
pub(crate) struct Disk {
    /// Open for reading.
    pub(crate) file: File,
    /// Its path within the image.
    pub(crate) path: PathBuf,
    /// Its length in bytes.
    pub(crate) size: u64,
}

/// Opens the file at `path` below `root`, or the only regular file of the directory there.
pub(crate) fn open(root: &Path, path: &Path) -> Result<Disk, String> {
    let root =
        File::open(root).map_err(|error| format!("cannot open {}: {error}", root.display()))?;
    let file = open_below(&root, path)?;
    let meta = file
        .metadata()
        .map_err(|error| format!("cannot look at {}: {error}", path.display()))?;
    if meta.is_file() {
        return Ok(Disk {
            file,
            path: path.to_owned(),
            size: meta.size(),
        });
    }
    if !meta.is_dir() {
        return Err(format!(
            "{} is neither a regular file nor a directory",
            path.display()
        ));
    }
    let mut disk: Option<Disk> = None;
    for name in names(file, path)? {
        let path = path.join(name);
        // What cannot be opened is no disk; what is no regular file is passed over.
        let Ok(file) = open_below(&root, &path) else {
            continue;
        };
        let Some(meta) = file.metadata().ok().filter(std::fs::Metadata::is_file) else {
            continue;
        };
        if let Some(other) = disk {
            let (one, two) = (other.path.display(), path.display());
            return Err(format!(
                "found {one} and {two}; expected exactly one file, or a containerDisk.path that names it"
            ));
        }
        disk = Some(Disk {
            file,
            path,
            size: meta.size(),
        });
    }
    disk.ok_or_else(|| {
        format!(
            "no regular file in {}; expected the image to hold exactly one disk there",
            path.display()
        )
    })
}

/// Opens for reading what lies below `root` on the same file system. Links may lead about within it but not out of it;
/// a FIFO does not block.
fn open_below(root: &File, path: &Path) -> Result<File, String> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() {
        Path::new(".")
    } else {
        relative
    };
    let resolve = ResolveFlag::RESOLVE_IN_ROOT
        | ResolveFlag::RESOLVE_NO_MAGICLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
        .mode(Mode::empty())
        .resolve(resolve);
    match openat2(root.as_fd(), relative, how) {
        Ok(file) => Ok(File::from(file)),
        Err(Errno::EXDEV) => Err(format!(
            "{} leads out of the image, into a mount",
            path.display()
        )),
        Err(Errno::EACCES) => Err(format!(
            "{} may not be read by user 107; make it readable in the image",
            path.display()
        )),
        Err(error) => Err(format!(
            "cannot open {} in the image: {}",
            path.display(),
            error.desc()
        )),
    }
}

fn names(directory: File, path: &Path) -> Result<Vec<std::ffi::OsString>, String> {
    use std::os::unix::ffi::OsStrExt;
    let cannot = |error: Errno| format!("cannot list {}: {}", path.display(), error.desc());
    let mut dir = Dir::from_fd(directory.into()).map_err(cannot)?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry.map_err(cannot)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(std::ffi::OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_directory_must_hold_exactly_one_regular_file() {
        let root = tempfile::tempdir().unwrap();
        let disk = root.path().join("disk");
        fs::create_dir_all(disk.join("lost+found")).unwrap();
        let find = |path: &str| open(root.path(), Path::new(path));
        assert!(find("/disk").unwrap_err().contains("no regular file"));
        fs::write(disk.join("a.qcow2"), "abc").unwrap();
        let found = find("/disk").unwrap();
        assert_eq!(
            (found.path.as_path(), found.size),
            (Path::new("/disk/a.qcow2"), 3)
        );
        fs::write(disk.join("b.qcow2"), "").unwrap();
        let error = find("/disk").unwrap_err();
        assert!(error.contains("/disk/a.qcow2 and /disk/b.qcow2"), "{error}");
        assert_eq!(find("/disk/b.qcow2").unwrap().size, 0);
        assert!(find("/nowhere").unwrap_err().contains("/nowhere"));
    }

    #[test]
    fn links_stay_in_the_image_and_what_is_no_file_is_refused() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "s").unwrap();
        let root = tempfile::tempdir().unwrap();
        let disk = root.path().join("disk");
        fs::create_dir(&disk).unwrap();
        let up = format!("../../../../..{}", outside.path().join("secret").display());
        symlink(up, disk.join("relative")).unwrap();
        symlink(outside.path().join("secret"), disk.join("absolute")).unwrap();
        symlink("/proc/self/exe", disk.join("magic")).unwrap();
        nix::unistd::mkfifo(&disk.join("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
        for name in ["relative", "absolute", "magic", "fifo"] {
            assert!(
                open(root.path(), &Path::new("/disk").join(name)).is_err(),
                "{name}"
            );
        }
        assert!(
            open(root.path(), Path::new("/disk"))
                .unwrap_err()
                .contains("no regular file")
        );
        assert!(open(root.path(), Path::new("/../../../etc/passwd")).is_err());
        fs::write(root.path().join("real.img"), "r").unwrap();
        symlink("/real.img", disk.join("inside")).unwrap();
        assert_eq!(open(root.path(), Path::new("/disk")).unwrap().size, 1);
    }
}
