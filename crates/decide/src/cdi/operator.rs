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
//! The shape is that of virt-operator (`crate::operator`).

mod certificates;
mod endpoints;
mod rbac;
pub mod status;
mod webhooks;
mod workloads;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use api::cdi::{CDI, names};
use api::objects::{Key, Managed, first_to_go};
use serde_json::{Value, json};

pub use certificates::{Authority, Leaf, authorities};
pub use endpoints::api_service_names;
pub use workloads::DEPLOYMENTS;

/// Label by which the operator finds what it made.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Its value, and the operator's field manager.
pub const MANAGER: &str = "cdi-operator";
/// Strategy under which deletion waits for DataVolumes to go first.
pub const BLOCK_UNINSTALL: &str = "BlockUninstallIfWorkloadsExist";

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

/// Objects in the order in which they are applied: those of one wave at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// What pods and other objects need to be there: accounts, roles, CRDs,
    /// the authorities' bundles, the services.
    pub base: Vec<Value>,
    /// Role bindings, deployments, webhooks and aggregated APIs.
    pub workloads: Vec<Value>,
}

impl Rendered {
    /// Both waves, in order.
    pub fn all(&self) -> impl Iterator<Item = &Value> {
        self.base.iter().chain(&self.workloads)
    }
}

/// Everything but the certificates' secrets and the CDIConfig. `bundles` has
/// the PEM text of the authorities in use, in the order of [`authorities`];
/// missing ones are empty.
#[must_use]
pub fn render(config: &Config, cdi: &CDI, bundles: &[String]) -> Rendered {
    // A binding is refused until the API server's own cache knows its role.
    let (bindings, mut base): (Vec<Value>, Vec<Value>) =
        rbac::objects(config).into_iter().partition(|object| {
            object["kind"] == "ClusterRoleBinding" || object["kind"] == "RoleBinding"
        });
    // The CRD of CDI itself comes with the operator.
    base.extend(
        api::cdi::crds()
            .into_iter()
            .filter(|crd| crd["spec"]["names"]["kind"] != "CDI"),
    );
    base.extend(endpoints::services(config));
    base.extend(endpoints::bundles(config, bundles));
    let api_bundle = bundles.first().map_or("", String::as_str);
    let mut workloads = bindings;
    workloads.extend(workloads::objects(config, cdi));
    workloads.extend(endpoints::api_services(config, api_bundle));
    workloads.extend(webhooks::objects(config, api_bundle));
    for object in base.iter_mut().chain(&mut workloads) {
        finish(object, config);
    }
    Rendered { base, workloads }
}

/// The object of a certificate's secret, rendered like the others.
#[must_use]
pub fn secret(config: &Config, name: &str, certificate: &str, key: &str) -> Value {
    let mut object = endpoints::tls_secret(config, name, certificate, key);
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

/// What is there, as far as the next step depends on it.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Managed objects that exist.
    pub present: BTreeSet<Key>,
    /// Another CDI object owns the deployment.
    pub another_active: bool,
    /// DataVolumes exist. Only asked for at deletion.
    pub workloads_exist: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Another CDI object owns the deployment: say so and do nothing.
    Ignore,
    /// Put our finalizer on the object, so that its deletion waits for us.
    Adopt,
    /// Apply what is rendered; delete these, which are rendered no more.
    Install {
        /// Objects that earlier settings had made.
        obsolete: Vec<Key>,
    },
    /// Deletion waits until the user has deleted all DataVolumes.
    Blocked,
    /// Delete these and look again when they are gone.
    Remove(Vec<Key>),
    /// Nothing is left: take our finalizer off.
    Release,
    /// It is being deleted and is not ours any more.
    Nothing,
}

/// The next step for `cdi`, when `wanted` are the keys of what is rendered and
/// of the secrets.
#[must_use]
pub fn step(cdi: &CDI, observed: &Observed, wanted: &BTreeSet<Key>) -> Step {
    let finalizers = cdi.metadata.finalizers.as_ref();
    let finalized = finalizers.is_some_and(|list| list.iter().any(|n| n == names::CDI_FINALIZER));
    if cdi.metadata.deletion_timestamp.is_some() {
        return if finalized {
            removal(cdi, observed)
        } else {
            Step::Nothing
        };
    }
    if observed.another_active {
        return Step::Ignore;
    }
    if !finalized {
        return Step::Adopt;
    }
    Step::Install {
        obsolete: observed.present.difference(wanted).cloned().collect(),
    }
}

fn removal(cdi: &CDI, observed: &Observed) -> Step {
    if observed.another_active {
        return Step::Release;
    }
    let begun = cdi
        .status
        .as_ref()
        .is_some_and(|status| status.phase == status::DELETING);
    let blocks = cdi.spec.uninstall_strategy.as_deref() == Some(BLOCK_UNINSTALL);
    if blocks && !begun && observed.workloads_exist {
        return Step::Blocked;
    }
    let first = first_to_go(&MANAGED, observed.present.iter());
    if first.is_empty() {
        Step::Release
    } else {
        Step::Remove(first)
    }
}
