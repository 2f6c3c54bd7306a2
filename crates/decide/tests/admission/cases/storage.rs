//! Claims, disks of the node, files from API objects.

use serde_json::{Value, json};

use super::{Case, INVALID, NOT_FOUND, NOT_SUPPORTED, REQUIRED};

fn root(source: &str, value: &Value) -> Value {
    json!({"name": "root", source: value})
}

pub(super) fn rows() -> Vec<Case> {
    let host = |path: &str| root("hostDisk", &json!({"path": path, "type": "DiskOrCreate"}));
    let mut rows = vec![
        (
            "/volumes/0",
            root("dataVolume", &json!({"name": ""})),
            "volumes[0].name",
            REQUIRED,
            "DataVolume 'name' must be set",
        ),
        (
            "/volumes/0",
            root("persistentVolumeClaim", &json!({"claimName": ""})),
            "volumes[0].persistentVolumeClaim.claimName",
            INVALID,
            "is a required field",
        ),
        (
            "/volumes/0",
            root("persistentVolumeClaim", &json!({"claimName": "../x"})),
            "volumes[0].persistentVolumeClaim.claimName",
            INVALID,
            "",
        ),
        (
            "/volumes/0",
            root(
                "persistentVolumeClaim",
                &json!({"claimName": "a", "hotpluggable": true}),
            ),
            "volumes[0].persistentVolumeClaim.hotpluggable",
            NOT_SUPPORTED,
            "nothing can be plugged into a running guest",
        ),
        (
            "/volumes/0",
            root("ephemeral", &json!({})),
            "volumes[0].ephemeral.persistentVolumeClaim",
            REQUIRED,
            "is a required field",
        ),
        (
            "/volumes/0",
            root("configMap", &json!({"name": ""})),
            "volumes[0].configMap.name",
            INVALID,
            "is a required field",
        ),
        (
            "/volumes/0",
            root(
                "configMap",
                &json!({"name": "m", "volumeLabel": "x".repeat(33)}),
            ),
            "volumes[0].configMap.volumeLabel",
            INVALID,
            "at most 32 printable characters",
        ),
        (
            "/volumes/0",
            root("secret", &json!({})),
            "volumes[0].secret.secretName",
            INVALID,
            "is a required field",
        ),
        (
            "/volumes/0",
            root("serviceAccount", &json!({})),
            "volumes[0].serviceAccount.serviceAccountName",
            INVALID,
            "is a required field",
        ),
        (
            "/volumes/0",
            host("/data/disk.img"),
            "volumes[0]",
            INVALID,
            "HostDisk feature gate is not enabled",
        ),
        (
            "/volumes/0",
            root("hostDisk", &json!({"path": "", "type": "Disk"})),
            "volumes[0].hostDisk.path",
            NOT_FOUND,
            "is required for hostDisk volume",
        ),
        (
            "/volumes/0",
            root("hostDisk", &json!({"path": "/data/a.img", "type": "File"})),
            "volumes[0].hostDisk.type",
            INVALID,
            "has invalid value 'File', allowed are 'Disk' or 'DiskOrCreate'",
        ),
        (
            "/volumes/0",
            root(
                "hostDisk",
                &json!({"path": "/data/a.img", "type": "Disk", "capacity": "1Gi"}),
            ),
            "volumes[0].hostDisk.capacity",
            INVALID,
            "is allowed to pass only with",
        ),
        (
            "/domain/devices/disks/0",
            json!({"name": "root", "lun": {"bus": "scsi"}}),
            "domain.devices.disks[0].lun",
            INVALID,
            "can only be mapped to a DataVolume or PersistentVolumeClaim volume.",
        ),
        (
            "/domain/devices/disks/0",
            json!({"name": "root", "lun": {"bus": "sata"}}),
            "domain.devices.disks[0].lun.bus",
            NOT_SUPPORTED,
            "a lun can only be on the scsi bus",
        ),
        (
            "/domain/devices/disks/0",
            json!({"name": "root", "lun": {"reservation": true}}),
            "domain.devices.disks[0].lun.reservation",
            NOT_SUPPORTED,
            "persistent reservations",
        ),
        (
            "/domain/devices/disks/0/shareable",
            json!(true),
            "domain.devices.disks[0].shareable",
            INVALID,
            "a claim, a DataVolume or a hostDisk",
        ),
        (
            "/domain/devices/disks/0",
            json!({"name": "root", "disk": {"bus": "virtio"}, "cache": "writeback", "io": "native"}),
            "domain.devices.disks[0].io",
            INVALID,
            "native needs a cache of none",
        ),
    ];
    for (path, why) in [
        ("disk.img", "without relative components"),
        ("/data/../etc/shadow", "without relative components"),
        ("/data/./a.img", "without relative components"),
        ("/data//a.img", "without relative components"),
        ("/data/..", "without relative components"),
        ("/disk.img", "not in the root directory"),
        ("/etc/shadow", "must not be below /etc"),
        ("/dev/sda", "must not be below /dev"),
        (
            "/var/lib/kubelet/pods/x/disk.img",
            "must not be below /var/lib/kubelet",
        ),
        (
            "/var/lib/disk.img",
            "in a directory of its own below /var/lib",
        ),
    ] {
        rows.push((
            "/volumes/0",
            host(path),
            "volumes[0].hostDisk.path",
            INVALID,
            why,
        ));
    }
    rows
}
