//! What a specification may and may not say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use serde_json::{Value, json};

/// A `Sync` of a small guest whose `spec` is patched with `patch`.
fn sync(patch: &Value) -> Sync {
    let mut vmi = json!({
        "metadata": {"name": "vm", "namespace": "ns", "uid": "1234"},
        "spec": {
            "domain": {
                "resources": {"requests": {"memory": "64M"}},
                "devices": {"disks": [{"name": "root", "disk": {"bus": "virtio"}}]},
            },
            "volumes": [{"name": "root", "containerDisk": {"image": "x"}}],
        }
    });
    merge(&mut vmi["spec"], patch);
    Sync {
        vmi: serde_json::from_value(vmi).unwrap(),
        use_emulation: true,
        nics: vec![api::launcher::Nic {
            network: "default".to_owned(),
            tap: "tap0".to_owned(),
            mac: "02:00:00:00:00:01".to_owned(),
            mtu: 1450,
            ..Default::default()
        }],
        ..Sync::default()
    }
}

fn merge(base: &mut Value, patch: &Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, patch) => *base = patch.clone(),
    }
}

#[test]
fn a_small_guest_gets_upstreams_defaults() {
    let machine = Machine::try_from(&sync(&json!({}))).unwrap();
    assert_eq!(machine.name, "ns_vm");
    assert_eq!(machine.machine_type, "q35");
    assert_eq!(machine.memory, 62 << 20, "64M rounded up to whole MiB");
    assert_eq!(machine.cpu.count(), 1);
    assert!(machine.acpi && machine.graphics && machine.serial_console && machine.balloon);
    assert!(!machine.rng && !machine.start_paused);
    assert_eq!(machine.disks[0].target, "vda");
    assert_eq!(machine.disks[0].boot_order, Some(1));
}

#[test]
fn the_uuid_follows_from_the_vmis_own() {
    let one = Machine::try_from(&sync(&json!({}))).unwrap().uuid;
    let again = Machine::try_from(&sync(&json!({}))).unwrap().uuid;
    assert_eq!(one, again);
    let mut other = sync(&json!({}));
    other.vmi.metadata.uid = Some("5678".to_owned());
    assert_ne!(one, Machine::try_from(&other).unwrap().uuid);
}

#[test]
fn targets_are_counted_for_each_kind_of_bus() {
    let names = ["a", "b", "c", "d"];
    let disks: Vec<Value> = names
        .iter()
        .zip(["virtio", "sata", "virtio", "scsi"])
        .map(|(name, bus)| json!({"name": name, "disk": {"bus": bus}}))
        .collect();
    let volumes: Vec<Value> = names
        .iter()
        .map(|name| json!({"name": name, "emptyDisk": {"capacity": "1Mi"}}))
        .collect();
    let machine = Machine::try_from(&sync(
        &json!({"domain": {"devices": {"disks": disks}}, "volumes": volumes}),
    ))
    .unwrap();
    let targets: Vec<&str> = machine.disks.iter().map(|d| d.target.as_str()).collect();
    assert_eq!(targets, ["vda", "sda", "vdb", "sdb"]);
}

#[test]
fn a_boot_order_leaves_out_disks_without_one() {
    let machine = Machine::try_from(&sync(&json!({
        "domain": {"devices": {"disks": [{"name": "root"}, {"name": "b", "bootOrder": 1}]}},
        "volumes": [{"name": "root", "containerDisk": {"image": "x"}},
                    {"name": "b", "containerDisk": {"image": "y"}}],
    })))
    .unwrap();
    assert_eq!(machine.disks[0].boot_order, None);
    assert_eq!(machine.disks[1].boot_order, Some(1));
    assert_eq!(
        machine.disks[1].content,
        Content::ContainerDisk { index: 1 }
    );
}

#[test]
fn the_host_model_is_everything_when_emulated() {
    let wish = json!({"domain": {"cpu": {"model": "host-passthrough", "cores": 2}}});
    let mut sync = sync(&wish);
    assert_eq!(Machine::try_from(&sync).unwrap().cpu.model, CpuModel::Max);
    sync.use_emulation = false;
    assert_eq!(Machine::try_from(&sync).unwrap().cpu.model, CpuModel::Host);
}

#[test]
fn what_makes_no_machine_is_refused_with_its_path() {
    let device = |patch: Value| json!({"domain": {"devices": patch}});
    let cases = [
        (
            device(json!({"disks": [{"name": "root", "disk": {"bus": "ide"}}]})),
            "spec.domain.devices.disks[0].disk.bus",
        ),
        (
            device(json!({"disks": [{"name": "root"}, {"name": "root"}]})),
            "spec.domain.devices.disks[1].name",
        ),
        (
            device(json!({"disks": [{"name": "nowhere"}]})),
            "spec.domain.devices.disks[0].name",
        ),
        (
            device(json!({"disks": [{"name": "root", "cache": "maybe"}]})),
            "spec.domain.devices.disks[0].cache",
        ),
        (
            device(json!({"disks": [{"name": "root", "cache": "writeback", "io": "native"}]})),
            "spec.domain.devices.disks[0].io",
        ),
        (
            device(json!({"disks": [{"name": "root", "cdrom": {"bus": "virtio"}}]})),
            "spec.domain.devices.disks[0].cdrom.bus",
        ),
        (
            device(json!({"interfaces": [{"name": "default", "model": "ne3k"}]})),
            "spec.domain.devices.interfaces[0].model",
        ),
        (
            device(json!({"interfaces": [{"name": "other"}]})),
            "spec.domain.devices.interfaces[0].name",
        ),
        (
            device(json!({
                "disks": [{"name": "root", "bootOrder": 1}],
                "interfaces": [{"name": "default", "bootOrder": 1}],
            })),
            "spec.domain.devices.interfaces[0].bootOrder",
        ),
        (
            device(json!({"inputs": [{"name": "i", "type": "mouse"}]})),
            "spec.domain.devices.inputs[0].type",
        ),
        (
            json!({"domain": {"resources": {"requests": {"memory": "lots"}}}}),
            "spec.domain.resources.requests.memory",
        ),
        (
            json!({"domain": {"resources": {"requests": null}}}),
            "spec.domain.memory.guest",
        ),
        (
            json!({"domain": {"machine": {"type": "pc"}}}),
            "spec.domain.machine.type",
        ),
        (
            json!({"domain": {"cpu": {"cores": 100, "sockets": 100}}}),
            "spec.domain.cpu",
        ),
        (
            json!({"domain": {"cpu": {"model": "x,y=z"}}}),
            "spec.domain.cpu.model",
        ),
        (
            json!({"domain": {"firmware": {"uuid": "nope"}}}),
            "spec.domain.firmware.uuid",
        ),
        (
            json!({"domain": {"firmware": {"bootloader": {"efi": {}}},
                   "features": {"smm": {"enabled": false}}}}),
            "spec.domain.features.smm.enabled",
        ),
        (
            json!({"volumes": [{"name": "root", "emptyDisk": {"capacity": "0"}}]}),
            "spec.volumes[0].emptyDisk.capacity",
        ),
        (json!({"volumes": [{"name": "root"}]}), "spec.volumes[0]"),
        (json!({"startStrategy": "Soon"}), "spec.startStrategy"),
    ];
    for (mut patch, path) in cases {
        // A null in the patch stands for an absent map.
        if let Some(requests) = patch.pointer_mut("/domain/resources/requests")
            && requests.is_null()
        {
            *requests = json!({"memory": "0"});
        }
        let error = Machine::try_from(&sync(&patch)).expect_err(path);
        assert_eq!(error.path, path, "{error}");
    }
}

#[test]
fn a_container_disks_socket_has_its_volumes_place() {
    // The pod's helpers are numbered over all volumes (decide::pod).
    let sync = sync(&json!({
        "domain": {"devices": {"disks": [{"name": "root"}, {"name": "seed"}]}},
        "volumes": [{"name": "seed", "cloudInitNoCloud": {"userData": "x"}},
                    {"name": "root", "containerDisk": {"image": "i"}}],
    }));
    let machine = Machine::try_from(&sync).unwrap();
    assert_eq!(
        machine.disks[0].content,
        Content::ContainerDisk { index: 1 }
    );
}

#[test]
fn what_outlives_the_guest_is_flushed_and_what_does_not_is_not() {
    let of = |volume: Value, disk: Value| {
        let mut disks = json!({"name": "v"});
        merge(&mut disks, &disk);
        let mut one = json!({"name": "v"});
        merge(&mut one, &volume);
        let sync = sync(&json!({"domain": {"devices": {"disks": [disks]}}, "volumes": [one]}));
        Machine::try_from(&sync).map(|machine| machine.disks[0].clone())
    };
    let claim = json!({"persistentVolumeClaim": {"claimName": "c"}});
    assert_eq!(of(claim.clone(), json!({})).unwrap().cache, Cache::Durable);
    let host = json!({"hostDisk": {"path": "/a/b", "type": "DiskOrCreate", "capacity": "1Ki"}});
    let disk = of(host, json!({})).unwrap();
    assert_eq!(disk.cache, Cache::Durable);
    let create = Some(1024);
    let file = "b".to_owned();
    assert_eq!(disk.content, Content::Host { file, create });
    let ephemeral = json!({"ephemeral": {"persistentVolumeClaim": {"claimName": "c"}}});
    assert_eq!(of(ephemeral, json!({})).unwrap().cache, Cache::Ephemeral);
    let disk = of(claim.clone(), json!({"shareable": true})).unwrap();
    assert_eq!(disk.cache, Cache::None);

    let refused = |volume: &Value, disk: Value| of(volume.clone(), disk).unwrap_err().path;
    let disks = "spec.domain.devices.disks[0]";
    for (volume, disk, path) in [
        (
            &claim,
            json!({"lun": {"bus": "virtio"}}),
            format!("{disks}.lun.bus"),
        ),
        (
            &claim,
            json!({"shareable": true, "cache": "writeback"}),
            format!("{disks}.cache"),
        ),
        (
            &json!({"emptyDisk": {"capacity": "1Mi"}}),
            json!({"shareable": true}),
            format!("{disks}.shareable"),
        ),
        (
            &json!({"persistentVolumeClaim": {"claimName": "c", "readOnly": true}}),
            json!({}),
            format!("{disks}.disk.bus"),
        ),
        (&claim, json!({"lun": {}, "disk": {}}), disks.to_owned()),
    ] {
        assert_eq!(refused(volume, disk), path);
    }
    for path in [
        "",
        "disk.img",
        "/disk.img",
        "/a/../etc/disk.img",
        "/a//b",
        "/a/./b",
        "/a/..",
    ] {
        let host = json!({"hostDisk": {"path": path, "type": "Disk"}});
        assert_eq!(
            refused(&host, json!({})),
            "spec.volumes[0].hostDisk.path",
            "{path}"
        );
    }
    let label = json!({"configMap": {"name": "m", "volumeLabel": "x".repeat(33)}});
    assert_eq!(
        refused(&label, json!({})),
        "spec.volumes[0].configMap.volumeLabel"
    );
}
