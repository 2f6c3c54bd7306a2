//! `edgevirt deploy`: the playbook with a progress bar, then the proof.
//!
//! The work is in `playbooks/site.yml`; run by hand it does the same. This verb
//! adds what a person wants around it: progress, a table, and where the log is.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use serde_json::json;

use crate::ansible::{Counts, Event, Playbook};
use crate::cli::{ClusterArgs, Component, DeployArgs, Format, ValidateArgs};
use crate::cluster::{self, Destination};
use crate::interrupt;
use crate::output::{Output, Tone};
use crate::settings::Settings;

/// Runs `site.yml`, prints a table of its hosts, then validates.
pub(crate) fn run(
    settings: &Settings,
    args: &DeployArgs,
    out: &Output,
) -> anyhow::Result<ExitCode> {
    let playbook = std::path::absolute(args.playbooks.join("site.yml"))
        .context("cannot resolve --playbooks")?;
    let inventory = inventory(args);
    for path in [playbook.as_path(), inventory] {
        if !path.exists() {
            bail!(
                "{}: no such file; run from the repository, or name it with --playbooks and --inventory",
                path.display()
            );
        }
    }
    // Asked first: without it the playbook would run and nobody could tell whether it worked.
    let destination = cluster::destination(&args.cluster)?;
    let manifests = tempfile::tempdir().context("cannot make a temporary directory")?;
    let log = log_file(args)?;
    let mut failures = Vec::new();
    let mut hosts = std::collections::BTreeMap::<String, Counts>::new();
    let bar = out.bar(0, "deploy");
    let status = Playbook {
        path: &playbook,
        inventory,
        extra_vars: extra_vars(settings, args, &destination, manifests.path())?,
        check: args.check,
        log: &log,
    }
    .run(|event| match event {
        Event::Start { tasks } => bar.inc_length(tasks),
        Event::Task { name } => bar.set_message(name),
        Event::Result {
            host,
            task,
            status,
            message,
        } => {
            bar.inc(1);
            if status == "failed" || status == "unreachable" {
                failures.push(format!("{host}: {task}: {message}"));
            }
        }
        Event::Stats { hosts: counts } => hosts = counts,
    })?;
    bar.finish_and_clear();
    print_hosts(&hosts, out);
    let Some(status) = status else {
        out.note(&format!(
            "interrupted; the log is in {}. Run deploy again: what was done is not done twice.",
            log.display()
        ));
        return Ok(ExitCode::from(interrupt::EXIT));
    };
    if !status.success() {
        for failure in &failures {
            out.note(&out.paint(failure, Tone::Bad));
        }
        bail!(
            "the playbook failed ({status}); the whole log is in {}",
            log.display()
        );
    }
    out.note(&out.paint(&format!("log: {}", log.display()), Tone::Dim));
    if args.check {
        return Ok(ExitCode::SUCCESS);
    }
    let outcome = crate::validate::run(
        &ValidateArgs {
            cluster: validated(args, &destination),
            namespace: settings.namespace.clone(),
            component: components(&destination),
            wait: args.timeout,
            output: Format::Table,
        },
        out,
    );
    let Destination {
        kubeconfig,
        embedded: true,
        elsewhere: Some(elsewhere),
    } = &destination
    else {
        return outcome;
    };
    let code = outcome.with_context(|| {
        format!(
            "{} found that it works; from here it cannot be seen. If this machine reaches the API server at another \
             address, say so with kubernetes_api_endpoint (HOST:PORT) in the inventory and run playbooks/cluster.yml again",
            elsewhere.host
        )
    })?;
    let path = kubeconfig.display();
    out.note(&format!(
        "The cluster's kubeconfig is here: export KUBECONFIG={path}"
    ));
    Ok(code)
}

/// The inventory; the command line has a default.
fn inventory(args: &DeployArgs) -> &Path {
    args.cluster.inventory.as_deref().unwrap_or(Path::new(""))
}

/// The cluster to look at: the one that was deployed to.
fn validated(args: &DeployArgs, destination: &Destination) -> ClusterArgs {
    match destination.elsewhere {
        None => args.cluster.clone(),
        Some(_) => ClusterArgs {
            kubeconfig: Some(destination.kubeconfig.clone()),
            inventory: None,
        },
    }
}

/// What the playbook brings to the cluster: storage only to the embedded one, for another has its own.
fn components(destination: &Destination) -> Vec<Component> {
    if destination.embedded {
        vec![Component::Kubevirt, Component::StorageLocal, Component::Cdi]
    } else {
        vec![Component::Kubevirt, Component::Cdi]
    }
}

fn extra_vars(
    settings: &Settings,
    args: &DeployArgs,
    destination: &Destination,
    manifests: &Path,
) -> anyhow::Result<serde_json::Value> {
    let binary = std::env::current_exe().context("cannot find this program's own path")?;
    let images = std::path::absolute(&settings.images)
        .with_context(|| format!("cannot resolve {}", settings.images.display()))?;
    let mut vars = json!({
        "kubevirt_namespace": settings.namespace,
        "kubevirt_emulation": settings.emulation,
        "kubevirt_edgevirt_binary": binary,
        "kubevirt_wait_seconds": args.timeout,
        "preflight_skip": args.skip,
        "images_dir": images,
    });
    let kubeconfig = std::path::absolute(&destination.kubeconfig)
        .with_context(|| format!("cannot resolve {}", destination.kubeconfig.display()))?;
    match (destination.embedded, &destination.elsewhere) {
        // The embedded cluster's is what the role takes, unless the inventory says otherwise.
        (true, None) => {}
        (true, Some(_)) => vars["kubernetes_kubeconfig"] = json!(kubeconfig),
        (false, None) => vars["kubevirt_kubeconfig"] = json!(kubeconfig),
        // The file is here and the node has none, so what takes it is done here.
        (false, Some(_)) => {
            vars["kubevirt_kubeconfig"] = json!(kubeconfig);
            vars["kubevirt_kubeconfig_here"] = json!(true);
            vars["kubevirt_manifests_dir"] = json!(manifests.join("kubevirt"));
            vars["cdi_manifests_dir"] = json!(manifests.join("cdi"));
        }
    }
    Ok(vars)
}

fn log_file(args: &DeployArgs) -> anyhow::Result<PathBuf> {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock is before 1970")?
        .as_secs();
    Ok(args.log_dir.join(format!("deploy-{seconds}.log")))
}

fn print_hosts(hosts: &std::collections::BTreeMap<String, Counts>, out: &Output) {
    if hosts.is_empty() {
        return;
    }
    let mut rows = vec![
        ["HOST", "OK", "CHANGED", "SKIPPED", "FAILED"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for (host, counts) in hosts {
        let failed = counts.failures + counts.unreachable;
        let tone = if failed == 0 { Tone::Dim } else { Tone::Bad };
        rows.push(vec![
            host.clone(),
            counts.ok.to_string(),
            counts.changed.to_string(),
            counts.skipped.to_string(),
            out.paint(&failed.to_string(), tone),
        ]);
    }
    out.table(&rows);
    out.line("");
}
