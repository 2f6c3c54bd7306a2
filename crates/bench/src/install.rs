//! How long the operator takes from the KubeVirt object to a control plane that works.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use api::names::DEFAULT_NAMESPACE;
use api::{KubeVirt, VirtualMachineInstance};
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};

use crate::report::Report;
use crate::world::World;

/// How long removal and installation may each take.
const LIMIT: Duration = Duration::from_secs(180);
/// Between two looks; the error of the measurement.
const LOOK: Duration = Duration::from_millis(100);

/// Removes the KubeVirt object and makes it again. Left out when somebody's guests run:
/// they would be in the way of the removal.
pub(crate) async fn again(world: &World, report: &mut Report) -> anyhow::Result<()> {
    let guests: Api<VirtualMachineInstance> = Api::all(world.client.clone());
    if !guests.list(&ListParams::default()).await?.items.is_empty() {
        eprintln!("left out: virtual machines run");
        return Ok(());
    }
    let api: Api<KubeVirt> = Api::namespaced(world.client.clone(), DEFAULT_NAMESPACE);
    let old = api.list(&ListParams::default()).await?.items;
    let old = old.into_iter().next().context("no KubeVirt object")?;
    let name = old.metadata.name.clone().unwrap_or_default();
    let new = KubeVirt {
        metadata: ObjectMeta {
            name: old.metadata.name,
            namespace: old.metadata.namespace,
            labels: old.metadata.labels,
            annotations: old.metadata.annotations,
            ..ObjectMeta::default()
        },
        status: None,
        ..old
    };
    api.delete(&name, &DeleteParams::default()).await?;
    wait("the KubeVirt object is gone", || async {
        Ok(api.get_opt(&name).await?.is_none())
    })
    .await?;
    let began = Instant::now();
    api.create(&PostParams::default(), &new).await?;
    wait("KubeVirt is Available", || async {
        let status = api.get(&name).await?.status.unwrap_or_default();
        Ok(status
            .conditions
            .iter()
            .any(|c| c.type_ == "Available" && c.status == "True"))
    })
    .await?;
    report.compare(
        "KubeVirt object to Available, operator there",
        "s",
        began.elapsed().as_secs_f64(),
        15.0,
        ("upstream", 77.0),
    );
    Ok(())
}

async fn wait<F, Fut>(what: &str, done: F) -> anyhow::Result<()>
where
    F: Fn() -> Fut,
    Fut: Future<Output = anyhow::Result<bool>>,
{
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        if done().await? {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!("expected within {LIMIT:?}: {what}")
}
