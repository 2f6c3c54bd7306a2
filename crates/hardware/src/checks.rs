//! The first checks of the catalogue: CPU flags, KVM by effect, memory, disk,
//! tun. Each is a pure function from [`Facts`] to a [`Verdict`].

use crate::facts::{CpuVendor, Facts, Kvm};
use crate::verdict::{Status, Verdict};

/// One gibibyte.
const GIB: u64 = 1 << 30;

/// How much a node must have for what it is asked to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirements {
    /// Memory in all, bytes: below it is a failure.
    pub memory: u64,
    /// Free disk, bytes: below it is a failure.
    pub disk: u64,
    /// Guests may run by emulation where KVM does not work.
    pub allow_emulation: bool,
}

impl Default for Requirements {
    /// The embedded cluster takes about 1 GiB, one guest of the walk-through 2 GiB;
    /// images, build outputs and overlays fit in 10 GiB.
    fn default() -> Self {
        Self {
            memory: 4 * GIB,
            disk: 10 * GIB,
            allow_emulation: true,
        }
    }
}

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
        status,
        evidence,
        why: why.to_owned(),
        remedy: if passed {
            String::new()
        } else {
            remedy.to_owned()
        },
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
    let wanted = match facts.cpu_vendor {
        CpuVendor::Amd => "svm",
        CpuVendor::Intel | CpuVendor::Other => "vmx",
    };
    let present = facts
        .cpu_flags
        .iter()
        .any(|flag| flag == "vmx" || flag == "svm");
    let (status, evidence) = if present {
        (
            Status::Pass,
            format!("/proc/cpuinfo: flag {wanted} on {}", facts.cpu_model),
        )
    } else {
        (
            without_kvm(requirements),
            format!("/proc/cpuinfo: no flag {wanted} on {}", facts.cpu_model),
        )
    };
    let remedy = match facts.cpu_vendor {
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
    let (status, evidence) = match &facts.kvm {
        Kvm::Works => (Status::Pass, "/dev/kvm: a guest ran to its end".to_owned()),
        Kvm::NotTried => (Status::Skip, "/dev/kvm: not tried".to_owned()),
        Kvm::Missing => (without_kvm(requirements), "/dev/kvm: missing".to_owned()),
        Kvm::Refused(why) => (without_kvm(requirements), format!("/dev/kvm: {why}")),
        Kvm::CannotRun(why) => (
            without_kvm(requirements),
            format!("/dev/kvm opens, but a guest does not run: {why}"),
        ),
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
    let (status, evidence) = if facts.tun {
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
    let status = if facts.memory_total < requirements.memory {
        Status::Fail
    } else if facts.memory_available < requirements.memory / 2 {
        Status::Warn
    } else {
        Status::Pass
    };
    verdict(
        "resources.memory",
        status,
        format!(
            "/proc/meminfo: {} in all, {} available; {} wanted",
            gib(facts.memory_total),
            gib(facts.memory_available),
            gib(requirements.memory)
        ),
        "the cluster and the guests share the node's memory",
        "add memory, or stop what uses it",
    )
}

fn disk(facts: &Facts, requirements: &Requirements) -> Verdict {
    let status = if facts.disk_available < requirements.disk {
        Status::Fail
    } else {
        Status::Pass
    };
    verdict(
        "resources.disk",
        status,
        format!(
            "{}: {} free; {} wanted",
            facts.disk_path,
            gib(facts.disk_available),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::verdict::worst;

    fn good() -> Facts {
        Facts {
            cpu_flags: vec!["fpu".into(), "vmx".into()],
            cpu_vendor: CpuVendor::Intel,
            memory_total: 16 * GIB,
            memory_available: 12 * GIB,
            disk_available: 100 * GIB,
            kvm: Kvm::Works,
            tun: true,
            ..Facts::default()
        }
    }

    fn status_of(facts: &Facts, requirements: &Requirements, id: &str) -> Status {
        judge(facts, requirements)
            .into_iter()
            .find(|v| v.id == id)
            .unwrap()
            .status
    }

    #[test]
    fn a_good_node_passes_every_check() {
        let verdicts = judge(&good(), &Requirements::default());
        assert_eq!(worst(&verdicts), Status::Pass, "{verdicts:#?}");
        assert!(verdicts.iter().all(|v| v.remedy.is_empty()));
    }

    #[test]
    fn kvm_that_opens_but_cannot_run_is_a_warning_with_emulation_and_a_failure_without() {
        let facts = Facts {
            kvm: Kvm::CannotRun("no exit within 2 s".into()),
            ..good()
        };
        let strict = Requirements {
            allow_emulation: false,
            ..Requirements::default()
        };
        assert_eq!(
            status_of(&facts, &Requirements::default(), "kvm.run"),
            Status::Warn
        );
        assert_eq!(status_of(&facts, &strict, "kvm.run"), Status::Fail);
    }

    #[test]
    fn too_little_of_anything_fails_with_a_remedy() {
        let cases: [(&str, Facts); 3] = [
            (
                "resources.memory",
                Facts {
                    memory_total: GIB,
                    ..good()
                },
            ),
            (
                "resources.disk",
                Facts {
                    disk_available: GIB,
                    ..good()
                },
            ),
            (
                "modules",
                Facts {
                    tun: false,
                    ..good()
                },
            ),
        ];
        for (id, facts) in cases {
            let verdict = judge(&facts, &Requirements::default())
                .into_iter()
                .find(|v| v.id == id)
                .unwrap();
            assert_eq!(verdict.status, Status::Fail, "{id}");
            assert!(!verdict.remedy.is_empty(), "{id}");
        }
    }

    #[test]
    fn the_missing_flag_is_named_after_the_vendor() {
        let facts = Facts {
            cpu_flags: vec![],
            cpu_vendor: CpuVendor::Amd,
            ..good()
        };
        let verdict = judge(&facts, &Requirements::default()).remove(0);
        assert!(verdict.evidence.contains("no flag svm"), "{verdict:?}");
        assert!(verdict.remedy.contains("SVM"), "{verdict:?}");
    }
}
