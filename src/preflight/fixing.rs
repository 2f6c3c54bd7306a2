//! Carries `--fix` out: look at the files, plan, show the difference, ask, write,
//! reboot if told to, and judge again by effect.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hardware::report::{NodeReport, printable};
use hardware::{Fix, Status, Verdict};
use similar::TextDiff;

use super::fix::{self, Plan};
use super::fleet::{self, Event};
use super::nodes::{Job, Source};
use super::{ask, gather};
use crate::cli::PreflightArgs;
use crate::output::{Output, Tone};
use crate::ssh::{Cancel, Deadline, Limits, Target, connection, harmless, push};

/// How long after its reboot a node is asked again: a server's boot goes on for a while when its sshd
/// answers.
const SETTLE: Duration = Duration::from_secs(90);
/// Between two questions.
const PAUSE: Duration = Duration::from_secs(3);

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nodes are judged again where something was changed.
    Done,
    /// As `Done`, and this machine shall be rebooted when the report is written.
    RebootHere,
    /// The user, or the lack of one, said no.
    Refused,
}

/// A node to be fixed.
#[derive(Clone, Debug)]
struct Patient {
    index: usize,
    job: Job,
    fixes: Vec<Fix>,
}

/// Fixes the nodes that have something to fix, and puts the new verdicts in `nodes`.
pub(super) fn run(
    args: &PreflightArgs,
    jobs: &[Job],
    nodes: &mut [NodeReport],
    cancel: &Cancel,
    out: &Output,
) -> anyhow::Result<Outcome> {
    let limits = gather::limits(args);
    let patients = patients(jobs, nodes);
    if patients.is_empty() {
        out.note("fix: there is nothing that software can put right");
        return Ok(Outcome::Done);
    }
    let looked = on_all(patients, args, cancel, move |patient, cancel| {
        let answer = shell(&patient.job, &fix::look(&fix::plan::FILES), limits, cancel)?;
        Ok(fix::read_answer(&answer))
    })?;
    let mut plans = Vec::new();
    for (patient, files) in looked {
        let name = patient.job.name.clone();
        match files {
            Err(why) => out.note(&format!("fix: {name}: {}", printable(&why))),
            Ok(files) => {
                let facts = nodes.get(patient.index).and_then(|n| n.facts.as_ref());
                let Some(facts) = facts else { continue };
                let plan = fix::plan(facts, &patient.fixes, &files);
                out.note(describe(&name, &plan, out).trim_end());
                // What an earlier run wrote may wait for the reboot that is asked for now.
                if !plan.is_empty() || (plan.reboot && args.reboot) {
                    plans.push((patient, plan));
                }
            }
        }
    }
    if plans.is_empty() || args.dry_run {
        return Ok(Outcome::Done);
    }
    if !args.yes && !agreed(plans.len(), out)? {
        return Ok(Outcome::Refused);
    }
    let reboot = args.reboot;
    let wait = Duration::from_secs(args.ssh.reboot_timeout);
    let written: BTreeMap<usize, Plan> = plans
        .iter()
        .map(|(patient, plan)| (patient.index, plan.clone()))
        .collect();
    let patients = plans.into_iter().map(|(patient, _)| patient).collect();
    let done = on_all(patients, args, cancel, move |patient, cancel| {
        let Some(plan) = written.get(&patient.index) else {
            return Ok(Done::Now);
        };
        if !plan.is_empty() {
            let _ = shell(&patient.job, &fix::apply(plan), limits, cancel)?;
        }
        match (
            ending(plan, reboot, &patient.job.source),
            &patient.job.source,
        ) {
            (Done::Rebooted, Source::Ssh(target)) => restart(target, limits, wait, cancel),
            (how, _) => Ok(how),
        }
    })?;
    let here = done.iter().any(|(_, how)| *how == Ok(Done::RebootsLast));
    let mut again = Vec::new();
    for (patient, result) in done {
        let name = &patient.job.name;
        match &result {
            Ok(how) => out.note(&format!("fix: {name}: {}", how.words())),
            Err(why) => out.note(&format!("fix: {name}: failed: {}", printable(why))),
        }
        again.push((patient, result == Ok(Done::Rebooted)));
    }
    if cancel.is_cancelled() {
        return Ok(Outcome::Done);
    }
    judge_again(args, again, nodes, cancel, out)?;
    Ok(match here {
        true => Outcome::RebootHere,
        false => Outcome::Done,
    })
}

/// Reboots this machine, a moment later.
pub(super) fn reboot_here(out: &Output) -> anyhow::Result<()> {
    out.note("fix: this machine reboots now");
    local_shell(fix::REBOOT)
        .map(|_| ())
        .context("cannot reboot this machine")
}

/// How a plan that was written comes into effect. This machine must not go down under its own
/// feet: the other nodes are still waited for, and nobody has read the report.
fn ending(plan: &Plan, reboot: bool, source: &Source) -> Done {
    match (plan.reboot, reboot, source) {
        (false, _, _) => Done::Now,
        (true, false, _) => Done::AfterReboot,
        (true, true, Source::Ssh(_)) => Done::Rebooted,
        (true, true, _) => Done::RebootsLast,
    }
}

/// How a plan was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// It has its effect.
    Now,
    /// It has it when somebody reboots the node.
    AfterReboot,
    /// The node was rebooted, and its new boot answers.
    Rebooted,
    /// This machine is the node, and goes down when the report is written.
    RebootsLast,
}

impl Done {
    fn words(self) -> &'static str {
        match self {
            Self::Now => "done",
            Self::AfterReboot => "written; reboot the node (or --reboot), then run preflight again",
            Self::Rebooted => "written, rebooted",
            Self::RebootsLast => {
                "written; this machine reboots after the report: run preflight again then"
            }
        }
    }
}

/// Puts new reports of the patients in `nodes`; `true` beside one says that it was rebooted. Its sshd
/// answers before its boot is over, when drivers and settings are not there yet: such a node is asked
/// again for a while, until everything is as good as it was and what was fixed has its effect.
fn judge_again(
    args: &PreflightArgs,
    mut patients: Vec<(Patient, bool)>,
    nodes: &mut [NodeReport],
    cancel: &Cancel,
    out: &Output,
) -> anyhow::Result<()> {
    let until = Instant::now() + SETTLE;
    loop {
        let jobs = patients.iter().map(|(p, _)| p.job.clone()).collect();
        let reports = ask(args, jobs, cancel, out)?;
        let over = Instant::now() > until;
        let mut left = Vec::new();
        for ((patient, rebooted), report) in patients.into_iter().zip(reports) {
            let Some(node) = nodes.get_mut(patient.index) else {
                continue;
            };
            if rebooted && !over && !settled(node, &report) {
                left.push((patient, rebooted));
            } else {
                *node = report;
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        for (patient, _) in &left {
            out.note(&format!(
                "fix: {}: its boot may not be over; asked again",
                patient.job.name
            ));
        }
        patients = left;
        if !cancel.wait(PAUSE) {
            return Ok(());
        }
    }
}

/// No check is worse than before, and nothing is left that software can do.
fn settled(before: &NodeReport, after: &NodeReport) -> bool {
    let mut was: BTreeMap<&str, Status> = BTreeMap::new();
    for verdict in &before.verdicts {
        let status = was.entry(&verdict.id).or_insert(verdict.status);
        *status = (*status).max(verdict.status);
    }
    let bad: Vec<_> = bad(after);
    let worse = bad
        .iter()
        .any(|v| was.get(v.id.as_str()).is_none_or(|old| v.status > *old));
    after.error.is_none() && !worse && hardware::fixes(&bad).is_empty()
}

/// Verdicts that are not as they should be.
fn bad(node: &NodeReport) -> Vec<Verdict> {
    let bad = |v: &&Verdict| matches!(v.status, Status::Warn | Status::Fail);
    node.verdicts.iter().filter(bad).cloned().collect()
}

fn patients(jobs: &[Job], nodes: &[NodeReport]) -> Vec<Patient> {
    jobs.iter()
        .zip(nodes)
        .enumerate()
        .filter_map(|(index, (job, node))| {
            let live = match &job.source {
                Source::Ssh(_) => true,
                Source::Local { root } => root.as_os_str() == "/",
                Source::Facts(_) | Source::Refused(_) => false,
            };
            let fixes = hardware::fixes(&bad(node));
            (live && !fixes.is_empty()).then(|| Patient {
                index,
                job: job.clone(),
                fixes,
            })
        })
        .collect()
}

/// Does something on every patient, many at once; those nobody came to are left out.
fn on_all<R: Send + 'static>(
    patients: Vec<Patient>,
    args: &PreflightArgs,
    cancel: &Cancel,
    work: impl Fn(&Patient, &Cancel) -> Result<R, String> + Send + Sync + 'static,
) -> anyhow::Result<Vec<(Patient, Result<R, String>)>> {
    let mut done = Vec::new();
    let inner = cancel.clone();
    fleet::each(
        patients,
        usize::from(args.ssh.forks),
        cancel,
        move |patient| {
            let result = work(&patient, &inner);
            (patient, result)
        },
        |event| {
            if let Event::Done(_, result) = event {
                done.push(result);
            }
        },
    )?;
    done.sort_by_key(|(patient, _)| patient.index);
    Ok(done)
}

/// Runs a shell program on the node with root's rights; its output.
fn shell(job: &Job, script: &str, limits: Limits, cancel: &Cancel) -> Result<Vec<u8>, String> {
    match &job.source {
        Source::Ssh(target) => remote_shell(target, script, limits, cancel),
        Source::Local { .. } => local_shell(script).map_err(|e| format!("{e:#}")),
        Source::Facts(_) | Source::Refused(_) => Err("not a live node".to_owned()),
    }
}

fn remote_shell(
    target: &Target,
    script: &str,
    limits: Limits,
    cancel: &Cancel,
) -> Result<Vec<u8>, String> {
    let deadline = Deadline::new(limits.total, cancel);
    let run = || {
        let mut connection = connection::open(target, limits, &deadline)?;
        let outcome = push::run(
            &mut connection,
            &target.privilege,
            &push::Program::new(script.as_bytes()),
            "",
            &deadline,
        )?;
        connection.close(&deadline);
        Ok(outcome)
    };
    let outcome = run().map_err(|e: crate::ssh::Failure| e.to_string())?;
    if outcome.code != Some(0) {
        return Err(format!(
            "{}: {}",
            outcome.status,
            harmless(&outcome.stderr, 300)
        ));
    }
    Ok(outcome.stdout)
}

fn local_shell(script: &str) -> anyhow::Result<Vec<u8>> {
    let mut child = Command::new("sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start sh")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(script.as_bytes())
            .context("cannot talk to sh")?;
    }
    let output = child.wait_with_output().context("cannot wait for sh")?;
    if !output.status.success() {
        bail!("{}: {}", output.status, harmless(&output.stderr, 300));
    }
    Ok(output.stdout)
}

/// Reboots a node and waits until another boot answers.
fn restart(
    target: &Target,
    limits: Limits,
    wait: Duration,
    cancel: &Cancel,
) -> Result<Done, String> {
    let boot = |text: &[u8]| String::from_utf8_lossy(text).trim().to_owned();
    let before = boot(&remote_shell(target, fix::REBOOT, limits, cancel)?);
    let until = Instant::now() + wait;
    let short = Limits {
        connect: limits.connect.min(Duration::from_secs(5)),
        total: Duration::from_secs(15),
    };
    while Instant::now() < until && cancel.wait(PAUSE) {
        if let Ok(id) = remote_shell(target, fix::BOOT_ID, short, cancel)
            && !boot(&id).is_empty()
            && boot(&id) != before
        {
            return Ok(Done::Rebooted);
        }
    }
    if cancel.is_cancelled() {
        return Err("written and told to reboot, then interrupted".to_owned());
    }
    Err(format!(
        "written and told to reboot, but no new boot answered within {} s (--reboot-timeout)",
        wait.as_secs()
    ))
}

/// The plan for people: differences, commands, what cannot be done.
fn describe(name: &str, plan: &Plan, out: &Output) -> String {
    let mut text = format!("fix: {name}\n");
    for change in &plan.changes {
        let before = change.before.as_deref().unwrap_or_default();
        let old = match change.before {
            Some(_) => change.path.as_str(),
            None => "/dev/null",
        };
        let diff = TextDiff::from_lines(before, &change.after)
            .unified_diff()
            .header(old, &change.path)
            .to_string();
        for line in diff.lines() {
            let tone = match line.chars().next() {
                Some('+') => Some(Tone::Good),
                Some('-') => Some(Tone::Bad),
                _ => None,
            };
            let line = printable(line);
            let line = tone.map_or_else(|| line.clone(), |tone| out.paint(&line, tone));
            let _ = writeln!(text, "{line}");
        }
    }
    for command in &plan.commands {
        let _ = writeln!(text, "  run: {}", printable(&command.join(" ")));
    }
    if plan.reboot {
        text += "  takes effect after a reboot\n";
    }
    for refused in &plan.refused {
        let _ = writeln!(text, "  not done: {}", printable(refused));
    }
    if plan.is_empty() && plan.refused.is_empty() {
        text += "  written already; a reboot may be due\n";
    }
    text
}

fn agreed(nodes: usize, out: &Output) -> anyhow::Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        out.note("fix: nothing was written: nobody can be asked here; say --yes, or --dry-run to look only");
        return Ok(false);
    }
    let many = if nodes == 1 {
        "this node"
    } else {
        "these nodes"
    };
    out.prompt(&format!("Write that to {many}? [y/N] "));
    let mut line = String::new();
    let _ = stdin
        .read_line(&mut line)
        .context("cannot read the answer")?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::{Become, Endpoint, Trust};

    #[test]
    fn this_machine_reboots_last_and_a_node_at_once() {
        let here = Source::Local { root: "/".into() };
        let node = Source::Ssh(Box::new(Target {
            name: "n".into(),
            jumps: Vec::new(),
            end: Endpoint {
                host: "n".into(),
                port: 22,
                user: "root".into(),
                keys: Vec::new(),
                passphrase: None,
                agent: false,
                password: None,
            },
            trust: Trust {
                files: Vec::new(),
                accept_new: false,
            },
            privilege: Become::No,
        }));
        for (needs, asked, source, expected) in [
            (false, true, &here, Done::Now),
            (false, true, &node, Done::Now),
            (true, false, &here, Done::AfterReboot),
            (true, false, &node, Done::AfterReboot),
            (true, true, &here, Done::RebootsLast),
            (true, true, &node, Done::Rebooted),
        ] {
            let plan = Plan {
                reboot: needs,
                ..Plan::default()
            };
            assert_eq!(ending(&plan, asked, source), expected);
        }
    }
}
