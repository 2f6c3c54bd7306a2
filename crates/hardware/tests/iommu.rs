//! The IOMMU and vfio: what each state of a node is judged to be.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use hardware::Status::{Fail, Pass, Skip, Warn};
use hardware::facts::CpuVendor;
use hardware::{Fix, judge};
use world::*;

#[test]
fn iommu() {
    run(&[
        case(
            "VT-d off in the firmware",
            "iommu.acpi",
            |f, _| {
                iommu_off(f);
                f.iommu.acpi.clear();
            },
            Fail,
            "neither DMAR nor IVRS",
            "Intel VT-d",
        ),
        case(
            "AMD-Vi off in the firmware",
            "iommu.acpi",
            |f, _| {
                iommu_off(f);
                f.iommu.acpi.clear();
                f.cpu.vendor = CpuVendor::Amd;
            },
            Fail,
            "neither",
            "AMD-Vi",
        ),
        case(
            "a virtual machine without one",
            "iommu.acpi",
            |f, _| {
                iommu_off(f);
                f.iommu.acpi.clear();
                virtualise(f);
            },
            Fail,
            "neither",
            "virtual IOMMU",
        ),
        case(
            "tables hidden",
            "iommu.acpi",
            |f, _| {
                iommu_off(f);
                f.iommu.acpi.clear();
                f.iommu.acpi_listed = false;
            },
            Skip,
            "not read",
            "",
        ),
        case(
            "no table, and it works",
            "iommu.acpi",
            |f, _| f.iommu.acpi.clear(),
            Pass,
            "dmar0",
            "",
        ),
        case(
            "bad checksum",
            "iommu.acpi",
            |f, _| f.iommu.acpi[0].checksum_ok = Some(false),
            Warn,
            "checksum",
            "firmware",
        ),
        case(
            "VT-d off in the firmware",
            "iommu.active",
            |f, _| {
                iommu_off(f);
                f.iommu.acpi.clear();
            },
            Fail,
            "0 groups",
            "firmware has it off",
        ),
        case(
            "told off",
            "iommu.active",
            |f, _| {
                iommu_off(f);
                f.kernel.cmdline = Some("intel_iommu=off".into());
            },
            Fail,
            "firmware fine, kernel off",
            "put intel_iommu=on in place of intel_iommu=off",
        ),
        case(
            "on without being told",
            "iommu.active",
            |f, _| f.kernel.cmdline = Some("quiet".into()),
            Pass,
            "dmar0",
            "",
        ),
        case(
            "units but no groups",
            "iommu.active",
            |f, _| f.iommu.groups = Some(Vec::new()),
            Fail,
            "0 groups",
            "dmesg",
        ),
        case(
            "folders hidden",
            "iommu.active",
            |f, _| {
                f.iommu.units = None;
                f.iommu.groups = None;
            },
            Skip,
            "not read",
            "",
        ),
        case(
            "nobody asks",
            "iommu.active",
            |f, r| {
                iommu_off(f);
                r.sriov.clear();
            },
            Skip,
            "no device is to be given",
            "",
        ),
        case(
            "told off",
            "iommu.cmdline",
            |f, _| {
                iommu_off(f);
                f.kernel.cmdline = Some("quiet intel_iommu=sm_on,off".into());
            },
            Fail,
            "intel_iommu=sm_on,off",
            "update-grub",
        ),
        case(
            "the last word wins",
            "iommu.cmdline",
            |f, _| {
                iommu_off(f);
                f.iommu.acpi.clear();
                f.kernel.cmdline = Some("intel_iommu=off intel_iommu=on".into());
            },
            Pass,
            "not to blame",
            "",
        ),
        case(
            "not told, and off",
            "iommu.cmdline",
            |f, _| {
                iommu_off(f);
                f.kernel.cmdline = Some("quiet".into());
            },
            Fail,
            "says nothing",
            "add intel_iommu=on",
        ),
        case(
            "not told, and on",
            "iommu.cmdline",
            |f, _| f.kernel.cmdline = Some("quiet".into()),
            Pass,
            "the IOMMU is on",
            "",
        ),
        case(
            "told off in vain: an Intel node's amd_iommu",
            "iommu.cmdline",
            |f, _| f.kernel.cmdline = Some("amd_iommu=off".into()),
            Pass,
            "the IOMMU is on",
            "",
        ),
        case(
            "AMD told off",
            "iommu.cmdline",
            |f, _| {
                iommu_off(f);
                f.iommu.acpi[0].name = "IVRS".into();
                f.cpu.vendor = CpuVendor::Amd;
                f.kernel.cmdline = Some("amd_iommu=off".into());
            },
            Fail,
            "amd_iommu=off",
            "take amd_iommu=off off",
        ),
        case(
            "iommu=off for good",
            "iommu.cmdline",
            |f, _| {
                iommu_off(f);
                f.kernel.cmdline = Some("iommu=off intel_iommu=on".into());
            },
            Fail,
            "iommu=off",
            "take iommu=off off",
        ),
        case(
            "unread",
            "iommu.cmdline",
            |f, _| f.kernel.cmdline = None,
            Skip,
            "/proc/cmdline: not read",
            "",
        ),
        case(
            "translated mode is good enough",
            "iommu.mode",
            |f, _| {
                f.iommu
                    .groups
                    .iter_mut()
                    .flatten()
                    .for_each(|g| g.kind = Some("DMA-FQ".into()))
            },
            Pass,
            "iommu=pt would spare",
            "",
        ),
        case(
            "old kernel",
            "iommu.mode",
            |f, _| {
                f.iommu
                    .groups
                    .iter_mut()
                    .flatten()
                    .for_each(|g| g.kind = None)
            },
            Skip,
            "nothing to read",
            "",
        ),
        case(
            "no remapping",
            "iommu.ir",
            |f, _| f.iommu.interrupt_chips = Some(vec!["IO-APIC".into()]),
            Fail,
            "no chip named IR-",
            "accept_unsafe_interrupts",
        ),
        case(
            "no remapping, accepted",
            "iommu.ir",
            |f, r| {
                f.iommu.interrupt_chips = Some(vec!["IO-APIC".into()]);
                r.accept_unsafe_interrupts = true;
            },
            Warn,
            "accepts",
            "x2APIC",
        ),
        case(
            "remapping switched off",
            "iommu.ir",
            |f, _| {
                f.iommu.interrupt_chips = Some(vec![]);
                f.kernel.cmdline = Some("intremap=off".into());
            },
            Fail,
            "intremap=off",
            "take intremap=off off",
        ),
        case(
            "no IOMMU, no remapping",
            "iommu.ir",
            |f, _| iommu_off(f),
            Skip,
            "no IOMMU is in use",
            "",
        ),
        case(
            "nobody asks",
            "iommu.ir",
            |f, r| {
                f.iommu.interrupt_chips = Some(vec![]);
                r.sriov.clear();
            },
            Skip,
            "no device",
            "",
        ),
        case(
            "unread",
            "iommu.ir",
            |f, _| f.iommu.interrupt_chips = None,
            Skip,
            "/proc/interrupts: not read",
            "",
        ),
        case(
            "unsafe interrupts allowed",
            "iommu.unsafe",
            |f, _| f.iommu.allow_unsafe_interrupts = Some("Y".into()),
            Warn,
            "allow_unsafe_interrupts: Y",
            "modprobe.d",
        ),
        case(
            "unsafe interrupts accepted",
            "iommu.unsafe",
            |f, r| {
                f.iommu.allow_unsafe_interrupts = Some("Y".into());
                r.accept_unsafe_interrupts = true;
            },
            Pass,
            "accepted",
            "",
        ),
        case(
            "no-IOMMU mode",
            "iommu.unsafe",
            |f, _| f.iommu.unsafe_noiommu = Some("Y".into()),
            Warn,
            "noiommu_mode: Y",
            "write N",
        ),
        case(
            "vfio not loaded",
            "iommu.unsafe",
            |f, _| f.iommu.allow_unsafe_interrupts = None,
            Skip,
            "not loaded",
            "",
        ),
        case(
            "shared with another NIC",
            "iommu.group",
            |f, _| share_group(f, "0000:02:00.0"),
            Fail,
            "shared with 0000:02:00.0 (8086:1533, driver igb)",
            "another root port",
        ),
        case(
            "shared with a bridge only",
            "iommu.group",
            |f, _| share_group(f, "0000:00:01.0"),
            Pass,
            "iommu_group: 2",
            "",
        ),
        case(
            "a bridge without ACS is named",
            "iommu.group",
            |f, _| {
                share_group(f, "0000:02:00.0");
                f.pci[0].acs = None;
            },
            Fail,
            "0000:00:01.0: a bridge without ACS",
            "slot",
        ),
        case(
            "all of the group for guests",
            "iommu.group",
            |f, r| {
                share_group(f, "0000:02:00.0");
                r.sriov.clear();
                r.passthrough = vec![PF.into(), "0000:02:00.0".into()];
                f.iommu.groups.as_mut().unwrap().retain(|g| g.id != 3);
            },
            Warn,
            "shared",
            "same guest",
        ),
        case(
            "no such device",
            "iommu.group",
            |_, r| r.passthrough = vec!["0000:99:00.0".into()],
            Fail,
            "no such device",
            "0000:02:00.0",
        ),
        case(
            "left out by the table",
            "iommu.group",
            |f, _| f.iommu.groups.as_mut().unwrap().retain(|g| g.id != 2),
            Fail,
            "none, though",
            "firmware",
        ),
        case(
            "no IOMMU",
            "iommu.group",
            |f, _| iommu_off(f),
            Skip,
            "no IOMMU is in use",
            "",
        ),
        case(
            "nobody asks",
            "iommu.group",
            |_, r| r.sriov.clear(),
            Skip,
            "no device",
            "",
        ),
        case(
            "not loaded",
            "vfio.module",
            |f, _| {
                f.modules.pci_drivers.clear();
                f.modules.known.insert(
                    "vfio_pci".into(),
                    module(false, false, Some("kernel/vfio-pci.ko")),
                );
            },
            Warn,
            "modules.dep: kernel/vfio-pci.ko",
            "modprobe vfio-pci",
        ),
        case(
            "not installed",
            "vfio.module",
            |f, _| {
                f.modules.pci_drivers.clear();
                f.modules.known.remove("vfio_pci");
            },
            Fail,
            "no vfio-pci",
            "full kernel",
        ),
        case(
            "blacklisted",
            "vfio.module",
            |f, _| {
                f.modules.pci_drivers.clear();
                f.modules
                    .known
                    .insert("vfio_pci".into(), module(false, false, Some("x")));
                f.modules
                    .blacklisted
                    .insert("vfio_pci".into(), "/etc/modprobe.d/no.conf".into());
            },
            Fail,
            "/etc/modprobe.d/no.conf",
            "take the line",
        ),
        case(
            "modules locked",
            "vfio.module",
            |f, _| {
                f.modules.pci_drivers.clear();
                f.modules
                    .known
                    .insert("vfio_pci".into(), module(false, false, Some("x")));
                f.modules.disabled = Some(true);
            },
            Fail,
            "modules_disabled: 1",
            "modules-load.d",
        ),
        case(
            "cannot tell",
            "vfio.module",
            |f, _| {
                f.modules = Default::default();
            },
            Skip,
            "not read",
            "",
        ),
        case(
            "nobody asks",
            "vfio.module",
            |f, r| {
                f.modules = Default::default();
                r.sriov.clear();
            },
            Skip,
            "no device",
            "",
        ),
    ]);
}

#[test]
fn the_kernel_s_fix_is_the_words_to_add_and_to_take_away() {
    let mut facts = node();
    iommu_off(&mut facts);
    facts.kernel.cmdline = Some("quiet intel_iommu=off".into());
    let all = judge(&facts, &asked());
    assert_eq!(
        hardware::fixes(&all),
        [Fix::KernelArgs {
            add: vec!["intel_iommu=on".into()],
            remove: vec!["intel_iommu=off".into()],
        }]
    );
    assert!(hardware::fixes(&all)[0].needs_reboot());
}
