//! The board: identity, accelerator, CPU, memory, firmware, clock, and what
//! QEMU is not allowed to do.

use serde_json::json;
use time::OffsetDateTime;

use super::switch::{Accel, Blockdev, Cpu, Flag, Machine as MachineSwitch, Pairs, Smp, Word};
use super::{Runtime, TB_SIZE_MIB, push_all, sata_disks};
use crate::spec::{CpuModel, Firmware, Machine};

pub(super) fn push(machine: &Machine, runtime: &Runtime, argv: &mut Vec<String>) {
    push_all(
        argv,
        &[
            &Pairs::new("-name", "")
                .with("guest", &machine.name)
                .with("debug-threads", "on"),
            // Nothing that was not asked for, and no files of the host's.
            &Flag("-nodefaults"),
            &Flag("-no-user-config"),
            &Word("-display", "none".to_owned()),
            // QEMU never starts a program, changes its user or raises its limits.
            &Pairs::new("-sandbox", "on")
                .with("obsolete", "deny")
                .with("elevateprivileges", "deny")
                .with("spawn", "deny")
                .with("resourcecontrol", "deny"),
            // The launcher gives the word once it listens to events.
            &Flag("-S"),
        ],
    );
    for dir in &runtime.data_dirs {
        push_all(argv, &[&Word("-L", dir.clone())]);
    }
    push_firmware(machine, runtime, argv);
    let accel = if machine.emulated {
        Accel::Tcg {
            tb_size: TB_SIZE_MIB,
        }
    } else {
        Accel::Kvm
    };
    push_all(
        argv,
        &[
            &accel,
            &cpu(machine),
            &Smp {
                cpus: machine.cpu.count(),
                sockets: machine.cpu.sockets,
                cores: machine.cpu.cores,
                threads: machine.cpu.threads,
            },
            &Pairs::new("-m", "").with("size", format!("{}M", machine.memory >> 20)),
            &rtc(machine, runtime),
            &Pairs::new("-boot", "").with("strict", "on"),
        ],
    );
    push_smbios(machine, argv);
}

fn cpu(machine: &Machine) -> Cpu {
    let mut features = machine.cpu.features.clone();
    if !machine.cpu.apic {
        features.push(("apic".to_owned(), false));
    }
    let (model, migratable) = match &machine.cpu.model {
        CpuModel::Host => ("host", Some(true)),
        CpuModel::Max => ("max", None),
        CpuModel::Named(name) => (name.as_str(), None),
    };
    Cpu {
        model: model.to_owned(),
        migratable,
        features,
        enforce: machine.cpu.enforce,
    }
}

/// `-machine`, and with UEFI the two flash images it names.
fn push_firmware(machine: &Machine, runtime: &Runtime, argv: &mut Vec<String>) {
    let mut board = MachineSwitch {
        type_: machine.machine_type.clone(),
        acpi: (!machine.acpi).then_some(false),
        smm: machine.smm,
        // Firmware and guest spend time on six empty ports otherwise.
        sata: (sata_disks(machine) == 0).then_some(false),
        vmport: Some(false),
        dump_guest_core: Some(false),
        ..MachineSwitch::default()
    };
    match machine.firmware {
        Firmware::Efi { secure_boot } => {
            let code = if secure_boot {
                "OVMF_CODE_4M.secboot.fd"
            } else {
                "OVMF_CODE_4M.fd"
            };
            let node = |name: &str, path: String, read_only: bool| {
                Blockdev(json!({
                    "node-name": name, "driver": "raw", "read-only": read_only,
                    "file": {"driver": "file", "filename": path},
                }))
            };
            let code = format!("{}/{code}", runtime.ovmf_dir);
            push_all(
                argv,
                &[
                    &node("pflash0", code, true),
                    &node("pflash1", runtime.efi_vars.clone(), false),
                ],
            );
            board.pflash0 = Some("pflash0".to_owned());
            board.pflash1 = Some("pflash1".to_owned());
            push_all(argv, &[&board]);
            if secure_boot {
                // Only firmware in system management mode writes the variables.
                push_all(
                    argv,
                    &[
                        &Pairs::new("-global", "")
                            .with("driver", "cfi.pflash01")
                            .with("property", "secure")
                            .with("value", "on"),
                        &Word("-global", "ICH9-LPC.disable_s3=1".to_owned()),
                    ],
                );
            }
        }
        Firmware::Bios { serial } => {
            push_all(argv, &[&board]);
            if serial {
                push_all(
                    argv,
                    &[&Pairs::new("-fw_cfg", "")
                        .with("name", "opt/org.seabios/etc/sercon-port")
                        .with("string", "2")],
                );
            }
        }
    }
}

/// Real-time clock: UTC, or the date that the offset makes of it.
fn rtc(machine: &Machine, runtime: &Runtime) -> Pairs {
    let base = match machine.clock.offset {
        0 => None,
        offset => OffsetDateTime::from_unix_timestamp(runtime.now.saturating_add(offset)).ok(),
    };
    let base = base.map_or_else(
        || "utc".to_owned(),
        |t| {
            format!(
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
                t.year(),
                u8::from(t.month()),
                t.day(),
                t.hour(),
                t.minute(),
                t.second()
            )
        },
    );
    let rtc = Pairs::new("-rtc", "").with("base", base);
    if machine.emulated {
        rtc
    } else {
        // Ticks that a busy host swallowed are made up for.
        rtc.with("driftfix", "slew")
    }
}

/// SMBIOS system and chassis. Manufacturer, product and family are the ones
/// that guests' tools know KubeVirt by.
fn push_smbios(machine: &Machine, argv: &mut Vec<String>) {
    let system = Pairs::new("-smbios", "")
        .with("type", 1)
        .with("manufacturer", "KubeVirt")
        .with("product", "None")
        .with("family", "KubeVirt")
        .with("uuid", machine.uuid)
        .with_some("serial", machine.serial.as_ref());
    push_all(argv, &[&system]);
    let chassis = &machine.chassis;
    if *chassis != crate::spec::Chassis::default() {
        let chassis = Pairs::new("-smbios", "")
            .with("type", 3)
            .with_some("manufacturer", chassis.manufacturer.as_ref())
            .with_some("version", chassis.version.as_ref())
            .with_some("serial", chassis.serial.as_ref())
            .with_some("asset", chassis.asset.as_ref())
            .with_some("sku", chassis.sku.as_ref());
        push_all(argv, &[&chassis]);
    }
}
