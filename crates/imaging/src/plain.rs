//! Opening what a tenant may have put into a claim: a file or a block device, nothing else.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::{Error, Result};

/// Opens `path` as `options` say, whatever it is called.
///
/// # Errors
/// When it cannot be opened, or is neither a file nor a block device: a symbolic link would
/// lead to files of the pod that opens it, and a pipe would keep that waiting.
pub fn open_plain(path: &Path, options: &mut OpenOptions) -> Result<File> {
    let found = |what: &str| {
        Error::Source(format!(
            "expected a file or a block device at {}, found {what}",
            path.display()
        ))
    };
    let careful = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match options
        .custom_flags(careful.bits().cast_signed())
        .open(path)
    {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::LOOP) => {
            return Err(found("a symbolic link"));
        }
        opened => opened.map_err(Error::io(format!("cannot open {}", path.display())))?,
    };
    let kind = file
        .metadata()
        .map_err(Error::io(format!("cannot look at {}", path.display())))?
        .file_type();
    if kind.is_file() || kind.is_block_device() {
        Ok(file)
    } else if kind.is_dir() {
        Err(found("a directory"))
    } else if kind.is_fifo() {
        Err(found("a pipe"))
    } else {
        Err(found("a device of another kind"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{FileSource, Target};

    #[test]
    fn what_leads_out_of_a_claim_or_keeps_a_reader_waiting_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("tls.key");
        std::fs::write(&secret, "secret").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&secret, &link).unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
        let null = dir.path().join("null");
        let device = rustix::fs::makedev(1, 3);
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            &null,
            rustix::fs::FileType::CharacterDevice,
            0o600.into(),
            device,
        );
        let mut cases = vec![
            (link, "found a symbolic link"),
            (pipe, "found a pipe"),
            (dir.path().to_owned(), "directory"),
        ];
        // Only root makes devices.
        if made.is_ok() {
            cases.push((null, "found a device of another kind"));
        }
        for (path, said) in cases {
            let error = FileSource::open(&path).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
            let error = Target::open(&path).unwrap_err().to_string();
            assert!(error.to_lowercase().contains(said), "{error}");
        }
        assert_eq!(std::fs::read(&secret).unwrap(), b"secret");
    }

    #[test]
    fn a_file_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.img");
        std::fs::write(&path, "disk").unwrap();
        open_plain(&path, OpenOptions::new().read(true)).unwrap();
    }
}
