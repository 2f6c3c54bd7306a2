//! The leader's rounds: look, decide, act, tell.

mod look;
#[cfg(test)]
mod tests;
mod wish;

use std::collections::BTreeSet;
use std::time::Duration;

use api::{KubeVirt, names};
use decide::operator::status::{self, Progress};
use decide::operator::{
    BLOCK_UNINSTALL, Config, Key, MANAGED, MANAGED_BY_LABEL, MANAGER, Observed, Step, cert_policy,
    step,
};
use jiff::Timestamp;
use kube::api::Api;
use kube_kit::operator::{Kit, Operator as _, lasting};

use self::look::available;
use self::wish::Wish;

/// How often virtual machines are looked for that block a deletion.
const BLOCKED: Duration = Duration::from_secs(10);

/// virt-operator, as [`kube_kit::operator`] has them.
pub(crate) struct Operator {
    config: Config,
    kit: Kit<KubeVirt>,
}

impl Operator {
    /// Has done nothing yet.
    pub(crate) fn new(client: kube::Client, config: Config) -> Self {
        let namespace = &config.namespace;
        Self {
            kit: Kit::new(client, namespace, &MANAGED, MANAGED_BY_LABEL, MANAGER),
            config,
        }
    }
}

impl kube_kit::operator::Operator for Operator {
    type Owner = KubeVirt;

    const FINALIZER: &'static str = names::KUBEVIRT_FINALIZER;

    fn kit(&mut self) -> &mut Kit<KubeVirt> {
        &mut self.kit
    }

    fn api(&self, owner: &KubeVirt) -> Api<KubeVirt> {
        let namespace = owner.metadata.namespace.as_deref().unwrap_or_default();
        Api::namespaced(self.kit.client.clone(), namespace)
    }

    fn misplaced(&self, owner: &KubeVirt) -> bool {
        owner.metadata.namespace.as_ref() != Some(&self.config.namespace)
    }

    async fn one(
        &mut self,
        kubevirt: &KubeVirt,
        another_active: bool,
    ) -> anyhow::Result<Option<Duration>> {
        let config = self.config.with_images_of(kubevirt);
        let observed = Observed {
            present: self.kit.present(),
            another_active,
            misplaced: self.misplaced(kubevirt),
            workloads_exist: self.workloads_exist(kubevirt).await?,
        };
        let policy = cert_policy(kubevirt);
        let wish = Wish::new(&config, kubevirt, &policy);
        let wanted = if kubevirt.metadata.deletion_timestamp.is_none() && !another_active {
            self.kit.wanted(&wish)
        } else {
            BTreeSet::new()
        };
        match step(kubevirt, &observed, &wanted) {
            Step::Nothing => {}
            Step::Ignore if observed.misplaced => {
                let reason = format!(
                    "metadata.namespace: expected {}, where virt-operator runs, found {}",
                    self.config.namespace,
                    kubevirt.metadata.namespace.as_deref().unwrap_or_default()
                );
                let progress = Progress::Failed(reason);
                self.tell(kubevirt, &config, &progress).await?;
            }
            Step::Ignore => self.tell(kubevirt, &config, &Progress::Ignored).await?,
            Step::Adopt => return self.adopt(kubevirt).await,
            Step::Install { obsolete } => match &policy {
                Ok(_) => return self.install(&wish, &obsolete).await.map(Some),
                Err(error) => {
                    let progress = Progress::Failed(error.to_string());
                    self.tell(kubevirt, &config, &progress).await?;
                }
            },
            Step::Blocked => {
                let reason = format!(
                    "virtual machines exist and spec.uninstallStrategy is {BLOCK_UNINSTALL}; delete them or change the strategy"
                );
                let progress = Progress::DeletionFailed(reason);
                self.tell(kubevirt, &config, &progress).await?;
                return Ok(Some(BLOCKED));
            }
            Step::Remove(keys) => {
                self.tell(kubevirt, &config, &Progress::Deleting).await?;
                self.kit.hand.remove(&self.kit.store, &keys).await?;
            }
            Step::Release => {
                self.tell(kubevirt, &config, &Progress::Deleted).await?;
                self.release(kubevirt).await?;
            }
        }
        Ok(None)
    }
}

impl Operator {
    /// One round of an installation; gives when to look again.
    async fn install(&mut self, wish: &Wish<'_>, obsolete: &[Key]) -> anyhow::Result<Duration> {
        let &Wish {
            kubevirt, config, ..
        } = wish;
        if kubevirt.status.is_none() {
            self.tell(kubevirt, config, &Progress::Applying).await?;
        }
        let applied = match self.kit.apply(wish, obsolete).await {
            Ok(applied) => applied,
            Err(error) => {
                if let Some(reason) = lasting(&error) {
                    let progress = Progress::Failed(reason);
                    self.tell(kubevirt, config, &progress).await?;
                }
                return Err(error);
            }
        };
        if applied.rendered {
            // What was rendered was the largest thing we ever hold.
            host::memory::give_back();
        }
        let told = available(&self.kit.fresh(kubevirt), config);
        let ready = self.ready(config, told);
        let (works, again) = self
            .kit
            .works(applied.next, ready, told, &look::aggregated())
            .await?;
        let progress = if works {
            Progress::Ready
        } else {
            Progress::Applied
        };
        self.tell(kubevirt, config, &progress).await?;
        Ok(again)
    }

    /// Patches the status, if it changed.
    async fn tell(
        &mut self,
        kubevirt: &KubeVirt,
        config: &Config,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let kubevirt = self.kit.fresh(kubevirt);
        let status = status::next(&kubevirt, config, progress, Timestamp::now());
        let patch = status::patch(&kubevirt, &status, config.registry());
        self.write_status(&kubevirt, patch).await
    }
}
