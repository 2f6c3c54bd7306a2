//! From create to Running, beside bare pods of the same run.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::Context;
use api::VirtualMachineInstance;
use api::vmi_status::Phase;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{PostParams, WatchEvent, WatchParams};
use serde::de::DeserializeOwned;

use crate::report::Report;
use crate::world::World;

/// Rounds of the one-at-a-time comparison.
const ROUNDS: usize = 5;
/// Rounds of twenty at once.
const ROUNDS_OF_TWENTY: usize = 7;
/// How long anything may take before the benchmark gives up.
const LIMIT: Duration = Duration::from_secs(180);

/// When each of these VMIs was seen Running, by a watch that sees those before it too.
pub(crate) async fn until_running(
    world: &World,
    names: &[String],
) -> anyhow::Result<BTreeMap<String, Instant>> {
    until(&world.vmis(), names, |vmi: &VirtualMachineInstance| {
        vmi.status
            .as_ref()
            .is_some_and(|s| s.phase == Phase::Running)
    })
    .await
}

/// When each of these pods was seen Ready.
async fn until_ready(world: &World, names: &[String]) -> anyhow::Result<BTreeMap<String, Instant>> {
    until(&world.pods(), names, |pod: &Pod| {
        pod.status
            .iter()
            .flat_map(|s| s.conditions.iter().flatten())
            .any(|c| c.type_ == "Ready" && c.status == "True")
    })
    .await
}

/// When each of the named objects was first seen as wanted. The server may end a watch
/// at any time; it is then begun again, and shows what happened in between.
async fn until<K>(
    api: &Api<K>,
    names: &[String],
    wanted: impl Fn(&K) -> bool,
) -> anyhow::Result<BTreeMap<String, Instant>>
where
    K: kube::Resource + Clone + Debug + DeserializeOwned,
{
    let all = async {
        let mut times = BTreeMap::new();
        loop {
            let mut events = api.watch(&WatchParams::default(), "0").await?.boxed();
            while let Some(event) = events.try_next().await? {
                let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event else {
                    continue;
                };
                if let Some(name) = &object.meta().name
                    && names.contains(name)
                    && wanted(&object)
                {
                    times.entry(name.clone()).or_insert_with(Instant::now);
                }
                if times.len() == names.len() {
                    return Ok::<_, kube::Error>(times);
                }
            }
        }
    };
    Ok(tokio::time::timeout(LIMIT, all)
        .await
        .with_context(|| format!("not all of {names:?} within {LIMIT:?}"))??)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A VMI and a bare pod in turn; medians.
pub(crate) async fn one_at_a_time(world: &World, report: &mut Report) -> anyhow::Result<()> {
    let (mut vmis, mut pods) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let name = vec![format!("one-{round}")];
        let began = Instant::now();
        world
            .pods()
            .create(&PostParams::default(), &World::pod(&name[0])?)
            .await?;
        pods.extend(seconds(&until_ready(world, &name).await?, began));
        world.empty().await?;
        let began = Instant::now();
        world
            .vmis()
            .create(&PostParams::default(), &World::vmi(&name[0])?)
            .await?;
        vmis.extend(seconds(&until_running(world, &name).await?, began));
        world.empty().await?;
    }
    let (vmi, pod) = (median(vmis), median(pods));
    report.add("bare pod, create to Ready, median of 5", "s", pod);
    report.compare(
        "VMI, create to Running, median of 5",
        "s",
        vmi,
        pod + 0.4,
        ("upstream", 4.72),
    );
    Ok(())
}

/// Twenty bare pods, then twenty VMIs, and again: one round says too little, for a kubelet that
/// looks once a second may see half of the pods a second earlier or later. Medians of all.
pub(crate) async fn twenty_at_once(world: &World, report: &mut Report) -> anyhow::Result<()> {
    let names: Vec<String> = (0..20).map(|i| format!("many-{i}")).collect();
    let (mut pods, mut vmis) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS_OF_TWENTY {
        let began = Instant::now();
        for name in &names {
            world
                .pods()
                .create(&PostParams::default(), &World::pod(name)?)
                .await?;
        }
        pods.extend(seconds(&until_ready(world, &names).await?, began));
        world.empty().await?;
        let began = Instant::now();
        for name in &names {
            world
                .vmis()
                .create(&PostParams::default(), &World::vmi(name)?)
                .await?;
        }
        vmis.extend(seconds(&until_running(world, &names).await?, began));
        world.empty().await?;
    }
    report.add("20 bare pods at once, last of 7 rounds", "s", last(&pods));
    report.add("20 VMIs at once, last of 7 rounds", "s", last(&vmis));
    let (pod, vmi) = (median(pods), median(vmis));
    report.add("20 bare pods at once, median of 7 rounds", "s", pod);
    report.compare(
        "20 VMIs at once, median of 7 rounds",
        "s",
        vmi,
        pod * 1.3,
        ("upstream", 16.5),
    );
    Ok(())
}

fn last(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn seconds(times: &BTreeMap<String, Instant>, began: Instant) -> Vec<f64> {
    times
        .values()
        .map(|at| at.duration_since(began).as_secs_f64())
        .collect()
}
