//! The CPU's virtualization extension and its microcode.

use super::{machine, not_read, some_of, without_kvm};
use crate::catalogue::{Check, Remedy};
use crate::facts::{CpuVendor, Facts};
use crate::finding::Finding;
use crate::requirements::Requirements;

const ENABLE_VTX: &str = "enable Intel Virtualization Technology (VT-x) in the firmware setup (often under Advanced, CPU Configuration), then power the node off and on; a warm reboot does not clear the firmware's lock";
const ENABLE_SVM: &str = "enable SVM Mode (AMD-V) in the firmware setup (often under Advanced, CPU Configuration), then power the node off and on";
const ENABLE_NESTING: &str = "the node is a virtual machine: enable nested virtualization on its host, and give it the host's CPU model";

pub(crate) static VIRT: Check = Check {
    id: "cpu.virt",
    title: "the CPU offers its virtualization extension",
    reads: &["/proc/cpuinfo", "/sys/class/dmi/id/"],
    why: "guests run at full speed only on the CPU's virtualization extension",
    judged: "Passes when every CPU has the flag vmx or svm, or when a guest ran in /dev/kvm whatever the flags. Since Linux 5.6 the kernel clears vmx when the firmware locked it off, so the flag tells of CPU and firmware together. Without it: a warning where emulation is allowed, else a failure.",
    remedies: &[
        Remedy {
            case: "Intel",
            text: ENABLE_VTX,
        },
        Remedy {
            case: "AMD",
            text: ENABLE_SVM,
        },
        Remedy {
            case: "virtual machine",
            text: ENABLE_NESTING,
        },
    ],
    judge: virt,
};

fn virt(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let cpu = &facts.cpu;
    if let Some(flag) = ["vmx", "svm"].into_iter().find(|flag| cpu.has_flag(flag)) {
        return Finding::pass(format!("/proc/cpuinfo: flag {flag} on {}", cpu.model)).alone();
    }
    if cpu.flags.is_empty() {
        return Finding::skip(not_read(facts, "/proc/cpuinfo")).alone();
    }
    let wanted = match cpu.vendor {
        CpuVendor::Amd => "svm",
        CpuVendor::Intel => "vmx",
        CpuVendor::Other => "vmx or svm",
    };
    let evidence = format!("/proc/cpuinfo: no flag {wanted} on {}", cpu.model);
    if facts.kvm.works() {
        return Finding::pass(format!("{evidence}, yet a guest ran in /dev/kvm")).alone();
    }
    let remedy = match (facts.is_virtual(), cpu.vendor) {
        (true, _) => ENABLE_NESTING.to_owned(),
        (false, CpuVendor::Amd) => ENABLE_SVM.to_owned(),
        (false, CpuVendor::Intel) => ENABLE_VTX.to_owned(),
        (false, CpuVendor::Other) => {
            "use a node with an Intel CPU with VT-x or an AMD CPU with SVM".to_owned()
        }
    };
    let evidence = match machine(facts).filter(|_| facts.is_virtual()) {
        Some(name) => format!("{evidence}; the node is a virtual machine ({name})"),
        None => evidence,
    };
    Finding::new(without_kvm(requirements), evidence, remedy).alone()
}

const UPDATE_INTEL: &str = "install the package intel-microcode (Debian, Ubuntu) or microcode_ctl (RHEL, Rocky, Fedora), or the firmware update of the machine's vendor, then reboot";
const UPDATE_AMD: &str = "install the package amd64-microcode (Debian, Ubuntu) or linux-firmware (RHEL, Rocky, Fedora), or the firmware update of the machine's vendor, then reboot";
const MIXED: &str = "give all sockets the same microcode by a firmware update, then reboot";

pub(crate) static MICROCODE: Check = Check {
    id: "microcode",
    title: "the CPU's microcode is uniform and mitigates what the kernel knows of",
    reads: &[
        "/sys/devices/system/cpu/cpu0/microcode/version",
        "/sys/devices/system/cpu/vulnerabilities/",
        "/proc/cpuinfo",
    ],
    why: "a guest of one tenant must not read another's memory through the CPU",
    judged: "Warns when CPUs differ in microcode, or when the kernel calls the CPU vulnerable to something. Skipped in a virtual machine, whose host decides.",
    remedies: &[
        Remedy {
            case: "Intel",
            text: UPDATE_INTEL,
        },
        Remedy {
            case: "AMD",
            text: UPDATE_AMD,
        },
        Remedy {
            case: "sockets differ",
            text: MIXED,
        },
        Remedy {
            case: "mitigations=off",
            text: "take mitigations=off off the kernel's command line if the node serves more than one tenant",
        },
    ],
    judge: microcode,
};

fn microcode(facts: &Facts, _: &Requirements) -> Vec<Finding> {
    let cpu = &facts.cpu;
    if facts.is_virtual() {
        return Finding::skip(
            "/proc/cpuinfo: flag hypervisor; the host of this virtual machine decides",
        )
        .alone();
    }
    let version = cpu.microcode.as_deref().unwrap_or("unknown");
    if cpu.microcode_mixed.len() > 1 {
        return Finding::warn(
            format!(
                "/proc/cpuinfo: microcode {}",
                cpu.microcode_mixed.join(" and ")
            ),
            MIXED,
        )
        .alone();
    }
    let open: Vec<String> = cpu
        .vulnerabilities
        .iter()
        .filter(|(_, text)| text.starts_with("Vulnerable"))
        .map(|(name, text)| format!("{name}: {text}"))
        .collect();
    if !open.is_empty() {
        let remedy = match cpu.vendor {
            CpuVendor::Amd => UPDATE_AMD,
            _ => UPDATE_INTEL,
        };
        return Finding::warn(
            format!(
                "/sys/devices/system/cpu/vulnerabilities: {}; microcode {version}",
                some_of(&open, 4)
            ),
            remedy,
        )
        .alone();
    }
    if cpu.microcode.is_none() && cpu.vulnerabilities.is_empty() {
        return Finding::skip(not_read(
            facts,
            "/sys/devices/system/cpu/cpu0/microcode/version",
        ))
        .alone();
    }
    Finding::pass(format!(
        "/sys/devices/system/cpu/cpu0/microcode/version: {version}; {} vulnerabilities known, none open",
        cpu.vulnerabilities.len()
    ))
    .alone()
}
