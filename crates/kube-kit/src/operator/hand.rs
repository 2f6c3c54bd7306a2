//! Applying what differs, deleting what should go.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use api::objects::Key;
use futures::StreamExt;
use kube::Resource;
use serde_json::Value;
use tokio::time::Instant;

use super::store::{Meta, Store, version};
use crate::apply::{Applier, ApplyError, Id, Target};

/// How many objects are applied at once: enough to hide the round trips, too
/// few to trip the API server's fairness.
const PARALLEL: usize = 8;

/// What was applied, to tell a foreign change from our own.
struct Known {
    hash: u64,
    version: u64,
    generation: Option<i64>,
}

/// Objects in the order in which they are applied: those of one wave at once.
pub struct Rendered {
    /// Waves, the first first.
    pub waves: [Vec<Value>; 2],
    /// Objects of the first wave that are rendered only when they change, such
    /// as certificates: applied now, and not remembered.
    pub once: Vec<Value>,
}

/// Applies and deletes in an operator's name, and knows what it applied.
pub struct Hand {
    /// The requests.
    pub applier: Applier,
    known: BTreeMap<Key, Known>,
    /// Hash of everything that rendering depends on, and what came of it.
    rendered: Option<(u64, Vec<(Key, u64)>)>,
}

impl Hand {
    /// Has applied nothing yet.
    #[must_use]
    pub fn new(applier: Applier) -> Self {
        Self {
            applier,
            known: BTreeMap::new(),
            rendered: None,
        }
    }

    /// Forgets what was applied.
    pub fn forget(&mut self) {
        self.known.clear();
        self.rendered = None;
    }

    /// The keys of what was rendered last, if that depended on `input`.
    #[must_use]
    pub fn rendered(&self, input: u64) -> Option<impl Iterator<Item = &Key>> {
        self.rendered
            .as_ref()
            .filter(|(known, _)| *known == input)
            .map(|(_, hashes)| hashes.iter().map(|(key, _)| key))
    }

    /// Whether everything that was rendered from `input` is there as applied.
    #[must_use]
    pub fn settled<O: Resource>(&self, store: &Store<O>, input: u64) -> bool {
        self.rendered.as_ref().is_some_and(|(known, hashes)| {
            *known == input
                && !hashes
                    .iter()
                    .any(|(key, hash)| self.stale(store, key, *hash))
        })
    }

    /// Applies what is missing or differs, of what was rendered from `input`.
    ///
    /// # Errors
    /// The first refusal; the other objects of its wave are applied still.
    pub async fn apply<O: Resource>(
        &mut self,
        store: &mut Store<O>,
        input: u64,
        rendered: Rendered,
    ) -> anyhow::Result<()> {
        let hashes = rendered.waves.iter().flatten();
        let hashes: Vec<(Key, u64)> = hashes
            .map(|object| (Key::of(object), hash(object)))
            .collect();
        let mut places = hashes.iter();
        let mut waves = rendered.waves.map(|wave| {
            let mut stale = Vec::new();
            for (object, (key, hash)) in wave.into_iter().zip(&mut places) {
                if self.stale(store, key, *hash) {
                    stale.push((object, *hash));
                }
            }
            stale
        });
        waves[0].extend(rendered.once.into_iter().map(|object| {
            let hash = hash(&object);
            (object, hash)
        }));
        self.rendered = Some((input, hashes));
        let count: usize = waves.iter().map(Vec::len).sum();
        let begun = Instant::now();
        for wave in waves {
            self.apply_wave(store, wave).await?;
        }
        if count > 0 {
            let milliseconds = begun.elapsed().as_millis();
            tracing::info!(objects = count, milliseconds, "applied");
        }
        Ok(())
    }

    async fn apply_wave<O: Resource>(
        &mut self,
        store: &mut Store<O>,
        wave: Vec<(Value, u64)>,
    ) -> anyhow::Result<()> {
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
                    store.put(key, meta);
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
    fn stale<O: Resource>(&self, store: &Store<O>, key: &Key, hash: u64) -> bool {
        let (Some(meta), Some(known)) = (store.objects.get(key), self.known.get(key)) else {
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

    /// Deletes objects that are there and not being deleted already.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn remove<O: Resource>(&self, store: &Store<O>, keys: &[Key]) -> anyhow::Result<()> {
        let there = |key: &&Key| store.objects.get(*key).is_some_and(|meta| !meta.deleting);
        let ids: Vec<Id> = keys.iter().filter(there).map(Id::from).collect();
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

    /// Whether a deployment or daemon set runs what was applied last, and its
    /// pods are ready: all of them, or `some` suffice.
    #[must_use]
    pub fn rolled_out<O: Resource>(
        &self,
        store: &Store<O>,
        kind: &'static str,
        namespace: &str,
        name: &str,
        some: bool,
    ) -> bool {
        let Some(pods) = store.pods.get(&(kind, name.to_owned())) else {
            return false;
        };
        let known = self
            .known
            .get(&Key::namespaced("apps/v1", kind, namespace, name));
        let generation = known.and_then(|known| known.generation).unwrap_or(0);
        let rolled_out = pods.observed_generation >= generation
            && pods.updated == pods.wanted
            && pods.outdated <= 0;
        rolled_out && pods.ready > 0 && (some || pods.ready >= pods.wanted)
    }

    /// Whether the API server reaches the aggregated APIs of these names
    /// (`version.group`).
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn served(&self, names: &[String]) -> Result<bool, ApplyError> {
        for name in names {
            let id = Id {
                target: Target::cluster("apiregistration.k8s.io/v1", "APIService"),
                name: name.clone(),
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
}

impl From<&Key> for Id {
    fn from(key: &Key) -> Self {
        Self {
            target: Target {
                api_version: key.api_version.clone(),
                kind: key.kind.clone(),
                namespace: key.namespace.clone(),
            },
            name: key.name.clone(),
        }
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

/// Refusals that the next attempt may not meet: conflicts, overload, failures
/// of the server, and kinds whose CRD was applied a moment ago.
#[must_use]
pub(super) fn passing(code: u16) -> bool {
    matches!(code, 404 | 408 | 409 | 429) || code >= 500
}

/// A hash of a JSON value that needs no copy of its text.
#[must_use]
pub fn hash(value: &Value) -> u64 {
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
    use serde_json::json;

    #[test]
    fn hashes_tell_values_apart() {
        assert_eq!(hash(&json!({ "a": [1, 2] })), hash(&json!({ "a": [1, 2] })));
        assert_ne!(hash(&json!({ "a": [1, 2] })), hash(&json!({ "a": [12] })));
    }
}
