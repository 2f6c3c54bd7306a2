//! Storage profiles: what is known of provisioners, and the profile of a class.
//!
//! Source of the provisioners' capabilities: their own documentation, as CDI
//! pkg/storagecapabilities collects it.

use api::Condition;
use api::cdi::names::{API_VERSION, APP, APP_LABEL, COMPONENT_LABEL};
use api::cdi::{ClaimPropertySet, StorageProfileStatus};
use serde_json::{Value, json};

use super::cluster::{Class, Cluster};
use super::strategy;

/// Access and volume mode.
type Mode = (&'static str, &'static str);

const RWX_BLOCK: Mode = ("ReadWriteMany", "Block");
const RWO_BLOCK: Mode = ("ReadWriteOnce", "Block");
const RWX_FILE: Mode = ("ReadWriteMany", "Filesystem");
const RWO_FILE: Mode = ("ReadWriteOnce", "Filesystem");

/// Modes that work with a provisioner, best first.
const KNOWN: &[(&str, &[Mode])] = &[
    ("rancher.io/local-path", &[RWO_FILE]),
    ("kubevirt.io.hostpath-provisioner", &[RWO_FILE]),
    ("kubevirt.io/hostpath-provisioner", &[RWO_FILE]),
    ("k8s.io/minikube-hostpath", &[RWO_FILE]),
    ("nfs.csi.k8s.io", &[RWX_FILE]),
    ("k8s-sigs.io/nfs-subdir-external-provisioner", &[RWX_FILE]),
    ("kubernetes.io/rbd", &[RWX_BLOCK, RWO_BLOCK, RWO_FILE]),
    ("rbd.csi.ceph.com", &[RWX_BLOCK, RWO_BLOCK, RWO_FILE]),
    (
        "rook-ceph.rbd.csi.ceph.com",
        &[RWX_BLOCK, RWO_BLOCK, RWO_FILE],
    ),
    ("cephfs.csi.ceph.com", &[RWX_FILE, RWO_FILE]),
    ("rook-ceph.cephfs.csi.ceph.com", &[RWX_FILE, RWO_FILE]),
    ("linstor.csi.linbit.com", &[RWX_BLOCK, RWO_BLOCK, RWO_FILE]),
    ("topolvm.io", &[RWO_BLOCK, RWO_FILE]),
    ("topolvm.cybozu.com", &[RWO_BLOCK, RWO_FILE]),
    ("driver.longhorn.io", &[RWO_BLOCK]),
    ("ebs.csi.aws.com", &[RWO_BLOCK]),
    ("efs.csi.aws.com", &[RWX_FILE, RWO_FILE]),
    ("disk.csi.azure.com", &[RWO_BLOCK]),
    ("file.csi.azure.com", &[RWX_FILE]),
    ("pd.csi.storage.gke.io", &[RWO_BLOCK, RWO_FILE]),
    ("cinder.csi.openstack.org", &[RWO_BLOCK, RWO_FILE]),
    ("csi.vsphere.vmware.com", &[RWO_BLOCK, RWO_FILE]),
    (
        "blockvolume.csi.oraclecloud.com",
        &[RWX_BLOCK, RWO_BLOCK, RWO_FILE],
    ),
    ("directpv-min-io", &[RWO_FILE]),
];

/// Modes that are known to work with a provisioner, best first; none when it is not known.
#[must_use]
pub fn known(provisioner: &str) -> Vec<ClaimPropertySet> {
    KNOWN
        .iter()
        .find(|(name, _)| *name == provisioner)
        .into_iter()
        .flat_map(|(_, modes)| modes.iter())
        .map(|(access, volume)| ClaimPropertySet {
            access_modes: vec![(*access).to_owned()],
            volume_mode: (*volume).to_owned(),
        })
        .collect()
}

/// The profile object of a class, to apply; what administrators wrote stays.
#[must_use]
pub fn object(class: &Class) -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": "StorageProfile",
        "metadata": {
            "name": class.name,
            "labels": { APP_LABEL: APP, COMPONENT_LABEL: "" },
            "ownerReferences": [{
                "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
                "name": class.name, "uid": class.uid,
            }],
        },
        "spec": {},
    })
}

/// Status of the profile of `class`; times of conditions are the caller's.
#[must_use]
pub fn status(class: &Class, cluster: &Cluster) -> StorageProfileStatus {
    let sets = cluster.modes(&class.name);
    let recognized = !sets.is_empty();
    StorageProfileStatus {
        storage_class: Some(class.name.clone()),
        provisioner: Some(class.provisioner.clone()),
        clone_strategy: Some(strategy::of_class(class, cluster).name().to_owned()),
        claim_property_sets: sets,
        data_import_cron_source_format: Some("pvc".to_owned()),
        snapshot_class: strategy::snapshot_class(class, cluster).map(str::to_owned),
        conditions: vec![Condition {
            type_: "Recognized".to_owned(),
            status: if recognized { "True" } else { "False" }.to_owned(),
            reason: if recognized {
                "RecognizedProvisioner"
            } else {
                "UnrecognizedProvisioner"
            }
            .to_owned(),
            message: if recognized {
                String::new()
            } else {
                format!(
                    "expected a provisioner whose modes are known, found {}; set spec.claimPropertySets",
                    class.provisioner
                )
            },
            ..Condition::default()
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::cdi::{StorageProfile, StorageProfileSpec};

    fn class(provisioner: &str) -> Class {
        Class {
            name: "fast".to_owned(),
            provisioner: provisioner.to_owned(),
            ..Class::default()
        }
    }

    fn cluster(class: &Class) -> Cluster {
        Cluster {
            classes: [("fast".to_owned(), class.clone())].into(),
            ..Cluster::default()
        }
    }

    #[test]
    fn ceph_disks_are_shared_block_devices() {
        let class = class("rook-ceph.rbd.csi.ceph.com");
        let status = status(&class, &cluster(&class));
        assert_eq!(status.claim_property_sets[0].volume_mode, "Block");
        assert_eq!(
            status.claim_property_sets[0].access_modes,
            ["ReadWriteMany"]
        );
        assert_eq!(status.conditions[0].status, "True");
    }

    #[test]
    fn an_unknown_provisioner_is_what_the_administrator_says() {
        let class = class("acme.example/disk");
        let mut cluster = cluster(&class);
        assert_eq!(status(&class, &cluster).conditions[0].status, "False");
        let mut profile = StorageProfile {
            spec: StorageProfileSpec::default(),
            ..StorageProfile::default()
        };
        profile.spec.claim_property_sets = known("nfs.csi.k8s.io");
        cluster.profiles.insert("fast".to_owned(), profile);
        let status = status(&class, &cluster);
        assert_eq!(
            status.claim_property_sets[0].access_modes,
            ["ReadWriteMany"]
        );
        assert_eq!(status.conditions[0].status, "True");
    }
}
