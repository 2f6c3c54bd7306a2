//! CDI, which asks the operator for the programs, and CDIConfig, which tells
//! clients what holds.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, LocalObjectReference, ResourceRequirements, Toleration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::cdi_kind;
use crate::Condition;

/// The wish for CDI, one in a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CDI {
    /// `cdi.kubevirt.io/v1beta1`.
    pub api_version: String,
    /// `CDI`.
    pub kind: String,
    /// Standard metadata.
    pub metadata: ObjectMeta,
    /// What the user wants.
    pub spec: CdiSpec,
    /// What is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<CdiStatus>,
}
cdi_kind!(CDI, "cdis", ClusterResourceScope);

/// Wish of a [`CDI`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CdiSpec {
    /// `IfNotPresent`, `Always` or `Never`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// `RemoveWorkloads` or `BlockUninstallIfWorkloadsExist`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uninstall_strategy: Option<String>,
    /// Replicas and placement of the programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infra: Option<CdiComponentConfig>,
    /// Placement of worker pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<CdiNodePlacement>,
    /// `copy`, `snapshot` or `csi-clone`, whatever the profiles say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clone_strategy_override: Option<String>,
    /// Becomes the spec of the CDIConfig.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<CdiConfigSpec>,
    /// Lifetimes of certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_config: Option<CdiCertConfig>,
    /// Priority class of the programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class: Option<String>,
}

/// Where pods may run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CdiNodePlacement {
    /// Labels a node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Affinity rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Taints the pods tolerate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
}

/// Replicas and placement of the programs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CdiComponentConfig {
    /// Where the pods may run.
    #[serde(flatten)]
    pub placement: CdiNodePlacement,
    /// Replicas of cdi-deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_replicas: Option<i32>,
    /// Replicas of cdi-apiserver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_server_replicas: Option<i32>,
    /// Replicas of cdi-uploadproxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_proxy_replicas: Option<i32>,
}

/// Lifetimes of the certificates of CDI.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CdiCertConfig {
    /// Of authorities; 48h when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<crate::kubevirt::CertConfig>,
    /// Of server certificates; 24h when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<crate::kubevirt::CertConfig>,
    /// Of client certificates; 24h when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<crate::kubevirt::CertConfig>,
}

/// Observed state of a [`CDI`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CdiStatus {
    /// `Deploying`, `Deployed`, `Deleting`, `Deleted`, `Error`, `Upgrading` or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// Available, Progressing and Degraded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Version of the operator.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operator_version: String,
    /// Version being rolled out.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target_version: String,
    /// Version that is rolled out.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub observed_version: String,
}

/// What holds for all of CDI.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CDIConfig {
    /// `cdi.kubevirt.io/v1beta1`.
    pub api_version: String,
    /// `CDIConfig`.
    pub kind: String,
    /// Standard metadata.
    pub metadata: ObjectMeta,
    /// What the administrator wants.
    pub spec: CdiConfigSpec,
    /// What holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<CdiConfigStatus>,
}
cdi_kind!(CDIConfig, "cdiconfigs", ClusterResourceScope);

/// Settings of CDI.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CdiConfigSpec {
    /// URL at which clients reach the upload proxy.
    #[serde(
        rename = "uploadProxyURLOverride",
        skip_serializing_if = "Option::is_none"
    )]
    pub upload_proxy_url_override: Option<String>,
    /// Requests and limits of worker pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_resource_requirements: Option<ResourceRequirements>,
    /// Feature gates that are on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub feature_gates: Vec<String>,
    /// Share of a claim that its file system needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filesystem_overhead: Option<FilesystemOverhead>,
    /// Whether all space is taken at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preallocation: Option<bool>,
    /// `Disabled`: claims that apply a storage profile are left as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_pvc_rendering: Option<String>,
    /// Registries (`host[:port]`) that are asked without TLS.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub insecure_registries: Vec<String>,
    /// Secrets with which worker images are pulled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
}

/// Shares of a claim that its file system needs, decimals from 0 to 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FilesystemOverhead {
    /// For classes that are not named; 0.06 when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global: Option<String>,
    /// By storage class.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub storage_class: BTreeMap<String, String>,
}

/// What holds for all of CDI.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CdiConfigStatus {
    /// `host[:port]` or URL at which clients reach the upload proxy.
    #[serde(rename = "uploadProxyURL", skip_serializing_if = "Option::is_none")]
    pub upload_proxy_url: Option<String>,
    /// PEM of the authority behind the upload proxy's certificate.
    #[serde(rename = "uploadProxyCA", skip_serializing_if = "Option::is_none")]
    pub upload_proxy_ca: Option<String>,
    /// Requests and limits of worker pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_pod_resource_requirements: Option<ResourceRequirements>,
    /// Shares of claims that file systems need, by class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filesystem_overhead: Option<FilesystemOverhead>,
    /// Whether all space is taken at once.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub preallocation: bool,
    /// Secrets with which worker images are pulled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
}
