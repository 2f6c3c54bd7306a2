//! How a clone is made: by the storage's driver, of a snapshot, or by copying.
//!
//! Source of the order, the reasons and their sentences: CDI pkg/controller/clone
//! (planner.go) and pkg/storagecapabilities. One rule is stricter here: a driver that is
//! no CSI driver is never asked for a clone, for it would make an empty volume.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec};

use super::cluster::{Class, Cluster};
use super::size::{is_block, requested};

/// How drivers are best asked for clones, by provisioner.
/// Source: their documentation, as CDI pkg/storagecapabilities collects it.
const ADVISED: &[(&str, Wish)] = &[
    ("rbd.csi.ceph.com", Wish::CsiClone),
    ("rook-ceph.rbd.csi.ceph.com", Wish::CsiClone),
    ("openshift-storage.rbd.csi.ceph.com", Wish::CsiClone),
    ("cephfs.csi.ceph.com", Wish::CsiClone),
    ("rook-ceph.cephfs.csi.ceph.com", Wish::CsiClone),
    ("openshift-storage.cephfs.csi.ceph.com", Wish::CsiClone),
    ("csi-vxflexos.dellemc.com", Wish::CsiClone),
    ("csi-isilon.dellemc.com", Wish::CsiClone),
    ("csi-powermax.dellemc.com", Wish::CsiClone),
    ("csi-powerstore.dellemc.com", Wish::Copy),
    ("hspc.csi.hitachi.com", Wish::CsiClone),
    ("csi.hpe.com", Wish::CsiClone),
    ("spectrumscale.csi.ibm.com", Wish::CsiClone),
    ("block.csi.ibm.com", Wish::CsiClone),
    ("vpc.block.csi.ibm.io", Wish::Copy),
    ("vpc.file.csi.ibm.io", Wish::Snapshot),
    ("pxd.portworx.com", Wish::CsiClone),
    ("topolvm.cybozu.com", Wish::Copy),
    ("topolvm.io", Wish::Copy),
    ("infinibox-csi-driver", Wish::CsiClone),
    ("csi.trident.netapp.io", Wish::Snapshot),
    ("kubesan.gitlab.io", Wish::CsiClone),
    ("pd.csi.storage.gke.io", Wish::Snapshot),
    ("csi.san.synology.com", Wish::CsiClone),
    ("blockvolume.csi.oraclecloud.com", Wish::CsiClone),
];

/// How clones into a class shall be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A worker copies.
    Copy,
    /// A snapshot is taken, and restored.
    Snapshot,
    /// The driver clones.
    CsiClone,
}

impl Wish {
    /// The wish of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "copy" => Some(Self::Copy),
            "snapshot" => Some(Self::Snapshot),
            "csi-clone" => Some(Self::CsiClone),
            _ => None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Snapshot => "snapshot",
            Self::CsiClone => "csi-clone",
        }
    }
}

/// A VolumeSnapshotClass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotClass {
    /// Name.
    pub name: String,
    /// CSI driver that takes its snapshots.
    pub driver: String,
    /// The driver's default.
    pub default: bool,
}

/// Why a clone is a copy though something faster was wished for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Reason of the event.
    pub reason: &'static str,
    /// Sentence of the event and the annotation.
    pub message: &'static str,
}

const NO_SNAPSHOT_CLASS: Fallback = Fallback {
    reason: "NoVolumeSnapshotClass",
    message: "No compatible volumesnapshotclass found",
};
const PROVISIONERS: Fallback = Fallback {
    reason: "IncompatibleProvisioners",
    message: "Provisioners are incompatible",
};
const NO_MATCH: Fallback = Fallback {
    reason: "NoProvisionerMatch",
    message: "The storageclass provisioner does not match the volumesnapshotcontent driver",
};
const MODES: Fallback = Fallback {
    reason: "IncompatibleVolumeModes",
    message: "The volume modes of source and target are incompatible",
};
const NO_EXPANSION: Fallback = Fallback {
    reason: "NoVolumeExpansion",
    message: "No volume expansion is possible",
};

/// Ours: upstream gives a volume that was cloned in one namespace to a claim of another.
const NAMESPACES: Fallback = Fallback {
    reason: "IncompatibleNamespaces",
    message: "Source and target are in different namespaces",
};

/// How a clone is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// A worker copies, for this reason if something faster was wished for.
    Copy(Option<Fallback>),
    /// A snapshot of this class is taken, and restored.
    Snapshot(String),
    /// The driver clones.
    CsiClone,
}

/// How clones into `class` shall be made, whatever CDI's configuration overrides.
#[must_use]
pub fn of_class(class: &Class, cluster: &Cluster) -> Wish {
    let profile = cluster.profiles.get(&class.name);
    let said = profile.and_then(|profile| profile.spec.clone_strategy.as_deref());
    if let Some(wish) = said.or(class.clone_strategy.as_deref()).and_then(Wish::of) {
        return wish;
    }
    let snapshots = snapshot_class(class, cluster).is_some();
    let advised = ADVISED
        .iter()
        .find(|(name, _)| *name == class.provisioner)
        .map(|(_, wish)| *wish);
    match advised {
        None | Some(Wish::Snapshot) if !snapshots => Wish::Copy,
        None => Wish::Snapshot,
        Some(wish) => wish,
    }
}

/// How clones into `class` shall be made.
#[must_use]
pub fn wish(class: &Class, cluster: &Cluster) -> Wish {
    let all = cluster.clone_strategy.as_deref().and_then(Wish::of);
    all.unwrap_or_else(|| of_class(class, cluster))
}

/// Class of the snapshots of volumes of `class`: the profile's, the driver's default, or
/// the first by name.
#[must_use]
pub fn snapshot_class<'a>(class: &Class, cluster: &'a Cluster) -> Option<&'a str> {
    let profile = cluster.profiles.get(&class.name);
    let said = profile.and_then(|profile| profile.spec.snapshot_class.as_deref());
    let mut fitting: Vec<&SnapshotClass> = cluster
        .snapshot_classes
        .iter()
        .flatten()
        .filter(|snapshots| snapshots.driver == class.provisioner)
        .collect();
    fitting.sort_by_key(|snapshots| (!snapshots.default, snapshots.name.as_str()));
    match said {
        Some(said) => fitting.into_iter().find(|known| known.name == said),
        None => fitting.into_iter().next(),
    }
    .map(|snapshots| snapshots.name.as_str())
}

/// Why a clone into `class` of a claim of another namespace is a copy, if something faster was
/// wished for: drivers clone within a namespace.
#[must_use]
pub fn across(class: &Class, cluster: &Cluster) -> Option<Fallback> {
    (wish(class, cluster) != Wish::Copy).then_some(NAMESPACES)
}

/// How `target`, a claim of `class`, becomes a clone of `original`, whose volume is one of
/// the CSI driver `driver` (`None`: of no CSI driver).
#[must_use]
pub fn of_claim(
    target: &PersistentVolumeClaimSpec,
    class: &Class,
    original: &PersistentVolumeClaim,
    driver: Option<&str>,
    cluster: &Cluster,
) -> Strategy {
    let wish = wish(class, cluster);
    if wish == Wish::Copy {
        return Strategy::Copy(None);
    }
    let same_driver = driver == Some(class.provisioner.as_str());
    let snapshots = snapshot_class(class, cluster).filter(|_| same_driver);
    let fallback = if wish == Wish::Snapshot && snapshots.is_none() {
        Some(NO_SNAPSHOT_CLASS)
    } else if !same_driver {
        Some(PROVISIONERS)
    } else {
        unfit(target, class, original)
    };
    match (fallback, wish, snapshots) {
        (None, Wish::CsiClone, _) => Strategy::CsiClone,
        (None, _, Some(snapshots)) => Strategy::Snapshot(snapshots.to_owned()),
        (fallback, ..) => Strategy::Copy(fallback),
    }
}

/// Why a snapshot of driver `driver`, whose content `original` describes, cannot be
/// restored into `target`, a claim of `class`.
#[must_use]
pub fn of_snapshot(
    target: &PersistentVolumeClaimSpec,
    class: &Class,
    original: &PersistentVolumeClaim,
    driver: &str,
) -> Option<Fallback> {
    if driver != class.provisioner {
        return Some(NO_MATCH);
    }
    // Sizes go before modes, as upstream compares them.
    let unfit = unfit(target, class, original);
    if grows(target, original) && !class.expands {
        return Some(NO_EXPANSION);
    }
    unfit
}

/// What keeps a driver from making `target` out of `original`.
fn unfit(
    target: &PersistentVolumeClaimSpec,
    class: &Class,
    original: &PersistentVolumeClaim,
) -> Option<Fallback> {
    let block = original.spec.as_ref().is_some_and(is_block);
    if block != is_block(target) {
        Some(MODES)
    } else if grows(target, original) && !class.expands {
        Some(NO_EXPANSION)
    } else {
        None
    }
}

/// Bytes of a claim's volume, or those it asks for when it has none.
#[must_use]
pub fn capacity(claim: &PersistentVolumeClaim) -> u64 {
    let has = claim.status.as_ref().and_then(|status| {
        let storage = status.capacity.as_ref()?.get("storage")?;
        machine::quantity::bytes(storage).ok()
    });
    has.or_else(|| requested(claim.spec.as_ref()?))
        .unwrap_or_default()
}

/// Whether `target` is larger than the volume that it is cloned from.
#[must_use]
pub fn grows(target: &PersistentVolumeClaimSpec, original: &PersistentVolumeClaim) -> bool {
    capacity(original) < requested(target).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use api::cdi::{StorageProfile, StorageProfileSpec};
    use serde_json::json;

    const DRIVER: &str = "csi.example";

    fn class(provisioner: &str) -> Class {
        Class {
            name: "fast".to_owned(),
            provisioner: provisioner.to_owned(),
            ..Class::default()
        }
    }

    fn cluster(wish: Option<&str>, snapshot_class: Option<&str>) -> Cluster {
        let profile = StorageProfile {
            spec: StorageProfileSpec {
                clone_strategy: wish.map(str::to_owned),
                snapshot_class: snapshot_class.map(str::to_owned),
                ..StorageProfileSpec::default()
            },
            ..StorageProfile::default()
        };
        let snapshots = |name: &str, driver: &str, default| SnapshotClass {
            name: name.to_owned(),
            driver: driver.to_owned(),
            default,
        };
        Cluster {
            profiles: [("fast".to_owned(), profile)].into(),
            snapshot_classes: Some(vec![
                snapshots("a", DRIVER, false),
                snapshots("b", DRIVER, true),
                snapshots("c", "other.example", true),
            ]),
            ..Cluster::default()
        }
    }

    fn claim(mode: &str, size: &str, has: Option<&str>) -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": {"name": "golden", "namespace": "ns"},
            "spec": {"volumeMode": mode, "resources": {"requests": {"storage": size}}},
            "status": has.map(|has| json!({"phase": "Bound", "capacity": {"storage": has}})),
        }))
        .unwrap()
    }

    #[test]
    fn a_class_wishes_what_is_said_then_what_is_known_then_what_it_offers() {
        let none = Cluster::default();
        let cases = [
            ("rbd.csi.ceph.com", &none, Wish::CsiClone),
            // A driver that is best snapshotted needs a class for that.
            ("pd.csi.storage.gke.io", &none, Wish::Copy),
            ("topolvm.io", &none, Wish::Copy),
            (DRIVER, &none, Wish::Copy),
            (DRIVER, &cluster(None, None), Wish::Snapshot),
            ("third.example", &cluster(None, None), Wish::Copy),
            (DRIVER, &cluster(Some("csi-clone"), None), Wish::CsiClone),
            ("rbd.csi.ceph.com", &cluster(Some("copy"), None), Wish::Copy),
        ];
        for (provisioner, cluster, expected) in cases {
            assert_eq!(
                of_class(&class(provisioner), cluster),
                expected,
                "{provisioner}"
            );
        }
        let mut annotated = class(DRIVER);
        annotated.clone_strategy = Some("csi-clone".to_owned());
        assert_eq!(of_class(&annotated, &cluster(None, None)), Wish::CsiClone);
        let mut overridden = cluster(Some("snapshot"), None);
        overridden.clone_strategy = Some("copy".to_owned());
        assert_eq!(wish(&class(DRIVER), &overridden), Wish::Copy);
        assert_eq!(of_class(&class(DRIVER), &overridden), Wish::Snapshot);
    }

    #[test]
    fn snapshots_are_of_the_profiles_class_or_of_the_drivers_default() {
        let find = |said: Option<&str>, driver: &str| {
            let cluster = cluster(None, said);
            snapshot_class(&class(driver), &cluster).map(str::to_owned)
        };
        assert_eq!(find(None, DRIVER).as_deref(), Some("b"));
        assert_eq!(find(Some("a"), DRIVER).as_deref(), Some("a"));
        assert_eq!(find(Some("c"), DRIVER), None);
        assert_eq!(find(None, "third.example"), None);
    }

    #[test]
    fn what_a_driver_cannot_clone_is_copied_and_the_reason_told() {
        let copy = |reason: &str| Err(reason.to_owned());
        let csi = || Ok(Strategy::CsiClone);
        let snapshot = || Ok(Strategy::Snapshot("b".to_owned()));
        let gib = Some("1Gi");
        // Wish, driver of the original, mode and size of the target, whether the class expands.
        let cases = [
            ("csi-clone", Some(DRIVER), "Filesystem", "1Gi", false, csi()),
            (
                "snapshot",
                Some(DRIVER),
                "Filesystem",
                "1Gi",
                false,
                snapshot(),
            ),
            (
                "snapshot",
                Some(DRIVER),
                "Filesystem",
                "2Gi",
                true,
                snapshot(),
            ),
            ("csi-clone", Some(DRIVER), "Filesystem", "2Gi", true, csi()),
            (
                "csi-clone",
                Some(DRIVER),
                "Filesystem",
                "2Gi",
                false,
                copy("NoVolumeExpansion"),
            ),
            (
                "snapshot",
                Some(DRIVER),
                "Filesystem",
                "2Gi",
                false,
                copy("NoVolumeExpansion"),
            ),
            (
                "csi-clone",
                Some(DRIVER),
                "Block",
                "1Gi",
                true,
                copy("IncompatibleVolumeModes"),
            ),
            (
                "csi-clone",
                Some("other.example"),
                "Filesystem",
                "1Gi",
                true,
                copy("IncompatibleProvisioners"),
            ),
            (
                "csi-clone",
                None,
                "Filesystem",
                "1Gi",
                true,
                copy("IncompatibleProvisioners"),
            ),
            (
                "snapshot",
                Some("other.example"),
                "Filesystem",
                "1Gi",
                true,
                copy("NoVolumeSnapshotClass"),
            ),
            (
                "snapshot",
                None,
                "Filesystem",
                "1Gi",
                true,
                copy("NoVolumeSnapshotClass"),
            ),
        ];
        for (wish, driver, mode, size, expands, expected) in cases {
            let class = Class {
                expands,
                ..class(DRIVER)
            };
            let target = claim(mode, size, None).spec.unwrap();
            let original = claim("Filesystem", "1Gi", gib);
            let strategy = of_claim(
                &target,
                &class,
                &original,
                driver,
                &cluster(Some(wish), None),
            );
            let found = match strategy {
                Strategy::Copy(fallback) => Err(fallback.unwrap().reason.to_owned()),
                other => Ok(other),
            };
            assert_eq!(found, expected, "{wish} {driver:?} {mode} {size} {expands}");
        }
        let original = claim("Filesystem", "1Gi", gib);
        let target = claim("Block", "9Gi", None).spec.unwrap();
        let wanted = of_claim(
            &target,
            &class(DRIVER),
            &original,
            None,
            &cluster(Some("copy"), None),
        );
        assert_eq!(wanted, Strategy::Copy(None));
    }

    #[test]
    fn a_snapshot_is_restored_where_driver_size_and_mode_fit() {
        let reason = |driver: &str, mode: &str, size: &str| {
            let target = claim(mode, size, None).spec.unwrap();
            let original = claim("Filesystem", "1Gi", None);
            of_snapshot(&target, &class(DRIVER), &original, driver).map(|why| why.reason)
        };
        assert_eq!(reason(DRIVER, "Filesystem", "1Gi"), None);
        assert_eq!(
            reason("other.example", "Filesystem", "1Gi"),
            Some("NoProvisionerMatch")
        );
        assert_eq!(
            reason(DRIVER, "Block", "1Gi"),
            Some("IncompatibleVolumeModes")
        );
        assert_eq!(reason(DRIVER, "Block", "2Gi"), Some("NoVolumeExpansion"));
    }

    #[test]
    fn the_size_of_an_original_is_what_it_has_not_what_it_asked_for() {
        let original = claim("Filesystem", "1Gi", Some("2Gi"));
        let target = claim("Filesystem", "2Gi", None).spec.unwrap();
        assert!(!grows(&target, &original));
        assert!(grows(&target, &claim("Filesystem", "1Gi", None)));
    }
}
