//! What decisions about volumes need to know of the whole cluster: storage
//! classes, their profiles, and how CDI is configured.

use std::collections::BTreeMap;

use api::cdi::names::annotations;
use api::cdi::{CdiConfigSpec, CdiNodePlacement, ClaimPropertySet, StorageProfile};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::size::Overhead;
use super::strategy::SnapshotClass;

/// Feature gate: claims of classes that wait for their first consumer are left to wait.
pub const HONOR_GATE: &str = "HonorWaitForFirstConsumer";

/// A storage class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Class {
    /// Name.
    pub name: String,
    /// Uid, for owner references.
    pub uid: String,
    /// Who makes its volumes.
    pub provisioner: String,
    /// Volumes are made when a pod that uses them is placed.
    pub waits: bool,
    /// Claims may grow.
    pub expands: bool,
    /// How clones shall be made, as an annotation says it.
    pub clone_strategy: Option<String>,
    /// Claims without a class get this one.
    pub default: bool,
    /// Disks of virtual machines without a class get this one.
    pub default_virt: bool,
    /// The youngest of several defaults holds.
    pub created: Option<Time>,
}

impl From<&StorageClass> for Class {
    fn from(class: &StorageClass) -> Self {
        let marked = |name: &str| {
            let annotations = class.metadata.annotations.as_ref();
            annotations
                .and_then(|all| all.get(name))
                .map(String::as_str)
                == Some("true")
        };
        Self {
            name: class.metadata.name.clone().unwrap_or_default(),
            uid: class.metadata.uid.clone().unwrap_or_default(),
            provisioner: class.provisioner.clone(),
            waits: class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
            expands: class.allow_volume_expansion == Some(true),
            clone_strategy: class
                .metadata
                .annotations
                .as_ref()
                .and_then(|all| all.get(annotations::CLASS_CLONE_STRATEGY).cloned()),
            default: marked(annotations::DEFAULT_CLASS),
            default_virt: marked(annotations::DEFAULT_VIRT_CLASS),
            created: class.metadata.creation_timestamp.clone(),
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    /// Storage classes by name.
    pub classes: BTreeMap<String, Class>,
    /// Storage profiles by name.
    pub profiles: BTreeMap<String, StorageProfile>,
    /// What the administrator configured.
    pub config: CdiConfigSpec,
    /// Where worker pods may run.
    pub placement: CdiNodePlacement,
    /// How clones shall be made, whatever the profiles say.
    pub clone_strategy: Option<String>,
    /// Classes of volume snapshots; `None` until somebody has looked.
    pub snapshot_classes: Option<Vec<SnapshotClass>>,
    /// Image of the workers.
    pub worker_image: String,
    /// Pull policy of [`Cluster::worker_image`].
    pub pull_policy: Option<String>,
    /// Namespace of CDI's own programs.
    pub namespace: String,
}

impl Cluster {
    /// The class of a claim that names `name`: that one, or the default. `None` when
    /// there is no such class, or the claim wants none (an empty name).
    #[must_use]
    pub fn class(&self, name: Option<&str>, disk: bool) -> Option<&Class> {
        let youngest = |pick: fn(&Class) -> bool| {
            self.classes
                .values()
                .filter(|class| pick(class))
                .max_by_key(|class| class.created.as_ref().map(|at| at.0))
        };
        match name {
            Some(name) => self.classes.get(name),
            None if disk => youngest(|c| c.default_virt).or_else(|| youngest(|c| c.default)),
            None => youngest(|c| c.default),
        }
    }

    /// Share that the file system of a volume of class `name` needs.
    #[must_use]
    pub fn overhead(&self, name: Option<&str>) -> Overhead {
        if name == Some("") {
            return Overhead::NONE;
        }
        let configured = self.config.filesystem_overhead.as_ref();
        let class = name.or_else(|| self.class(None, false).map(|class| class.name.as_str()));
        let of_class = class
            .and_then(|class| configured?.storage_class.get(class))
            .and_then(|text| Overhead::parse(text));
        of_class
            .or_else(|| Overhead::parse(configured?.global.as_deref()?))
            .unwrap_or(Overhead::DEFAULT)
    }

    /// Modes that work with class `name`, best first: the administrator's, else those known.
    #[must_use]
    pub fn modes(&self, name: &str) -> Vec<ClaimPropertySet> {
        let spec = self.profiles.get(name).map(|profile| &profile.spec);
        match spec {
            Some(spec) if !spec.claim_property_sets.is_empty() => spec.claim_property_sets.clone(),
            _ => self
                .classes
                .get(name)
                .map(|class| super::profile::known(&class.provisioner))
                .unwrap_or_default(),
        }
    }

    /// No claim of class `name` may be smaller than this many bytes.
    #[must_use]
    pub fn minimum(&self, name: &str) -> u64 {
        let profile = self.profiles.get(name);
        let annotations = profile.and_then(|profile| profile.metadata.annotations.as_ref());
        annotations
            .and_then(|all| all.get(annotations::MINIMUM_SIZE))
            .and_then(|text| machine::quantity::parse(text).ok())
            .unwrap_or(0)
    }

    /// Whether a feature gate is on.
    #[must_use]
    pub fn gate(&self, name: &str) -> bool {
        self.config.feature_gates.iter().any(|gate| gate == name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use api::cdi::FilesystemOverhead;

    fn class(name: &str, default: bool, default_virt: bool) -> (String, Class) {
        let class = Class {
            name: name.to_owned(),
            default,
            default_virt,
            ..Class::default()
        };
        (name.to_owned(), class)
    }

    #[test]
    fn disks_prefer_the_default_class_of_virtual_machines() {
        let cluster = Cluster {
            classes: [
                class("a", true, false),
                class("b", false, true),
                class("c", false, false),
            ]
            .into(),
            ..Cluster::default()
        };
        let name = |name, disk| cluster.class(name, disk).map(|class| class.name.as_str());
        assert_eq!(name(None, true), Some("b"));
        assert_eq!(name(None, false), Some("a"));
        assert_eq!(name(Some("c"), true), Some("c"));
        assert_eq!(name(Some("d"), true), None);
        assert_eq!(name(Some(""), true), None);
    }

    #[test]
    fn overhead_is_the_classes_then_everybodys_then_six_percent() {
        let mut cluster = Cluster {
            classes: [class("a", true, false)].into(),
            ..Cluster::default()
        };
        assert_eq!(cluster.overhead(Some("a")), Overhead::DEFAULT);
        cluster.config.filesystem_overhead = Some(FilesystemOverhead {
            global: Some("0.1".to_owned()),
            storage_class: [("a".to_owned(), "0.2".to_owned())].into(),
        });
        assert_eq!(cluster.overhead(Some("b")).text(), "0.1");
        assert_eq!(cluster.overhead(None).text(), "0.2");
        assert_eq!(cluster.overhead(Some("")), Overhead::NONE);
    }
}
