//! The leader's loop: look, decide, act, tell.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use anyhow::Context;
use api::KubeVirt;
use api::names;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use decide::operator::status::{self, Progress};
use decide::operator::{
    BLOCK_UNINSTALL, Config, Key, MANAGER, Observed, Step, cert_policy, render, secret, step,
};
use futures::StreamExt;
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube_kit::apply::{Applier, ApplyError, Id, Target};
use kube_kit::certs::Pair;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::certs;
use crate::store::{Meta, Store, version};
use crate::watches::{self, Stream};

/// Events that come this soon after each other are looked at together.
const GATHER: Duration = Duration::from_millis(25);
/// How many objects are applied at once: enough to hide the round trips, too
/// few to trip the API server's fairness.
const PARALLEL: usize = 8;
/// How soon the aggregated API is asked again whether it is served.
const ASK_AGAIN: Duration = Duration::from_millis(300);
/// How often virtual machines are looked for that block a deletion.
const BLOCKED: Duration = Duration::from_secs(10);

/// Leads until the caller drops the future.
///
/// # Errors
/// None at present: what fails is told in the status and tried again.
pub(crate) async fn run(client: kube::Client, config: &Config) -> anyhow::Result<()> {
    let mut operator = Operator::new(client.clone(), config.clone());
    let mut kubevirts = watches::kubevirts(&client);
    let mut managed = Stream::new();
    let mut deadline: Option<Instant> = None;
    loop {
        tokio::select! {
            Some(seen) = kubevirts.next() => operator.store.see(seen),
            Some(seen) = managed.next(), if !managed.is_empty() => operator.store.see(seen),
            () = sleep_until(deadline) => {}
        }
        let gathered = Instant::now() + GATHER;
        loop {
            tokio::select! {
                Some(seen) = kubevirts.next() => operator.store.see(seen),
                Some(seen) = managed.next(), if !managed.is_empty() => operator.store.see(seen),
                () = tokio::time::sleep_until(gathered) => break,
            }
        }
        // Without a KubeVirt object there is nothing to follow.
        if operator.store.kubevirts.is_empty() {
            if !managed.is_empty() {
                managed = Stream::new();
                operator.forget();
            }
            deadline = None;
            continue;
        }
        if managed.is_empty() {
            managed.extend(watches::managed(&client, &config.namespace));
        }
        if operator.store.complete() {
            deadline = operator.round().await.map(|wait| Instant::now() + wait);
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What was applied, to tell a foreign change from our own.
struct Known {
    hash: u64,
    version: u64,
    generation: Option<i64>,
}

/// Certificates as they were when last looked at.
struct Certificates {
    bundle: String,
    next: Timestamp,
    versions: Vec<u64>,
    policy: decide::operator::CertPolicy,
}

struct Operator {
    client: kube::Client,
    applier: Applier,
    config: Config,
    store: Store,
    known: BTreeMap<Key, Known>,
    certificates: Option<Certificates>,
    /// Hash of everything that rendering depends on, and what came of it.
    rendered: Option<(u64, Vec<(Key, u64)>)>,
    failures: u32,
}

impl Operator {
    fn new(client: kube::Client, config: Config) -> Self {
        Self {
            applier: Applier::new(client.clone(), MANAGER),
            client,
            config,
            store: Store::default(),
            known: BTreeMap::new(),
            certificates: None,
            rendered: None,
            failures: 0,
        }
    }

    fn forget(&mut self) {
        self.store.forget_objects();
        self.known.clear();
        self.certificates = None;
        self.rendered = None;
    }

    /// Looks at every KubeVirt object; gives when to look again without news.
    async fn round(&mut self) -> Option<Duration> {
        let active = active(&self.store, &self.config.namespace);
        let all: Vec<KubeVirt> = self.store.kubevirts.values().cloned().collect();
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
            self.wanted(&config, kubevirt)
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
                self.remove(&keys).await?;
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

    /// Applies what is missing or differs; gives when certificates want care.
    async fn apply(
        &mut self,
        kubevirt: &KubeVirt,
        config: &Config,
        policy: &decide::operator::CertPolicy,
        obsolete: &[Key],
    ) -> anyhow::Result<Timestamp> {
        let (secrets, bundle, next) = self.certificates(config, policy).await?;
        let input = hash(&json!([kubevirt.spec, config.deployment_id(), bundle]));
        let unchanged = self.rendered.as_ref().filter(|(known, _)| *known == input);
        let nothing_to_do = secrets.is_empty()
            && obsolete.is_empty()
            && unchanged.is_some_and(|(_, hashes)| {
                !hashes.iter().any(|(key, hash)| self.stale(key, *hash))
            });
        if nothing_to_do {
            return Ok(next);
        }
        let rendered = render(config, kubevirt, &bundle);
        let hashes: Vec<(Key, u64)> = rendered
            .all()
            .map(|object| (Key::of(object), hash(object)))
            .collect();
        let mut waves = [Vec::new(), Vec::new()];
        let first = rendered.base.len();
        let objects = rendered.base.into_iter().chain(rendered.workloads);
        for (place, (object, (key, hash))) in objects.zip(&hashes).enumerate() {
            if self.stale(key, *hash) {
                waves[usize::from(place >= first)].push((object, *hash));
            }
        }
        waves[0].extend(secrets.into_iter().map(|object| {
            let hash = hash(&object);
            (object, hash)
        }));
        self.rendered = Some((input, hashes));
        let count: usize = waves.iter().map(Vec::len).sum();
        let begun = Instant::now();
        for wave in waves {
            self.apply_wave(wave).await?;
        }
        if count > 0 {
            tracing::info!(
                objects = count,
                milliseconds = begun.elapsed().as_millis(),
                "applied"
            );
        }
        self.remove(obsolete).await?;
        Ok(next)
    }

    async fn apply_wave(&mut self, wave: Vec<(Value, u64)>) -> anyhow::Result<()> {
        let applier = &self.applier;
        let mut answers = futures::stream::iter(wave)
            .map(|(object, hash)| async move {
                let key = Key::of(&object);
                (key, hash, apply_patiently(applier, &object).await)
            })
            .buffer_unordered(PARALLEL);
        let mut first_error = None;
        while let Some((key, hash, answer)) = answers.next().await {
            match answer {
                Ok(object) => {
                    let metadata = &object["metadata"];
                    let meta = Meta {
                        version: version(metadata["resourceVersion"].as_str()),
                        generation: metadata["generation"].as_i64(),
                        deleting: metadata["deletionTimestamp"].is_string(),
                    };
                    let known = Known {
                        hash,
                        version: meta.version,
                        generation: meta.generation,
                    };
                    self.known.insert(key.clone(), known);
                    self.store.put(key, meta);
                }
                Err(error) => {
                    tracing::warn!("cannot apply {error}");
                    first_error.get_or_insert(error);
                }
            }
        }
        first_error.map_or(Ok(()), |error| Err(anyhow::Error::from(error)))
    }

    /// Whether an object is missing, rendered differently now, or was changed
    /// by somebody else.
    fn stale(&self, key: &Key, hash: u64) -> bool {
        let (Some(meta), Some(known)) = (self.store.objects.get(key), self.known.get(key)) else {
            return true;
        };
        if known.hash != hash {
            return true;
        }
        match (meta.generation, known.generation) {
            // Counts the spec's changes; status does not move it.
            (Some(now), Some(then)) => now > then,
            _ => meta.version > known.version,
        }
    }

    /// Secrets to write, the authorities' bundle, and when to look again.
    async fn certificates(
        &mut self,
        config: &Config,
        policy: &decide::operator::CertPolicy,
    ) -> anyhow::Result<(Vec<Value>, String, Timestamp)> {
        let now = Timestamp::now();
        let secrets = secret_keys(config);
        let versions: Vec<u64> = secrets
            .iter()
            .map(|(_, key)| self.store.objects.get(key).map_or(0, |meta| meta.version))
            .collect();
        if let Some(cached) = &self.certificates
            && cached.versions == versions
            && cached.policy == *policy
            && cached.next > now
        {
            return Ok((Vec::new(), cached.bundle.clone(), cached.next));
        }
        let mut existing = BTreeMap::new();
        for (name, key) in &secrets {
            if self.store.objects.contains_key(key)
                && let Some(object) = self.applier.get(&id(key)).await?
            {
                let text = |field: &str| decoded(&object["data"][field]);
                existing.insert(
                    *name,
                    Pair {
                        certificate: text("tls.crt"),
                        key: text("tls.key"),
                    },
                );
            }
        }
        let bundle = match &self.certificates {
            Some(cached) => cached.bundle.clone(),
            None => {
                let key = Key {
                    api_version: "v1".into(),
                    kind: "ConfigMap".into(),
                    namespace: Some(config.namespace.clone()),
                    name: certs::AUTHORITY.into(),
                };
                let object = self.applier.get(&id(&key)).await?;
                object
                    .and_then(|map| map["data"]["ca-bundle"].as_str().map(str::to_owned))
                    .unwrap_or_default()
            }
        };
        let plan =
            certs::plan(config, policy, &existing, &bundle, now).context("making certificates")?;
        for (name, _) in &plan.write {
            tracing::info!(secret = name, "new certificate");
        }
        let objects = plan
            .write
            .iter()
            .map(|(name, pair)| secret(config, name, &pair.certificate, &pair.key))
            .collect::<Vec<_>>();
        // After a write the versions differ, and the next round reads once more.
        self.certificates = Some(Certificates {
            bundle: plan.bundle.clone(),
            next: plan.next,
            versions,
            policy: *policy,
        });
        Ok((objects, plan.bundle, plan.next))
    }

    async fn remove(&self, keys: &[Key]) -> anyhow::Result<()> {
        let ids: Vec<Id> = keys
            .iter()
            .filter(|key| {
                self.store
                    .objects
                    .get(*key)
                    .is_some_and(|meta| !meta.deleting)
            })
            .map(id)
            .collect();
        let mut answers = futures::stream::iter(ids)
            .map(|id| async move {
                tracing::info!("deleting {id}");
                self.applier.delete(&id).await
            })
            .buffer_unordered(PARALLEL);
        while let Some(answer) = answers.next().await {
            answer?;
        }
        Ok(())
    }

    /// The keys of everything that is rendered, and of the secrets.
    fn wanted(&self, config: &Config, kubevirt: &KubeVirt) -> BTreeSet<Key> {
        let mut keys: BTreeSet<Key> = match &self.rendered {
            Some((input, hashes))
                if self.certificates.as_ref().is_some_and(|certificates| {
                    *input
                        == hash(&json!([
                            kubevirt.spec,
                            config.deployment_id(),
                            certificates.bundle
                        ]))
                }) =>
            {
                hashes.iter().map(|(key, _)| key.clone()).collect()
            }
            _ => render(config, kubevirt, "").all().map(Key::of).collect(),
        };
        keys.extend(secret_keys(config).map(|(_, key)| key));
        keys
    }

    /// Every component runs what was applied last. At first all its pods must
    /// be ready; later one that is ready keeps it available.
    fn ready(&self, kubevirt: &KubeVirt, config: &Config) -> bool {
        let deployed = available(kubevirt, config);
        let of = |kind: &'static str, name: &str| {
            let Some(pods) = self.store.pods.get(&(kind, name.to_owned())) else {
                return false;
            };
            let key = Key {
                api_version: "apps/v1".into(),
                kind: kind.into(),
                namespace: Some(config.namespace.clone()),
                name: name.to_owned(),
            };
            let generation = self
                .known
                .get(&key)
                .and_then(|known| known.generation)
                .unwrap_or(0);
            let rolled_out = pods.observed_generation >= generation
                && pods.updated == pods.wanted
                && pods.outdated <= 0;
            rolled_out && pods.ready > 0 && (deployed || pods.ready >= pods.wanted)
        };
        of("Deployment", decide::operator::API)
            && of("Deployment", decide::operator::CONTROLLER)
            && of("DaemonSet", decide::operator::HANDLER)
    }

    /// Whether the API server reaches the aggregated API: a user's first
    /// `start` must not fail because it does not yet.
    async fn served(&self) -> anyhow::Result<bool> {
        for version in names::SUBRESOURCE_VERSIONS {
            let id = Id {
                target: Target::cluster("apiregistration.k8s.io/v1", "APIService"),
                name: format!("{version}.{}", names::SUBRESOURCE_GROUP),
            };
            let object = self.applier.get(&id).await?.unwrap_or_default();
            let conditions = object["status"]["conditions"].as_array();
            let available = conditions.is_some_and(|list| {
                list.iter()
                    .any(|one| one["type"] == "Available" && one["status"] == "True")
            });
            if !available {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether virtual machines exist. Asked only while it matters.
    async fn workloads_exist(&self, kubevirt: &KubeVirt) -> anyhow::Result<bool> {
        let blocks = kubevirt.spec.uninstall_strategy.as_deref() == Some(BLOCK_UNINSTALL);
        if kubevirt.metadata.deletion_timestamp.is_none() || !blocks {
            return Ok(false);
        }
        for kind in ["VirtualMachineInstance", "VirtualMachine"] {
            let target = Target::cluster(names::API_VERSION, kind);
            if !self.applier.list(&target, "").await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Patches the status, if it changed.
    async fn tell(
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
            Ok(object) => self.store.put_kubevirt(object),
            Err(error) if kube_kit::is_not_found(&error) => {}
            Err(error) => return Err(error).context("writing the KubeVirt object's status"),
        }
        Ok(())
    }

    async fn set_finalizers(
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
            Ok(object) => self.store.put_kubevirt(object),
            Err(error) if kube_kit::is_not_found(&error) => {}
            Err(error) => return Err(error).context("writing the KubeVirt object's finalizer"),
        }
        Ok(())
    }

    fn api(&self, kubevirt: &KubeVirt) -> Api<KubeVirt> {
        Api::namespaced(
            self.client.clone(),
            kubevirt.metadata.namespace.as_deref().unwrap_or_default(),
        )
    }

    /// The object as known now: our own writes have moved it on.
    fn fresh(&self, kubevirt: &KubeVirt) -> KubeVirt {
        let name = (
            kubevirt.metadata.namespace.clone().unwrap_or_default(),
            kubevirt.metadata.name.clone().unwrap_or_default(),
        );
        self.store.kubevirts.get(&name).unwrap_or(kubevirt).clone()
    }
}

/// Applies an object; refusals that pass by themselves get three more chances.
async fn apply_patiently(applier: &Applier, object: &Value) -> Result<Value, ApplyError> {
    let mut attempt = 0;
    loop {
        match applier.apply_over(object, None).await {
            Ok((_, applied)) => return Ok(applied),
            Err(error) if attempt < 3 && error.status_code().is_some_and(passing) => attempt += 1,
            Err(error) => return Err(error),
        }
        tokio::time::sleep(Duration::from_millis(50 << attempt)).await;
    }
}

/// The UID of the object that owns the deployment: the oldest in our namespace
/// that carries our finalizer, else the oldest there.
fn active(store: &Store, namespace: &str) -> Option<Option<String>> {
    let adopted = |object: &KubeVirt| {
        object
            .metadata
            .finalizers
            .iter()
            .flatten()
            .any(|name| name == names::KUBEVIRT_FINALIZER)
    };
    store
        .kubevirts
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
fn available(kubevirt: &KubeVirt, config: &Config) -> bool {
    kubevirt.status.as_ref().is_some_and(|status| {
        status.observed_deployment_id == config.deployment_id()
            && api::condition::is_true(&status.conditions, "Available")
    })
}

/// Refusals that the next attempt may not meet: conflicts, overload, failures
/// of the server, and kinds whose CRD was applied a moment ago.
fn passing(code: u16) -> bool {
    matches!(code, 404 | 408 | 409 | 429) || code >= 500
}

fn secret_keys(config: &Config) -> [(&'static str, Key); 4] {
    let [api, server, client] = certs::wanted(config).map(|wanted| wanted.secret);
    [certs::AUTHORITY, api, server, client].map(|name| {
        let key = Key {
            api_version: "v1".into(),
            kind: "Secret".into(),
            namespace: Some(config.namespace.clone()),
            name: name.into(),
        };
        (name, key)
    })
}

fn id(key: &Key) -> Id {
    let target = Target {
        api_version: key.api_version.clone(),
        kind: key.kind.clone(),
        namespace: key.namespace.clone(),
    };
    Id {
        target,
        name: key.name.clone(),
    }
}

fn decoded(value: &Value) -> String {
    let bytes = value
        .as_str()
        .and_then(|text| STANDARD.decode(text).ok())
        .unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

/// A hash of a JSON value that needs no copy of its text.
fn hash(value: &Value) -> u64 {
    struct Writer(DefaultHasher);
    impl std::io::Write for Writer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.write(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut writer = Writer(DefaultHasher::new());
    // Neither the value nor the writer can fail.
    let _ = serde_json::to_writer(&mut writer, value);
    writer.0.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use decide::operator::MANAGED;

    #[test]
    fn every_managed_kind_has_a_path() {
        for kind in &MANAGED {
            assert!(
                watches::target(kind, "ns")
                    .path()
                    .contains(if kind.namespaced {
                        "/namespaces/ns/"
                    } else {
                        "/v1/"
                    })
            );
        }
    }

    #[test]
    fn hashes_tell_values_apart() {
        assert_eq!(hash(&json!({ "a": [1, 2] })), hash(&json!({ "a": [1, 2] })));
        assert_ne!(hash(&json!({ "a": [1, 2] })), hash(&json!({ "a": [12] })));
    }
}
