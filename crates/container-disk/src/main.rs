//! Runs in the container of a user's image, opens the one disk file that the image holds, and passes the open file to
//! the launcher of the same pod.
//!
//! ```text
//! start -> listen on SOCKET -> somebody connects -> one JSON line + the file (SCM_RIGHTS)
//!       -> the last connection closes -> exit 0      SIGTERM while nobody is connected -> exit 0
//! ```
//! The image is foreign: links are followed within its own root file system only, never into a mount, and only a
//! regular file is handed out. One thread, no allocation that grows; hundreds of these run on a node.

mod disk;
mod serve;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// What the launcher's pod gives.
#[derive(Debug, PartialEq, Eq)]
struct Args {
    /// Where to listen.
    socket: PathBuf,
    /// The disk file, or the directory that holds it alone.
    path: PathBuf,
}

const USAGE: &str = "expected --socket SOCKET --path FILE-OR-DIRECTORY";

fn main() -> ExitCode {
    let done = parse(std::env::args().skip(1)).and_then(|args| {
        let found = disk::open(std::path::Path::new("/"), &args.path);
        if let Err(reason) = &found {
            complain(reason);
        }
        serve::serve(&args.socket, &found).map(|()| found.is_ok())
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        // The launcher has been told; the exit code tells whoever looks at the pod.
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            complain(&reason);
            ExitCode::FAILURE
        }
    }
}

fn complain(reason: &str) {
    // Nothing is to be done if even the error cannot be told.
    let _ = writeln!(std::io::stderr(), "container-disk: {reason}");
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let (mut socket, mut path) = (None, None);
    while let Some(word) = words.next() {
        let slot = match word.as_str() {
            "--socket" => &mut socket,
            "--path" => &mut path,
            other => return Err(format!("{USAGE}, found {other:?}")),
        };
        *slot = Some(PathBuf::from(
            words
                .next()
                .ok_or_else(|| format!("{word} needs a value; {USAGE}"))?,
        ));
    }
    match (socket, path) {
        (Some(socket), Some(path)) => Ok(Args { socket, path }),
        _ => Err(USAGE.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_arguments_are_needed_and_no_others_are_known() {
        let parse = |text: &str| parse(text.split_whitespace().map(str::to_owned));
        let args = Args {
            socket: "/s".into(),
            path: "/disk".into(),
        };
        assert_eq!(parse("--path /disk --socket /s"), Ok(args));
        for bad in [
            "",
            "--socket /s",
            "--socket",
            "--socket /s --path /d --force yes",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
