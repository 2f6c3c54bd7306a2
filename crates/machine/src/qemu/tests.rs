//! The command line of example manifests, switch by switch.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value
)]

use super::*;
use crate::spec::Content;
use api::launcher::{Nic, Sync};
use serde_json::{Value, json};

fn runtime(machine: &Machine) -> Runtime {
    let media = machine
        .disks
        .iter()
        .enumerate()
        .map(|(i, disk)| {
            let fd = 10 + i32::try_from(i).unwrap();
            let overlay = |base| Medium::Overlay {
                base,
                path: format!("/e/{}.qcow2", disk.name),
                direct: true,
            };
            match disk.content {
                Content::ContainerDisk { .. } => overlay(Base::Image {
                    fd,
                    format: Format::Qcow2,
                }),
                Content::Ephemeral if disk.name.starts_with("block") => overlay(Base::Device {
                    path: format!("/dev/{}", disk.name),
                }),
                Content::Ephemeral => overlay(Base::Image {
                    fd,
                    format: Format::Raw,
                }),
                Content::Claim if disk.name.starts_with("block") => Medium::Device {
                    path: format!("/dev/{}", disk.name),
                },
                Content::Claim | Content::Host { .. } => Medium::Inherited { fd, direct: true },
                _ => Medium::File {
                    path: format!("/e/{}.img", disk.name),
                    direct: true,
                },
            }
        })
        .collect();
    Runtime {
        monitor_fd: 3,
        agent_fd: 4,
        serial_socket: "/p/virt-serial0".to_owned(),
        vnc_socket: "/p/virt-vnc".to_owned(),
        efi_vars: "/e/vars.fd".to_owned(),
        ovmf_dir: "/usr/share/OVMF".to_owned(),
        data_dirs: Vec::new(),
        media,
        now: 1_700_000_000,
    }
}

fn sync(spec: Value) -> Sync {
    Sync {
        vmi: serde_json::from_value(json!({
            "metadata": {"name": "vm", "namespace": "default", "uid": "1"}, "spec": spec,
        }))
        .unwrap(),
        use_emulation: true,
        nics: vec![Nic {
            network: "default".to_owned(),
            tap: "tap0".to_owned(),
            mac: "02:00:00:00:00:01".to_owned(),
            mtu: 1450,
            queues: 1,
            dhcp: None,
        }],
        ..Sync::default()
    }
}

fn lines(sync: &Sync) -> String {
    let machine = Machine::try_from(sync).unwrap();
    let argv = argv(&machine, &runtime(&machine)).unwrap();
    let mut text = String::new();
    for word in argv {
        let switch = word.starts_with('-') && !word.starts_with("-1");
        if switch && !text.is_empty() {
            text.push('\n');
        } else if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&word);
    }
    text
}

/// The VMI that a VirtualMachine manifest makes.
fn from_manifest(text: &str) -> Value {
    let vm: Value = serde_yaml::from_str(text).unwrap();
    vm.pointer("/spec/template/spec")
        .unwrap_or(&vm["spec"])
        .clone()
}

#[test]
fn the_stateless_vm_of_the_users_document() {
    let spec = from_manifest(include_str!("../../../../examples/statelessVM.yaml"));
    insta::assert_snapshot!("stateless_emulated", lines(&sync(spec.clone())));
    let mut kvm = sync(spec);
    kvm.use_emulation = false;
    kvm.vhost_net = true;
    insta::assert_snapshot!("stateless_kvm", lines(&kvm));
}

#[test]
fn every_kind_of_device() {
    let spec = json!({
        "domain": {
            "machine": {"type": "pc-q35-10.0"},
            "cpu": {"sockets": 1, "cores": 2, "threads": 2, "model": "Haswell",
                    "features": [{"name": "avx2"}, {"name": "hle", "policy": "disable"}]},
            "memory": {"guest": "1Gi"},
            "firmware": {"uuid": "5d307ca9-b3ef-428c-8861-06e72d69f223", "serial": "a,b",
                         "bootloader": {"efi": {}}},
            "chassis": {"manufacturer": "Us", "asset": "A1"},
            "clock": {"utc": {"offsetSeconds": 3600}},
            "devices": {
                "disks": [
                    {"name": "a", "disk": {"bus": "virtio"}, "serial": "s1", "bootOrder": 2},
                    {"name": "b", "disk": {"bus": "scsi"}, "cache": "none", "io": "native"},
                    {"name": "c", "disk": {"bus": "usb"}, "cache": "writethrough"},
                    {"name": "d", "disk": {"bus": "virtio", "pciAddress": "0000:01:00.0"}},
                    {"name": "e", "cdrom": {"tray": "open"}},
                ],
                "interfaces": [{"name": "default", "masquerade": {}, "bootOrder": 1,
                                "acpiIndex": 7, "state": "down"}],
                "rng": {},
                "inputs": [{"name": "t", "type": "tablet", "bus": "usb"},
                           {"name": "k", "type": "keyboard", "bus": "virtio"}],
                "watchdog": {"name": "w", "i6300esb": {"action": "poweroff"}},
                "blockMultiQueue": true,
                "networkInterfaceMultiqueue": true,
            },
        },
        "volumes": [
            {"name": "a", "containerDisk": {"image": "i"}},
            {"name": "b", "emptyDisk": {"capacity": "1Gi"}},
            {"name": "c", "emptyDisk": {"capacity": "1Gi"}},
            {"name": "d", "containerDisk": {"image": "i"}},
            {"name": "e", "cloudInitConfigDrive": {"userData": "x"}},
        ],
    });
    let mut sync = sync(spec);
    sync.use_emulation = false;
    sync.nics[0].queues = 4;
    insta::assert_snapshot!("every_device", lines(&sync));
    let machine = Machine::try_from(&sync).unwrap();
    let setup = setup(&machine);
    assert_eq!(setup[0].command, "set_link");
    assert_eq!(setup[1].command, "blockdev-open-tray");
}

#[test]
fn a_bare_guest_has_no_display_console_or_balloon() {
    let spec = json!({"domain": {
        "memory": {"guest": "64Mi"},
        "features": {"acpi": {"enabled": false}},
        "devices": {"autoattachGraphicsDevice": false, "autoattachSerialConsole": false,
                    "autoattachMemBalloon": false,
                    "interfaces": [{"name": "default", "model": "rtl8139", "bridge": {}}]},
    }});
    insta::assert_snapshot!("bare", lines(&sync(spec)));
}

#[test]
fn more_than_six_sata_disks_get_a_second_controller() {
    let disks: Vec<Value> = (0..8).map(|i| json!({"name": format!("d{i}")})).collect();
    let volumes: Vec<Value> = (0..8)
        .map(|i| json!({"name": format!("d{i}"), "emptyDisk": {"capacity": "1Mi"}}))
        .collect();
    let text = lines(&sync(json!({
        "domain": {"memory": {"guest": "64Mi"}, "devices": {"disks": disks}}, "volumes": volumes,
    })));
    assert!(text.contains("ich9-ahci,id=ahci1"), "{text}");
    assert!(text.contains("bus=ahci1.1"), "{text}");
}

#[test]
fn commas_in_values_do_not_make_new_parameters() {
    let spec = json!({"domain": {"memory": {"guest": "64Mi"},
        "firmware": {"serial": "x,uuid=evil"}}});
    assert!(lines(&sync(spec)).contains("serial=x,,uuid=evil"));
}

#[test]
fn direct_io_that_the_file_system_lacks_is_refused_aloud() {
    let spec = json!({
        "domain": {"memory": {"guest": "64Mi"},
                   "devices": {"disks": [{"name": "a", "cache": "none"}]}},
        "volumes": [{"name": "a", "emptyDisk": {"capacity": "1Mi"}}],
    });
    let machine = Machine::try_from(&sync(spec)).unwrap();
    let mut runtime = runtime(&machine);
    runtime.media = vec![Medium::File {
        path: "/e/a".to_owned(),
        direct: false,
    }];
    let error = argv(&machine, &runtime).unwrap_err();
    assert_eq!(error.path, "spec.domain.devices.disks[0].cache");
}

#[test]
fn free_page_reporting_follows_the_annotation() {
    let mut sync = sync(json!({"domain": {"memory": {"guest": "64Mi"}, "devices": {}}}));
    assert!(lines(&sync).contains("free-page-reporting=on"));
    sync.vmi.metadata.annotations = Some(
        [(
            api::names::NO_FREE_PAGE_REPORTING.to_owned(),
            "true".to_owned(),
        )]
        .into(),
    );
    assert!(lines(&sync).contains("free-page-reporting=off"));
}

#[test]
fn volumes_that_outlive_the_guest() {
    let claim = |name: &str| json!({"name": name, "persistentVolumeClaim": {"claimName": "c"}});
    let spec = json!({
        "domain": {
            "memory": {"guest": "64Mi"},
            "devices": {"disks": [
                {"name": "root", "disk": {"bus": "virtio"}, "serial": "abc", "bootOrder": 1},
                {"name": "block", "disk": {"bus": "scsi"}},
                {"name": "block2", "disk": {"bus": "virtio"}, "io": "threads", "shareable": true},
                {"name": "block3", "lun": {"bus": "scsi"}, "serial": "unseen"},
                {"name": "read", "disk": {"bus": "virtio"}, "cache": "writeback"},
                {"name": "data", "disk": {"bus": "usb"}, "cache": "writethrough"},
                {"name": "iso", "cdrom": {"bus": "sata"}},
                {"name": "eph", "disk": {"bus": "virtio"}},
                {"name": "block4", "disk": {"bus": "virtio"}},
                {"name": "host", "disk": {"bus": "sata"}, "cache": "none", "io": "native"},
                {"name": "cm", "disk": {"bus": "sata"}},
            ]},
        },
        "volumes": [
            claim("root"), claim("block"), claim("block2"), claim("block3"),
            {"name": "read", "persistentVolumeClaim": {"claimName": "c", "readOnly": true}},
            {"name": "data", "dataVolume": {"name": "dv"}},
            claim("iso"),
            {"name": "eph", "ephemeral": {"persistentVolumeClaim": {"claimName": "c"}}},
            {"name": "block4", "ephemeral": {"persistentVolumeClaim": {"claimName": "c"}}},
            {"name": "host", "hostDisk": {"path": "/data/a.img", "type": "Disk"}},
            {"name": "cm", "configMap": {"name": "m"}},
        ],
    });
    insta::assert_snapshot!("claims", lines(&sync(spec)));
}

#[test]
fn a_claim_without_direct_io_writes_through() {
    let spec = json!({
        "domain": {"memory": {"guest": "64Mi"}, "devices": {"disks": [{"name": "a"}]}},
        "volumes": [{"name": "a", "dataVolume": {"name": "d"}}],
    });
    let sync = sync(spec);
    let machine = Machine::try_from(&sync).unwrap();
    let mut runtime = runtime(&machine);
    runtime.media = vec![Medium::Inherited {
        fd: 9,
        direct: false,
    }];
    let words = argv(&machine, &runtime).unwrap().join(" ");
    assert!(words.contains("write-cache=off"), "{words}");
    assert!(
        words.contains(r#""direct":false,"no-flush":false"#),
        "{words}"
    );
    assert!(words.contains(r#""driver":"raw""#), "{words}");
}

#[test]
fn a_lun_wants_a_block_device() {
    let spec = json!({
        "domain": {"memory": {"guest": "64Mi"}, "devices": {"disks": [{"name": "a", "lun": {}}]}},
        "volumes": [{"name": "a", "dataVolume": {"name": "d"}}],
    });
    let machine = Machine::try_from(&sync(spec)).unwrap();
    let error = argv(&machine, &runtime(&machine)).unwrap_err();
    assert_eq!(error.path, "spec.domain.devices.disks[0].lun");
}
