//! The IOMMU: announced by firmware, used by the kernel, told to by the command
//! line, remapping interrupts. Judged by effect: it is on when units and groups exist.

use super::{is_on, not_read};
use crate::boot;
use crate::catalogue::{Check, Remedy};
use crate::facts::{CpuVendor, Facts};
use crate::finding::Finding;
use crate::parse::cmdline;
use crate::requirements::Requirements;
use crate::verdict::Fix;

const TABLES: &str = "/sys/firmware/acpi/tables";
const UNITS: &str = "/sys/class/iommu";
const GROUPS: &str = "/sys/kernel/iommu_groups";
const NOT_ASKED: &str = "no device is to be given to guests";

const ENABLE_VTD: &str = "enable Intel VT-d (Intel Virtualization Technology for Directed I/O) in the firmware setup, often under Chipset, North Bridge or System Agent, then power the node off and on";
const ENABLE_AMD: &str = "enable IOMMU (AMD-Vi) in the firmware setup, often under AMD CBS, NBIO; Auto is not enough on many boards; then power the node off and on";
const GIVE_VIOMMU: &str = "the node is a virtual machine: give it a virtual IOMMU on its host (QEMU: -device intel-iommu,intremap=on; libvirt: <iommu model='intel'>)";
const TELL_INTEL: &str = "add intel_iommu=on to the kernel's command line";
const TELL_AMD: &str = "take amd_iommu=off or iommu=off off the kernel's command line; AMD needs no argument to be on, and amd_iommu=on is none that the kernel knows";

/// An IOMMU is asked for.
fn needed(requirements: &Requirements) -> bool {
    requirements.needs_vfio()
}

/// The vendor of the IOMMU: that of the table if there is one, else of the CPU.
fn vendor(facts: &Facts) -> CpuVendor {
    let has = |name: &str| facts.iommu.acpi.iter().any(|table| table.name == name);
    if has("DMAR") {
        CpuVendor::Intel
    } else if has("IVRS") {
        CpuVendor::Amd
    } else {
        facts.cpu.vendor
    }
}

fn firmware_remedy(facts: &Facts) -> &'static str {
    match (facts.is_virtual(), facts.cpu.vendor) {
        (true, _) => GIVE_VIOMMU,
        (false, CpuVendor::Amd) => ENABLE_AMD,
        (false, _) => ENABLE_VTD,
    }
}

pub(crate) static ACPI: Check = Check {
    id: "iommu.acpi",
    title: "firmware announces an IOMMU",
    reads: &[
        "/sys/firmware/acpi/tables/DMAR",
        "/sys/firmware/acpi/tables/IVRS",
    ],
    why: "without the table the kernel cannot know of the IOMMU, whatever its command line says",
    judged: "Passes when DMAR (Intel) or IVRS (AMD) is there, or when an IOMMU works without one. Fails when devices are to be given to guests and there is none; skipped when nothing asks for it or the tables cannot be listed, as in a container.",
    remedies: &[
        Remedy {
            case: "Intel",
            text: ENABLE_VTD,
        },
        Remedy {
            case: "AMD",
            text: ENABLE_AMD,
        },
        Remedy {
            case: "virtual machine",
            text: GIVE_VIOMMU,
        },
        Remedy {
            case: "bad checksum",
            text: "update the machine's firmware",
        },
    ],
    judge: acpi,
};

fn acpi(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let iommu = &facts.iommu;
    let described: Vec<String> = iommu
        .acpi
        .iter()
        .map(|table| {
            let mut text = format!("{}: {} bytes", table.path, table.bytes);
            if let Some(flags) = table.flags {
                text.push_str(&format!(", flags {flags:#04x}"));
            }
            if let Some(units) = table.hardware_units {
                text.push_str(&format!(", remapping units: {units}"));
            }
            text
        })
        .collect();
    let described = described.join("; ");
    if !iommu.acpi.is_empty() {
        if iommu
            .acpi
            .iter()
            .any(|table| table.checksum_ok == Some(false))
        {
            return Finding::warn(
                format!("{described}; the checksum is wrong"),
                "update the machine's firmware",
            )
            .alone();
        }
        return Finding::pass(described).alone();
    }
    if iommu.active() == Some(true) {
        return Finding::pass(format!(
            "{TABLES}: neither DMAR nor IVRS, yet {UNITS} has {}",
            unit_names(facts)
        ))
        .alone();
    }
    if !iommu.acpi_listed {
        return Finding::skip(not_read(facts, TABLES)).alone();
    }
    let evidence = format!("{TABLES}: neither DMAR nor IVRS");
    if needed(requirements) {
        Finding::fail(evidence, firmware_remedy(facts)).alone()
    } else {
        Finding::skip(format!("{evidence}; {NOT_ASKED}")).alone()
    }
}

fn unit_names(facts: &Facts) -> String {
    let names: Vec<&str> = facts
        .iommu
        .units
        .iter()
        .flatten()
        .map(|unit| unit.name.as_str())
        .collect();
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}

/// What the kernel made of the IOMMU, in words.
fn effect(facts: &Facts) -> String {
    let groups = facts.iommu.groups.as_ref().map_or_else(
        || "not read".to_owned(),
        |groups| format!("{} groups", groups.len()),
    );
    let units = if facts.iommu.units.is_some() {
        unit_names(facts)
    } else {
        "not read".to_owned()
    };
    format!("{UNITS}: {units}; {GROUPS}: {groups}")
}

pub(crate) static ACTIVE: Check = Check {
    id: "iommu.active",
    title: "the kernel uses the IOMMU",
    reads: &["/sys/class/iommu/", "/sys/kernel/iommu_groups/"],
    why: "a device can be given to a guest only within an IOMMU group; without one vfio-pci refuses it with EINVAL",
    judged: "Passes when /sys/class/iommu has a unit and at least one group exists; the folder of groups exists, empty, without an IOMMU too, and the kernel's log proves nothing. Fails when devices are to be given to guests and it is off; skipped when nothing asks for it.",
    remedies: &[
        Remedy {
            case: "no DMAR or IVRS table",
            text: "the firmware has it off: see iommu.acpi",
        },
        Remedy {
            case: "Intel, table there",
            text: TELL_INTEL,
        },
        Remedy {
            case: "AMD, table there",
            text: TELL_AMD,
        },
    ],
    judge: active,
};

fn active(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let evidence = effect(facts);
    match facts.iommu.active() {
        Some(true) => Finding::pass(evidence).alone(),
        None => Finding::skip(not_read(facts, GROUPS)).alone(),
        Some(false) if !needed(requirements) => {
            Finding::skip(format!("{evidence}; {NOT_ASKED}")).alone()
        }
        Some(false) if facts.iommu.acpi.is_empty() => {
            let remedy = format!("the firmware has it off: {}", firmware_remedy(facts));
            Finding::fail(evidence, remedy).alone()
        }
        Some(false) => match change(facts) {
            Some((add, remove)) => Finding::fail(
                format!("firmware fine, kernel off: {evidence}"),
                boot::remedy(facts, &add, &remove),
            )
            .fixed_by(Fix::KernelArgs { add, remove })
            .alone(),
            None => Finding::fail(
                format!("firmware fine, kernel told to use it, and yet off: {evidence}"),
                "read what the kernel says of it (dmesg | grep -e DMAR -e AMD-Vi) and update the firmware",
            )
            .alone(),
        },
    }
}

/// Words of the command line that switch the IOMMU off, as the kernel takes them:
/// `iommu=off` for good, of `intel_iommu` the last of on and off, `amd_iommu=off` for good.
fn off_words(line: &str, vendor: CpuVendor) -> Vec<String> {
    let mut words = boot::words_giving(line, "iommu", "off");
    if vendor != CpuVendor::Amd
        && cmdline::last_of(line, "intel_iommu", &["on", "off"]) == Some("off")
    {
        words.extend(boot::words_giving(line, "intel_iommu", "off"));
    }
    if vendor != CpuVendor::Intel {
        words.extend(boot::words_giving(line, "amd_iommu", "off"));
    }
    words
}

/// The change of the command line that would switch the IOMMU on; `None` if the
/// command line is not what holds it back, or is not known.
fn change(facts: &Facts) -> Option<(Vec<String>, Vec<String>)> {
    let line = facts.kernel.cmdline.as_deref()?;
    let vendor = vendor(facts);
    let remove = off_words(line, vendor);
    let told = cmdline::last_of(line, "intel_iommu", &["on", "off"]) == Some("on");
    let add = if vendor == CpuVendor::Intel && !told {
        vec!["intel_iommu=on".to_owned()]
    } else {
        Vec::new()
    };
    (!add.is_empty() || !remove.is_empty()).then_some((add, remove))
}

/// The words about the IOMMU on the command line.
fn spoken(line: &str) -> String {
    let words: Vec<String> = cmdline::parameters(line)
        .into_iter()
        .filter(|word| {
            matches!(
                word.name.as_str(),
                "iommu" | "intel_iommu" | "amd_iommu" | "intremap" | "nointremap"
            )
        })
        .map(|word| match word.value {
            Some(value) => format!("{}={value}", word.name),
            None => word.name,
        })
        .collect();
    if words.is_empty() {
        "says nothing of an IOMMU".to_owned()
    } else {
        words.join(" ")
    }
}

pub(crate) static CMDLINE: Check = Check {
    id: "iommu.cmdline",
    title: "the kernel's command line does not hold the IOMMU back",
    reads: &[
        "/proc/cmdline",
        "/etc/default/grub",
        "/etc/kernel/cmdline",
        "grubby, update-grub, rpm-ostree",
    ],
    why: "between firmware and effect stands the command line; only if the IOMMU is off does it matter what it says",
    judged: "Passes when the IOMMU is on, whatever is written; when it is off for want of the firmware's table, the command line is not to blame. Lists are understood (on,sm_on), the last of on and off wins. Fails when devices are to be given to guests, firmware announces the IOMMU and the kernel was told off, or (Intel) not told on where its default is off.",
    remedies: &[
        Remedy {
            case: "Intel",
            text: TELL_INTEL,
        },
        Remedy {
            case: "AMD",
            text: TELL_AMD,
        },
        Remedy {
            case: "Debian, Ubuntu",
            text: "GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub and a reboot",
        },
        Remedy {
            case: "RHEL, Rocky, Fedora",
            text: "grubby --update-kernel=ALL --args=\"intel_iommu=on\", then a reboot",
        },
        Remedy {
            case: "image-based (ostree)",
            text: "rpm-ostree kargs --append-if-missing=intel_iommu=on, then a reboot",
        },
    ],
    judge: command_line,
};

fn command_line(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let Some(line) = facts.kernel.cmdline.as_deref() else {
        return Finding::skip(not_read(facts, "/proc/cmdline")).alone();
    };
    let evidence = format!("/proc/cmdline: {}", spoken(line));
    if facts.iommu.active() == Some(true) {
        return Finding::pass(format!("{evidence}; the IOMMU is on")).alone();
    }
    if !needed(requirements) {
        return Finding::skip(format!("{evidence}; {NOT_ASKED}")).alone();
    }
    let off = off_words(line, vendor(facts));
    // Without a table the missing word is not what holds it back; an explicit off would be, next.
    if facts.iommu.acpi.is_empty() && off.is_empty() {
        return if facts.iommu.acpi_listed {
            Finding::pass(format!(
                "{evidence}; not to blame: firmware announces no IOMMU"
            ))
            .alone()
        } else {
            Finding::skip(format!(
                "{evidence}; whether firmware has an IOMMU is not known"
            ))
            .alone()
        };
    }
    match change(facts) {
        Some((add, remove)) => Finding::fail(evidence, boot::remedy(facts, &add, &remove))
            .fixed_by(Fix::KernelArgs { add, remove })
            .alone(),
        None => Finding::pass(evidence).alone(),
    }
}

pub(crate) static MODE: Check = Check {
    id: "iommu.mode",
    title: "how the kernel maps devices that it keeps for itself",
    reads: &["/sys/kernel/iommu_groups/*/type", "/proc/cmdline"],
    why: "with identity mapping the node's own NIC pays nothing for the IOMMU; devices given to guests are translated in any mode",
    judged: "Passes in every mode that a device can be given away in (identity, DMA, DMA-FQ) and says which; iommu=pt is a recommendation. Skipped when no IOMMU is in use or the kernel does not tell (before 5.11).",
    remedies: &[Remedy {
        case: "mode DMA, fast NIC kept by the node",
        text: "add iommu=pt to the kernel's command line",
    }],
    judge: mode,
};

fn mode(facts: &Facts, _: &Requirements) -> Vec<Finding> {
    let mut kinds: Vec<&str> = facts
        .iommu
        .groups
        .iter()
        .flatten()
        .filter_map(|group| group.kind.as_deref())
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.is_empty() {
        return Finding::skip(format!("{GROUPS}/*/type: nothing to read")).alone();
    }
    let hint = if kinds.iter().any(|kind| kind.starts_with("DMA")) {
        "; iommu=pt would spare the node's own devices the translation"
    } else {
        ""
    };
    Finding::pass(format!("{GROUPS}/*/type: {}{hint}", kinds.join(", "))).alone()
}

const ENABLE_REMAPPING: &str = "enable interrupt remapping (x2APIC, under the same menu as VT-d or IOMMU) in the firmware setup; if there is no such entry, update the firmware";
const ACCEPT: &str = "or accept that a guest can then attack the node: accept_unsafe_interrupts in the inventory, which sets allow_unsafe_interrupts=1 of vfio_iommu_type1";

pub(crate) static REMAPPING: Check = Check {
    id: "iommu.ir",
    title: "interrupts of devices are remapped",
    reads: &[
        "/proc/interrupts (chips named IR-)",
        "/sys/class/iommu/dmar*/intel-iommu/ecap (bit 3)",
        "/sys/firmware/acpi/tables/DMAR (flags, byte 37)",
        "/proc/cmdline",
    ],
    why: "without it a guest with a device can send any interrupt to the node, and vfio refuses the group with EPERM only when the guest starts: binding still works",
    judged: "Passes when an interrupt chip in use is a remapping one. Otherwise fails when devices are to be given to guests, or warns when the inventory accepts the risk; skipped when nothing asks for it or no IOMMU is in use.",
    remedies: &[
        Remedy {
            case: "firmware",
            text: ENABLE_REMAPPING,
        },
        Remedy {
            case: "intremap=off on the command line",
            text: "take intremap=off (or nointremap) off the kernel's command line",
        },
        Remedy {
            case: "virtual machine",
            text: "give the virtual IOMMU interrupt remapping on the host (QEMU: -device intel-iommu,intremap=on)",
        },
        Remedy {
            case: "neither",
            text: ACCEPT,
        },
    ],
    judge: remapping,
};

fn remapping(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let iommu = &facts.iommu;
    let Some(chips) = &iommu.interrupt_chips else {
        return Finding::skip(not_read(facts, "/proc/interrupts")).alone();
    };
    if let Some(chip) = chips.iter().find(|chip| chip.starts_with("IR-")) {
        return Finding::pass(format!("/proc/interrupts: {chip}")).alone();
    }
    let mut evidence = "/proc/interrupts: no chip named IR-".to_owned();
    for unit in iommu.units.iter().flatten() {
        if let (Some(ecap), Some(able)) = (&unit.ecap, unit.interrupt_remapping()) {
            evidence.push_str(&format!(
                "; {UNITS}/{}/intel-iommu/ecap: {ecap}, the unit can{}",
                unit.name,
                if able { "" } else { "not" }
            ));
        }
    }
    if !needed(requirements) {
        return Finding::skip(format!("{evidence}; {NOT_ASKED}")).alone();
    }
    if iommu.active() != Some(true) {
        return Finding::skip(format!("{evidence}; no IOMMU is in use")).alone();
    }
    if requirements.accept_unsafe_interrupts {
        return Finding::warn(
            format!("{evidence}; the inventory accepts that guests can attack the node"),
            ENABLE_REMAPPING,
        )
        .alone();
    }
    let line = facts.kernel.cmdline.as_deref().unwrap_or_default();
    let remove: Vec<String> = cmdline::parameters(line)
        .into_iter()
        .filter_map(|word| match (word.name.as_str(), word.value.as_deref()) {
            ("intremap", Some("off")) => Some("intremap=off".to_owned()),
            ("nointremap", None) => Some("nointremap".to_owned()),
            _ => None,
        })
        .collect();
    if remove.is_empty() {
        let first = if facts.is_virtual() {
            "give the virtual IOMMU interrupt remapping on the host (QEMU: -device intel-iommu,intremap=on)"
        } else {
            ENABLE_REMAPPING
        };
        Finding::fail(evidence, format!("{first}; {ACCEPT}")).alone()
    } else {
        Finding::fail(
            format!("{evidence}; /proc/cmdline: {}", remove.join(" ")),
            boot::remedy(facts, &[], &remove),
        )
        .fixed_by(Fix::KernelArgs {
            add: Vec::new(),
            remove,
        })
        .alone()
    }
}

const ALLOW: &str = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";
const NOIOMMU: &str = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

pub(crate) static UNSAFE: Check = Check {
    id: "iommu.unsafe",
    title: "no parameter of vfio lets guests attack the node",
    reads: &[ALLOW, NOIOMMU],
    why: "with either parameter on, a guest that has a device can interrupt or overwrite the node",
    judged: "Passes when both are off, or when the inventory accepts unsafe interrupts. Warns when one is on. Skipped when vfio is not loaded.",
    remedies: &[
        Remedy {
            case: "allow_unsafe_interrupts",
            text: "take \"options vfio_iommu_type1 allow_unsafe_interrupts=1\" out of /etc/modprobe.d and write N to the parameter; see iommu.ir",
        },
        Remedy {
            case: "enable_unsafe_noiommu_mode",
            text: "take it out of /etc/modprobe.d and write N to the parameter; without an IOMMU give no device to a guest",
        },
    ],
    judge: unsafe_parameters,
};

fn unsafe_parameters(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(value) = &facts.iommu.allow_unsafe_interrupts {
        let evidence = format!("{ALLOW}: {value}");
        findings.push(if !is_on(value) {
            Finding::pass(evidence)
        } else if requirements.accept_unsafe_interrupts {
            Finding::pass(format!("{evidence}; accepted by the inventory"))
        } else {
            Finding::warn(
                evidence,
                "take \"options vfio_iommu_type1 allow_unsafe_interrupts=1\" out of /etc/modprobe.d and write N to the parameter; see iommu.ir",
            )
        });
    }
    if let Some(value) = &facts.iommu.unsafe_noiommu {
        let evidence = format!("{NOIOMMU}: {value}");
        findings.push(if is_on(value) {
            Finding::warn(
                evidence,
                "take enable_unsafe_noiommu_mode out of /etc/modprobe.d and write N to the parameter; without an IOMMU give no device to a guest",
            )
        } else {
            Finding::pass(evidence)
        });
    }
    if findings.is_empty() {
        findings.push(Finding::skip(format!("{ALLOW}: vfio is not loaded")));
    }
    // One line for the node where all is well.
    if findings.len() > 1 && findings.iter().all(|f| f.status == crate::Status::Pass) {
        let all: Vec<String> = findings.into_iter().map(|f| f.evidence).collect();
        return Finding::pass(all.join("; ")).alone();
    }
    findings
}
