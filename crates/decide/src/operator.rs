//! What virt-operator does: a KubeVirt object and what is there, in; the
//! objects to apply and delete and the new status, out.
//!
//! ```text
//!            no finalizer            all applied, all ready
//!   (new) ──► adopt ──► Deploying ──────────────────────────► Deployed
//!                           ▲      rendered set changed, drift    │
//!                           └─────────────────────────────────────┘
//!   deleted ──► Deleting: webhooks and APIServices ──► CRDs (their objects go
//!               while the controllers still run) ──► the rest ──► Deleted
//! ```
//! Rendering ([`render`]), the next step ([`step`]) and the status
//! ([`status::next`]) are separate functions: the operator applies what a step
//! says and tells what came of it in the status.

pub(crate) mod config;
mod endpoints;
mod meta;
mod rbac;
pub mod status;
mod webhooks;
mod workloads;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use api::KubeVirt;
use api::kubevirt::KubeVirtStatus;
use api::names;
pub use api::objects::{Key, Managed};
use serde_json::Value;

use crate::operate::Owner;
use crate::operate::reach::tls_secret;
pub use crate::operate::{BLOCK_UNINSTALL, MANAGED_BY_LABEL, Observed, Rendered, Step};
pub use config::{CertPolicy, Config, ConfigError, Lifetime, cert_policy};
pub use meta::MANAGER;
pub use workloads::{API, CONTROLLER, HANDLER};

/// Every kind of object that [`render`] makes. Webhooks and aggregated APIs go
/// first, so that nothing waits for a server that is gone; then the CRDs, while
/// the controllers still run to finish their objects; then the rest.
pub const MANAGED: [Managed; 15] = [
    Managed::cluster(
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        0,
    ),
    Managed::cluster(
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        0,
    ),
    Managed::cluster("apiregistration.k8s.io/v1", "APIService", 0),
    Managed::cluster("apiextensions.k8s.io/v1", "CustomResourceDefinition", 1),
    Managed::namespaced("apps/v1", "Deployment", 2),
    Managed::namespaced("apps/v1", "DaemonSet", 2),
    Managed::namespaced("policy/v1", "PodDisruptionBudget", 2),
    Managed::namespaced("v1", "Service", 2),
    Managed::namespaced("v1", "ConfigMap", 2),
    Managed::namespaced("v1", "Secret", 2),
    Managed::namespaced("rbac.authorization.k8s.io/v1", "RoleBinding", 2),
    Managed::namespaced("rbac.authorization.k8s.io/v1", "Role", 2),
    Managed::cluster("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", 2),
    Managed::cluster("rbac.authorization.k8s.io/v1", "ClusterRole", 2),
    Managed::namespaced("v1", "ServiceAccount", 2),
];

/// Everything but the certificates' secrets. `ca_bundle` is the PEM text of all
/// authorities whose certificates are in use.
#[must_use]
pub fn render(config: &Config, kubevirt: &KubeVirt, ca_bundle: &str) -> Rendered {
    let mut base = rbac::objects(config);
    base.extend(
        api::schema::crds()
            .into_iter()
            .filter(|crd| crd["spec"]["names"]["kind"] != "KubeVirt"),
    );
    base.push(endpoints::service(config));
    base.push(endpoints::ca_config_map(config, ca_bundle));
    let server = endpoints::server(config, ca_bundle);
    let mut workloads = workloads::objects(config, kubevirt);
    workloads.extend(server.api_services(names::SUBRESOURCE_GROUP, &names::SUBRESOURCE_VERSIONS));
    workloads.extend(webhooks::objects(config, &server));
    Rendered::new(base, workloads).finished(|object| meta::finish(object, config))
}

/// The object of a certificate's secret, rendered like the others.
#[must_use]
pub fn secret(config: &Config, name: &str, certificate: &str, key: &str) -> Value {
    let mut object = tls_secret(&config.namespace, name, certificate, key);
    meta::finish(&mut object, config);
    object
}

/// The next step for `kubevirt`, when `wanted` are the keys of what is rendered
/// and of the secrets.
#[must_use]
pub fn step(kubevirt: &KubeVirt, observed: &Observed, wanted: &BTreeSet<Key>) -> Step {
    let begun = |status: &KubeVirtStatus| status.phase == status::DELETING;
    Owner {
        metadata: &kubevirt.metadata,
        finalizer: names::KUBEVIRT_FINALIZER,
        strategy: kubevirt.spec.uninstall_strategy.as_deref(),
        begun: kubevirt.status.as_ref().is_some_and(begun),
        managed: &MANAGED,
    }
    .step(observed, wanted)
}
