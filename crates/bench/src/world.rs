//! The cluster, a namespace of the benchmark's own, and the objects it makes.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use api::VirtualMachineInstance;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

/// Namespace of the benchmark.
const NAMESPACE: &str = "edgevirt-bench";

/// How long the namespace of an earlier run may take to go.
const GONE: Duration = Duration::from_secs(60);
/// A node that does nothing but the work of a cluster at rest is idle for this share of time.
const QUIET: f64 = 0.85;
/// How long a node may take to be quiet; a busy machine is measured as it is.
const QUIET_AFTER: Duration = Duration::from_secs(30);

/// Waits until the processors are idle for two seconds: the kubelet takes sandboxes away after
/// the objects, and the next measurement would pay for the last one.
async fn quiet() -> anyhow::Result<()> {
    let deadline = Instant::now() + QUIET_AFTER;
    let mut before = processors()?;
    while Instant::now() < deadline {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = processors()?;
        let (idle, all) = (now.0 - before.0, now.1 - before.1);
        if idle >= QUIET * all {
            break;
        }
        before = now;
    }
    Ok(())
}

/// Time that the processors were idle, and all time (proc(5), `/proc/stat`), in ticks.
fn processors() -> anyhow::Result<(f64, f64)> {
    let stat = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let ticks: Vec<f64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    // The fourth is idle, the fifth waits for a disk; guests' time is in the first two.
    let idle = ticks.iter().skip(3).take(2).sum();
    Ok((idle, ticks.iter().take(8).sum()))
}

/// The cluster under measurement.
pub(crate) struct World {
    /// Connection to it.
    pub(crate) client: Client,
}

impl World {
    /// Connects and makes the namespace.
    pub(crate) async fn new() -> anyhow::Result<Self> {
        let world = Self {
            client: kube_kit::client()?,
        };
        let namespaces: Api<Namespace> = Api::all(world.client.clone());
        let object = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
        // One that an earlier run removes refuses everything until it is gone.
        let deadline = Instant::now() + GONE;
        loop {
            match namespaces.create(&PostParams::default(), &object).await {
                Ok(_) => break,
                Err(error) if kube_kit::is_conflict(&error) => {}
                Err(error) => return Err(error).context("cannot make the namespace"),
            }
            let known = namespaces.get_opt(NAMESPACE).await?;
            if known.is_some_and(|known| known.metadata.deletion_timestamp.is_none()) {
                break;
            }
            ensure!(
                Instant::now() < deadline,
                "namespace {NAMESPACE} has been on its way out for {} s",
                GONE.as_secs()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        world.wait_for_default_account().await?;
        Ok(world)
    }

    /// Pods are refused until the namespace has its service account.
    async fn wait_for_default_account(&self) -> anyhow::Result<()> {
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
            Api::namespaced(self.client.clone(), NAMESPACE);
        for _ in 0..100 {
            if accounts.get_opt("default").await?.is_some() {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        anyhow::bail!("the namespace {NAMESPACE} got no service account in 10 s")
    }

    /// VMIs of the benchmark.
    pub(crate) fn vmis(&self) -> Api<VirtualMachineInstance> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Pods of the benchmark.
    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Pods of the control plane.
    pub(crate) async fn control_plane(&self) -> anyhow::Result<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), api::names::DEFAULT_NAMESPACE);
        let list = api
            .list(&ListParams::default().labels(api::names::APP_LABEL))
            .await?;
        Ok(list.items)
    }

    /// A guest that prints a word and halts.
    pub(crate) fn vmi(name: &str) -> anyhow::Result<VirtualMachineInstance> {
        Ok(serde_json::from_value(json!({
            "apiVersion": api::names::API_VERSION,
            "kind": "VirtualMachineInstance",
            "metadata": {"name": name},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "domain": {
                    "devices": {
                        "disks": [{"name": "rootfs", "disk": {"bus": "virtio"}}],
                        "interfaces": [{"name": "default", "bridge": {}}],
                    },
                    "resources": {"requests": {"memory": "64Mi", "cpu": "10m"}},
                },
                "networks": [{"name": "default", "pod": {}}],
                "volumes": [{
                    "name": "rootfs",
                    "containerDisk": {
                        "image": crate::tiny::IMAGE,
                        "imagePullPolicy": "IfNotPresent",
                    },
                }],
            },
        }))?)
    }

    /// A pod with one container that does nothing: the limit of what a VMI can reach.
    pub(crate) fn pod(name: &str) -> anyhow::Result<Pod> {
        Ok(serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "c",
                    "image": "edgevirt.local/pause:3.10",
                    "imagePullPolicy": "IfNotPresent",
                }],
            },
        }))?)
    }

    /// Deletes every VMI and pod of the benchmark and waits until they are gone.
    pub(crate) async fn empty(&self) -> anyhow::Result<()> {
        let now = DeleteParams::default().grace_period(0);
        self.vmis()
            .delete_collection(&now, &ListParams::default())
            .await?;
        for _ in 0..600 {
            if self
                .vmis()
                .list(&ListParams::default())
                .await?
                .items
                .is_empty()
            {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        self.pods()
            .delete_collection(&now, &ListParams::default())
            .await?;
        for _ in 0..600 {
            if self
                .pods()
                .list(&ListParams::default())
                .await?
                .items
                .is_empty()
            {
                return quiet().await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        anyhow::bail!("pods of the benchmark are still there after two minutes")
    }

    /// Removes the namespace.
    pub(crate) async fn clean(&self) -> anyhow::Result<()> {
        self.empty().await?;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .delete(NAMESPACE, &DeleteParams::default())
            .await?;
        Ok(())
    }
}
