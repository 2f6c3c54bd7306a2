//! The leader's loop: look, decide, act, tell.

mod apply;
mod look;
mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use api::{KubeVirt, names};
use decide::operator::status::Progress;
use decide::operator::{
    BLOCK_UNINSTALL, Config, Key, MANAGED, MANAGED_BY_LABEL, MANAGER, Observed, Step, cert_policy,
    step,
};
use futures::StreamExt;
use jiff::Timestamp;
use kube_kit::apply::{Applier, ApplyError};
use kube_kit::operator::{self, Credentials, Hand, Store, Stream, passing};
use tokio::time::Instant;

use self::look::{active, available};

/// Events that come this soon after each other are looked at together.
const GATHER: Duration = Duration::from_millis(25);
/// How soon the aggregated API is asked again whether it is served.
const ASK_AGAIN: Duration = Duration::from_millis(300);
/// How often virtual machines are looked for that block a deletion.
const BLOCKED: Duration = Duration::from_secs(10);

/// Leads until the caller drops the future.
///
/// # Errors
/// None at present: what fails is told in the status and tried again.
pub(crate) async fn run(client: kube::Client, config: &Config) -> anyhow::Result<()> {
    let mut leader = Operator::new(client.clone(), config.clone());
    let mut kubevirts = operator::owners::<KubeVirt>(&client);
    let mut managed = Stream::new();
    let mut deadline: Option<Instant> = None;
    loop {
        tokio::select! {
            Some(seen) = kubevirts.next() => leader.store.see(seen),
            Some(seen) = managed.next(), if !managed.is_empty() => leader.store.see(seen),
            () = sleep_until(deadline) => {}
        }
        let gathered = Instant::now() + GATHER;
        loop {
            tokio::select! {
                Some(seen) = kubevirts.next() => leader.store.see(seen),
                Some(seen) = managed.next(), if !managed.is_empty() => leader.store.see(seen),
                () = tokio::time::sleep_until(gathered) => break,
            }
        }
        // Without a KubeVirt object there is nothing to follow.
        if leader.store.owners.is_empty() {
            if !managed.is_empty() {
                managed = Stream::new();
                leader.forget();
            }
            deadline = None;
            continue;
        }
        if managed.is_empty() {
            let ours = format!("{MANAGED_BY_LABEL}={MANAGER}");
            let streams = operator::managed(&client, &config.namespace, &MANAGED, &ours);
            managed.extend(streams);
        }
        if leader.store.complete() {
            deadline = leader.round().await.map(|wait| Instant::now() + wait);
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

struct Operator {
    client: kube::Client,
    hand: Hand,
    config: Config,
    store: Store<KubeVirt>,
    credentials: Credentials,
    failures: u32,
}

impl Operator {
    fn new(client: kube::Client, config: Config) -> Self {
        Self {
            hand: Hand::new(Applier::new(client.clone(), MANAGER)),
            client,
            config,
            store: Store::new(&MANAGED),
            credentials: Credentials::default(),
            failures: 0,
        }
    }

    fn forget(&mut self) {
        self.store.forget_objects();
        self.hand.forget();
        self.credentials.forget();
    }

    /// Looks at every KubeVirt object; gives when to look again without news.
    async fn round(&mut self) -> Option<Duration> {
        let active = active(&self.store, &self.config.namespace);
        let all: Vec<KubeVirt> = self.store.owners.values().cloned().collect();
        let mut wait: Option<Duration> = None;
        let mut failed = false;
        for kubevirt in all {
            let another_active = active.as_ref() != Some(&kubevirt.metadata.uid);
            match self.one(&kubevirt, another_active).await {
                Ok(again) => wait = [wait, again].into_iter().flatten().min(),
                Err(error) => {
                    failed = true;
                    tracing::warn!(kubevirt = kubevirt.metadata.name, "{error:#}");
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

    async fn one(
        &mut self,
        kubevirt: &KubeVirt,
        another_active: bool,
    ) -> anyhow::Result<Option<Duration>> {
        let config = self.config.with_images_of(kubevirt);
        let observed = Observed {
            present: self.store.objects.keys().cloned().collect(),
            another_active,
            misplaced: kubevirt.metadata.namespace.as_ref() != Some(&self.config.namespace),
            workloads_exist: self.workloads_exist(kubevirt).await?,
        };
        let wanted = if kubevirt.metadata.deletion_timestamp.is_none() && !another_active {
            // Which secrets there are does not depend on how long they live.
            let policy = cert_policy(kubevirt).or_else(|_| cert_policy(&KubeVirt::default()));
            policy.map_or_else(
                |_| BTreeSet::new(),
                |policy| self.wanted(&config, kubevirt, &policy),
            )
        } else {
            BTreeSet::new()
        };
        match step(kubevirt, &observed, &wanted) {
            Step::Nothing => Ok(None),
            Step::Ignore => self
                .tell(kubevirt, &config, &Progress::Ignored)
                .await
                .map(|()| None),
            Step::Misplaced => {
                let reason = format!(
                    "metadata.namespace: expected {}, where virt-operator runs, found {}",
                    self.config.namespace,
                    kubevirt.metadata.namespace.as_deref().unwrap_or_default()
                );
                self.tell(kubevirt, &config, &Progress::Failed(reason))
                    .await
                    .map(|()| None)
            }
            Step::Adopt => {
                let mut finalizers = kubevirt.metadata.finalizers.clone().unwrap_or_default();
                finalizers.push(names::KUBEVIRT_FINALIZER.to_owned());
                self.set_finalizers(kubevirt, &finalizers)
                    .await
                    .map(|()| Some(Duration::ZERO))
            }
            Step::Install { obsolete } => self.install(kubevirt, &config, &obsolete).await,
            Step::Blocked => {
                let reason = format!(
                    "virtual machines exist and spec.uninstallStrategy is {BLOCK_UNINSTALL}; delete them or change the strategy"
                );
                self.tell(kubevirt, &config, &Progress::DeletionFailed(reason))
                    .await?;
                Ok(Some(BLOCKED))
            }
            Step::Remove(keys) => {
                self.tell(kubevirt, &config, &Progress::Deleting).await?;
                self.hand.remove(&self.store, &keys).await?;
                Ok(None)
            }
            Step::Release => {
                self.tell(kubevirt, &config, &Progress::Deleted).await?;
                let mut finalizers = kubevirt.metadata.finalizers.clone().unwrap_or_default();
                finalizers.retain(|name| name != names::KUBEVIRT_FINALIZER);
                self.set_finalizers(kubevirt, &finalizers).await?;
                tracing::info!("everything is removed");
                Ok(None)
            }
        }
    }

    /// One round of an installation.
    async fn install(
        &mut self,
        kubevirt: &KubeVirt,
        config: &Config,
        obsolete: &[Key],
    ) -> anyhow::Result<Option<Duration>> {
        let policy = match cert_policy(kubevirt) {
            Ok(policy) => policy,
            Err(error) => {
                self.tell(kubevirt, config, &Progress::Failed(error.to_string()))
                    .await?;
                return Ok(None);
            }
        };
        if kubevirt.status.is_none() {
            self.tell(kubevirt, config, &Progress::Applying).await?;
        }
        let outcome = self.apply(kubevirt, config, &policy, obsolete).await;
        let kubevirt = &self.fresh(kubevirt);
        let next = match outcome {
            Ok(next) => next,
            Err(error) => {
                // What passes by itself is not worth a condition.
                if let Some(ApplyError::Api { .. }) = error.downcast_ref::<ApplyError>()
                    && !error
                        .downcast_ref::<ApplyError>()
                        .and_then(ApplyError::status_code)
                        .is_none_or(passing)
                {
                    self.tell(kubevirt, config, &Progress::Failed(format!("{error:#}")))
                        .await?;
                }
                return Err(error);
            }
        };
        let renew = u64::try_from(next.duration_since(Timestamp::now()).as_secs())
            .unwrap_or(0)
            .max(1);
        let renew = Duration::from_secs(renew);
        if !self.ready(kubevirt, config) {
            self.tell(kubevirt, config, &Progress::Applied).await?;
            return Ok(Some(renew));
        }
        if !available(kubevirt, config) && !self.served().await? {
            self.tell(kubevirt, config, &Progress::Applied).await?;
            return Ok(Some(ASK_AGAIN));
        }
        self.tell(kubevirt, config, &Progress::Ready).await?;
        Ok(Some(renew))
    }
}
