//! StorageProfile: what is known of a storage class.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::cdi_kind;
use crate::Condition;

cdi_kind! {
    /// What is known of the storage class of the same name.
    StorageProfile("storageprofiles", ClusterResourceScope);
    /// What the administrator says; goes before what is known.
    spec: StorageProfileSpec;
    /// What holds.
    status: StorageProfileStatus;
}

/// What the administrator says of a storage class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageProfileSpec {
    /// `copy`, `snapshot` or `csi-clone`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clone_strategy: Option<String>,
    /// Modes that work, best first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claim_property_sets: Vec<ClaimPropertySet>,
    /// `pvc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_import_cron_source_format: Option<String>,
    /// Class of snapshots that clones are made through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_class: Option<String>,
}

/// Access modes that work with one volume mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimPropertySet {
    /// Access modes.
    pub access_modes: Vec<String>,
    /// `Block` or `Filesystem`.
    pub volume_mode: String,
}

/// What holds for a storage class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageProfileStatus {
    /// Name of the class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// Its provisioner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provisioner: Option<String>,
    /// `copy`, `snapshot` or `csi-clone`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clone_strategy: Option<String>,
    /// Modes that work, best first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claim_property_sets: Vec<ClaimPropertySet>,
    /// `pvc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_import_cron_source_format: Option<String>,
    /// Class of snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_class: Option<String>,
    /// Recognized.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
