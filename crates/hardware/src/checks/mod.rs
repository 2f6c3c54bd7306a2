//! The checks, one file per subject. Each is a function from facts and
//! requirements to findings; `crate::catalogue` lists them.

pub(crate) mod cgroup;
pub(crate) mod cpu;
pub(crate) mod disk;
pub(crate) mod hugepages;
pub(crate) mod iommu;
pub(crate) mod iommu_group;
pub(crate) mod kernel;
pub(crate) mod kvm;
pub(crate) mod modules;
pub(crate) mod names;
pub(crate) mod nic;
pub(crate) mod ports;
pub(crate) mod proxy;
pub(crate) mod resources;
pub(crate) mod select;
pub(crate) mod sriov;
pub(crate) mod sriov_trial;
pub(crate) mod vfio;

use crate::facts::Facts;
use crate::requirements::Requirements;
use crate::verdict::Status;

/// One gibibyte.
pub(crate) const GIB: u64 = 1 << 30;

/// Without KVM: a warning where emulation is allowed, else a failure.
pub(crate) fn without_kvm(requirements: &Requirements) -> Status {
    if requirements.allow_emulation {
        Status::Warn
    } else {
        Status::Fail
    }
}

/// `path: not read`, with the reason if there is one.
pub(crate) fn not_read(facts: &Facts, path: &str) -> String {
    match facts.unread_reason(path) {
        Some(error) => format!("{path}: not read: {error}"),
        None => format!("{path}: not read"),
    }
}

/// Bytes as people say them: one decimal of GiB, or whole MiB or KiB below that.
pub(crate) fn size(bytes: u64) -> String {
    if bytes >= GIB {
        let tenths = bytes / (GIB / 10);
        format!("{}.{} GiB", tenths / 10, tenths % 10)
    } else if bytes >= 1 << 20 {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{} KiB", bytes >> 10)
    }
}

/// `Y` or `1`, as the kernel prints a true module parameter.
pub(crate) fn is_on(parameter: &str) -> bool {
    matches!(parameter.trim(), "Y" | "y" | "1")
}

/// At most `most` of the words, then how many more there are.
pub(crate) fn some_of(words: &[String], most: usize) -> String {
    let shown: Vec<&str> = words.iter().take(most).map(String::as_str).collect();
    match words.len().saturating_sub(most) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// How DMI names the machine, for a person who has to find it.
pub(crate) fn machine(facts: &Facts) -> Option<String> {
    let dmi = &facts.firmware.dmi;
    let words: Vec<&str> = [dmi.sys_vendor.as_deref(), dmi.product_name.as_deref()]
        .into_iter()
        .flatten()
        .collect();
    (!words.is_empty()).then(|| words.join(" "))
}
