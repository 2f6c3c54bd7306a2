//! The programs that fill a claim: importer, uploadserver, cloner.
//!
//! ```text
//!   importer      http, s3, registry, blank ─┐
//!   uploadserver  mTLS ──────────────────────┼─► imaging ─► /data/disk.img or a device
//!   cloner        another claim ─────────────┘
//! ```
//! Each runs once in a pod that has nothing but the claim: no API token, no more memory than
//! its buffers. How it ended stands in the termination log; how far it is, under /metrics.
//! The disk is written by a few threads of its own; the runtime's one thread has the network.

mod cloner;
mod end;
mod http_source;
mod importer;
mod poll;
mod progress;
mod registry;
mod request;
mod s3;
mod send;
#[cfg(test)]
mod tests;
mod upload;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use imaging::{Job, Stage, Target};
use kube_kit::Shutdown;
use kube_kit::args::Args;

use end::{Done, Ending};
use progress::Progress;

/// Threads that read and write a disk: enough that requests overlap with writing, few enough
/// that their buffers (4 MiB each) stay small.
const THREADS: usize = 3;

/// cdi-importer: `args` without the program's name. With `poll` as the first it only asks
/// for an image's digest.
#[must_use]
pub fn importer(mut args: Vec<OsString>) -> ExitCode {
    if args.first().is_some_and(|first| first == "poll") {
        return poll::main(args.split_off(1));
    }
    start(
        "cdi-importer",
        args,
        importer::parse,
        |work, claim, cancel| work.run(claim, cancel),
    )
}

/// cdi-cloner: `args` without the program's name. With `send` as the first it sends the claim to
/// an upload server of another namespace.
#[must_use]
pub fn cloner(mut args: Vec<OsString>) -> ExitCode {
    if args.first().is_some_and(|first| first == "send") {
        return send::main(args.split_off(1));
    }
    start("cdi-cloner", args, cloner::parse, |work, claim, cancel| {
        work.run(claim, cancel)
    })
}

/// cdi-uploadserver: `args` without the program's name.
#[must_use]
pub fn uploadserver(args: Vec<OsString>) -> ExitCode {
    kube_kit::start("cdi-uploadserver", |shutdown| async move {
        let mut args = Args::new(args);
        let claim = Claim::parse(&mut args)?;
        let settings = upload::Settings::parse(&mut args)?;
        args.finish()?;
        let ending = claim.ending.clone();
        let metrics = tokio::spawn(progress::serve(claim.progress.clone(), shutdown.clone()));
        let outcome = upload::run(settings, claim, shutdown).await;
        metrics.abort();
        ending.write(&outcome?)
    })
}

/// What is to be filled, and where it is told.
#[derive(Debug, Clone)]
struct Claim {
    target: PathBuf,
    size: Option<u64>,
    preallocate: bool,
    archive: bool,
    scratch: Option<PathBuf>,
    progress: Arc<Progress>,
    ending: Ending,
}

impl Claim {
    fn parse(args: &mut Args) -> anyhow::Result<Self> {
        let kind: String = args.or("--content-type", "kubevirt".to_owned())?;
        anyhow::ensure!(
            kind == "kubevirt" || kind == "archive",
            "option --content-type: expected kubevirt or archive, found {kind:?}"
        );
        let owner: String = args.or("--owner-uid", String::new())?;
        Ok(Self {
            target: args.required::<String>("--target")?.into(),
            size: args.option("--size")?,
            preallocate: args.flag("--preallocate"),
            archive: kind == "archive",
            scratch: args.option::<String>("--scratch")?.map(PathBuf::from),
            progress: Arc::new(Progress::new(owner, args.option("--metrics")?)),
            ending: Ending::new(
                args.or("--termination-log", "/dev/termination-log".to_owned())?
                    .into(),
            ),
        })
    }

    fn job<'a>(
        &'a self,
        checksum: Option<imaging::Checksum>,
        cancel: &'a AtomicBool,
        tell: &'a (dyn Fn(f64) + Sync),
    ) -> Job<'a> {
        Job {
            size: self.size,
            checksum,
            preallocate: self.preallocate,
            threads: THREADS,
            progress: tell,
            cancel,
        }
    }

    /// Where an image is kept that cannot be converted while it streams.
    fn stage(&self, target: &Target) -> Stage {
        let name = ".disk.img.stage";
        match &self.scratch {
            Some(dir) => Stage::File(dir.join(name)),
            None if target.is_device() => Stage::Nowhere(
                "a block volume has no room to keep it until it is converted: upload it as raw (also gzip, xz or zstd of raw), or use a volume with a file system".to_owned(),
            ),
            None => Stage::File(self.target.parent().unwrap_or(Path::new(".")).join(name)),
        }
    }

    /// The directory that an archive is unpacked into.
    fn directory(&self) -> PathBuf {
        if self.target.is_dir() {
            return self.target.clone();
        }
        self.target.parent().unwrap_or(Path::new("/")).to_owned()
    }
}

/// Runs work that is done by threads to its end, and writes how it ended.
fn start<W: Send + 'static>(
    name: &'static str,
    args: Vec<OsString>,
    parse: fn(&mut Args) -> anyhow::Result<W>,
    run: fn(W, &Claim, &AtomicBool) -> imaging::Result<Done>,
) -> ExitCode {
    kube_kit::start(name, |shutdown| async move {
        let mut args = Args::new(args);
        let claim = Claim::parse(&mut args)?;
        let work = parse(&mut args)?;
        args.finish()?;
        let metrics = tokio::spawn(progress::serve(claim.progress.clone(), shutdown.clone()));
        let outcome = in_thread(shutdown, {
            let claim = claim.clone();
            move |cancel| run(work, &claim, cancel)
        })
        .await;
        metrics.abort();
        claim.ending.write(&outcome?)
    })
}

/// Runs `work` in a thread of its own, and tells it when to stop.
async fn in_thread<T: Send + 'static>(
    shutdown: Shutdown,
    work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
) -> anyhow::Result<T> {
    let cancel = Arc::new(AtomicBool::new(false));
    let (sender, mut receiver) = tokio::sync::oneshot::channel();
    let seen = Arc::clone(&cancel);
    std::thread::Builder::new()
        .name("work".to_owned())
        .spawn(move || {
            // Nobody waits only when the process ends.
            let _ = sender.send(work(&seen));
        })
        .context("cannot start a thread")?;
    tokio::select! {
        outcome = &mut receiver => return outcome.context("the working thread failed"),
        () = shutdown.cancelled() => cancel.store(true, Ordering::Relaxed),
    }
    receiver.await.context("the working thread failed")
}
