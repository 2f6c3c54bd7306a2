//! Bounded reads below a root.
//!
//! Every path is the node's own (`/sys/…`), whatever the root. Below a root
//! other than `/` no symbolic link leads out of it. A read never waits: a FIFO
//! or a device is no file to us, and a file that goes on for ever is cut off.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use hardware::facts::{Sourced, Unread};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};

/// Longest file of /proc and /sys that is read, bytes; /proc/interrupts of a
/// machine with 512 CPUs and 2000 interrupts has about 12 MiB.
pub(crate) const LIMIT: u64 = 16 << 20;
/// About a line of a table of /proc/net, bytes.
const ROW: usize = 150;

/// A root, what could not be read below it, and every path that was asked for.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
    handle: Option<OwnedFd>,
    unread: RefCell<Vec<Unread>>,
    asked: RefCell<Option<BTreeMap<String, bool>>>,
}

impl Tree {
    /// Below `root`; `/` is this machine.
    pub(crate) fn new(root: &Path) -> io::Result<Self> {
        let handle = if root == Path::new("/") {
            None
        } else {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Some(rustix::fs::open(root, flags, Mode::empty())?)
        };
        Ok(Self {
            root: root.to_owned(),
            handle,
            unread: RefCell::default(),
            asked: RefCell::default(),
        })
    }

    /// Remembers every path from here on, for a capture.
    pub(crate) fn remember(&self) {
        *self.asked.borrow_mut() = Some(BTreeMap::new());
    }

    /// The paths remembered, and whether each was listed as a folder.
    pub(crate) fn remembered(&self) -> BTreeMap<String, bool> {
        self.asked.borrow().clone().unwrap_or_default()
    }

    /// It is this machine.
    pub(crate) fn live(&self) -> bool {
        self.handle.is_none()
    }

    /// What could not be read so far.
    pub(crate) fn unread(&self) -> Vec<Unread> {
        self.unread.borrow().clone()
    }

    /// Notes that `path` could not be read.
    pub(crate) fn note(&self, path: &str, error: &dyn std::fmt::Display) {
        let mut unread = self.unread.borrow_mut();
        if unread.iter().all(|known| known.path != path) {
            unread.push(Unread {
                path: path.to_owned(),
                error: error.to_string(),
            });
        }
    }

    fn asks(&self, path: &str, listed: bool) {
        if let Some(asked) = self.asked.borrow_mut().as_mut() {
            *asked.entry(path.to_owned()).or_default() |= listed;
        }
    }

    /// Opens without waiting and without becoming anybody's terminal.
    fn open(&self, path: &str) -> io::Result<OwnedFd> {
        self.open_with(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
    }

    fn open_with(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        let Some(root) = &self.handle else {
            return Ok(rustix::fs::open(path, flags, Mode::empty())?);
        };
        let inside = path.trim_start_matches('/');
        let inside = if inside.is_empty() { "." } else { inside };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(root, inside, flags, Mode::empty(), resolve) {
            // Kernels before 5.6, and some sandboxes: then as it is.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
                Ok(rustix::fs::openat(root, inside, flags, Mode::empty())?)
            }
            other => Ok(other?),
        }
    }

    /// Bytes of a regular file, at most `limit`.
    pub(crate) fn bytes_within(&self, path: &str, limit: u64) -> io::Result<Vec<u8>> {
        self.asks(path, false);
        let file = File::from(self.open(path)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("expected a file, found something else"));
        }
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!(
                "expected at most {limit} bytes, found more"
            )));
        }
        Ok(bytes)
    }

    /// A regular file to read some bytes of, and its length; `None` when it is not there.
    pub(crate) fn file(&self, path: &str) -> Option<(File, u64)> {
        self.asks(path, false);
        let file = File::from(self.open(path).ok()?);
        let about = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some((file, about.len()))
    }

    /// The first lines of a table, as long as `wanted` says so. Asked for line by line: the kernel
    /// does not make the rest of a table that nobody reads.
    pub(crate) fn lines_while(&self, path: &str, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let (file, _) = self.file(path)?;
        let mut file = file.take(LIMIT);
        let mut bytes = Vec::new();
        let mut begin = 0;
        loop {
            let mut buffer = [0; ROW];
            let count = match file.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.note(path, &error);
                    0
                }
            };
            bytes.extend_from_slice(buffer.get(..count)?);
            while let Some(length) = bytes[begin..].iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&bytes[begin..begin + length]);
                if !wanted(&line) {
                    bytes.truncate(begin);
                    return Some(String::from_utf8_lossy(&bytes).into_owned());
                }
                begin += length + 1;
            }
            if count == 0 {
                return Some(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
    }

    /// Bytes of a file; `None` when it is not there, and a note when it cannot be read.
    pub(crate) fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        match self.bytes_within(path, LIMIT) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                // Absent is an answer, and so is a file that vanished: its device is gone.
                let errno = error
                    .raw_os_error()
                    .map(rustix::io::Errno::from_raw_os_error);
                let gone = error.kind() == io::ErrorKind::NotFound
                    || matches!(
                        errno,
                        Some(
                            rustix::io::Errno::NODEV
                                | rustix::io::Errno::NXIO
                                | rustix::io::Errno::NOTDIR
                        )
                    );
                if !gone {
                    self.note(path, &error);
                }
                None
            }
        }
    }

    /// Text of a file, bytes that are no UTF-8 replaced; see [`Tree::bytes`].
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        let bytes = self.bytes(path)?;
        Some(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }

    /// As [`Tree::text`]; a file that is not there is noted as well, because
    /// every kernel has it.
    pub(crate) fn expected(&self, path: &str) -> Option<String> {
        let text = self.text(path);
        if text.is_none() {
            self.note(path, &"not there");
        }
        text
    }

    /// Text without the white space around it; `None` when nothing is left.
    pub(crate) fn line(&self, path: &str) -> Option<String> {
        let text = self.text(path)?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// As [`Tree::line`], but why it cannot be read does not matter: some files
    /// of a network interface that is down answer EINVAL.
    pub(crate) fn quiet_line(&self, path: &str) -> Option<String> {
        let bytes = self.bytes_within(path, LIMIT).ok()?;
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// A number, decimal or after 0x; garbage is noted.
    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        self.parsed(path, hardware::parse::text::number)
    }

    /// A number that may be negative; garbage is noted.
    pub(crate) fn signed(&self, path: &str) -> Option<i64> {
        self.parsed(path, hardware::parse::text::signed)
    }

    /// `1`, `0`, `Y` or `N`; garbage is noted.
    pub(crate) fn flag(&self, path: &str) -> Option<bool> {
        self.parsed(path, hardware::parse::text::flag)
    }

    fn parsed<T>(&self, path: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.line(path)?;
        let value = parse(&text);
        if value.is_none() {
            let shown: String = text.chars().take(40).collect();
            self.note(path, &format!("found {shown:?}, which means nothing here"));
        }
        value
    }

    /// A line with the path it stood at.
    pub(crate) fn sourced(&self, path: &str) -> Option<Sourced> {
        Some(Sourced {
            path: path.to_owned(),
            value: self.line(path)?,
        })
    }

    /// Names in a directory, sorted; `None` when it is not there or cannot be listed.
    pub(crate) fn list(&self, path: &str) -> Option<Vec<String>> {
        self.asks(path, true);
        let listed = self
            .open_with(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK)
            .and_then(|directory| Ok(rustix::fs::Dir::new(directory)?));
        let directory = match listed {
            Ok(directory) => directory,
            Err(error) => {
                if !matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) {
                    self.note(path, &error);
                }
                return None;
            }
        };
        let mut names: Vec<String> = directory
            .filter_map(Result::ok)
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name != "." && name != "..")
            .collect();
        names.sort();
        Some(names)
    }

    /// Something is at `path`, whatever it is.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.asks(path, false);
        self.open_with(path, OFlags::PATH).is_ok()
    }

    /// The file's type, a link followed.
    pub(crate) fn kind(&self, path: &str) -> Option<FileType> {
        self.asks(path, false);
        let file = self.open_with(path, OFlags::PATH).ok()?;
        let stat = rustix::fs::fstat(file).ok()?;
        Some(FileType::from_raw_mode(stat.st_mode))
    }

    /// What a symbolic link holds.
    pub(crate) fn link(&self, path: &str) -> Option<String> {
        self.asks(path, false);
        let target = match &self.handle {
            None => rustix::fs::readlinkat(CWD, path, Vec::new()).ok()?,
            Some(_) => {
                // The directory below the root, then the link itself.
                let (directory, name) = path.rsplit_once('/')?;
                let directory = self.open_with(directory, OFlags::PATH).ok()?;
                rustix::fs::readlinkat(directory, name, Vec::new()).ok()?
            }
        };
        Some(target.to_string_lossy().into_owned())
    }

    /// The last part of what a symbolic link holds: how sysfs names a driver or a group.
    pub(crate) fn link_name(&self, path: &str) -> Option<String> {
        let target = self.link(path)?;
        target.rsplit('/').next().map(str::to_owned)
    }

    /// Where `path` is on this machine.
    pub(crate) fn real(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}
