//! Certificates in the cluster: read when they may have changed, planned by
//! [`crate::certs`].

use std::collections::BTreeMap;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use decide::operator::{CertPolicy, Config, Key, secret};
use jiff::Timestamp;
use kube_kit::certs::Pair;
use serde_json::Value;

use super::apply::id;
use super::{Certificates, Operator};
use crate::certs;

impl Operator {
    /// Secrets to write, the authorities' bundle, and when to look again.
    pub(super) async fn certificates(
        &mut self,
        config: &Config,
        policy: &CertPolicy,
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
}

pub(super) fn secret_keys(config: &Config) -> [(&'static str, Key); 4] {
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

pub(super) fn decoded(value: &Value) -> String {
    let bytes = value
        .as_str()
        .and_then(|text| STANDARD.decode(text).ok())
        .unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}
