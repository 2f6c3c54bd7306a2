//! Volumes.
//!
//! Source: `validateVolumes` and `validateVirtualMachineInstanceSpecVolumeDisks`
//! of vmi-create-admitter.go; `ValidatePath` of pkg/storage/admitters/disks.go.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::Value;

use super::super::json::{at, has, list_at, text_at};
use super::super::quantity::{Quantity, show};
use super::{Causes, Path};

/// Longest cloud-init document inside an object, in bytes; longer ones belong
/// into a Secret.
const CLOUD_INIT_MAX: usize = 2048;
/// Everything a volume can be.
const SOURCES: [&str; 16] = [
    "persistentVolumeClaim",
    "sysprep",
    "cloudInitNoCloud",
    "cloudInitConfigDrive",
    "containerDisk",
    "ephemeral",
    "emptyDisk",
    "hostDisk",
    "dataVolume",
    "configMap",
    "secret",
    "downwardAPI",
    "serviceAccount",
    "downwardMetrics",
    "memoryDump",
    "containerPath",
];

/// Each volume for itself, and their names.
pub(super) fn check(path: &Path, spec: &Value, out: &mut Causes) {
    let path = path.child("volumes");
    let volumes = list_at(spec, "volumes");
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, volume) in volumes.iter().enumerate() {
        let field = path.index(index);
        let name = text_at(volume, "name");
        match names.get(name) {
            Some(other) => out.invalid(
                &field.child("name"),
                format!(
                    "{field} and {} must not have the same Name.",
                    path.index(*other)
                ),
            ),
            None => {
                names.insert(name, index);
            }
        }
        if SOURCES.iter().filter(|source| has(volume, source)).count() != 1 {
            out.invalid(
                &field,
                format!("{field} must have exactly one source type set"),
            );
        }
        for source in ["cloudInitNoCloud", "cloudInitConfigDrive"] {
            if has(volume, source) {
                cloud_init(&field, source, at(volume, source), out);
            }
        }
        container_disk(
            &field.child("containerDisk"),
            at(volume, "containerDisk"),
            out,
        );
        let capacity = at(volume, "emptyDisk.capacity");
        if has(volume, "emptyDisk") && Quantity::or_zero(capacity).value() <= 0 {
            let field = field.child("emptyDisk.capacity");
            out.invalid(
                &field,
                format!("{field} '{}': must be greater than 0.", show(capacity)),
            );
        }
    }
    // Upstream checks paths after all volumes.
    for (index, volume) in volumes.iter().enumerate() {
        let inside = text_at(volume, "containerDisk.path");
        if !inside.is_empty() {
            image_path(&path.index(index).child("containerDisk"), inside, out);
        }
    }
}

fn container_disk(path: &Path, disk: &Value, out: &mut Causes) {
    if disk.is_null() {
        return;
    }
    if text_at(disk, "image").is_empty() {
        let field = path.child("image");
        out.invalid(&field, format!("{field} must name an image"));
    }
    let policy = text_at(disk, "imagePullPolicy");
    if !["", "Always", "IfNotPresent", "Never"].contains(&policy) {
        let field = path.child("imagePullPolicy");
        out.invalid(
            &field,
            format!("{field} '{policy}' is not one of Always, IfNotPresent, Never"),
        );
    }
}

fn image_path(path: &Path, inside: &str, out: &mut Causes) {
    if inside == "/" {
        return out.invalid(path, format!("{path} must not point to root"));
    }
    let plain = inside.strip_suffix('/').unwrap_or(inside);
    let relative = plain
        .split('/')
        .skip(1)
        .any(|step| matches!(step, "" | "." | ".."));
    if !plain.starts_with('/') || relative {
        out.invalid(
            path,
            format!("{path} must be an absolute path to a file without relative components"),
        );
    }
}

/// One of the two documents of cloud-init.
struct Document {
    /// Prefix of its fields: `userData`, `networkData`.
    field: &'static str,
    /// Field of its secret.
    secret: &'static str,
    /// Word in the message about several sources.
    sources: &'static str,
    /// Word in the message about its length.
    word: &'static str,
    /// Name in that message of what to use instead.
    instead: &'static str,
}

const DOCUMENTS: [Document; 2] = [
    Document {
        field: "userData",
        secret: "secretRef",
        sources: "userdatasource",
        word: "userdata",
        instead: "UserDataSecretRef",
    },
    Document {
        field: "networkData",
        secret: "networkDataSecretRef",
        sources: "networkdata source",
        word: "networkdata",
        instead: "NetworkDataSecretRef",
    },
];

fn cloud_init(path: &Path, source: &str, data: &Value, out: &mut Causes) {
    let path = path.child(source);
    let mut given = 0;
    for document in &DOCUMENTS {
        let plain = text_at(data, document.field);
        let encoded_field = format!("{}Base64", document.field);
        let encoded = text_at(data, &encoded_field);
        let secret = text_at(at(data, document.secret), "name");
        let mut length = plain.len();
        if !encoded.is_empty() {
            match decode(encoded) {
                Some(decoded) => length = length.max(decoded.len()),
                None => {
                    let field = path.child(&encoded_field);
                    out.invalid(
                        &field,
                        format!("{field}.{source}.{encoded_field} is not a valid base64 value."),
                    );
                }
            }
        }
        let count = [plain, encoded, secret]
            .iter()
            .filter(|text| !text.is_empty())
            .count();
        given += count;
        if count > 1 {
            out.invalid(
                &path,
                format!("{path} must have only one {} set.", document.sources),
            );
        }
        if length > CLOUD_INIT_MAX {
            out.invalid(
                &path,
                format!(
                    "{path} {} exceeds {CLOUD_INIT_MAX} byte limit. Should use {} for larger data.",
                    document.word, document.instead
                ),
            );
        }
    }
    if given == 0 {
        out.invalid(
            &path,
            format!("{path} must have at least one userdatasource or one networkdatasource set."),
        );
    }
}

/// Decodes as Go does: line breaks inside are no mistake.
fn decode(text: &str) -> Option<Vec<u8>> {
    let plain: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    base64::engine::general_purpose::STANDARD.decode(plain).ok()
}

/// Volumes of a VMI that no disk shows to the guest: index and name. A template
/// may have them, since its VMI gets the missing disks.
pub(in super::super) fn volumes_without_disk(path: &Path, spec: &Value) -> Vec<(Path, String)> {
    let shown: Vec<&str> = list_at(spec, "domain.devices.disks")
        .iter()
        .chain(list_at(spec, "domain.devices.filesystems"))
        .map(|device| text_at(device, "name"))
        .collect();
    list_at(spec, "volumes")
        .iter()
        .enumerate()
        .filter(|(_, volume)| !has(volume, "memoryDump"))
        .map(|(index, volume)| (index, text_at(volume, "name")))
        .filter(|(_, name)| !shown.contains(name))
        .map(|(index, name)| {
            // The path is upstream's, though volumes are not below domain.
            let field = path.child("domain.volumes").index(index).child("name");
            (field, name.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn base64_of_the_user_document_is_read() {
        assert_eq!(decode("SGkuXG4=").as_deref(), Some(&b"Hi.\\n"[..]));
        assert_eq!(decode("SGku\nXG4=\n").as_deref(), Some(&b"Hi.\\n"[..]));
        for bad in ["SGkuXG4", "not base64!", "===="] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
