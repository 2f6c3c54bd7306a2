//! DataSource, DataImportCron and the volume sources that claims refer to.

use k8s_openapi::api::core::v1::TypedLocalObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Serialize};

use super::{ClaimSource, DataVolumeSource, DataVolumeSpec, cdi_kind};
use crate::Condition;

cdi_kind! {
    /// A name for a claim to clone from.
    DataSource("datasources", NamespaceResourceScope);
    /// What it stands for.
    spec: DataSourceSpec;
    /// Whether that is there.
    status: DataSourceStatus;
}

/// What a [`DataSource`] stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataSourceSpec {
    /// One of its members.
    pub source: DataSourceSource,
}

/// What a [`DataSource`] stands for: one member is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataSourceSource {
    /// A claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pvc: Option<ClaimSource>,
    /// A snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<ClaimSource>,
    /// Another DataSource of the namespace, one step deep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_source: Option<ClaimSource>,
}

/// Whether what a [`DataSource`] stands for is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataSourceStatus {
    /// The claim or snapshot in the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<DataSourceSource>,
    /// Ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

cdi_kind! {
    /// The wish to import an image again whenever it changes.
    DataImportCron("dataimportcrons", NamespaceResourceScope);
    /// What the user wants.
    spec: DataImportCronSpec;
    /// What is.
    status: DataImportCronStatus;
}

/// Wish of a [`DataImportCron`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataImportCronSpec {
    /// The DataVolume of each import; its source is a registry.
    pub template: DataVolumeTemplate,
    /// When to look, as cron(5).
    pub schedule: String,
    /// `Never` or `Outdated` (also when unset).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub garbage_collect: Option<String>,
    /// How many imports are kept; 3 when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imports_to_keep: Option<i32>,
    /// DataSource that stands for the newest import.
    pub managed_data_source: String,
    /// Whether imports outlive the cron: `None` or `All`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_policy: Option<String>,
    /// Service account of the imports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
}

/// DataVolume inside another object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataVolumeTemplate {
    /// Labels and annotations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<ObjectMeta>,
    /// As in a DataVolume.
    pub spec: DataVolumeSpec,
}

/// Observed state of a [`DataImportCron`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataImportCronStatus {
    /// The import in work.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub current_imports: Vec<ImportStatus>,
    /// The newest import that is complete.
    #[serde(rename = "lastImportedPVC", skip_serializing_if = "Option::is_none")]
    pub last_imported_pvc: Option<ClaimSource>,
    /// When the source was last looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_execution_timestamp: Option<Time>,
    /// When an import was last complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_import_timestamp: Option<Time>,
    /// `pvc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_format: Option<String>,
    /// Progressing and UpToDate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// An import in work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImportStatus {
    /// Name of the DataVolume.
    #[serde(rename = "DataVolumeName")]
    pub data_volume_name: String,
    /// Digest of the image.
    #[serde(rename = "Digest")]
    pub digest: String,
}

cdi_kind! {
    /// Where a claim that refers to it gets its data from.
    VolumeImportSource("volumeimportsources", NamespaceResourceScope);
    /// The source.
    spec: VolumeImportSourceSpec;
}

/// Source of an import.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeImportSourceSpec {
    /// http, s3, registry or blank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<DataVolumeSource>,
    /// Whether all space is taken at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preallocation: Option<bool>,
    /// `kubevirt` or `archive`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content_type: String,
}

cdi_kind! {
    /// A claim that refers to it waits for an upload.
    VolumeUploadSource("volumeuploadsources", NamespaceResourceScope);
    /// How it is written.
    spec: VolumeUploadSourceSpec;
}

/// How an upload is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeUploadSourceSpec {
    /// `kubevirt` or `archive`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content_type: String,
    /// Whether all space is taken at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preallocation: Option<bool>,
}

cdi_kind! {
    /// A claim that refers to it becomes a copy of another.
    VolumeCloneSource("volumeclonesources", NamespaceResourceScope);
    /// What is copied.
    spec: VolumeCloneSourceSpec;
}

/// What is copied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeCloneSourceSpec {
    /// A claim or a snapshot of the same namespace.
    pub source: TypedLocalObjectReference,
    /// Whether all space is taken at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preallocation: Option<bool>,
    /// Priority class of the cloner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
}
