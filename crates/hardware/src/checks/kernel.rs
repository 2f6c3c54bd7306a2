//! The kernel's version, Secure Boot and lockdown.

use super::not_read;
use crate::catalogue::{Check, Remedy};
use crate::facts::Facts;
use crate::finding::Finding;
use crate::requirements::Requirements;

/// The oldest kernel that works: RHEL 8's, and what Kubernetes' node checks ask for.
const OLDEST: (u32, u32) = (4, 18);
/// The oldest kernel whose cgroup v2 is whole for Kubernetes, which wants 5.8.
const COMFORTABLE: (u32, u32) = (5, 8);

const SIGN: &str = "use the driver in the kernel's tree, or sign the module and enroll the key (mokutil --import), or switch Secure Boot off in the firmware setup";

pub(crate) static SECURE_BOOT: Check = Check {
    id: "secureboot",
    title: "Secure Boot and lockdown allow what the node is to do",
    reads: &[
        "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c",
        "/sys/firmware/efi/efivars/SetupMode-8be4df61-93ca-11d2-aa0d-00e098032b8c",
        "/sys/kernel/security/lockdown",
    ],
    why: "under lockdown the kernel refuses unsigned modules, UIO and tools that write a NIC's registers (mstconfig); vfio and SR-IOV are not affected",
    judged: "Passes, and says what is in force; fails only when drivers from outside the kernel's tree are asked for (unsigned_modules). Skipped when nothing could be read.",
    remedies: &[Remedy {
        case: "drivers from outside",
        text: SIGN,
    }],
    judge: secure_boot,
};

fn secure_boot(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let firmware = &facts.firmware;
    let mode = firmware.lockdown_mode();
    let boot = match (firmware.efi, firmware.secure_boot) {
        (_, Some(true)) => "SecureBoot-8be4df61…: 1".to_owned(),
        (_, Some(false)) => "SecureBoot-8be4df61…: 0".to_owned(),
        (Some(false), None) => "/sys/firmware/efi: missing; no UEFI, so no Secure Boot".to_owned(),
        (_, None) => String::new(),
    };
    let lockdown = mode.map_or(String::new(), |mode| {
        format!("/sys/kernel/security/lockdown: {mode}")
    });
    let evidence = [boot, lockdown]
        .into_iter()
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join("; ");
    if evidence.is_empty() {
        return Finding::skip(not_read(facts, "/sys/kernel/security/lockdown")).alone();
    }
    // Lockdown is the effect; where it cannot be read, Secure Boot is taken for it.
    let locked = match mode {
        Some(mode) => mode != "none",
        None => firmware.secure_boot == Some(true) && firmware.setup_mode != Some(true),
    };
    if !locked {
        return Finding::pass(evidence).alone();
    }
    if requirements.unsigned_modules {
        return Finding::fail(
            format!("{evidence}; drivers from outside the kernel's tree are asked for"),
            SIGN,
        )
        .alone();
    }
    Finding::pass(format!(
        "{evidence}; vfio works, unsigned modules and mstconfig are refused"
    ))
    .alone()
}

pub(crate) static KERNEL: Check = Check {
    id: "kernel",
    title: "the kernel is new enough and of the right machine",
    reads: &[
        "/proc/sys/kernel/osrelease",
        "/proc/sys/kernel/tainted",
        "uname -m",
    ],
    why: "older kernels lack what Kubernetes, nftables and vfio rest on",
    judged: "Fails before Linux 4.18 and on another machine than x86_64; warns before 5.8, whose cgroup v2 is the first that Kubernetes takes. Passes otherwise.",
    remedies: &[
        Remedy {
            case: "Debian, Ubuntu",
            text: "install the kernel of the current release, on Debian from backports, on Ubuntu linux-generic-hwe; then reboot",
        },
        Remedy {
            case: "RHEL, Rocky, Fedora",
            text: "dnf update kernel, or move to the current major release; then reboot",
        },
        Remedy {
            case: "another machine",
            text: "use an x86_64 node",
        },
    ],
    judge: kernel,
};

/// Major and minor of a kernel release: `6.1.0-37-amd64` is (6, 1).
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|letter: char| !letter.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn kernel(facts: &Facts, _: &Requirements) -> Vec<Finding> {
    let kernel = &facts.kernel;
    if kernel.release.is_empty() {
        return Finding::skip(not_read(facts, "/proc/sys/kernel/osrelease")).alone();
    }
    let mut evidence = format!("/proc/sys/kernel/osrelease: {}", kernel.release);
    if !facts.os.pretty.is_empty() {
        evidence.push_str(&format!(" ({})", facts.os.pretty));
    }
    if let Some(bits) = kernel.tainted.filter(|bits| *bits != 0) {
        evidence.push_str(&format!("; /proc/sys/kernel/tainted: {bits}"));
    }
    if !kernel.machine.is_empty() && kernel.machine != "x86_64" {
        return Finding::fail(
            format!(
                "{evidence}; uname -m: expected x86_64, found {}",
                kernel.machine
            ),
            "use an x86_64 node",
        )
        .alone();
    }
    let update = match facts.os.id.as_str() {
        "rhel" | "rocky" | "almalinux" | "centos" | "fedora" => {
            "dnf update kernel, or move to the current major release; then reboot"
        }
        "ubuntu" => "apt install linux-generic-hwe for the release, then reboot",
        _ => "install the kernel of the current release, on Debian from backports; then reboot",
    };
    match version(&kernel.release) {
        None => Finding::skip(format!("{evidence}; not a version")).alone(),
        Some(found) if found < OLDEST => {
            Finding::fail(format!("{evidence}; expected 4.18 or newer"), update).alone()
        }
        Some(found) if found < COMFORTABLE => {
            Finding::warn(format!("{evidence}; expected 5.8 or newer"), update).alone()
        }
        Some(_) => Finding::pass(evidence).alone(),
    }
}
