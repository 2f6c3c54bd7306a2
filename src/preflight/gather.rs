//! Gathers the facts of one node: of this machine, of files, or over SSH.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use hardware::{Facts, Requirements};
use probe::trial;

use super::nodes::{Job, Source};
use crate::cli::PreflightArgs;
use crate::ssh::{Cancel, Deadline, Failure, Limits, Target, connection, harmless, push};

/// What gathering needs besides the node.
pub(super) struct Means {
    /// The probe, empty if no node is remote.
    program: push::Program<'static>,
    limits: Limits,
    trial: bool,
    /// Nobody wants to know whether a guest runs, so none is run.
    skip_kvm_run: bool,
    disk: PathBuf,
}

/// What came of it.
pub(super) struct Gathered {
    /// The facts.
    pub(super) facts: Facts,
    /// The node's clock minus ours, milliseconds.
    pub(super) clock_offset_ms: Option<i64>,
}

impl Means {
    pub(super) fn new(args: &PreflightArgs, remote: bool) -> anyhow::Result<Self> {
        Ok(Self {
            program: push::Program::new(match remote {
                true => program(args.ssh.probe_program.as_deref())?,
                false => Vec::new(),
            }),
            limits: limits(args),
            trial: args.probe,
            skip_kvm_run: args.skip.iter().any(|id| id == "kvm.run"),
            disk: args.disk.clone(),
        })
    }
}

/// How long a node may take.
pub(super) fn limits(args: &PreflightArgs) -> Limits {
    Limits {
        connect: Duration::from_secs(args.ssh.connect_timeout),
        total: Duration::from_secs(args.ssh.timeout),
    }
}

/// The probe that is pushed to nodes.
fn program(named: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()
            .context("cannot tell where this program is")?
            .with_file_name("edgevirt-probe"),
    };
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => bail!(
            "cannot read the probe {}: {error}; it is pushed to the nodes: `make build` makes it, --probe-program names another",
            path.display()
        ),
    };
    if !bytes.starts_with(b"\x7fELF") && !bytes.starts_with(b"#!") {
        bail!(
            "{}: expected the program edgevirt-probe, found something else",
            path.display()
        );
    }
    Ok(bytes)
}

/// Gathers; the error is one line for people.
pub(super) fn gather(job: &Job, means: &Means, cancel: &Cancel) -> Result<Gathered, String> {
    match &job.source {
        Source::Facts(facts) => Ok(Gathered {
            facts: (**facts).clone(),
            clock_offset_ms: None,
        }),
        Source::Local { root } => {
            local(root, means, &job.requirements).map_err(|e| format!("{e:#}"))
        }
        Source::Ssh(target) => {
            remote(target, means, &job.requirements, cancel).map_err(|e| e.to_string())
        }
        Source::Refused(reason) => Err(reason.clone()),
    }
}

/// Gathers here. What an interrupted trial left is put back first.
fn local(root: &Path, means: &Means, asked: &Requirements) -> anyhow::Result<Gathered> {
    let options = probe::Options {
        root: root.to_owned(),
        space: vec![means.disk.clone()],
        skip_kvm_run: means.skip_kvm_run,
        ..probe::Options::default()
    };
    let journal = Path::new(trial::DIRECTORY);
    if options.live() {
        trial::restore(journal).context("cannot put back what an interrupted trial changed")?;
    }
    let mut facts = probe::gather(&options).with_context(|| root.display().to_string())?;
    if means.trial && options.live() {
        for address in hardware::trial_targets(&facts, asked) {
            let wanted = trial::Wanted {
                address,
                functions: 1,
            };
            let result = trial::run(&wanted, &facts, journal);
            facts.sriov_trials.push(result);
        }
    }
    Ok(Gathered {
        facts,
        clock_offset_ms: None,
    })
}

fn remote(
    target: &Target,
    means: &Means,
    asked: &Requirements,
    cancel: &Cancel,
) -> Result<Gathered, Failure> {
    let deadline = Deadline::new(means.limits.total, cancel);
    let mut connection = connection::open(target, means.limits, &deadline)?;
    let mut run = |arguments: &str| -> Result<(Facts, (SystemTime, SystemTime)), Failure> {
        let outcome = push::run(
            &mut connection,
            &target.privilege,
            &means.program,
            arguments,
            &deadline,
        )?;
        if outcome.code != Some(0) {
            return Err(Failure::Command {
                what: "the probe".to_owned(),
                status: outcome.status,
                message: harmless(&outcome.stderr, 300),
            });
        }
        Ok((facts(&outcome.stdout)?, outcome.between))
    };
    let gather = if means.skip_kvm_run {
        "gather --skip-kvm-run"
    } else {
        "gather"
    };
    let (mut facts, mut between) = run(gather)?;
    if means.trial {
        // Which functions to try is known only now.
        let trials: Vec<String> = hardware::trial_targets(&facts, asked)
            .iter()
            .filter_map(|address| hardware::parse::pci::address(address))
            .map(|address| format!("--trial {address}"))
            .collect();
        if !trials.is_empty() {
            (facts, between) = run(&format!("{gather} {}", trials.join(" ")))?;
        }
    }
    connection.close(&deadline);
    Ok(Gathered {
        clock_offset_ms: facts.clock.unix_ms.and_then(|theirs| {
            let ran = i64::try_from(facts.elapsed_ms).unwrap_or(0);
            clock_offset(theirs, ran, unix_ms(between.0), unix_ms(between.1))
        }),
        facts,
    })
}

/// Uncertainty up to which a clock is compared to the millisecond.
const SURE_MS: i64 = 200;

/// The node's clock minus ours. It was read in the middle of the probe's run of `ran`
/// milliseconds, some time between our two moments, so their middle is the best guess
/// and half of what is left of their distance its uncertainty. On a slow link or a
/// busy machine that is too much to say anything, unless the clock is far off.
fn clock_offset(theirs: i64, ran: i64, sent: i64, answered: i64) -> Option<i64> {
    let unsure = (answered - sent - ran).max(0) / 2;
    let offset = theirs - (sent + answered) / 2;
    (unsure <= SURE_MS || offset.abs() > 20 * unsure).then_some(offset)
}

fn unix_ms(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// Reads the probe's document.
fn facts(answer: &[u8]) -> Result<Facts, Failure> {
    let garbage = |found: String| Failure::Garbage {
        expected: "the probe's facts as one JSON document",
        found,
    };
    if answer.is_empty() {
        return Err(garbage("nothing".to_owned()));
    }
    serde_json::from_slice(answer)
        .map_err(|error| garbage(format!("{} ({error})", harmless(answer, 80))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_no_document_of_facts_is_shown_by_its_beginning() {
        for (answer, expected) in [
            (&b""[..], "nothing"),
            (b"\x1b[1mBusyBox v1.35\n", "[1mBusyBox v1.35"),
            (b"{\"schema\": \"x\"}", "schema"),
            (b"{} {}", "trailing"),
        ] {
            let error = facts(answer).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(facts(b"{}").is_ok());
    }

    #[test]
    fn a_clock_is_compared_only_as_far_as_the_answer_was_quick() {
        for (theirs, ran, sent, answered, expected) in [
            (1_100, 0, 1_000, 1_200, Some(0)),
            (61_100, 0, 1_000, 1_200, Some(60_000)),
            (2_600, 3_000, 1_000, 4_200, Some(0)),
            // The answer took a minute: a difference of seconds tells nothing.
            (5_000, 0, 1_000, 61_000, None),
            (10_000_000, 0, 1_000, 61_000, Some(9_969_000)),
        ] {
            let offset = clock_offset(theirs, ran, sent, answered);
            assert_eq!(offset, expected, "{theirs}");
        }
    }

    #[test]
    fn a_probe_that_is_not_there_is_named() {
        let error = program(Some(Path::new("/nowhere/probe"))).unwrap_err();
        assert!(error.to_string().contains("/nowhere/probe"), "{error}");
    }
}
