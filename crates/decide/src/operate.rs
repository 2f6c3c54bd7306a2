//! What operators have in common: the steps of an owner's life, and objects
//! that both render in the same way.
//!
//! virt-operator ([`crate::operator`]) and cdi-operator
//! ([`crate::cdi::operator`]) say which objects, in which order and under which
//! names.

#[cfg(test)]
pub(crate) mod checks;
pub(crate) mod pods;
pub(crate) mod rbac;
pub(crate) mod reach;

use std::collections::BTreeSet;

use api::objects::{Key, Managed, first_to_go};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

/// Label by which an operator finds what it made; its value is the operator's
/// name, and its field manager.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Strategy under which deletion waits for what users made to go first.
pub const BLOCK_UNINSTALL: &str = "BlockUninstallIfWorkloadsExist";

/// Objects in the order in which they are applied: those of one wave at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// What pods and other objects need to be there: accounts, roles, CRDs,
    /// the authorities' bundles, the services.
    pub base: Vec<Value>,
    /// Role bindings, what makes pods, webhooks and aggregated APIs.
    pub workloads: Vec<Value>,
}

impl Rendered {
    /// Of `base`, in which role bindings may be, and `workloads`. A binding is
    /// refused until the API server's own cache knows its role.
    pub(crate) fn new(base: Vec<Value>, workloads: Vec<Value>) -> Self {
        let (mut bindings, base): (Vec<Value>, Vec<Value>) = base.into_iter().partition(|object| {
            object["kind"] == "ClusterRoleBinding" || object["kind"] == "RoleBinding"
        });
        bindings.extend(workloads);
        Self {
            base,
            workloads: bindings,
        }
    }

    /// With `finish` done to every object.
    pub(crate) fn finished(mut self, finish: impl Fn(&mut Value)) -> Self {
        let all = self.base.iter_mut().chain(&mut self.workloads);
        all.for_each(finish);
        self
    }

    /// Both waves, in order.
    pub fn all(&self) -> impl Iterator<Item = &Value> {
        self.base.iter().chain(&self.workloads)
    }
}

/// What is there, as far as the next step depends on it.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Managed objects that exist.
    pub present: BTreeSet<Key>,
    /// Another owner has been deployed before this one.
    pub another_active: bool,
    /// The owner is not in the operator's namespace. Never so for a kind that
    /// belongs to the cluster.
    pub misplaced: bool,
    /// What users made exists. Only asked for at deletion.
    pub workloads_exist: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Another owner has the deployment, or this one is misplaced: say so and
    /// do nothing.
    Ignore,
    /// Put our finalizer on the owner, so that its deletion waits for us.
    Adopt,
    /// Apply what is rendered; delete these, which are rendered no more.
    Install {
        /// Objects that earlier settings had made.
        obsolete: Vec<Key>,
    },
    /// Deletion waits until users have deleted all that they made.
    Blocked,
    /// Delete these and look again when they are gone.
    Remove(Vec<Key>),
    /// Nothing is left: take our finalizer off.
    Release,
    /// It is being deleted and is not ours any more.
    Nothing,
}

/// What a step depends on, of an owner.
pub(crate) struct Owner<'a> {
    pub(crate) metadata: &'a ObjectMeta,
    /// Our finalizer.
    pub(crate) finalizer: &'static str,
    /// Its `spec.uninstallStrategy`.
    pub(crate) strategy: Option<&'a str>,
    /// Whether its status says that deletion has begun.
    pub(crate) begun: bool,
    /// What we make for it.
    pub(crate) managed: &'static [Managed],
}

impl Owner<'_> {
    /// The next step, when `wanted` are the keys of what is rendered and of the
    /// secrets.
    pub(crate) fn step(&self, observed: &Observed, wanted: &BTreeSet<Key>) -> Step {
        let mut finalizers = self.metadata.finalizers.iter().flatten();
        let finalized = finalizers.any(|name| name == self.finalizer);
        if self.metadata.deletion_timestamp.is_some() {
            return if finalized {
                self.removal(observed)
            } else {
                Step::Nothing
            };
        }
        if observed.misplaced || observed.another_active {
            return Step::Ignore;
        }
        if !finalized {
            return Step::Adopt;
        }
        Step::Install {
            obsolete: observed.present.difference(wanted).cloned().collect(),
        }
    }

    fn removal(&self, observed: &Observed) -> Step {
        if observed.another_active {
            return Step::Release;
        }
        let blocks = self.strategy == Some(BLOCK_UNINSTALL);
        if blocks && !self.begun && observed.workloads_exist {
            return Step::Blocked;
        }
        let first = first_to_go(self.managed, observed.present.iter());
        if first.is_empty() {
            Step::Release
        } else {
            Step::Remove(first)
        }
    }
}
