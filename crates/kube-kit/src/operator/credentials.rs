//! Certificates in the cluster: read when they may have changed, planned by
//! [`crate::rotation`].

use std::collections::BTreeMap;

use anyhow::Context;
use api::objects::Key;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kube::Resource;
use serde_json::Value;

use super::{Hand, Store};
use crate::apply::Id;
use crate::certs::Pair;
use crate::rotation::{self, Authority};

/// Certificates as they were when last looked at.
#[derive(Default)]
pub(super) struct Credentials {
    seen: Option<Seen>,
}

struct Seen {
    wanted: Vec<Authority>,
    bundles: Vec<String>,
    versions: Vec<u64>,
    next: Timestamp,
}

/// What is to be done about certificates.
pub(super) struct Kept {
    /// Secrets to write, with what belongs in them.
    pub(super) write: Vec<(&'static str, Pair)>,
    /// PEM text of all authorities in use, by place of the wanted authority.
    pub(super) bundles: Vec<String>,
    /// When to look again.
    pub(super) next: Timestamp,
}

impl Credentials {
    /// Looks at the secrets of `wanted`, unless they are known not to have
    /// changed, and plans for them.
    ///
    /// # Errors
    /// When they cannot be read or made.
    pub(super) async fn keep<O: Resource>(
        &mut self,
        hand: &Hand,
        store: &Store<O>,
        namespace: &str,
        wanted: &[Authority],
        now: Timestamp,
    ) -> anyhow::Result<Kept> {
        let secret = |name: &str| Key::namespaced("v1", "Secret", namespace, name);
        let names: Vec<&'static str> = wanted.iter().flat_map(Authority::secrets).collect();
        let version = |name: &&str| store.objects.get(&secret(name)).map_or(0, |m| m.version);
        let versions: Vec<u64> = names.iter().map(version).collect();
        if let Some(seen) = &self.seen
            && seen.versions == versions
            && seen.wanted == wanted
            && seen.next > now
        {
            return Ok(Kept {
                write: Vec::new(),
                bundles: seen.bundles.clone(),
                next: seen.next,
            });
        }
        let mut existing = BTreeMap::new();
        for name in names {
            let key = secret(name);
            if store.objects.contains_key(&key)
                && let Some(object) = hand.applier.get(&Id::from(&key)).await?
            {
                let text = |field: &str| decoded(&object["data"][field]);
                let pair = Pair {
                    certificate: text("tls.crt"),
                    key: text("tls.key"),
                };
                existing.insert(name, pair);
            }
        }
        let mut kept = Kept {
            write: Vec::new(),
            bundles: Vec::new(),
            next: Timestamp::MAX,
        };
        for (place, authority) in wanted.iter().enumerate() {
            let known = self.seen.as_ref().and_then(|seen| seen.bundles.get(place));
            let bundle = match known {
                Some(bundle) => bundle.clone(),
                None => published(hand, namespace, authority).await?,
            };
            let plan = rotation::plan(authority, &existing, &bundle, now)
                .context("making certificates")?;
            kept.write.extend(plan.write);
            kept.bundles.push(plan.bundle);
            kept.next = kept.next.min(plan.next);
        }
        for (name, _) in &kept.write {
            tracing::info!(secret = name, "new certificate");
        }
        // After a write the versions differ, and the next round reads once more.
        self.seen = Some(Seen {
            wanted: wanted.to_vec(),
            bundles: kept.bundles.clone(),
            versions,
            next: kept.next,
        });
        Ok(kept)
    }

    /// The authorities in use when last looked at; empty before.
    #[must_use]
    pub(super) fn bundles(&self) -> &[String] {
        self.seen.as_ref().map_or(&[], |seen| &seen.bundles)
    }

    /// Forgets what was seen.
    pub(super) fn forget(&mut self) {
        self.seen = None;
    }
}

/// The bundle that is in the authority's ConfigMap.
async fn published(hand: &Hand, namespace: &str, authority: &Authority) -> anyhow::Result<String> {
    let (name, field) = authority.bundle;
    let key = Key::namespaced("v1", "ConfigMap", namespace, name);
    let object = hand.applier.get(&Id::from(&key)).await?;
    Ok(object
        .and_then(|map| map["data"][field].as_str().map(str::to_owned))
        .unwrap_or_default())
}

fn decoded(value: &Value) -> String {
    let bytes = value
        .as_str()
        .and_then(|text| STANDARD.decode(text).ok())
        .unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}
