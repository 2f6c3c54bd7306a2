//! One round: decide, act, tell.

use std::collections::BTreeSet;
use std::time::Duration;

use api::cdi::{CDI, names};
use api::objects::Key;
use decide::cdi::operator::status::{self, Progress};
use decide::cdi::operator::{
    Authority, BLOCK_UNINSTALL, Config, Observed, Step, authorities, cdi_config, render, secret,
    step,
};
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube_kit::apply::ApplyError;
use kube_kit::certs::Usage;
use kube_kit::operator::{Rendered, hash, passing};
use kube_kit::rotation::{self, Life};
use serde_json::json;

use super::Operator;
use super::look::active;

/// How soon the aggregated API is asked again whether it is served.
const ASK_AGAIN: Duration = Duration::from_millis(300);
/// How often DataVolumes are looked for that block a deletion.
const BLOCKED: Duration = Duration::from_secs(10);

impl Operator {
    /// Looks at every CDI object; gives when to look again without news.
    pub(super) async fn round(&mut self) -> Option<Duration> {
        let active = active(&self.store);
        let all: Vec<CDI> = self.store.owners.values().cloned().collect();
        let mut wait: Option<Duration> = None;
        let mut failed = false;
        for cdi in all {
            let another_active = active.as_ref() != Some(&cdi.metadata.uid);
            match self.one(&cdi, another_active).await {
                Ok(again) => wait = [wait, again].into_iter().flatten().min(),
                Err(error) => {
                    failed = true;
                    tracing::warn!(cdi = cdi.metadata.name, "{error:#}");
                }
            }
        }
        if failed {
            self.failures = self.failures.saturating_add(1);
            let retry = kube_kit::queue::backoff(self.failures);
            return Some(wait.map_or(retry, |wait| wait.min(retry)));
        }
        self.failures = 0;
        wait
    }

    async fn one(&mut self, cdi: &CDI, another_active: bool) -> anyhow::Result<Option<Duration>> {
        let observed = Observed {
            present: self.store.objects.keys().cloned().collect(),
            another_active,
            workloads_exist: self.workloads_exist(cdi).await?,
        };
        let going = cdi.metadata.deletion_timestamp.is_some();
        let wanted = match authorities(&self.config, cdi) {
            Ok(wanted) => wanted.map(rotated).to_vec(),
            Err(error) if !going && !another_active => {
                self.tell(cdi, &Progress::Invalid(error.to_string()))
                    .await?;
                return Ok(None);
            }
            Err(_) => Vec::new(),
        };
        let keys = if going || another_active {
            BTreeSet::new()
        } else {
            self.wanted(cdi, &wanted)
        };
        match step(cdi, &observed, &keys) {
            Step::Nothing => Ok(None),
            Step::Ignore => self.tell(cdi, &Progress::Ignored).await.map(|()| None),
            Step::Adopt => {
                let mut finalizers = cdi.metadata.finalizers.clone().unwrap_or_default();
                finalizers.push(names::CDI_FINALIZER.to_owned());
                self.set_finalizers(cdi, &finalizers).await?;
                Ok(Some(Duration::ZERO))
            }
            Step::Install { obsolete } => self.install(cdi, &wanted, &obsolete).await,
            Step::Blocked => {
                let reason = format!(
                    "DataVolumes exist and spec.uninstallStrategy is {BLOCK_UNINSTALL}; delete them or change the strategy"
                );
                self.tell(cdi, &Progress::DeletionBlocked(reason)).await?;
                Ok(Some(BLOCKED))
            }
            Step::Remove(keys) => {
                self.tell(cdi, &Progress::Deleting).await?;
                self.hand.remove(&self.store, &keys).await?;
                Ok(None)
            }
            Step::Release => {
                self.tell(cdi, &Progress::Deleted).await?;
                let mut finalizers = cdi.metadata.finalizers.clone().unwrap_or_default();
                finalizers.retain(|name| name != names::CDI_FINALIZER);
                self.set_finalizers(cdi, &finalizers).await?;
                tracing::info!("everything is removed");
                Ok(None)
            }
        }
    }

    /// One round of an installation.
    async fn install(
        &mut self,
        cdi: &CDI,
        wanted: &[rotation::Authority],
        obsolete: &[Key],
    ) -> anyhow::Result<Option<Duration>> {
        if cdi.status.is_none() {
            self.tell(cdi, &Progress::Applied).await?;
        }
        let next = match self.apply(cdi, wanted, obsolete).await {
            Ok(next) => next,
            Err(error) => {
                // What passes by itself is not worth a condition.
                let refused = error.downcast_ref::<ApplyError>();
                let code = refused.and_then(ApplyError::status_code);
                if code.is_some_and(|code| !passing(code)) {
                    let reason = format!("{error:#}");
                    self.tell(cdi, &Progress::Failed(reason)).await?;
                }
                return Err(error);
            }
        };
        let left = next.duration_since(Timestamp::now()).as_secs();
        let renew = Duration::from_secs(u64::try_from(left).unwrap_or(0).max(1));
        if !self.ready() {
            self.tell(cdi, &Progress::Applied).await?;
            return Ok(Some(renew));
        }
        if !self.told_available(cdi) && !self.served().await? {
            self.tell(cdi, &Progress::Applied).await?;
            return Ok(Some(ASK_AGAIN));
        }
        self.tell(cdi, &Progress::Ready).await?;
        Ok(Some(renew))
    }

    /// Applies what is missing or differs; gives when certificates want care.
    async fn apply(
        &mut self,
        cdi: &CDI,
        wanted: &[rotation::Authority],
        obsolete: &[Key],
    ) -> anyhow::Result<Timestamp> {
        let namespace = self.config.namespace.clone();
        let kept = self
            .credentials
            .keep(
                &self.hand,
                &self.store,
                &namespace,
                wanted,
                Timestamp::now(),
            )
            .await?;
        let input = input(cdi, &self.config, &kept.bundles);
        let settled =
            kept.write.is_empty() && obsolete.is_empty() && self.hand.settled(&self.store, input);
        if !settled {
            let rendered = render(&self.config, cdi, &kept.bundles);
            let secrets = kept.write.iter();
            let rendered = Rendered {
                waves: [rendered.base, rendered.workloads],
                once: secrets
                    .map(|(name, pair)| secret(&self.config, name, &pair.certificate, &pair.key))
                    .collect(),
            };
            self.hand.apply(&mut self.store, input, rendered).await?;
            self.hand.remove(&self.store, obsolete).await?;
        }
        let proxy = kept.bundles.get(1).map_or("", String::as_str);
        self.settings(cdi, proxy).await?;
        if !settled {
            // What was rendered was the largest thing we ever hold.
            host::memory::give_back();
        }
        Ok(kept.next)
    }

    /// Makes the CDIConfig say what the CDI object says, when that changed.
    async fn settings(&mut self, cdi: &CDI, bundle: &str) -> anyhow::Result<()> {
        let object = cdi_config(&self.config, cdi);
        let status = json!({ "status": status::of_config(cdi, bundle) });
        let input = hash(&json!([object, status]));
        if self.settings == Some(input) {
            return Ok(());
        }
        self.hand.applier.apply(&object).await?;
        let api: Api<api::cdi::CDIConfig> = Api::all(self.client.clone());
        api.patch_status(
            names::CONFIG,
            &PatchParams::default(),
            &Patch::Merge(&status),
        )
        .await?;
        self.settings = Some(input);
        Ok(())
    }

    /// The keys of everything that is rendered, and of the secrets.
    fn wanted(&self, cdi: &CDI, wanted: &[rotation::Authority]) -> BTreeSet<Key> {
        let input = input(cdi, &self.config, self.credentials.bundles());
        let mut keys: BTreeSet<Key> = match self.hand.rendered(input) {
            Some(keys) => keys.cloned().collect(),
            None => render(&self.config, cdi, &[]).all().map(Key::of).collect(),
        };
        let namespace = &self.config.namespace;
        let secrets = wanted.iter().flat_map(rotation::Authority::secrets);
        keys.extend(secrets.map(|name| Key::namespaced("v1", "Secret", namespace, name)));
        keys
    }
}

/// A hash of everything that rendering depends on.
fn input(cdi: &CDI, config: &Config, bundles: &[String]) -> u64 {
    hash(&json!([
        cdi.spec,
        config.namespace,
        config.version,
        config.image,
        bundles
    ]))
}

/// An authority as those who rotate want it.
fn rotated(authority: Authority) -> rotation::Authority {
    let life = |life: decide::operator::Lifetime| Life {
        duration: life.duration,
        renew_before: life.renew_before,
    };
    rotation::Authority {
        secret: authority.secret,
        common_name: authority.secret,
        bundle: (authority.bundle, names::CA_BUNDLE_KEY),
        life: life(authority.life),
        leaves: authority
            .leaf
            .into_iter()
            .map(|leaf| rotation::Leaf {
                usage: if leaf.dns_names.is_empty() {
                    Usage::Client
                } else {
                    Usage::Server
                },
                secret: leaf.secret,
                common_name: leaf.common_name,
                dns_names: leaf.dns_names,
                life: life(leaf.life),
            })
            .collect(),
    }
}
