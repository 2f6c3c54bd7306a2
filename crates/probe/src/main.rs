//! `edgevirt-probe`: the facts of this node as one JSON document.
//!
//! Pushed to a node over SSH and run there once; it needs nothing of the node.
//! Exit codes: 0 done, 1 failed, 2 bad usage.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use probe::trial::{self, Wanted};
use probe::{Options, capture, gather};

const USAGE: &str = "\
Reads the facts of this node.

edgevirt-probe gather [OPTION...]   print the facts as one JSON document
  --trial [BDF[,N]]    try N (1) virtual functions of this physical function, or one of each; may be given several times
  --root DIR           read a captured tree instead of this machine
  --disk DIR           a directory that must have room (/var/lib); may be given several times
  --skip-kvm-run       run no guests in KVM
edgevirt-probe restore              put back what an interrupted trial had changed
edgevirt-probe capture DIR          write the files that gather reads as a tree for --root
edgevirt-probe --version
";

/// Why the program ends without having done what was asked.
enum Failure {
    Usage(String),
    Run(String),
}

impl From<pico_args::Error> for Failure {
    fn from(error: pico_args::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

fn main() -> ExitCode {
    let (every, words) = trial_of_every_function(std::env::args_os().skip(1));
    let mut arguments = pico_args::Arguments::from_vec(words);
    let result = if arguments.contains(["-h", "--help"]) {
        say(USAGE)
    } else if arguments.contains(["-V", "--version"]) {
        say(concat!("edgevirt-probe ", env!("CARGO_PKG_VERSION"), "\n"))
    } else {
        run(arguments, every)
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Run(why)) => {
            warn(&why);
            ExitCode::FAILURE
        }
        Err(Failure::Usage(why)) => {
            warn(&format!("{why}; see edgevirt-probe --help"));
            ExitCode::from(2)
        }
    }
}

/// Takes a `--trial` without an address out of the words, and tells whether there was one.
fn trial_of_every_function(words: impl Iterator<Item = OsString>) -> (bool, Vec<OsString>) {
    let words: Vec<OsString> = words.collect();
    let bare = |index: usize| {
        let next = words.get(index + 1).and_then(|word| word.to_str());
        words.get(index).is_some_and(|word| word == "--trial")
            && next.is_none_or(|next| next.starts_with('-'))
    };
    let rest = (0..words.len()).filter(|index| !bare(*index));
    let rest: Vec<OsString> = rest.filter_map(|index| words.get(index).cloned()).collect();
    (rest.len() < words.len(), rest)
}

fn run(mut arguments: pico_args::Arguments, every: bool) -> Result<(), Failure> {
    let command = arguments.subcommand()?;
    match command.as_deref() {
        Some("gather") => gather_command(arguments, every),
        Some(other) if every => Err(Failure::Usage(format!(
            "--trial belongs to gather, found it with {other}"
        ))),
        Some("restore") => {
            no_more(&arguments.finish())?;
            restore()
        }
        Some("capture") => {
            let directory: PathBuf = arguments.free_from_os_str(path)?;
            no_more(&arguments.finish())?;
            // What an interrupted trial left is no fact of the node.
            restore()?;
            capture::capture(&Options::default(), &directory)
                .map_err(|error| Failure::Run(error.to_string()))
        }
        Some(other) => Err(Failure::Usage(format!(
            "expected gather, restore or capture, found {other}"
        ))),
        None => Err(Failure::Usage(
            "expected gather, restore or capture, found nothing".to_owned(),
        )),
    }
}

fn path(text: &OsStr) -> Result<PathBuf, std::convert::Infallible> {
    Ok(PathBuf::from(text))
}

fn no_more(rest: &[OsString]) -> Result<(), Failure> {
    match rest.first() {
        None => Ok(()),
        Some(first) => Err(Failure::Usage(format!(
            "expected no more arguments, found {}",
            first.display()
        ))),
    }
}

fn gather_command(mut arguments: pico_args::Arguments, every: bool) -> Result<(), Failure> {
    let begin = Instant::now();
    let mut trials: Vec<Wanted> = arguments.values_from_str("--trial")?;
    let defaults = Options::default();
    let root = arguments.opt_value_from_os_str("--root", path)?;
    let space: Vec<PathBuf> = arguments.values_from_os_str("--disk", path)?;
    let options = Options {
        root: root.unwrap_or(defaults.root),
        space: match space.is_empty() {
            true => defaults.space,
            false => space,
        },
        skip_kvm_run: arguments.contains("--skip-kvm-run"),
        ..defaults
    };
    no_more(&arguments.finish())?;
    if options.live()
        && let Err(Failure::Run(why) | Failure::Usage(why)) = restore()
    {
        // The facts are gathered all the same; a trial is refused then.
        warn(&why);
    }
    let mut facts = gather(&options)
        .map_err(|error| Failure::Run(format!("{}: {error}", options.root.display())))?;
    if every {
        trials.extend(trial::every(&facts));
    }
    for wanted in &trials {
        let result = trial::run(wanted, &facts, Path::new(trial::DIRECTORY));
        facts.sriov_trials.push(result);
    }
    if !trials.is_empty() {
        probe::stamp(&mut facts, begin);
    }
    let mut text =
        serde_json::to_string(&facts).map_err(|error| Failure::Run(error.to_string()))?;
    text.push('\n');
    say(&text)
}

/// Puts back what an interrupted trial had changed, and says so.
fn restore() -> Result<(), Failure> {
    let restored = trial::restore(Path::new(trial::DIRECTORY))
        .map_err(|error| Failure::Run(error.to_string()))?
        .unwrap_or_default();
    for done in &restored.done {
        warn(&format!("put back after an interrupted trial: {done}"));
    }
    if restored.failed.is_empty() {
        return Ok(());
    }
    Err(Failure::Run(format!(
        "could not put back what an interrupted trial had changed: {}",
        restored.failed.join("; ")
    )))
}

fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::Run(format!("standard output: {error}")))
}

fn warn(text: &str) {
    // Nobody to tell if even that is closed.
    let _ = writeln!(io::stderr(), "edgevirt-probe: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_without_an_address_means_every_function() {
        for (line, every, rest) in [
            ("gather --trial", true, "gather"),
            (
                "gather --trial --skip-kvm-run",
                true,
                "gather --skip-kvm-run",
            ),
            (
                "gather --trial 0000:01:00.0,2",
                false,
                "gather --trial 0000:01:00.0,2",
            ),
            ("gather", false, "gather"),
        ] {
            let words = line.split(' ').map(OsString::from);
            let expected: Vec<OsString> = rest.split(' ').map(OsString::from).collect();
            assert_eq!(trial_of_every_function(words), (every, expected), "{line}");
        }
    }
}
