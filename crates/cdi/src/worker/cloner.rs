//! cdi-cloner: from one claim into another, in one pod that has both; or, where the storage
//! cloned, whatever that leaves to do.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use imaging::{Error, FileSource, Format, Result, Target};
use kube_kit::args::Args;

use super::Claim;
use super::end::Done;

/// What the controller's clients look for.
const COMPLETE: &str = "Clone Complete";

/// What to clone.
#[derive(Debug)]
pub(super) struct Work {
    /// What is copied; the storage did it, if nothing is.
    from: Option<PathBuf>,
}

/// Reads the cloner's own options.
pub(super) fn parse(args: &mut Args) -> anyhow::Result<Work> {
    if args.flag("--prepare") {
        return Ok(Work { from: None });
    }
    Ok(Work {
        from: Some(args.required::<String>("--from")?.into()),
    })
}

impl Work {
    pub(super) fn run(self, claim: &Claim, cancel: &AtomicBool) -> Result<Done> {
        let Some(from) = self.from else {
            return prepare(claim);
        };
        let tell = |part| claim.progress.tell(part);
        let job = claim.job(None, cancel, &tell);
        if claim.archive {
            let into = claim.directory();
            let bytes = copy_tree(&from, &into, &job)?;
            return Ok(Done::archive(COMPLETE, bytes));
        }
        let source = FileSource::open(&from)?;
        let target = Target::open(&claim.target)?;
        // A claim's disk is raw by definition; what a guest wrote at its begin is its own affair.
        let outcome = imaging::convert(&source, Format::Raw, &target, &job)?;
        Ok(Done::disk(COMPLETE, outcome))
    }
}

/// An image that the storage cloned fills its claim, as one that was copied does; a device is
/// as large as it is.
fn prepare(claim: &Claim) -> Result<Done> {
    let io = |source| Error::Io {
        what: format!("cannot prepare {}", claim.target.display()),
        source,
    };
    let image = imaging::open_plain(&claim.target, OpenOptions::new().write(true))?;
    let found = image.metadata().map_err(io)?;
    let size = claim.size.unwrap_or_default().max(found.len());
    if found.is_file() && found.len() < size {
        image.set_len(size).map_err(io)?;
        image.sync_all().map_err(io)?;
    }
    Ok(Done {
        message: COMPLETE,
        virtual_size: size,
        outcome: None,
        digest: None,
    })
}

/// A tree of files goes through the same gate as an archive from outside.
fn copy_tree(from: &Path, into: &Path, job: &imaging::Job<'_>) -> Result<u64> {
    let io = |source| Error::Io {
        what: format!("cannot copy {}", from.display()),
        source,
    };
    let (reader, writer) = std::io::pipe().map_err(io)?;
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || write_tree(from, writer));
        let bytes = imaging::archive::extract(reader, into, job);
        let written = writing
            .join()
            .unwrap_or_else(|_| Err(std::io::Error::other("a thread failed")));
        // A reader that refused closed the pipe; its reason is the better one.
        let bytes = bytes?;
        written.map_err(io)?;
        Ok(bytes)
    })
}

pub(super) fn write_tree(from: &Path, writer: impl Write) -> std::io::Result<()> {
    let mut builder = tar::Builder::new(std::io::BufWriter::new(writer));
    builder.follow_symlinks(false);
    builder.append_dir_all(".", from)?;
    builder
        .into_inner()?
        .into_inner()
        .map_err(|e| e.into_error())?;
    Ok(())
}
