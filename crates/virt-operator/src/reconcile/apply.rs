//! Applying what differs, deleting what should go.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use api::KubeVirt;
use decide::operator::{CertPolicy, Config, Key, render};
use futures::StreamExt;
use jiff::Timestamp;
use kube_kit::apply::{Applier, ApplyError, Id, Target};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::credentials::secret_keys;
use super::{Known, Operator};
use crate::store::{Meta, version};

/// How many objects are applied at once: enough to hide the round trips, too
/// few to trip the API server's fairness.
const PARALLEL: usize = 8;

impl Operator {
    /// Applies what is missing or differs; gives when certificates want care.
    pub(super) async fn apply(
        &mut self,
        kubevirt: &KubeVirt,
        config: &Config,
        policy: &CertPolicy,
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
        // What was rendered was the largest thing we ever hold.
        host::memory::give_back();
        Ok(next)
    }

    pub(super) async fn apply_wave(&mut self, wave: Vec<(Value, u64)>) -> anyhow::Result<()> {
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
    pub(super) fn stale(&self, key: &Key, hash: u64) -> bool {
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

    pub(super) async fn remove(&self, keys: &[Key]) -> anyhow::Result<()> {
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
    pub(super) fn wanted(&self, config: &Config, kubevirt: &KubeVirt) -> BTreeSet<Key> {
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
}

/// Applies an object; refusals that pass by themselves get three more chances.
pub(super) async fn apply_patiently(
    applier: &Applier,
    object: &Value,
) -> Result<Value, ApplyError> {
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

/// Refusals that the next attempt may not meet: conflicts, overload, failures
/// of the server, and kinds whose CRD was applied a moment ago.
pub(super) fn passing(code: u16) -> bool {
    matches!(code, 404 | 408 | 409 | 429) || code >= 500
}

pub(super) fn id(key: &Key) -> Id {
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

/// A hash of a JSON value that needs no copy of its text.
pub(super) fn hash(value: &Value) -> u64 {
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
    use super::*;

    #[test]
    fn hashes_tell_values_apart() {
        assert_eq!(hash(&json!({ "a": [1, 2] })), hash(&json!({ "a": [1, 2] })));
        assert_ne!(hash(&json!({ "a": [1, 2] })), hash(&json!({ "a": [12] })));
    }
}
