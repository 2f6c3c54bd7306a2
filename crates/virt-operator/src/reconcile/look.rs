//! Questions about the cluster: is it ready, is it served, who owns it.

use api::{KubeVirt, names};
use decide::operator::{API, BLOCK_UNINSTALL, CONTROLLER, Config, HANDLER};
use kube_kit::apply::Target;
use kube_kit::operator::Store;

use super::Operator;

impl Operator {
    /// Every component runs what was applied last. At first all its pods must
    /// be ready; later one that is ready keeps it available.
    pub(super) fn ready(&self, kubevirt: &KubeVirt, config: &Config) -> bool {
        let deployed = available(kubevirt, config);
        let of = |kind: &'static str, name: &str| {
            self.hand
                .rolled_out(&self.store, kind, &config.namespace, name, deployed)
        };
        of("Deployment", API) && of("Deployment", CONTROLLER) && of("DaemonSet", HANDLER)
    }

    /// Whether the API server reaches the aggregated API: a user's first
    /// `start` must not fail because it does not yet.
    pub(super) async fn served(&self) -> anyhow::Result<bool> {
        let name = |version| format!("{version}.{}", names::SUBRESOURCE_GROUP);
        Ok(self
            .hand
            .served(&names::SUBRESOURCE_VERSIONS.map(name))
            .await?)
    }

    /// Whether virtual machines exist. Asked only while it matters.
    pub(super) async fn workloads_exist(&self, kubevirt: &KubeVirt) -> anyhow::Result<bool> {
        let blocks = kubevirt.spec.uninstall_strategy.as_deref() == Some(BLOCK_UNINSTALL);
        if kubevirt.metadata.deletion_timestamp.is_none() || !blocks {
            return Ok(false);
        }
        for kind in ["VirtualMachineInstance", "VirtualMachine"] {
            let target = Target::cluster(names::API_VERSION, kind);
            if !self.hand.applier.list(&target, "").await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The UID of the object that owns the deployment: the oldest in our namespace
/// that carries our finalizer, else the oldest there.
pub(super) fn active(store: &Store<KubeVirt>, namespace: &str) -> Option<Option<String>> {
    let adopted = |object: &KubeVirt| {
        object
            .metadata
            .finalizers
            .iter()
            .flatten()
            .any(|name| name == names::KUBEVIRT_FINALIZER)
    };
    store
        .owners
        .values()
        .min_by_key(|object| {
            let created = object
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|time| time.0);
            let misplaced = object.metadata.namespace.as_deref() != Some(namespace);
            (
                misplaced,
                !adopted(object),
                created,
                object.metadata.uid.clone(),
            )
        })
        .map(|object| object.metadata.uid.clone())
}

/// Whether this very deployment has been available and is still said to be.
pub(super) fn available(kubevirt: &KubeVirt, config: &Config) -> bool {
    kubevirt.status.as_ref().is_some_and(|status| {
        status.observed_deployment_id == config.deployment_id()
            && api::condition::is_true(&status.conditions, "Available")
    })
}
