//! Control groups.

use super::not_read;
use crate::boot;
use crate::catalogue::{Check, Remedy};
use crate::facts::Facts;
use crate::finding::Finding;
use crate::requirements::Requirements;
use crate::verdict::Fix;

/// What the kubelet and the container runtime need of either version.
const NEEDED: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

const UNIFIED: &str = "systemd.unified_cgroup_hierarchy=1";

pub(crate) static CGROUP: Check = Check {
    id: "cgroup",
    title: "control groups are of version 2, with the controllers needed",
    reads: &[
        "/sys/fs/cgroup (statfs)",
        "/sys/fs/cgroup/cgroup.controllers",
        "/proc/cgroups",
    ],
    why: "the kubelet accounts and limits pods and guests with them; of version 1 Kubernetes keeps the support but adds nothing to it",
    judged: "Passes with version 2 and the controllers cpu, cpuset, memory, pids (and hugetlb if hugepages are asked for); fails when one is missing; warns with version 1. Skipped when nothing could be read.",
    remedies: &[
        Remedy {
            case: "version 1, systemd",
            text: "add systemd.unified_cgroup_hierarchy=1 to the kernel's command line and reboot",
        },
        Remedy {
            case: "controller missing",
            text: "take cgroup_disable= off the kernel's command line, or use a kernel with the controller",
        },
    ],
    judge,
};

fn judge(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let cgroup = &facts.cgroup;
    let Some(version) = cgroup.version else {
        return Finding::skip(not_read(facts, "/sys/fs/cgroup")).alone();
    };
    let evidence = format!(
        "/sys/fs/cgroup: version {version}; controllers {}",
        cgroup.controllers.join(" ")
    );
    let mut needed = NEEDED.to_vec();
    if !requirements.hugepages.is_empty() {
        needed.push("hugetlb");
    }
    needed.retain(|name| !cgroup.controllers.iter().any(|found| found == name));
    if !needed.is_empty() && !cgroup.controllers.is_empty() {
        let line = facts.kernel.cmdline.as_deref().unwrap_or_default();
        let disabled: Vec<String> = needed
            .iter()
            .flat_map(|name| boot::words_giving(line, "cgroup_disable", name))
            .collect();
        let evidence = format!("{evidence}; missing {}", needed.join(", "));
        return if disabled.is_empty() {
            Finding::fail(evidence, "use a kernel with these controllers").alone()
        } else {
            Finding::fail(
                format!("{evidence}; /proc/cmdline: {}", disabled.join(" ")),
                boot::remedy(facts, &[], &disabled),
            )
            .fixed_by(Fix::KernelArgs {
                add: Vec::new(),
                remove: disabled,
            })
            .alone()
        };
    }
    if version >= 2 {
        return Finding::pass(evidence).alone();
    }
    let add = vec![UNIFIED.to_owned()];
    let line = facts.kernel.cmdline.as_deref().unwrap_or_default();
    if line.split_whitespace().any(|word| word == UNIFIED) {
        return Finding::warn(
            evidence,
            "the command line asks for version 2, but init does not mount it: use systemd 243 or newer as init",
        )
        .alone();
    }
    Finding::warn(evidence, boot::remedy(facts, &add, &[]))
        .fixed_by(Fix::KernelArgs {
            add,
            remove: Vec::new(),
        })
        .alone()
}
