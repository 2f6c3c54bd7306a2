//! VirtualMachine: the long-lived object whose VMI comes and goes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::resource::kubevirt_kind;
use crate::vmi::VmiSpec;

/// A virtual machine: a VMI template and the wish whether it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualMachine {
    /// `kubevirt.io/v1` or `kubevirt.io/v1alpha3`.
    pub api_version: String,
    /// `VirtualMachine`.
    pub kind: String,
    /// Standard metadata.
    pub metadata: ObjectMeta,
    /// What the user wants.
    pub spec: VmSpec,
    /// What is; written by virt-controller through the status subresource.
    pub status: Option<VmStatus>,
}
kubevirt_kind!(VirtualMachine, "VirtualMachine", "virtualmachines");

/// Wish of a [`VirtualMachine`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VmSpec {
    /// Old form of the run strategy: true is Always, false is Halted. Excludes `run_strategy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<bool>,
    /// When a VMI is to exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_strategy: Option<RunStrategy>,
    /// The VMI to make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<VmiTemplate>,
    /// DataVolumes that are made with the VM and deleted with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub data_volume_templates: Vec<DataVolumeTemplate>,
}

/// A DataVolume that is made with the VM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DataVolumeTemplate {
    /// Name, labels and annotations of the DataVolume.
    pub metadata: ObjectMeta,
    /// Its spec, as it is handed to CDI.
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub spec: serde_json::Value,
}

/// When a VMI of a VM is to exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunStrategy {
    /// Always; started again whatever ended it.
    Always,
    /// Never.
    Halted,
    /// Only by start and stop requests.
    Manual,
    /// Started again only after a failure.
    RerunOnFailure,
    /// Once; never started again.
    Once,
    /// Waits to receive a migration; refused until migration works.
    WaitAsReceiver,
}

/// Metadata and spec of the VMI that a VM makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VmiTemplate {
    /// Labels and annotations of the VMI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<ObjectMeta>,
    /// Spec of the VMI.
    pub spec: VmiSpec,
}

/// Observed state of a [`VirtualMachine`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VmStatus {
    /// A VMI of this VM exists.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub created: bool,
    /// That VMI is ready.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ready: bool,
    /// One word for people, the column STATUS.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub printable_status: String,
    /// Conditions Ready, Failure, Paused, RestartRequired.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Queued start and stop requests, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub state_change_requests: Vec<StateChangeRequest>,
    /// Set while starts keep failing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_failure: Option<StartFailure>,
    /// Run strategy in force, derived from `running` or `runStrategy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_strategy: Option<RunStrategy>,
    /// `metadata.generation` that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `metadata.generation` at the time the current VMI was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_generation: Option<i64>,
    /// Why volumes can or cannot be in a snapshot; one entry a volume.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volume_snapshot_statuses: Vec<VolumeSnapshotStatus>,
}

/// A queued request to start or stop.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StateChangeRequest {
    /// `Start` or `Stop`.
    pub action: String,
    /// Extra words, for example `paused: "true"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<std::collections::BTreeMap<String, String>>,
    /// UID of the VMI to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// How often starts failed in a row and when the next is due.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StartFailure {
    /// Failures in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive_fail_count: Option<i64>,
    /// UID of the last VMI that failed.
    #[serde(rename = "lastFailedVMIUID", skip_serializing_if = "Option::is_none")]
    pub last_failed_vmi_uid: Option<String>,
    /// No start before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_timestamp: Option<Time>,
}

/// Whether one volume can be in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeSnapshotStatus {
    /// Volume name.
    pub name: String,
    /// True when it can.
    pub enabled: bool,
    /// Why not.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}
