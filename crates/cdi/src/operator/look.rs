//! Questions about the cluster: is it ready, is it served, who owns it.

use api::cdi::{CDI, names};
use decide::cdi::operator::{BLOCK_UNINSTALL, DEPLOYMENTS, api_service_names, status};
use kube_kit::apply::Target;
use kube_kit::operator::Store;

use super::Operator;

impl Operator {
    /// Every program runs what was applied last, and all its pods are ready.
    pub(super) fn ready(&self) -> bool {
        let namespace = &self.config.namespace;
        DEPLOYMENTS.iter().all(|name| {
            self.hand
                .rolled_out(&self.store, "Deployment", namespace, name, false)
        })
    }

    /// Whether the API server reaches the aggregated API: a user's first
    /// upload must not fail because it does not yet.
    pub(super) async fn served(&self) -> anyhow::Result<bool> {
        Ok(self.hand.served(&api_service_names()).await?)
    }

    /// Whether the object says already that it works.
    pub(super) fn told_available(&self, cdi: &CDI) -> bool {
        let status = self.fresh(cdi).status.unwrap_or_default();
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
        Ok(!self.hand.applier.list(&target, "").await?.is_empty())
    }
}

/// The UID of the object that owns the deployment: the oldest that carries our
/// finalizer, else the oldest.
pub(super) fn active(store: &Store<CDI>) -> Option<Option<String>> {
    let adopted = |object: &CDI| {
        let mut finalizers = object.metadata.finalizers.iter().flatten();
        finalizers.any(|name| name == names::CDI_FINALIZER)
    };
    let created = |object: &CDI| object.metadata.creation_timestamp.as_ref().map(|t| t.0);
    store
        .owners
        .values()
        .min_by_key(|one| (!adopted(one), created(one), one.metadata.uid.clone()))
        .map(|object| object.metadata.uid.clone())
}
