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
use api::names;
use api::objects::first_to_go;
pub use api::objects::{Key, Managed};
use serde_json::Value;

pub use config::{CertPolicy, Config, ConfigError, Lifetime, cert_policy};
pub use meta::{MANAGED_BY_LABEL, MANAGER};
pub use workloads::{API, CONTROLLER, HANDLER};

/// Strategy under which deletion waits for virtual machines to go first.
pub const BLOCK_UNINSTALL: &str = "BlockUninstallIfWorkloadsExist";

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

/// Objects in the order in which they are applied: those of one wave at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// What pods and other objects need to be there: accounts, roles, CRDs,
    /// the authorities' bundle, the service.
    pub base: Vec<Value>,
    /// Role bindings, deployments, the daemon set, webhooks and aggregated APIs.
    pub workloads: Vec<Value>,
}

impl Rendered {
    /// Both waves, in order.
    pub fn all(&self) -> impl Iterator<Item = &Value> {
        self.base.iter().chain(&self.workloads)
    }
}

/// Everything but the certificates' secrets. `ca_bundle` is the PEM text of all
/// authorities whose certificates are in use.
#[must_use]
pub fn render(config: &Config, kubevirt: &KubeVirt, ca_bundle: &str) -> Rendered {
    // A binding is refused until the API server's own cache knows its role.
    let (bindings, mut base): (Vec<Value>, Vec<Value>) =
        rbac::objects(config).into_iter().partition(|object| {
            object["kind"] == "ClusterRoleBinding" || object["kind"] == "RoleBinding"
        });
    base.extend(
        api::schema::crds()
            .into_iter()
            .filter(|crd| crd["spec"]["names"]["kind"] != "KubeVirt"),
    );
    base.push(endpoints::service(config));
    base.push(endpoints::ca_config_map(config, ca_bundle));
    let mut workloads = bindings;
    workloads.extend(workloads::objects(config, kubevirt));
    workloads.extend(endpoints::api_services(config, ca_bundle));
    workloads.extend(webhooks::objects(config, ca_bundle));
    for object in base.iter_mut().chain(&mut workloads) {
        meta::finish(object, config);
    }
    Rendered { base, workloads }
}

/// The object of a certificate's secret, rendered like the others.
#[must_use]
pub fn secret(config: &Config, name: &str, certificate: &str, key: &str) -> Value {
    let mut object = endpoints::tls_secret(config, name, certificate, key);
    meta::finish(&mut object, config);
    object
}

/// What is there, as far as the next step depends on it.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Managed objects that exist.
    pub present: BTreeSet<Key>,
    /// Another KubeVirt object has been deployed before this one.
    pub another_active: bool,
    /// The object is not in the operator's namespace.
    pub misplaced: bool,
    /// Virtual machines or instances exist. Only asked for at deletion.
    pub workloads_exist: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Another KubeVirt object owns the deployment: say so and do nothing.
    Ignore,
    /// The object is in another namespace than the operator: say so and do
    /// nothing. Components look for it in theirs.
    Misplaced,
    /// Put our finalizer on the object, so that its deletion waits for us.
    Adopt,
    /// Apply what is rendered; delete these, which are rendered no more.
    Install {
        /// Objects that earlier settings had made.
        obsolete: Vec<Key>,
    },
    /// Deletion waits until the user has deleted all virtual machines.
    Blocked,
    /// Delete these and look again when they are gone.
    Remove(Vec<Key>),
    /// Nothing is left: take our finalizer off.
    Release,
    /// It is being deleted and is not ours any more.
    Nothing,
}

/// The next step for `kubevirt`, when `wanted` are the keys of what is rendered
/// and of the secrets.
#[must_use]
pub fn step(kubevirt: &KubeVirt, observed: &Observed, wanted: &BTreeSet<Key>) -> Step {
    let finalized = kubevirt
        .metadata
        .finalizers
        .as_ref()
        .is_some_and(|list| list.iter().any(|name| name == names::KUBEVIRT_FINALIZER));
    if kubevirt.metadata.deletion_timestamp.is_some() {
        return if finalized {
            removal(kubevirt, observed)
        } else {
            Step::Nothing
        };
    }
    if observed.misplaced {
        return Step::Misplaced;
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

fn removal(kubevirt: &KubeVirt, observed: &Observed) -> Step {
    if observed.another_active {
        return Step::Release;
    }
    let begun = kubevirt
        .status
        .as_ref()
        .is_some_and(|status| status.phase == status::DELETING);
    let blocks = kubevirt.spec.uninstall_strategy.as_deref() == Some(BLOCK_UNINSTALL);
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
