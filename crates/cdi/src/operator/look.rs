//! Questions about the cluster: what is ready, what is there.

use api::cdi::{CDI, names};
use decide::cdi::operator::{BLOCK_UNINSTALL, DEPLOYMENTS, status};
use kube_kit::apply::Target;

use super::Operator;

impl Operator {
    /// Every program runs what was applied last, and all its pods are ready.
    pub(super) fn ready(&self) -> bool {
        let (kit, namespace) = (&self.kit, &self.config.namespace);
        DEPLOYMENTS.iter().all(|name| {
            kit.hand
                .rolled_out(&kit.store, "Deployment", namespace, name, false)
        })
    }

    /// Whether the object says already that it works.
    pub(super) fn told_available(&self, cdi: &CDI) -> bool {
        let status = self.kit.fresh(cdi).status.unwrap_or_default();
        status.phase == status::DEPLOYED
            && (status.conditions.iter())
                .any(|one| one.type_ == "Available" && one.status == "True")
    }

    /// Whether DataVolumes exist. Asked only while it matters.
    pub(super) async fn workloads_exist(&self, cdi: &CDI) -> anyhow::Result<bool> {
        let blocks = cdi.spec.uninstall_strategy.as_deref() == Some(BLOCK_UNINSTALL);
        if cdi.metadata.deletion_timestamp.is_none() || !blocks {
            return Ok(false);
        }
        let target = Target::cluster(names::API_VERSION, "DataVolume");
        let volumes = self.kit.hand.applier.list(&target, "").await?;
        Ok(!volumes.is_empty())
    }
}
