//! Messages of the device plugin API, by field number. Source: kubelet's
//! deviceplugin/v1beta1 api.proto. Fields we never read or set are left out;
//! protobuf skips them.

use std::collections::HashMap;

/// `v1beta1.RegisterRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RegisterRequest {
    #[prost(string, tag = "1")]
    pub(super) version: String,
    /// File name of our socket in the kubelet's directory.
    #[prost(string, tag = "2")]
    pub(super) endpoint: String,
    #[prost(string, tag = "3")]
    pub(super) resource_name: String,
    #[prost(message, optional, tag = "4")]
    pub(super) options: Option<DevicePluginOptions>,
}

/// `v1beta1.DevicePluginOptions`: both calls it could ask for are left out.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DevicePluginOptions {
    #[prost(bool, tag = "1")]
    pub(super) pre_start_required: bool,
    #[prost(bool, tag = "2")]
    pub(super) get_preferred_allocation_available: bool,
}

/// `v1beta1.Empty`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Empty {}

/// `v1beta1.ListAndWatchResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ListAndWatchResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) devices: Vec<Device>,
}

/// `v1beta1.Device`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Device {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    /// `Healthy` or `Unhealthy`.
    #[prost(string, tag = "2")]
    pub(super) health: String,
}

/// `v1beta1.AllocateRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AllocateRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) containers: Vec<ContainerAllocateRequest>,
}

/// `v1beta1.ContainerAllocateRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ContainerAllocateRequest {
    #[prost(string, repeated, tag = "1")]
    pub(super) device_ids: Vec<String>,
}

/// `v1beta1.AllocateResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AllocateResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) containers: Vec<ContainerAllocateResponse>,
}

/// `v1beta1.ContainerAllocateResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ContainerAllocateResponse {
    #[prost(map = "string, string", tag = "1")]
    pub(super) envs: HashMap<String, String>,
    #[prost(message, repeated, tag = "2")]
    pub(super) mounts: Vec<Mount>,
    #[prost(message, repeated, tag = "3")]
    pub(super) devices: Vec<DeviceSpec>,
}

/// `v1beta1.Mount`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Mount {
    #[prost(string, tag = "1")]
    pub(super) container_path: String,
    #[prost(string, tag = "2")]
    pub(super) host_path: String,
    #[prost(bool, tag = "3")]
    pub(super) read_only: bool,
}

/// `v1beta1.DeviceSpec`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DeviceSpec {
    #[prost(string, tag = "1")]
    pub(super) container_path: String,
    #[prost(string, tag = "2")]
    pub(super) host_path: String,
    /// Of `r`, `w`, `m`, for the container's device cgroup.
    #[prost(string, tag = "3")]
    pub(super) permissions: String,
}
