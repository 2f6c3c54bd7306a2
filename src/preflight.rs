//! `edgevirt preflight`: gather this node's facts, judge them, print the verdicts.

mod gather;

use std::process::ExitCode;

use anyhow::bail;
use hardware::{Facts, Requirements, Status, Verdict};
use serde::Serialize;

use crate::cli::{Format, PreflightArgs};
use crate::output::{Output, Tone};

/// Exit code when the worst verdict is a failure.
const EXIT_FAIL: u8 = 3;
/// Exit code when the worst verdict is a warning.
const EXIT_WARN: u8 = 4;

/// The document of `--output json`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    status: Status,
    /// What deploy will set in the KubeVirt object.
    use_emulation: bool,
    facts: &'a Facts,
    verdicts: &'a [Verdict],
}

/// Runs every check but the skipped ones. Exit code 0 on a pass, 4 on warnings, 3 on failures.
pub(crate) fn run(args: &PreflightArgs, out: &Output) -> anyhow::Result<ExitCode> {
    let requirements = Requirements {
        allow_emulation: !args.require_kvm,
        ..Requirements::default()
    };
    let facts = gather::facts(&args.disk)?;
    let mut verdicts = hardware::judge(&facts, &requirements);
    if let Some(unknown) = args
        .skip
        .iter()
        .find(|id| verdicts.iter().all(|v| v.id != **id))
    {
        let known: Vec<&str> = verdicts.iter().map(|v| v.id.as_str()).collect();
        bail!(
            "--skip {unknown}: no such check; there are {}",
            known.join(", ")
        );
    }
    verdicts.retain(|v| !args.skip.contains(&v.id));
    let status = hardware::worst(&verdicts);
    match args.output {
        Format::Json => out.json(&Report {
            status,
            use_emulation: !facts.kvm.works(),
            facts: &facts,
            verdicts: &verdicts,
        })?,
        Format::Table => table(&facts, &verdicts, out),
    }
    Ok(match status {
        Status::Pass | Status::Skip => ExitCode::SUCCESS,
        Status::Warn => ExitCode::from(EXIT_WARN),
        Status::Fail => ExitCode::from(EXIT_FAIL),
    })
}

fn table(facts: &Facts, verdicts: &[Verdict], out: &Output) {
    let mut rows = vec![vec![
        "CHECK".to_owned(),
        "STATUS".to_owned(),
        "EVIDENCE".to_owned(),
    ]];
    for verdict in verdicts {
        let (word, tone) = match verdict.status {
            Status::Pass => ("pass", Tone::Good),
            Status::Skip => ("skip", Tone::Dim),
            Status::Warn => ("warn", Tone::Warn),
            Status::Fail => ("fail", Tone::Bad),
        };
        rows.push(vec![
            verdict.label(),
            out.paint(word, tone),
            verdict.evidence.clone(),
        ]);
    }
    out.table(&rows);
    for verdict in verdicts.iter().filter(|v| !v.remedy.is_empty()) {
        out.line(&format!(
            "\n{}: {}\n  fix: {}",
            verdict.label(),
            verdict.why,
            verdict.remedy
        ));
    }
    if !facts.kvm.works() {
        out.line(
            "\nGuests will run by emulation here: deploy sets useEmulation in the KubeVirt object.",
        );
    }
}
