//! Sound objects of every kind that is judged, with much in them.

use serde_json::{Value, json};

/// All of them.
pub(crate) fn all() -> Vec<Value> {
    let spec = instance();
    let cdi = |kind: &str, spec: Value| {
        json!({"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": kind,
               "metadata": {"name": "a", "namespace": "default"}, "spec": spec})
    };
    let storage = json!({"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem",
                         "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "s"});
    let volume = |source: Value| {
        json!({"source": source, "storage": storage, "preallocation": true,
               "priorityClassName": "p", "contentType": "kubevirt"})
    };
    let registry =
        json!({"registry": {"url": "docker://h/n:1", "secretRef": "s", "certConfigMap": "c"}});
    let mut without_type = volume(registry.clone());
    without_type.as_object_mut().unwrap().remove("contentType");
    vec![
        json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
               "metadata": {"name": "a", "namespace": "default", "labels": {"app": "a"}},
               "spec": spec.clone()}),
        json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
               "metadata": {"name": "a", "namespace": "default"},
               "spec": {"runStrategy": "Always",
                        "template": {"metadata": {"labels": {"app": "a"}}, "spec": spec}}}),
        json!({"apiVersion": "kubevirt.io/v1", "kind": "KubeVirt",
               "metadata": {"name": "kubevirt", "namespace": "kubevirt"},
               "spec": {"imagePullPolicy": "IfNotPresent",
                        "certificateRotateStrategy": {"selfSigned": {
                            "ca": {"duration": "168h", "renewBefore": "24h"},
                            "server": {"duration": "24h", "renewBefore": "12h"}}},
                        "configuration": {"developerConfiguration": {
                            "useEmulation": true, "cpuAllocationRatio": 10, "memoryOvercommit": 100}}}}),
        cdi(
            "DataVolume",
            volume(
                json!({"http": {"url": "http://h/a.qcow2", "secretRef": "s", "certConfigMap": "c",
                                   "extraHeaders": ["a: b"], "checksum": format!("sha256:{}", "a".repeat(64))}}),
            ),
        ),
        cdi(
            "DataVolume",
            volume(json!({"s3": {"url": "https://h/b/o", "secretRef": "s"}})),
        ),
        cdi("DataVolume", volume(registry)),
        cdi(
            "DataVolume",
            volume(json!({"pvc": {"namespace": "default", "name": "p"}})),
        ),
        cdi("DataVolume", volume(json!({"upload": {}}))),
        cdi("DataVolume", volume(json!({"blank": {}}))),
        cdi(
            "DataImportCron",
            json!({"schedule": "*/5 1-4,6 * jan mon", "managedDataSource": "g", "importsToKeep": 2,
                   "garbageCollect": "Outdated", "retentionPolicy": "None",
                   "template": {"spec": without_type}}),
        ),
        cdi(
            "DataSource",
            json!({"source": {"pvc": {"namespace": "default", "name": "p"}}}),
        ),
        cdi(
            "VolumeImportSource",
            json!({"source": {"http": {"url": "http://h/a"}}, "contentType": "kubevirt"}),
        ),
        cdi(
            "VolumeCloneSource",
            json!({"source": {"kind": "PersistentVolumeClaim", "name": "p"}}),
        ),
        cdi(
            "StorageProfile",
            json!({"cloneStrategy": "copy", "claimPropertySets": [
            {"accessModes": ["ReadWriteOnce"], "volumeMode": "Block"}]}),
        ),
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
               "metadata": {"name": "a", "namespace": "default"},
               "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
                        "dataSourceRef": {"apiGroup": "cdi.kubevirt.io", "kind": "VolumeImportSource", "name": "s"}}}),
    ]
}

fn instance() -> Value {
    json!({
        "hostname": "h", "subdomain": "s", "terminationGracePeriodSeconds": 5,
        "nodeSelector": {"a": "b"}, "evictionStrategy": "None",
        "domain": {
            "resources": {"requests": {"memory": "64Mi", "cpu": "1"}, "limits": {"memory": "128Mi", "cpu": "2"}},
            "cpu": {"cores": 2, "sockets": 1, "threads": 1, "model": "host-model",
                    "features": [{"name": "avx", "policy": "disable"}]},
            "memory": {"guest": "64Mi"},
            "machine": {"type": "q35"},
            "firmware": {"uuid": "5d307ca9-b3ef-428c-8861-06e72d69f223", "serial": "e4686d2c-6e8d-4335-b8fd-81bee22f4815",
                         "bootloader": {"bios": {"useSerial": true}}},
            "chassis": {"manufacturer": "m", "serial": "s", "asset": "a", "sku": "k", "version": "v"},
            "clock": {"utc": {"offsetSeconds": 60}},
            "features": {"acpi": {"enabled": true}},
            "devices": {
                "autoattachGraphicsDevice": true, "autoattachMemBalloon": true, "rng": {},
                "networkInterfaceMultiqueue": false, "blockMultiQueue": true,
                "inputs": [{"type": "tablet", "bus": "usb", "name": "t"}],
                "disks": [
                    {"name": "root", "bootOrder": 1, "serial": "abc", "cache": "none", "io": "native",
                     "disk": {"bus": "virtio"}},
                    {"name": "claim", "disk": {"bus": "scsi", "readonly": true}},
                    {"name": "cd", "cdrom": {"bus": "sata"}},
                    {"name": "empty", "disk": {"bus": "usb"}},
                    {"name": "init", "disk": {"bus": "virtio"}},
                ],
                "interfaces": [{"name": "default", "masquerade": {}, "model": "virtio", "bootOrder": 2,
                                "macAddress": "02:00:00:00:00:01",
                                "ports": [{"name": "web", "port": 80, "protocol": "TCP"}],
                                "dhcpOptions": {"bootFileName": "f", "tftpServerName": "t",
                                                "ntpServers": ["192.0.2.1"],
                                                "privateOptions": [{"option": 240, "value": "v"}]}}],
            },
        },
        "networks": [{"name": "default", "pod": {"vmNetworkCIDR": "10.0.2.0/24"}}],
        "volumes": [
            {"name": "root", "containerDisk": {"image": "demo:1", "path": "/disk/a.img", "imagePullPolicy": "Always"}},
            {"name": "claim", "persistentVolumeClaim": {"claimName": "c"}},
            {"name": "cd", "configMap": {"name": "m", "volumeLabel": "l"}},
            {"name": "empty", "emptyDisk": {"capacity": "1Gi"}},
            {"name": "init", "cloudInitNoCloud": {"userData": "#cloud-config\n", "networkData": "version: 2\n"}},
        ],
    })
}
