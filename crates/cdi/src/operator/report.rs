//! Writing to the CDI object: its status and our finalizer.

use anyhow::Context;
use api::cdi::CDI;
use decide::cdi::operator::status::{self, Progress};
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::Operator;

impl Operator {
    /// Patches the status, if it changed.
    pub(super) async fn tell(&mut self, cdi: &CDI, progress: &Progress) -> anyhow::Result<()> {
        let cdi = self.fresh(cdi);
        let status = status::next(&cdi, &self.config, progress, Timestamp::now());
        let Some(patch) = status::patch(&cdi, &status) else {
            return Ok(());
        };
        let api: Api<CDI> = Api::all(self.client.clone());
        let name = cdi.metadata.name.clone().unwrap_or_default();
        match api
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
        {
            Ok(object) => self.store.put_owner(object),
            Err(error) if kube_kit::is_not_found(&error) => {}
            Err(error) => return Err(error).context("writing the CDI object's status"),
        }
        Ok(())
    }

    pub(super) async fn set_finalizers(
        &mut self,
        cdi: &CDI,
        finalizers: &[String],
    ) -> anyhow::Result<()> {
        let cdi = self.fresh(cdi);
        let patch = json!({ "metadata": {
            "resourceVersion": cdi.metadata.resource_version, "finalizers": finalizers
        } });
        let api: Api<CDI> = Api::all(self.client.clone());
        let name = cdi.metadata.name.clone().unwrap_or_default();
        match api
            .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
        {
            Ok(object) => self.store.put_owner(object),
            Err(error) if kube_kit::is_not_found(&error) => {}
            Err(error) => return Err(error).context("writing the CDI object's finalizer"),
        }
        Ok(())
    }

    /// The object as known now: our own writes have moved it on.
    pub(super) fn fresh(&self, cdi: &CDI) -> CDI {
        let name = (String::new(), cdi.metadata.name.clone().unwrap_or_default());
        self.store.owners.get(&name).unwrap_or(cdi).clone()
    }
}
