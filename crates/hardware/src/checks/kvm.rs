//! KVM by effect: the device, a guest in it, guests in guests.

use super::{is_on, machine, without_kvm};
use crate::catalogue::{Check, Remedy};
use crate::facts::{Attempt, CpuVendor, Facts};
use crate::finding::Finding;
use crate::requirements::Requirements;
use crate::verdict::{Fix, Status};

/// KVM_GET_API_VERSION: 12 since Linux 2.6.22, and it will not change again
/// (Documentation/virt/kvm/api.rst).
const API_VERSION: i32 = 12;

/// "Device or resource busy": another hypervisor holds the extension.
const EBUSY: i32 = 16;
/// "Permission denied" and "Operation not permitted".
const DENIED: [i32; 2] = [1, 13];

const LOAD: &str = "load the vendor's module (modprobe kvm_intel or modprobe kvm_amd; where it says \"Operation not supported\" the firmware has the extension off) and list it in /etc/modules-load.d";
const INSTALL: &str = "install the package with the kernel's KVM modules (linux-image of the distribution instead of a cloud or minimal kernel; linux-modules-extra on Ubuntu, kernel-modules-core on RHEL, Rocky and Fedora)";
const BUSY: &str =
    "stop the other hypervisor that holds the extension (VirtualBox, VMware), or unload its module";
const PERMISSION: &str =
    "run as root on the node itself; in a container give it the device /dev/kvm";
const EMULATION: &str = "KVM opens but cannot run guests here; update the kernel or the host of this virtual machine; until then set useEmulation, and guests run slowly";
const NESTING_HOST: &str = "enable nested virtualization on the host of this virtual machine (kvm_intel or kvm_amd with nested=1, and the CPU model of the host)";
const NESTING: &str = "put \"options kvm_intel nested=1\" (Intel) or \"options kvm_amd nested=1\" (AMD) in a file of /etc/modprobe.d and load the module anew while no guest runs";

pub(crate) static DEVICE: Check = Check {
    id: "kvm.dev",
    title: "/dev/kvm opens and creates a virtual machine",
    reads: &[
        "/dev/kvm: open, KVM_GET_API_VERSION, KVM_CREATE_VM, KVM_CREATE_VCPU",
        "/sys/module/kvm_intel, /sys/module/kvm_amd",
    ],
    why: "the launcher of every guest opens this device; the node's name for it may exist without a module behind it",
    judged: "Passes when a virtual machine with a virtual CPU was created. Otherwise a warning where emulation is allowed, else a failure.",
    remedies: &[
        Remedy {
            case: "no module",
            text: LOAD,
        },
        Remedy {
            case: "module not installed",
            text: INSTALL,
        },
        Remedy {
            case: "EBUSY",
            text: BUSY,
        },
        Remedy {
            case: "EACCES, EPERM",
            text: PERMISSION,
        },
    ],
    judge: device,
};

/// The first step that failed: what, the errno, the error.
fn first_failure(facts: &Facts) -> Option<(&'static str, Option<i32>, &str)> {
    let device = &facts.kvm.device;
    [
        ("open", &device.open),
        ("KVM_CREATE_VM", &device.create_vm),
        ("KVM_CREATE_VCPU", &device.create_vcpu),
    ]
    .into_iter()
    .find_map(|(step, attempt)| match attempt {
        Attempt::Failed { errno, error } => Some((step, *errno, error.as_str())),
        _ => None,
    })
}

fn device(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let device = &facts.kvm.device;
    let status = without_kvm(requirements);
    if device.present == Some(false) {
        let finding = Finding::new(status, "/dev/kvm: missing", how_to_load(facts));
        return load(facts, finding).alone();
    }
    if let Some((step, errno, error)) = first_failure(facts) {
        let remedy = match errno {
            Some(EBUSY) => BUSY.to_owned(),
            Some(code) if DENIED.contains(&code) => PERMISSION.to_owned(),
            _ => how_to_load(facts),
        };
        let finding = Finding::new(status, format!("/dev/kvm: {step}: {error}"), remedy);
        return if step == "open" && !errno.is_some_and(|code| DENIED.contains(&code)) {
            load(facts, finding).alone()
        } else {
            finding.alone()
        };
    }
    match device.api_version {
        Some(version) if version != API_VERSION => Finding::new(
            status,
            format!("/dev/kvm: KVM_GET_API_VERSION: expected {API_VERSION}, found {version}"),
            "use a kernel with KVM of its own, not a replacement of it",
        )
        .alone(),
        _ if device.create_vcpu.worked() => {
            Finding::pass("/dev/kvm: API 12, a virtual machine and a virtual CPU created").alone()
        }
        _ if facts.kvm.works() => Finding::pass("/dev/kvm: a guest ran").alone(),
        _ if device.open.worked() => Finding::pass("/dev/kvm: opens").alone(),
        _ => Finding::skip("/dev/kvm: not tried").alone(),
    }
}

/// The vendor's module, if its extension is there for it to use.
fn vendor_module(facts: &Facts) -> Option<&'static str> {
    if facts.cpu.has_flag("vmx") {
        Some("kvm_intel")
    } else if facts.cpu.has_flag("svm") {
        Some("kvm_amd")
    } else {
        None
    }
}

fn how_to_load(facts: &Facts) -> String {
    match vendor_module(facts) {
        Some(module) if facts.modules.loadable(module) => {
            format!("modprobe {module}, and list {module} in /etc/modules-load.d")
        }
        Some(_) if facts.modules.directory.is_some() => INSTALL.to_owned(),
        None if !facts.cpu.flags.is_empty() => {
            "the CPU does not offer the extension that the module needs: see cpu.virt".to_owned()
        }
        _ => LOAD.to_owned(),
    }
}

/// Adds what software can do: load the module that is installed and not loaded.
fn load(facts: &Facts, finding: Finding) -> Finding {
    match vendor_module(facts) {
        Some(module) if facts.modules.loadable(module) && !facts.modules.present(module) => finding
            .fixed_by(Fix::ModulesLoad {
                names: vec![module.to_owned()],
            }),
        _ => finding,
    }
}

pub(crate) static RUN: Check = Check {
    id: "kvm.run",
    title: "a guest runs in /dev/kvm",
    reads: &[
        "/dev/kvm: KVM_RUN of a few instructions to HLT, then of a guest in long mode, with a time limit",
    ],
    why: "a device that opens but cannot run a guest leaves every virtual machine hanging",
    judged: "Passes when the small guest and the one in long mode reached their end in time. Otherwise a warning where emulation is allowed (deploy then sets useEmulation), else a failure.",
    remedies: &[
        Remedy {
            case: "opens, does not run",
            text: EMULATION,
        },
        Remedy {
            case: "virtual machine",
            text: NESTING_HOST,
        },
        Remedy {
            case: "does not open",
            text: "see kvm.dev",
        },
    ],
    judge: run,
};

fn run(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let kvm = &facts.kvm;
    let status = without_kvm(requirements);
    if kvm.works() {
        return Finding::pass(if kvm.long_mode.worked() {
            "/dev/kvm: a guest ran to its end, in real and in long mode"
        } else {
            "/dev/kvm: a guest ran to its end"
        })
        .alone();
    }
    let emulated = "see kvm.dev; until then useEmulation is set and guests run slowly";
    if kvm.device.present == Some(false) {
        return Finding::new(status, "/dev/kvm: missing", emulated).alone();
    }
    if let Some((step, _, error)) = first_failure(facts) {
        return Finding::new(status, format!("/dev/kvm: {step}: {error}"), emulated).alone();
    }
    let Some((guest, error)) = kvm.run.error().map(|error| ("a guest", error)).or_else(|| {
        kvm.long_mode
            .error()
            .map(|error| ("a long-mode guest", error))
    }) else {
        return Finding::skip("/dev/kvm: no guest was tried").alone();
    };
    let remedy = if facts.is_virtual() {
        format!("{EMULATION}. {NESTING_HOST}")
    } else {
        EMULATION.to_owned()
    };
    Finding::new(
        status,
        // The gatherer may have named the device itself.
        if error.starts_with("/dev/kvm") {
            error.to_owned()
        } else {
            format!("/dev/kvm opens, but {guest} does not run: {error}")
        },
        remedy,
    )
    .alone()
}

pub(crate) static NESTED: Check = Check {
    id: "kvm.nested",
    title: "guests can run guests, and a node that is a guest can run them",
    reads: &[
        "/sys/module/kvm_intel/parameters/nested",
        "/sys/module/kvm_amd/parameters/nested",
        "/proc/cpuinfo (flag hypervisor)",
        "/sys/class/dmi/id/",
    ],
    why: "a node that is itself a virtual machine runs guests only if its host nests; a guest that runs guests needs the same of the node",
    judged: "On a node that is a virtual machine: passes when KVM runs guests, else as kvm.run. With nested_guests asked for: fails unless the parameter nested is on. Otherwise skipped.",
    remedies: &[
        Remedy {
            case: "the node is a virtual machine",
            text: NESTING_HOST,
        },
        Remedy {
            case: "guests of guests",
            text: NESTING,
        },
    ],
    judge: nested,
};

fn nested(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let kvm = &facts.kvm;
    let mut findings = Vec::new();
    // KVM was asked and said no.
    let told_off = kvm.run != Attempt::NotTried
        || first_failure(facts).is_some()
        || kvm.device.present == Some(false);
    if facts.is_virtual() {
        let name = machine(facts).map_or(String::new(), |name| format!(", {name}"));
        let evidence = format!("/proc/cpuinfo: flag hypervisor{name}");
        findings.push(if kvm.works() {
            Finding::pass(format!(
                "{evidence}; its host nests: a guest ran in /dev/kvm"
            ))
        } else if !told_off {
            Finding::skip(format!("{evidence}; no guest was tried"))
        } else {
            Finding::new(
                without_kvm(requirements),
                format!("{evidence}; no guest runs in /dev/kvm"),
                NESTING_HOST,
            )
        });
    }
    let parameters: Vec<String> = kvm
        .nested
        .iter()
        .map(|(module, value)| format!("/sys/module/{module}/parameters/nested: {value}"))
        .collect();
    let on = kvm.nested.values().any(|value| is_on(value));
    if requirements.nested_guests {
        let option = match facts.cpu.vendor {
            CpuVendor::Amd => NESTING.replace("\"options kvm_intel nested=1\" (Intel) or ", ""),
            CpuVendor::Intel => NESTING.replace(" or \"options kvm_amd nested=1\" (AMD)", ""),
            CpuVendor::Other => NESTING.to_owned(),
        };
        findings.push(if on {
            Finding::pass(parameters.join("; "))
        } else if parameters.is_empty() && !kvm.works() && !told_off {
            Finding::skip("/sys/module/kvm_*/parameters/nested: not read")
        } else if parameters.is_empty() {
            Finding::new(
                if kvm.works() {
                    Status::Warn
                } else {
                    Status::Fail
                },
                "/sys/module/kvm_*/parameters/nested: none is there, and guests of guests are asked for",
                option,
            )
        } else {
            Finding::fail(parameters.join("; "), option)
        });
    } else if findings.is_empty() {
        findings.push(Finding::skip(if parameters.is_empty() {
            "guests of guests are not asked for".to_owned()
        } else {
            format!(
                "{}; guests of guests are not asked for",
                parameters.join("; ")
            )
        }));
    }
    findings
}
