//! Questions about the cluster: what is ready, what is served, what is there.

use api::{KubeVirt, names};
use decide::operator::{API, BLOCK_UNINSTALL, CONTROLLER, Config, HANDLER};
use kube_kit::apply::Target;

use super::Operator;

impl Operator {
    /// Every component runs what was applied last. At first all its pods must
    /// be ready; later, when the deployment is `told` to be available, one that
    /// is ready keeps it so.
    pub(super) fn ready(&self, config: &Config, told: bool) -> bool {
        let of = |kind: &'static str, name: &str| {
            let kit = &self.kit;
            kit.hand
                .rolled_out(&kit.store, kind, &config.namespace, name, told)
        };
        of("Deployment", API) && of("Deployment", CONTROLLER) && of("DaemonSet", HANDLER)
    }

    /// Whether virtual machines exist. Asked only while it matters.
    pub(super) async fn workloads_exist(&self, kubevirt: &KubeVirt) -> anyhow::Result<bool> {
        let blocks = kubevirt.spec.uninstall_strategy.as_deref() == Some(BLOCK_UNINSTALL);
        if kubevirt.metadata.deletion_timestamp.is_none() || !blocks {
            return Ok(false);
        }
        for kind in ["VirtualMachineInstance", "VirtualMachine"] {
            let target = Target::cluster(names::API_VERSION, kind);
            if !self.kit.hand.applier.list(&target, "").await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Names of the aggregated APIs.
pub(super) fn aggregated() -> [String; names::SUBRESOURCE_VERSIONS.len()] {
    names::SUBRESOURCE_VERSIONS.map(|version| format!("{version}.{}", names::SUBRESOURCE_GROUP))
}

/// Whether this very deployment has been available and is still said to be.
pub(super) fn available(kubevirt: &KubeVirt, config: &Config) -> bool {
    kubevirt.status.as_ref().is_some_and(|status| {
        status.observed_deployment_id == config.deployment_id()
            && api::condition::is_true(&status.conditions, "Available")
    })
}
