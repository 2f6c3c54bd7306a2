//! Names that clients and other components rely on: groups, labels,
//! annotations, finalizers, resources, service accounts.
//! Source: KubeVirt API v1 (kubevirt.io/api/core/v1, types.go).

/// API group of VirtualMachine, VirtualMachineInstance and KubeVirt.
pub const GROUP: &str = "kubevirt.io";
/// Storage version of the group.
pub const VERSION: &str = "v1";
/// `apiVersion` of the storage version.
pub const API_VERSION: &str = "kubevirt.io/v1";
/// Deprecated version still served for manifests of 2021.
pub const API_VERSION_V1ALPHA3: &str = "kubevirt.io/v1alpha3";
/// Aggregated API group of start, stop, console and the other subresources.
pub const SUBRESOURCE_GROUP: &str = "subresources.kubevirt.io";
/// Versions in which the aggregated API is served, preferred first.
pub const SUBRESOURCE_VERSIONS: [&str; 2] = ["v1", "v1alpha3"];

/// Namespace of the control plane unless the installer is told otherwise.
pub const DEFAULT_NAMESPACE: &str = "kubevirt";

/// Label that tells the component of a pod.
pub const APP_LABEL: &str = "kubevirt.io";
/// Value of [`APP_LABEL`] on launcher pods.
pub const LAUNCHER_APP: &str = "virt-launcher";
/// Label on launcher pods: UID of the VMI they belong to.
pub const CREATED_BY_LABEL: &str = "kubevirt.io/created-by";
/// Label on a VMI (and launcher pods): node it runs on.
pub const NODE_NAME_LABEL: &str = "kubevirt.io/nodeName";
/// Label on launcher pods: the guest's host name, at most 63 characters.
pub const VM_NAME_LABEL: &str = "vm.kubevirt.io/name";
/// Label on launcher pods: VMI name, or a shortened form with a hash past 63 characters.
pub const VMI_ID_LABEL: &str = "vmi.kubevirt.io/id";
/// Annotation of a VMI whose guest shall keep the pages it frees: `"true"`.
pub const NO_FREE_PAGE_REPORTING: &str = "kubevirt.io/free-page-reporting-disabled";
/// Annotation on launcher pods: name of the VMI.
pub const DOMAIN_ANNOTATION: &str = "kubevirt.io/domain";
/// Annotation kubectl reads to choose the container for logs and exec.
pub const DEFAULT_CONTAINER_ANNOTATION: &str = "kubectl.kubernetes.io/default-container";
/// Label on nodes: VMIs may be scheduled there.
pub const SCHEDULABLE_LABEL: &str = "kubevirt.io/schedulable";
/// Annotation on nodes: last heartbeat of virt-handler, RFC 3339.
pub const HEARTBEAT_ANNOTATION: &str = "kubevirt.io/heartbeat";
/// Annotation on nodes, edgevirt's own: logical processors that virt-handler found.
pub const PROCESSORS_ANNOTATION: &str = "edgevirt.local/processors";
/// Readiness gate and pod condition: true while the guest is not paused.
pub const UNPAUSED_CONDITION: &str = "kubevirt.io/virtual-machine-unpaused";

/// Annotation of a VM: `"false"` lets its DataVolumes be made at its first start only.
pub const IMMEDIATE_DATA_VOLUMES_ANNOTATION: &str = "kubevirt.io/immediate-data-volume-creation";
/// Annotation of a DataVolume that may take over a claim of its name. Source: CDI.
pub const CLAIM_ADOPTION_ANNOTATION: &str = "cdi.kubevirt.io/allowClaimAdoption";
/// Annotation of a claim that a worker of CDI fills: phase of the worker's pod. Source: CDI.
pub const POPULATING_ANNOTATION: &str = "cdi.kubevirt.io/storage.pod.phase";

/// Finalizer on VMIs: removed once the launcher pod is gone.
pub const VMI_FINALIZER: &str = "kubevirt.io/foregroundDeleteVirtualMachine";
/// Finalizer on VMs: removed once their VMI is gone.
pub const VM_FINALIZER: &str = "kubevirt.io/virtualMachineControllerFinalize";
/// Finalizer on the KubeVirt object: removed once the control plane is gone.
pub const KUBEVIRT_FINALIZER: &str = "foregroundDeleteKubeVirt";

/// Extended resource: /dev/kvm.
pub const KVM_RESOURCE: &str = "devices.kubevirt.io/kvm";
/// Extended resource: /dev/net/tun.
pub const TUN_RESOURCE: &str = "devices.kubevirt.io/tun";
/// Extended resource: /dev/vhost-net.
pub const VHOST_NET_RESOURCE: &str = "devices.kubevirt.io/vhost-net";
/// Extended resource of edgevirt's own: the containerDisk helper, handed into a
/// container by a mount that the device plugin returns at Allocate.
pub const CONTAINER_DISK_RESOURCE: &str = "devices.kubevirt.io/container-disk";

/// Unprivileged user and group of the launcher and of QEMU.
pub const NONROOT_UID: u32 = 107;
/// Name of the launcher pod's first container.
pub const COMPUTE_CONTAINER: &str = "compute";

/// emptyDir of the launcher's sockets, in the pod at [`PRIVATE_DIR`].
pub const PRIVATE_VOLUME: &str = "private";
/// Directory of [`LAUNCHER_SOCKET`], [`SERIAL_SOCKET`], [`VNC_SOCKET`], [`STATE_FILE`].
pub const PRIVATE_DIR: &str = "/var/run/kubevirt-private";
/// emptyDir through which containerDisk containers reach the launcher.
pub const CONTAINER_DISK_VOLUME: &str = "container-disks";
/// Where [`CONTAINER_DISK_VOLUME`] is mounted.
pub const CONTAINER_DISK_DIR: &str = "/var/run/kubevirt/container-disks";
/// emptyDir of overlays, empty disks and cloud-init media.
pub const EPHEMERAL_VOLUME: &str = "ephemeral-disks";
/// Where [`EPHEMERAL_VOLUME`] is mounted.
pub const EPHEMERAL_DIR: &str = "/var/run/kubevirt-ephemeral-disks";
/// Directory of the secrets that cloud-init volumes refer to:
/// `<volume>/`[`USER_DATA_DIR`] and `<volume>/`[`NETWORK_DATA_DIR`], each with
/// a file for each key of its secret.
pub const CLOUD_INIT_SECRETS_DIR: &str = "/var/run/kubevirt-secrets";
/// See [`CLOUD_INIT_SECRETS_DIR`].
pub const USER_DATA_DIR: &str = "userdata";
/// See [`CLOUD_INIT_SECRETS_DIR`].
pub const NETWORK_DATA_DIR: &str = "networkdata";
/// Directory below [`PRIVATE_DIR`] of claims and host disks: `<volume>/disk.img`.
/// Source of this and the four below: KubeVirt, pkg/host-disk and pkg/config.
pub const DISKS_DIR: &str = "vmi-disks";
/// Name of the image in the file system of a claim.
pub const CLAIM_IMAGE: &str = "disk.img";
/// Directory below [`PRIVATE_DIR`] of mounted ConfigMaps.
pub const CONFIG_MAPS_DIR: &str = "config-map";
/// Directory below [`PRIVATE_DIR`] of mounted Secrets.
pub const SECRETS_DIR: &str = "secret";
/// Directory below [`PRIVATE_DIR`] of mounted fields of the pod.
pub const DOWNWARD_API_DIR: &str = "downwardapi";
/// Where what a service account's pod is given is mounted, as in every pod.
pub const SERVICE_ACCOUNT_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Socket of the handler-launcher protocol ([`crate::launcher`]).
pub const LAUNCHER_SOCKET: &str = "launcher.sock";
/// Socket of the first serial port.
pub const SERIAL_SOCKET: &str = "virt-serial0";
/// Socket of the VNC display.
pub const VNC_SOCKET: &str = "virt-vnc";
/// File with the last [`crate::launcher::DomainState`], for a handler that missed it.
pub const STATE_FILE: &str = "state.json";
/// Path of the containerDisk helper on the node.
pub const CONTAINER_DISK_HOST_PATH: &str = "/var/lib/kubevirt/bin/container-disk";
/// Path of the containerDisk helper in images and in disk containers.
pub const CONTAINER_DISK_HELPER: &str = "/usr/libexec/edgevirt/container-disk";
/// TLS port of virt-handler's console server, on its pod IP.
pub const HANDLER_PORT: u16 = 8186;
/// WebSocket subprotocol of console, VNC and port-forward.
pub const PLAIN_STREAM_PROTOCOL: &str = "plain.kubevirt.io";
