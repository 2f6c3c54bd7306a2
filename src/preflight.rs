//! `edgevirt preflight`: facts of this machine, of a fleet over SSH or of files; verdicts;
//! a report; and, if asked, fixes.
//!
//! ```text
//! nodes: arguments, inventory ─▶ Job { name, way, requirements }
//!                                  │ fleet: many at once
//! gather: local or over SSH ─▶ Facts ─▶ hardware::judge ─▶ NodeReport ─▶ report
//!                                                │ --fix: plan ─▶ diff ─▶ apply ─▶ judge again
//! ```

mod fix;
mod fixing;
mod fleet;
mod gather;
pub(crate) mod inventory;
mod live;
mod nodes;
pub(crate) mod report;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::bail;
use hardware::report::{NodeReport, clock_skews, judge_fleet};
use hardware::{Facts, Status, Verdict};

use crate::cli::{PreflightArgs, PreflightCommand};
use crate::interrupt;
use crate::output::Output;
use crate::ssh::Cancel;
use fleet::Event;
use live::Live;
use nodes::Job;

/// Exit code of bad usage: a flag, an inventory, a file.
const EXIT_USAGE: u8 = 2;
/// Exit code when the worst verdict is a failure.
const EXIT_FAIL: u8 = 3;
/// Exit code when the worst verdict is a warning.
const EXIT_WARN: u8 = 4;

/// Runs every check but the skipped ones on every node. Exit code 0 on a pass, 4 on
/// warnings, 3 on failures, 2 if the question itself is wrong.
pub(crate) fn run(args: &PreflightArgs, out: &Output) -> anyhow::Result<ExitCode> {
    let jobs = match prepare(args, out) {
        Ok(Some(jobs)) => jobs,
        Ok(None) => return Ok(ExitCode::SUCCESS),
        Err(error) => {
            out.error(&error);
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let cancel = Cancel::default();
    if jobs.iter().any(Job::is_remote) {
        end_on_signals(&cancel)?;
    }
    let mut nodes = ask(args, jobs.clone(), &cancel, out)?;
    let mut reboot_here = false;
    if args.fix && !cancel.is_cancelled() {
        match fixing::run(args, &jobs, &mut nodes, &cancel, out)? {
            fixing::Outcome::Done => {}
            fixing::Outcome::RebootHere => reboot_here = true,
            fixing::Outcome::Refused => return Ok(ExitCode::from(EXIT_USAGE)),
        }
    }
    report::write(&report::Report::of(args, &nodes), &nodes, out)?;
    if cancel.is_cancelled() {
        return Ok(ExitCode::from(interrupt::EXIT));
    }
    if reboot_here {
        fixing::reboot_here(out)?;
    }
    Ok(match (hardware::report::status(&nodes), args.strict) {
        (Status::Pass | Status::Skip, _) => ExitCode::SUCCESS,
        (Status::Warn, false) => ExitCode::from(EXIT_WARN),
        (Status::Warn, true) | (Status::Fail, _) => ExitCode::from(EXIT_FAIL),
    })
}

/// The first signal asks every node's thread to end, so that nodes are cleaned up; the second ends
/// this program at once.
fn end_on_signals(cancel: &Cancel) -> anyhow::Result<()> {
    let cancel = cancel.clone();
    interrupt::watch(move || {
        if cancel.is_cancelled() {
            std::process::exit(i32::from(interrupt::EXIT));
        }
        cancel.cancel();
    })
}

/// What the arguments mean; `None` if there is nothing more to do.
fn prepare(args: &PreflightArgs, out: &Output) -> anyhow::Result<Option<Vec<Job>>> {
    if let Some(PreflightCommand::Explain { id }) = &args.what {
        explain(id.as_deref(), out)?;
        return Ok(None);
    }
    for id in &args.skip {
        if hardware::catalogue::check(id).is_none() {
            bail!("--skip {id}: no such check; there are {}", known_checks());
        }
    }
    let jobs = nodes::jobs(args, out)?;
    if jobs.is_empty() {
        bail!("there is no node to check: the inventory, or what --limit leaves of it, is empty");
    }
    Ok(Some(jobs))
}

fn known_checks() -> String {
    let ids: Vec<&str> = hardware::catalogue::catalogue()
        .iter()
        .map(|check| check.id)
        .collect();
    ids.join(", ")
}

fn explain(id: Option<&str>, out: &Output) -> anyhow::Result<()> {
    let Some(id) = id else {
        let mut rows = vec![vec!["CHECK".to_owned(), "WHAT".to_owned()]];
        rows.extend(
            hardware::catalogue::catalogue()
                .iter()
                .map(|check| vec![check.id.to_owned(), check.title.to_owned()]),
        );
        out.table(&rows);
        return Ok(());
    };
    match hardware::catalogue::explain(id) {
        Some(text) => out.line(text.trim_end()),
        None => bail!("explain {id}: no such check; there are {}", known_checks()),
    }
    Ok(())
}

/// Asks every node, many at once, and judges what they say.
fn ask(
    args: &PreflightArgs,
    jobs: Vec<Job>,
    cancel: &Cancel,
    out: &Output,
) -> anyhow::Result<Vec<NodeReport>> {
    let mut live = Live::new(out, jobs.len());
    let remote = jobs.iter().any(Job::is_remote);
    let mut nodes: Vec<NodeReport> = jobs
        .iter()
        .map(|job| NodeReport {
            node: job.name.clone(),
            address: job.address(),
            error: Some("interrupted".to_owned()),
            ..NodeReport::default()
        })
        .collect();
    let mut offsets = vec![None; jobs.len()];
    let requirements: Vec<_> = jobs.iter().map(|job| job.requirements.clone()).collect();
    let means = Arc::new(gather::Means::new(args, remote)?);
    let inner = cancel.clone();
    fleet::each(
        jobs,
        usize::from(args.ssh.forks),
        cancel,
        move |job| {
            let start = Instant::now();
            (gather::gather(&job, &means, &inner), start.elapsed())
        },
        |event| match event {
            Event::Started(index) => {
                if let Some(node) = nodes.get(index) {
                    live.started(index, &node.node);
                }
            }
            Event::Done(index, (result, elapsed)) => {
                let (Some(node), Some(asked)) = (nodes.get_mut(index), requirements.get(index))
                else {
                    return;
                };
                node.elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
                match result {
                    Ok(gathered) => {
                        node.error = None;
                        node.verdicts = judge(&gathered.facts, asked, &args.skip);
                        node.facts = Some(gathered.facts);
                        if let Some(offset) = offsets.get_mut(index) {
                            *offset = gathered.clock_offset_ms;
                        }
                    }
                    Err(error) => node.error = Some(error),
                }
                if remote {
                    live.done(index, &report::summary(node, out));
                }
            }
        },
    )?;
    live.finish();
    // Clocks are told from the median, so they are judged when all are known.
    for ((node, skew), asked) in nodes
        .iter_mut()
        .zip(clock_skews(&offsets))
        .zip(&requirements)
    {
        if let (Some(facts), Some(_)) = (&mut node.facts, skew) {
            facts.clock.skew_ms = skew;
            node.verdicts = judge(facts, asked, &args.skip);
        }
    }
    judge_fleet(&mut nodes);
    for node in &mut nodes {
        node.verdicts.retain(|v| !args.skip.contains(&v.id));
    }
    Ok(nodes)
}

fn judge(facts: &Facts, asked: &hardware::Requirements, skip: &[String]) -> Vec<Verdict> {
    let mut verdicts = hardware::judge(facts, asked);
    verdicts.retain(|v| !skip.contains(&v.id));
    verdicts
}
