//! Unpacking a tar archive into a directory that nothing may leave.

use std::cell::Cell;
use std::io::{self, Read};
use std::path::{Component, Path};
use std::rc::Rc;

use tar::{Archive, EntryType};

use crate::{Error, Format, HEAD, Job, Result, detect, unpack};

/// The longest headers of an entry, long names and attributes among them, in bytes.
const HEADERS: u64 = 1 << 20;

/// An archive whose headers are bounded: those are kept in memory, however long they say they are.
#[derive(Debug)]
pub struct Bounded<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

/// Says what is read of a [`Bounded`] archive: headers at first.
#[derive(Debug)]
pub struct Bound(Rc<Cell<u64>>);

impl Bound {
    /// The next entry is looked for. What the last one holds was read to its end.
    pub fn headers(&self) {
        self.0.set(HEADERS);
    }

    /// What an entry holds, or what follows the last one, is read.
    pub fn contents(&self) {
        self.0.set(u64::MAX);
    }
}

/// Bounds the headers of the archive that `inner` gives.
pub fn bounded<R: Read>(inner: R) -> (Bounded<R>, Bound) {
    let left = Rc::new(Cell::new(HEADERS));
    let bound = Bound(Rc::clone(&left));
    (Bounded { inner, left }, bound)
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            let reason = format!("an entry's headers are longer than {HEADERS} bytes");
            return Err(Error::malformed(Format::Tar, reason).into());
        }
        let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let n = self.inner.read(&mut buffer[..most])?;
        self.left.set(left - n as u64);
        Ok(n)
    }
}

/// Unpacks the archive, itself compressed or not, into the directory `into`. Gives the bytes of
/// its files.
///
/// # Errors
/// When an entry leads out of the directory (by its name, or by where its link points), is a
/// device, when files are more than the job's size, when the archive is broken, or it cannot be
/// written.
pub fn extract(reader: impl Read, into: &Path, job: &Job<'_>) -> Result<u64> {
    let mut reader: Box<dyn Read + '_> = Box::new(reader);
    let mut head = [0; HEAD];
    let n = read_up_to(&mut reader, &mut head)?;
    let format = detect(&head[..n]);
    let all = io::Cursor::new(head[..n].to_vec()).chain(reader);
    let mut reader = match format {
        Format::Tar => Box::new(all),
        Format::Gzip | Format::Xz | Format::Zstd => unpack::stream(format, all),
        other => {
            return Err(Error::refused(
                other,
                "expected a tar archive, as content type archive wants it",
            ));
        }
    };
    let total = entries(&mut reader, into, job)?;
    io::copy(&mut reader, &mut io::sink()).map_err(Error::from_read)?;
    sync(into)?;
    (job.progress)(1.0);
    Ok(total)
}

fn entries(reader: &mut (impl Read + ?Sized), into: &Path, job: &Job<'_>) -> Result<u64> {
    let malformed = |error: io::Error| match Error::from_read(error) {
        Error::SourceForNow(reason) => Error::malformed(Format::Tar, reason),
        own => own,
    };
    let (reader, bound) = bounded(reader);
    let mut archive = Archive::new(reader);
    archive.set_preserve_permissions(true);
    archive.set_overwrite(true);
    let mut total = 0u64;
    for entry in archive.entries().map_err(malformed)? {
        job.go_on()?;
        let mut entry = entry.map_err(malformed)?;
        bound.contents();
        let path = entry.path().map_err(malformed)?.into_owned();
        if leaves(Path::new(""), &path) {
            return Err(Error::refused(
                Format::Tar,
                format!(
                    "entry {} leads out of the volume: expected names relative to it",
                    path.display()
                ),
            ));
        }
        match entry.header().entry_type() {
            EntryType::Symlink | EntryType::Link => {
                let link = entry.link_name().map_err(malformed)?.unwrap_or_default();
                let hard = entry.header().entry_type() == EntryType::Link;
                // A hard link's name counts from the archive's root, a symbolic one's from itself.
                let base = if hard {
                    Path::new("")
                } else {
                    path.parent().unwrap_or(Path::new(""))
                };
                if leaves(base, &link) {
                    return Err(Error::refused(
                        Format::Tar,
                        format!(
                            "entry {} is a link to {}, which leads out of the volume",
                            path.display(),
                            link.display()
                        ),
                    ));
                }
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                return Err(Error::refused(
                    Format::Tar,
                    format!(
                        "entry {} is a device or pipe: expected files, directories and links",
                        path.display()
                    ),
                ));
            }
            _ => {}
        }
        total = total.saturating_add(entry.size());
        if let Some(available) = job.size
            && total > available
        {
            return Err(Error::TooLarge {
                needed: total,
                available,
            });
        }
        let unpacked = entry.unpack_in(into).map_err(|error| {
            if error.kind() == io::ErrorKind::StorageFull {
                return Error::Full {
                    path: into.join(&path).display().to_string(),
                    written: total,
                };
            }
            match Error::from_read(error) {
                Error::SourceForNow(reason) => {
                    Error::malformed(Format::Tar, format!("entry {}: {reason}", path.display()))
                }
                own => own,
            }
        })?;
        if !unpacked {
            return Err(Error::refused(
                Format::Tar,
                format!("entry {} leads out of the volume", path.display()),
            ));
        }
        // What no file has become, so that headers come next.
        io::copy(&mut entry, &mut io::sink()).map_err(malformed)?;
        bound.headers();
    }
    Ok(total)
}

/// Whether `path`, seen from `base`, leads above the root.
fn leaves(base: &Path, path: &Path) -> bool {
    let mut depth = base
        .components()
        .filter(|c| matches!(c, Component::Normal(_)))
        .count();
    for component in path.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return true,
        }
    }
    false
}

fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match reader.read(&mut buffer[n..]).map_err(Error::from_read)? {
            0 => break,
            more => n += more,
        }
    }
    Ok(n)
}

/// The volume's file system, with all that was unpacked.
fn sync(into: &Path) -> Result<()> {
    let what = || format!("cannot sync {}", into.display());
    let dir = std::fs::File::open(into).map_err(Error::io(what()))?;
    rustix::fs::syncfs(&dir).map_err(|e| Error::io(what())(e.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_without_end_is_refused_before_it_fills_the_memory() {
        for kind in [
            EntryType::GNULongName,
            EntryType::GNULongLink,
            EntryType::XHeader,
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(8 << 30);
            header.set_cksum();
            let bytes = io::Cursor::new(header.as_bytes().to_vec());
            let mut endless = bytes.chain(io::repeat(b'a').take(64 << 20));
            let dir = tempfile::tempdir().unwrap();
            let cancel = std::sync::atomic::AtomicBool::new(false);
            let job = Job {
                size: Some(1 << 20),
                checksum: None,
                preallocate: false,
                threads: 1,
                progress: &|_| {},
                cancel: &cancel,
            };
            let error = extract(&mut endless, dir.path(), &job).unwrap_err();
            assert!(
                error.is_permanent() && error.to_string().contains("longer than 1048576 bytes"),
                "{error}"
            );
        }
    }

    #[test]
    fn only_paths_below_the_root_stay() {
        for (base, path, out) in [
            ("", "a/b", false),
            ("", "./a/../b", false),
            ("", "a/../../b", true),
            ("", "/a", true),
            ("a/b", "../../c", false),
            ("a/b", "../../../c", true),
            ("a", "/etc/passwd", true),
        ] {
            assert_eq!(
                leaves(Path::new(base), Path::new(path)),
                out,
                "{base} {path}"
            );
        }
    }
}
