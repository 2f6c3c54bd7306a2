//! KubeVirt: the object that asks virt-operator for a control plane.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::resource::kubevirt_kind;

/// The wish for a control plane, one in a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeVirt {
    /// `kubevirt.io/v1` or `kubevirt.io/v1alpha3`.
    pub api_version: String,
    /// `KubeVirt`.
    pub kind: String,
    /// Standard metadata.
    pub metadata: ObjectMeta,
    /// What the user wants.
    pub spec: KubeVirtSpec,
    /// What is.
    pub status: Option<KubeVirtStatus>,
}
kubevirt_kind!(KubeVirt, "KubeVirt", "kubevirts");

/// Wish of a [`KubeVirt`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeVirtSpec {
    /// Tag of the images; empty means the operator's own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image_tag: String,
    /// Repository prefix of the images; empty means the operator's own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image_registry: String,
    /// `IfNotPresent`, `Always` or `Never`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// `RemoveWorkloads` or `BlockUninstallIfWorkloadsExist`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uninstall_strategy: Option<String>,
    /// Lifetimes of certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_rotate_strategy: Option<CertificateRotateStrategy>,
    /// Replicas and placement of virt-api and virt-controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infra: Option<ComponentConfig>,
    /// Placement of virt-handler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workloads: Option<ComponentConfig>,
    /// Settings of the running system.
    pub configuration: Configuration,
}

/// Replicas and placement of components.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ComponentConfig {
    /// Where the pods may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_placement: Option<NodePlacement>,
    /// Number of pods of each component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
}

/// Where pods may run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodePlacement {
    /// Labels a node must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Affinity rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<k8s_openapi::api::core::v1::Affinity>,
    /// Taints the pods tolerate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerations: Option<Vec<k8s_openapi::api::core::v1::Toleration>>,
}

/// Lifetimes of certificates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateRotateStrategy {
    /// Rotation by virt-operator itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_signed: Option<SelfSigned>,
}

/// Lifetimes of the operator's CA and of what it signs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SelfSigned {
    /// Of the CA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<CertConfig>,
    /// Of server certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<CertConfig>,
}

/// Lifetime of one kind of certificate; durations as Go writes them (`24h0m0s`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertConfig {
    /// How long it is valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// How long before its end it is renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_before: Option<String>,
}

/// Settings of the running system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Configuration {
    /// Settings for labs and developers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub developer_configuration: Option<DeveloperConfiguration>,
    /// Network defaults.
    #[serde(rename = "network", skip_serializing_if = "Option::is_none")]
    pub network_configuration: Option<NetworkConfiguration>,
    /// CPU model of VMs that name none.
    #[serde(rename = "cpuModel", skip_serializing_if = "Option::is_none")]
    pub cpu_model: Option<String>,
    /// CPU request of a VM that has none, for each vCPU.
    #[serde(rename = "cpuRequest", skip_serializing_if = "Option::is_none")]
    pub cpu_request: Option<Quantity>,
    /// Machine type of VMs that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_type: Option<String>,
    /// Pull policy of launcher images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// How many devices of each kind (kvm, tun, vhost-net) a node offers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_machine_instances_per_node: Option<i64>,
    /// Factor on the computed memory overhead, a decimal as a string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_guest_memory_overhead_ratio: Option<String>,
}

/// Settings for labs and developers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeveloperConfiguration {
    /// Run guests by emulation (TCG) instead of KVM.
    pub use_emulation: bool,
    /// Feature gates that are on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub feature_gates: Vec<String>,
    /// vCPUs for each requested CPU; 10 when unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_allocation_ratio: Option<i64>,
    /// Percent of memory a guest sees of what its pod requests; 100 when unset.
    #[serde(rename = "memoryOvercommit", skip_serializing_if = "Option::is_none")]
    pub memory_overcommit: Option<i64>,
}

/// Network defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkConfiguration {
    /// Binding of interfaces that name none: `bridge` or `masquerade`.
    #[serde(
        rename = "defaultNetworkInterface",
        skip_serializing_if = "Option::is_none"
    )]
    pub default_network_interface: Option<String>,
    /// Whether `bridge` is allowed on the pod network; true when unset.
    #[serde(
        rename = "permitBridgeInterfaceOnPodNetwork",
        skip_serializing_if = "Option::is_none"
    )]
    pub permit_bridge_interface_on_pod_network: Option<bool>,
}

/// Observed state of a [`KubeVirt`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeVirtStatus {
    /// `Deploying`, `Deployed`, `Deleting` or `Deleted`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// Conditions Created, Available, Progressing, Degraded, Synchronized.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Version of the operator.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operator_version: String,
    /// Version being rolled out.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target_kube_virt_version: String,
    /// Version that is rolled out.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub observed_kube_virt_version: String,
    /// Identifier of the rendered set being rolled out.
    #[serde(
        rename = "targetDeploymentID",
        skip_serializing_if = "String::is_empty"
    )]
    pub target_deployment_id: String,
    /// Identifier of the rendered set that is rolled out.
    #[serde(
        rename = "observedDeploymentID",
        skip_serializing_if = "String::is_empty"
    )]
    pub observed_deployment_id: String,
    /// `metadata.generation` that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}
