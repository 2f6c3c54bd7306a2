//! A look at an image in a registry: which digest its tag stands for now. Nothing is
//! imported, and no claim is there.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use kube_kit::args::Args;

use super::end::{Done, Ending};
use super::{importer, in_thread};

/// What is said when the digest is known.
const COMPLETE: &str = "Poll Complete";

/// `--source registry --endpoint URL [--secret-dir DIR] [--ca-dir DIR] [--insecure]`.
pub(super) fn main(args: Vec<OsString>) -> ExitCode {
    kube_kit::start("cdi-importer", |shutdown| async move {
        let mut args = Args::new(args);
        let log = args.or("--termination-log", PathBuf::from("/dev/termination-log"))?;
        let work = importer::parse(&mut args)?;
        args.finish()?;
        let looked = in_thread(shutdown, move |_| work.look()).await?;
        Ending::new(log).write(&looked.map(|digest| Done::looked(COMPLETE, digest)))
    })
}
