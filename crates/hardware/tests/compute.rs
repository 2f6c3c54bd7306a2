//! CPU and KVM, and the node as a whole: what each state of a node is judged to be.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use hardware::Status::{Fail, Pass, Skip, Warn};
use hardware::facts::{Attempt, CpuVendor, Facts};
use hardware::judge;
use world::*;

#[test]
fn a_node_that_has_all_that_is_asked_passes_everything_but_the_trial_that_was_not_run() {
    let verdicts = judge(&node(), &asked());
    let other: Vec<_> = verdicts.iter().filter(|v| v.status != Pass).collect();
    assert_eq!(other.len(), 1, "{other:#?}");
    assert_eq!(other[0].id, "sriov.trial");
    assert!(
        verdicts
            .iter()
            .all(|v| v.remedy.is_empty() && v.fix.is_none())
    );
    assert!(
        verdicts
            .iter()
            .all(|v| !v.evidence.is_empty() && !v.why.is_empty())
    );
}

#[test]
fn a_node_without_anything_special_is_not_failed_for_what_nobody_asks() {
    let mut facts = node();
    iommu_off(&mut facts);
    facts.iommu.acpi.clear();
    facts.pci.clear();
    facts.memory.hugepages.clear();
    facts.modules.pci_drivers.clear();
    facts.modules.known.remove("vfio_pci");
    facts.modules.known.remove("rbd");
    facts.disks.clear();
    facts.kernel.cmdline = Some("intel_iommu=off".into());
    facts.ceph.rook = Some(vec!["mon-a".into()]);
    let verdicts = judge(&facts, &modest());
    let bad: Vec<_> = verdicts.iter().filter(|v| v.status >= Warn).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn nothing_read_is_never_a_failure() {
    for requirements in [modest(), asked()] {
        let bad: Vec<_> = judge(&Facts::default(), &requirements)
            .into_iter()
            .filter(|v| v.status >= Warn)
            // What the inventory names and the node lists nothing of is missing.
            .filter(|v| v.id != "sriov.cap" && v.id != "disk.ceph")
            .collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
}

#[test]
fn cpu_and_kvm() {
    run(&[
        case(
            "firmware has VT-x off",
            "cpu.virt",
            |f, _| {
                f.cpu.flags = vec!["fpu".into()];
                f.kvm = Default::default();
            },
            Fail,
            "no flag vmx on Intel",
            "VT-x",
        ),
        case(
            "AMD, off",
            "cpu.virt",
            |f, _| {
                f.cpu.flags = vec!["fpu".into()];
                f.kvm = Default::default();
                f.cpu.vendor = CpuVendor::Amd;
            },
            Fail,
            "no flag svm",
            "SVM Mode",
        ),
        case(
            "off, emulation allowed",
            "cpu.virt",
            |f, r| {
                f.cpu.flags = vec!["fpu".into()];
                f.kvm = Default::default();
                r.allow_emulation = true;
            },
            Warn,
            "no flag vmx",
            "VT-x",
        ),
        case(
            "a virtual machine without nesting",
            "cpu.virt",
            |f, _| {
                f.cpu.flags = vec!["fpu".into()];
                f.kvm = Default::default();
                virtualise(f);
            },
            Fail,
            "virtual machine (Dell",
            "on its host",
        ),
        case(
            "no flag, and guests run all the same",
            "cpu.virt",
            |f, _| f.cpu.flags = vec!["fpu".into()],
            Pass,
            "yet a guest ran",
            "",
        ),
        case(
            "cpuinfo unread",
            "cpu.virt",
            |f, _| f.cpu.flags.clear(),
            Skip,
            "/proc/cpuinfo: not read",
            "",
        ),
        case(
            "node missing, module there",
            "kvm.dev",
            |f, _| {
                f.kvm = Default::default();
                f.kvm.device.present = Some(false);
                f.modules
                    .known
                    .insert("kvm_intel".into(), module(false, false, Some("k.ko")));
            },
            Fail,
            "/dev/kvm: missing",
            "modprobe kvm_intel",
        ),
        case(
            "no module behind the node",
            "kvm.dev",
            |f, _| {
                f.kvm = Default::default();
                f.kvm.device.present = Some(true);
                f.kvm.device.open = Attempt::failed(Some(19), "No such device");
                f.modules.known.remove("kvm_intel");
            },
            Fail,
            "open: No such device",
            "install the package",
        ),
        case(
            "the flag is not there for the module",
            "kvm.dev",
            |f, _| {
                f.kvm = Default::default();
                f.kvm.device.present = Some(false);
                f.cpu.flags = vec!["fpu".into()];
            },
            Fail,
            "missing",
            "see cpu.virt",
        ),
        case(
            "another hypervisor",
            "kvm.dev",
            |f, _| {
                f.kvm.device.create_vm = Attempt::failed(Some(16), "Device or resource busy");
                f.kvm.run = Attempt::NotTried;
            },
            Fail,
            "KVM_CREATE_VM: Device or resource busy",
            "VirtualBox",
        ),
        case(
            "a container without the device's permission",
            "kvm.dev",
            |f, _| f.kvm.device.open = Attempt::failed(Some(1), "Operation not permitted"),
            Fail,
            "not permitted",
            "root",
        ),
        case(
            "a strange API",
            "kvm.dev",
            |f, _| f.kvm.device.api_version = Some(11),
            Fail,
            "expected 12, found 11",
            "kernel",
        ),
        case(
            "not tried",
            "kvm.dev",
            |f, _| f.kvm = Default::default(),
            Skip,
            "not tried",
            "",
        ),
        case(
            "opens, does not run",
            "kvm.run",
            |f, _| f.kvm.run = Attempt::failed(None, "no exit within 3 s"),
            Fail,
            "opens, but a guest does not run: no exit",
            "useEmulation",
        ),
        case(
            "opens, does not run, emulation allowed",
            "kvm.run",
            |f, r| {
                f.kvm.run = Attempt::failed(None, "x");
                r.allow_emulation = true;
            },
            Warn,
            "does not run",
            "useEmulation",
        ),
        case(
            "long mode hangs",
            "kvm.run",
            |f, _| f.kvm.long_mode = Attempt::failed(None, "300000 instructions took 174 ms"),
            Fail,
            "a long-mode guest does not run: 300000",
            "useEmulation",
        ),
        case(
            "no device",
            "kvm.run",
            |f, _| {
                f.kvm = Default::default();
                f.kvm.device.present = Some(false);
            },
            Fail,
            "missing",
            "see kvm.dev",
        ),
        case(
            "only the small guest was tried",
            "kvm.run",
            |f, _| f.kvm.long_mode = Attempt::NotTried,
            Pass,
            "a guest ran",
            "",
        ),
        case(
            "nesting off",
            "kvm.nested",
            |f, _| {
                f.kvm.nested.insert("kvm_intel".into(), "N".into());
            },
            Fail,
            "kvm_intel/parameters/nested: N",
            "options kvm_intel nested=1",
        ),
        case(
            "nesting not asked for",
            "kvm.nested",
            |f, r| {
                f.kvm.nested.insert("kvm_intel".into(), "N".into());
                r.nested_guests = false;
            },
            Skip,
            "not asked for",
            "",
        ),
        case(
            "a virtual machine whose host nests",
            "kvm.nested",
            |f, r| {
                virtualise(f);
                r.nested_guests = false;
            },
            Pass,
            "its host nests",
            "",
        ),
        case(
            "a virtual machine whose host does not nest",
            "kvm.nested",
            |f, r| {
                virtualise(f);
                r.nested_guests = false;
                f.kvm.run = Attempt::failed(None, "x");
            },
            Fail,
            "no guest runs",
            "on the host",
        ),
        case(
            "sockets differ in microcode",
            "microcode",
            |f, _| f.cpu.microcode_mixed = vec!["0x1".into(), "0x2".into()],
            Warn,
            "0x1 and 0x2",
            "same microcode",
        ),
        case(
            "open vulnerability",
            "microcode",
            |f, _| {
                f.cpu
                    .vulnerabilities
                    .insert("mds".into(), "Vulnerable: no microcode".into());
            },
            Warn,
            "mds: Vulnerable",
            "intel-microcode",
        ),
        case(
            "open vulnerability, AMD",
            "microcode",
            |f, _| {
                f.cpu.vendor = CpuVendor::Amd;
                f.cpu
                    .vulnerabilities
                    .insert("srso".into(), "Vulnerable".into());
            },
            Warn,
            "srso",
            "amd64-microcode",
        ),
        case(
            "a virtual machine",
            "microcode",
            |f, _| {
                virtualise(f);
                f.cpu
                    .vulnerabilities
                    .insert("mds".into(), "Vulnerable".into());
            },
            Skip,
            "host",
            "",
        ),
    ]);
}
