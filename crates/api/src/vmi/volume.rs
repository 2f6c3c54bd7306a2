//! Volumes: where the content of a disk comes from.
//!
//! ```text
//!   lives with the VMI     containerDisk  emptyDisk  ephemeral (over a claim)
//!   outlives it            persistentVolumeClaim  dataVolume  hostDisk
//!   made from API objects  cloudInit…  configMap  secret  serviceAccount  downwardAPI
//! ```

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, LocalObjectReference};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};

/// Source of a disk's content; exactly one is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    /// Unique name.
    pub name: String,
    /// A disk image inside a container image; writes are lost with the VMI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_disk: Option<ContainerDisk>,
    /// cloud-init data in NoCloud form.
    #[serde(rename = "cloudInitNoCloud", skip_serializing_if = "Option::is_none")]
    pub cloud_init_no_cloud: Option<CloudInit>,
    /// cloud-init data as a config drive.
    #[serde(
        rename = "cloudInitConfigDrive",
        skip_serializing_if = "Option::is_none"
    )]
    pub cloud_init_config_drive: Option<CloudInit>,
    /// An empty disk; writes are lost with the VMI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty_disk: Option<EmptyDisk>,
    /// A claim: `disk.img` in its file system, or its block device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimSource>,
    /// The claim that a DataVolume fills.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_volume: Option<DataVolumeSource>,
    /// A claim under an overlay; writes are lost with the VMI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<Ephemeral>,
    /// An image in the node's file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_disk: Option<HostDisk>,
    /// The files of a ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapSource>,
    /// The files of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretSource>,
    /// Token, namespace and certificate authority of a service account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountSource>,
    /// Fields of the launcher pod, as files.
    #[serde(rename = "downwardAPI", skip_serializing_if = "Option::is_none")]
    pub downward_api: Option<DownwardApiSource>,
}

impl Volume {
    /// Name of the claim that the content is in, whoever fills it: of
    /// `persistentVolumeClaim`, `dataVolume` or `ephemeral`.
    #[must_use]
    pub fn claim_name(&self) -> Option<&str> {
        let claim = self.persistent_volume_claim.as_ref();
        let ephemeral = self.ephemeral.as_ref();
        claim
            .or(ephemeral.map(|ephemeral| &ephemeral.persistent_volume_claim))
            .map(|claim| claim.claim_name.as_str())
            .or(self.data_volume.as_ref().map(|source| source.name.as_str()))
    }

    /// What is in the claim is only read.
    #[must_use]
    pub fn claim_is_read_only(&self) -> bool {
        let claim = self.persistent_volume_claim.as_ref();
        claim.is_some_and(|claim| claim.read_only) || self.ephemeral.is_some()
    }

    /// Its cloud-init data, of either form.
    #[must_use]
    pub fn cloud_init(&self) -> Option<&CloudInit> {
        let no_cloud = self.cloud_init_no_cloud.as_ref();
        no_cloud.or(self.cloud_init_config_drive.as_ref())
    }
}

/// A disk image inside a container image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerDisk {
    /// Reference of the container image.
    pub image: String,
    /// Secret with registry credentials, in the VMI's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_secret: Option<String>,
    /// `Always`, `IfNotPresent` or `Never`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// The image file; the only file in /disk when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// cloud-init data; of each pair at most one is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CloudInit {
    /// User data as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
    /// User data, base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_data_base64: Option<String>,
    /// Secret whose key `userdata` holds the user data.
    #[serde(rename = "secretRef", skip_serializing_if = "Option::is_none")]
    pub user_data_secret_ref: Option<LocalObjectReference>,
    /// Network data as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_data: Option<String>,
    /// Network data, base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_data_base64: Option<String>,
    /// Secret whose key `networkdata` holds the network data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_data_secret_ref: Option<LocalObjectReference>,
}

/// An empty disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EmptyDisk {
    /// Its size.
    pub capacity: Quantity,
}

/// A claim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimSource {
    /// Name of the claim, in the VMI's namespace.
    pub claim_name: String,
    /// The volume is mounted so that nobody can write.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// The claim of a DataVolume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataVolumeSource {
    /// Name of the DataVolume and of its claim.
    pub name: String,
}

/// A claim under an overlay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ephemeral {
    /// The claim; it is never written.
    pub persistent_volume_claim: ClaimSource,
}

/// An image in the node's file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostDisk {
    /// Absolute path of the image on the node.
    pub path: String,
    /// `Disk`: it exists; `DiskOrCreate`: it is made when it does not.
    #[serde(rename = "type")]
    pub type_: String,
    /// Size of an image that is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Quantity>,
}

/// The files of a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigMapSource {
    /// Its name, in the VMI's namespace.
    pub name: String,
    /// The medium is empty when it does not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
    /// Label of the medium; `cfgdata` when unset.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume_label: String,
}

/// The files of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecretSource {
    /// Its name, in the VMI's namespace.
    pub secret_name: String,
    /// The medium is empty when it does not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
    /// Label of the medium; `cfgdata` when unset.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume_label: String,
}

/// What a pod of a service account is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceAccountSource {
    /// Name of the account, in the VMI's namespace.
    pub service_account_name: String,
}

/// Fields of the launcher pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DownwardApiSource {
    /// The files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<DownwardAPIVolumeFile>,
    /// Label of the medium; `cfgdata` when unset.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume_label: String,
}
