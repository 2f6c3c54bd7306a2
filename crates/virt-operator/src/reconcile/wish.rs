//! What a KubeVirt object asks for, as [`kube_kit::operator`] wants to know it.

use api::KubeVirt;
use decide::operator::{CertPolicy, Config, ConfigError, cert_policy, render, secret};
use kube_kit::certs::Pair;
use kube_kit::operator;
use kube_kit::rotation::Authority;
use serde_json::{Value, json};

use crate::certs;

/// See the module.
pub(super) struct Wish<'a> {
    pub(super) config: &'a Config,
    pub(super) kubevirt: &'a KubeVirt,
    authorities: Vec<Authority>,
}

impl<'a> Wish<'a> {
    pub(super) fn new(
        config: &'a Config,
        kubevirt: &'a KubeVirt,
        policy: &Result<CertPolicy, ConfigError>,
    ) -> Self {
        // Which secrets there are does not depend on how long they live.
        let lives = policy
            .clone()
            .or_else(|_| cert_policy(&KubeVirt::default()));
        Self {
            config,
            kubevirt,
            authorities: lives
                .iter()
                .map(|lives| certs::wanted(config, lives))
                .collect(),
        }
    }
}

impl operator::Wish for Wish<'_> {
    fn input(&self) -> Value {
        json!([self.kubevirt.spec, self.config.deployment_id()])
    }

    fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    fn render(&self, bundles: &[String]) -> [Vec<Value>; 2] {
        let rendered = render(self.config, self.kubevirt, &bundles.concat());
        [rendered.base, rendered.workloads]
    }

    fn secret(&self, name: &str, pair: &Pair) -> Value {
        secret(self.config, name, &pair.certificate, &pair.key)
    }
}
