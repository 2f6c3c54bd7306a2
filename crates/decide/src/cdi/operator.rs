//! What cdi-operator does: a CDI object and what is there, in; the objects to
//! apply and delete and the new status, out.
//!
//! ```text
//!            no finalizer            all applied, all ready
//!   (new) ──► adopt ──► Deploying ──────────────────────────► Deployed
//!                                       another version ──► Upgrading ──┘
//!   deleted ──► Deleting: webhooks and APIServices ──► CRDs (their objects go
//!               while the controllers still run) ──► the rest ──► Deleted
//!   a setting that cannot be, a second CDI object ──► Error
//! ```
//! The shape is that of virt-operator (`crate::operate`).

mod certificates;
mod endpoints;
mod rbac;
pub mod status;
mod webhooks;
mod workloads;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use api::cdi::{CDI, CdiStatus, names};
use api::objects::{Key, Managed};
use serde_json::{Value, json};

use crate::operate::Owner;
use crate::operate::reach::tls_secret;
pub use crate::operate::{BLOCK_UNINSTALL, MANAGED_BY_LABEL, Observed, Rendered, Step};
pub use certificates::{Authority, Leaf, authorities};
pub use endpoints::api_service_names;
pub use workloads::DEPLOYMENTS;

/// Value of [`MANAGED_BY_LABEL`], and the operator's field manager.
pub const MANAGER: &str = "cdi-operator";

/// What the operator was started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Namespace of the operator and of everything namespaced it makes.
    pub namespace: String,
    /// Version of the operator, and so of what it installs, as in `v0.1.0`.
    pub version: String,
    /// Image of all programs of CDI, and of worker pods.
    pub image: String,
}

/// Every kind of object that [`render`] makes. Webhooks and aggregated APIs go
/// first, so that nothing waits for a server that is gone; then the CRDs, while
/// the controllers still run to finish their objects; then the rest.
pub const MANAGED: [Managed; 13] = [
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
    Managed::namespaced("v1", "Service", 2),
    Managed::namespaced("v1", "ConfigMap", 2),
    Managed::namespaced("v1", "Secret", 2),
    Managed::namespaced("rbac.authorization.k8s.io/v1", "RoleBinding", 2),
    Managed::namespaced("rbac.authorization.k8s.io/v1", "Role", 2),
    Managed::cluster("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", 2),
    Managed::cluster("rbac.authorization.k8s.io/v1", "ClusterRole", 2),
    Managed::namespaced("v1", "ServiceAccount", 2),
];

/// Everything but the certificates' secrets and the CDIConfig. `bundles` has
/// the PEM text of the authorities in use, in the order of [`authorities`];
/// missing ones are empty.
#[must_use]
pub fn render(config: &Config, cdi: &CDI, bundles: &[String]) -> Rendered {
    let mut base = rbac::objects(config);
    // The CRD of CDI itself comes with the operator.
    base.extend(
        api::cdi::crds()
            .into_iter()
            .filter(|crd| crd["spec"]["names"]["kind"] != "CDI"),
    );
    base.extend(endpoints::services(config));
    base.extend(endpoints::bundles(config, bundles));
    let server = endpoints::server(config, bundles.first().map_or("", String::as_str));
    let mut workloads = workloads::objects(config, cdi);
    workloads.extend(endpoints::api_services(&server));
    workloads.extend(webhooks::objects(config, &server));
    Rendered::new(base, workloads).finished(|object| finish(object, config))
}

/// The object of a certificate's secret, rendered like the others.
#[must_use]
pub fn secret(config: &Config, name: &str, certificate: &str, key: &str) -> Value {
    let mut object = tls_secret(&config.namespace, name, certificate, key);
    finish(&mut object, config);
    object
}

/// The CDIConfig: settings for all of CDI, from the CDI object's `spec.config`.
/// Applied when its CRD is; removed with it.
#[must_use]
pub fn cdi_config(config: &Config, cdi: &CDI) -> Value {
    let mut object = json!({
        "apiVersion": names::API_VERSION, "kind": "CDIConfig",
        "metadata": { "name": names::CONFIG },
        "spec": cdi.spec.config.clone().unwrap_or_default()
    });
    // The last field of a map that was applied and then is not leaves `null`, which the schema
    // refuses. A list that is always there keeps the map.
    let registries = &mut object["spec"]["insecureRegistries"];
    if registries.is_null() {
        *registries = json!([]);
    }
    finish(&mut object, config);
    object
}

/// Labels that every managed object carries.
/// Source: CDI pkg/operator/resources/utils.
fn finish(object: &mut Value, config: &Config) {
    let labels = &mut object["metadata"]["labels"];
    labels[MANAGED_BY_LABEL] = json!(MANAGER);
    labels["app.kubernetes.io/component"] = json!("storage");
    labels["app.kubernetes.io/version"] = json!(config.version);
    if labels[names::COMPONENT_LABEL].is_null() {
        labels[names::COMPONENT_LABEL] = json!("");
    }
}

/// The next step for `cdi`, when `wanted` are the keys of what is rendered and
/// of the secrets.
#[must_use]
pub fn step(cdi: &CDI, observed: &Observed, wanted: &BTreeSet<Key>) -> Step {
    let begun = |status: &CdiStatus| status.phase == status::DELETING;
    Owner {
        metadata: &cdi.metadata,
        finalizer: names::CDI_FINALIZER,
        strategy: cdi.spec.uninstall_strategy.as_deref(),
        begun: cdi.status.as_ref().is_some_and(begun),
        managed: &MANAGED,
    }
    .step(observed, wanted)
}
