//! Volumes from claims, the node and API objects, and the disks that show them.
//!
//! Source: `validateVolumes` and `validateVirtualMachineInstanceSpecVolumeDisks`
//! of vmi-create-admitter.go. Upstream's checks end there; the ones about paths,
//! labels and names keep what could not work, or would lead out of its place,
//! from getting further.

use serde_json::Value;

use super::super::context::ClusterConfig;
use super::super::json::{at, has, list_at, text_at};
use super::super::names;
use super::super::quantity::Quantity;
use super::super::verdict::Reason;
use super::{Causes, Path};

/// Names of the launcher pod's own volumes, which a volume of the same pod cannot have.
const POD_VOLUMES: [&str; 4] = ["private", "container-disks", "ephemeral-disks", "tmp"];
/// Sources that become a volume of the pod under the volume's own name.
const IN_POD: [&str; 8] = [
    "persistentVolumeClaim",
    "dataVolume",
    "ephemeral",
    "hostDisk",
    "configMap",
    "secret",
    "serviceAccount",
    "downwardAPI",
];
/// Directories of the node in which a disk of a guest has no business: what is
/// there runs the node, or tells it apart. A directory below one is one too.
const SYSTEM_DIRECTORIES: [&str; 22] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib64",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/cache",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/edgevirt",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/var/lib/kubevirt",
    "/var/lib/rook",
    "/var/log",
    "/var/run",
];
/// Longest label of an ISO 9660 medium, characters.
const LABEL_MAX: usize = 32;

/// Each volume for itself.
pub(super) fn volumes(path: &Path, spec: &Value, config: &ClusterConfig, out: &mut Causes) {
    let path = path.child("volumes");
    let mut accounts = 0;
    for (index, volume) in list_at(spec, "volumes").iter().enumerate() {
        let field = path.index(index);
        let name = text_at(volume, "name");
        if POD_VOLUMES.contains(&name) && IN_POD.iter().any(|source| has(volume, source)) {
            out.invalid(
                &field.child("name"),
                format!(
                    "{field} cannot have the name {name}, which a volume of the launcher pod has"
                ),
            );
        }
        if has(volume, "dataVolume") && text_at(volume, "dataVolume.name").is_empty() {
            out.add(
                Reason::Required,
                &field.child("name"),
                "DataVolume 'name' must be set",
            );
        }
        for source in ["persistentVolumeClaim", "ephemeral.persistentVolumeClaim"] {
            required(&field, volume, source, "claimName", out);
        }
        if has(volume, "ephemeral") && !has(volume, "ephemeral.persistentVolumeClaim") {
            let field = field.child("ephemeral.persistentVolumeClaim");
            out.add(
                Reason::Required,
                &field,
                format!("{field} is a required field"),
            );
        }
        for name in [
            "persistentVolumeClaim.claimName",
            "ephemeral.persistentVolumeClaim.claimName",
            "dataVolume.name",
        ] {
            let text = text_at(volume, name);
            if !text.is_empty() {
                for why in names::dns_subdomain(text) {
                    out.invalid(&field.child(name), why);
                }
            }
        }
        if has(volume, "hostDisk") {
            host_disk(&field, at(volume, "hostDisk"), config, out);
        }
        required(&field, volume, "configMap", "name", out);
        required(&field, volume, "secret", "secretName", out);
        required(&field, volume, "serviceAccount", "serviceAccountName", out);
        accounts += usize::from(has(volume, "serviceAccount"));
        for source in ["configMap", "secret", "downwardAPI"] {
            label(&field.child(source), at(volume, source), out);
        }
    }
    if accounts > 1 {
        out.invalid(
            &path,
            format!("{path} must have max one serviceAccount volume set"),
        );
    }
}

fn required(path: &Path, volume: &Value, source: &str, name: &str, out: &mut Causes) {
    if has(volume, source) && text_at(at(volume, source), name).is_empty() {
        let field = path.child(source).child(name);
        out.invalid(&field, format!("{field} is a required field"));
    }
}

fn label(path: &Path, source: &Value, out: &mut Causes) {
    let label = text_at(source, "volumeLabel");
    if label.chars().count() > LABEL_MAX || label.chars().any(char::is_control) {
        let field = path.child("volumeLabel");
        out.invalid(
            &field,
            format!("{field} must have at most {LABEL_MAX} printable characters"),
        );
    }
}

fn host_disk(path: &Path, host: &Value, config: &ClusterConfig, out: &mut Causes) {
    if !config.gate("HostDisk") {
        out.invalid(path, "HostDisk feature gate is not enabled");
    }
    let field = path.child("hostDisk");
    let place = field.child("path");
    let file = text_at(host, "path");
    if file.is_empty() {
        out.add(
            Reason::NotFound,
            &place,
            format!("{place} is required for hostDisk volume"),
        );
    } else {
        host_path(&place, file, out);
    }
    let kind = text_at(host, "type");
    let type_field = field.child("type");
    if !["Disk", "DiskOrCreate"].contains(&kind) {
        out.invalid(
            &type_field,
            format!(
                "{type_field} has invalid value '{kind}', allowed are 'Disk' or 'DiskOrCreate'"
            ),
        );
    }
    let capacity = Quantity::or_zero(at(host, "capacity"));
    let size = field.child("capacity");
    if kind == "Disk" && !capacity.is_zero() {
        out.invalid(
            &size,
            format!("{size} is allowed to pass only with {type_field} equal to 'DiskOrCreate'"),
        );
    } else if capacity.value() < 0 {
        out.invalid(&size, format!("{size} must not be negative"));
    }
}

/// The directory is mounted into the launcher pod, and the image becomes the
/// launcher's own: a path must be what it looks like and keep off the system.
fn host_path(path: &Path, file: &str, out: &mut Causes) {
    let steps: Vec<&str> = file.split('/').skip(1).collect();
    let plain = file.starts_with('/')
        && !file.contains('\0')
        && steps.iter().all(|step| !matches!(*step, "" | "." | ".."));
    if !plain {
        return out.invalid(
            path,
            format!("{path} must be an absolute path to a file without relative components"),
        );
    }
    if steps.len() < 2 {
        return out.invalid(
            path,
            format!("{path} must be in a directory of its own, not in the root directory"),
        );
    }
    let system = SYSTEM_DIRECTORIES.iter().find(|directory| {
        file.strip_prefix(**directory)
            .is_some_and(|rest| rest.starts_with('/'))
    });
    // The parent alone: a disk beside /var/lib/kubelet would mount it too.
    let parent = file.rsplit_once('/').map_or("", |(parent, _)| parent);
    if let Some(directory) = system {
        out.invalid(
            path,
            format!("{path} must not be below {directory}, which belongs to the node's system"),
        );
    } else if ["/var", "/var/lib", "/home", "/mnt", "/opt", "/srv"].contains(&parent) {
        out.invalid(
            path,
            format!("{path} must be in a directory of its own below {parent}, since the launcher gets the whole directory"),
        );
    }
}

/// What disks ask of their volumes.
pub(super) fn disks(path: &Path, spec: &Value, out: &mut Causes) {
    let path = path.child("domain.devices.disks");
    let volumes = list_at(spec, "volumes");
    for (index, disk) in list_at(spec, "domain.devices.disks").iter().enumerate() {
        let field = path.index(index);
        let name = text_at(disk, "name");
        let Some(volume) = volumes.iter().find(|one| text_at(one, "name") == name) else {
            continue;
        };
        let claim = has(volume, "persistentVolumeClaim") || has(volume, "dataVolume");
        if has(disk, "lun") {
            let lun = field.child("lun");
            if !claim {
                out.invalid(
                    &lun,
                    format!(
                        "{lun} can only be mapped to a DataVolume or PersistentVolumeClaim volume."
                    ),
                );
            }
            let bus = text_at(disk, "lun.bus");
            if !["", "scsi"].contains(&bus) {
                let field = lun.child("bus");
                out.add(
                    Reason::NotSupported,
                    &field,
                    format!("{field} {bus} is not supported: a lun can only be on the scsi bus"),
                );
            }
        }
        let shareable = at(disk, "shareable").as_bool() == Some(true);
        let shared = field.child("shareable");
        if shareable && !claim && !has(volume, "hostDisk") {
            out.invalid(
                &shared,
                format!("{shared} is only possible with a volume that other guests can have: a claim, a DataVolume or a hostDisk"),
            );
        }
        let cache = text_at(disk, "cache");
        if shareable && !["", "none"].contains(&cache) {
            let field = field.child("cache");
            out.invalid(
                &field,
                format!("{field} must be none, since the disk is shareable"),
            );
        }
        let read_only = at(volume, "persistentVolumeClaim.readOnly").as_bool() == Some(true);
        let hard = !has(disk, "cdrom") && !has(disk, "lun");
        if read_only && hard && ["", "sata"].contains(&text_at(disk, "disk.bus")) {
            let field = field.child("disk.bus");
            out.invalid(
                &field,
                format!("{field} must be virtio, scsi or usb: the claim is read-only, and sata hard-disks do not support read-only."),
            );
        }
        if at(disk, "io") == "native" && ["writethrough", "writeback"].contains(&cache) {
            let field = field.child("io");
            out.invalid(
                &field,
                format!("{field} native needs a cache of none, found {cache}"),
            );
        }
    }
}
