//! One round: decide, act, tell.

use std::collections::BTreeSet;
use std::time::Duration;

use api::cdi::{CDI, names};
use api::objects::Key;
use decide::cdi::operator::status::{self, Progress};
use decide::cdi::operator::{
    BLOCK_UNINSTALL, Observed, Step, api_service_names, authorities, cdi_config, step,
};
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube_kit::operator::{self, Applied, Kit, Operator as _, hash, lasting};
use serde_json::json;

use super::Operator;
use super::wish::Wish;

/// How often DataVolumes are looked for that block a deletion.
const BLOCKED: Duration = Duration::from_secs(10);

impl operator::Operator for Operator {
    type Owner = CDI;

    const FINALIZER: &'static str = names::CDI_FINALIZER;

    fn kit(&mut self) -> &mut Kit<CDI> {
        &mut self.kit
    }

    fn api(&self, _: &CDI) -> Api<CDI> {
        Api::all(self.kit.client.clone())
    }

    fn forget(&mut self) {
        self.kit.forget();
        self.settings = None;
    }

    async fn one(&mut self, cdi: &CDI, another_active: bool) -> anyhow::Result<Option<Duration>> {
        let observed = Observed {
            present: self.kit.present(),
            another_active,
            misplaced: self.misplaced(cdi),
            workloads_exist: self.workloads_exist(cdi).await?,
        };
        let going = cdi.metadata.deletion_timestamp.is_some();
        let config = self.config.clone();
        let wish = match authorities(&config, cdi) {
            Ok(authorities) => Wish::new(&config, cdi, authorities),
            Err(error) if !going && !another_active => {
                self.tell(cdi, &Progress::Invalid(error.to_string()))
                    .await?;
                return Ok(None);
            }
            Err(_) => Wish::new(&config, cdi, []),
        };
        let keys = if going || another_active {
            BTreeSet::new()
        } else {
            self.kit.wanted(&wish)
        };
        match step(cdi, &observed, &keys) {
            Step::Nothing => {}
            Step::Ignore => self.tell(cdi, &Progress::Ignored).await?,
            Step::Adopt => return self.adopt(cdi).await,
            Step::Install { obsolete } => return self.install(&wish, &obsolete).await.map(Some),
            Step::Blocked => {
                let reason = format!(
                    "DataVolumes exist and spec.uninstallStrategy is {BLOCK_UNINSTALL}; delete them or change the strategy"
                );
                self.tell(cdi, &Progress::DeletionBlocked(reason)).await?;
                return Ok(Some(BLOCKED));
            }
            Step::Remove(keys) => {
                self.tell(cdi, &Progress::Deleting).await?;
                self.kit.hand.remove(&self.kit.store, &keys).await?;
            }
            Step::Release => {
                self.tell(cdi, &Progress::Deleted).await?;
                self.release(cdi).await?;
            }
        }
        Ok(None)
    }
}

impl Operator {
    /// One round of an installation; gives when to look again.
    async fn install(&mut self, wish: &Wish<'_>, obsolete: &[Key]) -> anyhow::Result<Duration> {
        let cdi = wish.cdi;
        if cdi.status.is_none() {
            self.tell(cdi, &Progress::Applied).await?;
        }
        let applied = match self.apply(wish, obsolete).await {
            Ok(applied) => applied,
            Err(error) => {
                if let Some(reason) = lasting(&error) {
                    self.tell(cdi, &Progress::Failed(reason)).await?;
                }
                return Err(error);
            }
        };
        let told = self.told_available(cdi);
        let (works, again) = self
            .kit
            .works(applied.next, self.ready(), told, &api_service_names())
            .await?;
        let progress = if works {
            Progress::Ready
        } else {
            Progress::Applied
        };
        self.tell(cdi, &progress).await?;
        Ok(again)
    }

    /// Applies what is missing or differs, then the settings.
    async fn apply(&mut self, wish: &Wish<'_>, obsolete: &[Key]) -> anyhow::Result<Applied> {
        let applied = self.kit.apply(wish, obsolete).await?;
        let proxy = applied.bundles.get(1).map_or("", String::as_str);
        self.settings(wish.cdi, proxy).await?;
        if applied.rendered {
            // What was rendered was the largest thing we ever hold.
            host::memory::give_back();
        }
        Ok(applied)
    }

    /// Makes the CDIConfig say what the CDI object says, when that changed.
    async fn settings(&mut self, cdi: &CDI, bundle: &str) -> anyhow::Result<()> {
        let object = cdi_config(&self.config, cdi);
        let status = json!({ "status": status::of_config(cdi, bundle) });
        let input = hash(&json!([object, status]));
        if self.settings == Some(input) {
            return Ok(());
        }
        self.kit.hand.applier.apply(&object).await?;
        let api: Api<api::cdi::CDIConfig> = Api::all(self.kit.client.clone());
        api.patch_status(
            names::CONFIG,
            &PatchParams::default(),
            &Patch::Merge(&status),
        )
        .await?;
        self.settings = Some(input);
        Ok(())
    }

    /// Patches the status, if it changed.
    async fn tell(&mut self, cdi: &CDI, progress: &Progress) -> anyhow::Result<()> {
        let cdi = self.kit.fresh(cdi);
        let status = status::next(&cdi, &self.config, progress, Timestamp::now());
        self.write_status(&cdi, status::patch(&cdi, &status)).await
    }
}
