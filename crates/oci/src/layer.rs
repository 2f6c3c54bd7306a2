//! A layer's content as a value, and its tar as a stream.
//!
//! The stream is made of headers in memory and files on disk, so a layer of many gigabytes costs no memory and its
//! length is known before the first byte is read; the same value can be streamed twice, once to hash and once to send.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use crate::{Error, Result};

/// Where a file's bytes come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// From memory.
    Bytes(Vec<u8>),
    /// From a file, read when the layer is streamed. Symbolic links are followed.
    Path(PathBuf),
}

impl From<&str> for Source {
    fn from(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }
}

/// What an entry of a tree is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File(Source),
    /// A symbolic link, with its target.
    Symlink(String),
}

#[derive(Debug, Clone)]
struct Node {
    kind: Kind,
    mode: u32,
}

/// The content of one layer: a sorted tree of directories, files and symbolic links with one owner.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
    uid: u64,
    gid: u64,
}

impl Tree {
    /// An empty tree; everything put into it will belong to this user and group.
    #[must_use]
    pub fn owned_by(uid: u64, gid: u64) -> Self {
        Self {
            nodes: BTreeMap::new(),
            uid,
            gid,
        }
    }

    /// Puts a directory in; parents that are missing come with mode 0755.
    pub fn dir(&mut self, path: &str, mode: u32) -> Result<()> {
        self.put(path, Kind::Dir, mode)
    }

    /// Puts a file in, in place of one of the same path.
    pub fn file(&mut self, path: &str, source: impl Into<Source>, mode: u32) -> Result<()> {
        self.put(path, Kind::File(source.into()), mode)
    }

    /// Puts a symbolic link in.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<()> {
        self.put(path, Kind::Symlink(target.to_owned()), 0o777)
    }

    /// Whether something has this path.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        self.nodes.contains_key(path.trim_matches('/'))
    }

    /// Every path, sorted, without a leading slash.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().map(String::as_str)
    }

    /// Every entry with its path and mode, sorted by path.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Kind, u32)> {
        self.nodes
            .iter()
            .map(|(path, node)| (path.as_str(), &node.kind, node.mode))
    }

    /// Takes out what another tree holds already, so that a layer above it does not repeat it. Directories stay
    /// wherever something of this tree is left below them.
    pub fn subtract(&mut self, below: &Self) {
        self.nodes.retain(|path, _| !below.nodes.contains_key(path));
        let files: Vec<String> = self.nodes.keys().cloned().collect();
        for path in files {
            for (at, _) in path.match_indices('/') {
                let parent = &path[..at];
                if let (false, Some(node)) =
                    (self.nodes.contains_key(parent), below.nodes.get(parent))
                {
                    self.nodes.insert(parent.to_owned(), node.clone());
                }
            }
        }
    }

    fn put(&mut self, path: &str, kind: Kind, mode: u32) -> Result<()> {
        let bad = |reason| Error::Entry {
            path: path.to_owned(),
            reason,
        };
        let path = path.trim_matches('/');
        if path.is_empty() || path.contains('\0') {
            return Err(bad("expected a path below the root"));
        }
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(bad("a path may hold no '.', no '..' and no empty part"));
        }
        for (at, _) in path.match_indices('/') {
            let parent = self.nodes.entry(path[..at].to_owned()).or_insert(Node {
                kind: Kind::Dir,
                mode: 0o755,
            });
            if !matches!(parent.kind, Kind::Dir) {
                return Err(bad("something that is no directory lies on the way to it"));
            }
        }
        self.nodes.insert(path.to_owned(), Node { kind, mode });
        Ok(())
    }

    /// The tar of this tree as a stream of known length.
    ///
    /// # Errors
    /// A source file that cannot be looked at, or is no regular file.
    pub fn stream(&self) -> Result<TarStream> {
        let mut parts = VecDeque::new();
        let mut pending = Vec::new();
        for (path, node) in &self.nodes {
            let mut header = tar::Header::new_gnu();
            header.set_mtime(0);
            header.set_uid(self.uid);
            header.set_gid(self.gid);
            header.set_mode(node.mode);
            header.set_size(0);
            let entry = |e: io::Error| Error::File {
                action: "make a tar entry for",
                path: path.into(),
                source: e,
            };
            match &node.kind {
                Kind::Dir => {
                    header.set_entry_type(tar::EntryType::Directory);
                    pending.extend(encode(&mut header, &format!("{path}/"), None).map_err(entry)?);
                }
                Kind::Symlink(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    pending.extend(encode(&mut header, path, Some(target)).map_err(entry)?);
                }
                Kind::File(source) => {
                    header.set_entry_type(tar::EntryType::Regular);
                    let length = match source {
                        Source::Bytes(bytes) => bytes.len() as u64,
                        Source::Path(file) => {
                            let meta =
                                std::fs::metadata(file).map_err(Error::file("look at", file))?;
                            if !meta.is_file() {
                                let reason = "its source is no regular file";
                                return Err(Error::Entry {
                                    path: file.display().to_string(),
                                    reason,
                                });
                            }
                            meta.len()
                        }
                    };
                    header.set_size(length);
                    pending.extend(encode(&mut header, path, None).map_err(entry)?);
                    match source {
                        Source::Bytes(bytes) => pending.extend_from_slice(bytes),
                        Source::Path(file) => {
                            parts.push_back(Part::Bytes(io::Cursor::new(std::mem::take(
                                &mut pending,
                            ))));
                            parts.push_back(Part::File {
                                path: file.clone(),
                                length,
                                open: None,
                            });
                        }
                    }
                    pending.resize(pending.len() + padding(length), 0);
                }
            }
        }
        // A tar ends with two empty blocks.
        pending.resize(pending.len() + 1024, 0);
        parts.push_back(Part::Bytes(io::Cursor::new(pending)));
        let length = parts.iter().map(Part::length).sum();
        Ok(TarStream { parts, length })
    }
}

impl From<Vec<u8>> for Source {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

/// How many zeros follow a file of this length, up to the next block of 512 bytes.
fn padding(length: u64) -> usize {
    ((512 - length % 512) % 512) as usize
}

/// One header with what GNU tar puts before it when a name is long.
fn encode(header: &mut tar::Header, path: &str, target: Option<&str>) -> io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    match target {
        Some(target) => builder.append_link(header, path, target)?,
        // The header promises its own size; the bytes follow in the stream.
        None => builder.append_data(header, path, io::empty())?,
    }
    Ok(builder.get_ref().clone())
}

enum Part {
    Bytes(io::Cursor<Vec<u8>>),
    File {
        path: PathBuf,
        length: u64,
        open: Option<io::Take<File>>,
    },
}

impl Part {
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.get_ref().len() as u64,
            Self::File { length, .. } => *length,
        }
    }
}

/// The bytes of a layer's tar.
pub struct TarStream {
    parts: VecDeque<Part>,
    length: u64,
}

impl TarStream {
    /// The length of the whole in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl Read for TarStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(part) = self.parts.front_mut() {
            let n = match part {
                Part::Bytes(bytes) => bytes.read(buffer)?,
                Part::File { path, length, open } => {
                    let file = match open {
                        Some(file) => file,
                        None => open.insert(File::open(&*path)?.take(*length)),
                    };
                    let n = file.read(buffer)?;
                    if n == 0 && file.limit() > 0 {
                        let message =
                            format!("{} became shorter while it was read", path.display());
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
                    }
                    n
                }
            };
            if n > 0 {
                return Ok(n);
            }
            self.parts.pop_front();
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bytes(tree: &Tree) -> Vec<u8> {
        let mut stream = tree.stream().unwrap();
        let length = stream.length();
        let mut out = Vec::new();
        stream.read_to_end(&mut out).unwrap();
        assert_eq!(out.len() as u64, length);
        out
    }

    #[test]
    fn the_order_of_insertion_and_the_time_of_files_do_not_show() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"content").unwrap();
        let build = |reverse: bool| {
            let mut tree = Tree::owned_by(107, 107);
            let file = |t: &mut Tree| {
                t.file("disk/a.qcow2", file.path().to_owned(), 0o440)
                    .unwrap()
            };
            let link = |t: &mut Tree| t.symlink("bin/sh", "busybox").unwrap();
            let dir = |t: &mut Tree| t.dir("tmp", 0o1777).unwrap();
            let mut steps: Vec<&dyn Fn(&mut Tree)> = vec![&file, &link, &dir];
            if reverse {
                steps.reverse();
            }
            steps.iter().for_each(|step| step(&mut tree));
            bytes(&tree)
        };
        let first = build(false);
        std::fs::File::open(file.path())
            .unwrap()
            .set_modified(std::time::UNIX_EPOCH)
            .unwrap();
        assert_eq!(first, build(true));
    }

    #[test]
    fn a_tar_reader_sees_owner_mode_content_and_long_names() {
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
        let mut tree = Tree::owned_by(107, 108);
        tree.file(&long, "hello", 0o640).unwrap();
        tree.symlink("l", &"t".repeat(150)).unwrap();
        let tar = bytes(&tree);
        let mut archive = tar::Archive::new(tar.as_slice());
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            assert_eq!(
                (
                    header.uid().unwrap(),
                    header.gid().unwrap(),
                    header.mtime().unwrap()
                ),
                (107, 108, 0)
            );
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            seen.push((entry.path().unwrap().display().to_string(), content));
        }
        let expected = [
            (format!("{}/", "d".repeat(120)), ""),
            (long, "hello"),
            ("l".to_owned(), ""),
        ];
        assert_eq!(
            seen,
            expected.map(|(path, content)| (path, content.to_owned()))
        );
    }

    #[test]
    fn paths_that_leave_the_tree_are_refused() {
        let mut tree = Tree::default();
        tree.file("f", "", 0o644).unwrap();
        for bad in [
            "",
            "/",
            "../x",
            "a/../b",
            "a//b",
            "./a",
            "f/below-a-file",
            "a\0b",
        ] {
            assert!(tree.file(bad, "", 0o644).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn subtracting_a_lower_layer_keeps_the_way_to_what_is_left() {
        let mut below = Tree::default();
        below.file("usr/lib/a", "", 0o644).unwrap();
        below.dir("usr/share", 0o755).unwrap();
        let mut above = below.clone();
        above.file("usr/lib/b", "", 0o644).unwrap();
        above.subtract(&below);
        assert_eq!(
            above.paths().collect::<Vec<_>>(),
            ["usr", "usr/lib", "usr/lib/b"]
        );
    }
}
