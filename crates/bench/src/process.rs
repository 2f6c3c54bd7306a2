//! Memory and CPU of processes, found by the pod in their cgroup.
//!
//! PSS is from /proc/PID/smaps_rollup, CPU from utime + stime of /proc/PID/stat
//! (proc(5)); a clock tick is 10 ms on Linux.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};

use crate::report::Report;
use crate::start::until_running;
use crate::world::World;

/// How long the control plane is watched at rest.
const REST: Duration = Duration::from_secs(60);

/// A process of a pod.
#[derive(Debug)]
struct Process {
    name: String,
    pss: u64,
    ticks: u64,
}

/// Processes whose cgroup belongs to the pod with that UID; those that end meanwhile are left out.
fn of_pod(uid: &str) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            let cgroup = fs::read_to_string(path.join("cgroup")).ok()?;
            if !cgroup.contains(uid) && !cgroup.contains(&uid.replace('-', "_")) {
                return None;
            }
            let rollup = fs::read_to_string(path.join("smaps_rollup")).ok()?;
            let pss = rollup
                .lines()
                .find_map(|line| line.strip_prefix("Pss:"))?
                .split_whitespace()
                .next()?
                .parse::<u64>()
                .ok()?;
            let stat = fs::read_to_string(path.join("stat")).ok()?;
            let name = fs::read_to_string(path.join("comm"))
                .ok()?
                .trim()
                .to_owned();
            // Fields after the name in parentheses; utime and stime are 14 and 15 of the line.
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            let ticks =
                fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
            Some(Process {
                name,
                pss: pss * 1024,
                ticks,
            })
        })
        .collect()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn uid(pod: &Pod) -> anyhow::Result<&str> {
    pod.metadata.uid.as_deref().context("a pod without uid")
}

/// Memory, CPU and API requests of the control plane while nothing happens.
pub(crate) async fn at_rest(world: &World, report: &mut Report) -> anyhow::Result<()> {
    world.empty().await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let pods = world.control_plane().await?;
    let sum = || -> anyhow::Result<(u64, u64)> {
        let mut total = (0, 0);
        for pod in &pods {
            for process in of_pod(uid(pod)?) {
                total.0 += process.pss;
                total.1 += process.ticks;
            }
        }
        Ok(total)
    };
    let requests = crate::requests::total(world).await?;
    let (_, before) = sum()?;
    tokio::time::sleep(REST).await;
    let (pss, after) = sum()?;
    let requests = crate::requests::total(world).await? - requests;
    for pod in &pods {
        let bytes: u64 = of_pod(uid(pod)?).iter().map(|p| p.pss).sum();
        let name = pod.metadata.name.clone().unwrap_or_default();
        report.add(format!("memory at rest: {name}"), "MiB", mib(bytes));
    }
    report.compare(
        "memory at rest: control plane",
        "MiB",
        mib(pss),
        64.0,
        ("upstream", 964.3),
    );
    let millicores = (after.saturating_sub(before)) as f64 * 10.0 / REST.as_secs_f64();
    report.compare(
        "CPU at rest: control plane",
        "millicores",
        millicores,
        3.0,
        ("upstream", 25.9),
    );
    report.compare(
        "API requests at rest, ours, without leases",
        "1/s",
        requests / REST.as_secs_f64(),
        0.2,
        ("upstream", 2.71),
    );
    Ok(())
}

/// Memory in a launcher pod beside QEMU, for one guest.
pub(crate) async fn beside_qemu(world: &World, report: &mut Report) -> anyhow::Result<()> {
    world.empty().await?;
    world
        .vmis()
        .create(&PostParams::default(), &World::vmi("memory")?)
        .await?;
    until_running(world, &["memory".to_owned()]).await?;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let pods = world
        .pods()
        .list(&ListParams::default().labels("kubevirt.io=virt-launcher"))
        .await?;
    let pod = pods.items.first().context("no launcher pod")?;
    let (qemu, beside): (Vec<Process>, Vec<Process>) = of_pod(uid(pod)?)
        .into_iter()
        .partition(|p| p.name.starts_with("qemu"));
    let sum = |list: &[Process]| list.iter().map(|p| p.pss).sum::<u64>();
    report.compare(
        "memory beside QEMU, one VMI",
        "MiB",
        mib(sum(&beside)),
        12.0,
        ("upstream", 101.1),
    );
    report.add(
        "memory of QEMU, a 64 MiB guest that halts",
        "MiB",
        mib(sum(&qemu)),
    );
    world.empty().await
}
