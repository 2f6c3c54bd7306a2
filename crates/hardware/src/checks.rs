//! The first checks of the catalogue: CPU flags, KVM by effect, memory, disk,
//! tun. Each is a pure function from [`Facts`] to a [`Verdict`].

use crate::facts::{Attempt, CpuVendor, Facts};
use crate::requirements::Requirements;
use crate::verdict::{Status, Verdict};

/// One gibibyte.
const GIB: u64 = 1 << 30;

/// All verdicts on a node, in the order of the catalogue.
#[must_use]
pub fn judge(facts: &Facts, requirements: &Requirements) -> Vec<Verdict> {
    vec![
        cpu_virt(facts, requirements),
        kvm_run(facts, requirements),
        tun(facts),
        memory(facts, requirements),
        disk(facts, requirements),
    ]
}

fn verdict(id: &str, status: Status, evidence: String, why: &str, remedy: &str) -> Verdict {
    let passed = matches!(status, Status::Pass | Status::Skip);
    Verdict {
        id: id.to_owned(),
        subject: String::new(),
        status,
        evidence,
        why: why.to_owned(),
        remedy: if passed {
            String::new()
        } else {
            remedy.to_owned()
        },
        fix: None,
    }
}

/// Without KVM: a warning where emulation is allowed, else a failure.
fn without_kvm(requirements: &Requirements) -> Status {
    if requirements.allow_emulation {
        Status::Warn
    } else {
        Status::Fail
    }
}

/// The kernel clears `vmx` when the firmware locked it off (since Linux 5.6), so
/// the flag tells of firmware and CPU together.
fn cpu_virt(facts: &Facts, requirements: &Requirements) -> Verdict {
    let wanted = match facts.cpu.vendor {
        CpuVendor::Amd => "svm",
        CpuVendor::Intel | CpuVendor::Other => "vmx",
    };
    let present = facts.cpu.has_flag("vmx") || facts.cpu.has_flag("svm");
    let (status, evidence) = if present {
        (
            Status::Pass,
            format!("/proc/cpuinfo: flag {wanted} on {}", facts.cpu.model),
        )
    } else {
        (
            without_kvm(requirements),
            format!("/proc/cpuinfo: no flag {wanted} on {}", facts.cpu.model),
        )
    };
    let remedy = match facts.cpu.vendor {
        CpuVendor::Amd => "enable SVM Mode in the firmware setup, then power the node off and on",
        CpuVendor::Intel | CpuVendor::Other => {
            "enable Intel VT-x (Virtualization Technology) in the firmware setup, then power the node off and on; in a virtual machine, enable nesting on its host"
        }
    };
    verdict(
        "cpu.virt",
        status,
        evidence,
        "guests run at full speed only on the CPU's virtualization extension",
        remedy,
    )
}

fn kvm_run(facts: &Facts, requirements: &Requirements) -> Verdict {
    let device = &facts.kvm.device;
    let (status, evidence) = if facts.kvm.works() {
        (Status::Pass, "/dev/kvm: a guest ran to its end".to_owned())
    } else if device.present == Some(false) {
        (without_kvm(requirements), "/dev/kvm: missing".to_owned())
    } else if let Some(why) = [&device.open, &device.create_vm, &device.create_vcpu]
        .into_iter()
        .find_map(Attempt::error)
    {
        (without_kvm(requirements), format!("/dev/kvm: {why}"))
    } else if let Some(why) = facts.kvm.run.error().or(facts.kvm.long_mode.error()) {
        (
            without_kvm(requirements),
            format!("/dev/kvm opens, but a guest does not run: {why}"),
        )
    } else {
        (Status::Skip, "/dev/kvm: not tried".to_owned())
    };
    let remedy = if requirements.allow_emulation {
        "load kvm_intel or kvm_amd and check the firmware; until then useEmulation is set and guests run slowly"
    } else {
        "load kvm_intel or kvm_amd and check the firmware, or allow emulation"
    };
    verdict(
        "kvm.run",
        status,
        evidence,
        "a device that opens but cannot run a guest leaves every virtual machine hanging",
        remedy,
    )
}

fn tun(facts: &Facts) -> Verdict {
    let (status, evidence) = if facts
        .device("/dev/net/tun")
        .is_some_and(|tun| tun.open.worked())
    {
        (Status::Pass, "/dev/net/tun opens".to_owned())
    } else {
        (Status::Fail, "/dev/net/tun cannot be opened".to_owned())
    };
    verdict(
        "modules",
        status,
        evidence,
        "a guest's network interface is a tap device",
        "modprobe tun, and list tun in /etc/modules-load.d",
    )
}

fn memory(facts: &Facts, requirements: &Requirements) -> Verdict {
    let status = if facts.memory.total.unwrap_or(0) < requirements.memory {
        Status::Fail
    } else if facts.memory.available.unwrap_or(0) < requirements.memory / 2 {
        Status::Warn
    } else {
        Status::Pass
    };
    verdict(
        "resources.memory",
        status,
        format!(
            "/proc/meminfo: {} in all, {} available; {} wanted",
            gib(facts.memory.total.unwrap_or(0)),
            gib(facts.memory.available.unwrap_or(0)),
            gib(requirements.memory)
        ),
        "the cluster and the guests share the node's memory",
        "add memory, or stop what uses it",
    )
}

fn disk(facts: &Facts, requirements: &Requirements) -> Verdict {
    let space = facts.space.first().cloned().unwrap_or_default();
    let status = if space.available < requirements.disk {
        Status::Fail
    } else {
        Status::Pass
    };
    verdict(
        "resources.disk",
        status,
        format!(
            "{}: {} free; {} wanted",
            space.path,
            gib(space.available),
            gib(requirements.disk)
        ),
        "images, build outputs and the guests' disks are kept there",
        "free space, or mount a larger disk there",
    )
}

/// Gibibytes with one decimal, without floating point.
fn gib(bytes: u64) -> String {
    let tenths = bytes / (GIB / 10);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}
