//! Writing to the KubeVirt object: its status and our finalizer.

use anyhow::Context;
use api::KubeVirt;
use decide::operator::Config;
use decide::operator::status::{self, Progress};
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::Operator;

impl Operator {
    /// Patches the status, if it changed.
    pub(super) async fn tell(
        &mut self,
        kubevirt: &KubeVirt,
        config: &Config,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let kubevirt = self.fresh(kubevirt);
        let status = status::next(&kubevirt, config, progress, Timestamp::now());
        let Some(patch) = status::patch(&kubevirt, &status, config.registry()) else {
            return Ok(());
        };
        let api = self.api(&kubevirt);
        let name = kubevirt.metadata.name.clone().unwrap_or_default();
        match api
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
        {
            Ok(object) => self.store.put_owner(object),
            Err(error) if kube_kit::is_not_found(&error) => {}
            Err(error) => return Err(error).context("writing the KubeVirt object's status"),
        }
        Ok(())
    }

    pub(super) async fn set_finalizers(
        &mut self,
        kubevirt: &KubeVirt,
        finalizers: &[String],
    ) -> anyhow::Result<()> {
        let kubevirt = self.fresh(kubevirt);
        let patch = json!({ "metadata": {
            "resourceVersion": kubevirt.metadata.resource_version, "finalizers": finalizers
        } });
        let name = kubevirt.metadata.name.clone().unwrap_or_default();
        match self
            .api(&kubevirt)
            .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
        {
            Ok(object) => self.store.put_owner(object),
            Err(error) if kube_kit::is_not_found(&error) => {}
            Err(error) => return Err(error).context("writing the KubeVirt object's finalizer"),
        }
        Ok(())
    }

    pub(super) fn api(&self, kubevirt: &KubeVirt) -> Api<KubeVirt> {
        Api::namespaced(
            self.client.clone(),
            kubevirt.metadata.namespace.as_deref().unwrap_or_default(),
        )
    }

    /// The object as known now: our own writes have moved it on.
    pub(super) fn fresh(&self, kubevirt: &KubeVirt) -> KubeVirt {
        let name = (
            kubevirt.metadata.namespace.clone().unwrap_or_default(),
            kubevirt.metadata.name.clone().unwrap_or_default(),
        );
        self.store.owners.get(&name).unwrap_or(kubevirt).clone()
    }
}
