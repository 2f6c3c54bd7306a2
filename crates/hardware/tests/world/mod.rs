//! A node of which everything is asked, and which has everything.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use hardware::facts::*;
use hardware::{
    DeviceType, HugepagesWanted, Requirements, Role, SriovPolicy, Status, Verdict, judge,
};

pub(crate) const GIB: u64 = 1 << 30;
pub(crate) const PF: &str = "0000:01:00.0";
pub(crate) const DISK: &str = "/dev/disk/by-id/nvme-SAMSUNG_S1";

/// Everything that can be asked of a node.
pub(crate) fn asked() -> Requirements {
    Requirements {
        roles: vec![Role::ControlPlane, Role::Worker, Role::Storage],
        allow_emulation: false,
        nested_guests: true,
        sriov: vec![SriovPolicy {
            name: "guests".into(),
            pf_names: vec!["ens1f0#0-3".into()],
            num_vfs: 4,
            device_type: DeviceType::VfioPci,
            mtu: Some(9000),
            ..SriovPolicy::default()
        }],
        hugepages: vec![HugepagesWanted {
            size: GIB,
            count: 4,
            node: Some(0),
        }],
        ceph_disks: vec![DISK.into()],
        no_proxy: vec!["10.244.0.0/16".into(), "10.96.0.0/16".into(), ".svc".into()],
        ..Requirements::default()
    }
}

/// Nothing but pods and guests, by emulation if need be.
pub(crate) fn modest() -> Requirements {
    Requirements::default()
}

pub(crate) fn module(loaded: bool, builtin: bool, file: Option<&str>) -> Module {
    Module {
        loaded,
        builtin,
        file: file.map(str::to_owned),
    }
}

/// A bare-metal Intel node that has all of [`asked`].
pub(crate) fn node() -> Facts {
    let mut facts = Facts {
        schema: SCHEMA,
        root: "/".into(),
        uid: Some(0),
        ..Facts::default()
    };
    facts.os = Os {
        id: "debian".into(),
        version: "12".into(),
        pretty: "Debian GNU/Linux 12 (bookworm)".into(),
        ..Os::default()
    };
    facts.kernel = Kernel {
        release: "6.1.0-37-amd64".into(),
        machine: "x86_64".into(),
        cmdline: Some("root=/dev/sda1 ro quiet intel_iommu=on iommu=pt".into()),
        tainted: Some(0),
        ..Kernel::default()
    };
    facts.bootloader.grub_cmdline = Some(Sourced {
        path: "/etc/default/grub".into(),
        value: "intel_iommu=on iommu=pt".into(),
    });
    facts.bootloader.update_grub = Some("/usr/sbin/update-grub".into());
    for (name, state) in [
        ("kvm", module(true, false, Some("kernel/kvm.ko"))),
        (
            "kvm_intel",
            module(true, false, Some("kernel/kvm-intel.ko")),
        ),
        ("overlay", module(true, false, Some("kernel/overlay.ko"))),
        (
            "br_netfilter",
            module(true, false, Some("kernel/br_netfilter.ko")),
        ),
        ("tun", module(false, true, None)),
        (
            "vhost_net",
            module(true, false, Some("kernel/vhost_net.ko")),
        ),
        ("rbd", module(false, false, Some("kernel/rbd.ko"))),
        ("vfio_pci", module(true, false, Some("kernel/vfio-pci.ko"))),
    ] {
        facts.modules.known.insert(name.into(), state);
    }
    facts.modules.loaded_read = true;
    facts.modules.directory = Some("/lib/modules/6.1.0-37-amd64".into());
    facts.modules.pci_drivers = vec!["igb".into(), "vfio-pci".into()];
    facts.modules.disabled = Some(false);
    facts.cgroup = Cgroup {
        version: Some(2),
        controllers: ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"]
            .map(str::to_owned)
            .to_vec(),
    };
    facts.cpu = Cpu {
        vendor: CpuVendor::Intel,
        model: "Intel(R) Xeon(R) Gold 6338N".into(),
        flags: ["fpu", "vmx", "pdpe1gb"].map(str::to_owned).to_vec(),
        logical: 64,
        sockets: 1,
        cores: 32,
        microcode: Some("0xd0003b9".into()),
        ..Cpu::default()
    };
    facts
        .cpu
        .vulnerabilities
        .insert("meltdown".into(), "Not affected".into());
    facts.kvm = Kvm {
        device: KvmDevice {
            present: Some(true),
            open: Attempt::Worked,
            api_version: Some(12),
            create_vm: Attempt::Worked,
            create_vcpu: Attempt::Worked,
        },
        run: Attempt::Worked,
        long_mode: Attempt::Worked,
        nested: [("kvm_intel".to_owned(), "Y".to_owned())].into(),
    };
    facts.firmware.efi = Some(true);
    facts.firmware.secure_boot = Some(false);
    facts.firmware.lockdown = Some("[none] integrity confidentiality".into());
    facts.firmware.dmi.sys_vendor = Some("Dell Inc.".into());
    facts.firmware.dmi.product_name = Some("PowerEdge XR12".into());
    facts.iommu = Iommu {
        acpi_listed: true,
        acpi: vec![AcpiTable {
            name: "DMAR".into(),
            path: "/sys/firmware/acpi/tables/DMAR".into(),
            bytes: 152,
            checksum_ok: Some(true),
            flags: Some(1),
            address_width: Some(46),
            hardware_units: Some(1),
            ..AcpiTable::default()
        }],
        units: Some(vec![IommuUnit {
            name: "dmar0".into(),
            ecap: Some("f00f4e".into()),
            ..IommuUnit::default()
        }]),
        groups: Some(
            [(1, "0000:00:01.0"), (2, PF), (3, "0000:02:00.0")]
                .into_iter()
                .map(|(id, device)| IommuGroup {
                    id,
                    kind: Some("identity".into()),
                    devices: vec![device.into()],
                })
                .collect(),
        ),
        interrupt_chips: Some(vec!["IR-IO-APIC".into(), "IR-PCI-MSI".into()]),
        allow_unsafe_interrupts: Some("N".into()),
        unsafe_noiommu: None,
    };
    facts.pci = vec![
        PciDevice {
            address: "0000:00:01.0".into(),
            vendor: 0x8086,
            class: 0x0006_0400,
            acs: Some(Acs {
                capability: 0x1f,
                control: 0x1d,
            }),
            ..PciDevice::default()
        },
        PciDevice {
            address: PF.into(),
            vendor: 0x8086,
            device: 0x159b,
            class: 0x0002_0000,
            driver: Some("ice".into()),
            iommu_group: Some(2),
            numa_node: Some(0),
            driver_override: Some(true),
            parent: Some("0000:00:01.0".into()),
            interfaces: vec!["ens1f0".into()],
            sriov: Some(Sriov {
                total: 64,
                autoprobe: Some(true),
                ..Sriov::default()
            }),
            config_total_vfs: Some(64),
            ..PciDevice::default()
        },
        PciDevice {
            address: "0000:02:00.0".into(),
            vendor: 0x8086,
            device: 0x1533,
            class: 0x0002_0000,
            driver: Some("igb".into()),
            iommu_group: Some(3),
            numa_node: Some(0),
            driver_override: Some(true),
            interfaces: vec!["eno1".into()],
            ..PciDevice::default()
        },
    ];
    facts.network.interfaces = vec![
        Interface {
            name: "ens1f0".into(),
            pci: Some(PF.into()),
            mtu: Some(9000),
            speed: Some(25000),
            carrier: Some(true),
            operstate: Some("up".into()),
            kind: "physical".into(),
            ..Interface::default()
        },
        Interface {
            name: "eno1".into(),
            pci: Some("0000:02:00.0".into()),
            mtu: Some(1500),
            carrier: Some(true),
            kind: "physical".into(),
            ..Interface::default()
        },
    ];
    facts.network.default_routes = vec![DefaultRoute {
        interface: "eno1".into(),
        path: "/proc/net/route".into(),
        ..DefaultRoute::default()
    }];
    facts.network.listeners = Some(Vec::new());
    facts.memory = Memory {
        total: Some(128 * GIB),
        available: Some(120 * GIB),
        hugepage_size: Some(2 << 20),
        hugepages: [(GIB, 8), (2 << 20, 0)]
            .into_iter()
            .map(|(size, total)| Hugepages {
                node: Some(0),
                size,
                total,
                free: total,
                path: format!(
                    "/sys/devices/system/node/node0/hugepages/hugepages-{}kB",
                    size >> 10
                ),
            })
            .collect(),
        nodes: vec![NumaNode {
            id: 0,
            cpus: "0-63".into(),
            memory: Some(128 * GIB),
        }],
        memlock: Some(u64::MAX),
    };
    facts.space = vec![Space {
        path: "/var/lib".into(),
        available: 400 * GIB,
        total: 480 * GIB,
        read_only: false,
    }];
    facts.swaps = Some(Vec::new());
    facts.disks = vec![
        disk("sda", 480 * GIB, &["/dev/disk/by-id/ata-BOOT"]),
        BlockDevice {
            kind: BlockKind::Partition,
            parent: Some("sda".into()),
            mounts: vec!["/".into()],
            ..disk("sda1", 480 * GIB, &[])
        },
        disk("nvme0n1", 1920 * GIB, &[DISK]),
    ];
    if let Some(boot) = facts.disks.first_mut() {
        boot.signatures.push(signature(SignatureKind::Gpt, ""));
    }
    facts.devices = ["/dev/net/tun", "/dev/vhost-net"]
        .into_iter()
        .map(|path| DeviceNode {
            path: path.into(),
            present: Some(true),
            open: Attempt::Worked,
        })
        .collect();
    facts.clock = Clock {
        synchronized: Some(true),
        skew_ms: Some(3),
        service: Some("chronyd".into()),
        ..Clock::default()
    };
    facts.names = Names {
        hostname: "edge-01".into(),
        machine_id: Some("0123456789abcdef0123456789abcdef".into()),
        nameservers: Some(vec!["192.0.2.53".into()]),
        answered: Attempt::Worked,
        ..Names::default()
    };
    facts
}

pub(crate) fn disk(name: &str, size: u64, links: &[&str]) -> BlockDevice {
    BlockDevice {
        name: name.into(),
        kind: BlockKind::Disk,
        links: links.iter().map(|link| (*link).to_owned()).collect(),
        size,
        rotational: Some(false),
        removable: Some(false),
        read_only: Some(false),
        inspected: true,
        exclusive: Some(true),
        ..BlockDevice::default()
    }
}

pub(crate) fn signature(kind: SignatureKind, detail: &str) -> Signature {
    Signature {
        kind,
        offset: 0,
        detail: detail.into(),
    }
}

/// The physical function of the policy.
pub(crate) fn pf(facts: &mut Facts) -> &mut PciDevice {
    facts.pci.iter_mut().find(|d| d.address == PF).unwrap()
}

/// The interface of that function.
pub(crate) fn port(facts: &mut Facts) -> &mut Interface {
    facts.network.interfaces.first_mut().unwrap()
}

/// The disk for Ceph.
pub(crate) fn spare(facts: &mut Facts) -> &mut BlockDevice {
    facts.disks.last_mut().unwrap()
}

/// VT-d on in the firmware and off in the kernel.
pub(crate) fn iommu_off(facts: &mut Facts) {
    facts.iommu.units = Some(Vec::new());
    facts.iommu.groups = Some(Vec::new());
    facts.iommu.interrupt_chips = Some(vec!["IO-APIC".into(), "PCI-MSI".into()]);
}

/// Puts `device` into the group of the physical function.
pub(crate) fn share_group(facts: &mut Facts, device: &str) {
    for group in facts.iommu.groups.iter_mut().flatten() {
        if group.id == 2 {
            group.devices.push(device.to_owned());
        }
    }
}

/// Makes the node a virtual machine.
pub(crate) fn virtualise(facts: &mut Facts) {
    facts.cpu.flags.push("hypervisor".into());
}

/// The verdicts of one check.
pub(crate) fn of(facts: &Facts, requirements: &Requirements, id: &str) -> Vec<Verdict> {
    judge(facts, requirements)
        .into_iter()
        .filter(|verdict| verdict.id == id)
        .collect()
}

/// The verdicts as lines: `fail iommu.acpi  evidence`, then the remedy where there is one.
pub(crate) fn lines(facts: &Facts, requirements: &Requirements) -> String {
    judge(facts, requirements)
        .iter()
        .map(|verdict| {
            let mut line = format!(
                "{} {}: {}\n",
                verdict.status.word(),
                verdict.label(),
                verdict.evidence
            );
            if !verdict.remedy.is_empty() {
                line.push_str(&format!("     remedy: {}\n", verdict.remedy));
            }
            if let Some(fix) = &verdict.fix {
                line.push_str(&format!(
                    "     fix: {}\n",
                    serde_json::to_string(fix).unwrap()
                ));
            }
            line
        })
        .collect()
}

/// A row of a table test: what differs, what is asked, which check must say what.
pub(crate) struct Case {
    pub(crate) what: &'static str,
    pub(crate) change: fn(&mut Facts, &mut Requirements),
    pub(crate) id: &'static str,
    pub(crate) status: Status,
    pub(crate) evidence: &'static str,
    pub(crate) remedy: &'static str,
}

/// A row.
pub(crate) const fn case(
    what: &'static str,
    id: &'static str,
    change: fn(&mut Facts, &mut Requirements),
    status: Status,
    evidence: &'static str,
    remedy: &'static str,
) -> Case {
    Case {
        what,
        change,
        id,
        status,
        evidence,
        remedy,
    }
}

/// Runs rows on the node of which everything is asked.
pub(crate) fn run(cases: &[Case]) {
    let mut wrong = Vec::new();
    for case in cases {
        let (mut facts, mut requirements) = (node(), asked());
        (case.change)(&mut facts, &mut requirements);
        let found = of(&facts, &requirements, case.id);
        let fits = |verdict: &Verdict| {
            verdict.status == case.status
                && verdict.evidence.contains(case.evidence)
                && verdict.remedy.contains(case.remedy)
                && (verdict.status < Status::Warn || !verdict.remedy.is_empty())
        };
        let worst = found.iter().map(|v| v.status).max();
        if !found.iter().any(fits) || worst != Some(case.status) {
            wrong.push(format!(
                "{}: expected {} {} ({:?}; {:?}), found {found:#?}",
                case.what,
                case.status.word(),
                case.id,
                case.evidence,
                case.remedy
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
