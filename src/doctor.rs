//! `edgevirt doctor cdi`: why images do not come into claims, and the command that helps.
//!
//! ```text
//! gather: objects, warnings, space ─┐
//! door: every way to the proxy ─────┼─▶ diagnose::Facts ─▶ diagnose::judge ─▶ report
//! token: a claim for a moment ──────┘
//! ```
//!
//! Only the token makes an object, and takes it away again, after an interruption too.

mod door;
mod gather;
mod space;
mod token;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::anyhow;
use diagnose::Facts;
use hardware::Status;
use hardware::report::NodeReport;

use crate::cli::{DoctorCdiArgs, DoctorCommand};
use crate::output::Output;
use crate::preflight::report::{self, Report};
use crate::{cluster, interrupt};

/// Exit code of bad usage: a flag, a kubeconfig.
const EXIT_USAGE: u8 = 2;
/// Exit code when the worst verdict is a failure.
const EXIT_FAIL: u8 = 3;
/// Exit code when the worst verdict is a warning.
const EXIT_WARN: u8 = 4;

/// Runs every check. Exit code 0 on a pass, 4 on warnings, 3 on failures or a cluster that does not
/// answer, 2 if the question itself is wrong.
pub(crate) fn run(command: &DoctorCommand, out: &Output) -> anyhow::Result<ExitCode> {
    let DoctorCommand::Cdi(args) = command;
    let runtime = cluster::runtime()?;
    let start = Instant::now();
    let (config, path) = match runtime.block_on(cluster::config(&args.cluster)) {
        Ok(config) => config,
        Err(error) => {
            out.error(&error);
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let stop = kube_kit::Shutdown::new();
    let on_signal = stop.clone();
    interrupt::watch(move || on_signal.cancel())?;
    let mut node = NodeReport {
        node: "cdi".to_owned(),
        address: config.cluster_url.to_string(),
        ..NodeReport::default()
    };
    match runtime.block_on(examine(args, &config, &path, &stop)) {
        Some(Ok(facts)) => {
            if let Some(name) = unknown(&facts) {
                out.error(&anyhow!(
                    "expected --namespace to name a namespace, found none called {name}; kubectl get namespaces lists them"
                ));
                return Ok(ExitCode::from(EXIT_USAGE));
            }
            node.verdicts = diagnose::judge(&facts);
        }
        Some(Err(error)) => node.error = Some(format!("{error:#}")),
        None => return Ok(ExitCode::from(interrupt::EXIT)),
    }
    node.elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let status = node.status();
    let report = Report {
        title: format!("cdi at {}", node.address),
        strict: args.strict,
        format: args.output.into(),
        file: args.output_file.as_deref(),
    };
    report::write(&report, &[node], out)?;
    Ok(match (status, args.strict) {
        (Status::Pass | Status::Skip, _) => ExitCode::SUCCESS,
        (Status::Warn, false) => ExitCode::from(EXIT_WARN),
        (Status::Warn, true) | (Status::Fail, _) => ExitCode::from(EXIT_FAIL),
    })
}

/// The namespace that was asked about, if there is none of this name.
fn unknown(facts: &Facts) -> Option<&str> {
    let asked = facts.namespace.as_deref()?;
    let all = facts.namespaces.as_ref().ok()?;
    (!all.contains_key(asked)).then_some(asked)
}

/// Gathers everything; `None` after an interruption.
async fn examine(
    args: &DoctorCdiArgs,
    config: &kube::Config,
    path: &Path,
    stop: &kube_kit::Shutdown,
) -> Option<anyhow::Result<Facts>> {
    let client = tokio::select! {
        client = cluster::ask(config, path) => client,
        () = stop.cancelled() => return None,
    };
    let client = match client {
        Ok(client) => client,
        Err(error) => return Some(Err(error)),
    };
    let (mut facts, ways) = tokio::select! {
        gathered = gather::gather(&client, args.namespace.as_deref()) => gathered,
        () = stop.cancelled() => return None,
    };
    // It takes its claim away before it ends, so it is waited for.
    facts.token.attempt = token::attempt(&client, &facts.token.namespace, &ways, stop).await;
    (!stop.is_cancelled()).then_some(Ok(facts))
}
