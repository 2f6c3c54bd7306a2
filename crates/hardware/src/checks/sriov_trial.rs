//! What came of trying virtual functions.

use super::select::wanted;
use crate::catalogue::{Check, Remedy};
use crate::facts::{Attempt, Facts, SriovTrial, TrialStep};
use crate::finding::Finding;
use crate::requirements::Requirements;

/// errno values of Linux.
const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const ENOMEM: i32 = 12;
const EBUSY: i32 = 16;
const EINVAL: i32 = 22;
const ENOSPC: i32 = 28;
const ERANGE: i32 = 34;

const NO_ROOM: &str = "enable Above 4G Decoding (and Resizable BAR or a larger MMIO High Size) in the firmware setup, or add pci=realloc to the kernel's command line";
const NO_DRIVER: &str = "load the NIC's own driver for the physical function";
const ZERO_FIRST: &str =
    "write 0 to sriov_numvfs first; the functions that exist are destroyed by it";
const TOO_MANY: &str = "ask for at most sriov_totalvfs functions: see sriov.cap";
const NO_IOMMU: &str = "vfio-pci refuses a device without an IOMMU group: see iommu.active";
const NO_REMAPPING: &str =
    "the container refused the group for want of interrupt remapping: see iommu.ir";
const NOT_VIABLE: &str =
    "another device of the group is held by a driver of the node: see iommu.group";
const RESTORE: &str = "run the probe's restore on the node (edgevirt-probe restore); the journal of what was changed is kept until it succeeds";

pub(crate) static TRIAL: Check = Check {
    id: "sriov.trial",
    title: "virtual functions can be created and handed to a guest, tried",
    reads: &[
        "/sys/bus/pci/devices/BDF/sriov_numvfs (written)",
        "/sys/bus/pci/devices/VF/driver_override, /sys/bus/pci/drivers/vfio-pci/bind (written)",
        "/dev/vfio/GROUP, /dev/vfio/vfio",
    ],
    why: "everything in sysfs may look right while the node cannot create a function (no room for its registers) or a guest cannot have it (no interrupt remapping, a group that is not viable)",
    judged: "Only with --probe. Creates the functions, binds one to vfio-pci, opens its group, puts it into a container, and puts everything back. Passes when every step worked and all was restored; fails at the first step that did not, or warns if no policy needs that step. Refused, and skipped, on a function that the node needs for itself.",
    remedies: &[
        Remedy {
            case: "ENOMEM, ENOSPC on creation",
            text: NO_ROOM,
        },
        Remedy {
            case: "ENOENT on creation",
            text: NO_DRIVER,
        },
        Remedy {
            case: "EBUSY on creation",
            text: ZERO_FIRST,
        },
        Remedy {
            case: "ERANGE on creation",
            text: TOO_MANY,
        },
        Remedy {
            case: "EINVAL on binding",
            text: NO_IOMMU,
        },
        Remedy {
            case: "EPERM on attaching",
            text: NO_REMAPPING,
        },
        Remedy {
            case: "group not viable",
            text: NOT_VIABLE,
        },
        Remedy {
            case: "not restored",
            text: RESTORE,
        },
    ],
    judge: trial,
};

fn trial(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    if facts.sriov_trials.is_empty() {
        return Finding::skip("not tried; --probe tries it").alone();
    }
    facts
        .sriov_trials
        .iter()
        .flat_map(|trial| {
            one(facts, requirements, trial)
                .into_iter()
                .map(|finding| finding.on(&trial.address))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn one(facts: &Facts, requirements: &Requirements, trial: &SriovTrial) -> Vec<Finding> {
    if let Some(reason) = &trial.refused {
        return Finding::skip(format!("not tried: {reason}")).alone();
    }
    let asked = wanted(facts, requirements)
        .iter()
        .find(|wanted| wanted.device.address == trial.address)
        .map(|wanted| wanted.vfio());
    let mut findings = Vec::new();
    let failed = trial.steps.iter().find_map(|step| match &step.outcome {
        Attempt::Failed { errno, error } => Some((step, *errno, error)),
        _ => None,
    });
    match failed {
        Some((step, errno, error)) => {
            let value = if step.value.is_empty() {
                String::new()
            } else {
                format!(" = {}", step.value)
            };
            let evidence = format!("{}: {}{value}: {error}", step.name, step.path);
            let creates = matches!(step.name.as_str(), "create" | "appear");
            // A step beyond what a policy needs is worth a warning only.
            let needed = match asked {
                Some(vfio) => creates || vfio,
                None => false,
            };
            let remedy = remedy(step, errno);
            findings.push(if needed {
                Finding::fail(evidence, remedy)
            } else {
                Finding::warn(evidence, remedy)
            });
        }
        None => {
            let steps: Vec<String> = trial
                .steps
                .iter()
                .filter(|step| step.outcome.worked())
                .map(|step| format!("{} {}", step.name, step.path))
                .collect();
            findings.push(if steps.is_empty() {
                Finding::skip("the trial has no steps")
            } else {
                Finding::pass(format!(
                    "{} functions: {}",
                    trial.functions,
                    steps.join("; ")
                ))
            });
        }
    }
    if let Some(error) = trial.restored.error() {
        findings.push(Finding::fail(format!("not restored: {error}"), RESTORE));
    }
    findings
}

fn remedy(step: &TrialStep, errno: Option<i32>) -> &'static str {
    match (step.name.as_str(), errno) {
        ("create", Some(ENOMEM | ENOSPC)) => NO_ROOM,
        ("create", Some(ENOENT)) => NO_DRIVER,
        ("create", Some(EBUSY)) => ZERO_FIRST,
        ("create", Some(ERANGE)) => TOO_MANY,
        ("create", _) => {
            "read what the kernel says (dmesg) of the physical function; enable SR-IOV of the platform in the firmware setup: see sriov.cap"
        }
        ("appear", _) => {
            "the functions did not appear in time; update the NIC's firmware and driver"
        }
        ("bind", Some(EINVAL)) => NO_IOMMU,
        ("bind", _) => "load vfio-pci and unbind the function from its driver: see vfio.module",
        ("attach", Some(EPERM)) => NO_REMAPPING,
        _ => NOT_VIABLE,
    }
}
