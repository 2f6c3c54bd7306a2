//! start, stop, restart, pause, unpause.
//! Source of sentences: KubeVirt pkg/virtctl/{vm,pause,unpause}.

use anyhow::{anyhow, bail};
use api::subresource::{PauseOptions, RestartOptions, StartOptions, StopOptions};
use serde_json::Value;

use crate::cli::{Connection, PauseArgs, StartArgs, StopArgs};
use crate::cluster::{Cluster, Refusal};
use crate::output::out;
use crate::target::Kind;

pub(crate) async fn start(connection: &Connection, args: &StartArgs) -> anyhow::Result<()> {
    let cluster = Cluster::connect(connection).await?;
    let options = StartOptions {
        paused: args.paused,
        dry_run: dry_run(args.dry_run),
    };
    cluster
        .put(Kind::Machine.plural(), &args.name, "start", &options)
        .await
        .map_err(|error| anyhow!("Error starting VirtualMachine {error:#}"))?;
    scheduled(&args.name, "start");
    Ok(())
}

pub(crate) async fn stop(connection: &Connection, args: &StopArgs) -> anyhow::Result<()> {
    let grace_period = grace_period(args)?;
    let cluster = Cluster::connect(connection).await?;
    let options = StopOptions {
        grace_period,
        dry_run: dry_run(args.dry_run),
    };
    let words = if args.force {
        "error force stopping VirtualMachine:"
    } else {
        "error stopping VirtualMachine"
    };
    cluster
        .put(Kind::Machine.plural(), &args.name, "stop", &options)
        .await
        .map_err(|error| anyhow!("{words} {error:#}"))?;
    scheduled(&args.name, "stop");
    Ok(())
}

pub(crate) async fn restart(connection: &Connection, args: &StopArgs) -> anyhow::Result<()> {
    let grace_period_seconds = grace_period(args)?;
    let cluster = Cluster::connect(connection).await?;
    let options = RestartOptions {
        grace_period_seconds,
        dry_run: dry_run(args.dry_run),
    };
    let words = if args.force {
        "force restarting"
    } else {
        "restarting"
    };
    cluster
        .put(Kind::Machine.plural(), &args.name, "restart", &options)
        .await
        .map_err(|error| anyhow!("error {words} VirtualMachine: {error:#}"))?;
    scheduled(&args.name, "restart");
    Ok(())
}

pub(crate) async fn pause(connection: &Connection, args: &PauseArgs) -> anyhow::Result<()> {
    let cluster = Cluster::connect(connection).await?;
    let (name, vm) = subject(&cluster, &args.what).await?;
    let options = PauseOptions {
        dry_run: dry_run(args.dry_run),
    };
    if let Err(error) = cluster
        .put(Kind::Instance.plural(), name, "pause", &options)
        .await
    {
        let missing = error
            .downcast_ref::<Refusal>()
            .is_some_and(|refusal| refusal.code == 404);
        return Err(match vm {
            Some(vm) if missing && is_halted(&vm) => {
                anyhow!(
                    "Error pausing VirtualMachineInstance {name}. VirtualMachine {name} is not set to run"
                )
            }
            Some(_) if missing => {
                anyhow!("Error pausing VirtualMachineInstance {name}, it was not found")
            }
            _ => anyhow!("Error pausing VirtualMachineInstance {name}: {error:#}"),
        });
    }
    out(format!("VMI {name} was scheduled to pause"));
    Ok(())
}

pub(crate) async fn unpause(connection: &Connection, args: &PauseArgs) -> anyhow::Result<()> {
    let cluster = Cluster::connect(connection).await?;
    let (name, _) = subject(&cluster, &args.what).await?;
    let options = PauseOptions {
        dry_run: dry_run(args.dry_run),
    };
    cluster
        .put(Kind::Instance.plural(), name, "unpause", &options)
        .await
        .map_err(|error| anyhow!("Error unpausing VirtualMachineInstance {name}: {error:#}"))?;
    out(format!("VMI {name} was scheduled to unpause"));
    Ok(())
}

pub(crate) async fn soft_reboot(connection: &Connection, name: &str) -> anyhow::Result<()> {
    let cluster = Cluster::connect(connection).await?;
    cluster
        .put(
            Kind::Instance.plural(),
            name,
            "softreboot",
            &serde_json::json!({}),
        )
        .await
        .map_err(|error| {
            anyhow!("Error soft rebooting VirtualMachineInstance {name}: {error:#}")
        })?;
    out(format!("VMI {name} was scheduled to soft-reboot"));
    Ok(())
}

pub(crate) async fn reset(connection: &Connection, name: &str) -> anyhow::Result<()> {
    let cluster = Cluster::connect(connection).await?;
    cluster
        .put(
            Kind::Instance.plural(),
            name,
            "reset",
            &serde_json::json!({}),
        )
        .await
        // "reseting" is upstream's spelling.
        .map_err(|error| anyhow!("Error reseting VirtualMachineInstance {name}: {error:#}"))?;
    out(format!("VMI {name} was scheduled to reset"));
    Ok(())
}

fn scheduled(name: &str, verb: &str) {
    out(format!("VM {name} was scheduled to {verb}"));
}

fn dry_run(wanted: bool) -> Vec<String> {
    if !wanted {
        return Vec::new();
    }
    out("Dry Run execution");
    vec!["All".to_owned()]
}

fn grace_period(args: &StopArgs) -> anyhow::Result<Option<i64>> {
    if args.grace_period.is_some() != args.force {
        bail!("Must both use --force=true and set --grace-period.");
    }
    Ok(args.grace_period)
}

/// Name and, where it is a machine's, the VirtualMachine. A name without kind
/// is a machine's if there is one, else an instance's.
async fn subject<'a>(
    cluster: &Cluster,
    what: &'a [String],
) -> anyhow::Result<(&'a str, Option<Value>)> {
    let machine = async |name: &str| cluster.object(Kind::Machine.plural(), name).await;
    match what {
        [name] => Ok((name, machine(name).await?)),
        [kind, name] => match Kind::parse(kind)? {
            Kind::Instance => Ok((name, None)),
            Kind::Machine => match machine(name).await {
                Ok(Some(vm)) => Ok((name, Some(vm))),
                Ok(None) => bail!(
                    "Error getting VirtualMachine {name}: virtualmachines.kubevirt.io \"{name}\" not found"
                ),
                Err(error) => bail!("Error getting VirtualMachine {name}: {error:#}"),
            },
        },
        _ => bail!("expected [vm|vmi] NAME, found {what:?}"),
    }
}

fn is_halted(vm: &Value) -> bool {
    let spec = &vm["spec"];
    spec["running"] == false
        || spec["runStrategy"] == "Halted"
        || spec["running"].is_null() && spec["runStrategy"].is_null()
}
