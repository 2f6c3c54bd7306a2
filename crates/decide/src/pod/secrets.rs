//! Secrets with cloud-init data: the kubelet mounts them into `compute`, where
//! the launcher reads them. No component of ours may read secrets.
//!
//! Source of the volumes' names: KubeVirt, pkg/virt-controller/services/rendervolumes.go.

use api::names::{CLOUD_INIT_SECRETS_DIR, NETWORK_DATA_DIR, USER_DATA_DIR};
use api::vmi::VmiSpec;
use k8s_openapi::api::core::v1::{SecretVolumeSource, Volume, VolumeMount};

/// A secret that a volume of a VMI refers to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SecretRef<'a> {
    /// Place of the volume in `spec.volumes`.
    index: usize,
    /// Name of that volume.
    volume: &'a str,
    /// Name of the secret.
    secret: &'a str,
    /// Ending of the pod volume's name.
    suffix: &'static str,
    /// Directory under the volume's.
    directory: &'static str,
}

impl SecretRef<'_> {
    /// The volume of the pod.
    pub(super) fn volume(&self) -> Volume {
        Volume {
            name: self.name(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(self.secret.to_owned()),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        }
    }

    /// Its mount in `compute`.
    pub(super) fn mount(&self) -> VolumeMount {
        VolumeMount {
            name: self.name(),
            mount_path: format!(
                "{CLOUD_INIT_SECRETS_DIR}/{}/{}",
                self.volume, self.directory
            ),
            read_only: Some(true),
            ..VolumeMount::default()
        }
    }

    /// For people: the secret and where the VMI names it.
    fn told(&self) -> String {
        format!("{} (spec.volumes[{}])", self.secret, self.index)
    }

    fn name(&self) -> String {
        format!("{}-{}", self.volume, self.suffix)
    }
}

/// For people: the secrets and config maps without which the kubelet does not
/// start the pod, and where the VMI names them.
pub(crate) fn awaited_objects(spec: &VmiSpec) -> impl Iterator<Item = String> {
    let own = spec
        .volumes
        .iter()
        .enumerate()
        .filter_map(|(index, volume)| {
            let (name, optional) = if let Some(secret) = &volume.secret {
                (&secret.secret_name, secret.optional)
            } else {
                let map = volume.config_map.as_ref()?;
                (&map.name, map.optional)
            };
            (optional != Some(true)).then(|| format!("{name} (spec.volumes[{index}])"))
        });
    secret_refs(spec).map(|secret| secret.told()).chain(own)
}

/// All of them, in the order of the volumes.
pub(super) fn secret_refs(spec: &VmiSpec) -> impl Iterator<Item = SecretRef<'_>> {
    spec.volumes.iter().enumerate().flat_map(|(index, volume)| {
        let source = volume.cloud_init();
        let user = source.and_then(|source| source.user_data_secret_ref.as_ref());
        let network = source.and_then(|source| source.network_data_secret_ref.as_ref());
        [
            (user, "udata", USER_DATA_DIR),
            (network, "ndata", NETWORK_DATA_DIR),
        ]
        .into_iter()
        .filter_map(move |(reference, suffix, directory)| {
            let secret = reference.map(|reference| reference.name.as_str())?;
            (!secret.is_empty()).then_some(SecretRef {
                index,
                volume: &volume.name,
                secret,
                suffix,
                directory,
            })
        })
    })
}
