//! The certificates of all components, and how long they live.

use decide::operator::{CertPolicy, Config, Lifetime};
use kube_kit::certs::Usage;
use kube_kit::rotation::{Authority, Leaf, Life};

/// Secret of the authority, and ConfigMap of all authorities in use.
const AUTHORITY: &str = "kubevirt-ca";

/// The one authority and what it signs. Names are upstream's.
pub(crate) fn wanted(config: &Config, policy: &CertPolicy) -> Authority {
    let namespace = &config.namespace;
    let leaf = |secret, common_name: String, dns_names, usage| Leaf {
        secret,
        common_name,
        dns_names,
        usage,
        life: life(policy.leaf),
    };
    Authority {
        secret: AUTHORITY,
        common_name: "kubevirt.io",
        bundle: (AUTHORITY, "ca-bundle"),
        life: life(policy.authority),
        leaves: vec![
            leaf(
                "kubevirt-virt-api-certs",
                format!("virt-api.{namespace}.pod.cluster.local"),
                vec![
                    format!("virt-api.{namespace}.svc"),
                    format!("virt-api.{namespace}.svc.cluster.local"),
                    format!("virt-api.{namespace}.pod.cluster.local"),
                ],
                Usage::Server,
            ),
            leaf(
                "kubevirt-virt-handler-server-certs",
                "kubevirt.io:system:node:virt-handler".to_owned(),
                Vec::new(),
                Usage::Server,
            ),
            leaf(
                "kubevirt-virt-handler-certs",
                "kubevirt.io:system:client:virt-handler".to_owned(),
                Vec::new(),
                Usage::Client,
            ),
        ],
    }
}

fn life(lifetime: Lifetime) -> Life {
    Life {
        duration: lifetime.duration,
        renew_before: lifetime.renew_before,
    }
}
