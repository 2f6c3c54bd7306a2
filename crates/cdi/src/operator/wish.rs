//! What a CDI object asks for, as [`kube_kit::operator`] wants to know it.

use api::cdi::{CDI, names};
use decide::cdi::operator::{Authority, Config, render, secret};
use decide::operator::Lifetime;
use kube_kit::certs::{Pair, Usage};
use kube_kit::operator;
use kube_kit::rotation::{self, Life};
use serde_json::{Value, json};

/// See the module.
pub(super) struct Wish<'a> {
    config: &'a Config,
    pub(super) cdi: &'a CDI,
    authorities: Vec<rotation::Authority>,
}

impl<'a> Wish<'a> {
    pub(super) fn new(
        config: &'a Config,
        cdi: &'a CDI,
        authorities: impl IntoIterator<Item = Authority>,
    ) -> Self {
        Self {
            config,
            cdi,
            authorities: authorities.into_iter().map(rotated).collect(),
        }
    }
}

impl operator::Wish for Wish<'_> {
    fn input(&self) -> Value {
        let config = self.config;
        json!([
            self.cdi.spec,
            config.namespace,
            config.version,
            config.image
        ])
    }

    fn authorities(&self) -> &[rotation::Authority] {
        &self.authorities
    }

    fn render(&self, bundles: &[String]) -> [Vec<Value>; 2] {
        let rendered = render(self.config, self.cdi, bundles);
        [rendered.base, rendered.workloads]
    }

    fn secret(&self, name: &str, pair: &Pair) -> Value {
        secret(self.config, name, &pair.certificate, &pair.key)
    }
}

/// An authority as those who rotate want it.
fn rotated(authority: Authority) -> rotation::Authority {
    let life = |life: Lifetime| Life {
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
