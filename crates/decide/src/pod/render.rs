//! The launcher pod of a VMI.
//!
//! ```text
//!   compute        the launcher and QEMU; first, because webhooks of SR-IOV patch the first
//!   volume<name>   one for each containerDisk: the user's image with our helper mounted in
//! ```
//! No init container: each would cost about a second. The helper comes by a
//! mount that the device plugin returns for [`CONTAINER_DISK_RESOURCE`]. The
//! VMI's spec is not in the pod; virt-handler gives it to the launcher. Secrets
//! with cloud-init data are volumes: while one is missing the kubelet waits. What
//! the VMI's other volumes need is in [`super::volumes`].
//!
//! Source of names, labels and gates: KubeVirt,
//! pkg/virt-controller/services/template.go.

use std::collections::BTreeMap;

use api::VirtualMachineInstance;
use api::names::{
    API_VERSION, APP_LABEL, COMPUTE_CONTAINER, CONTAINER_DISK_DIR, CONTAINER_DISK_HELPER,
    CONTAINER_DISK_RESOURCE, CONTAINER_DISK_VOLUME, CREATED_BY_LABEL, DEFAULT_CONTAINER_ANNOTATION,
    DOMAIN_ANNOTATION, EPHEMERAL_DIR, EPHEMERAL_VOLUME, LAUNCHER_APP, NONROOT_UID, PRIVATE_DIR,
    PRIVATE_VOLUME, SCHEDULABLE_LABEL, UNPAUSED_CONDITION, VM_NAME_LABEL, VMI_ID_LABEL,
};
use api::vmi::{ContainerDisk, Volume as VmiVolume};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EmptyDirVolumeSource, LocalObjectReference, Pod,
    PodReadinessGate, PodSecurityContext, PodSpec, ResourceRequirements, SecurityContext, Sysctl,
    Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use machine::quantity::QuantityError;

use super::secrets::secret_refs;
use super::volumes::{self, Rendered};
use super::{Settings, resources};
use crate::storage::Storage;

/// Seconds the guest has to shut down when the VMI does not say (upstream's default).
const GRACE_SECONDS: i64 = 30;
/// Seconds the launcher has beyond the guest's, to write its last state.
const GRACE_PADDING_SECONDS: i64 = 30;
/// Longest label value and host name (RFC 1123).
const LABEL_LENGTH: usize = 63;
/// Annotation prefixes of a VMI that say nothing about its pod.
const PRIVATE_ANNOTATIONS: [&str; 4] = [
    "kubectl.kubernetes.io",
    "kubevirt.io/storage-observed-api-version",
    "kubevirt.io/latest-observed-api-version",
    crate::vm::TEMPLATE_ANNOTATION,
];

/// Why no pod can be made for a VMI. Admission refuses such VMIs; one that was
/// stored before stays Pending with this reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A quantity cannot be read.
    #[error("{path}: found {found:?}, expected {source}")]
    Quantity {
        /// Where it is.
        path: String,
        /// What is there.
        found: String,
        /// What is wrong with it.
        source: QuantityError,
    },
    /// A claim is not known.
    #[error("{path}: found {claim:?}, expected a claim in the VMI's namespace")]
    NoClaim {
        /// Where it is.
        path: String,
        /// Its name.
        claim: String,
    },
    /// Guest memory from huge pages.
    #[error("{path}: huge pages are not supported yet; leave it out")]
    HugePages {
        /// Where it is.
        path: String,
    },
}

/// Name of the launcher pod: `virt-launcher-<vmi>-<5 characters>`.
///
/// The end comes from the VMI's UID, so that one VMI can never have two pods,
/// whatever a restarted controller has not seen yet.
#[must_use]
pub fn pod_name(vmi: &VirtualMachineInstance) -> String {
    // Kubernetes' own alphabet for random name endings: no vowels, no words.
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let name = vmi.metadata.name.as_deref().unwrap_or_default();
    let uid = vmi.metadata.uid.as_deref().unwrap_or_default();
    let digest = sha1_smol::Sha1::from(uid).digest().bytes();
    let end: String = digest
        .iter()
        .take(5)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect();
    // Pod names have at most 253 characters; as with generateName, a long base is cut.
    let base: String = format!("virt-launcher-{name}-").chars().take(248).collect();
    base + &end
}

/// Host name of the guest and the pod: the spec's, else the VMI's name up to
/// its first dot, at most 63 characters.
#[must_use]
pub fn hostname(vmi: &VirtualMachineInstance) -> String {
    if let Some(name) = vmi.spec.hostname.as_ref().filter(|name| !name.is_empty()) {
        return name.clone();
    }
    let name = vmi.metadata.name.as_deref().unwrap_or_default();
    let first = name.split('.').next().unwrap_or_default();
    first.chars().take(LABEL_LENGTH).collect()
}

/// The launcher pod of `vmi`; `storage` has the claims that it names.
///
/// # Errors
/// When the spec asks for what pods cannot give; see [`RenderError`].
pub fn render(
    vmi: &VirtualMachineInstance,
    settings: &Settings,
    storage: &Storage,
) -> Result<Pod, RenderError> {
    let spec = &vmi.spec;
    let grace = spec
        .termination_grace_period_seconds
        .unwrap_or(GRACE_SECONDS);
    let disks = volumes::render(spec, storage)?;
    let mut containers = vec![compute(vmi, settings, &disks, grace)?];
    containers.extend(spec.volumes.iter().enumerate().filter_map(disk_container));
    let mut node_selector = spec.node_selector.clone().unwrap_or_default();
    node_selector.insert(SCHEDULABLE_LABEL.to_owned(), "true".to_owned());
    if let Some(architecture) = &spec.architecture {
        node_selector.insert("kubernetes.io/arch".to_owned(), architecture.clone());
    }
    Ok(Pod {
        metadata: ObjectMeta {
            name: Some(pod_name(vmi)),
            namespace: vmi.metadata.namespace.clone(),
            labels: Some(labels(vmi)),
            annotations: Some(annotations(vmi)),
            owner_references: Some(vec![OwnerReference {
                api_version: API_VERSION.to_owned(),
                kind: "VirtualMachineInstance".to_owned(),
                name: vmi.metadata.name.clone().unwrap_or_default(),
                uid: vmi.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            containers,
            restart_policy: Some("Never".to_owned()),
            termination_grace_period_seconds: Some(grace + GRACE_PADDING_SECONDS),
            hostname: Some(hostname(vmi)),
            subdomain: spec.subdomain.clone(),
            dns_policy: spec.dns_policy.clone(),
            dns_config: spec.dns_config.clone(),
            node_selector: Some(node_selector),
            affinity: spec.affinity.clone(),
            tolerations: spec.tolerations.clone(),
            topology_spread_constraints: spec.topology_spread_constraints.clone(),
            scheduler_name: spec.scheduler_name.clone(),
            priority_class_name: spec.priority_class_name.clone(),
            image_pull_secrets: pull_secrets(&spec.volumes),
            readiness_gates: Some(vec![PodReadinessGate {
                condition_type: UNPAUSED_CONDITION.to_owned(),
            }]),
            enable_service_links: Some(false),
            automount_service_account_token: Some(false),
            service_account_name: disks.service_account,
            security_context: Some(PodSecurityContext {
                run_as_user: Some(i64::from(NONROOT_UID)),
                run_as_group: Some(i64::from(NONROOT_UID)),
                run_as_non_root: Some(true),
                // The kubelet gives claims to this group; where that was done
                // before, it need not go through all files again.
                fs_group: disks.fs_group.then_some(i64::from(NONROOT_UID)),
                fs_group_change_policy: disks.fs_group.then(|| "OnRootMismatch".to_owned()),
                // The DHCP server of bridged interfaces listens on port 67
                // without being root: a sysctl of the pod's own network
                // namespace, on Kubernetes' list of safe ones.
                sysctls: Some(vec![Sysctl {
                    name: "net.ipv4.ip_unprivileged_port_start".to_owned(),
                    value: "67".to_owned(),
                }]),
                ..PodSecurityContext::default()
            }),
            volumes: Some(
                [
                    PRIVATE_VOLUME,
                    CONTAINER_DISK_VOLUME,
                    EPHEMERAL_VOLUME,
                    "tmp",
                ]
                .map(empty_dir)
                .into_iter()
                .chain(secret_refs(spec).map(|secret| secret.volume()))
                .chain(disks.volumes)
                .collect(),
            ),
            ..PodSpec::default()
        }),
        status: None,
    })
}

fn labels(vmi: &VirtualMachineInstance) -> BTreeMap<String, String> {
    let mut labels = vmi.metadata.labels.clone().unwrap_or_default();
    let uid = vmi.metadata.uid.clone().unwrap_or_default();
    for (key, value) in [
        (APP_LABEL, LAUNCHER_APP.to_owned()),
        (CREATED_BY_LABEL, uid),
        (VM_NAME_LABEL, hostname(vmi)),
        (VMI_ID_LABEL, vmi_id(vmi)),
    ] {
        labels.insert(key.to_owned(), value);
    }
    labels
}

/// The VMI's name as a label: past 63 characters its first 54 and a hash.
fn vmi_id(vmi: &VirtualMachineInstance) -> String {
    let name = vmi.metadata.name.as_deref().unwrap_or_default();
    if name.len() <= LABEL_LENGTH {
        return name.to_owned();
    }
    let hash = sha1_smol::Sha1::from(name).digest().to_string();
    let start: String = name.chars().take(LABEL_LENGTH - 9).collect();
    let end: String = hash.chars().take(8).collect();
    format!("{start}-{end}")
}

fn annotations(vmi: &VirtualMachineInstance) -> BTreeMap<String, String> {
    let mut annotations = vmi.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| {
        !PRIVATE_ANNOTATIONS
            .iter()
            .any(|prefix| key.starts_with(prefix))
    });
    let name = vmi.metadata.name.clone().unwrap_or_default();
    for (key, value) in [
        (DOMAIN_ANNOTATION, name),
        (DEFAULT_CONTAINER_ANNOTATION, COMPUTE_CONTAINER.to_owned()),
        // Present on every upstream launcher; tools read it to know the transport.
        ("kubevirt.io/migrationTransportUnix", "true".to_owned()),
    ] {
        annotations.insert(key.to_owned(), value);
    }
    annotations
}

fn compute(
    vmi: &VirtualMachineInstance,
    settings: &Settings,
    disks: &Rendered,
    grace: i64,
) -> Result<Container, RenderError> {
    let meta = &vmi.metadata;
    let argument = |value: &Option<String>| value.clone().unwrap_or_default();
    let ports: Vec<ContainerPort> = vmi
        .spec
        .domain
        .devices
        .interfaces
        .iter()
        .flat_map(|interface| &interface.ports)
        .map(|port| ContainerPort {
            container_port: port.port,
            name: (!port.name.is_empty()).then(|| port.name.clone()),
            protocol: Some(if port.protocol.is_empty() {
                "TCP".to_owned()
            } else {
                port.protocol.clone()
            }),
            ..ContainerPort::default()
        })
        .collect();
    Ok(Container {
        name: COMPUTE_CONTAINER.to_owned(),
        image: Some(settings.launcher_image.clone()),
        image_pull_policy: Some(settings.image_pull_policy.clone()),
        args: (!disks.args.is_empty()).then(|| disks.args.clone()),
        command: Some(vec![
            "/usr/bin/virt-launcher".to_owned(),
            "--uid".to_owned(),
            argument(&meta.uid),
            "--name".to_owned(),
            argument(&meta.name),
            "--namespace".to_owned(),
            argument(&meta.namespace),
            "--grace-period".to_owned(),
            grace.to_string(),
        ]),
        ports: (!ports.is_empty()).then_some(ports),
        resources: Some(resources::compute(&vmi.spec, settings)?),
        security_context: Some(security_context(&["NET_BIND_SERVICE"])),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(
            [
                mount(PRIVATE_VOLUME, PRIVATE_DIR),
                mount(CONTAINER_DISK_VOLUME, CONTAINER_DISK_DIR),
                mount(EPHEMERAL_VOLUME, EPHEMERAL_DIR),
                mount("tmp", "/tmp"),
            ]
            .into_iter()
            .chain(secret_refs(&vmi.spec).map(|secret| secret.mount()))
            .chain(disks.mounts.iter().cloned())
            .collect(),
        ),
        volume_devices: (!disks.devices.is_empty()).then(|| disks.devices.clone()),
        ..Container::default()
    })
}

/// The container that opens the one file of a containerDisk and hands it out.
fn disk_container((index, volume): (usize, &VmiVolume)) -> Option<Container> {
    let disk = volume.container_disk.as_ref()?;
    let quantities = |list: &[(&str, &str)]| -> Option<BTreeMap<String, Quantity>> {
        Some(
            list.iter()
                .map(|(name, value)| ((*name).to_owned(), Quantity((*value).to_owned())))
                .collect(),
        )
    };
    Some(Container {
        name: format!("volume{}", volume.name),
        image: Some(disk.image.clone()),
        image_pull_policy: pull_policy(disk),
        command: Some(vec![CONTAINER_DISK_HELPER.to_owned()]),
        args: Some(vec![
            "--socket".to_owned(),
            format!("{CONTAINER_DISK_DIR}/disk_{index}.sock"),
            "--path".to_owned(),
            disk.path.clone().unwrap_or_else(|| "/disk".to_owned()),
        ]),
        resources: Some(ResourceRequirements {
            // No CPU limit: at 10m, upstream's, the helper's few milliseconds
            // of start would be spread over several throttling periods.
            requests: quantities(&[
                ("cpu", "1m"),
                ("memory", "1M"),
                ("ephemeral-storage", "50M"),
            ]),
            limits: quantities(&[("memory", "40M"), (CONTAINER_DISK_RESOURCE, "1")]),
            ..ResourceRequirements::default()
        }),
        security_context: Some(security_context(&[])),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![mount(CONTAINER_DISK_VOLUME, CONTAINER_DISK_DIR)]),
        ..Container::default()
    })
}

/// The user's policy; none leaves the choice to Kubernetes (Always for
/// `:latest` and for no tag, else IfNotPresent).
fn pull_policy(disk: &ContainerDisk) -> Option<String> {
    disk.image_pull_policy
        .clone()
        .filter(|policy| !policy.is_empty())
}

fn pull_secrets(volumes: &[VmiVolume]) -> Option<Vec<LocalObjectReference>> {
    let mut names: Vec<&String> = volumes
        .iter()
        .filter_map(|volume| volume.container_disk.as_ref()?.image_pull_secret.as_ref())
        .filter(|name| !name.is_empty())
        .collect();
    names.sort();
    names.dedup();
    let secrets: Vec<_> = names
        .into_iter()
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect();
    (!secrets.is_empty()).then_some(secrets)
}

fn security_context(capabilities: &[&str]) -> SecurityContext {
    SecurityContext {
        run_as_user: Some(i64::from(NONROOT_UID)),
        run_as_group: Some(i64::from(NONROOT_UID)),
        run_as_non_root: Some(true),
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: (!capabilities.is_empty())
                .then(|| capabilities.iter().map(|c| (*c).to_owned()).collect()),
        }),
        ..SecurityContext::default()
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

fn empty_dir(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    }
}

#[cfg(test)]
mod tests;
