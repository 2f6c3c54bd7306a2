//! What the VMI's volumes need of the pod: volumes, their mounts or devices in
//! `compute`, and what the launcher is told of them.
//!
//! ```text
//!   claim, Filesystem   /var/run/kubevirt-private/vmi-disks/<volume>/   --image-size <volume>=<bytes>
//!   claim, Block        /dev/<volume>
//!   hostDisk            its directory at /var/run/kubevirt-private/vmi-disks/<volume>/
//!   configMap, secret…  /var/run/kubevirt-private/{config-map,secret,downwardapi}/<volume>/
//!   serviceAccount      /var/run/secrets/kubernetes.io/serviceaccount
//! ```
//! Everything is mounted into `compute` alone: the user's images see nothing.
//!
//! Source of names and paths: KubeVirt,
//! pkg/virt-controller/services/rendervolumes.go, pkg/config.

use api::names::{
    CONFIG_MAPS_DIR, DISKS_DIR, DOWNWARD_API_DIR, PRIVATE_DIR, SECRETS_DIR, SERVICE_ACCOUNT_DIR,
};
use api::vmi::{HostDisk, VmiSpec, Volume as VmiVolume};
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, ConfigMapVolumeSource, DownwardAPIProjection, DownwardAPIVolumeFile,
    DownwardAPIVolumeSource, HostPathVolumeSource, KeyToPath, ObjectFieldSelector,
    PersistentVolumeClaimVolumeSource, ProjectedVolumeSource, SecretVolumeSource,
    ServiceAccountTokenProjection, Volume, VolumeDevice, VolumeMount, VolumeProjection,
};

use super::RenderError;
use crate::storage::Storage;

/// Seconds a service account's token is good for. At this very number, the one
/// of tokens that pods are given by themselves, the API server makes it a year
/// (Kubernetes, --service-account-extend-token-expiration): nobody renews what
/// is on a medium.
const TOKEN_SECONDS: i64 = 3607;

/// Parts of the pod.
#[derive(Debug, Default)]
pub(super) struct Rendered {
    /// Volumes of the pod.
    pub(super) volumes: Vec<Volume>,
    /// Mounts in `compute`.
    pub(super) mounts: Vec<VolumeMount>,
    /// Block devices in `compute`.
    pub(super) devices: Vec<VolumeDevice>,
    /// Further arguments of the launcher.
    pub(super) args: Vec<String>,
    /// Service account of the pod.
    pub(super) service_account: Option<String>,
    /// The kubelet shall let the launcher's group into the volumes.
    pub(super) fs_group: bool,
}

/// What the volumes of `spec` need, in their order.
///
/// # Errors
/// When a claim is not known: whether it is a file system or a device is not.
pub(super) fn render(spec: &VmiSpec, storage: &Storage) -> Result<Rendered, RenderError> {
    let mut out = Rendered::default();
    for (index, volume) in spec.volumes.iter().enumerate() {
        if let Some(name) = volume.claim_name() {
            let Some(known) = storage.claims.get(name) else {
                return Err(RenderError::NoClaim {
                    path: format!("spec.volumes[{index}]"),
                    claim: name.to_owned(),
                });
            };
            out.claim(volume, name);
            if known.block {
                out.devices.push(VolumeDevice {
                    name: volume.name.clone(),
                    device_path: format!("/dev/{}", volume.name),
                });
                continue;
            }
            out.fs_group = true;
            out.mounts
                .push(mount(volume, DISKS_DIR, volume.claim_is_read_only()));
            if let Some(bytes) = known.image_bytes() {
                out.args.push("--image-size".to_owned());
                out.args.push(format!("{}={bytes}", volume.name));
            }
        } else if let Some(host) = &volume.host_disk {
            out.host_disk(volume, host);
        } else {
            out.objects(volume);
        }
    }
    Ok(out)
}

impl Rendered {
    fn push(&mut self, volume: Volume) {
        self.volumes.push(volume);
    }

    fn claim(&mut self, volume: &VmiVolume, name: &str) {
        // An ephemeral disk's claim may be had by others too, as far as its access
        // modes let them; a claim that is mounted read-only is so for good.
        let read_only = volume
            .persistent_volume_claim
            .as_ref()
            .or(volume
                .ephemeral
                .as_ref()
                .map(|one| &one.persistent_volume_claim))
            .is_some_and(|claim| claim.read_only);
        self.push(Volume {
            name: volume.name.clone(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: name.to_owned(),
                read_only: read_only.then_some(true),
            }),
            ..Volume::default()
        });
    }

    fn host_disk(&mut self, volume: &VmiVolume, host: &HostDisk) {
        let directory = host.path.rsplit_once('/').map_or("", |(above, _)| above);
        let type_ = if host.type_ == "Disk" {
            "Directory"
        } else {
            "DirectoryOrCreate"
        };
        self.mounts.push(mount(volume, DISKS_DIR, false));
        self.push(Volume {
            name: volume.name.clone(),
            host_path: Some(HostPathVolumeSource {
                path: directory.to_owned(),
                type_: Some(type_.to_owned()),
            }),
            ..Volume::default()
        });
    }

    /// ConfigMaps, secrets, fields of the pod, service accounts.
    fn objects(&mut self, volume: &VmiVolume) {
        let mut made = Volume {
            name: volume.name.clone(),
            ..Volume::default()
        };
        if let Some(source) = &volume.config_map {
            made.config_map = Some(ConfigMapVolumeSource {
                name: source.name.clone(),
                optional: source.optional,
                ..ConfigMapVolumeSource::default()
            });
            self.mounts.push(mount(volume, CONFIG_MAPS_DIR, true));
        } else if let Some(source) = &volume.secret {
            made.secret = Some(SecretVolumeSource {
                secret_name: Some(source.secret_name.clone()),
                optional: source.optional,
                ..SecretVolumeSource::default()
            });
            self.mounts.push(mount(volume, SECRETS_DIR, true));
        } else if let Some(source) = &volume.downward_api {
            made.downward_api = Some(DownwardAPIVolumeSource {
                items: Some(source.fields.clone()),
                ..DownwardAPIVolumeSource::default()
            });
            self.mounts.push(mount(volume, DOWNWARD_API_DIR, true));
        } else if let Some(source) = &volume.service_account {
            self.service_account = Some(source.service_account_name.clone());
            made.projected = Some(token());
            self.mounts.push(VolumeMount {
                mount_path: SERVICE_ACCOUNT_DIR.to_owned(),
                ..mount(volume, "", true)
            });
        } else {
            return;
        }
        self.push(made);
    }
}

/// What every pod with a service account is given, but into one container only.
fn token() -> ProjectedVolumeSource {
    ProjectedVolumeSource {
        sources: Some(vec![
            VolumeProjection {
                service_account_token: Some(ServiceAccountTokenProjection {
                    path: "token".to_owned(),
                    expiration_seconds: Some(TOKEN_SECONDS),
                    ..ServiceAccountTokenProjection::default()
                }),
                ..VolumeProjection::default()
            },
            VolumeProjection {
                config_map: Some(ConfigMapProjection {
                    name: "kube-root-ca.crt".to_owned(),
                    items: Some(vec![KeyToPath {
                        key: "ca.crt".to_owned(),
                        path: "ca.crt".to_owned(),
                        ..KeyToPath::default()
                    }]),
                    ..ConfigMapProjection::default()
                }),
                ..VolumeProjection::default()
            },
            VolumeProjection {
                downward_api: Some(DownwardAPIProjection {
                    items: Some(vec![DownwardAPIVolumeFile {
                        path: "namespace".to_owned(),
                        field_ref: Some(ObjectFieldSelector {
                            field_path: "metadata.namespace".to_owned(),
                            ..ObjectFieldSelector::default()
                        }),
                        ..DownwardAPIVolumeFile::default()
                    }]),
                }),
                ..VolumeProjection::default()
            },
        ]),
        ..ProjectedVolumeSource::default()
    }
}

fn mount(volume: &VmiVolume, directory: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.name.clone(),
        mount_path: format!("{PRIVATE_DIR}/{directory}/{}", volume.name),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}
