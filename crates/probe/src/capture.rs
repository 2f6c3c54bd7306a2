//! Writes what `gather` reads as a tree that `--root` can read again.
//!
//! Symbolic links stay links, so that /sys/bus/pci/devices/X and the folder it
//! leads to are one. Files keep their content; a folder that was listed keeps
//! the names of its folders and links; a device node is an empty file and, where
//! something was recognised on a disk, a sparse file with just those bytes.
//! Secrets stay out: passwords of proxies, keys on disks, environments.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, symlink};
use std::path::{Path, PathBuf};

use hardware::facts::{BlockDevice, SignatureKind};
use hardware::parse::system::without_password;
use rustix::fs::{Mode, OFlags};

use crate::Options;
use crate::gather::gather_from;
use crate::tree::{LIMIT, Tree};

/// Links followed on the way to one file; Linux itself follows as many.
const LINKS: usize = 40;

/// What stands in the way of a capture.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {reason}; expected room for some MiB in an empty directory")]
pub struct Error {
    path: PathBuf,
    reason: io::Error,
}

/// Gathers and writes every file read below `directory`, which is made.
///
/// # Errors
/// When something cannot be written. What cannot be read is left out.
pub fn capture(options: &Options, directory: &Path) -> Result<(), Error> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |reason| Error { path, reason }
    };
    let occupied = fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        return Err(at(directory)(io::ErrorKind::DirectoryNotEmpty.into()));
    }
    fs::create_dir_all(directory).map_err(at(directory))?;
    let tree = Tree::new(&options.root).map_err(at(&options.root))?;
    tree.remember();
    let options = Options {
        skip_kvm_run: true,
        ..options.clone()
    };
    let facts = gather_from(&tree, &options);
    let copy = Copy {
        root: options.root.clone(),
        to: directory.to_owned(),
        tree: Tree::new(&options.root).map_err(at(&options.root))?,
    };
    for (path, listed) in tree.remembered() {
        if !path.ends_with("/environ") {
            copy.path(&path, listed).map_err(at(Path::new(&path)))?;
        }
    }
    for disk in facts.disks.iter().filter(|disk| disk.inspected) {
        copy.disk(disk).map_err(at(Path::new(&disk.path())))?;
    }
    Ok(())
}

struct Copy {
    root: PathBuf,
    to: PathBuf,
    tree: Tree,
}

impl Copy {
    fn source(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Where the copy of `path` goes; the folder for it is made.
    fn target(&self, path: &Path) -> io::Result<PathBuf> {
        let target = self.to.join(path.strip_prefix("/").unwrap_or(path));
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(target)
    }

    /// Copies what was asked for; what is not there, or no more, is left out.
    fn path(&self, path: &str, listed: bool) -> io::Result<()> {
        let Some(place) = self.place(path)? else {
            return Ok(());
        };
        let Ok(about) = fs::metadata(self.source(&place)) else {
            return Ok(());
        };
        if about.is_dir() {
            fs::create_dir_all(self.target(&place)?)?;
            return if listed { self.names(&place) } else { Ok(()) };
        }
        self.file(&place, about.is_file())
    }

    /// Names in a folder that was listed: of files only those that were read matter.
    fn names(&self, folder: &Path) -> io::Result<()> {
        let Ok(entries) = fs::read_dir(self.source(folder)) else {
            return Ok(());
        };
        for entry in entries.filter_map(Result::ok) {
            let place = folder.join(entry.file_name());
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_symlink() {
                self.link(&place)?;
            } else if kind.is_dir() {
                fs::create_dir_all(self.target(&place)?)?;
            } else if kind.is_block_device() || kind.is_char_device() {
                self.file(&place, false)?;
            }
        }
        Ok(())
    }

    fn file(&self, place: &Path, regular: bool) -> io::Result<()> {
        let text = place.to_string_lossy();
        let mut content = Vec::new();
        if regular {
            match self.tree.bytes_within(&text, LIMIT) {
                Ok(bytes) => content = bytes,
                // It cannot be read here, so neither there.
                Err(_) => return Ok(()),
            }
        }
        if text.starts_with("/etc/") {
            content = without_secrets(&content);
        }
        fs::write(self.target(place)?, content)
    }

    /// Where `path` really is once every link is followed, each link made on the
    /// way; `None` when the links lead in a circle.
    fn place(&self, path: &str) -> io::Result<Option<PathBuf>> {
        let mut place = PathBuf::from("/");
        let mut rest: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut followed = 0;
        while let Some(part) = rest.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    place.pop();
                    continue;
                }
                name => place.push(name),
            }
            let Ok(target) = fs::read_link(self.source(&place)) else {
                continue;
            };
            followed += 1;
            if followed > LINKS {
                return Ok(None);
            }
            self.link(&place)?;
            let target = target.to_string_lossy().into_owned();
            place.pop();
            if target.starts_with('/') {
                place = PathBuf::from("/");
            }
            rest.extend(target.split('/').rev().map(str::to_owned));
        }
        Ok(Some(place))
    }

    fn link(&self, place: &Path) -> io::Result<()> {
        let Ok(holds) = fs::read_link(self.source(place)) else {
            return Ok(());
        };
        match symlink(holds, self.target(place)?) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    /// A sparse file of the disk's size with the bytes by which each thing on it
    /// is recognised.
    fn disk(&self, disk: &BlockDevice) -> io::Result<()> {
        let Some(place) = self.place(&disk.path())? else {
            return Ok(());
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let source = rustix::fs::open(self.source(&place), flags, Mode::empty())?;
        let source = File::from(source);
        let target = File::create(self.target(&place)?)?;
        if target.set_len(disk.size).is_err() {
            // Longer than the file system can say: no content then.
            return Ok(());
        }
        for signature in &disk.signatures {
            for (begin, length) in telling(signature.kind, signature.offset, disk.size) {
                let length = length.min(disk.size.saturating_sub(begin));
                let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
                source.read_exact_at(&mut bytes, begin)?;
                target.write_all_at(&bytes, begin)?;
            }
        }
        Ok(())
    }
}

/// The bytes that tell of a signature, as begin and length, and no key: the
/// label of a BlueStore goes on with its OSD's secret, a LUKS header with salts
/// and digests.
fn telling(kind: SignatureKind, offset: u64, size: u64) -> Vec<(u64, u64)> {
    match kind {
        SignatureKind::Bluestore => vec![(offset, 60)],
        SignatureKind::Luks => vec![(offset, 8), (offset + 168, 40)],
        // Blocks 0 and 1, whatever their size, and the entries.
        SignatureKind::Gpt => vec![(0, offset.saturating_mul(2) + 16384)],
        SignatureKind::GptBackup => {
            let begin = size.saturating_sub(40 * 1024);
            vec![(begin, size - begin)]
        }
        _ => vec![(offset & !511, 1024)],
    }
}

fn without_secrets(content: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(content);
    if !text.contains('@') {
        return content.to_vec();
    }
    let lines = text.lines().map(|line| match line.split_once('=') {
        Some((name, value)) if name.to_lowercase().contains("proxy") => {
            format!("{name}={}\n", without_password(value))
        }
        _ => format!("{line}\n"),
    });
    lines.collect::<String>().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxys_password_is_not_captured() {
        let text = b"PATH=/bin\nhttp_proxy=\"http://u:secret@h\"\n";
        let kept = without_secrets(text);
        let kept = String::from_utf8_lossy(&kept);
        assert!(kept.contains("u@h") && !kept.contains("secret"), "{kept}");
        assert!(kept.starts_with("PATH=/bin\n"));
    }
}
