//! DataVolume: the wish for a claim filled with an image.

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaimSpec, TypedLocalObjectReference, TypedObjectReference,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::{Deserialize, Serialize};

use super::cdi_kind;
use crate::Condition;

cdi_kind! {
    /// The wish for a claim filled with an image.
    DataVolume("datavolumes", NamespaceResourceScope);
    /// What the user wants.
    spec: DataVolumeSpec;
    /// What is.
    status: DataVolumeStatus;
}

/// Wish of a [`DataVolume`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataVolumeSpec {
    /// Where the data comes from; one of its members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<DataVolumeSource>,
    /// A DataSource that says where the data comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ref: Option<DataVolumeSourceRef>,
    /// The claim, as it shall be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pvc: Option<PersistentVolumeClaimSpec>,
    /// The claim, with gaps for the storage profile to fill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// Priority class of the worker pod.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub priority_class_name: String,
    /// Service account of the worker pod.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_name: String,
    /// `kubevirt` (a disk image; also when empty) or `archive` (files).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content_type: String,
    /// Whether all space is taken at once; the configuration says when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preallocation: Option<bool>,
}

/// A claim with gaps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageSpec {
    /// Access modes; the storage profile's when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access_modes: Vec<String>,
    /// Which volumes may be bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// The size of the disk: the claim is larger by the file-system overhead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<VolumeResourceRequirements>,
    /// The volume to bind.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume_name: String,
    /// Storage class; the default one when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// `Filesystem`, `Block` or `FromStorageProfile`; Filesystem when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_mode: Option<String>,
    /// As in a claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_source: Option<TypedLocalObjectReference>,
    /// As in a claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_source_ref: Option<TypedObjectReference>,
}

/// Where data comes from: exactly one member is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataVolumeSource {
    /// A web server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSource>,
    /// An S3 bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Source>,
    /// A container image that carries a disk image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistrySource>,
    /// Another claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pvc: Option<ClaimSource>,
    /// A client that sends the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload: Option<Nothing>,
    /// An empty disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blank: Option<Nothing>,
    /// A volume snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<ClaimSource>,
}

/// An object without members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}

/// A web server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpSource {
    /// `http` or `https` URL.
    pub url: String,
    /// Secret with `accessKeyId` and `secretKey` for basic authentication.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub secret_ref: String,
    /// ConfigMap with authorities to trust besides the usual ones.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cert_config_map: String,
    /// Headers to send, `Name: value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_headers: Vec<String>,
    /// Secrets whose values are headers to send.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secret_extra_headers: Vec<String>,
    /// Digest of what is fetched, `md5|sha1|sha256|sha512:hex`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub checksum: String,
}

/// An S3 bucket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct S3Source {
    /// URL of the object.
    pub url: String,
    /// Secret with `accessKeyId` and `secretKey`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub secret_ref: String,
    /// ConfigMap with authorities to trust besides the usual ones.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cert_config_map: String,
}

/// A container image that carries a disk image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegistrySource {
    /// `docker://` URL of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// `pod`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_method: Option<String>,
    /// Secret with `accessKeyId` and `secretKey`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<String>,
    /// ConfigMap with authorities to trust besides the usual ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_config_map: Option<String>,
}

/// A claim, a snapshot or a DataSource, by namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimSource {
    /// Namespace; the referrer's own when empty.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Refers to a DataSource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataVolumeSourceRef {
    /// `DataSource`.
    pub kind: String,
    /// Namespace; the DataVolume's own when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

/// Observed state of a [`DataVolume`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataVolumeStatus {
    /// Name of the claim.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub claim_name: String,
    /// See [`phase`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// Percent with two decimals, or `N/A`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub progress: String,
    /// How often the worker was restarted.
    #[serde(skip_serializing_if = "is_zero")]
    pub restart_count: i32,
    /// Bound, Running and Ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &i32) -> bool {
    *value == 0
}

/// Phases of a [`DataVolume`].
pub mod phase {
    /// The claim is there and not bound.
    pub const PENDING: &str = "Pending";
    /// The claim is bound and nothing was started.
    pub const PVC_BOUND: &str = "PVCBound";
    /// The importer pod waits to start.
    pub const IMPORT_SCHEDULED: &str = "ImportScheduled";
    /// The importer works.
    pub const IMPORT_IN_PROGRESS: &str = "ImportInProgress";
    /// The cloner pod waits to start.
    pub const CLONE_SCHEDULED: &str = "CloneScheduled";
    /// The cloner works.
    pub const CLONE_IN_PROGRESS: &str = "CloneInProgress";
    /// A snapshot of the original is taken.
    pub const SNAPSHOT_FOR_SMART_CLONE: &str = "SnapshotForSmartCloneInProgress";
    /// A snapshot is restored into the claim.
    pub const CLONE_FROM_SNAPSHOT: &str = "CloneFromSnapshotSourceInProgress";
    /// The storage's driver clones.
    pub const CSI_CLONE: &str = "CSICloneInProgress";
    /// A clone's claim gets its volume, or its image grows.
    pub const PREP_CLAIM: &str = "PrepClaimInProgress";
    /// The upload server's pod waits to start.
    pub const UPLOAD_SCHEDULED: &str = "UploadScheduled";
    /// The upload server takes data.
    pub const UPLOAD_READY: &str = "UploadReady";
    /// Nobody uses the claim yet, and its class wants to know who will.
    pub const WAIT_FOR_FIRST_CONSUMER: &str = "WaitForFirstConsumer";
    /// As the one before, for claims with a populator.
    pub const PENDING_POPULATION: &str = "PendingPopulation";
    /// Between two stages of an import.
    pub const PAUSED: &str = "Paused";
    /// The claim holds the data.
    pub const SUCCEEDED: &str = "Succeeded";
    /// It will never hold the data.
    pub const FAILED: &str = "Failed";
    /// The claim's state is not known (its volume is lost).
    pub const UNKNOWN: &str = "Unknown";
}
