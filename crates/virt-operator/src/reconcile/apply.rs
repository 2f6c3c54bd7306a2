//! Applying what differs.

use std::collections::BTreeSet;

use api::KubeVirt;
use decide::operator::{CertPolicy, Config, Key, render, secret};
use jiff::Timestamp;
use kube_kit::operator::{Rendered, hash};
use serde_json::json;

use super::Operator;
use crate::certs;

impl Operator {
    /// Applies what is missing or differs; gives when certificates want care.
    pub(super) async fn apply(
        &mut self,
        kubevirt: &KubeVirt,
        config: &Config,
        policy: &CertPolicy,
        obsolete: &[Key],
    ) -> anyhow::Result<Timestamp> {
        let wanted = [certs::wanted(config, policy)];
        let kept = self
            .credentials
            .keep(
                &self.hand,
                &self.store,
                &config.namespace,
                &wanted,
                Timestamp::now(),
            )
            .await?;
        let input = input(kubevirt, config, &kept.bundles);
        if kept.write.is_empty() && obsolete.is_empty() && self.hand.settled(&self.store, input) {
            return Ok(kept.next);
        }
        let rendered = render(config, kubevirt, &kept.bundles.concat());
        let secrets = kept.write.iter();
        let rendered = Rendered {
            waves: [rendered.base, rendered.workloads],
            once: secrets
                .map(|(name, pair)| secret(config, name, &pair.certificate, &pair.key))
                .collect(),
        };
        self.hand.apply(&mut self.store, input, rendered).await?;
        self.hand.remove(&self.store, obsolete).await?;
        // What was rendered was the largest thing we ever hold.
        host::memory::give_back();
        Ok(kept.next)
    }

    /// The keys of everything that is rendered, and of the secrets.
    pub(super) fn wanted(
        &self,
        config: &Config,
        kubevirt: &KubeVirt,
        policy: &CertPolicy,
    ) -> BTreeSet<Key> {
        let input = input(kubevirt, config, self.credentials.bundles());
        let mut keys: BTreeSet<Key> = match self.hand.rendered(input) {
            Some(keys) => keys.cloned().collect(),
            None => render(config, kubevirt, "").all().map(Key::of).collect(),
        };
        let secrets = certs::wanted(config, policy);
        keys.extend(
            secrets
                .secrets()
                .map(|name| Key::namespaced("v1", "Secret", &config.namespace, name)),
        );
        keys
    }
}

/// A hash of everything that rendering depends on.
fn input(kubevirt: &KubeVirt, config: &Config, bundles: &[String]) -> u64 {
    hash(&json!([kubevirt.spec, config.deployment_id(), bundles]))
}
