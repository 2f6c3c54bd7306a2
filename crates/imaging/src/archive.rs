//! Unpacking a tar archive into a directory that nothing may leave.

use std::io::{self, Read};
use std::path::{Component, Path};

use tar::{Archive, EntryType};

use crate::{Error, Format, HEAD, Job, Result, detect, unpack};

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
    let mut archive = Archive::new(reader);
    archive.set_preserve_permissions(true);
    archive.set_overwrite(true);
    let mut total = 0u64;
    for entry in archive.entries().map_err(malformed)? {
        job.go_on()?;
        let mut entry = entry.map_err(malformed)?;
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
    use super::*;

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
